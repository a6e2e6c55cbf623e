#include "collector/collector_priv.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const uint32_t default_freq_hz = 99;
/* An event that is counted by period may come at any rate: rings are sized for this one. */
static const uint32_t unknown_rate_hz = 1000;
/* perf_event_max_stack and perf_event_max_contexts_per_stack (kernel/events/callchain.c). */
enum { DEFAULT_MAX_STACK = 127, MAX_CONTEXTS = 8 };

static void collector_closep(struct collector **c)
{
	collector_close(*c);
}

static unsigned long long in_kib(uint64_t bytes)
{
	return (unsigned long long)(bytes / 1024);
}

void collector_note(struct collector *c, const char *fmt, ...)
{
	size_t max = sizeof(c->info.notes) / sizeof(c->info.notes[0]) - 1;
	char *text;
	va_list args;
	int len;

	if (c->num_notes >= max)
		return;
	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len >= 0)
		c->info.notes[c->num_notes++] = text;
}

/* What one attempt to open said is not true of the next. */
static void drop_notes(struct collector *c, size_t keep)
{
	while (c->num_notes > keep) {
		free((void *)c->info.notes[--c->num_notes]);
		c->info.notes[c->num_notes] = NULL;
	}
}

bool collector_cpu_wide(const struct collector *c)
{
	return c->opts.target == TARGET_ALL || c->opts.target == TARGET_CGROUP || c->info.filtered;
}

static bool is_hardware(const struct event_choice *choice)
{
	return choice->type == PERF_TYPE_HARDWARE || choice->type == PERF_TYPE_HW_CACHE;
}

int collector_explain(struct collector *c, int r, pid_t tid, int cpu, struct err *err)
{
	struct rlimit limit = { 0 };
	struct explain_case one = {
		.step = c->mmap_refused ? EXPLAIN_MMAP : EXPLAIN_OPEN,
		.code = -r,
		.event = c->choice.name,
		.hardware = is_hardware(&c->choice),
		.all = collector_cpu_wide(c),
		.cgroup = c->cgroup_refused,
		.kernel = !c->user_only && !c->choice.exclude_kernel,
		.pid = tid,
		.cpu = cpu,
		.freq_hz = c->opts.period || c->choice.tracepoint ? 0 : c->freq_hz,
		.num_cpus = (uint32_t)c->slots.len,
		.need_bytes = c->shape.all_bytes,
	};

	getrlimit(RLIMIT_NOFILE, &limit);
	one.nofile = limit.rlim_cur;
	return explain(&one, &c->rights, err);
}

/* --- what the machine has --- */

static bool read_text(const struct collector *c, enum door_text text, struct strbuf *buf)
{
	return door_read_text(c->opts.door, text, buf, NULL) == 0 && !buf->failed && buf->data;
}

static uint32_t read_max_stack(const struct collector *c)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	unsigned long value = 0;

	if (read_text(c, DOOR_PERF_MAX_STACK, &buf))
		value = strtoul(buf.data, NULL, 10);
	return value && value <= UINT16_MAX ? (uint32_t)value : DEFAULT_MAX_STACK;
}

static uint64_t read_memory(const struct collector *c)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	const char *line = NULL;

	if (read_text(c, DOOR_MEMINFO, &buf))
		line = strstr(buf.data, "MemTotal:");
	return line ? strtoull(line + strlen("MemTotal:"), NULL, 10) * 1024 : 0;
}

static bool has_bit(const uint8_t *bits, size_t num, size_t bit)
{
	return bit < num && bits[bit / 8] & 1u << bit % 8;
}

static int read_online(const struct collector *c, uint8_t *bits, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	int r = door_read_text(c->opts.door, DOOR_CPUS_ONLINE, &buf, err);

	memset(bits, 0, MAX_CPUS / 8);
	if (r < 0)
		return r;
	if (buf.failed)
		return err_oom(err);
	if (!buf.data || cpulist_parse(buf.data, buf.len, bits, MAX_CPUS) <= 0)
		return err_set(err, EBADMSG, "the list of online CPUs cannot be understood");
	return 0;
}

static int add_slot(struct collector *c, int cpu, struct err *err)
{
	struct slot slot = { .cpu = cpu, .barrier_fd = -1 };

	for (size_t i = 0; i < NUM_STREAMS; i++)
		slot.streams[i].owner_fd = slot.streams[i].poll_fd = -1;
	return vec_push(&c->slots, slot) ? 0 : err_oom(err);
}

static int explain_offline(const struct collector *c, int cpu, struct err *err)
{
	struct explain_case one = { .code = ENODEV, .event = c->choice.name, .cpu = cpu };

	return explain(&one, &c->rights, err);
}

static int choose_cpus(struct collector *c, const struct collector_opts *opts, struct err *err)
{
	uint8_t online[MAX_CPUS / 8];
	int r = read_online(c, online, err);

	c->all_cpus = !opts->cpus;
	for (size_t cpu = 0; cpu < MAX_CPUS && r == 0; cpu++) {
		bool wanted = c->all_cpus || has_bit(opts->cpus, opts->num_cpu_bits, cpu);

		if (wanted && has_bit(online, MAX_CPUS, cpu))
			r = add_slot(c, (int)cpu, err);
		else if (wanted && !c->all_cpus)
			return explain_offline(c, (int)cpu, err);
	}
	if (r == 0 && !c->slots.len)
		return err_set(err, EINVAL, "no CPU was chosen");
	return r;
}

static void choose_freq(struct collector *c)
{
	c->freq_hz = c->opts.freq_hz ? c->opts.freq_hz : default_freq_hz;
	if (c->opts.period || c->choice.tracepoint)
		return;
	if (c->rights.max_rate_hz && c->freq_hz > c->rights.max_rate_hz) {
		collector_note(
			c,
			"%u samples a second instead of %u: perf_event_max_sample_rate allows no more (`sysctl "
			"kernel.perf_event_max_sample_rate=%u`)",
			c->rights.max_rate_hz, c->freq_hz, c->freq_hz);
		c->freq_hz = c->rights.max_rate_hz;
	}
}

/* --- the event --- */

static void make_attrs(struct collector *c)
{
	struct perf_event_attr *samples = &c->attrs[STREAM_SAMPLES], *side = &c->attrs[STREAM_SIDE];
	struct collector_opts opts = c->opts;

	if (collector_cpu_wide(c))
		opts.target = TARGET_ALL;
	event_sample_attr(&c->choice, &opts, c->freq_hz, c->shape.stack_bytes,
			  (uint32_t)(c->shape.ring_bytes / 4), samples);
	event_side_attr(&opts, (uint32_t)(c->shape.side_bytes / 4), side);
	if (c->no_format_lost) {
		samples->read_format &= ~(uint64_t)PERF_FORMAT_LOST;
		side->read_format &= ~(uint64_t)PERF_FORMAT_LOST;
	}
	if (c->no_exclude_guest)
		samples->exclude_guest = 0;
	if (c->no_ksymbol)
		side->ksymbol = 0;
	if (c->user_only)
		samples->exclude_kernel = samples->exclude_callchain_kernel = 1;
}

/* What may be asked for less after this refusal; false = nothing. */
static bool ask_less(struct collector *c, int code)
{
	const struct perf_event_attr *attr = &c->attrs[STREAM_SAMPLES];

	if (code == EINVAL && !c->no_format_lost)
		return c->no_format_lost = true;
	if ((code == EINVAL || code == EOPNOTSUPP) && attr->exclude_guest)
		return c->no_exclude_guest = true;
	if ((code == EACCES || code == EPERM) && !attr->exclude_kernel && !attr->exclude_user &&
	    !collector_cpu_wide(c) && !c->rights.cap_perfmon)
		return c->user_only = true;
	return false;
}

static int try_open(const struct collector *c, enum stream_kind kind, int cpu)
{
	int fd = event_open(&c->attrs[kind], collector_cpu_wide(c) ? -1 : 0, cpu);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* Tries the event on ourselves, or on a CPU where every process is asked for, until it opens in some form. */
static int probe(struct collector *c, struct err *err)
{
	size_t at = 0;

	for (;;) {
		int cpu = c->slots.data[at].cpu, r;

		make_attrs(c);
		r = try_open(c, STREAM_SAMPLES, cpu);
		if (r == 0)
			break;
		if (r == -ENODEV && !is_hardware(&c->choice) && c->all_cpus && at + 1 < c->slots.len)
			at++;
		else if (!ask_less(c, -r))
			return collector_explain(c, r, -1, cpu, err);
	}
	c->no_ksymbol |= try_open(c, STREAM_SIDE, c->slots.data[at].cpu) == -EINVAL;
	make_attrs(c);
	return 0;
}

static bool is_absent(int r)
{
	return r == -ENOENT || r == -ENODEV || r == -EOPNOTSUPP || r == -EINVAL;
}

static int choose_clock(struct collector *c, struct err *err)
{
	c->auto_event = false;
	c->no_format_lost = c->no_exclude_guest = false;
	return event_parse("cpu-clock", c->opts.door, &c->choice, err);
}

static int choose_event(struct collector *c, const char *name, struct err *err)
{
	int r = event_parse(name ? name : "cycles", c->opts.door, &c->choice, err);

	c->auto_event = !name;
	if (r < 0)
		return r;
	choose_freq(c);
	return 0;
}

static int probe_event(struct collector *c, struct err *err)
{
	int r = probe(c, err);

	if (!c->auto_event || !is_absent(r))
		return r;
	r = choose_clock(c, err);
	return r < 0 ? r : probe(c, err);
}

/* --- opening --- */

static uint32_t expected_rate(const struct collector *c)
{
	bool clock = c->choice.type == PERF_TYPE_SOFTWARE &&
		     (c->choice.config == PERF_COUNT_SW_CPU_CLOCK ||
		      c->choice.config == PERF_COUNT_SW_TASK_CLOCK);
	uint64_t rate;

	if (!c->opts.period)
		return c->choice.tracepoint ? unknown_rate_hz : c->freq_hz;
	/* Clocks count nanoseconds. */
	rate = clock ? 1000000000 / c->opts.period : unknown_rate_hz;
	return rate > 1000000 ? 1000000 : (uint32_t)rate;
}

static void compute_shape(struct collector *c)
{
	struct shape_wish wish = {
		.num_regs = (uint32_t)__builtin_popcountll(c->opts.user_regs),
		.max_chain = c->max_chain,
		.stack_bytes = c->opts.stack_bytes,
		.rate_hz = expected_rate(c),
		.num_cpus = (uint32_t)c->slots.len,
		.page_bytes = c->page_bytes,
		.mem_bytes = c->mem_bytes,
		.max_ring_bytes = c->opts.max_ring_bytes,
		.ring_limit = c->ring_limit,
	};

	c->shape = shape_compute(&wish);
	if (!c->ring_limit)
		c->wished_ring_bytes = c->shape.ring_bytes;
}

/* What reading an event gives, by read_format; `lost` where the kernel has it. */
struct event_values {
	uint64_t value, enabled_ns, id, lost;
};

static uint64_t event_lost(const struct collector *c, const struct event *event)
{
	struct event_values values;

	if (c->no_format_lost || read(event->fd, &values, sizeof(values)) != sizeof(values))
		return 0;
	return values.lost;
}

static int give_ring(struct collector *c, struct stream *stream, enum stream_kind kind, int fd,
		     struct err *err)
{
	uint64_t bytes = kind == STREAM_SIDE ? c->shape.side_bytes : c->shape.ring_bytes;
	int r;

	if (stream->ring.page) {
		if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, stream->owner_fd) < 0)
			return err_set(err, errno, "PERF_EVENT_IOC_SET_OUTPUT: %s",
				       strerror(errno));
		return 0;
	}
	r = ring_map(&stream->ring, fd, bytes);
	if (r < 0) {
		c->mmap_refused = true;
		return collector_explain(c, r, -1, -1, err);
	}
	stream->owner_fd = stream->poll_fd = fd;
	stream->next_event = c->events.len;
	return 0;
}

static int know_id(struct collector *c, int fd, pid_t tid, struct err *err)
{
	struct id_slot *slot;
	uint64_t id;
	bool added;

	if (tid < 0)
		return 0;
	if (ioctl(fd, PERF_EVENT_IOC_ID, &id) < 0)
		return err_set(err, errno, "PERF_EVENT_IOC_ID: %s", strerror(errno));
	slot = id_table_add(&c->ids, id, &added);
	if (!slot)
		return err_oom(err);
	slot->id = id;
	slot->tid = tid;
	return 0;
}

/* Takes the descriptor: it is closed when it cannot be kept. */
static int keep_event(struct collector *c, struct event event, struct err *err)
{
	struct stream *stream = &c->slots.data[event.slot].streams[event.kind];
	_cleanup_close_ int fd = event.fd;
	int r;

	r = know_id(c, fd, event.tid, err);
	if (r == 0)
		r = give_ring(c, stream, event.kind, fd, err);
	if (r < 0)
		return r;
	if (!vec_push(&c->events, event)) {
		/* The ring must not point to an event that is about to be closed. */
		if (stream->owner_fd == fd)
			ring_unmap(&stream->ring);
		return err_oom(err);
	}
	steal_fd(&fd);
	return 0;
}

/* In the jail only the broker may, and only for a CPU that came online. */
static int open_by(struct collector *c, enum stream_kind kind, int cgroup, pid_t tid, int cpu, struct err *err)
{
	int fd = cgroup >= 0 ? event_open_cgroup(&c->attrs[kind], cgroup, cpu)
			     : event_open(&c->attrs[kind], tid, cpu);

	return (fd == -EPERM || fd == -EACCES) && c->by_broker
		       ? door_open_event(c->opts.door, kind, cgroup, cpu, err)
		       : fd;
}

int collector_add_event(struct collector *c, uint32_t slot, enum stream_kind kind, pid_t tid,
			struct err *err)
{
	int cpu = c->slots.data[slot].cpu;
	int fd = open_by(c, kind, -1, tid, cpu, err);

	if (fd == -ESRCH || fd == -ENODEV)
		return fd;
	if (fd < 0)
		return collector_explain(c, fd, tid, cpu, err);
	return keep_event(c, (struct event){ .fd = fd, .tid = tid, .slot = slot, .kind = kind }, err);
}

int collector_add_cgroup(struct collector *c, uint32_t slot, size_t cgroup, struct err *err)
{
	int cpu = c->slots.data[slot].cpu;
	int fd = open_by(c, STREAM_SAMPLES, c->opts.cgroups[cgroup], -1, cpu, err);

	if (fd == -ENODEV)
		return fd;
	if (fd < 0) {
		c->cgroup_refused = true;
		return collector_explain(c, fd, -1, cpu, err);
	}
	return keep_event(c, (struct event){ .fd = fd, .tid = -1, .slot = slot, .kind = STREAM_SAMPLES },
			  err);
}

static void close_streams(struct slot *slot)
{
	for (size_t i = 0; i < NUM_STREAMS; i++) {
		ring_unmap(&slot->streams[i].ring);
		slot->streams[i] = (struct stream){ .owner_fd = -1, .poll_fd = -1 };
	}
	if (slot->own_barrier)
		close(slot->barrier_fd);
	slot->barrier_fd = -1;
	slot->own_barrier = false;
}

/* Back to where no event is open. */
static void close_events(struct collector *c)
{
	for (size_t i = 0; i < c->slots.len; i++) {
		close_streams(&c->slots.data[i]);
		c->slots.data[i].gone = false;
	}
	for (size_t i = 0; i < c->events.len; i++)
		close(c->events.data[i].fd);
	c->events.len = 0;
	id_table_deinit(&c->ids);
	owner_table_deinit(&c->owners);
}

/* After EPERM for a ring: half of it, while that is worth having. */
static bool halve_rings(struct collector *c, int r)
{
	if (r != -EPERM || !c->mmap_refused || c->shape.ring_bytes / 2 < SHAPE_MIN_RING)
		return false;
	c->mmap_refused = false;
	c->ring_limit = c->shape.ring_bytes / 2;
	return true;
}

/* Too many threads for one event each: every process is recorded, and the caller picks. */
static bool widen(struct collector *c, int r)
{
	if (r != -EMFILE || c->info.filtered || c->opts.target == TARGET_ALL ||
	    c->opts.target == TARGET_COMMAND)
		return false;
	c->info.filtered = true;
	if (probe(c, NULL) == 0)
		return true;
	c->info.filtered = false;
	return false;
}

/* The kernel does not count by these cgroups (not its hierarchy, no CONFIG_CGROUP_PERF): the caller picks. */
static bool widen_cgroups(struct collector *c, int r)
{
	if (!c->cgroup_refused || c->info.filtered || (r != -EBADF && r != -EINVAL && r != -ENOENT))
		return false;
	c->cgroup_refused = false;
	return c->info.filtered = true;
}

static int open_events(struct collector *c, struct err *err)
{
	for (;;) {
		int r;

		compute_shape(c);
		make_attrs(c);
		r = targets_attach(c, err);
		if (r == 0)
			return 0;
		close_events(c);
		if (halve_rings(c, r) || widen(c, r) || widen_cgroups(c, r))
			continue;
		/* Of two kinds of cores only one may have this PMU. */
		if (!c->auto_event || !is_absent(r) || choose_clock(c, err) < 0)
			return r;
	}
}

/* --- what is told --- */

static void note_rings(struct collector *c)
{
	const struct shape *s = &c->shape;
	unsigned int cpus = (unsigned int)c->slots.len;

	if (c->ring_limit)
		collector_note(
			c,
			"rings of %llu KiB a CPU instead of %llu: the kernel pins perf_event_mlock_kb %lld KiB x %u "
			"CPUs and RLIMIT_MEMLOCK %llu KiB, here are needed %llu KiB in all (`sysctl "
			"kernel.perf_event_mlock_kb`, `ulimit -l` or CAP_IPC_LOCK raise it)",
			in_kib(s->ring_bytes), in_kib(c->wished_ring_bytes),
			(long long)c->rights.mlock_kb, cpus, in_kib(c->rights.memlock_bytes),
			in_kib(s->all_bytes));
	if (s->stack_bytes < s->full_stack_bytes)
		collector_note(
			c,
			"stack copies of %u bytes instead of %u: %u samples (100 ms, no fewer than 8) of %u bytes are "
			"to fit into a ring of %llu KiB on each of %u CPUs (all rings: at most %llu KiB)",
			s->stack_bytes, s->full_stack_bytes, s->slack_records, s->record_bytes,
			in_kib(s->ring_bytes), cpus, in_kib(s->cap_bytes));
	if (s->capped)
		collector_note(
			c, "stack copies of %u bytes instead of %u: a record holds no more than %d",
			s->stack_bytes, c->opts.stack_bytes, SHAPE_MAX_RECORD);
}

static void note_rest(struct collector *c)
{
	if (c->user_only)
		collector_note(
			c,
			"user mode only: perf_event_paranoid is %d and the kernel needs CAP_PERFMON (run as root, or "
			"`sysctl kernel.perf_event_paranoid=1`)",
			c->rights.paranoid);
	if (c->info.filtered && c->opts.target == TARGET_CGROUP)
		collector_note(
			c,
			"every process is recorded and those in the containers or cgroups picked out: the kernel does "
			"not count by these cgroups");
	else if (c->info.filtered)
		collector_note(
			c,
			"every process is recorded and the targets picked out: their threads need more descriptors "
			"than the limit allows (`ulimit -n`)");
}

static void fill_format(struct collector *c)
{
	const struct perf_event_attr *attr = &c->attrs[STREAM_SAMPLES];

	c->format = (struct record_format){
		.sample_type = attr->sample_type,
		.read_format = attr->read_format,
		.regs_user = attr->sample_regs_user,
		.sample_id_all = true,
	};
}

static void fill_info(struct collector *c)
{
	const struct perf_event_attr *attr = &c->attrs[STREAM_SAMPLES];
	struct collector_info *info = &c->info;

	snprintf(c->event_name, sizeof(c->event_name), "%s%s", c->choice.name,
		 attr->exclude_kernel ? ":u" :
		 attr->exclude_user   ? ":k" :
					"");
	info->event = c->event_name;
	info->freq_hz = c->opts.period || c->choice.tracepoint ? 0 : c->freq_hz;
	info->stack_bytes = c->shape.stack_bytes;
	for (size_t i = 0; i < c->slots.len; i++)
		info->num_cpus += !c->slots.data[i].gone;
	info->ring_bytes = c->shape.ring_bytes;
	info->all_ring_bytes = c->shape.all_bytes;
	info->kernel = !c->opts.no_kernel && !c->user_only && !c->choice.exclude_kernel;
	c->counts.lost_exact = !c->no_format_lost;
	note_rings(c);
	note_rest(c);
}

/* --- life --- */

static int copy_opts(struct collector *c, const struct collector_opts *opts, struct err *err)
{
	c->opts = *opts;
	c->opts.pids = NULL;
	c->opts.cpus = NULL;
	c->opts.event = NULL;
	for (size_t i = 0; i < opts->num_pids; i++) {
		if (!vec_push(&c->pids, opts->pids[i]))
			return err_oom(err);
	}
	c->info.filtered = opts->target == TARGET_CGROUP && !opts->num_cgroups;
	if (opts->target != TARGET_ALL && opts->target != TARGET_CGROUP && !c->pids.len)
		return err_set(err, EINVAL, "no process was chosen");
	c->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	c->max_chain = read_max_stack(c) + MAX_CONTEXTS;
	c->mem_bytes = read_memory(c);
	explain_gather(c->opts.door, &c->rights);
	return 0;
}

/* Probing needs a stack size that the kernel accepts: the shape of what was asked for is one. */
static int prepare(struct collector *c, const struct collector_opts *opts, struct err *err)
{
	int r = copy_opts(c, opts, err);

	if (r == 0)
		r = choose_event(c, opts->event, err);
	if (r == 0)
		r = choose_cpus(c, opts, err);
	if (r < 0)
		return r;
	compute_shape(c);
	return probe_event(c, err);
}

static int start_waiting(struct collector *c, struct err *err)
{
	int r = wait_open(c, err);

	for (uint32_t i = 0; i < c->slots.len && r == 0; i++)
		r = wait_add_slot(c, i, err);
	return r == 0 ? wait_add_targets(c, err) : r;
}

/* As many as may come online are to be mapped without CAP_IPC_LOCK. No more memory is pinned by that. */
static void allow_later_rings(const struct collector *c)
{
	uint64_t each = c->shape.ring_bytes + c->shape.side_bytes + 2ull * c->page_bytes;
	uint64_t need = each * (uint64_t)sysconf(_SC_NPROCESSORS_CONF);
	struct rlimit limit;

	if (!c->rights.cap_ipc_lock || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur >= need)
		return;
	limit.rlim_cur = need;
	if (limit.rlim_max < need)
		limit.rlim_max = need;
	setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* Privileges may be given up from here on; CPUs come and go. Where this fails a CPU that comes is told of and left out. */
static void allow_later(struct collector *c)
{
	bool of_cgroups = c->opts.target == TARGET_CGROUP && !c->info.filtered;
	const struct door_event events[NUM_STREAMS] = {
		[STREAM_SIDE] = { .attr = c->attrs[STREAM_SIDE] },
		[STREAM_SAMPLES] = { .attr = c->attrs[STREAM_SAMPLES], .of_cgroups = of_cgroups },
	};

	if (!c->all_cpus || !collector_cpu_wide(c))
		return;
	allow_later_rings(c);
	c->by_broker = door_allow_events(c->opts.door, events, NUM_STREAMS, c->opts.cgroups,
					 of_cgroups ? c->opts.num_cgroups : 0, NULL) == 0;
}

int collector_open(const struct collector_opts *opts, struct collector **ret, struct err *err)
{
	_cleanup_(collector_closep) struct collector *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_oom(err);
	c->epoll_fd = c->timer_fd = c->wake_fd = -1;
	r = prepare(c, opts, err);
	if (r < 0)
		return r;
	if (targets_need_filter(c) && !widen(c, -EMFILE))
		return collector_explain(c, -EMFILE, -1, -1, err);
	r = open_events(c, err);
	if (r < 0)
		return r;
	barrier_open(c);
	fill_format(c);
	fill_info(c);
	allow_later(c);
	r = start_waiting(c, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(c);
	return 0;
}

void collector_close(struct collector *c)
{
	if (!c)
		return;
	wait_close(c);
	close_events(c);
	drop_notes(c, 0);
	order_deinit(&c->order);
	vec_deinit(&c->rings);
	vec_deinit(&c->events);
	vec_deinit(&c->slots);
	vec_deinit(&c->pids);
	free(c);
}

const struct collector_info *collector_info(const struct collector *c)
{
	return &c->info;
}

const struct perf_event_attr *collector_sample_attr(const struct collector *c)
{
	return &c->attrs[STREAM_SAMPLES];
}

const struct perf_event_attr *collector_side_attr(const struct collector *c)
{
	return &c->attrs[STREAM_SIDE];
}

static int switch_events(struct collector *c, unsigned long request, struct err *err)
{
	for (size_t i = 0; i < c->events.len; i++) {
		if (ioctl(c->events.data[i].fd, request, 0) < 0)
			return err_set(err, errno, "switching a perf event: %s", strerror(errno));
	}
	return 0;
}

int collector_enable(struct collector *c, struct err *err)
{
	int r = 0;

	c->enabled_ns = clock_monotonic_ns();
	if (c->opts.target != TARGET_COMMAND)
		r = switch_events(c, PERF_EVENT_IOC_ENABLE, err);
	c->enabled = r == 0;
	return r;
}

int collector_disable(struct collector *c, struct err *err)
{
	c->enabled = false;
	return switch_events(c, PERF_EVENT_IOC_DISABLE, err);
}

struct collector_counts collector_counts(struct collector *c)
{
	struct collector_counts ret = c->counts;
	uint64_t lost[NUM_STREAMS] = { c->closed_lost[STREAM_SIDE],
				       c->closed_lost[STREAM_SAMPLES] };

	if (!ret.lost_exact) {
		ret.lost = ret.lost_records;
		return ret;
	}
	for (size_t i = 0; i < c->events.len; i++)
		lost[c->events.data[i].kind] += event_lost(c, &c->events.data[i]);
	ret.lost = lost[STREAM_SAMPLES];
	ret.side_lost = lost[STREAM_SIDE];
	return ret;
}

/* --- CPUs that come and go --- */

static bool is_empty(struct slot *slot)
{
	for (size_t i = 0; i < NUM_STREAMS; i++) {
		struct ring *ring = &slot->streams[i].ring;

		if (!ring->page)
			continue;
		ring_snapshot(ring);
		if (ring->head != ring->tail)
			return false;
	}
	return true;
}

/* Closes the slot's events from `first` up to `end`; what they lost is kept. */
static void close_some(struct collector *c, uint32_t slot, size_t first, size_t end)
{
	size_t kept = first;

	for (size_t i = first; i < c->events.len; i++) {
		struct event *event = &c->events.data[i];

		if (event->slot != slot || i >= end) {
			c->events.data[kept++] = *event;
			continue;
		}
		c->closed_lost[event->kind] += event_lost(c, event);
		close(event->fd);
	}
	c->events.len = kept;
}

static int enable_some(struct collector *c, size_t first, struct err *err)
{
	for (size_t i = first; i < c->events.len && c->enabled; i++) {
		if (ioctl(c->events.data[i].fd, PERF_EVENT_IOC_ENABLE, 0) < 0)
			return err_set(err, errno, "switching a perf event: %s", strerror(errno));
	}
	return 0;
}

/* The new events, from `first` on, own the rings now. */
static int hand_over(struct collector *c, uint32_t slot, size_t first, struct err *err)
{
	struct slot *s = &c->slots.data[slot];

	wait_remove_slot(c, slot);
	close_some(c, slot, 0, first);
	for (size_t i = c->events.len; i-- > 0;) {
		const struct event *event = &c->events.data[i];

		if (event->slot != slot)
			continue;
		s->streams[event->kind].owner_fd = s->streams[event->kind].poll_fd = event->fd;
		s->streams[event->kind].next_event = i;
	}
	s->barrier_fd = s->streams[STREAM_SIDE].owner_fd;
	s->enabled_ns = 0;
	s->gone = false;
	return wait_add_slot(c, slot, err);
}

/*
 * The events of a CPU that went offline never come back (perf_event_exit_cpu): others take their place. They write into the
 * rings that are there, as mapping new ones may be refused by now.
 */
static int reopen_slot(struct collector *c, uint32_t slot, struct err *err)
{
	bool had_rings = c->slots.data[slot].streams[STREAM_SIDE].ring.page;
	size_t first = c->events.len;
	int r;

	c->mmap_refused = c->cgroup_refused = false;
	r = targets_attach_cpu(c, slot, err);
	if (r == 0)
		r = enable_some(c, first, err);
	if (r == 0)
		return hand_over(c, slot, first, err);
	if (!had_rings)
		close_streams(&c->slots.data[slot]);
	close_some(c, slot, first, SIZE_MAX);
	return r;
}

/* Index of the CPU's slot; the number of slots when it has none. */
static size_t find_slot(const struct collector *c, int cpu)
{
	size_t i = 0;

	while (i < c->slots.len && c->slots.data[i].cpu != cpu)
		i++;
	return i;
}

static int open_new_cpu(struct collector *c, int cpu, struct err *err)
{
	size_t i = find_slot(c, cpu);
	struct err why = { 0 };
	int r;

	if (i == c->slots.len) {
		r = add_slot(c, cpu, err);
		if (r < 0)
			return r;
		c->slots.data[i].gone = true;
	}
	/* What an earlier life of this CPU left is handed out first. */
	if (!c->slots.data[i].gone || c->slots.data[i].refused || !is_empty(&c->slots.data[i]))
		return 0;
	r = reopen_slot(c, (uint32_t)i, &why);
	/* It may have gone again meanwhile. */
	if (r == 0 || r == -ENODEV)
		return 0;
	/* What the other CPUs tell is worth going on for. */
	c->slots.data[i].refused = true;
	collector_note(c, "CPU %d came online and is not recorded: %s", cpu,
		       (r == -EPERM || r == -EACCES) && !c->mmap_refused
			       ? "the privileges that takes were given up at the start; a new recording includes it"
			       : why.msg);
	return 0;
}

/* It went and came back between two looks: its events were taken from it, and their time stands still. */
static bool was_away(struct slot *slot)
{
	struct event_values values = { 0 };
	uint64_t before_ns = slot->enabled_ns;

	if (slot->gone || read(slot->barrier_fd, &values, sizeof(values)) <= 0)
		return false;
	slot->enabled_ns = values.enabled_ns;
	return before_ns && values.enabled_ns == before_ns;
}

int collector_rescan_cpus(struct collector *c, struct err *err)
{
	uint8_t online[MAX_CPUS / 8];
	int r;

	if (!c->all_cpus || !collector_cpu_wide(c))
		return 0;
	r = read_online(c, online, err);
	for (size_t i = 0; i < c->slots.len && r == 0; i++) {
		struct slot *slot = &c->slots.data[i];

		if (has_bit(online, MAX_CPUS, (size_t)slot->cpu) && !was_away(slot))
			continue;
		slot->gone = true;
		slot->refused = false;
	}
	for (size_t cpu = 0; cpu < MAX_CPUS && r == 0; cpu++) {
		if (has_bit(online, MAX_CPUS, cpu))
			r = open_new_cpu(c, (int)cpu, err);
	}
	return r;
}
