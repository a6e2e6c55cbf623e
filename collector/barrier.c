/*
 * The proof of order. A sample's handler runs with interrupts off, so once a CPU has taken an interrupt after T, every
 * sample older than T is in its ring.
 */
#include "collector/collector_priv.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where every process is recorded the side-band event serves; else one per CPU is opened where that is allowed. */
void barrier_open(struct collector *c)
{
	struct perf_event_attr attr;

	event_barrier_attr(&attr);
	c->cpu_wide = true;
	for (size_t i = 0; i < c->slots.len; i++) {
		struct slot *slot = &c->slots.data[i];
		int fd;

		if (slot->gone || slot->barrier_fd >= 0)
			continue;
		fd = event_open(&attr, -1, slot->cpu);
		if (fd < 0) {
			c->cpu_wide = false;
			return;
		}
		slot->barrier_fd = fd;
		slot->own_barrier = true;
	}
}

/* perf_event_read sends an interrupt to the CPU that runs the event and waits for the answer. */
static bool interrupt_cpus(struct collector *c)
{
	uint64_t values[4];

	for (size_t i = 0; i < c->slots.len; i++) {
		const struct slot *slot = &c->slots.data[i];

		if (!slot->gone && read(slot->barrier_fd, values, sizeof(values)) <= 0)
			return false;
	}
	return true;
}

/* An RCU grace period: each CPU has been seen outside of every interrupt and every stretch without preemption. */
static bool wait_for_grace(void)
{
	return !syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

/* To run on a CPU is to have interrupted it. Refused where membarrier is: on nohz_full machines and by filters. */
static bool visit_cpus(const struct collector *c)
{
	size_t bytes = CPU_ALLOC_SIZE(MAX_CPUS);
	cpu_set_t *before = CPU_ALLOC(MAX_CPUS), *one = CPU_ALLOC(MAX_CPUS);
	bool ret = before && one && !sched_getaffinity(0, bytes, before);

	for (size_t i = 0; ret && i < c->slots.len; i++) {
		if (c->slots.data[i].gone)
			continue;
		CPU_ZERO_S(bytes, one);
		CPU_SET_S((size_t)c->slots.data[i].cpu, bytes, one);
		ret = !sched_setaffinity(0, bytes, one);
	}
	if (before && one)
		sched_setaffinity(0, bytes, before);
	CPU_FREE(before);
	CPU_FREE(one);
	return ret;
}

bool barrier_pass(struct collector *c)
{
	if (c->cpu_wide && interrupt_cpus(c))
		return true;
	return wait_for_grace() || visit_cpus(c);
}
