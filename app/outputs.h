/*
 * What every command that ends in a profile shares: where it goes, in which formats, and how its stacks are shown.
 * `struct outputs` is the first member of such a command's arguments, as the setters of the rows below
 * take a pointer to it.
 */
#pragma once

#include "app/session.h"
#include "base/opts.h"
#include "base/vec.h"
#include "output/profile.h"

#include <stdbool.h>

struct err;
struct format;
struct outfile_opener;

struct output {
	const char *path; /* "-" = stdout; borrowed from argv */
	const struct format *format; /* NULL: perf.data, which is written while records come (app/saving.h) */
};

struct outputs {
	VEC(struct output) list;
	const struct format *format; /* -f; NULL = not given */
	bool format_perf_data;       /* -f perf-data */
	bool may_save;               /* the command can write perf.data */
	const char *stats_path;      /* NULL = not wanted */
	bool report, flame;          /* the text report, a flame graph in text, as well */
	struct profile_view view;    /* -K, -U, --annotate */
	bool dotnet_tiers;
	enum unwind_method method;
	enum session_by by;
	bool threads, include_idle, inlined;
	bool again; /* what is written can be made again: no need to wait for the disk */
	const struct outfile_opener *opener; /* who opens the files in our place; NULL: we */
};

void outputs_deinit(struct outputs *o);

/* Once the options are known: a format for each output, and that it can be written. -EINVAL is wrong usage. */
int outputs_check(struct outputs *o, struct err *err);
/*
 * Writes every output, those to stdout only with `to_stdout`; one that fails does not keep the others from being
 * written, and the first failure is returned; but a name that somebody else took meanwhile, -EEXIST, ends it.
 */
int outputs_write(const struct outputs *o, const struct profile *profile, bool to_stdout,
		  struct err *err);
/* How many bytes outputs_write will write, into which it goes for nothing once. */
int outputs_size(const struct outputs *o, const struct profile *profile, uint64_t *ret, struct err *err);
/* Is there anything to write that needs the profile and its names? */
bool outputs_want_profile(const struct outputs *o);
/* Is the container of each process to be told, also where nobody asked to split by it? */
bool outputs_want_places(const struct outputs *o);
bool outputs_want_saving(const struct outputs *o);
/* A person at a terminal gets the report, which tells how good the profile is. */
bool outputs_show_report(const struct outputs *o);

/* How wide the terminal is that standard output is; 0 = it is none. */
unsigned int outputs_terminal_columns(void);

/* The names that outputs_write may write to, for an opener: the array is the caller's to free. */
int outputs_names(const struct outputs *o, const char ***ret, size_t *ret_num, struct err *err);

/* The options that say how stacks are made and shown, in the session's terms. */
void outputs_session(const struct outputs *o, struct session_opts *opts);

const char *outputs_method_name(enum unwind_method method);

/* Rows of option tables. */
int outputs_set_output(void *data, const char *arg, struct err *err);
int outputs_set_format(void *data, const char *arg, struct err *err);
int outputs_set_flame(void *data, const char *arg, struct err *err);
int outputs_set_report(void *data, const char *arg, struct err *err);
int outputs_set_stats(void *data, const char *arg, struct err *err);
int outputs_set_kernel_only(void *data, const char *arg, struct err *err);
int outputs_set_user_only(void *data, const char *arg, struct err *err);
int outputs_set_unwinder(void *data, const char *arg, struct err *err);
int outputs_set_by(void *data, const char *arg, struct err *err);
int outputs_set_by_pid(void *data, const char *arg, struct err *err);
int outputs_set_threads(void *data, const char *arg, struct err *err);
int outputs_set_dotnet_tiers(void *data, const char *arg, struct err *err);
int outputs_set_annotate(void *data, const char *arg, struct err *err);
int outputs_set_include_idle(void *data, const char *arg, struct err *err);
int outputs_set_inline(void *data, const char *arg, struct err *err);
int outputs_set_quiet(void *data, const char *arg, struct err *err);
int outputs_set_verbose(void *data, const char *arg, struct err *err);

#define OUTPUT_ROWS                                                                          \
	{ 'o', "output", "FILE",                                                             \
	  "repeatable; the name's end tells the format; - is stdout", outputs_set_output },  \
	{ 'f', "format", "NAME", "format where the name does not tell (collapsed)",          \
	  outputs_set_format },                                                              \
	{ 0, "report", NULL, "print the text report as well", outputs_set_report },          \
	{ 0, "flame", NULL, "draw a flame graph in the terminal", outputs_set_flame },       \
	{ 0, "stats", "FILE", "quality of the profile as JSON", outputs_set_stats }

/* `by`: what --by can do; containers are known of what runs only. */
#define STACK_ROWS(by)                                                                       \
	{ 'K', "kernel", NULL, "kernel frames only", outputs_set_kernel_only },              \
	{ 'U', "user", NULL, "user frames only", outputs_set_user_only },                    \
	{ 0, "unwinder", "NAME", "cfi (default), libunwind, or fp: the kernel's frame pointers", \
	  outputs_set_unwinder },                                                            \
	{ 0, "by", "WHAT", by, outputs_set_by },                                             \
	{ 0, "pids", NULL, "the same as --by pid", outputs_set_by_pid },                     \
	{ 0, "threads", NULL, "a frame per thread below the first", outputs_set_threads },   \
	{ 0, "dotnet-tiers", NULL, "names of .NET methods end in what compiled them: [OptimizedTier1]",\
	  outputs_set_dotnet_tiers },                                                        \
	{ 0, "annotate", NULL, "_[k], _[j] and _[i] behind kernel, JIT and inlined frames",    \
	  outputs_set_annotate },                                                            \
	{ 0, "include-idle", NULL, "keep the idle task", outputs_set_include_idle },         \
	{ 0, "inline", NULL, "inlined functions as frames, from the programs' DWARF",        \
	  outputs_set_inline }

#define BY_LIVE                                                                              \
	"first frame: comm (default) or pid; or container or pod, with the\n"                \
	"comm below: namespace/pod/container where that is known, else\n"                   \
	"runtime:id; [host] for all others"
#define BY_RECORDED "first frame: comm (default) or pid"

#define WORD_ROWS                                                                            \
	{ 'q', "quiet", NULL, "nothing on stderr but errors", outputs_set_quiet },           \
	{ 'v', "verbose", NULL, "more on stderr", outputs_set_verbose }
