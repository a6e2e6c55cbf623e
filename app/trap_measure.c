#include "app/trap_measure.h"

#include "app/trap_rule.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/strbuf.h"
#include "target/containers.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t look_again_ns = 1000000000; /* for processes of a name, and for a container that came back */

/* A process that was seen; `round` tells which are gone. */
struct seen_slot {
	pid_t pid;
	uint64_t start_ticks;
	uint64_t ticks;
	uint32_t round;
	uint8_t looks;
	bool match;
};
HTAB(seen_tab, struct seen_slot, pid_t, hash_u64((uint64_t)key), slot->pid == key, hash_u64((uint64_t)slot->pid));

struct trap_measure {
	const struct trap_rule *rule;
	struct door *door;
	struct containers *containers;
	const int *cgroups;       /* of `containers` */
	size_t num_cgroups;
	uint64_t ticks_per_s;
	bool first;
	uint64_t last_ns, last_value, last_total;
	uint64_t looked_ns;
	uint64_t start_ticks;     /* of rule->pid */
	bool over;                /* exit: it has happened */
	struct seen_tab seen;     /* comm=: every process, to know the new ones */
	uint32_t round;
	uint64_t comm_ticks;      /* what processes of the name have used in all since the start */
	bool happened;
};

static const char *text_of(const struct strbuf *buf)
{
	return buf->data && !buf->failed ? buf->data : "";
}

/*
 * utime + stime and the start of a process, fields 14, 15 and 22 of stat (proc(5)). One that has ended is gone though its
 * parent has not asked for its status yet: state Z, and no other thread (field 20), as a first thread may end before them.
 */
static bool process_ticks(struct trap_measure *m, pid_t pid, uint64_t *ret_ticks, uint64_t *ret_start)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	unsigned long long utime, stime;
	long threads;
	const char *end;
	char state;

	if (door_read_proc(m->door, pid, "stat", 4096, &text, NULL, NULL) < 0 ||
	    proc_stat_start_time(text_of(&text), text.len, ret_start) < 0)
		return false;
	end = strrchr(text_of(&text), ')');
	if (!end || sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %ld", &state, &utime,
			   &stime, &threads) != 4 ||
	    ((state == 'Z' || state == 'X') && threads <= 1))
		return false;
	*ret_ticks = utime + stime;
	return true;
}

static bool has_comm(struct trap_measure *m, pid_t pid)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	size_t len = strlen(m->rule->name);

	if (door_read_proc(m->door, pid, "comm", 64, &text, NULL, NULL) < 0)
		return false;
	return text.len == len + 1 && !memcmp(text_of(&text), m->rule->name, len);
}

/* --- the processes of a name --- */

static int look_at_process(void *data, pid_t pid)
{
	struct trap_measure *m = data;
	uint64_t ticks = 0, start = 0;
	struct seen_slot *slot;
	bool added, match;

	slot = seen_tab_add(&m->seen, pid, &added);
	if (!slot)
		return 0;
	/* A program takes its name at its exec, soon after it is there; later it is looked at now and then. */
	if (!added && !slot->match && ++slot->looks > 8 && slot->looks % 32) {
		slot->round = m->round;
		return 0;
	}
	match = has_comm(m, pid);
	if (match && !process_ticks(m, pid, &ticks, &start))
		match = false;
	/* It ended while it was looked at, or another one has its number by now; one that took another name is there. */
	if (slot->match && (match ? slot->start_ticks != start : !process_ticks(m, pid, &ticks, &start)))
		m->happened |= m->rule->metric == TRAP_EXIT;
	if (added || (match && slot->match && slot->start_ticks != start))
		*slot = (struct seen_slot){ .pid = pid };
	if (match && !slot->match) {
		m->happened |= !m->first && m->rule->metric == TRAP_START;
		slot->start_ticks = start;
		slot->ticks = m->first ? ticks : 0;
	}
	if (match && ticks > slot->ticks)
		m->comm_ticks += ticks - slot->ticks;
	if (match)
		slot->ticks = ticks;
	slot->match = match;
	slot->round = m->round;
	return 0;
}

static void drop_gone(struct trap_measure *m)
{
	struct seen_slot *slot;
	size_t cursor = 0;
	pid_t gone[256];
	size_t num = 0;

	while ((slot = seen_tab_next(&m->seen, &cursor))) {
		if (slot->round == m->round)
			continue;
		m->happened |= slot->match && m->rule->metric == TRAP_EXIT;
		gone[num++] = slot->pid;
		if (num == sizeof(gone) / sizeof(gone[0]))
			break;
	}
	for (size_t i = 0; i < num; i++)
		seen_tab_remove(&m->seen, gone[i]);
}

static void look_at_all(struct trap_measure *m)
{
	m->round++;
	door_each_task(m->door, 0, look_at_process, m, NULL);
	drop_gone(m);
}

/* --- numbers that grow --- */

static bool machine_ticks(struct trap_measure *m, uint64_t *ret_busy, uint64_t *ret_total)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	unsigned long long t[8] = { 0 };

	if (door_read_text(m->door, DOOR_STAT, &text, NULL) < 0 ||
	    sscanf(text_of(&text), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4],
		   &t[5], &t[6], &t[7]) < 4)
		return false;
	*ret_busy = *ret_total = 0;
	for (int i = 0; i < 8; i++) {
		*ret_total += t[i];
		*ret_busy += i == 3 || i == 4 ? 0 : t[i]; /* idle, iowait */
	}
	return true;
}

static bool number_behind(const char *text, const char *word, uint64_t *ret)
{
	const char *at = strstr(text, word);

	if (!at)
		return false;
	*ret = strtoull(at + strlen(word), NULL, 10);
	return true;
}

/* Nanoseconds of CPU that a cgroup and those below it have used. */
static bool cgroup_ns(struct trap_measure *m, int fd, uint64_t *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	uint64_t usec;

	if (!door_cgroup_read(m->door, fd, "cpu.stat", &text) && number_behind(text_of(&text), "usage_usec ", &usec)) {
		*ret = usec * 1000;
		return true;
	}
	strbuf_clear(&text);
	if (door_cgroup_read(m->door, fd, "cpuacct.usage", &text) < 0)
		return false;
	*ret = strtoull(text_of(&text), NULL, 10);
	return true;
}

static bool pressure_usec(struct trap_measure *m, uint64_t *ret)
{
	static const enum door_text texts[] = { DOOR_PSI_CPU, DOOR_PSI_MEMORY, DOOR_PSI_IO };
	static const char *const names[] = { "cpu.pressure", "memory.pressure", "io.pressure" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const char *line;
	int r;

	if (m->rule->whose == TRAP_MACHINE)
		r = door_read_text(m->door, texts[m->rule->resource], &text, NULL);
	else
		r = m->num_cgroups ? door_cgroup_read(m->door, m->cgroups[0], names[m->rule->resource], &text) : -ENOENT;
	if (r < 0)
		return false;
	line = strstr(text_of(&text), m->rule->full ? "full " : "some ");
	return line && number_behind(line, "total=", ret);
}

/* --- containers and cgroups --- */

static int open_cgroups(struct trap_measure *m, struct err *err)
{
	int r;

	containers_free(m->containers);
	m->containers = NULL;
	m->num_cgroups = 0;
	r = containers_new(m->door, &m->containers, err);
	if (!r && m->rule->whose == TRAP_CONTAINER)
		r = containers_want(m->containers, m->rule->name, err);
	else if (!r)
		r = containers_want_cgroup(m->containers, m->rule->name, err);
	if (!r)
		r = containers_open_wanted(m->containers, &m->cgroups, &m->num_cgroups, err);
	m->first = true;
	return r;
}

static bool all_cgroups_ns(struct trap_measure *m, uint64_t now_ns, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < m->num_cgroups; i++) {
		uint64_t ns;

		if (!cgroup_ns(m, m->cgroups[i], &ns)) {
			m->num_cgroups = 0; /* it is gone */
			break;
		}
		*ret += ns;
	}
	if (m->num_cgroups)
		return true;
	if (now_ns - m->looked_ns >= look_again_ns) {
		m->looked_ns = now_ns;
		open_cgroups(m, NULL);
	}
	return false;
}

/* --- */

/* A number that only grows, and how much of it would be 100 % of a nanosecond. */
static bool read_growing(struct trap_measure *m, uint64_t now_ns, uint64_t *ret, double *ret_unit_ns)
{
	uint64_t start;

	*ret_unit_ns = 1;
	if (m->rule->metric == TRAP_PSI) {
		*ret_unit_ns = 1000;
		return pressure_usec(m, ret);
	}
	switch (m->rule->whose) {
	case TRAP_PID:
		*ret_unit_ns = 1e9 / (double)m->ticks_per_s;
		return process_ticks(m, m->rule->pid, ret, &start) && start == m->start_ticks;
	case TRAP_COMM:
		*ret_unit_ns = 1e9 / (double)m->ticks_per_s;
		look_at_all(m);
		*ret = m->comm_ticks;
		return true;
	case TRAP_CONTAINER:
	case TRAP_CGROUP:
		return all_cgroups_ns(m, now_ns, ret);
	case TRAP_MACHINE:
		break;
	}
	return false;
}

static enum trap_measured measure_growing(struct trap_measure *m, uint64_t now_ns, double *ret)
{
	uint64_t value = 0, since = now_ns - m->last_ns;
	bool first = m->first;
	double unit_ns;

	if (!read_growing(m, now_ns, &value, &unit_ns)) {
		m->first = true;
		return TRAP_GONE;
	}
	*ret = since ? 100.0 * (double)(value - m->last_value) * unit_ns / (double)since : 0;
	first |= value < m->last_value || !since;
	m->last_value = value;
	m->last_ns = now_ns;
	m->first = false;
	return first ? TRAP_NOTHING : TRAP_MEASURED;
}

static enum trap_measured measure_machine(struct trap_measure *m, double *ret)
{
	uint64_t busy, total;
	bool first = m->first;

	if (!machine_ticks(m, &busy, &total))
		return TRAP_NOTHING;
	first |= total <= m->last_total || busy < m->last_value;
	*ret = first ? 0 : 100.0 * (double)(busy - m->last_value) / (double)(total - m->last_total);
	m->last_value = busy;
	m->last_total = total;
	m->first = false;
	return first ? TRAP_NOTHING : TRAP_MEASURED;
}

static enum trap_measured measure_runq(struct trap_measure *m, double *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	uint64_t running;

	if (door_read_text(m->door, DOOR_STAT, &text, NULL) < 0 ||
	    !number_behind(text_of(&text), "procs_running ", &running))
		return TRAP_NOTHING;
	*ret = running ? (double)running - 1 : 0; /* we are running too */
	return TRAP_MEASURED;
}

static enum trap_measured look_for_event(struct trap_measure *m)
{
	uint64_t ticks, start;

	m->happened = false;
	if (m->rule->whose == TRAP_COMM) {
		look_at_all(m);
		m->first = false;
	} else if (!m->over && (!process_ticks(m, m->rule->pid, &ticks, &start) || start != m->start_ticks)) {
		m->over = m->happened = true;
	}
	return m->happened ? TRAP_HAPPENED : TRAP_NOTHING;
}

enum trap_measured trap_measure(struct trap_measure *m, uint64_t now_ns, double *ret)
{
	switch (m->rule->metric) {
	case TRAP_CPU:
		return m->rule->whose == TRAP_MACHINE ? measure_machine(m, ret) : measure_growing(m, now_ns, ret);
	case TRAP_PSI:
		return measure_growing(m, now_ns, ret);
	case TRAP_RUNQ:
		return measure_runq(m, ret);
	case TRAP_START:
	case TRAP_EXIT:
		return look_for_event(m);
	case TRAP_STATUS:
		break;
	}
	return TRAP_NOTHING;
}

static int open_measure(struct trap_measure *m, struct err *err)
{
	uint64_t ticks, value;

	if (m->rule->whose == TRAP_CONTAINER || m->rule->whose == TRAP_CGROUP)
		return open_cgroups(m, err);
	if (m->rule->whose == TRAP_PID && !process_ticks(m, m->rule->pid, &ticks, &m->start_ticks))
		return err_set(err, ESRCH, "no such process: %d", (int)m->rule->pid);
	if (m->rule->metric == TRAP_PSI && !pressure_usec(m, &value))
		return err_set(err, ENOTSUP, "this kernel does not tell of pressure (CONFIG_PSI, and psi=1 where it is "
					     "off by default)");
	return 0;
}

int trap_measure_new(struct door *door, const struct trap_rule *rule, struct trap_measure **ret, struct err *err)
{
	struct trap_measure *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_oom(err);
	*m = (struct trap_measure){ .rule = rule, .door = door, .first = true };
	m->ticks_per_s = (uint64_t)sysconf(_SC_CLK_TCK);
	r = open_measure(m, err);
	if (r < 0) {
		trap_measure_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void trap_measure_free(struct trap_measure *m)
{
	if (!m)
		return;
	containers_free(m->containers);
	seen_tab_deinit(&m->seen);
	free(m);
}
