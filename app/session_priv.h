/* What the parts of a session share; for session*.c only. */
#pragma once

#include "app/places.h"
#include "app/session.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "output/profile.h"
#include "symbols/symbols.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct addrspace;
struct addrspaces;
struct dotnet;
struct build_ids;
struct file;
struct files;
struct intern;
struct jit_runtime;
struct naming;
struct recorded_kernel;
struct stacks;

enum {
	MAX_USER_FRAMES = 1024,
	MAX_KERNEL_FRAMES = 512, /* perf_event_max_stack is 127 unless somebody raised it */
	MAX_LABELS = 8,
	NO_OWNER = UINT32_MAX,
};

/* JIT code that is another's now: its frame keeps the name that it had. */
struct retired_slot {
	uint32_t id;
	struct profile_frame frame;
};
HTAB(retired_tab, struct retired_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

/* What a process has been seen doing while it lives; folded into session.ended when its generation ends. */
struct live {
	struct session *session;
	struct addrspace *space;
	struct stacks *stacks;
	struct live *prev, *next;
	bool jit;                /* a frame in code without a file was sampled, or a runtime tells of such */
	const struct jit_runtime *runtime; /* whose that is, by the files it maps; NULL = not looked at yet */
	struct retired_tab retired; /* by frame id */
	uint32_t comm;           /* what the process is called; interned; 0 = not known yet */
	uint64_t polled_ns;      /* when it was last looked for what the process has published */
	bool own_frames;         /* its stacks have frames that mean nothing without it */
	uint32_t num_touched;    /* pages where copies of its stacks ended too early */
	uint64_t hole;           /* the last of them */
	uint32_t owner;          /* index in session.owners; NO_OWNER = no sample of it was kept */
	struct place_seen place;
};

/* JIT code of one process, or of all that one runtime runs. */
struct jit_count {
	const struct jit_runtime *runtime;
	pid_t pid;                   /* 0 = several */
	uint32_t comm;               /* interned */
	struct symbol_origin origin; /* where its names are from */
	uint64_t frames, named;
};
struct jit_counts {
	VEC(struct jit_count) processes; /* the first few thousand */
	VEC(struct jit_count) runtimes;
};

/* A frame that is not a place in a file or the kernel: labels, marks, JIT code of ended processes. */
struct label_slot {
	struct profile_frame frame;
	uint32_t number; /* index in session.labels */
};

static inline uint64_t frame_hash(const struct profile_frame *f)
{
	return hash_two((uintptr_t)f->name ^ (uint64_t)f->kind << 56, (uintptr_t)f->module + f->addr);
}

HTAB(label_tab, struct label_slot, const struct profile_frame *, frame_hash(key),
     slot->frame.name == key->name && slot->frame.module == key->module && slot->frame.kind == key->kind &&
	     slot->frame.addr == key->addr && slot->frame.runtime == key->runtime,
     frame_hash(&slot->frame));

/* The first frames of a stack by who ran: formatted once per (comm, pid, tid). */
struct who {
	uint32_t comm;
	pid_t pid, tid;
};
struct who_slot {
	struct who who;
	uint32_t process, thread; /* frame ids; thread 0 = none */
};
static inline uint64_t who_hash(const struct who *w)
{
	return hash_two((uint64_t)w->comm << 32 | (uint32_t)w->pid, (uint32_t)w->tid);
}
HTAB(who_tab, struct who_slot, const struct who *, who_hash(key),
     slot->who.comm == key->comm && slot->who.pid == key->pid && slot->who.tid == key->tid,
     who_hash(&slot->who));

struct pid_slot {
	pid_t pid;
};
HTAB(pid_set, struct pid_slot, pid_t, hash_u64((uint64_t)key), slot->pid == key,
     hash_u64((uint64_t)slot->pid));

/* With opts.keep_addresses: a frame in a file, and where that was in the process. */
struct placed {
	uint32_t id; /* of the frame */
	uint64_t addr;
};
struct placed_slot {
	struct placed placed;
	uint32_t number; /* index in session.placed */
};
static inline uint64_t placed_hash(const struct placed *p)
{
	return hash_two(p->id, p->addr);
}
HTAB(placed_tab, struct placed_slot, const struct placed *, placed_hash(key),
     slot->placed.id == key->id && slot->placed.addr == key->addr, placed_hash(&slot->placed));
/* In the numbers of frames that are the session's own: an index in `placed`, or a container's place; else in `labels`. */
static const uint32_t PLACED = 1u << 31, CONTAINER = 1u << 30;

/* With opts.keep_samples. */
struct kept_sample {
	uint64_t time_ns;
	uint64_t period : 38; /* what is more is cut to that: a minute of cycles, four of nanoseconds */
	uint64_t cpu : 13;    /* the last = not told; Linux has 8192 at most */
	uint64_t no_method_start : 1;
	uint64_t by_chain : 1;
	uint64_t event : 11; /* the last = one of the many beyond */
	uint32_t owner;       /* index in session.owners */
	pid_t tid;
	uint32_t node;        /* in the owner's stacks */
	uint32_t comm;        /* interned */
};
_Static_assert(sizeof(struct kept_sample) == 32, "a kept sample is 32 bytes");
/* How its stack ended: enum sample_class, and enum unwind_reason above it. */
static inline uint8_t sample_end(enum sample_class class, uint8_t reason)
{
	return (uint8_t)(class | reason << 3);
}
_Static_assert(REASON_NUM < 32 && SAMPLE_BROKEN < 8, "an end is 8 bits");
static const uint64_t MAX_PERIOD = (1ull << 38) - 1;
static const uint32_t MAX_CPU = (1u << 13) - 1, MAX_EVENT = (1u << 11) - 1;

/* A generation that kept samples are of. */
struct owner {
	pid_t pid;
	uint32_t comm;    /* of the process; interned */
	bool ended;
	uint32_t place;   /* with opts.keep_places: where it was last (target/containers.h); 0 = not known */
	uint32_t *became; /* once it ended: by node, the node in session.ended; owned */
};

struct file_id {
	const char *path; /* interned */
	uint8_t len, id[20];
};

struct session {
	struct session_opts opts;
	uint64_t regs_mask;          /* of samples now */
	struct build_ids *told;      /* with opts.offline, as is the next */
	struct recorded_kernel *kernel;
	struct intern *strings;
	bool strings_lent; /* to the last profile, which frees them */
	struct files *files;
	struct addrspaces *spaces;
	struct symbols *symbols;
	struct unwinder *unwinder;
	struct dotnet *dotnet;
	bool python_gives;           /* it is among the unwinder's givers */
	struct jit_cfi_giver *jit_cfi; /* among the givers; NULL = nobody has published any so far */
	bool dotnet_gives;           /* it is among the unwinder's givers */
	VEC(pid_t) runtimes_seen;    /* processes with JIT code that nobody has told of yet */
	struct r2r_files *r2r_files; /* precompiled .NET code */
	bool r2r_copies_give;        /* who knows copies of it is among the unwinder's givers */
	struct stacks *ended;        /* stacks of ended generations */
	struct live *live;           /* list of the others */
	struct label_tab label_tab;
	VEC(struct profile_frame) labels; /* by number */
	struct who_tab who_tab;
	struct naming *naming;       /* of frames in files and the kernel */
	struct pid_set wanted;       /* with opts.pids */
	struct places_ended places_ended; /* with opts.containers */
	struct placed_tab placed_tab;
	VEC(struct placed) placed;
	VEC(struct kept_sample) samples;
	VEC(uint8_t) ends;           /* of them */
	uint8_t end;                 /* of the sample at hand */
	bool no_method_start;        /* likewise: a frame of it went by rbp, as its method is not known */
	uint64_t not_told_frames;    /* JIT frames of .NET processes whose runtime told nothing */
	VEC(struct owner) owners;
	VEC(struct file_id) gone;    /* files that left the table, with opts.keep_build_ids */
	uint32_t mark_truncated, mark_altstack, mark_broken; /* frame ids */
	uint32_t frames[MAX_USER_FRAMES + MAX_KERNEL_FRAMES + MAX_LABELS];
	struct profile_stats stats;
	struct session_copy last;
	uint64_t broken_by[REASON_NUM];
	uint64_t sample_ns;          /* time of the newest sample */
	struct jit_counts jit;       /* of ended generations */
	uint64_t num_elsewhere;      /* samples of processes that our pid namespace does not have */
	uint64_t num_denied;         /* processes that were sampled and may not be looked into */
	bool failed;                 /* out of memory: the profile is not whole */
	bool closing;                /* session_free: nobody will ask for a profile any more */
};

/* session_labels.c: frames that are the session's own */

uint32_t session_label_frame(struct session *s, const struct profile_frame *frame);
uint32_t session_text_frame(struct session *s, const char *text, enum frame_kind kind);
/* NULL when out of memory. */
const struct who_slot *session_who(struct session *s, uint32_t comm, pid_t pid, pid_t tid);
/* Frames in files become such with their addresses. */
void session_place_frames(struct session *s, const struct addrspace *space, uint32_t *ids, size_t num);

/* session_jit.c */

/* A frame that lives with its process: in JIT code, or in no mapping at all. */
struct profile_frame session_space_frame(struct session *s, struct addrspace *space, uint32_t id);
/* The first sample of it. True when there is somebody now who knows more of such stacks. */
bool session_jit_begins(struct live *live);
/* It is .NET's, which told nothing of its methods: its JIT code goes by frame pointer, which many methods leave alone. */
bool session_runtime_is_silent(struct live *live);
/*
 * A sample of a process with JIT code, of `time_ns`, is about to be walked: where code is another's by then, frames keep
 * their name and the next gets an id of its own.
 */
void session_advance_names(struct live *live, uint64_t time_ns);
/* Reads the last of what the process has published: its frames are about to be named. */
void session_settle_names(struct live *live);
/* Counts what its stacks hold of JIT code, which has its names by now. */
void session_count_jit(struct live *live, struct jit_counts *counts);
/* What was counted, the live ones too, into the statistics of a profile. False when out of memory. */
bool session_tell_jit(struct session *s, struct profile *profile);
void session_jit_deinit(struct jit_counts *counts);

/* session_samples.c */

bool session_is_wanted(struct session *s, struct addrspace *space, const struct record *rec);
void session_sample(struct session *s, const struct record *rec, size_t event);

/* session_memory.c */

struct memory_reader session_memory_reader(struct session *s); /* read is NULL where there is none */
/* Has pages at `addr` touched, see memory_touch: whether there were any. */
bool session_touch(struct session *s, const struct addrspace *space, uint64_t addr);
uint64_t session_memory_blocked(const struct session *s); /* processes whose memory is left alone */

/* session_build_ids.c: the file is about to leave the table */

void session_file_known(void *data, struct file *file); /* files_opts.known */
void session_keep_build_id(struct session *s, const struct file *file);

/* session_runtimes.c */

int session_open_dotnet(struct session *s, struct err *err);
/* Who steps through precompiled .NET code in files, and names it. */
int session_open_r2r(struct session *s, struct err *err);
/* Names of copies of it in memory without a file: last, as they are only known by unpacking a program. */
int session_name_copies(struct session *s, struct err *err);

/* session.c: the file ended the parser twice in a row, and is asked nothing any more */
void session_file_aside(void *data, struct file *file);
/* session.c: what was seen of the process, made when there is nothing yet; NULL when out of memory. */
struct live *session_live(struct session *s, struct addrspace *space);
