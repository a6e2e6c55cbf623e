#include "collector/event_priv.h"

#include "base/err.h"
#include "collector/collector.h"
#include "target/door.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HW(id) PERF_TYPE_HARDWARE, PERF_COUNT_HW_##id
#define SW(id) PERF_TYPE_SOFTWARE, PERF_COUNT_SW_##id
/* Layout of the config of a cache event: perf_event_open(2), PERF_TYPE_HW_CACHE. */
#define CACHE(id, op, result)                                                             \
	PERF_TYPE_HW_CACHE, PERF_COUNT_HW_CACHE_##id | PERF_COUNT_HW_CACHE_OP_##op << 8 | \
				    PERF_COUNT_HW_CACHE_RESULT_##result << 16

/* The names perf knows them by. */
static const struct {
	const char *name;
	uint32_t type;
	uint64_t config;
} events[] = {
	{ "cycles", HW(CPU_CYCLES) },
	{ "cpu-cycles", HW(CPU_CYCLES) },
	{ "instructions", HW(INSTRUCTIONS) },
	{ "cache-references", HW(CACHE_REFERENCES) },
	{ "cache-misses", HW(CACHE_MISSES) },
	{ "branches", HW(BRANCH_INSTRUCTIONS) },
	{ "branch-instructions", HW(BRANCH_INSTRUCTIONS) },
	{ "branch-misses", HW(BRANCH_MISSES) },
	{ "bus-cycles", HW(BUS_CYCLES) },
	{ "ref-cycles", HW(REF_CPU_CYCLES) },
	{ "stalled-cycles-frontend", HW(STALLED_CYCLES_FRONTEND) },
	{ "stalled-cycles-backend", HW(STALLED_CYCLES_BACKEND) },
	{ "cpu-clock", SW(CPU_CLOCK) },
	{ "task-clock", SW(TASK_CLOCK) },
	{ "page-faults", SW(PAGE_FAULTS) },
	{ "faults", SW(PAGE_FAULTS) },
	{ "minor-faults", SW(PAGE_FAULTS_MIN) },
	{ "major-faults", SW(PAGE_FAULTS_MAJ) },
	{ "context-switches", SW(CONTEXT_SWITCHES) },
	{ "cs", SW(CONTEXT_SWITCHES) },
	{ "cpu-migrations", SW(CPU_MIGRATIONS) },
	{ "migrations", SW(CPU_MIGRATIONS) },
	{ "alignment-faults", SW(ALIGNMENT_FAULTS) },
	{ "emulation-faults", SW(EMULATION_FAULTS) },
	{ "dummy", SW(DUMMY) },
	{ "bpf-output", SW(BPF_OUTPUT) },
	{ "L1-dcache-loads", CACHE(L1D, READ, ACCESS) },
	{ "L1-dcache-load-misses", CACHE(L1D, READ, MISS) },
	{ "L1-dcache-stores", CACHE(L1D, WRITE, ACCESS) },
	{ "L1-icache-load-misses", CACHE(L1I, READ, MISS) },
	{ "LLC-loads", CACHE(LL, READ, ACCESS) },
	{ "LLC-load-misses", CACHE(LL, READ, MISS) },
	{ "LLC-stores", CACHE(LL, WRITE, ACCESS) },
	{ "dTLB-load-misses", CACHE(DTLB, READ, MISS) },
	{ "iTLB-load-misses", CACHE(ITLB, READ, MISS) },
	{ "branch-load-misses", CACHE(BPU, READ, MISS) },
};

static bool find_plain(struct event_choice *choice)
{
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(events[i].name, choice->name))
			continue;
		choice->type = events[i].type;
		choice->config = events[i].config;
		return true;
	}
	return false;
}

/* Takes a ":u", ":k" or ":uk" off the end; a tracepoint may be named the same only behind its own colon. */
static void take_modifiers(struct event_choice *choice)
{
	char *colon = strrchr(choice->name, ':');
	bool user, kernel;

	if (!colon || !colon[1] || colon[1 + strspn(colon + 1, "uk")])
		return;
	user = strchr(colon + 1, 'u');
	kernel = strchr(colon + 1, 'k');
	*colon = 0;
	choice->exclude_user = kernel && !user;
	choice->exclude_kernel = user && !kernel;
}

static int find_tracepoint(struct event_choice *choice, struct door *door, struct err *err)
{
	const char *colon = strchr(choice->name, ':');
	char subsys[sizeof(choice->name)];
	size_t len = (size_t)(colon - choice->name);

	memcpy(subsys, choice->name, len);
	subsys[len] = 0;
	choice->type = PERF_TYPE_TRACEPOINT;
	choice->tracepoint = true;
	return door_tracepoint_id(door, subsys, colon + 1, &choice->config, err);
}

int event_parse(const char *text, struct door *door, struct event_choice *ret, struct err *err)
{
	struct event_choice choice = { 0 };

	if (strlen(text) >= sizeof(choice.name))
		return err_set(err, EINVAL, "the event's name is longer than %zu bytes",
			       sizeof(choice.name) - 1);
	snprintf(choice.name, sizeof(choice.name), "%s", text);
	take_modifiers(&choice);
	if (strchr(choice.name, ':')) {
		int r = find_tracepoint(&choice, door, err);

		if (r < 0)
			return r;
	} else if (!find_plain(&choice)) {
		return err_set(
			err, EINVAL,
			"no event is named '%s': it is one of cycles, instructions, cpu-clock, task-clock, "
			"page-faults, context-switches, cpu-migrations, ... or SUBSYS:TRACEPOINT",
			choice.name);
	}
	*ret = choice;
	return 0;
}

/* What both kinds share: the same trailer, one clock, and wakeups by bytes. */
static void common_attr(uint32_t watermark_bytes, struct perf_event_attr *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->size = sizeof(*ret);
	ret->sample_type =
		PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;
	ret->read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_ID | PERF_FORMAT_LOST;
	ret->sample_id_all = 1;
	ret->use_clockid = 1;
	ret->clockid = CLOCK_MONOTONIC;
	ret->watermark = 1;
	ret->wakeup_watermark = watermark_bytes;
}

static void set_rate(const struct event_choice *choice, const struct collector_opts *opts,
		     uint32_t freq_hz, struct perf_event_attr *ret)
{
	if (opts->period || choice->tracepoint) {
		ret->sample_period = opts->period ? opts->period : 1;
		return;
	}
	ret->freq = 1;
	ret->sample_freq = freq_hz;
}

void event_sample_attr(const struct event_choice *choice, const struct collector_opts *opts,
		       uint32_t freq_hz, uint32_t stack_bytes, uint32_t watermark_bytes,
		       struct perf_event_attr *ret)
{
	common_attr(watermark_bytes, ret);
	ret->type = choice->type;
	ret->config = choice->config;
	ret->sample_type |= PERF_SAMPLE_IP | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN;
	set_rate(choice, opts, freq_hz, ret);
	if (opts->user_regs) {
		ret->sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
		ret->sample_regs_user = opts->user_regs;
		ret->sample_stack_user = stack_bytes;
	}
	ret->disabled = 1;
	ret->enable_on_exec = opts->target == TARGET_COMMAND;
	ret->inherit = opts->target == TARGET_PIDS || opts->target == TARGET_COMMAND;
	ret->exclude_user = choice->exclude_user;
	ret->exclude_kernel = choice->exclude_kernel;
	ret->exclude_callchain_user = opts->no_user_chain;
	ret->exclude_callchain_kernel = opts->no_kernel;
	/* What guests of this host run has no meaning for its processes. */
	ret->exclude_guest =
		choice->type == PERF_TYPE_HARDWARE || choice->type == PERF_TYPE_HW_CACHE;
}

void event_side_attr(const struct collector_opts *opts, uint32_t watermark_bytes,
		     struct perf_event_attr *ret)
{
	common_attr(watermark_bytes, ret);
	ret->type = PERF_TYPE_SOFTWARE;
	ret->config = PERF_COUNT_SW_DUMMY;
	ret->mmap = ret->mmap2 = ret->comm = ret->comm_exec = ret->task = 1;
	ret->mmap_data = opts->data_maps;
	ret->context_switch = opts->switches;
	ret->ksymbol = 1;
	ret->inherit = opts->target != TARGET_ALL;
	/* It never samples; this only asks for less permission (perf_event_paranoid 2). */
	ret->exclude_kernel = 1;
}

void event_barrier_attr(struct perf_event_attr *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->size = sizeof(*ret);
	ret->type = PERF_TYPE_SOFTWARE;
	ret->config = PERF_COUNT_SW_DUMMY;
	ret->exclude_kernel = 1;
}

static int open_flags(const struct perf_event_attr *attr, int whom, int cpu, unsigned long flags)
{
	long fd = syscall(SYS_perf_event_open, attr, whom, cpu, -1, flags | PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

int event_open(const struct perf_event_attr *attr, pid_t pid, int cpu)
{
	return open_flags(attr, pid, cpu, 0);
}

int event_open_cgroup(const struct perf_event_attr *attr, int dir_fd, int cpu)
{
	return open_flags(attr, dir_fd, cpu, PERF_FLAG_PID_CGROUP);
}
