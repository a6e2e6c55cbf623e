/* `ringfold trap`: samples into a flight recorder, and writes the seconds around what it waits for. */
#include "app/command.h"

#include "app/flight.h"
#include "app/managed.h"
#include "app/progress.h"
#include "app/recording.h"
#include "app/trap_hand.h"
#include "app/trap_rule.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "collector/collector.h"
#include "output/profile.h"
#include "target/stamp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum { TICK_NS = 500000000, DEFAULT_HZ = 49, MAX_RULES = 16, MAX_STAMPS = 100 /* of one second */ };
static const uint64_t exit_ns = 3000000000; /* how long an exit may take behind that of its events */
static const double default_before = 10, default_after = 5, default_cooldown = 60, default_renew = 600;

struct trap_args {
	struct record_args rec; /* first: the setters of its rows take this for it */
	VEC(struct trap_rule) rules;
	bool any;
	double before, cooldown, renew;
	uint64_t max, quota;
	const char *hook;
};

static int set_when(void *data, const char *arg, struct err *err)
{
	struct trap_args *a = data;
	struct trap_rule rule;
	int r = trap_rule_parse(arg, &rule, err);

	if (!r && a->rules.len == MAX_RULES)
		r = err_set(err, EINVAL, "more than %d rules", MAX_RULES);
	if (!r && !vec_push(&a->rules, rule))
		r = err_oom(err);
	return r;
}

static int set_any(void *data, const char *arg, struct err *err)
{
	((struct trap_args *)data)->any = true;
	return 0;
}

static int set_before(void *data, const char *arg, struct err *err)
{
	struct trap_args *a = data;
	int r = opts_seconds(arg, &a->before, err);

	return r || a->before <= 600 ? r : err_set(err, EINVAL, "\"%s\": up to 10 minutes are kept", arg);
}

static int set_cooldown(void *data, const char *arg, struct err *err)
{
	return opts_seconds(arg, &((struct trap_args *)data)->cooldown, err);
}

static int set_renew(void *data, const char *arg, struct err *err)
{
	return opts_seconds(arg, &((struct trap_args *)data)->renew, err);
}

static int set_max(void *data, const char *arg, struct err *err)
{
	return opts_u64(arg, 1, UINT32_MAX, &((struct trap_args *)data)->max, err);
}

static int set_quota(void *data, const char *arg, struct err *err)
{
	return opts_bytes(arg, &((struct trap_args *)data)->quota, err);
}

static int set_hook(void *data, const char *arg, struct err *err)
{
	((struct trap_args *)data)->hook = arg;
	return 0;
}

static const struct opt trap_opts[] = {
	{ 0, "when", "EXPR", "what to wait for; repeatable: all must hold at once\n"
	  "cpu(pid=N)>80%/2s, cpu(container=ID)<3%/10s, cpu(comm=X), cpu(cgroup=PATH),\n"
	  "cpu>90%/5s, psi(cpu)>20%/5s, psi(memory,full), runq>8/5s, start(comm=X),\n"
	  "exit(pid=N), status(COMMAND)!=0/10s", set_when },
	{ 0, "any", NULL, "one of them is enough", set_any },
	{ 0, "before", "SEC", "how much of the time before it is in the capture (10)", set_before },
	{ 'd', "duration", "SEC", "how much of the time after it (5)", recording_set_duration },
	{ 0, "cooldown", "SEC", "least time between two captures (60)", set_cooldown },
	{ 0, "max", "N", "end after so many captures", set_max },
	{ 0, "quota", "BYTES", "room for captures: before one is written the oldest are removed, of\n"
	  "earlier runs too; one that is larger is not written", set_quota },
	{ 0, "renew", "SEC", "how often what is long over is given back (600)", set_renew },
	{ 0, "exec", "CMD", "run by sh when a capture is written, its files as $1 and on; 30 s at most", set_hook },
	TARGET_ROWS,
	{ 'F', "freq", "HZ", "samples per second and CPU (49)", recording_set_freq },
	EVENT_ROWS,
	OUTPUT_ROWS,
	COPY_ROWS,
	{ 0, "no-dotnet", NULL, "do not ask .NET runtimes for their methods", recording_set_no_dotnet },
	STACK_ROWS(BY_LIVE),
	WORD_ROWS,
	{ 0 },
};

static void trap_args_deinit(struct trap_args *a)
{
	vec_deinit(&a->rules);
	record_args_deinit(&a->rec);
}

/* --- names --- */

/* Outputs as they are given, and how those of captures are called: "NAME-20261121-182233.html". */
struct trap_names {
	VEC(char *) patterns; /* with STAMP_MARK, in the order of the outputs; then that of --stats */
};

static void names_deinit(struct trap_names *n)
{
	for (size_t i = 0; i < n->patterns.len; i++)
		free(n->patterns.data[i]);
	vec_deinit(&n->patterns);
}

/* The stamp goes before the first dot of the last part: ".speedscope.json" is one extension. */
static int add_pattern(struct trap_names *n, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	const char *dot = strchr(slash ? slash + 1 : path, '.');
	size_t len = dot ? (size_t)(dot - path) : strlen(path);
	char *pattern;

	if (asprintf(&pattern, "%.*s-%c%s", (int)len, path, STAMP_MARK, dot ? dot : "") < 0)
		return err_oom(err);
	if (vec_push(&n->patterns, pattern))
		return 0;
	free(pattern);
	return err_oom(err);
}

static int make_patterns(const struct outputs *out, struct trap_names *n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < out->list.len && !r; i++)
		r = add_pattern(n, out->list.data[i].path, err);
	if (!r && out->stats_path)
		r = add_pattern(n, out->stats_path, err);
	return r;
}

/* --- the trap --- */

struct trap {
	const struct trap_args *args;
	struct recording *rec;
	struct flight *flight;
	struct trap_hand *hand;
	struct trap_names names;
	struct trap_state states[MAX_RULES];
	uint64_t trigger_ns;  /* of the capture that is due; 0 = none */
	uint64_t ready_ns;    /* no capture before that */
	uint64_t captures, failed;
	bool ended;           /* what is recorded; by itself */
	bool pointless;       /* what is waited for cannot happen any more */
	char last_stamp[32];
	unsigned int same_second;
};

static void trap_deinit(struct trap *t)
{
	flight_free(t->flight);
	trap_hand_free(t->hand);
	names_deinit(&t->names);
}

static uint64_t to_ns(double seconds)
{
	return (uint64_t)(seconds * 1e9);
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void make_stamp(struct trap *t, char *ret, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[32] = "00000000-000000";

	if (localtime_r(&now, &tm))
		strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &tm);
	t->same_second = strcmp(text, t->last_stamp) ? 0 : t->same_second + 1;
	memcpy(t->last_stamp, text, sizeof(text));
	if (t->same_second)
		snprintf(ret, size, "%s-%u", text, t->same_second + 1);
	else
		snprintf(ret, size, "%s", text);
}

static bool never_stop(void *data)
{
	struct trap *t = data;

	events_poll(&t->rec->events);
	return t->rec->events.skip_names;
}

static const char *what_held(struct trap *t, char *text, size_t size, uint64_t now_ns)
{
	size_t len = 0;

	text[0] = 0;
	for (size_t i = 0; i < t->args->rules.len; i++) {
		const struct trap_rule *rule = &t->args->rules.data[i];

		if (!trap_state_holds(&t->states[i], rule, now_ns) || len >= size)
			continue;
		len += (size_t)snprintf(text + len, size - len, "%s%s", len ? " and " : "", rule->text);
		if (trap_rule_is_event(rule) || len >= size)
			continue;
		len += (size_t)snprintf(text + len, size - len, " (%.1f%s)", t->states[i].mean,
					rule->metric == TRAP_CPU || rule->metric == TRAP_PSI ? " %" : "");
	}
	return text;
}

static void hear_gone(struct trap *t, size_t rule, uint64_t time_ns)
{
	if (!t->states[rule].gone_ns)
		log_info("trap", "%s: that is not there any more", t->args->rules.data[rule].text);
	trap_state_gone(&t->states[rule], time_ns);
}

static void hear_values(void *data)
{
	struct trap *t = data;
	struct trap_value value;

	while (trap_hand_value(t->hand, &value)) {
		if (value.rule >= t->args->rules.len)
			continue;
		if (value.event)
			trap_state_event(&t->states[value.rule], value.time_ns);
		else if (value.gone)
			hear_gone(t, value.rule, value.time_ns);
		else
			trap_state_value(&t->states[value.rule], &t->args->rules.data[value.rule], value.time_ns,
					 value.value);
		log_debug("trap", "%s: %.1f now, %.1f in the mean", t->args->rules.data[value.rule].text, value.value,
			  t->states[value.rule].mean);
	}
}

struct capture_paths {
	const char *path[64];
	size_t num;
};

static void free_paths(struct capture_paths *p)
{
	for (size_t i = 0; i < p->num; i++)
		free((char *)p->path[i]);
	p->num = 0;
}

static int make_paths(struct trap *t, struct capture_paths *ret, struct err *err)
{
	const size_t most = sizeof(ret->path) / sizeof(ret->path[0]);
	char stamp[64];

	make_stamp(t, stamp, sizeof(stamp));
	for (ret->num = 0; ret->num < t->names.patterns.len && ret->num < most; ret->num++) {
		ret->path[ret->num] = stamp_put(t->names.patterns.data[ret->num], stamp);
		if (!ret->path[ret->num])
			return err_oom(err);
	}
	return 0;
}

/* Every output under its name with the stamp of now; -EEXIST where another trap had the same name in the same second. */
static int write_as(struct trap *t, const struct profile *profile, const struct capture_paths *paths, struct err *err)
{
	struct outputs out = t->args->rec.out;
	struct output list[64];
	int r;

	for (size_t i = 0; i < out.list.len && i < paths->num; i++)
		list[i] = (struct output){ paths->path[i], out.list.data[i].format };
	out.list.data = list;
	if (out.stats_path)
		out.stats_path = paths->path[paths->num - 1];
	r = outputs_write(&out, profile, false, err);
	t->captures += !r;
	/* Of one whose name was taken only what is there counts; it is written again. */
	trap_hand_captured(t->hand, paths->path, paths->num, !r);
	return r;
}

static int make_room(struct trap *t, const struct profile *profile, struct err *err)
{
	uint64_t bytes;
	int r;

	if (!t->args->quota)
		return 0;
	r = outputs_size(&t->args->rec.out, profile, &bytes, err);
	return r < 0 ? r : trap_hand_make_room(t->hand, bytes, hear_values, t, err);
}

static int write_capture(struct trap *t, const struct profile *profile, struct err *err)
{
	struct capture_paths paths = { 0 };
	int r = make_room(t, profile, err);

	for (int i = 0; i < MAX_STAMPS && !r; i++) {
		r = make_paths(t, &paths, err);
		if (!r)
			r = write_as(t, profile, &paths, err);
		free_paths(&paths);
		if (r != -EEXIST)
			break;
		r = i + 1 < MAX_STAMPS ? 0 : r;
	}
	return r;
}

static int capture(struct trap *t, uint64_t end_ns, struct err *err)
{
	uint64_t before = to_ns(t->args->before);
	uint64_t from = t->trigger_ns > before ? t->trigger_ns - before : 0;
	struct profile *profile;
	int r;

	r = flight_profile(t->flight, later(from, t->rec->start_ns), end_ns, never_stop, t, &profile, err);
	if (r < 0)
		return r;
	recording_complete_stats(t->rec, &profile->stats);
	profile->stats.wall_s = (double)(end_ns - later(from, t->rec->start_ns)) / 1e9;
	r = write_capture(t, profile, err);
	profile_free(profile);
	return r;
}

static void spring(struct trap *t, uint64_t now_ns, const char *why)
{
	t->trigger_ns = now_ns;
	log_info("trap", "%s: a capture of the %g s before and the %g s after", why, t->args->before, t->args->rec.duration);
}

static void look_whether_due(struct trap *t, uint64_t now_ns)
{
	char text[512];

	if (t->trigger_ns || now_ns < t->ready_ns ||
	    !trap_due(t->args->rules.data, t->states, t->args->rules.len, t->args->any, now_ns))
		return;
	spring(t, now_ns, what_held(t, text, sizeof(text), now_ns));
}

static void take_record(void *data, const struct record *rec)
{
	flight_record(((struct trap *)data)->flight, rec);
}

static void show_progress(struct trap *t, uint64_t now_ns)
{
	char line[300];
	size_t len;

	len = (size_t)snprintf(line, sizeof(line), "waiting, %llu captures ", (unsigned long long)t->captures);
	for (size_t i = 0; i < t->args->rules.len && len < sizeof(line); i++) {
		const struct trap_rule *rule = &t->args->rules.data[i];

		if (!trap_rule_is_event(rule))
			len += (size_t)snprintf(line + len, sizeof(line) - len, " %s: %.1f", rule->text,
						t->states[i].mean);
	}
	progress_text(line);
}

/* Processes that have ended do not come back. */
static bool is_pointless(const struct trap *t, uint64_t now_ns)
{
	size_t over = 0;

	for (size_t i = 0; i < t->args->rules.len; i++)
		over += trap_state_over(&t->states[i], &t->args->rules.data[i], now_ns);
	return !t->trigger_ns && over && (!t->args->any || over == t->args->rules.len);
}

static int tick(struct trap *t, uint64_t now_ns, struct err *err)
{
	struct events *e = &t->rec->events;
	struct err why = { 0 };

	e->tick = false;
	t->pointless = is_pointless(t, now_ns);
	show_progress(t, now_ns);
	recording_look_for_containers(t->rec);
	if (collector_rescan_cpus(t->rec->collector, &why) < 0)
		log_debug("trap", "CPUs that came are looked for again later: %s", why.msg);
	return flight_tick(t->flight, now_ns, t->trigger_ns != 0, err);
}

static int drain(struct trap *t, bool all, struct err *err)
{
	struct collector_sink sink = { .record = take_record, .data = t };

	int r = collector_drain(t->rec->collector, &sink, all, err);

	if (t->rec->managed)
		managed_poll(t->rec->managed);
	return r;
}

/* What failed to be written is said, and the trap goes on: the next one may fit. */
static void try_capture(struct trap *t, uint64_t end_ns)
{
	struct err err = { 0 };

	if (capture(t, end_ns, &err) < 0) {
		log_warn("trap", "error: %s", err.msg);
		t->failed++;
	}
	t->trigger_ns = 0;
	t->ready_ns = end_ns + to_ns(t->args->cooldown);
}

static bool is_over(const struct trap *t)
{
	const struct events *e = &t->rec->events;

	return t->ended || t->pointless || e->stop || (t->args->max && t->captures >= t->args->max) || trap_hand_lost(t->hand);
}

enum { WAIT_EVENTS = 2, WAIT_TARGETS_ENDED = 3 };

static int wait_and_capture(struct trap *t, struct err *err)
{
	struct events *e = &t->rec->events;
	uint64_t after = to_ns(t->args->rec.duration);

	while (!is_over(t)) {
		int what = collector_wait(t->rec->collector, e->epoll_fd, err), r;
		uint64_t now = clock_monotonic_ns();

		r = what < 0 ? what : drain(t, false, err);
		if (r < 0)
			return r;
		if (what == WAIT_EVENTS) {
			events_poll(e);
			hear_values(t);
			look_whether_due(t, now);
		}
		if (e->write_now) { /* SIGUSR1: as if what it waits for had happened */
			e->write_now = false;
			if (!t->trigger_ns)
				spring(t, now, "SIGUSR1");
		}
		if (t->trigger_ns && now >= t->trigger_ns + after)
			try_capture(t, now);
		if (e->tick)
			r = tick(t, now, err);
		if (r < 0)
			return r;
		t->ended |= what == WAIT_TARGETS_ENDED;
	}
	return 0;
}

static bool waits_for_exit(const struct trap *t)
{
	for (size_t i = 0; i < t->args->rules.len; i++) {
		if (t->args->rules.data[i].metric == TRAP_EXIT)
			return true;
	}
	return false;
}

/*
 * What was recorded has ended: that may be what is waited for, and was not yet measured. Events end before their process has
 * (perf_event_exit_task in do_exit of kernel/exit.c), hence again and again for a while.
 */
static void look_once_more(struct trap *t)
{
	uint64_t now = clock_monotonic_ns(), end = now + (waits_for_exit(t) ? exit_ns : 0);

	do {
		struct timespec pause = { .tv_nsec = 10000000 };

		trap_hand_measure_now(t->hand, hear_values, t);
		now = clock_monotonic_ns();
		look_whether_due(t, now);
		if (!t->trigger_ns && now < end)
			nanosleep(&pause, NULL);
	} while (!t->trigger_ns && !trap_hand_lost(t->hand) && now < end);
	if (!t->trigger_ns && !t->captures)
		log_info("trap", "what was recorded has ended");
}

/* A Ctrl-C that comes while a hook is waited for; the first one, which ended the trap, does not count. */
static bool is_hurried(void *data)
{
	struct trap *t = data;
	struct events *e = &t->rec->events;
	bool was = e->stop;

	e->stop = e->skip_names = e->tick = false;
	events_poll(e);
	if (e->stop)
		return true;
	e->stop = was;
	return false;
}

static int trap_run_loop(struct trap *t, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN };
	int r = recording_start(t->rec, 0, TICK_NS, err);

	if (!r && epoll_ctl(t->rec->events.epoll_fd, EPOLL_CTL_ADD, trap_hand_fd(t->hand), &event) < 0)
		r = err_set(err, errno, "epoll: %s", strerror(errno));
	if (!r)
		r = flight_new(t->rec, to_ns(t->args->before + t->args->rec.duration) + 2 * (uint64_t)TICK_NS,
			       to_ns(t->args->renew), &t->flight, err);
	if (!r)
		r = wait_and_capture(t, err);
	if (r < 0)
		return r;
	if (t->ended || (t->rec->events.stop && !t->rec->events.stop_signal))
		look_once_more(t);
	r = recording_stop(t->rec, err);
	if (!r)
		r = drain(t, true, err);
	if (t->rec->managed)
		managed_end(t->rec->managed);
	/* Stopped in the middle of a capture, or what was recorded has ended: what there is of it. */
	if (!r && t->trigger_ns)
		try_capture(t, clock_monotonic_ns());
	log_status(NULL);
	if (t->pointless)
		log_info("trap", "what it waits for cannot happen any more");
	trap_hand_finish(t->hand, t->rec->events.epoll_fd, is_hurried, t);
	log_info("trap", "%llu capture%s", (unsigned long long)t->captures, t->captures == 1 ? "" : "s");
	log_debug("trap", "%u times a new session took over", flight_turns(t->flight));
	if (r >= 0)
		r = trap_hand_check(t->hand, err);
	if (r >= 0 && t->failed)
		r = err_set(err, EIO, "%llu capture%s could not be written", (unsigned long long)t->failed, t->failed == 1 ? "" : "s");
	return r;
}

/* --- the command --- */

static int check_args(struct trap_args *a, struct err *err)
{
	struct record_args *rec = &a->rec;

	if (!a->rules.len)
		return err_set(err, EINVAL, "what to wait for? --when EXPR");
	if (rec->command)
		return err_set(err, EINVAL, "a trap runs no command: \"%s\"", rec->command[0]);
	if (!recording_has_target(rec))
		rec->all = true;
	if (!rec->freq && !rec->period)
		rec->freq = DEFAULT_HZ;
	if (!rec->out.list.len && !vec_push(&rec->out.list, ((struct output){ .path = "ringfold-trap.folded" })))
		return err_oom(err);
	for (size_t i = 0; i < rec->out.list.len; i++) {
		if (!strcmp(rec->out.list.data[i].path, "-") || strchr(rec->out.list.data[i].path, '\n'))
			return err_set(err, EINVAL, "captures are files: -o NAME.folded becomes NAME-DATE-TIME.folded");
	}
	return recording_check_targets(rec, err);
}

static int trap_main(int argc, char **argv)
{
	_cleanup_(trap_args_deinit) struct trap_args args = {
		.before = default_before, .cooldown = default_cooldown, .renew = default_renew, .rec = { .duration = default_after }
	};
	_cleanup_(recording_close) struct recording rec = RECORDING_INIT;
	_cleanup_(trap_deinit) struct trap t = { .args = &args, .rec = &rec };
	struct recording_opts opts = { .keep_samples = true };
	struct trap_hand_opts hand;
	struct err err = { 0 };
	int first = opts_parse(trap_opts, argc, argv, &args, &err);

	if (first == -ECANCELED)
		return command_help(&command_trap);
	if (first < 0)
		return command_usage("trap", &err);
	rec.args = &args.rec;
	rec.argv = argv;
	args.rec.command = first < argc ? argv + first : NULL;
	if (check_args(&args, &err) < 0 || outputs_check(&args.rec.out, &err) < 0)
		return err.code == EINVAL ? command_usage("trap", &err) : command_failed(&err);
	if (make_patterns(&args.rec.out, &t.names, &err) < 0)
		return command_failed(&err);
	hand = (struct trap_hand_opts){
		.rules = args.rules.data, .num_rules = args.rules.len,
		.names = (const char *const *)t.names.patterns.data, .num_names = t.names.patterns.len,
		.quota = args.quota, .hook = args.hook,
	};
	opts.outputs = hand.names;
	opts.num_outputs = hand.num_names;
	if (trap_hand_start(&hand, &t.hand, &err) < 0 || recording_open(&rec, &opts, &err) < 0 ||
	    recording_ask_runtimes(&rec, true, &err) < 0)
		return command_failed(&err);
	progress_start(collector_info(rec.collector), rec.targets, outputs_method_name(args.rec.out.method));
	return trap_run_loop(&t, &err) < 0 ? command_failed(&err) : 0;
}

const struct command command_trap = {
	.name = "trap",
	.summary = "wait for a moment, and write the seconds before and after it",
	.usage = "--when EXPR [--when EXPR] [options]",
	.about = "Samples into a recorder that keeps the last seconds, and writes a profile of what came before and after, each time\n"
		 "what it waits for happens. -o NAME.folded becomes NAME-DATE-TIME.folded; several -o are written of one capture.\n"
		 "CPU is in percent of one CPU, that of the machine in percent of all. The mean of the time behind '/' must fit; it\n"
		 "counts again once it has not fitted for twice as long. SIGUSR1 is a trigger too. Ctrl-C ends it.",
	.examples = "ringfold trap --when 'cpu(container=3f2a)<3%/10s' --container 3f2a -o starved.folded\n"
		    "ringfold trap --when 'cpu(pid=1234)>180%/2s' --before 20 --max 3 -o spike.data.txt -o spike.folded\n"
		    "ringfold trap --when 'psi(memory,full)>10%/5s' --when 'runq>8/5s' --any --quota 500M\n"
		    "ringfold trap --when 'status(curl -sf localhost/health)!=0/10s' --exec 'logger \"see $1\"'\n",
	.opts = trap_opts,
	.run = trap_main,
};
