/* Whom the events are attached to. */
#include "collector/collector_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* A process that starts threads without end must not keep us attaching: what comes later is inherited. */
static const unsigned int max_passes = 32;
/* Descriptors that are not events: rings are none, but files of targets, outputs and the door's own are. */
static const uint64_t other_descriptors = 64;

struct tids {
	VEC(pid_t) list;
};

static void tids_deinit(struct tids *t)
{
	vec_deinit(&t->list);
}

static int push_tid(void *data, pid_t tid)
{
	struct tids *t = data;

	return vec_push(&t->list, tid) ? 0 : -ENOMEM;
}

/*
 * What tells of programs is CPU-wide for cgroups as well: a process that was moved into one, or out of it and ended,
 * has a past and an end that the cgroup's own events would not tell.
 */
int targets_attach_cpu(struct collector *c, uint32_t slot, struct err *err)
{
	int r = collector_add_event(c, slot, STREAM_SIDE, -1, err);

	if (r < 0)
		return r;
	c->slots.data[slot].barrier_fd = c->slots.data[slot].streams[STREAM_SIDE].owner_fd;
	if (c->opts.target != TARGET_CGROUP || c->info.filtered)
		return collector_add_event(c, slot, STREAM_SAMPLES, -1, err);
	for (size_t i = 0; r == 0 && i < c->opts.num_cgroups; i++)
		r = collector_add_cgroup(c, slot, i, err);
	return r;
}

/* A CPU that goes offline while we open is no failure, unless it was asked for. */
static int attach_all(struct collector *c, struct err *err)
{
	bool any = false;
	int r = 0;

	for (uint32_t i = 0; i < c->slots.len; i++) {
		r = targets_attach_cpu(c, i, err);
		if (r == -ENODEV && c->all_cpus) {
			c->slots.data[i].gone = true;
			continue;
		}
		if (r < 0)
			return r == -ENODEV ? collector_explain(c, r, -1, c->slots.data[i].cpu, err)
					    : r;
		any = true;
	}
	return any ? 0 : collector_explain(c, r, -1, -1, err);
}

static int attach_thread(struct collector *c, enum stream_kind kind, pid_t tid, struct err *err)
{
	for (uint32_t i = 0; i < c->slots.len; i++) {
		int r = 0;

		if (!c->slots.data[i].gone)
			r = collector_add_event(c, i, kind, tid, err);
		if (r == -ENODEV && c->all_cpus)
			c->slots.data[i].gone = true;
		else if (r == -ENODEV)
			return collector_explain(c, r, tid, c->slots.data[i].cpu, err);
		else if (r < 0)
			return r;
	}
	return 0;
}

/* Side-band first, so that no sample comes from a thread whose maps are not told. */
static int attach_new_thread(struct collector *c, bool samples, pid_t tid, struct err *err)
{
	struct owner_slot *owner;
	bool added;
	int r = attach_thread(c, STREAM_SIDE, tid, err);

	if (r == 0 && samples)
		r = attach_thread(c, STREAM_SAMPLES, tid, err);
	if (r < 0)
		return r;
	owner = owner_table_add(&c->owners, tid, &added);
	if (!owner)
		return err_oom(err);
	owner->tid = owner->owner = tid;
	return 1;
}

/* One look at the threads: how many new ones were attached to. *any = there is one that is attached to. */
static int attach_pass(struct collector *c, bool samples, pid_t pid, bool *any, struct err *err)
{
	_cleanup_(tids_deinit) struct tids tids = { 0 };
	int num = 0, r = door_each_task(c->opts.door, pid, push_tid, &tids, err);

	if (r == -ENOMEM)
		return err_oom(err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < tids.list.len; i++) {
		if (owner_table_find(&c->owners, tids.list.data[i])) {
			*any = true;
			continue;
		}
		r = attach_new_thread(c, samples, tids.list.data[i], err);
		if (r == -ESRCH)
			continue;
		if (r < 0)
			return r;
		*any = true;
		num++;
	}
	return num;
}

/* All threads of a process; threads they start from here on are inherited. -ESRCH when there is none. */
static int attach_process(struct collector *c, bool samples, pid_t pid, struct err *err)
{
	bool any = false;

	for (unsigned int pass = 0; pass < max_passes; pass++) {
		int num = attach_pass(c, samples, pid, &any, err);

		if (num == -ESRCH || num == 0)
			return any ? 0 : collector_explain(c, -ESRCH, pid, -1, err);
		if (num < 0)
			return num;
	}
	log_debug("collector", "process %d keeps starting threads", (int)pid);
	return 0;
}

static int process_of(struct collector *c, pid_t tid, pid_t *ret, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	struct proc_status status;
	int r = door_read_proc(c->opts.door, tid, "status", 65536, &buf, NULL, err);

	if (r == -ESRCH || r == -ENOENT)
		return collector_explain(c, -ESRCH, tid, -1, err);
	if (r < 0)
		return r;
	if (buf.failed || !buf.data || proc_status_parse(buf.data, buf.len, &status) < 0)
		return err_set(err, EBADMSG, "/proc/%d/status cannot be understood", (int)tid);
	*ret = status.tgid;
	return 0;
}

/* The maps belong to the whole process, so its other threads tell of them; only the one is sampled. */
static int attach_single(struct collector *c, pid_t tid, struct err *err)
{
	pid_t pid = tid;
	int r = process_of(c, tid, &pid, err);

	if (r < 0)
		return r;
	r = attach_process(c, false, pid, err);
	if (r < 0)
		return r;
	r = attach_thread(c, STREAM_SAMPLES, tid, err);
	return r == -ESRCH ? collector_explain(c, r, tid, -1, err) : r;
}

int targets_attach(struct collector *c, struct err *err)
{
	if (collector_cpu_wide(c))
		return attach_all(c, err);
	for (size_t i = 0; i < c->pids.len; i++) {
		int r = c->opts.target == TARGET_TIDS
				? attach_single(c, c->pids.data[i], err)
				: attach_process(c, true, c->pids.data[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t count_threads(struct collector *c)
{
	_cleanup_(tids_deinit) struct tids tids = { 0 };

	/* For single threads this counts less than their processes have: EMFILE then decides. */
	for (size_t i = 0; i < c->pids.len; i++)
		door_each_task(c->opts.door, c->pids.data[i], push_tid, &tids, NULL);
	return tids.list.len;
}

bool targets_need_filter(struct collector *c)
{
	struct rlimit limit;
	uint64_t need;

	if (c->opts.target == TARGET_ALL || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return false;
	need = c->opts.target == TARGET_CGROUP ? c->slots.len * (1 + c->opts.num_cgroups)
					       : count_threads(c) * c->slots.len * NUM_STREAMS;
	need += other_descriptors;
	if (need <= limit.rlim_cur)
		return false;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return need > limit.rlim_max;
}
