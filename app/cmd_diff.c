/*
 * ringfold diff: two profiles held against each other. Each is a file of collapsed stacks, a recording, which is folded, or a
 * bundle, which has its stacks in it.
 */
#include "app/command.h"

#include "app/input_kind.h"
#include "app/outputs.h"
#include "app/replay.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/outfile.h"
#include "base/strbuf.h"
#include "output/diff.h"
#include "output/format.h"
#include "output/profile.h"
#include "target/given.h"
#include "target/zip_in.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_INPUT = 1 << 30, BLOCK = 1 << 16 };

struct diff_out {
	const char *path;
	const struct diff_format *format;
};

struct diff_args {
	VEC(struct diff_out) outputs;
	const struct diff_format *format; /* -f; NULL = not given */
};

static int set_output(void *data, const char *arg, struct err *err)
{
	struct diff_args *a = data;

	if (!*arg)
		return err_set(err, EINVAL, "an output needs a name");
	return vec_push(&a->outputs, ((struct diff_out){ arg, NULL })) ? 0 : err_oom(err);
}

static int set_format(void *data, const char *arg, struct err *err)
{
	struct diff_args *a = data;

	a->format = diff_format_find(arg);
	return a->format ? 0 : err_set(err, EINVAL, "\"%s\" is none of text, collapsed, html", arg);
}

static const struct opt diff_opts[] = {
	{ 'o', "output", "FILE", "repeatable; NAME.html, NAME.folded; - is stdout (text)", set_output },
	{ 'f', "format", "NAME", "text, collapsed or html, where the name does not tell", set_format },
	WORD_ROWS,
	{ 0 },
};

static void args_deinit(struct diff_args *a)
{
	vec_deinit(&a->outputs);
}

static void diff_freep(struct diff **diff)
{
	diff_free(*diff);
}

static int check_outputs(struct diff_args *a, struct err *err)
{
	struct diff_out to_stdout = { "-", NULL };

	if (!a->outputs.len && !vec_push(&a->outputs, to_stdout))
		return err_oom(err);
	for (size_t i = 0; i < a->outputs.len; i++) {
		struct diff_out *out = &a->outputs.data[i];
		bool is_stdout = !strcmp(out->path, "-");

		out->format = is_stdout ? NULL : diff_format_for_path(out->path);
		if (!out->format)
			out->format = a->format;
		if (!out->format && is_stdout)
			out->format = diff_format_find("text");
		if (!out->format)
			return err_set(err, EINVAL, "-o %s: its name does not tell a format; give one with -f", out->path);
	}
	return 0;
}

/* Input */

static int read_block(int fd, struct strbuf *text, const char *path, struct err *err)
{
	char block[BLOCK];
	ssize_t num = fd_read_some(fd, block, sizeof(block));

	if (num < 0)
		return err_set(err, (int)-num, "read %s: %s", path, strerror((int)-num));
	if (text->len + (size_t)num > MAX_INPUT)
		return err_set(err, EFBIG, "%s: collapsed stacks of more than 1 GiB", path);
	strbuf_add(text, block, (size_t)num);
	return text->failed ? err_oom(err) : num > 0;
}

/* All of it, or only the start where it is none of collapsed stacks; *kind tells. */
static int read_input(const char *path, struct strbuf *text, enum input_kind *kind, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r = given_open(path, &fd, err);

	*kind = INPUT_TEXT;
	if (r < 0)
		return r;
	if (!fstat(fd, &st) && S_ISDIR(st.st_mode)) {
		*kind = INPUT_RECORDING;
		return 0;
	}
	do {
		r = read_block(fd, text, path, err);
		*kind = input_kind(text->data, text->len);
	} while (r > 0 && *kind == INPUT_TEXT);
	return r < 0 ? r : 0;
}

/* The stacks of a recording, as `ringfold fold --annotate` writes them. */
static int fold_input(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	static const struct profile_view view = { .annotate = true };
	_cleanup_(replay_freep) struct replay *replay = NULL;
	_cleanup_(profile_freep) struct profile *profile = NULL;
	struct replay_args args = { 0 };
	struct replay_opts opts = { .path = path, .args = &args };
	FILE *out;
	int r;

	if (!strcmp(path, "-"))
		return err_set(err, EINVAL, "a recording from a stream must be folded first: ringfold fold -");
	r = replay_open(&opts, &replay, err);
	if (!r)
		r = replay_run(replay, err);
	if (r > 0)
		log_warn(NULL, "%s: %s", path, err->msg);
	if (r >= 0)
		r = replay_profile(replay, NULL, NULL, &profile, err);
	replay_args_deinit(&args);
	if (r < 0)
		return r;
	out = open_memstream(ret, ret_len);
	if (!out)
		return err_oom(err);
	r = format_find("collapsed")->write(profile, &view, out, err);
	return fclose(out) && !r ? err_oom(err) : r;
}

static int add_input(struct diff *diff, enum diff_side side, const char *path, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	_cleanup_free_ char *folded = NULL;
	size_t len = 0;
	enum input_kind kind;
	int r = read_input(path, &text, &kind, err);

	if (r < 0)
		return r; /* it has the name in it */
	switch (kind) {
	case INPUT_RECORDING:
		r = fold_input(path, &folded, &len, err);
		break;
	case INPUT_ZIP:
		strbuf_clear(&text);
		r = strcmp(path, "-") ? zip_in_read(path, "/stacks.folded", MAX_INPUT, &text, err)
				      : err_set(err, EINVAL, "a bundle from a stream: give it as a file");
		break;
	case INPUT_GZIP:
		r = err_set(err, EBADMSG, "%s is compressed, pprof as it seems: diff takes what -o NAME.folded, NAME.data and "
			    "NAME.trace.zip write", path);
		break;
	case INPUT_TEXT:
		break;
	}
	if (r < 0)
		return r;
	r = diff_add(diff, side, path, folded ? folded : text.data, folded ? len : text.len, err);
	return r < 0 ? err_prefix(err, "%s", path) : 0;
}

/* Output */

static int write_output(const struct diff *diff, const struct diff_out *to, struct err *err)
{
	_cleanup_(outfile_abortp) struct outfile *out = NULL;
	bool is_stdout = !strcmp(to->path, "-");
	int r = outfile_open(to->path, &out, err);

	if (!r)
		r = to->format->write(diff, is_stdout ? outputs_terminal_columns() : 0, outfile_stream(out), err);
	if (!r)
		r = outfile_commit(steal_ptr(out), err);
	if (!r && !is_stdout)
		log_info(NULL, "wrote %s", to->path);
	return r;
}

static int compare(const struct diff_args *a, const char *before, const char *after)
{
	_cleanup_(diff_freep) struct diff *diff = NULL;
	struct err err = { 0 };
	int r = diff_new(&diff, &err);

	if (!r)
		r = add_input(diff, DIFF_BEFORE, before, &err);
	if (!r)
		r = add_input(diff, DIFF_AFTER, after, &err);
	if (!r)
		r = diff_count(diff, &err);
	if (r < 0)
		return command_failed(&err);
	for (int side = 0; side < 2; side++) {
		if (!diff_samples(diff, side ? DIFF_AFTER : DIFF_BEFORE)) {
			err_set(&err, ENODATA, "%s has no samples: there is nothing to hold against", side ? after : before);
			command_failed(&err);
			return EXIT_NO_SAMPLES;
		}
	}
	for (size_t i = 0; r == 0 && i < a->outputs.len; i++)
		r = write_output(diff, &a->outputs.data[i], &err);
	return r < 0 ? command_failed(&err) : 0;
}

static int diff_run(int argc, char **argv)
{
	_cleanup_(args_deinit) struct diff_args a = { 0 };
	struct err err = { 0 };
	int first = opts_parse(diff_opts, argc, argv, &a, &err);

	if (first == -ECANCELED)
		return command_help(&command_diff);
	if (first < 0)
		return command_usage("diff", &err);
	if (argc - first != 2) {
		err_set(&err, EINVAL, "two profiles: the one before and the one after");
		return command_usage("diff", &err);
	}
	if (!strcmp(argv[first], "-") && !strcmp(argv[first + 1], "-")) {
		err_set(&err, EINVAL, "only one of the two can come from standard input");
		return command_usage("diff", &err);
	}
	if (check_outputs(&a, &err) < 0)
		return command_usage("diff", &err);
	return compare(&a, argv[first], argv[first + 1]);
}

const struct command command_diff = {
	.name = "diff",
	.summary = "what grew and what shrank between two profiles",
	.usage = "[options] BEFORE AFTER",
	.about = "Each is a file of collapsed stacks, from us or from others (- reads stdin), a recording, which is folded, or a NAME.trace.zip. "
		 "Shares are compared, so the two need not have the same length. What may be the luck of sampling is marked "
		 "with ~ (Fisher's exact test; of all that is said to have changed at most 1 % should be chance). The "
		 "collapsed form, \"stack BEFORE AFTER\" with BEFORE scaled to the samples of AFTER, is for flamegraph.pl.",
	.examples = "ringfold diff monday.folded friday.folded         tables on the terminal\n"
		    "ringfold diff -o week.html monday.data friday.data  a page: red grew, blue shrank\n"
		    "ringfold diff -f collapsed a.folded b.folded | flamegraph.pl > diff.svg",
	.opts = diff_opts,
	.run = diff_run,
};
