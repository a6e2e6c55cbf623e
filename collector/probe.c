#include "collector/probe.h"

#include "base/err.h"
#include "collector/collector.h"
#include "collector/event_priv.h"
#include "collector/explain_priv.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

/* As a recording would ask; what it can do without (ask_less in collector.c) is left out at once. */
static void probe_attr(const struct event_choice *choice, const struct probe_case *what,
		       struct perf_event_attr *ret)
{
	struct collector_opts opts = { .target = what->all ? TARGET_ALL : TARGET_PIDS };

	event_sample_attr(choice, &opts, 99, 0, 4096, ret);
	ret->read_format &= ~(uint64_t)PERF_FORMAT_LOST;
	ret->exclude_guest = 0;
	ret->inherit = 0;
	if (!what->kernel)
		ret->exclude_kernel = ret->exclude_callchain_kernel = 1;
}

static int probe_refused(struct door *door, const struct event_choice *choice,
			 const struct probe_case *what, int r, struct err *err)
{
	struct explain_rights rights;
	struct rlimit limit = { 0 };
	struct explain_case one = {
		.step = EXPLAIN_OPEN,
		.code = -r,
		.event = choice->name,
		.hardware = choice->type == PERF_TYPE_HARDWARE || choice->type == PERF_TYPE_HW_CACHE,
		.all = what->all,
		.cgroup = what->cgroup >= 0,
		.kernel = what->kernel,
		.cpu = what->all ? 0 : -1,
		.num_cpus = 1,
	};

	getrlimit(RLIMIT_NOFILE, &limit);
	one.nofile = limit.rlim_cur;
	explain_gather(door, &rights);
	return explain(&one, &rights, err);
}

int collector_probe(struct door *door, const struct probe_case *what, struct err *err)
{
	struct event_choice choice;
	struct perf_event_attr attr;
	int fd = event_parse(what->event, door, &choice, err);

	if (fd < 0)
		return fd;
	probe_attr(&choice, what, &attr);
	if (what->cgroup >= 0)
		fd = event_open_cgroup(&attr, what->cgroup, 0);
	else
		fd = event_open(&attr, what->all ? -1 : 0, what->all ? 0 : -1);
	if (fd < 0)
		return probe_refused(door, &choice, what, fd, err);
	close(fd);
	return 0;
}

bool collector_probe_lost(void)
{
	struct perf_event_attr attr;
	int fd;

	event_barrier_attr(&attr);
	attr.read_format = PERF_FORMAT_LOST;
	fd = event_open(&attr, 0, -1);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}
