#include "app/command.h"

#include "app/events.h"
#include "app/launch.h"
#include "app/outputs.h"
#include "app/progress.h"
#include "app/saving.h"
#include "app/session.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/vec.h"
#include "collector/collector.h"
#include "output/profile.h"
#include "target/broker.h"
#include "target/containers.h"
#include "target/door.h"
#include "target/jail.h"
#include "target/memory.h"
#include "target/proc_text.h"
#include "target/users.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_CPUS = 8192, /* NR_CPUS of the largest distribution kernels */
	TICK_NS = 1000000000,
	SLOW_TICKS = 3,
};

/* The command line. */
struct record_args {
	struct outputs out; /* first: the setters of its rows take this for it */
	bool all;
	VEC(pid_t) pids;
	VEC(pid_t) tids;
	VEC(const char *) containers; /* --container; borrowed from argv, as are the next */
	VEC(const char *) cgroups;
	bool by_uid;
	uid_t uid;
	uint8_t cpus[MAX_CPUS / 8];
	bool have_cpus;
	const char *event;
	uint32_t freq;
	uint64_t period;
	double duration;
	uint64_t stack_bytes;
	uint64_t ring_bytes;
	char **command; /* after "--"; NULL = none */
};

/* Setters: one per option, each validates at once */

static int set_all(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->all = true;
	return 0;
}

static int push_ids(const char *arg, void *vec_data, bool tids, struct err *err)
{
	struct record_args *a = vec_data;
	const char *pos = arg;

	do {
		char *end;
		long id;

		errno = 0;
		id = strtol(pos, &end, 10);
		if (end == pos || (*end && *end != ',') || errno || id <= 0 || id > INT32_MAX)
			return err_set(err, EINVAL, "\"%s\" is not a list of ids such as 17,42", arg);
		if (!(tids ? vec_push(&a->tids, (pid_t)id) : vec_push(&a->pids, (pid_t)id)))
			return err_oom(err);
		pos = *end ? end + 1 : end;
	} while (*pos);
	return 0;
}

static int set_pids(void *data, const char *arg, struct err *err)
{
	return push_ids(arg, data, false, err);
}

static int set_tids(void *data, const char *arg, struct err *err)
{
	return push_ids(arg, data, true, err);
}

static int set_container(void *data, const char *arg, struct err *err)
{
	return vec_push(&((struct record_args *)data)->containers, arg) ? 0 : err_oom(err);
}

static int set_cgroup(void *data, const char *arg, struct err *err)
{
	return vec_push(&((struct record_args *)data)->cgroups, arg) ? 0 : err_oom(err);
}

static int set_uid(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;
	uint64_t uid;

	if (!opts_u64(arg, 0, UINT32_MAX - 1, &uid, NULL))
		a->uid = (uid_t)uid;
	else if (!user_named(arg, &a->uid))
		return err_set(err, EINVAL, "\"%s\" is neither a user id nor a user's name", arg);
	a->by_uid = true;
	return 0;
}

static int set_cpus(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;

	if (cpulist_parse(arg, strlen(arg), a->cpus, MAX_CPUS) <= 0)
		return err_set(err, EINVAL, "\"%s\" is not a list of CPUs such as 0-3,7", arg);
	a->have_cpus = true;
	return 0;
}

static int set_event(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->event = arg;
	return 0;
}

static int set_freq(void *data, const char *arg, struct err *err)
{
	uint64_t freq;
	int r = opts_u64(arg, 1, 100000, &freq, err);

	if (!r)
		((struct record_args *)data)->freq = (uint32_t)freq;
	return r;
}

static int set_period(void *data, const char *arg, struct err *err)
{
	return opts_u64(arg, 1, INT64_MAX, &((struct record_args *)data)->period, err);
}

static int set_duration(void *data, const char *arg, struct err *err)
{
	return opts_seconds(arg, &((struct record_args *)data)->duration, err);
}

static int set_stack_bytes(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;
	int r = opts_bytes(arg, &a->stack_bytes, err);

	if (!r && (a->stack_bytes < 512 || a->stack_bytes > 65528 || a->stack_bytes % 8))
		return err_set(err, EINVAL, "\"%s\": the kernel copies 512 to 65528 bytes, a multiple of 8",
			       arg);
	return r;
}

static int set_ring_bytes(void *data, const char *arg, struct err *err)
{
	return opts_bytes(arg, &((struct record_args *)data)->ring_bytes, err);
}

static const struct opt record_opts[] = {
	{ 'a', "all", NULL, "every process of the machine", set_all },
	{ 'p', "pid", "PID,..", "these processes: all threads, and what they start", set_pids },
	{ 't', "tid", "TID,..", "these threads alone", set_tids },
	{ 0, "container", "ID", "what runs in a container: the start of its id, or its name;\n"
	  "repeatable, a list too", set_container },
	{ 'G', "cgroup", "CGROUP", "what runs in a cgroup and below it; repeatable, a list too", set_cgroup },
	{ 'u', "uid", "USER", "every process of a user (id or name)", set_uid },
	{ 'C', "cpu", "LIST", "only these CPUs, such as 0-3,7", set_cpus },
	{ 'F', "freq", "HZ", "samples per second and CPU (99)", set_freq },
	{ 'c', "count", "N", "a sample every N events, instead of -F", set_period },
	{ 'd', "duration", "SEC", "stop after 5, 0.5, 2m; else at Ctrl-C or when the targets end",
	  set_duration },
	{ 'e', "event", "NAME", "cycles, cpu-clock, page-faults, ... or SUBSYS:TRACEPOINT\n"
	  "(default: cycles where they open, else cpu-clock)", set_event },
	OUTPUT_ROWS,
	{ 0, "stack-bytes", "N", "user stack copied per sample (the largest that fits)",
	  set_stack_bytes },
	STACK_ROWS,
	{ 0, "ring-bytes", "N", "most memory for all rings (256M or 1 % of memory)", set_ring_bytes },
	WORD_ROWS,
	{ 0 },
};

/* The recording */

struct recording {
	struct record_args args;
	struct door *door;
	struct memory *memory; /* of the processes */
	struct events events;
	struct launch launch;
	struct containers *containers; /* NULL where they are not asked for */
	bool seen_alive;               /* of the containers and cgroups, something ran once */
	unsigned int ticks;
	bool targets_ended;            /* by themselves */
	struct collector *collector;
	struct session *session;
	struct saving *saving; /* NULL = no perf.data is wanted */
	char **argv;
	char targets[256];
	uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
	int nice; /* ours, to return to */
};

static void recording_close(struct recording *r)
{
	saving_close(r->saving);
	collector_close(r->collector);
	session_free(r->session);
	containers_free(r->containers);
	launch_deinit(&r->launch);
	events_close(&r->events);
	memory_free(r->memory);
	door_free(r->door);
	vec_deinit(&r->args.pids);
	vec_deinit(&r->args.tids);
	vec_deinit(&r->args.containers);
	vec_deinit(&r->args.cgroups);
	outputs_deinit(&r->args.out);
}

static bool by_containers(const struct record_args *a)
{
	return a->containers.len || a->cgroups.len;
}

static int check_targets(struct record_args *a, struct err *err)
{
	int kinds = (a->pids.len > 0) + (a->tids.len > 0) + a->by_uid + by_containers(a);

	if (kinds > 1 || (kinds && (a->all || a->command)))
		return err_set(err, EINVAL,
			       "-a, -p, -t, -u, -- COMMAND and --container with -G exclude each other");
	if (!kinds && !a->all && !a->command)
		return err_set(err, EINVAL, "nothing to record: -a, -p PID, -t TID, -u USER, --container ID, "
					    "-G CGROUP or -- COMMAND");
	if (a->freq && a->period)
		return err_set(err, EINVAL, "-F and -c exclude each other");
	return 0;
}

static void describe_list(char *text, size_t size, const char *what, const char *const *list, size_t num)
{
	size_t len = strlen(text);

	if (num)
		len += (size_t)snprintf(text + len, size - len, "%s%s ", len ? " and " : "", what);
	for (size_t i = 0; i < num && len < size; i++)
		len += (size_t)snprintf(text + len, size - len, "%s%s", i ? "," : "", list[i]);
}

static void describe_targets(struct recording *r)
{
	const struct record_args *a = &r->args;
	size_t size = sizeof(r->targets), len = 0;

	if (a->command) {
		snprintf(r->targets, size, "%scommand %s", a->all ? "all processes during " : "",
			 a->command[0]);
	} else if (a->all) {
		snprintf(r->targets, size, "all processes");
	} else if (a->by_uid) {
		snprintf(r->targets, size, "processes of user %u", a->uid);
	} else if (by_containers(a)) {
		describe_list(r->targets, size, "container", a->containers.data, a->containers.len);
		describe_list(r->targets, size, "cgroup", a->cgroups.data, a->cgroups.len);
	} else {
		bool tids = a->tids.len > 0;
		const pid_t *ids = tids ? a->tids.data : a->pids.data;
		size_t num = tids ? a->tids.len : a->pids.len;

		len = (size_t)snprintf(r->targets, size, "%s ", tids ? "thread" : "process");
		for (size_t i = 0; i < num && len < size - 16; i++)
			len += (size_t)snprintf(r->targets + len, size - len, "%s%d", i ? "," : "", ids[i]);
	}
}

static struct collector_opts collector_opts(struct recording *r)
{
	struct record_args *a = &r->args;
	struct collector_opts opts = {
		.target = TARGET_ALL,
		.cpus = a->have_cpus ? a->cpus : NULL,
		.num_cpu_bits = a->have_cpus ? MAX_CPUS : 0,
		.event = a->event,
		.freq_hz = a->freq,
		.period = a->period,
		.stack_bytes = (uint32_t)a->stack_bytes,
		.no_kernel = a->out.view.user_only,
		.max_ring_bytes = a->ring_bytes,
		.door = r->door,
	};
	struct err why = { 0 };

	if (a->pids.len) {
		opts.target = TARGET_PIDS;
		opts.pids = a->pids.data;
		opts.num_pids = a->pids.len;
	} else if (a->tids.len) {
		opts.target = TARGET_TIDS;
		opts.pids = a->tids.data;
		opts.num_pids = a->tids.len;
	} else if (a->command && !a->all) {
		opts.target = TARGET_COMMAND;
		opts.pids = &r->launch.pid;
		opts.num_pids = 1;
	} else if (by_containers(a)) {
		opts.target = TARGET_CGROUP;
		/* Where the kernel cannot be told of them, there are none and everything is recorded. */
		if (containers_open_wanted(r->containers, &opts.cgroups, &opts.num_cgroups, &why) < 0)
			log_debug("record", "no kernel cgroup mode: %s", why.msg);
		r->seen_alive = containers_wanted_alive(r->containers);
	}
	if (a->out.method != UNWIND_FP && !a->out.view.kernel_only)
		opts.user_regs = arch_host()->perf_regs;
	opts.no_user_chain = a->out.view.kernel_only;
	opts.data_maps = outputs_want_saving(&a->out); /* as perf needs them */
	return opts;
}

static int open_saving(struct recording *r, struct err *err)
{
	const struct record_args *a = &r->args;
	struct saving_opts opts = {
		.outputs = &a->out,
		.collector = r->collector,
		.door = r->door,
		.argv = r->argv,
		.pids = a->pids.len ? a->pids.data : a->tids.data,
		.num_pids = a->pids.len ? a->pids.len : a->tids.len,
		.all = a->all || a->by_uid || by_containers(a) || collector_info(r->collector)->filtered,
	};

	return saving_open(&opts, &r->saving, err);
}

/* The broker opens what targets control, and the outputs; this process soon cannot (enter_jail). */
static int start_broker(struct recording *r, struct err *err)
{
	_cleanup_free_ const char **names = NULL;
	size_t num;
	int ret = outputs_names(&r->args.out, &names, &num, err);

	if (!ret)
		ret = broker_start(names, num, &r->door, err);
	if (!ret)
		ret = memory_new(r->door, &r->memory, err);
	if (!ret)
		r->args.out.opener = broker_opener(r->door);
	return ret;
}

static int enter_jail(struct recording *r, struct err *err)
{
	struct err why = { 0 };
	int ret;

	broker_seal(r->door);
	ret = jail_enter(r->launch.pid, &why);

	if (!ret)
		return 0;
	return err_set(err, -ret, "cannot give up privileges before reading what others wrote: %s", why.msg);
}

/* One of --container and -G: as it is, else a list. A cgroup's name may hold a comma. */
static int want_one(struct recording *r, const char *arg, bool cgroup, struct err *err)
{
	int (*want)(struct containers *c, const char *text, struct err *err) =
		cgroup ? containers_want_cgroup : containers_want;
	struct err whole = { 0 };
	int ret = want(r->containers, arg, &whole);
	const char *pos = arg;

	if (ret != -ENOENT || !strchr(arg, ',')) {
		if (ret < 0 && err)
			*err = whole;
		return ret;
	}
	for (ret = 0; !ret && pos;) {
		const char *comma = strchr(pos, ',');
		_cleanup_free_ char *part = strndup(pos, comma ? (size_t)(comma - pos) : strlen(pos));

		ret = part ? want(r->containers, part, err) : err_oom(err);
		pos = comma ? comma + 1 : NULL;
	}
	return ret;
}

static int open_containers(struct recording *r, struct err *err)
{
	struct record_args *a = &r->args;
	int ret;

	if (!by_containers(a) && a->out.by != BY_CONTAINER && a->out.by != BY_POD)
		return 0;
	ret = containers_new(r->door, &r->containers, err);
	for (size_t i = 0; !ret && i < a->containers.len; i++)
		ret = want_one(r, a->containers.data[i], false, err);
	for (size_t i = 0; !ret && i < a->cgroups.len; i++)
		ret = want_one(r, a->cgroups.data[i], true, err);
	return ret;
}

/*
 * On a machine with more to do than CPUs the rings must still be opened and emptied in time; it takes a few percent of
 * one CPU. Refused without CAP_SYS_NICE, which only makes loss likelier. The broker shares it, as the drain waits for its
 * answers; the command does not, and for naming there is no hurry.
 */
static void raise_priority(struct recording *r)
{
	r->nice = getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PROCESS, 0, -20);
}

static void restore_priority(const struct recording *r)
{
	setpriority(PRIO_PROCESS, 0, r->nice);
}

static int open_recording(struct recording *r, struct err *err)
{
	struct record_args *a = &r->args;
	struct collector_opts collect;
	struct session_opts session = { .by_uid = a->by_uid, .uid = a->uid };
	int ret;

	raise_priority(r);
	ret = start_broker(r, err);
	if (!ret)
		ret = events_open(&r->events, err);
	if (!ret)
		ret = open_containers(r, err);
	if (!ret && a->command) {
		restore_priority(r);
		ret = launch_prepare(a->command, &r->launch, err);
		raise_priority(r);
	}
	if (ret < 0)
		return ret;
	collect = collector_opts(r);
	ret = collector_open(&collect, &r->collector, err);
	if (ret < 0)
		return ret;
	outputs_session(&a->out, &session);
	session.door = r->door;
	session.memory = r->memory;
	session.regs_mask = collect.user_regs;
	session.keep_build_ids = outputs_want_saving(&a->out);
	if (collector_info(r->collector)->filtered) {
		session.pids = collect.pids;
		session.num_pids = collect.num_pids;
		session.tids = collect.target == TARGET_TIDS;
	}
	session.containers = r->containers;
	session.only_containers = by_containers(a) && collector_info(r->collector)->filtered;
	ret = session_new(&session, &r->session, err);
	if (!ret)
		ret = open_saving(r, err);
	if (!ret)
		ret = enter_jail(r, err);
	/* From here on what targets control is read. */
	if (!ret && (collect.target == TARGET_ALL || collect.target == TARGET_CGROUP ||
		     collector_info(r->collector)->filtered))
		ret = session_scan(r->session, err);
	else if (!ret && collect.target != TARGET_COMMAND)
		ret = session_scan_tasks(r->session, collect.pids, collect.num_pids, err);
	return ret;
}

static bool naming_stopped(void *data)
{
	struct recording *r = data;

	events_poll(&r->events);
	return r->events.skip_names || !outputs_want_profile(&r->args.out);
}

static void add_note(struct profile_stats *stats, const char *note)
{
	size_t num = sizeof(stats->notes) / sizeof(stats->notes[0]);

	for (size_t i = 0; i + 1 < num; i++) {
		if (!stats->notes[i]) {
			stats->notes[i] = note;
			return;
		}
	}
}

/* What the session does not know: loss, times, what was asked for. */
static void complete_stats(struct recording *r, struct profile_stats *stats)
{
	const struct collector_info *info = collector_info(r->collector);
	struct collector_counts counts = collector_counts(r->collector);
	uint64_t end_ns = r->end_ns ? r->end_ns : clock_monotonic_ns();
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	stats->lost = counts.lost;
	stats->throttled = counts.throttled;
	stats->side_lost = counts.side_lost;
	stats->malformed = counts.malformed;
	stats->wall_s = (double)(end_ns - r->start_ns) / 1e9;
	stats->cpu_s = (double)clock_cpu_ns() / 1e9;
	stats->peak_rss_kib = (uint64_t)usage.ru_maxrss;
	stats->stack_bytes = info->stack_bytes;
	stats->freq = info->freq_hz;
	stats->event = info->event;
	stats->targets = r->targets;
	for (size_t i = 0; i < sizeof(info->notes) / sizeof(info->notes[0]) && info->notes[i]; i++)
		add_note(stats, info->notes[i]);
}

/* The profile so far, into every output. Returns how many samples it holds, or -errno. */
static int64_t write_profile(struct recording *r, bool last, struct err *err)
{
	struct profile *profile;
	int64_t samples;
	int ret;

	ret = session_profile(r->session, naming_stopped, r, &profile, err);
	if (ret < 0)
		return ret;
	complete_stats(r, &profile->stats);
	log_status(NULL);
	ret = outputs_write(&r->args.out, profile, last, err);
	samples = (int64_t)profile->stats.samples;
	if (last && !ret && !outputs_show_report(&r->args.out))
		progress_end(&profile->stats);
	profile_free(profile);
	return ret < 0 ? ret : samples;
}

/* Containers are over when nothing runs in them any more; where all processes must be asked, that is done seldom. */
static void look_for_containers(struct recording *r)
{
	bool alive;

	if (!by_containers(&r->args) ||
	    (collector_info(r->collector)->filtered && r->ticks++ % SLOW_TICKS))
		return;
	alive = containers_wanted_alive(r->containers);
	r->seen_alive |= alive;
	if (!alive && r->seen_alive)
		r->events.stop = true;
}

static int handle_events(struct recording *r, struct err *err)
{
	struct events *e = &r->events;
	struct err write_err = { 0 };
	int ret = 0;

	events_poll(e);
	if (e->child) {
		e->child = false;
		if (r->launch.pid && launch_poll(&r->launch))
			e->stop = true;
	}
	if (e->tick) {
		struct session_progress p = session_progress(r->session);
		struct collector_counts counts = collector_counts(r->collector);

		e->tick = false;
		progress_tick(clock_monotonic_ns() - r->start_ns, &p, &counts);
		session_tick(r->session);
		look_for_containers(r);
		ret = collector_rescan_cpus(r->collector, err);
	}
	if (e->write_now) {
		e->write_now = false;
		if (write_profile(r, false, &write_err) < 0)
			log_warn(NULL, "error: %s", write_err.msg); /* the recording goes on */
	}
	return ret;
}

static void take_record(void *data, const struct record *rec)
{
	struct recording *r = data;

	if (r->saving && (rec->type != RECORD_SAMPLE || session_wants(r->session, rec)))
		saving_record(r->saving, rec);
	session_record(r->session, rec);
}

static int drain(struct recording *r, bool all, struct err *err)
{
	struct collector_sink sink = { .record = take_record, .data = r };
	int ret = collector_drain(r->collector, &sink, all, err);

	if (ret < 0 || !r->saving)
		return ret;
	/* With nothing left to write to, going on makes no sense; saving_end says what happened. */
	if (!saving_flush(r->saving) && !outputs_want_profile(&r->args.out))
		r->events.stop = true;
	return 0;
}

enum { WAIT_DRAIN = 1, WAIT_EVENTS = 2, WAIT_TARGETS_ENDED = 3 };

static int record(struct recording *r, struct err *err)
{
	bool ended = false;
	int ret;

	r->start_ns = clock_monotonic_ns();
	ret = collector_enable(r->collector, err);
	if (!ret && r->launch.pid)
		ret = launch_go(&r->launch, r->args.command[0], err);
	if (!ret)
		ret = events_start(&r->events, (uint64_t)(r->args.duration * 1e9), TICK_NS, err);
	while (!ret && !ended && !r->events.stop && !r->events.time_up) {
		int what = collector_wait(r->collector, r->events.epoll_fd, err);

		if (what < 0)
			return what;
		ret = drain(r, false, err);
		if (!ret && what == WAIT_EVENTS)
			ret = handle_events(r, err);
		ended = r->targets_ended = what == WAIT_TARGETS_ENDED;
	}
	if (ret < 0)
		return ret;
	ret = collector_disable(r->collector, err);
	r->end_ns = clock_monotonic_ns();
	if (!ret)
		ret = drain(r, true, err);
	restore_priority(r);
	return ret;
}

/* That it was stopped is our caller's wish, as is the end of the time: no failure, whatever became of the command. */
static int command_status(const struct recording *r)
{
	const struct launch *l = &r->launch;

	if (l->ended || (l->reaped && WIFSIGNALED(l->status) && WTERMSIG(l->status) == r->events.stop_signal))
		return 0;
	return launch_exit_status(l);
}

static int finish(struct recording *r)
{
	struct err err = { 0 };
	struct err save_err = { 0 };
	int64_t samples;

	if (r->saving)
		saving_end(r->saving, r->session, &save_err); /* it has told of what failed */
	samples = write_profile(r, true, &err);
	if (samples < 0)
		return command_failed(&err);
	if (save_err.code)
		return EXIT_FAILED;
	if (r->launch.pid) {
		launch_end(&r->launch, r->targets_ended);
		return command_status(r);
	}
	return samples ? 0 : EXIT_NO_SAMPLES;
}

static int record_run(int argc, char **argv)
{
	_cleanup_(recording_close) struct recording r = {
		.events = { .epoll_fd = -1, .signal_fd = -1, .duration_fd = -1, .tick_fd = -1 },
		.launch = { .go_fd = -1, .fail_fd = -1 },
	};
	struct err err = { 0 };
	int first;

	r.args.out.may_save = true;
	first = opts_parse(record_opts, argc, argv, &r.args, &err);
	if (first == -ECANCELED)
		return command_help(&command_record);
	if (first < 0)
		return command_usage("record", &err);
	r.argv = argv;
	r.args.command = first < argc ? argv + first : NULL;
	if (check_targets(&r.args, &err) < 0)
		return command_usage("record", &err);
	if (outputs_check(&r.args.out, &err) < 0)
		return err.code == EINVAL ? command_usage("record", &err) : command_failed(&err);
	describe_targets(&r);
	if (open_recording(&r, &err) < 0)
		return command_failed(&err);
	progress_start(collector_info(r.collector), r.targets, outputs_method_name(r.args.out.method));
	if (record(&r, &err) < 0) {
		int status = command_failed(&err);

		if (r.launch.exec_failed)
			return launch_exit_status(&r.launch);
		/* What was recorded until then is worth having. */
		if (session_progress(r.session).samples)
			finish(&r);
		return status;
	}
	return finish(&r);
}

const struct command command_record = {
	.name = "record",
	.summary = "sample running processes and write a profile",
	.usage = "[options] [-- COMMAND ARG..]",
	.about = "Samples what runs, unwinds and names each stack, and writes a profile in any number of formats. Ctrl-C\n"
		 "stops and writes; a second one skips names. SIGUSR1 writes what there is and goes on.",
	.examples = "ringfold record -a -d 5 -o all.folded              the whole machine for 5 seconds\n"
		    "ringfold record -p 1234 -o svc.data.txt            a process until Ctrl-C, as perf script prints it\n"
		    "ringfold record -o make.folded -- make -j8         a command and what it starts\n"
		    "ringfold record --container 3f2a --by pod -d 30    a container, by the start of its id\n"
		    "ringfold record -a -d 10 -o t.data -o t.folded     a perf.data to keep, and stacks of it\n",
	.opts = record_opts,
	.run = record_run,
};
