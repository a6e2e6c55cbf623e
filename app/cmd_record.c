#include "app/command.h"

#include "app/managed.h"
#include "app/progress.h"
#include "app/recording.h"
#include "app/saving.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/opts.h"
#include "collector/collector.h"
#include "output/profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { TICK_NS = 1000000000 };

static int set_symbols(void *data, const char *arg, struct err *err)
{
	((struct record_args *)data)->symbols = true;
	return 0;
}

#define RECORD_ROWS \
	TARGET_ROWS, \
	{ 'F', "freq", "HZ", "samples per second and CPU (99)", recording_set_freq }, \
	{ 'd', "duration", "SEC", "stop after 5, 0.5, 2m; else at Ctrl-C or when the targets end", \
	  recording_set_duration }, \
	EVENT_ROWS, \
	OUTPUT_ROWS, \
	COPY_ROWS, \
	{ 0, "no-dotnet", NULL, "do not ask .NET runtimes for their methods", recording_set_no_dotnet }, \
	STACK_ROWS(BY_LIVE), \
	WORD_ROWS

static const struct opt bundle_opts[] = {
	{ 0, "symbols", NULL, "the programs and debug files of sampled code too, by build-id, as\n"
	  "PPROF_BINARY_PATH finds them", set_symbols },
	RECORD_ROWS,
	{ 0 },
};

static const struct opt record_opts[] = {
	RECORD_ROWS,
	{ 0 },
};

static bool naming_stopped(void *data)
{
	struct recording *r = data;

	events_poll(&r->events);
	return r->events.skip_names || !outputs_want_profile(&r->args->out);
}

/* The profile so far, into every output. Returns how many samples it holds, or -errno. */
static int64_t write_profile(struct recording *r, bool last, struct err *err)
{
	struct profile *profile;
	int64_t samples;
	int ret;

	ret = session_profile(r->session, last, naming_stopped, r, &profile, err);
	if (ret < 0)
		return ret;
	recording_complete_stats(r, &profile->stats);
	if (last) { /* its stacks are the profile's now; writers need room for their own order */
		session_free(r->session);
		r->session = NULL;
	}
	log_status(NULL);
	ret = outputs_write(&r->args->out, profile, last, err);
	samples = (int64_t)profile->stats.samples;
	if (last && !ret && !outputs_show_report(&r->args->out))
		progress_end(&profile->stats);
	profile_free(profile);
	return ret < 0 ? ret : samples;
}

static void handle_events(struct recording *r)
{
	struct events *e = &r->events;
	struct err write_err = { 0 }, rescan_err = { 0 };

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
		progress_tick(clock_monotonic_ns() - r->start_ns, (uint64_t)(r->args->duration * 1e9), &p, &counts);
		session_tick(r->session);
		recording_look_for_containers(r);
		if (collector_rescan_cpus(r->collector, &rescan_err) < 0)
			log_debug("app", "CPUs that came are looked for again later: %s", rescan_err.msg);
	}
	if (e->write_now) {
		e->write_now = false;
		if (write_profile(r, false, &write_err) < 0)
			log_warn(NULL, "error: %s", write_err.msg); /* the recording goes on */
	}
}

/* With what the session made of it, so that a fold of the file comes to the same stack. */
static void save_sample(struct recording *r, const struct record *rec, bool held)
{
	struct session_copy copy = session_last_copy(r->session);
	struct record told = *rec;

	/* It is walked later, and may then need what a fold needs too. */
	if (held)
		copy = (struct session_copy){
			.continued = rec->sample.stack_bytes && rec->sample.stack_bytes == rec->sample.stack_size,
		};
	if (copy.cut)
		told.sample.stack_size = told.sample.stack_bytes;
	if (copy.continued)
		told.sample.num_user_chain = record_user_chain(&rec->sample, &told.sample.user_chain);
	saving_record(r->saving, &told);
}

static void take_record(void *data, const struct record *rec)
{
	struct recording *r = data;
	bool sample = rec->type == RECORD_SAMPLE;
	bool saved, held;

	r->record = rec;
	r->record_ns = rec->time_ns;
	r->lost_side |= rec->type == RECORD_LOST && rec->lost.side;
	saved = r->saving && (!sample || session_wants(r->session, rec));
	held = r->managed && managed_takes(r->managed, rec);
	if (!held)
		session_record(r->session, rec);
	if (saved && sample)
		save_sample(r, rec, held);
	else if (saved && !session_overtook(r->session, rec))
		saving_record(r->saving, rec);
	r->record = NULL;
}

static int drain(struct recording *r, bool all, struct err *err)
{
	struct collector_sink sink = { .record = take_record, .data = r };
	int ret = collector_drain(r->collector, &sink, all, err);

	if (r->managed)
		managed_poll(r->managed);
	if (ret < 0 || !r->saving)
		return ret;
	/* With nothing left to write to, going on makes no sense; saving_end says what happened. */
	if (!saving_flush(r->saving) && !outputs_want_profile(&r->args->out))
		r->events.stop = true;
	return 0;
}

enum { WAIT_DRAIN = 1, WAIT_EVENTS = 2, WAIT_TARGETS_ENDED = 3 };

static int record(struct recording *r, struct err *err)
{
	bool ended = false;
	int ret;

	ret = recording_start(r, r->args->duration, TICK_NS, err);
	while (!ret && !ended && !r->events.stop && !r->events.time_up) {
		int what = collector_wait(r->collector, r->events.epoll_fd, err);

		if (what < 0)
			return what;
		ret = drain(r, false, err);
		if (!ret && what == WAIT_EVENTS)
			handle_events(r);
		ended = r->targets_ended = what == WAIT_TARGETS_ENDED;
	}
	if (ret < 0)
		return ret;
	ret = recording_stop(r, err);
	if (!ret)
		ret = drain(r, true, err);
	if (r->managed)
		managed_end(r->managed);
	recording_restore_priority(r);
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

/* The name of a bundle is an output: "slow" is slow.trace.zip. */
static int add_bundle(struct record_args *args, const char *name, char **ret, struct err *err)
{
	static const char extension[] = ".trace.zip";
	size_t len = strlen(name), tail = sizeof(extension) - 1;
	bool whole = len > tail && !strcmp(name + len - tail, extension);

	if (!*name || !strcmp(name, "-"))
		return err_set(err, EINVAL, "a bundle needs a name");
	if (asprintf(ret, "%s%s", name, whole ? "" : extension) < 0 ||
	    !vec_push(&args->out.list, ((struct output){ .path = *ret })))
		return err_oom(err);
	return 0;
}

static int run_command(int argc, char **argv, const struct command *command, bool bundle)
{
	_cleanup_(record_args_deinit) struct record_args args = { 0 };
	_cleanup_(recording_close) struct recording r = RECORDING_INIT;
	const struct recording_opts opts = { 0 };
	_cleanup_free_ char *path = NULL;
	struct err err = { 0 };
	int first;

	args.out.may_save = true;
	first = opts_parse(command->opts, argc, argv, &args, &err);
	if (first == -ECANCELED)
		return command_help(command);
	if (first >= 0 && bundle && first == argc)
		first = err_set(&err, EINVAL, "what is the bundle to be called?");
	else if (first >= 0 && bundle && add_bundle(&args, argv[first++], &path, &err) < 0)
		first = -err.code;
	if (first < 0)
		return command_usage(command->name, &err);
	r.args = &args;
	r.argv = argv;
	args.command = first < argc ? argv + first : NULL;
	if (bundle && !recording_has_target(&args))
		args.all = true;
	if (recording_check_targets(&args, &err) < 0)
		return command_usage(command->name, &err);
	if (outputs_check(&args.out, &err) < 0)
		return err.code == EINVAL ? command_usage(command->name, &err) : command_failed(&err);
	if (recording_open(&r, &opts, &err) < 0 || recording_ask_runtimes(&r, true, &err) < 0)
		return command_failed(&err);
	progress_start(collector_info(r.collector), r.targets, outputs_method_name(args.out.method));
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

static int record_run(int argc, char **argv)
{
	return run_command(argc, argv, &command_record, false);
}

static int bundle_run(int argc, char **argv)
{
	return run_command(argc, argv, &command_bundle, true);
}

const struct command command_bundle = {
	.name = "bundle",
	.summary = "record, and pack everything a support case needs into one zip",
	.usage = "NAME [record options] [-- COMMAND ARG..]",
	.about = "NAME.trace.zip holds what PerfView opens, a page with the flame graph, collapsed stacks, pprof, a text report, the\n"
		 "names of JIT code that were used, the quality of the profile, and a manifest of machine, options and what was\n"
		 "missing. Names are resolved; no memory of any program is in it. The whole machine, unless a target is named.",
	.examples = "ringfold bundle slow -d 30                      the whole machine: slow.trace.zip\n"
		    "ringfold bundle case-17 --container 3f2a -d 60 --symbols\n"
		    "ringfold report slow.trace.zip                  its report, without unpacking it\n",
	.opts = bundle_opts,
	.run = bundle_run,
};

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
