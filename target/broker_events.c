#include "target/broker_events.h"

#include "base/err.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct broker_events {
	uint32_t num, num_cgroups;
	struct door_event list[DOOR_MAX_EVENTS];
	struct {
		uint64_t dev, ino;
	} cgroups[DOOR_MAX_EVENT_CGROUPS];
};

struct broker_events *broker_events_new(void)
{
	void *ret = mmap(NULL, sizeof(struct broker_events), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			 0);

	return ret == MAP_FAILED ? NULL : ret;
}

void broker_events_free(struct broker_events *events)
{
	if (events)
		munmap(events, sizeof(*events));
}

int broker_events_allow(struct broker_events *events, const struct door_event *list, size_t num, const int *cgroups,
			size_t num_cgroups, struct err *err)
{
	if (num > DOOR_MAX_EVENTS)
		return err_set(err, EINVAL, "more than %d events", DOOR_MAX_EVENTS);
	memset(events, 0, sizeof(*events));
	for (size_t i = 0; i < num_cgroups && i < DOOR_MAX_EVENT_CGROUPS; i++) {
		struct stat st;

		if (fstat(cgroups[i], &st) < 0)
			return err_set(err, errno, "the directory of a cgroup: %s", strerror(errno));
		events->cgroups[i].dev = st.st_dev;
		events->cgroups[i].ino = st.st_ino;
		events->num_cgroups++;
	}
	memcpy(events->list, list, num * sizeof(*list));
	events->num = (uint32_t)num;
	return 0;
}

static bool is_allowed_cgroup(const struct broker_events *events, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	for (size_t i = 0; i < events->num_cgroups; i++) {
		if (events->cgroups[i].dev == st.st_dev && events->cgroups[i].ino == st.st_ino)
			return true;
	}
	return false;
}

int broker_events_open(const struct broker_events *events, uint32_t index, int cgroup, uint64_t cpu, struct err *err)
{
	bool of_cgroup = cgroup >= 0;
	struct perf_event_attr attr;
	long fd;

	if (index >= events->num || cpu > INT_MAX || events->list[index].of_cgroups != of_cgroup ||
	    (of_cgroup && !is_allowed_cgroup(events, cgroup)))
		return err_set(err, EPERM, "no event of this recording");
	attr = events->list[index].attr; /* the kernel may write its size */
	fd = syscall(SYS_perf_event_open, &attr, cgroup, (int)cpu, -1,
		     PERF_FLAG_FD_CLOEXEC | (of_cgroup ? PERF_FLAG_PID_CGROUP : 0));
	return fd < 0 ? err_set(err, errno, "perf_event_open: %s", strerror(errno)) : (int)fd;
}
