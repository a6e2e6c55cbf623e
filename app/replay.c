#include "app/replay_priv.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/fd.h"
#include "base/intern.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "collector/perfdata.h"
#include "output/profile.h"
#include "target/door.h"
#include "target/given.h"
#include "target/offline.h"
#include "target/proc_text.h"
#include "unwinder/arch.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	REST_SAMPLES = 4096,    /* after so many, call-frame information is let go of that none of them needed */
	MAX_STATUS_BYTES = 16 << 10,
	SLACK_SECONDS = 30, /* between what a file's time and its records' clock say of one moment */
};
static const uint64_t second_ns = 1000000000;

static void close_inputs(struct replay *r)
{
	/* Parts need their main file. */
	for (size_t i = r->num_inputs; i-- > 0;)
		perfdata_close(r->inputs[i]);
	free(r->inputs);
	r->inputs = NULL;
	r->num_inputs = 0;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	session_free(r->session);
	close_inputs(r);
	offline_free(r->offline);
	door_free(r->door);
	vec_deinit(&r->events);
	free(r);
}

/* ---- opening ---- */

struct opened {
	int *fds;
	size_t num;
};

static void opened_deinit(struct opened *o)
{
	for (size_t i = 0; i < o->num; i++)
		closep(&o->fds[i]);
	free(o->fds);
}

/* What a pipe begins with. */
struct head {
	uint8_t bytes[PERFDATA_HEAD_BYTES];
	size_t len;
};

static int read_head(int fd, struct head *ret, struct err *err)
{
	while (ret->len < sizeof(ret->bytes)) {
		ssize_t n = fd_read_some(fd, ret->bytes + ret->len, sizeof(ret->bytes) - ret->len);

		if (n < 0)
			return err_set(err, (int)-n, "cannot read it: %s", strerror((int)-n));
		if (n == 0)
			return 0;
		ret->len += (size_t)n;
	}
	return 0;
}

/*
 * A file that comes through a pipe (`ssh HOST cat perf.data |`) is kept until it is read. Nothing tells when it was
 * written, so that nothing is believed that would need to be older.
 */
static int look_into_pipe(struct replay *r, int *fd, struct head *head, struct err *err)
{
	int file, ret = read_head(*fd, head, err);

	if (ret < 0 || !perfdata_is_file(head->bytes, head->len))
		return ret;
	ret = given_keep(*fd, head->bytes, head->len, &file, err);
	if (ret < 0)
		return ret;
	close(*fd);
	*fd = file;
	head->len = 0;
	r->end_ns = 0;
	return 0;
}

static int open_inputs(struct replay *r, struct err *err)
{
	_cleanup_(opened_deinit) struct opened o = { 0 };
	struct head head = { 0 };
	int ret = given_open_recording(r->opts.path, &o.fds, &o.num, err);

	if (ret < 0)
		return ret;
	r->end_ns = given_written_ns(o.fds[0]);
	if (r->end_ns == INT64_MAX)
		ret = look_into_pipe(r, &o.fds[0], &head, err);
	if (ret < 0)
		return err_prefix(err, "%s", r->opts.path);
	r->inputs = calloc(o.num, sizeof(*r->inputs));
	if (!r->inputs)
		return err_oom(err);
	for (size_t i = 0; i < o.num && ret == 0; i++) {
		int fd = steal_fd(&o.fds[i]);

		if (i == 0)
			ret = perfdata_open(fd, &r->inputs[i], err);
		if (i == 0 && ret == 0)
			perfdata_begins_with(r->inputs[i], head.bytes, head.len);
		else if (i > 0)
			ret = perfdata_open_part(fd, r->inputs[0], o.num - 1, &r->inputs[i], err);
		r->num_inputs += ret == 0;
	}
	if (ret < 0)
		return err_prefix(err, "%s", r->opts.path);
	if (replay_info(r)->directory && o.num == 1)
		return err_set(err, EINVAL,
			       "%s is one file of a directory that `perf record --threads` wrote: "
			       "name the directory",
			       r->opts.path);
	return 0;
}

int replay_open(const struct replay_opts *opts, struct replay **ret, struct err *err)
{
	_cleanup_(replay_freep) struct replay *r = calloc(1, sizeof(*r));
	struct offline_opts offline = { .symfs = opts->args->symfs, .map_dir = opts->args->map_dir };
	int e;

	if (!r)
		return err_oom(err);
	r->opts = *opts;
	r->to_ns = UINT64_MAX;
	r->start_ns = clock_monotonic_ns();
	/* Every file of the recording stays open while it is read. */
	descriptors_raise();
	e = door_new(&r->door, err);
	if (!e)
		e = open_inputs(r, err);
	offline.door = r->door;
	offline.end_ns = r->end_ns;
	if (!e)
		e = offline_new(&offline, &r->offline, err);
	if (e < 0)
		return e;
	*ret = steal_ptr(r);
	return 0;
}

/* ---- where and when it was made ---- */

/* CLOCK_REALTIME minus the clock of its records, if it was made on this boot. */
static int64_t clock_now_ns(const struct perfdata_info *info)
{
	/* perf's own clock runs with CLOCK_MONOTONIC but for its fine corrections (kernel/sched/clock.c). */
	clockid_t clock = info->has_clockid ? (clockid_t)info->clockid : CLOCK_MONOTONIC;
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		return 0;
	return (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(clock));
}

static bool on_this_boot(const struct replay *r, int64_t clock_ns_now, int64_t *ret_clock_ns)
{
	const struct perfdata_info *info = replay_info(r);
	uint64_t up_ns = clock_ns(CLOCK_BOOTTIME);
	int64_t boot_ns = (int64_t)(clock_ns(CLOCK_REALTIME) - up_ns);
	int64_t slack = (int64_t)(SLACK_SECONDS * second_ns + up_ns / 1000), apart;

	*ret_clock_ns = clock_ns_now;
	if (r->end_ns < boot_ns)
		return false;
	if (r->end_ns == INT64_MAX || !info->last_ns)
		return true;
	*ret_clock_ns = (int64_t)((uint64_t)r->end_ns - info->last_ns);
	return !__builtin_sub_overflow(*ret_clock_ns, clock_ns_now, &apart) && apart < slack && -slack < apart;
}

enum offline_origin replay_origin(const struct replay *r, int64_t *ret_clock_ns)
{
	const struct perfdata_info *info = replay_info(r);
	struct utsname own;
	bool same_boot = on_this_boot(r, clock_now_ns(info), ret_clock_ns);

	if (uname(&own) < 0 || (info->hostname && strcmp(info->hostname, own.nodename)))
		return OFFLINE_ELSEWHERE;
	if (!info->hostname || (info->os_release && strcmp(info->os_release, own.release)))
		return OFFLINE_THIS_MACHINE;
	return same_boot ? OFFLINE_THIS_BOOT : OFFLINE_THIS_MACHINE;
}

/*
 * uname -m as the architectures here are called, or what `perf inject` puts there (tools/perf/util/env.c
 * normalize_arch); NULL = none of them.
 */
static const struct arch *arch_of(const char *machine)
{
	static const struct {
		const char *name;
		const struct arch *arch;
	} names[] = {
		{ "x86_64", &arch_x86_64 },   { "x86", &arch_x86_64 },    { "i386", &arch_x86_64 },
		{ "i486", &arch_x86_64 },     { "i586", &arch_x86_64 },   { "i686", &arch_x86_64 },
		{ "aarch64", &arch_aarch64 }, { "arm64", &arch_aarch64 },
	};

	if (!machine)
		return arch_host();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(machine, names[i].name))
			return names[i].arch;
	}
	return NULL;
}

/* ---- --time ---- */

/* Seconds with a fraction, as perf prints times. False: there are none. */
static bool parse_time(const char **pos, uint64_t *ret_ns)
{
	uint64_t whole = 0, part = 0, scale = second_ns;
	const char *start = *pos;

	for (; **pos >= '0' && **pos <= '9'; (*pos)++) {
		if (__builtin_mul_overflow(whole, (uint64_t)10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(**pos - '0'), &whole))
			return false;
	}
	if (**pos == '.') {
		for ((*pos)++; **pos >= '0' && **pos <= '9'; (*pos)++) {
			scale /= 10;
			part += scale * (uint64_t)(**pos - '0');
		}
	}
	return *pos != start && !__builtin_mul_overflow(whole, second_ns, &whole) &&
	       !__builtin_add_overflow(whole, part, ret_ns);
}

static int bad_time(const struct replay *r, struct err *err)
{
	return err_set(err, EINVAL,
		       "--time: \"%s\" is neither FROM,TO in seconds such as 1234.5,1236 nor a part such as "
		       "10%%-20%%",
		       r->opts.args->time);
}

/* "10%-20%" of the time between first and last sample, which only finished files tell. */
static int parse_percent(struct replay *r, struct err *err)
{
	const struct perfdata_info *info = replay_info(r);
	double from, to, span;
	char end;

	if (sscanf(r->opts.args->time, "%lf%%-%lf%%%c", &from, &to, &end) != 2 || !(from >= 0) ||
	    !(to >= from) || !(to <= 100))
		return bad_time(r, err);
	if (!info->last_ns || info->last_ns < info->first_ns)
		return err_set(err, ENOTSUP,
			       "--time: this recording does not tell how long it is: give times in "
			       "seconds");
	span = (double)(info->last_ns - info->first_ns);
	r->from_ns = info->first_ns + (uint64_t)(span * from / 100);
	r->to_ns = info->first_ns + (uint64_t)(span * to / 100) + 1;
	return 0;
}

static int parse_range(struct replay *r, struct err *err)
{
	const char *pos = r->opts.args->time;

	if (!pos)
		return 0;
	if (strchr(pos, '%'))
		return parse_percent(r, err);
	if (*pos != ',' && !parse_time(&pos, &r->from_ns))
		return bad_time(r, err);
	if (*pos == ',' && pos[1]) {
		pos++;
		if (!parse_time(&pos, &r->to_ns))
			return bad_time(r, err);
	} else if (*pos == ',') {
		pos++;
	}
	return *pos ? bad_time(r, err) : 0;
}

/* ---- which samples ---- */

/* "cycles" also means "cycles:u" and "cpu_core/cycles/". */
static bool name_is(const char *name, const char *wanted)
{
	size_t len = strlen(wanted);
	const char *slash;

	if (!strncmp(name, wanted, len) && (!name[len] || name[len] == ':' || name[len] == '/'))
		return true;
	slash = strchr(name, '/');
	return slash && !strncmp(slash + 1, wanted, len) && strchr("/,:", slash[1 + len]);
}

static bool is_dummy(const struct perfdata_event *event)
{
	return event->type == PERF_TYPE_SOFTWARE && (event->config == PERF_COUNT_SW_DUMMY ||
						     event->config == PERF_COUNT_SW_BPF_OUTPUT);
}

/* The same event of several PMUs: the upper half of config tells which (PERF_PMU_TYPE_SHIFT). */
static bool is_same_event(const struct perfdata_event *a, const struct perfdata_event *b)
{
	if (!strcmp(a->name, b->name))
		return true;
	return a->type == PERF_TYPE_HARDWARE && b->type == PERF_TYPE_HARDWARE &&
	       (uint32_t)a->config == (uint32_t)b->config;
}

const struct perfdata_event *replay_default_event(const struct replay *r)
{
	const struct perfdata_info *info = replay_info(r);

	for (size_t i = 0; i < info->num_events; i++) {
		if (r->event ? !strcmp(info->events[i].name, r->event)
			     : !is_dummy(&info->events[i]))
			return &info->events[i];
	}
	return &info->events[0];
}

bool replay_wants_event(const struct replay *r, size_t index)
{
	const struct perfdata_event *event = &replay_info(r)->events[index];
	const struct replay_args *args = r->opts.args;

	for (size_t i = 0; i < args->events.len; i++) {
		if (!strcmp(args->events.data[i], "all") ||
		    name_is(event->name, args->events.data[i]))
			return true;
	}
	return !args->events.len && is_same_event(event, replay_default_event(r));
}

/* NULL when out of memory. */
static struct event_state *state_of(struct replay *r, size_t index)
{
	while (r->events.len <= index) {
		if (!vec_push(&r->events, (struct event_state){ 0 }))
			return NULL;
	}
	if (!r->events.data[index].decided) {
		r->events.data[index].decided = true;
		r->events.data[index].wanted = replay_wants_event(r, index);
	}
	return &r->events.data[index];
}

static bool has_id(const pid_t *ids, size_t num, pid_t id)
{
	for (size_t i = 0; i < num; i++) {
		if (ids[i] == id)
			return true;
	}
	return !num;
}

/* All but the name, which the session knows. */
static bool sample_wanted(const struct replay *r, const struct record *rec)
{
	const struct replay_args *a = r->opts.args;

	if (rec->time_ns < r->from_ns || rec->time_ns > r->to_ns)
		return false;
	if (a->have_cpus && (rec->cpu >= REPLAY_MAX_CPUS ||
			     !(a->cpus[rec->cpu / 8] >> (rec->cpu % 8) & 1)))
		return false;
	return has_id(a->pids.data, a->pids.len, rec->pid) &&
	       has_id(a->tids.data, a->tids.len, rec->tid);
}

static bool comm_wanted(void *data, const struct record *rec, const char *comm)
{
	struct replay *r = data;
	const struct replay_args *a = r->opts.args;
	bool ret = !a->comms.len;

	for (size_t i = 0; i < a->comms.len && !ret; i++)
		ret = !strcmp(a->comms.data[i], comm);
	if (!ret)
		return false;
	if (!r->first_ns || rec->time_ns < r->first_ns)
		r->first_ns = rec->time_ns;
	if (rec->time_ns > r->last_ns)
		r->last_ns = rec->time_ns;
	return true;
}

/* ---- records ---- */

/* Once it is known what the recording holds. */
static int begin(struct replay *r, struct err *err)
{
	struct err why = { 0 };
	const struct perfdata_info *info = replay_info(r);
	struct session_opts session = r->opts.session;
	enum offline_origin origin;
	int64_t clock_ns;
	int ret = parse_range(r, err);

	if (ret < 0)
		return ret;
	session.arch = arch_of(info->arch);
	if (!session.arch)
		return err_set(err, ENOTSUP, "it was recorded on %.32s, whose stacks are not known here",
			       info->arch);
	session.door = r->door;
	session.offline = r->offline;
	session.kallsyms = r->opts.args->kallsyms;
	session.vmlinux = r->opts.args->vmlinux;
	session.wanted = comm_wanted;
	session.data = r;
	ret = session_new(&session, &r->session, err);
	if (ret < 0)
		return ret;
	origin = replay_origin(r, &clock_ns);
	offline_set_origin(r->offline, origin, clock_ns);
	session_origin(r->session, info->os_release, origin);
	/* A part that is damaged leaves frames without names, as all do in a recording that has none. */
	if (info->runtimes && session_restore_runtimes(r->session, info->runtimes, info->runtimes_bytes, &why) < 0)
		log_warn(NULL, "%s", why.msg);
	r->regs_mask = 0;
	r->no_user_side = false;
	return 0;
}

/* False: there is no going on. */
static bool ready(struct replay *r)
{
	if (r->failure.code)
		return false;
	return r->session || begin(r, &r->failure) == 0;
}

/* An event that was recorded without call graphs has but the place itself. */
static void chain_of_ip(struct record_sample *s, uint64_t chain[2])
{
	chain[0] = s->mode == MODE_KERNEL ? PERF_CONTEXT_KERNEL : PERF_CONTEXT_USER;
	chain[1] = s->ip;
	s->chain = chain;
	s->num_chain = 2;
}

static void take_sample(struct replay *r, const struct record *rec, size_t index)
{
	const struct perfdata_event *event = &replay_info(r)->events[index];
	struct event_state *state = state_of(r, index);
	uint64_t regs = 0, chain[2];
	bool has_chain = event->format.sample_type & PERF_SAMPLE_CALLCHAIN, no_user_side;
	struct record copy;

	if (!state) {
		err_oom(&r->failure);
		return;
	}
	state->samples++;
	if (++r->samples % REST_SAMPLES == 0)
		session_tick(r->session);
	if (!state->wanted)
		return;
	if (r->opts.args->have_cpus && rec->cpu == UINT32_MAX) {
		err_set(&r->failure, ENOTSUP, "-C: the recording does not tell on which CPU a sample was taken");
		return;
	}
	if (!sample_wanted(r, rec))
		return;
	if (event->format.sample_type & PERF_SAMPLE_REGS_USER &&
	    event->format.sample_type & PERF_SAMPLE_STACK_USER)
		regs = event->format.regs_user;
	if (regs != r->regs_mask) {
		session_set_regs(r->session, regs);
		r->regs_mask = regs;
	}
	no_user_side = has_chain && !event->user_chain && !regs;
	if (no_user_side != r->no_user_side) {
		session_set_kernel_only(r->session, no_user_side || r->opts.session.kernel_only);
		r->no_user_side = no_user_side;
	}
	if (!regs && !has_chain) {
		copy = *rec;
		chain_of_ip(&copy.sample, chain);
		rec = &copy;
	}
	session_record_of(r->session, rec, index);
}

static void take_record(void *data, const struct record *rec, size_t event)
{
	struct replay *r = data;

	if (!ready(r))
		return;
	if (rec->type == RECORD_SAMPLE)
		take_sample(r, rec, event);
	else
		session_record(r->session, rec);
}

static void take_build_id(void *data, const struct perfdata_build_id *id)
{
	struct replay *r = data;

	if (!ready(r))
		return;
	/* Those with a pid are a guest's. */
	if (id->pid <= 0 && !session_build_id(r->session, id->path, id->id, id->id_len))
		err_oom(&r->failure);
}

static int run_once(struct replay *r, struct err *err)
{
	const struct perfdata_sink sink = { .record = take_record, .build_id = take_build_id,
					    .data = r, .takes_rests = true };
	int ret = perfdata_run(r->inputs, r->num_inputs, &sink, &r->damage);

	if (r->failure.code) {
		*err = r->failure;
		return -err->code;
	}
	/* A recording without a record. */
	if (!r->session && ret == 0)
		ret = replay_info(r)->num_events ? begin(r, err)
					     : err_set(err, EBADMSG, "it holds no event");
	else if (ret < 0)
		*err = r->damage;
	return ret;
}

/* The event that we chose has no samples, but another has: the one that has most. */
static const char *better_event(const struct replay *r)
{
	const struct event_state *most = NULL;

	if (r->opts.args->events.len || r->event)
		return NULL;
	for (size_t i = 0; i < r->events.len; i++) {
		const struct event_state *state = &r->events.data[i];

		if (state->wanted && state->samples)
			return NULL;
		if (state->samples && (!most || state->samples > most->samples))
			most = state;
	}
	return most ? replay_info(r)->events[most - r->events.data].name : NULL;
}

/* Files can be read again. */
static int run_again(struct replay *r, const char *event, struct err *err)
{
	_cleanup_free_ char *name = strdup(event);
	int ret;

	if (!name)
		return err_oom(err);
	session_free(r->session);
	r->session = NULL;
	close_inputs(r);
	r->events.len = 0;
	r->damage = (struct err){ 0 };
	ret = open_inputs(r, err);
	if (ret < 0)
		return ret;
	r->event = name;
	ret = run_once(r, err);
	r->event = NULL;
	return ret;
}

static void list_all_events(const struct replay *r, struct strbuf *ret)
{
	const struct perfdata_info *info = replay_info(r);

	for (size_t i = 0; i < info->num_events && i < MAX_TOLD_EVENTS; i++) {
		strbuf_str(ret, i ? ", " : "");
		escape_line(ret, info->events[i].name, strlen(info->events[i].name), 60);
	}
	if (info->num_events > MAX_TOLD_EVENTS)
		strbuf_str(ret, ", ...");
}

/* -e that means no event of the recording. */
static int check_events(const struct replay *r, struct err *err)
{
	const struct perfdata_info *info = replay_info(r);
	const struct replay_args *args = r->opts.args;
	_cleanup_(strbuf_deinit) struct strbuf known = { 0 };

	for (size_t i = 0; i < args->events.len; i++) {
		bool found = !strcmp(args->events.data[i], "all");

		for (size_t k = 0; k < info->num_events && !found; k++)
			found = name_is(info->events[k].name, args->events.data[i]);
		if (found)
			continue;
		list_all_events(r, &known);
		return err_set(err, EINVAL, "-e: no event \"%s\" was recorded; there are: %s",
			       args->events.data[i], known.len ? known.data : "none");
	}
	return 0;
}

int replay_run(struct replay *r, struct err *err)
{
	int ret = run_once(r, err);
	const char *event = r->session ? better_event(r) : NULL;

	if (ret == 0)
		ret = check_events(r, err);
	if (ret == -EINVAL)
		return ret;
	if (event && r->end_ns != INT64_MAX && strcmp(r->opts.path, "-"))
		ret = run_again(r, event, err);
	if (ret < 0)
		err_prefix(err, "%s", r->opts.path);
	/* Damage leaves what came before it. */
	return ret < 0 && r->session && !r->failure.code ? 1 : ret;
}

/* ---- the profile ---- */

/* What getrusage tells is not less than what the program that started us had when it did so (fs/exec.c exec_mmap). */
static uint64_t own_peak_kib(const struct replay *r)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct proc_status status = { 0 };
	struct rusage usage;

	if (door_read_proc(r->door, getpid(), "status", MAX_STATUS_BYTES, &text, NULL, NULL) == 0 &&
	    proc_status_parse(text.data, text.len, &status) == 0 && status.peak_kib)
		return status.peak_kib;
	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_maxrss;
}

int replay_profile(struct replay *r, bool (*stop)(void *data), void *data, struct profile **ret,
		   struct err *err)
{
	const struct perfdata_info *info = replay_info(r);
	struct profile *p;
	int e;

	/* Nothing is unwound any more: what that took is for names now. */
	session_tick(r->session);
	session_tick(r->session);
	e = session_profile(r->session, true, stop, data, &p, err);
	if (e < 0)
		return e;
	if (!replay_tell(r, p)) {
		profile_free(p);
		return err_oom(err);
	}
	session_free(r->session); /* writers need room for their own order */
	r->session = NULL;
	p->stats.peak_rss_kib = own_peak_kib(r);
	p->stats.cpu_s = (double)clock_cpu_ns() / 1e9;
	p->stats.wall_s = (double)(r->last_ns - r->first_ns) / 1e9;
	p->stats.targets = intern_str(p->strings, info->cmdline ? info->cmdline : r->opts.path);
	*ret = p;
	return 0;
}
