/*
 * A finished profile: distinct stacks with counts, every frame named, and how good it is. Plain data, filled
 * by whoever recorded it, read by the formats.
 */
#pragma once

#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct intern;
struct stacks;

enum frame_kind {
	FRAME_LABEL,     /* process, thread or container: the first frames */
	FRAME_NATIVE,
	FRAME_KERNEL,
	FRAME_JIT,
	FRAME_INLINED,
	FRAME_UNKNOWN,   /* in no mapping */
	FRAME_MARK,      /* [truncated], [altstack], ... */
};

struct profile_frame {
	const char *name;    /* NULL = no symbol: shown as [module] */
	const char *module;  /* last part of the path, "[kernel]", "[vdso]"; NULL = none */
	const char *path;    /* whole path of the module; NULL = none */
	const char *build_id; /* of the module, in hexadecimal; NULL = not known */
	uint64_t place;      /* offset in the file, or address; where it is looked up: of callers, inside the call */
	uint64_t addr;       /* the same in the process, where addresses were asked for; else 0 */
	uint64_t offset;     /* of the place from where the symbol begins */
	const char *runtime; /* whose code it is: "dotnet", "node"; static; NULL = native, or not known */
	enum frame_kind kind;
};

/* How a sample's stack ended. */
enum sample_class { SAMPLE_IDLE, SAMPLE_KERNEL_ONLY, SAMPLE_COMPLETE, SAMPLE_TRUNCATED, SAMPLE_BROKEN };

/* One sample, where samples were asked for. */
struct profile_sample {
	uint64_t time_ns;    /* of the recording's clock */
	uint64_t period;
	uint32_t node;       /* of `stacks`: the leaf */
	pid_t pid, tid;
	uint32_t cpu;        /* UINT32_MAX = not told */
	uint32_t comm;       /* index in `comms`: what the thread was called then */
	uint32_t process;    /* likewise: its process */
	uint32_t event;      /* index in `events`; UINT32_MAX = not known */
	uint32_t place;      /* index in `places`; UINT32_MAX = not known */
	enum sample_class class;
	bool no_method_start; /* see struct profile_stats */
	bool by_chain;       /* its user frames are those of the kernel's frame-pointer chain */
	const char *reason;  /* SAMPLE_BROKEN: static; else NULL */
};

/* Reasons and runtimes by name; a NULL name ends. */
struct profile_count {
	const char *name;
	uint64_t count;
};

/* JIT code by what compiled it; a NULL name ends. */
struct profile_runtime {
	const char *name;        /* "node", "java", ..., "other" */
	const char *advice;      /* what would name more of it: "start it with ..."; NULL = nothing is known */
	uint64_t frames, named;  /* in its code, every occurrence */
	uint64_t reads, read_ns; /* of what it published */
	uint64_t precompiled, precompiled_named; /* of `frames` and `named`: in files, not compiled by the process */
	uint64_t by_frame_pointer; /* of `frames`: left by it, as nothing told where their function begins */
};

/* --stats, and the quality lines. Invariant: samples == idle + kernel_only + complete + truncated + broken. */
struct profile_stats {
	uint64_t samples, idle, kernel_only, complete, truncated, broken;
	uint64_t lost, throttled, spliced, no_method_starts;
	uint64_t switched;       /* of the complete: they go on on another stack, to which nothing leads */
	uint64_t user_stacks, frames, unknown_frames, jit_frames, jit_named, kernel_frames;
	uint64_t distinct_stacks, unwind_ns, symbolize_ns, peak_rss_kib;
	uint64_t side_lost, malformed;
	uint64_t unresolved_files, unresolved_samples; /* files that could not be read, samples that go through them */
	double wall_s, cpu_s;
	uint64_t start_ns;       /* CLOCK_REALTIME when it began; 0 = not told */
	uint32_t stack_bytes, freq;
	bool by_perf;            /* perf recorded it: what to do better is said in its words */
	const char *event;
	const char *command;     /* the command line it was made with; NULL = not told */
	const char *targets;     /* as given: "all processes", "pid 7", "command ls" */
	struct profile_count broken_by[24];
	struct profile_count refused_by[16];
	struct profile_runtime runtimes[24];
	const char *jit[10];     /* a sentence for each process with JIT code: where its names are from; NULL ends */
	const char *notes[16];   /* what is missing and why, a sentence each; NULL ends */
};

/* A file that frames lie in, where files were asked for; its bytes are read with pread. */
struct profile_file {
	const char *path;
	const char *build_id;    /* in hexadecimal */
	int fd, debug_fd;        /* the profile's; -1 = none */
};

struct profile {
	struct stacks *stacks;   /* node frames are indices into `frames`; labels first below the root */
	VEC(struct profile_frame) frames; /* frames.data[0] is unused */
	struct profile_stats stats;
	VEC(struct profile_sample) samples; /* in time order; empty unless asked for (struct format) */
	VEC(const char *) comms;
	VEC(const char *) events;           /* names, of all that were recorded; may be empty: then stats.event */
	VEC(struct profile_file) files;     /* with a build-id, each once; empty unless asked for */
	VEC(const char *) places;           /* containers as target/containers.h calls them, "[host]" among them */
	struct intern *strings;  /* owns every name */
};

/* Empty, with `stacks` and `strings` of its own and frame 0 in place. */
int profile_new(struct profile **ret, struct err *err);
void profile_free(struct profile *profile); /* NULL is fine */
void profile_freep(struct profile **profile);

/*
 * Counts in stats.runtimes a frame that was seen so many times; those of native code are none of theirs. Where one more
 * runtime has no room it is not listed.
 */
void profile_count_runtime(struct profile_stats *stats, const struct profile_frame *frame, uint64_t times);

/* How stacks are shown; the same for every format. */
struct profile_view {
	bool annotate;           /* _[k] _[j] _[i] suffixes */
	bool kernel_only, user_only; /* -K, -U: frames of the other side are left out */
	unsigned int columns;        /* of the terminal that is written to; 0 = it is none */
};

/* False: the view leaves this frame out. Labels always stay; marks speak of the user stack and go with it. */
bool profile_frame_shown(const struct profile_frame *frame, const struct profile_view *view);

/*
 * Appends the text of a frame as line formats print it: name, [module] or [unknown], with its suffix. Never
 * empty. Beyond base/escape.h, what readers of collapsed stacks would take for their own syntax is changed:
 * a space first, last or before a trailing number becomes '_' ("f 12" would be read as a count), and so
 * does every space of a label, as stackcollapse-perf.pl has it.
 */
struct strbuf;
void profile_frame_text(const struct profile_frame *frame, const struct profile_view *view,
			struct strbuf *ret);
/* The same for formats with a syntax of their own to quote names: nothing is changed but what is unsafe to print. */
void profile_frame_plain(const struct profile_frame *frame, struct strbuf *ret);
