#include "app/recording.h"

#include "app/managed.h"
#include "app/parser.h"
#include "app/progress.h"
#include "app/saving.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/err.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/vec.h"
#include "base/worker.h"
#include "collector/collector.h"
#include "output/profile.h"
#include "symbols/elf_remote.h"
#include "target/broker.h"
#include "target/containers.h"
#include "target/door.h"
#include "target/jail.h"
#include "target/memory.h"
#include "target/proc_text.h"
#include "target/users.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SLOW_TICKS = 3,
	SHORT_SLICE_NS = 200000,
};

/* Setters: one per option, each validates at once */

int recording_set_all(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->all = true;
	return 0;
}

static int push_ids(const char *arg, void *vec_data, bool tids, struct err *err)
{
	struct record_args *a = vec_data;
	const char *pos = arg;

	do {
		pid_t id;

		if (!opts_next_id(&pos, 1, &id))
			return err_set(err, EINVAL, "\"%s\" is not a list of ids such as 17,42", arg);
		if (!(tids ? vec_push(&a->tids, id) : vec_push(&a->pids, id)))
			return err_oom(err);
	} while (*pos);
	return 0;
}

int recording_set_pids(void *data, const char *arg, struct err *err)
{
	return push_ids(arg, data, false, err);
}

int recording_set_tids(void *data, const char *arg, struct err *err)
{
	return push_ids(arg, data, true, err);
}

int recording_set_container(void *data, const char *arg, struct err *err)
{
	return vec_push(&((struct record_args *)data)->containers, arg) ? 0 : err_oom(err);
}

int recording_set_cgroup(void *data, const char *arg, struct err *err)
{
	return vec_push(&((struct record_args *)data)->cgroups, arg) ? 0 : err_oom(err);
}

int recording_set_uid(void *data, const char *arg, struct err *err)
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

int recording_set_cpus(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;

	if (cpulist_parse(arg, strlen(arg), a->cpus, MAX_CPUS) <= 0)
		return err_set(err, EINVAL, "\"%s\" is not a list of CPUs such as 0-3,7", arg);
	a->have_cpus = true;
	return 0;
}

int recording_set_event(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->event = arg;
	return 0;
}

int recording_set_freq(void *data, const char *arg, struct err *err)
{
	uint64_t freq;
	int r = opts_u64(arg, 1, 100000, &freq, err);

	if (!r)
		((struct record_args *)data)->freq = (uint32_t)freq;
	return r;
}

int recording_set_period(void *data, const char *arg, struct err *err)
{
	return opts_u64(arg, 1, INT64_MAX, &((struct record_args *)data)->period, err);
}

int recording_set_duration(void *data, const char *arg, struct err *err)
{
	return opts_seconds(arg, &((struct record_args *)data)->duration, err);
}

int recording_set_stack_bytes(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;
	int r = opts_bytes(arg, &a->stack_bytes, err);

	if (!r && (a->stack_bytes < 512 || a->stack_bytes > 65528 || a->stack_bytes % 8))
		return err_set(err, EINVAL, "\"%s\": the kernel copies 512 to 65528 bytes, a multiple of 8",
			       arg);
	return r;
}

int recording_set_ring_bytes(void *data, const char *arg, struct err *err)
{
	return opts_bytes(arg, &((struct record_args *)data)->ring_bytes, err);
}

int recording_set_no_dotnet(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->no_dotnet = true;
	return 0;
}

int recording_set_map_dir(void *data, const char *arg, struct err *err)
{
	struct record_args *a = data;

	free(a->map_dir);
	a->map_dir = realpath(arg, NULL);
	return a->map_dir ? 0 : err_set(err, errno, "%s: %s", arg, strerror(errno));
}

void record_args_deinit(struct record_args *args)
{
	vec_deinit(&args->pids);
	vec_deinit(&args->tids);
	vec_deinit(&args->containers);
	vec_deinit(&args->cgroups);
	free(args->map_dir);
	outputs_deinit(&args->out);
}

/* For who looks into it. */
static void log_parser(const struct recording *r)
{
	struct worker_counts c;

	if (!r->parser)
		return;
	c = worker_counts(r->parser);
	log_debug("app",
		  "parser: %" PRIu64 " requests in %.1f ms, the longest %.1f; %" PRIu64 " processes, started in %.1f ms; "
		  "%" PRIu64 " hung, %" PRIu64 " died",
		  c.requests, (double)c.wait_ns / 1e6, (double)c.longest_ns / 1e6, c.started, (double)c.start_ns / 1e6,
		  c.hanged, c.died);
}

void recording_close(struct recording *r)
{
	log_parser(r);
	saving_close(r->saving);
	managed_free(r->managed);
	collector_close(r->collector);
	session_free(r->session);
	containers_free(r->containers);
	launch_deinit(&r->launch);
	events_close(&r->events);
	memory_free(r->memory);
	worker_free(r->parser); /* after the session, whose files are told to it */
	door_free(r->door);
}

bool recording_by_containers(const struct record_args *a)
{
	return a->containers.len || a->cgroups.len;
}

bool recording_has_target(const struct record_args *a)
{
	return a->all || a->pids.len || a->tids.len || a->by_uid || recording_by_containers(a) || a->command;
}

int recording_check_targets(struct record_args *a, struct err *err)
{
	int kinds = (a->pids.len > 0) + (a->tids.len > 0) + a->by_uid + recording_by_containers(a);

	if (!kinds && !a->command && a->have_cpus)
		a->all = true;
	if (kinds > 1 || (kinds && (a->all || a->command)))
		return err_set(err, EINVAL,
			       "-a, -p, -t, -u, -- COMMAND and --container with -G exclude each other");
	if (!kinds && !a->all && !a->command)
		return err_set(err, EINVAL, "nothing to record: -a, -p PID, -t TID, -u USER, -C CPUS, "
					    "--container ID, -G CGROUP or -- COMMAND");
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
	const struct record_args *a = r->args;
	size_t size = sizeof(r->targets), len = 0;

	if (a->command) {
		snprintf(r->targets, size, "%scommand %s", a->all ? "all processes during " : "",
			 a->command[0]);
	} else if (a->all) {
		snprintf(r->targets, size, "all processes");
	} else if (a->by_uid) {
		snprintf(r->targets, size, "processes of user %u", a->uid);
	} else if (recording_by_containers(a)) {
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

static void describe_command(struct recording *r)
{
	size_t size = sizeof(r->command_line);
	size_t len = (size_t)snprintf(r->command_line, size, "ringfold");

	for (char **arg = r->argv; arg && *arg && len < size; arg++)
		len += (size_t)snprintf(r->command_line + len, size - len, strpbrk(*arg, " '\"$;&|<>(*") ? " '%s'" : " %s",
					*arg);
}

static struct collector_opts collector_opts(struct recording *r)
{
	struct record_args *a = r->args;
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
	} else if (recording_by_containers(a)) {
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
	const struct record_args *a = r->args;
	struct saving_opts opts = {
		.outputs = &a->out,
		.collector = r->collector,
		.door = r->door,
		.argv = r->argv,
		.pids = a->pids.len ? a->pids.data : a->tids.data,
		.num_pids = a->pids.len ? a->pids.len : a->tids.len,
		.all = a->all || a->by_uid || recording_by_containers(a) || collector_info(r->collector)->filtered,
	};

	return saving_open(&opts, &r->saving, err);
}

/* The broker opens what targets control, and the outputs; this process soon cannot (enter_jail). */
static int start_broker(struct recording *r, const struct recording_opts *opts, struct err *err)
{
	_cleanup_free_ const char **names = NULL;
	const char *const *outputs = opts->outputs;
	size_t num = opts->num_outputs;
	int ret = 0;

	if (!outputs) {
		ret = outputs_names(&r->args->out, &names, &num, err);
		outputs = names;
	}
	if (!ret)
		ret = broker_start_with_parser(outputs, num, parser_run, &r->door, err);
	if (!ret)
		ret = memory_new(r->door, &r->memory, err);
	if (!ret)
		r->args->out.opener = broker_opener(r->door);
	if (!ret)
		ret = parser_new(r->door, &r->parser, err);
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
	struct record_args *a = r->args;
	int ret;

	if (!recording_by_containers(a) && a->out.by != BY_CONTAINER && a->out.by != BY_POD) {
		/* Worth having, but not worth failing for. */
		if (outputs_want_places(&a->out))
			containers_new(r->door, &r->containers, NULL);
		return 0;
	}
	ret = containers_new(r->door, &r->containers, err);
	for (size_t i = 0; !ret && i < a->containers.len; i++)
		ret = want_one(r, a->containers.data[i], false, err);
	for (size_t i = 0; !ret && i < a->cgroups.len; i++)
		ret = want_one(r, a->cgroups.data[i], true, err);
	return ret;
}

/*
 * How long this process and those it forks run at a stretch; 0 = as others do. From Linux 6.12 on one that asks for little
 * need not wait until others have used up theirs (kernel/sched/fair.c, PREEMPT_SHORT), which matters where the recorder
 * and the parser wait for each other. Anybody may ask; older kernels pass over it.
 */
static void set_slice(uint64_t ns)
{
	struct { /* struct sched_attr of linux/sched/types.h, as of Linux 3.14 */
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = sizeof(attr), .policy = SCHED_OTHER, .nice = getpriority(PRIO_PROCESS, 0), .runtime = ns };

	syscall(SYS_sched_setattr, 0, &attr, 0);
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
	set_slice(SHORT_SLICE_NS);
}

void recording_restore_priority(const struct recording *r)
{
	setpriority(PRIO_PROCESS, 0, r->nice);
	set_slice(0);
	elf_remote_relax(r->parser, r->nice);
}

/*
 * The perf.data misses what no record tells. Records of a process's start may still lie before it, so it is told there only
 * with a sample, which would have come after them, or where records were lost.
 */
static bool learned(void *data, const struct addrspaces_learned *learned)
{
	struct recording *r = data;

	if (!r->saving || (r->record && r->record->type != RECORD_SAMPLE && !r->lost_side))
		return false;
	saving_learned(r->saving, learned, r->record_ns);
	return true;
}

static void learned_build_id(void *data, const char *path, const uint8_t *id, size_t len)
{
	struct recording *r = data;

	if (r->saving)
		saving_build_id(r->saving, path, id, len);
}

static void choose_session(struct recording *r, const struct collector_opts *collect, bool keep_samples)
{
	const struct record_args *a = r->args;
	struct session_opts *session = &r->session_opts;

	*session = (struct session_opts){ .by_uid = a->by_uid, .uid = a->uid };
	outputs_session(&a->out, session);
	session->keep_samples |= keep_samples;
	session->door = r->door;
	session->map_dir = a->map_dir;
	session->memory = r->memory;
	session->worker = r->parser;
	session->learned = outputs_want_saving(&a->out) ? learned : NULL;
	session->build_id = learned_build_id;
	session->data = r;
	session->regs_mask = collect->user_regs;
	session->keep_build_ids = outputs_want_saving(&a->out);
	session->keep_files = a->symbols;
	if (collector_info(r->collector)->filtered) {
		session->pids = collect->pids;
		session->num_pids = collect->num_pids;
		session->tids = collect->target == TARGET_TIDS;
	}
	session->containers = r->containers;
	session->only_containers = recording_by_containers(a) && collector_info(r->collector)->filtered;
}

int recording_scan(struct recording *r, struct session *session, struct err *err)
{
	const struct record_args *a = r->args;
	int ret = 0;

	/* Even where all are asked for: where descriptors run out, these are to have theirs. */
	if (a->pids.len)
		ret = session_scan_tasks(session, a->pids.data, a->pids.len, err);
	else if (a->tids.len)
		ret = session_scan_tasks(session, a->tids.data, a->tids.len, err);
	if (ret < 0)
		return ret;
	return a->all || a->by_uid || recording_by_containers(a) || collector_info(r->collector)->filtered ?
		       session_scan(session, err) : 0;
}

/* Rings and our own processes take some; each file that is sampled one more, which can be done without. */
static int check_descriptors(struct err *err)
{
	const unsigned int others = 32, comfortable = 256;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int have = descriptors_allowed(), need = others + 2 * (cpus > 0 ? (unsigned int)cpus : 1);

	if (have && have < need)
		return err_set(err, EMFILE, "recording takes %u descriptors and one for each file that is sampled, and there are "
			       "%u: raise `ulimit -n`, to 1024 or more", need, have);
	if (have && have < comfortable)
		log_warn(NULL, "there are %u descriptors (`ulimit -n`), and each file that is sampled takes one: code in others will "
			 "have no names", have);
	return 0;
}

int recording_open(struct recording *r, const struct recording_opts *opts, struct err *err)
{
	struct record_args *a = r->args;
	struct collector_opts collect;
	int ret;

	describe_targets(r);
	describe_command(r);
	raise_priority(r);
	ret = start_broker(r, opts, err);
	if (!ret)
		ret = events_open(&r->events, err);
	if (!ret)
		ret = open_containers(r, err);
	if (!ret && a->command) {
		recording_restore_priority(r);
		ret = launch_prepare(a->command, &r->launch, err);
		raise_priority(r);
	}
	if (ret < 0)
		return ret;
	descriptors_raise(); /* not for the command */
	ret = check_descriptors(err);
	if (ret < 0)
		return ret;
	collect = collector_opts(r);
	ret = collector_open(&collect, &r->collector, err);
	if (ret < 0)
		return ret;
	choose_session(r, &collect, opts->keep_samples);
	ret = session_new(&r->session_opts, &r->session, err);
	if (!ret)
		ret = open_saving(r, err);
	if (!ret)
		ret = enter_jail(r, err);
	/* From here on what targets control is read. */
	return ret < 0 ? ret : recording_scan(r, r->session, err);
}

int recording_start(struct recording *r, double duration, uint64_t tick_ns, struct err *err)
{
	int ret;

	r->start_ns = clock_monotonic_ns();
	ret = collector_enable(r->collector, err);
	if (!ret && r->launch.pid)
		ret = launch_go(&r->launch, r->args->command[0], err);
	return ret < 0 ? ret : events_start(&r->events, (uint64_t)(duration * 1e9), tick_ns, err);
}

int recording_stop(struct recording *r, struct err *err)
{
	int ret = collector_disable(r->collector, err);

	r->end_ns = clock_monotonic_ns();
	return ret;
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
void recording_complete_stats(struct recording *r, struct profile_stats *stats)
{
	const struct collector_info *info = collector_info(r->collector);
	struct collector_counts counts = collector_counts(r->collector);
	uint64_t end_ns = r->end_ns ? r->end_ns : clock_monotonic_ns();
	uint64_t others_cpu_ns;

	broker_usage(r->door, &others_cpu_ns, &stats->peak_rss_kib);
	stats->lost = counts.lost;
	stats->throttled = counts.throttled;
	stats->side_lost = counts.side_lost;
	stats->malformed = counts.malformed;
	stats->wall_s = (double)(end_ns - r->start_ns) / 1e9;
	stats->start_ns = clock_ns(CLOCK_REALTIME) - (clock_monotonic_ns() - r->start_ns);
	stats->cpu_s = (double)(clock_cpu_ns() + others_cpu_ns) / 1e9; /* of all our processes */
	stats->stack_bytes = info->stack_bytes;
	stats->freq = info->freq_hz;
	stats->event = info->event;
	stats->targets = r->targets;
	stats->command = r->command_line;
	for (size_t i = 0; i < sizeof(info->notes) / sizeof(info->notes[0]) && info->notes[i]; i++)
		add_note(stats, info->notes[i]);
}

/* Containers are over when nothing runs in them any more; where all processes must be asked, that is done seldom. */
void recording_look_for_containers(struct recording *r)
{
	bool alive;

	if (!recording_by_containers(r->args) ||
	    (collector_info(r->collector)->filtered && r->ticks++ % SLOW_TICKS))
		return;
	alive = containers_wanted_alive(r->containers);
	r->seen_alive |= alive;
	if (!alive && r->seen_alive)
		r->events.stop = true;
}

