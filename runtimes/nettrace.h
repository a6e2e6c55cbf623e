/*
 * The stream of events that a .NET runtime sends over a diagnostics session ("nettrace", version 4: .NET Core 3.0 and
 * later), as far as it tells of code: methods, modules. A pure function of bytes: pieces of any size in, events out.
 * The layout is in microsoft/perfview src/TraceEvent/EventPipe/EventPipeFormat.md and, byte by byte, in
 * dotnet/runtime src/native/eventpipe/ep-{file,block,event-instance,event-payload}.c.
 *
 * The bytes are a target's: everything is bounded, nothing is believed. A stream that breaks the format ends there
 * with NETTRACE_BROKEN; what came before it stands.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nettrace;

enum nettrace_event_kind {
	NETTRACE_METHOD_LOAD,   /* MethodLoadVerbose: code appeared */
	NETTRACE_METHOD_UNLOAD, /* MethodUnloadVerbose: it is gone, its addresses may be used again */
	NETTRACE_METHOD_EXISTS, /* MethodDCStartVerbose, MethodDCEndVerbose: a rundown found it */
	NETTRACE_MODULE,        /* Module and DomainModule, loaded or found */
	NETTRACE_MODULE_UNLOAD, /* ModuleUnload: an assembly goes; often that is all that is said of its methods */
	NETTRACE_ASSEMBLY,      /* AssemblyLoad, AssemblyDCStart, AssemblyDCEnd */
	NETTRACE_RUNDOWN_END,   /* DCEndComplete, DCStartComplete */
};

/* Text is UTF-8, NUL-terminated, borrowed until the sink returns; what is no UTF-16 became U+FFFD. */
struct nettrace_method {
	uint64_t id;        /* of the method; of one version of it with `rejit` */
	uint64_t module_id;
	uint64_t start;     /* address in the process */
	uint32_t size;      /* bytes, with its funclets; > 0, start + size does not overflow */
	uint32_t flags;     /* enum nettrace_method_flags; bits 7-9 are an enum dotnet_tier */
	uint64_t rejit;     /* version of the code; 0 where it is not told */
	const char *type;   /* with its namespace */
	const char *name;
};
enum nettrace_method_flags {
	NETTRACE_DYNAMIC = 1,
	NETTRACE_GENERIC = 2,
	NETTRACE_SHARED = 4,
	NETTRACE_JITTED = 8, /* else precompiled: ReadyToRun */
	NETTRACE_TIER_SHIFT = 7,
	NETTRACE_TIER_MASK = 7,
};

struct nettrace_module {
	uint64_t id;
	const char *path;        /* of the assembly's IL; may be empty */
	const char *native_path; /* of its precompiled code where that is another file; mostly empty */
};

struct nettrace_assembly {
	uint32_t flags;     /* enum nettrace_assembly_flags */
	const char *name;   /* with version and key */
};
enum nettrace_assembly_flags {
	NETTRACE_COLLECTIBLE = 8, /* it may be unloaded */
};

struct nettrace_event {
	enum nettrace_event_kind kind;
	uint64_t time_ns;  /* CLOCK_MONOTONIC of the machine where it was made */
	uint64_t thread;   /* the runtime's number of it */
	union {
		struct nettrace_method method;
		struct nettrace_module module;
		struct nettrace_assembly assembly;
	};
};

struct nettrace_sink {
	void (*event)(void *data, const struct nettrace_event *event);
	void *data;
};

enum nettrace_state {
	NETTRACE_MORE,   /* all is well, the stream goes on */
	NETTRACE_END,    /* its end was reached: all that there is has come */
	NETTRACE_BROKEN, /* not the format, or a size over its bound: nothing more is read */
};

struct nettrace *nettrace_new(void); /* NULL when out of memory */
void nettrace_free(struct nettrace *n); /* NULL is fine */

/* The next bytes. After END or BROKEN they are ignored. */
enum nettrace_state nettrace_feed(struct nettrace *n, const void *bytes, size_t size,
				  const struct nettrace_sink *sink);

/* What the stream's first object told. */
struct nettrace_header {
	bool seen;
	uint64_t start_ns; /* CLOCK_MONOTONIC: a runtime whose clock is another one has every time 0 */
	uint32_t pid;      /* the process's own idea of it */
	uint32_t pointer_bytes;
};
struct nettrace_counts {
	uint64_t bytes, events, others; /* events that are no concern of ours */
	uint64_t odd;                   /* of ours, with a payload that does not fit */
	/*
	 * Events that the runtime could not keep: where a sequence point tells a higher number than the thread's
	 * last event had (NetTrace "SPBlock"). A session with lost events cannot say that a method is still there.
	 */
	uint64_t lost;
};
const struct nettrace_header *nettrace_header(const struct nettrace *n);
const struct nettrace_counts *nettrace_counts(const struct nettrace *n);
/* One sentence about what broke it; NULL while nothing did. */
const char *nettrace_why(const struct nettrace *n);
