/*
 * The one door: everything outside the program is reached through here. Target files, /proc text, host
 * files, the kernel's own lists. Requests are plain values and answers are descriptors or bytes, so that the
 * door can later move into a process of its own. Parsers never see a path they could open.
 *
 * A file a target can name is opened so that it cannot hurt us: inside the target's own root (openat2,
 * RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), O_PATH first, then fstat (regular, size cap, owner), then
 * reopened through /proc/self/fd with O_NONBLOCK. A FIFO, a device or a directory is refused, never opened.
 */
#pragma once

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;
struct strbuf;

/* What a file is wanted for: decides the checks. */
enum door_want {
	DOOR_ELF,     /* an executable or library: regular, <= 4 GiB */
	DOOR_DEBUG,   /* separate debug file: the same */
	DOOR_PERFMAP, /* JIT symbols: regular, one link, <= 256 MiB, owned by the target's uid or root of its
		       * user namespace, modified no earlier than the target started; the name is no symbolic
		       * link. For pid 0: owned by us or root, of any age. Only this one may be empty. */
	DOOR_NUM_WANTS,
};

/* Why the door refused; counted by the caller under `refused` in --stats. */
enum door_refusal {
	DOOR_OK,
	DOOR_GONE,        /* no such file or process any more */
	DOOR_DENIED,      /* the kernel said EACCES or EPERM */
	DOOR_NOT_REGULAR, /* FIFO, device, directory, socket; file of procfs, sysfs and the like */
	DOOR_TOO_BIG,
	DOOR_FOREIGN,     /* wrong owner or more than one link */
	DOOR_STALE,       /* older than the process it would name */
	DOOR_CHANGED,     /* another inode than the one that is mapped */
	DOOR_ESCAPE,      /* path leaves the root, loops or goes through a magic link */
	DOOR_REMOTE,      /* on FUSE or a network file system that is not our own root's: it may never answer */
	DOOR_SLOW,        /* took more than 2 seconds, or its file system did so before */
	DOOR_FAILED,      /* anything else; err says what */
	DOOR_NUM_REFUSALS,
};
const char *door_refusal_name(enum door_refusal refusal); /* "gone", "denied", ... stable words */

/*
 * What was refused of files asked for by path (door_open, door_open_perfmap), by reason: DOOR_NUM_REFUSALS counters, each
 * file of a process once. That a file is not there is no refusal. Mappings are counted by whoever asks (files_refused).
 */
const uint64_t *door_refused(struct door *door);

/*
 * The capabilities for want of which files of other programs may be refused, as a person writes them ("CAP_SYS_PTRACE
 * and CAP_DAC_READ_SEARCH"); "" when there are all.
 */
const char *door_missing_rights(const struct door *door);

/* An opened file. The descriptor is the receiver's to close. */
struct door_file {
	int fd;
	dev_t dev;         /* of fstat: on overlayfs and btrfs another number than perf's */
	ino_t ino;
	uint64_t size;     /* bytes */
	int64_t mtime_ns;
	int64_t ctime_ns;
};

/* A mapping as perf or /proc/PID/maps told it. */
struct door_mapping {
	pid_t pid;
	uint64_t start, end; /* addresses in the process */
	uint32_t maj, min;   /* of the mapped file's device; both 0 with ino 0 = not known */
	uint64_t ino;
	const char *path;    /* as told, may end in " (deleted)" */
	const uint8_t *build_id; /* where the kernel or the recorder told it; the door does not look at it */
	size_t build_id_len;     /* 0 = not told */
	bool build_id_of_path;   /* the recorder read it afterwards, of whatever file had the path by then */
};

/*
 * A caller may have closed a standard descriptor: the next file to be opened would get its number, and be written to as
 * if it were stdout or stderr. Puts /dev/null in its place, so that a closed stdout still fails (it is opened for reading),
 * and a closed stderr swallows what it is told. False when that cannot be done. To be called first of all.
 */
bool door_fill_standard_descriptors(void);

int door_new(struct door **ret, struct err *err);
void door_free(struct door *door); /* NULL is fine */

/*
 * The file mapped there: /proc/PID/map_files/START-END first (works for deleted and replaced files), else
 * the path inside the process's root if device and inode are equal, else through another live process of
 * `also_pids` (num_also of them, may be 0: for a short-lived process its parent's root serves).
 *
 * This and the two below write `ret` only with DOOR_OK. The sentence in `err` never holds a path that a
 * target has chosen.
 */
enum door_refusal door_open_mapping(struct door *door, const struct door_mapping *mapping,
				    const pid_t *also_pids, size_t num_also,
				    struct door_file *ret, struct err *err);

/* `path` (absolute) inside the root of `pid`; pid 0 = the host's own root, same checks. */
enum door_refusal door_open(struct door *door, pid_t pid, const char *path, enum door_want want,
			    struct door_file *ret, struct err *err);

/* The process's perf map: /tmp/perf-NSPID.map in its own root, NSPID = the innermost pid of its status. */
enum door_refusal door_open_perfmap(struct door *door, pid_t pid, struct door_file *ret,
				    struct err *err);

/*
 * Where a process would put its map, held open so that what it leaves there can be opened when it has ended: a JVM writes
 * its map as it exits, if it was told to. The descriptor is the caller's; its number means nothing to others.
 */
struct door_place {
	int dir_fd;
	pid_t nspid;
	uid_t uid, root;  /* who may own the map */
	int64_t start_ns; /* CLOCK_REALTIME at which the process started */
};
int door_keep_place(struct door *door, pid_t pid, struct door_place *ret, struct err *err); /* 0 or -errno */
enum door_refusal door_open_left(struct door *door, const struct door_place *place, struct door_file *ret,
				 struct err *err);

/*
 * /proc/PID/NAME ("maps", "status", "cgroup", "comm", "stat"; "task/TID/comm"…) appended to `ret`, at most
 * `cap` bytes (longer text is cut at the last whole line and *cut set, when cut is not NULL).
 * 0 or -errno (-ESRCH when the process is gone, -EINVAL for a name with other bytes than [a-z0-9_] or with
 * another directory than task/TID).
 */
int door_read_proc(struct door *door, pid_t pid, const char *name, size_t cap, struct strbuf *ret,
		   bool *cut, struct err *err);

/* Host texts this program reads, by fixed path: nothing else can be asked for. */
enum door_text {
	DOOR_KALLSYMS,          /* /proc/kallsyms */
	DOOR_CPUS_ONLINE,       /* /sys/devices/system/cpu/online */
	DOOR_PERF_PARANOID,     /* /proc/sys/kernel/perf_event_paranoid */
	DOOR_PERF_MLOCK_KB,     /* /proc/sys/kernel/perf_event_mlock_kb */
	DOOR_PERF_MAX_RATE,     /* /proc/sys/kernel/perf_event_max_sample_rate */
	DOOR_PERF_MAX_STACK,    /* /proc/sys/kernel/perf_event_max_stack */
	DOOR_KPTR_RESTRICT,     /* /proc/sys/kernel/kptr_restrict */
	DOOR_LOCKDOWN,          /* /sys/kernel/security/lockdown */
	DOOR_MEMINFO,           /* /proc/meminfo */
	DOOR_CPUINFO,           /* /proc/cpuinfo */
	DOOR_MODULES,           /* /proc/modules */
	DOOR_KERNEL_NOTES,      /* /sys/kernel/notes: ELF notes, no text */
	DOOR_STAT,              /* /proc/stat */
	DOOR_PSI_CPU,           /* /proc/pressure/cpu, memory, io */
	DOOR_PSI_MEMORY,
	DOOR_PSI_IO,
	DOOR_NUM_TEXTS,
};
int door_read_text(struct door *door, enum door_text text, struct strbuf *ret, struct err *err);
/* The same for a text that is long (kallsyms) and better read in pieces: a descriptor, or -errno. */
int door_open_text(struct door *door, enum door_text text, struct err *err);
/* The next piece of it: how many bytes, 0 at its end, or -errno. */
ssize_t door_read_piece(int fd, void *buf, size_t size);

/* Id of a tracepoint from tracefs (or debugfs); both names are checked for [A-Za-z0-9_-]. 0 or -errno. */
int door_tracepoint_id(struct door *door, const char *subsys, const char *name, uint64_t *ret,
		       struct err *err);

/*
 * Each process (pid 0), or each thread of `pid`: calls each(data, id) until it returns non-zero, which is
 * returned; -ESRCH when pid is gone.
 */
int door_each_task(struct door *door, pid_t pid, int (*each)(void *data, pid_t id), void *data,
		   struct err *err);

/*
 * /proc/PID/mem for reading, for target/memory.h alone: a descriptor, or -errno. It belongs to the program that
 * runs there now, and reads nothing once that has ended. *ret_start_ns: when the process started, CLOCK_BOOTTIME
 * rounded down to a clock tick; with the pid that names one process.
 */
int door_open_memory(struct door *door, pid_t pid, uint64_t *ret_start_ns, struct err *err);

/*
 * perf events of CPUs that come online while recording, for who may not open any himself by then. What may be asked for
 * is told while he is still to be trusted, and fixed by broker_seal (target/broker.h): these events, of all processes on
 * one CPU; or only of these cgroups, known by device and inode.
 */
struct door_event {
	struct perf_event_attr attr;
	bool of_cgroups;
};
enum { DOOR_MAX_EVENTS = 2, DOOR_MAX_EVENT_CGROUPS = 256 }; /* of more cgroups, the first */
/* `cgroups`: open directories. 0, or -EPERM after broker_seal; nothing to do where there is no broker. */
int door_allow_events(struct door *door, const struct door_event *events, size_t num, const int *cgroups,
		      size_t num_cgroups, struct err *err);
/* The descriptor of events[index], `cgroup` -1 = of all processes; or -errno: -ENODEV for a CPU that is offline. */
int door_open_event(struct door *door, size_t index, int cgroup, int cpu, struct err *err);

/* Reads a file descriptor the door gave: all of `size` at `offset`, or -EIO / -errno. Never maps it. */
int door_pread(int fd, void *buf, size_t size, uint64_t offset);

/*
 * Inode number of one of a process's namespaces ("pid", "mnt", "user" or "cgroup"): equal numbers are the same
 * namespace. 0 or -errno.
 */
int door_namespace(struct door *door, pid_t pid, const char *name, uint64_t *ret);

/*
 * Names in /var/log/containers, where Kubernetes links the logs of a node's containers: in our own root, in a
 * host's root that is mounted at /host, and in the root of process 1. Calls each() until it returns
 * non-zero, which is returned. Nothing where there is no such directory.
 */
int door_each_container_log(struct door *door, int (*each)(void *data, const char *name), void *data);

/*
 * The directory of a cgroup, for perf_event_open: `path` as /proc/PID/cgroup tells it, in the hierarchy of cgroup v2
 * or (not `unified`) in that of v1 that has the controller perf_event. Mounts are looked for where we see
 * them and where process 1 does. A descriptor, or -errno: -ENOENT when there is no such cgroup or no mount
 * that shows it.
 */
int door_open_cgroup(struct door *door, bool unified, const char *path, struct err *err);
/* Whether a process is in that cgroup or below it (v1: whether it is still there). */
bool door_cgroup_populated(struct door *door, int fd);
/* What a cgroup tells of itself: "cpu.stat", "cpuacct.usage", "cpu.pressure", ... 0 or -errno. Not through a broker. */
int door_cgroup_read(struct door *door, int fd, const char *name, struct strbuf *ret);
/* The same by a directory's own name in our root, where a person gave one: no namespace hides it then. */
int door_open_cgroup_dir(struct door *door, const char *dir, struct err *err);
/*
 * A cgroup as a person names it, "/sys/fs/cgroup/a/b" or "a/b/": the path as /proc/PID/cgroup would tell it, "/a/b".
 * False for "" and for a path with "..".
 */
bool door_cgroup_path(struct door *door, const char *given, struct strbuf *ret);
