/* Parsers of /proc text: bytes in, values out. Every field is checked; odd lines are skipped and counted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One line of /proc/PID/maps (fs/proc/task_mmu.c show_map_vma). */
struct proc_map {
	uint64_t start, end; /* addresses in the process; start < end */
	uint64_t pgoff;      /* byte offset in the file */
	uint32_t maj, min;
	uint64_t ino;
	bool readable, writable, executable, shared;
	char path[4096];     /* unescaped (\012 becomes a newline); "" = anonymous; cut when longer */
};
/* Calls each() per good line until it returns non-zero (returned); *bad counts lines that did not parse
 * (bad may be NULL). The map is borrowed until each() returns. */
int proc_maps_parse(const char *text, size_t len, int (*each)(void *data, const struct proc_map *map),
		    void *data, size_t *bad);

/*
 * Whether executable memory of this name has no file of its own, which is where JIT compilers put code: anonymous, memfd,
 * shared memory. Names as /proc/PID/maps (fs/proc/task_mmu.c) and perf (kernel/events/core.c perf_event_mmap_event)
 * give them.
 */
bool proc_is_jit_path(const char *path);

/* What we need of /proc/PID/status. -EBADMSG when Tgid or Uid is missing. Names cannot forge fields:
 * the kernel escapes '\n' in Name, and only whole line starts are matched. */
struct proc_status {
	pid_t tgid;
	pid_t ppid;
	pid_t nspid;  /* innermost pid: last field of NSpid; tgid when the line is missing */
	uid_t uid;    /* real */
	uid_t euid;
	uint64_t peak_kib; /* the most memory it ever had resident (VmHWM); 0 = not told */
	uint64_t file_kib; /* of files, that it has resident now (RssFile); 0 = not told */
	char name[64]; /* as the task set it: \n and \\ are turned back; cut when longer */
};
int proc_status_parse(const char *text, size_t len, struct proc_status *ret);

/* Field 22 of /proc/PID/stat: start time in clock ticks since boot. The comm (which may hold ") ") is
 * skipped by its last ')'. -EBADMSG when malformed. */
int proc_stat_start_time(const char *text, size_t len, uint64_t *ret_ticks);

/* One line of /proc/PID/cgroup: where the process is in one hierarchy (cgroups(7)). */
struct proc_cgroup {
	bool unified;         /* the hierarchy of cgroup v2, "0::" */
	char controllers[256]; /* "cpu,cpuacct", "name=systemd"; "" in the unified one; cut when longer */
	char path[4096];      /* absolute, as the reader's cgroup namespace sees it; without " (deleted)" */
};
/* Calls each() per good line until it returns non-zero (returned). The line is borrowed. */
int proc_cgroup_each(const char *text, size_t len, int (*each)(void *data, const struct proc_cgroup *line),
		     void *data);

/* Whether a list such as "rw,cpu,cpuacct" has that word. */
bool proc_has_controller(const char *list, const char *name);

/* One mount of a cgroup hierarchy in /proc/PID/mountinfo. */
struct proc_cgroup_mount {
	uint32_t maj, min;
	bool unified;
	char options[1024]; /* of the superblock: "rw,perf_event" */
	char root[4096];    /* which cgroup is mounted there; "/.." = above the reader's namespace; unescaped */
	char point[4096];   /* where; unescaped */
};
/* The same for them; a line with something longer is skipped. */
int proc_cgroup_mounts(const char *text, size_t len,
		       int (*each)(void *data, const struct proc_cgroup_mount *mount), void *data);

/* First line of /proc/PID/uid_map that maps 0: what root of that user namespace is called outside.
 * -EBADMSG when 0 is not mapped. */
int proc_uidmap_root(const char *text, size_t len, uid_t *ret);

/* "0-3,7" as set bits: CPU n is bit n % 8 of bits[n / 8], (max + 7) / 8 bytes, cleared first. CPUs >= max are
 * ignored. Number of bits set (0 for an empty list), or -EBADMSG. */
int cpulist_parse(const char *text, size_t len, uint8_t *bits, size_t max);
