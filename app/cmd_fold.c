/* ringfold fold, and report: what `perf record` or ringfold recorded, as a profile. */
#include "app/command.h"

#include "app/input_kind.h"
#include "app/outputs.h"
#include "app/progress.h"
#include "app/replay.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "output/format.h"
#include "output/profile.h"
#include "target/zip_in.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_REPORT = 64 << 20, MAX_LINE = 4096 };

struct fold_args {
	struct outputs out; /* first, then this: the setters of their rows rely on it */
	struct replay_args replay;
};

static const struct opt fold_opts[] = { OUTPUT_ROWS, REPLAY_ROWS, STACK_ROWS(BY_RECORDED), WORD_ROWS, { 0 } };

static void args_deinit(struct fold_args *a)
{
	outputs_deinit(&a->out);
	replay_args_deinit(&a->replay);
}

static void nothing(int sig)
{
}

/*
 * Ctrl-C at `perf record -o - | ringfold fold -` is meant for the recorder: the stream then ends, and is folded. A
 * second one ends us.
 */
static void leave_interrupt_to_recorder(void)
{
	struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART | SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
}

static bool is_stream(const char *path)
{
	struct stat st;

	return !strcmp(path, "-") && fstat(STDIN_FILENO, &st) == 0 && !S_ISREG(st.st_mode);
}

/* All stacks where each sample is printed with its event; else those of several events do not mix. */
static bool all_tell_event(const struct outputs *o)
{
	for (size_t i = 0; i < o->list.len; i++) {
		if (!o->list.data[i].format || !o->list.data[i].format->tells_event)
			return false;
	}
	return true;
}

/* Exit status. */
static int write_profile(struct fold_args *a, struct replay *r, int run, const struct err *damage)
{
	struct profile *profile;
	struct err err = { 0 };
	uint64_t samples;
	int ret;

	if (replay_profile(r, NULL, NULL, &profile, &err) < 0)
		return command_failed(&err);
	ret = outputs_write(&a->out, profile, true, &err);
	samples = profile->stats.samples;
	if (!ret && !outputs_show_report(&a->out))
		progress_end(&profile->stats);
	profile_free(profile);
	if (ret < 0)
		return command_failed(&err);
	/* What could be read is written, and that it is not all must not pass unseen. */
	if (run > 0)
		return command_failed(damage);
	return samples ? 0 : EXIT_NO_SAMPLES;
}

/*
 * It ends when it is done, so what is freed is kept for what comes next rather than fetched anew. And as much as a recording
 * of that length will want at least is had in one go, in place of a page fault for each 4 KiB: 1.2 ms of 37. Huge pages would
 * save 3 ms more where the system has some at hand; where it has to make them first they cost 10 to 20 (medians of 25 folds
 * of a compile, after another program gave 35 MB back).
 */
static void prepare_heap(const char *path)
{
	enum { HEAP_MAX = 32 << 20, AT_ONCE_MAX = 4 << 20, PER_BYTE = 32, PAGE = 4096 };
	struct stat st;
	size_t bytes;
	char *heap;

	mallopt(M_MMAP_THRESHOLD, HEAP_MAX); /* the most that glibc takes */
	mallopt(M_TRIM_THRESHOLD, 2 * HEAP_MAX);
	mallopt(M_TOP_PAD, 2 << 20);
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	bytes = st.st_size / PER_BYTE < AT_ONCE_MAX ? (size_t)st.st_size / PER_BYTE : AT_ONCE_MAX;
	heap = bytes > 2 * PAGE ? malloc(bytes) : NULL;
	if (heap)
		madvise(heap + PAGE - (uintptr_t)heap % PAGE, (bytes - PAGE) & ~(size_t)(PAGE - 1), MADV_POPULATE_WRITE);
	free(heap);
}

static int fold(struct fold_args *a, const char *path, const char *command)
{
	_cleanup_(replay_freep) struct replay *r = NULL;
	struct replay_opts opts = { .path = path, .args = &a->replay };
	struct err err = { 0 };
	int run;

	prepare_heap(path);
	a->out.again = true;
	if (all_tell_event(&a->out) && !a->replay.events.len &&
	    !vec_push(&a->replay.events, "all")) {
		err_oom(&err);
		return command_failed(&err);
	}
	outputs_session(&a->out, &opts.session);
	if (is_stream(path))
		leave_interrupt_to_recorder();
	run = replay_open(&opts, &r, &err);
	if (run < 0) {
		input_advise(path, command, &err);
		return command_failed(&err);
	}
	run = replay_run(r, &err);
	if (run < 0)
		return err.code == EINVAL ? command_usage(command, &err) : command_failed(&err);
	return write_profile(a, r, run, &err);
}

static int run_command(int argc, char **argv, const struct command *command,
		       const struct format *format)
{
	_cleanup_(args_deinit) struct fold_args a = { .out = { .format = format } };
	const char *name = command->name;
	struct err err = { 0 };
	int first = opts_parse(fold_opts, argc, argv, &a, &err);

	if (first == -ECANCELED)
		return command_help(command);
	if (first < 0)
		return command_usage(name, &err);
	if (argc - first != 1) {
		err_set(&err, EINVAL, argc == first ? "which recording? Give a file, a directory or -"
						    : "one recording at a time");
		return command_usage(name, &err);
	}
	if (outputs_check(&a.out, &err) < 0)
		return err.code == EINVAL ? command_usage(name, &err) : command_failed(&err);
	return fold(&a, argv[first], name);
}

static int fold_run(int argc, char **argv)
{
	return run_command(argc, argv, &command_fold, NULL);
}

/* The report that a bundle has in it. */
static int report_bundle(const char *path)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	_cleanup_(strbuf_deinit) struct strbuf safe = { 0 };
	struct err err = { 0 };
	struct reader r;
	const char *line;
	size_t len;

	if (zip_in_read(path, "/report.txt", MAX_REPORT, &text, &err) < 0)
		return command_failed(&err);
	/* Whoever sent the zip wrote it. */
	r = reader_init(text.data, text.len);
	while (reader_line(&r, &line, &len)) {
		escape_line(&safe, line, len, MAX_LINE);
		strbuf_char(&safe, '\n');
	}
	fwrite(safe.data, 1, safe.len, stdout);
	if (safe.failed || fflush(stdout) || ferror(stdout)) {
		err_set(&err, EIO, "standard output: cannot be written");
		return command_failed(&err);
	}
	return 0;
}

static int report_run(int argc, char **argv)
{
	const char *last = argv[argc - 1], *end = strrchr(last, '.');

	if (argc == 2 && end && !strcmp(end, ".zip"))
		return report_bundle(last);
	return run_command(argc, argv, &command_report, format_find("report"));
}

const struct command command_fold = {
	.name = "fold",
	.summary = "stacks of a perf.data file, directory or stream",
	.usage = "[options] FILE|DIRECTORY|-",
	.about = "Stacks of what `perf record` or `ringfold record -o NAME.data` wrote.",
	.examples = "ringfold fold perf.data -o perf.folded\n"
		    "ringfold fold perf.data | flamegraph.pl > perf.svg\n"
		    "perf record -g -o - COMMAND | ringfold fold -      a stream\n"
		    "ssh HOST cat perf.data | ringfold fold -           a file that comes through a pipe\n"
		    "ringfold fold --inline --time 10,20 perf.data      ten seconds of it, inlined functions too\n",
	.opts = fold_opts,
	.run = fold_run,
};

const struct command command_report = {
	.name = "report",
	.summary = "the same as text: hottest functions, self and total",
	.usage = "[options] FILE|DIRECTORY|-",
	.about = "What `ringfold fold` takes, as text: hottest functions, self and total, quality. Of a NAME.trace.zip the report in it.",
	.examples = "ringfold report perf.data\n"
		    "perf record -g -o - COMMAND | ringfold report -\n",
	.opts = fold_opts,
	.run = report_run,
};
