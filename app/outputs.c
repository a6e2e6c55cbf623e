#include "app/outputs.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/outfile.h"
#include "output/format.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const method_names[] = { "cfi", "libunwind", "fp" };

const char *outputs_method_name(enum unwind_method method)
{
	return method_names[method];
}

void outputs_deinit(struct outputs *o)
{
	vec_deinit(&o->list);
}

/* Setters: one per option, each validates at once */

int outputs_set_output(void *data, const char *arg, struct err *err)
{
	struct outputs *o = data;

	if (!*arg)
		return err_set(err, EINVAL, "an output needs a name");
	return vec_push(&o->list, ((struct output){ .path = arg })) ? 0 : err_oom(err);
}

int outputs_set_format(void *data, const char *arg, struct err *err)
{
	struct outputs *o = data;
	const struct format *const *formats;
	char known[300] = "";
	size_t num;

	o->format_perf_data = o->may_save && !strcmp(arg, "perf-data");
	o->format = format_find(arg);
	if (o->format || o->format_perf_data)
		return 0;
	num = format_list(&formats);
	for (size_t i = 0; i < num; i++)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
			 i ? ", " : "", formats[i]->name);
	if (o->may_save)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), ", perf-data");
	return err_set(err, EINVAL, "there is no format \"%s\"; there are: %s", arg, known);
}

int outputs_set_report(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->report = true;
	return 0;
}

int outputs_set_flame(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->flame = true;
	return 0;
}

int outputs_set_stats(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->stats_path = arg;
	return 0;
}

int outputs_set_kernel_only(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->view.kernel_only = true;
	return 0;
}

int outputs_set_user_only(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->view.user_only = true;
	return 0;
}

int outputs_set_unwinder(void *data, const char *arg, struct err *err)
{
	struct outputs *o = data;

	for (size_t i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++) {
		if (!strcmp(arg, method_names[i])) {
			o->method = (enum unwind_method)i;
			return 0;
		}
	}
	return err_set(err, EINVAL, "\"%s\" is none of cfi, libunwind, fp", arg);
}

int outputs_set_by(void *data, const char *arg, struct err *err)
{
	struct outputs *o = data;

	if (!strcmp(arg, "comm"))
		o->by = BY_COMM;
	else if (!strcmp(arg, "pid"))
		o->by = BY_PID;
	else if (!strcmp(arg, "container"))
		o->by = BY_CONTAINER;
	else if (!strcmp(arg, "pod"))
		o->by = BY_POD;
	else
		return err_set(err, EINVAL, "\"%s\" is none of container, pod, comm, pid", arg);
	return 0;
}

int outputs_set_by_pid(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->by = BY_PID;
	return 0;
}

int outputs_set_threads(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->threads = true;
	return 0;
}

int outputs_set_dotnet_tiers(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->dotnet_tiers = true;
	return 0;
}

int outputs_set_annotate(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->view.annotate = true;
	return 0;
}

int outputs_set_inline(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->inlined = true;
	return 0;
}

int outputs_set_include_idle(void *data, const char *arg, struct err *err)
{
	((struct outputs *)data)->include_idle = true;
	return 0;
}

int outputs_set_quiet(void *data, const char *arg, struct err *err)
{
	log_set_level(LOG_QUIET);
	return 0;
}

int outputs_set_verbose(void *data, const char *arg, struct err *err)
{
	log_set_level(LOG_DEBUG);
	return 0;
}

/* Before the work */

/* A name nothing can be written to is told before the work, not after. */
static int check_writable(const char *path, struct err *err)
{
	_cleanup_free_ char *copy = NULL;
	const char *dir;
	struct stat st;

	if (!strcmp(path, "-"))
		return 0;
	/* Where it leads to may be wrong, or somebody else's wish: nothing is made there. */
	if (stat(path, &st) < 0 && !lstat(path, &st))
		return err_set(err, ENOENT, "cannot write %s: it is a link that leads to nothing", path);
	if (!stat(path, &st)) {
		/* Devices and pipes are written in place, files replaced where they really are. */
		if (S_ISDIR(st.st_mode))
			return err_set(err, EISDIR, "cannot write %s: %s", path, strerror(EISDIR));
		if (!S_ISREG(st.st_mode) && access(path, W_OK) < 0)
			return err_set(err, errno, "cannot write %s: %s", path, strerror(errno));
		if (!S_ISREG(st.st_mode))
			return 0;
		copy = realpath(path, NULL);
	} else {
		copy = strdup(path);
	}
	if (!copy)
		return err_oom(err);
	dir = dirname(copy);
	if (access(dir, W_OK | X_OK) < 0)
		return err_set(err, errno, "cannot write %s: %s: %s", path, dir, strerror(errno));
	return 0;
}

static int default_output(struct outputs *o, struct err *err)
{
	const char *format = isatty(STDOUT_FILENO) ? "report" : "collapsed";
	struct output out = { .path = "-", .format = o->format ? o->format : format_find(format) };

	if (o->flame) /* in place of what there would be */
		out.format = format_find("flame");
	o->flame = false;
	o->report = o->report && out.format != format_find("report");
	return vec_push(&o->list, out) ? 0 : err_oom(err);
}

static bool is_perf_data(const char *path)
{
	static const char end[] = ".data";
	size_t len = strlen(path), end_len = sizeof(end) - 1;

	return len > end_len && !strcmp(path + len - end_len, end);
}

/* NULL for a format means perf.data from here on. */
static int check_perf_data(const struct outputs *o, const struct output *out, struct err *err)
{
	if (!o->may_save)
		return err_set(err, EINVAL, "-o %s: only `ringfold record` writes perf.data", out->path);
	if (!strcmp(out->path, "-") && isatty(STDOUT_FILENO))
		return err_set(err, EINVAL, "perf.data is not for a terminal: give it a name or a pipe");
	return check_writable(out->path, err);
}

static int check_output(const struct outputs *o, struct output *out, struct err *err)
{
	bool to_stdout = !strcmp(out->path, "-");

	if (is_perf_data(out->path) ||
	    (o->format_perf_data && (to_stdout || !format_for_path(out->path))))
		return check_perf_data(o, out, err);
	out->format = to_stdout ? NULL : format_for_path(out->path);
	if (!out->format)
		out->format = o->format;
	if (!out->format && to_stdout)
		out->format = format_find("collapsed");
	if (!out->format)
		return err_set(err, EINVAL,
			       "-o %s: its name does not tell a format; give one with -f",
			       out->path);
	if (out->format->binary && to_stdout && isatty(STDOUT_FILENO))
		return err_set(err, EINVAL, "%s is not for a terminal: give it a name or a pipe", out->format->name);
	return check_writable(out->path, err);
}

int outputs_check(struct outputs *o, struct err *err)
{
	int r = 0;

	if (o->view.kernel_only && o->view.user_only)
		return err_set(err, EINVAL, "-K and -U exclude each other");
	if (o->stats_path)
		r = check_writable(o->stats_path, err);
	if (r < 0)
		return r;
	if (o->list.len == 0 && !o->format_perf_data)
		return default_output(o, err);
	if (o->list.len == 0 && !vec_push(&o->list, ((struct output){ .path = "-" })))
		return err_oom(err);
	for (size_t i = 0; r == 0 && i < o->list.len; i++)
		r = check_output(o, &o->list.data[i], err);
	return r;
}

void outputs_session(const struct outputs *o, struct session_opts *opts)
{
	opts->method = o->method;
	opts->by = o->by;
	opts->threads = o->threads;
	opts->include_idle = o->include_idle;
	opts->inlined = o->inlined;
	opts->dotnet_tiers = o->dotnet_tiers;
	opts->kernel_only = o->view.kernel_only;
	opts->user_only = o->view.user_only;
	for (size_t i = 0; i < o->list.len; i++) {
		const struct format *format = o->list.data[i].format;

		opts->keep_samples |= format && format->needs_samples;
		opts->keep_places |= format && format->needs_places;
		opts->keep_addresses |= format && format->needs_addresses;
	}
}

/* After it */

unsigned int outputs_terminal_columns(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO))
		return 0;
	return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 80;
}

static int write_output(const struct outputs *o, const char *path, const struct profile *profile,
			const struct format *format, struct err *err)
{
	_cleanup_(outfile_abortp) struct outfile *out = NULL;
	struct profile_view view = o->view;
	int r;

	view.columns = strcmp(path, "-") ? 0 : outputs_terminal_columns();
	r = outfile_open_by(o->opener, path, &out, err);
	if (r < 0)
		return r;
	if (o->again)
		outfile_no_sync(out);
	if (format)
		r = format->write(profile, &view, outfile_stream(out), err);
	else
		r = stats_write_json(profile, outfile_stream(out), err);
	if (r < 0)
		return err_prefix(err, "writing %s", strcmp(path, "-") ? path : "standard output");
	return outfile_commit(steal_ptr(out), err);
}

struct measured {
	off64_t at;
	uint64_t size;
};

static ssize_t measure_write(void *cookie, const char *bytes, size_t len)
{
	struct measured *m = cookie;

	m->at += (off64_t)len;
	if ((uint64_t)m->at > m->size)
		m->size = (uint64_t)m->at;
	return (ssize_t)len;
}

/* A zip goes back to what it has begun. */
static int measure_seek(void *cookie, off64_t *offset, int whence)
{
	struct measured *m = cookie;
	off64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? m->at : (off64_t)m->size;

	if (*offset > INT64_MAX / 2 || from + *offset < 0)
		return -1;
	*offset = m->at = from + *offset;
	return 0;
}

static int measure_output(const struct outputs *o, const struct profile *profile, const struct format *format,
			  uint64_t *sum, struct err *err)
{
	static const cookie_io_functions_t functions = { .write = measure_write, .seek = measure_seek };
	struct measured m = { 0 };
	FILE *stream = fopencookie(&m, "w", functions);
	int r;

	if (!stream)
		return err_oom(err);
	r = format ? format->write(profile, &o->view, stream, err) : stats_write_json(profile, stream, err);
	if (fclose(stream) && !r)
		r = err_oom(err);
	*sum += m.size;
	return r;
}

int outputs_size(const struct outputs *o, const struct profile *profile, uint64_t *ret, struct err *err)
{
	int r = 0;

	*ret = 0;
	for (size_t i = 0; i < o->list.len && !r; i++) {
		if (o->list.data[i].format)
			r = measure_output(o, profile, o->list.data[i].format, ret, err);
	}
	if (o->stats_path && !r)
		r = measure_output(o, profile, NULL, ret, err);
	return r;
}

int outputs_write(const struct outputs *o, const struct profile *profile, bool to_stdout,
		  struct err *err)
{
	struct err first = { 0 };

	for (size_t i = 0; i < o->list.len; i++) {
		const struct output *out = &o->list.data[i];
		struct err e = { 0 };

		if (!out->format || (!to_stdout && !strcmp(out->path, "-")))
			continue;
		if (write_output(o, out->path, profile, out->format, &e) < 0) {
			first = first.code && e.code != EEXIST ? first : e;
			if (e.code == EEXIST)
				goto done;
			continue;
		}
		if (strcmp(out->path, "-"))
			log_info(NULL, "wrote %s", out->path);
	}
	if (o->stats_path)
		write_output(o, o->stats_path, profile, NULL, first.code ? NULL : &first);
	if (o->report && to_stdout && !first.code)
		write_output(o, "-", profile, format_find("report"), &first);
	if (o->flame && to_stdout && !first.code)
		write_output(o, "-", profile, format_find("flame"), &first);
done:
	if (first.code)
		*err = first;
	return -first.code;
}

int outputs_names(const struct outputs *o, const char ***ret, size_t *ret_num, struct err *err)
{
	const char **names = calloc(o->list.len + 1, sizeof(*names));
	size_t num = 0;

	if (!names)
		return err_oom(err);
	for (size_t i = 0; i < o->list.len; i++) {
		if (o->list.data[i].format)
			names[num++] = o->list.data[i].path;
	}
	if (o->stats_path)
		names[num++] = o->stats_path;
	*ret = names;
	*ret_num = num;
	return 0;
}

bool outputs_want_profile(const struct outputs *o)
{
	bool ret = o->stats_path || o->report || o->flame;

	for (size_t i = 0; i < o->list.len; i++)
		ret |= o->list.data[i].format != NULL;
	return ret;
}

bool outputs_want_places(const struct outputs *o)
{
	bool ret = false;

	for (size_t i = 0; i < o->list.len; i++)
		ret |= o->list.data[i].format && o->list.data[i].format->needs_places;
	return ret;
}

bool outputs_want_saving(const struct outputs *o)
{
	bool ret = false;

	for (size_t i = 0; i < o->list.len; i++)
		ret |= !o->list.data[i].format;
	return ret;
}

bool outputs_show_report(const struct outputs *o)
{
	const struct format *report = format_find("report"), *flame = format_find("flame");
	bool shown = o->report || o->flame;

	for (size_t i = 0; i < o->list.len; i++) {
		const struct format *format = o->list.data[i].format;

		shown |= (format == report || format == flame) && !strcmp(o->list.data[i].path, "-");
	}
	return shown && isatty(STDOUT_FILENO);
}
