/*
 * The pipeline: records in, a profile out. Joins address spaces, unwinder, names and stacks; the same for a
 * live machine and for a file. Records must come in time order.
 */
#pragma once

#include "target/offline.h"
#include "unwinder/unwinder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct containers;
struct addrspaces_learned;
struct door;
struct err;
struct memory;
struct profile;
struct record;
struct session;
struct worker;

enum session_by { BY_COMM, BY_PID, BY_CONTAINER, BY_POD };

struct session_opts {
	struct door *door;          /* borrowed */
	struct memory *memory;      /* borrowed: of the processes; NULL = what is not in a sample is not read */
	struct worker *worker;      /* borrowed: what targets control is parsed there; NULL = in this process */
	const struct arch *arch;    /* of the samples; NULL = this machine's */
	enum unwind_method method;
	uint64_t regs_mask;         /* order of a sample's registers; 0 = samples carry no user registers */
	enum session_by by;         /* what the first frame is; the comm is below a container or pod */
	struct containers *containers; /* borrowed; needed for BY_CONTAINER, BY_POD and only_containers */
	bool only_containers;       /* only the processes that are wanted of `containers` */
	bool threads;               /* a frame per thread below it */
	bool include_idle;
	bool inlined;               /* inlined functions become frames */
	bool kernel_only;           /* -K: user stacks are not even walked */
	bool user_only;             /* -U */
	bool by_uid;                /* only processes of `uid` */
	uid_t uid;
	const pid_t *pids;          /* only these and what they start (where everything is recorded) */
	size_t num_pids;            /* 0 = all */
	bool tids;                  /* these are threads, which alone are meant */
	bool keep_samples;          /* profile->samples */
	bool keep_places;           /* profile_sample.place; needs `containers` */
	uint32_t first_space;       /* numbers of address spaces are above it: two sessions with one `memory` differ */
	bool keep_addresses;        /* profile_frame.addr */
	bool keep_files;            /* profile->files */
	bool keep_build_ids;        /* for session_each_build_id: also those of files that are gone */
	bool dotnet_tiers;          /* names of .NET methods end in "[Tier]" */
	struct offline *offline;    /* borrowed: the records are a recording's; NULL = of this machine, now */
	const char *map_dir;        /* live: where maps lie that somebody copied, absolute; NULL = nowhere */
	const char *kallsyms, *vmlinux; /* with offline: files named by the user; NULL = none */
	/* With offline: is this sample to be counted? NULL = all are. */
	bool (*wanted)(void *data, const struct record *sample, const char *comm);
	/*
	 * Live: what no record told was read from /proc. Who writes the records down misses it too, and says true when it has
	 * been added to them. May be NULL.
	 */
	bool (*learned)(void *data, const struct addrspaces_learned *learned);
	/* Live: of a file that is sampled, once, before the first sample is through. May be NULL. */
	void (*build_id)(void *data, const char *path, const uint8_t *id, size_t len);
	void *data;
};

/* Counters for the progress line. */
struct session_progress {
	uint64_t samples, idle, user_stacks, complete;
};

int session_new(const struct session_opts *opts, struct session **ret, struct err *err);
void session_free(struct session *s); /* NULL is fine */

/* Maps of the processes already there. Call between opening the events and enabling them. */
int session_scan(struct session *s, struct err *err);
/* The same for the processes of these tasks alone. */
int session_scan_tasks(struct session *s, const pid_t *tids, size_t num, struct err *err);

/* Managed runtimes that tell of their code, for app/managed.h. The one that knows .NET's; the session's own. */
struct dotnet;
struct dotnet *session_dotnet(struct session *s);
/* The process that is `pid` now has such a runtime: what it tells is its. */
void session_runtime_begins(struct session *s, pid_t pid);
/* Something was told. */
void session_runtime_said(struct session *s, pid_t pid);
/*
 * With opts.keep_build_ids: what they said, appended to `ret` (nothing if there is nothing), and that of a recording, before
 * its first record; borrowed as long as the session lives. False when out of memory; 0 or -errno.
 */
struct strbuf;
bool session_saved_runtimes(const struct session *s, struct strbuf *ret);
int session_restore_runtimes(struct session *s, const void *bytes, size_t size, struct err *err);
/* Whether samples of that process can be wanted at all. */
bool session_may_want(struct session *s, pid_t pid);
/* A process in which JIT code was sampled that nobody has told of; 0 = no more. */
pid_t session_next_runtime(struct session *s);

/* Is this sample of a process that was asked for? To be asked before it is given to session_record. */
bool session_wants(struct session *s, const struct record *sample);

/* One record; fits struct collector_sink. */
void session_record(void *session, const struct record *record);
/* What was found out of the last sample given to it, when it was unwound at once. */
struct session_copy {
	bool cut;       /* the copy ended before the stack did, as if it had been full */
	bool continued; /* it was full, and the stack goes on by the kernel's chain of frame pointers */
};
struct session_copy session_last_copy(const struct session *s);
/* A record that is of no use: it tells of a process that opts.learned has put down as it was later. */
bool session_overtook(const struct session *s, const struct record *record);
/* The same, and which event a sample is of, as profile_sample.event tells it. */
void session_record_of(struct session *s, const struct record *record, size_t event);

/* Of a recording: what it tells besides records. False: out of memory. */
bool session_build_id(struct session *s, const char *path, const uint8_t *id, size_t len);
/* Where it was made; `release` is its kernel's, NULL = not told. Before the first record with a path in it. */
void session_origin(struct session *s, const char *release, enum offline_origin origin);
/* Registers of the samples that follow; opts.regs_mask until then. */
void session_set_regs(struct session *s, uint64_t regs_mask);
/* Samples from now on have no user side, or have one after all; as opts.kernel_only, which is for all of them. */
void session_set_kernel_only(struct session *s, bool kernel_only);

/*
 * Every file that a sampled frame lies in and that has a build-id, by path. Paths that mean different files (in
 * containers, after an update) are left out. False when out of memory.
 */
bool session_each_build_id(struct session *s,
			   void (*each)(void *data, const char *path, const uint8_t *id, size_t len),
			   void *data);

/* About once a second while recording: memory that was not needed lately is given back. */
void session_tick(struct session *s);

/* Of the samples kept, those before that time are needed no more; may leave some. */
void session_forget_samples(struct session *s, uint64_t before_ns);

/* About how much memory stacks, frames and samples take. */
size_t session_bytes(const struct session *s);

struct session_progress session_progress(const struct session *s);

/*
 * The profile of everything since the start, every frame named; the session goes on, unless this is the `last`: then its
 * stacks and strings have become the profile's, and it can only be freed, before that. Naming stops when stop(data) says so
 * (frames then show as [module]). The caller fills in what it alone knows (loss, times).
 */
int session_profile(struct session *s, bool last, bool (*stop)(void *data), void *data,
		    struct profile **ret, struct err *err);
