#include "target/door.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/strbuf.h"
#include "target/broker_priv.h"
#include "target/door_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static const char *const refusal_names[DOOR_NUM_REFUSALS] = {
	[DOOR_OK] = "ok",           [DOOR_GONE] = "gone",
	[DOOR_DENIED] = "denied",   [DOOR_NOT_REGULAR] = "not_regular",
	[DOOR_TOO_BIG] = "too_big", [DOOR_FOREIGN] = "foreign",
	[DOOR_STALE] = "stale",     [DOOR_CHANGED] = "changed",
	[DOOR_ESCAPE] = "escape",   [DOOR_REMOTE] = "remote",
	[DOOR_SLOW] = "slow",       [DOOR_FAILED] = "failed",
};

const char *door_refusal_name(enum door_refusal refusal)
{
	if ((unsigned int)refusal >= DOOR_NUM_REFUSALS)
		return "unknown";
	return refusal_names[refusal];
}

static void door_freep(struct door **door)
{
	door_free(*door);
}

/*
 * A filter may answer EPERM for a call it does not know, so what counts is whether it works at all.
 */
static bool probe_openat2(int root_fd)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, root_fd, ".", &how, sizeof(how));

	return fd >= 0;
}

bool door_fill_standard_descriptors(void)
{
	static const int flags[] = { O_RDONLY, O_RDONLY, O_WRONLY };

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", flags[fd]) < 0)
			return false;
	}
	return true;
}

int door_open_proc_root(struct err *err)
{
	_cleanup_close_ int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return err_set(err, errno, "open /proc: %s", strerror(errno));
	if (fstatfs(fd, &fs) < 0)
		return err_set(err, errno, "statfs /proc: %s", strerror(errno));
	if ((uint32_t)fs.f_type != PROC_SUPER_MAGIC)
		return err_set(err, ENODEV,
			       "/proc is not mounted; mount it with 'mount -t proc proc /proc'");
	return steal_fd(&fd);
}

int door_new(struct door **ret, struct err *err)
{
	_cleanup_(door_freep) struct door *door = calloc(1, sizeof(*door));

	if (!door)
		return err_oom(err);
	door_note_rights(door);
	door->root_fd = -1;
	door->proc_fd = door_open_proc_root(err);
	if (door->proc_fd < 0)
		return door->proc_fd;
	door->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (door->root_fd < 0)
		return err_set(err, errno, "open /: %s", strerror(errno));
	door->have_openat2 = probe_openat2(door->root_fd);
	*ret = steal_ptr(door);
	return 0;
}

int door_new_below(const char *dir, struct door **ret, struct err *err)
{
	_cleanup_(door_freep) struct door *door = NULL;
	int r = door_new(&door, err);

	if (r < 0)
		return r;
	closep(&door->root_fd);
	door->root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (door->root_fd < 0)
		return err_set(err, errno, "open %s: %s", dir, strerror(errno));
	*ret = steal_ptr(door);
	return 0;
}

void door_free(struct door *door)
{
	if (!door)
		return;
	broker_free(door->broker);
	door_refused_free(door->refused);
	closep(&door->root_fd);
	closep(&door->proc_fd);
	free(door);
}

int door_process(const struct door *door, pid_t pid)
{
	char name[16];
	int fd;

	if (pid <= 0)
		return -ESRCH;
	snprintf(name, sizeof(name), "%d", pid);
	fd = openat(door->proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOENT ? -ESRCH : -errno;
}

ssize_t door_read_piece(int fd, void *buf, size_t size)
{
	ssize_t n;

	do
		n = read(fd, buf, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Drops what follows the last newline at or after `from`. */
static void drop_partial_line(struct strbuf *text, size_t from)
{
	const char *last = memrchr(text->data + from, '\n', text->len - from);

	text->len = last ? (size_t)(last - text->data) + 1 : from;
	text->data[text->len] = '\0';
}

/* Reads fd to its end or to `cap` bytes, see door_read_proc. 0 or -errno. */
static int read_fd(int fd, size_t cap, struct strbuf *ret, bool *cut)
{
	const size_t from = ret->len;
	size_t got = 0;
	ssize_t n = 0;

	if (cut)
		*cut = false;
	while (got < cap) {
		/*
		 * Most texts fit in a page; long ones (kallsyms) should not take thousands of
		 * turns.
		 */
		size_t room = got < 4096 ? 4096 : got < 262144 ? got : 262144;

		if (room > cap - got)
			room = cap - got;
		if (!strbuf_reserve(ret, room))
			return -ENOMEM;
		n = door_read_piece(fd, ret->data + ret->len, room);
		if (n <= 0)
			break;
		got += (size_t)n;
		ret->len += (size_t)n;
		ret->data[ret->len] = '\0';
	}
	if (got >= cap) {
		char more;

		n = door_read_piece(fd, &more, 1);
		if (n > 0 && got)
			drop_partial_line(ret, from);
		if (n > 0 && cut)
			*cut = true;
	}
	if (n < 0 && got) {
		ret->len = from;
		ret->data[from] = '\0';
	}
	return n < 0 ? (int)n : 0;
}

static int open_at(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int door_read_at(int dir, const char *name, size_t cap, struct strbuf *ret, bool *cut)
{
	_cleanup_close_ int fd = open_at(dir, name);

	return fd < 0 ? fd : read_fd(fd, cap, ret, cut);
}

static size_t span_name(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
}

/*
 * NAME or task/TID/NAME. Any other slash could step through a magic link ("root/etc/shadow",
 * "cwd/...", "fd/3"), which would be a way around every check of this folder.
 */
static bool proc_name_ok(const char *name)
{
	size_t len;

	if (!strncmp(name, "task/", 5)) {
		len = strspn(name + 5, "0123456789");
		if (!len || name[5 + len] != '/')
			return false;
		name += 5 + len + 1;
	}
	len = span_name(name);
	return len && !name[len];
}

int door_open_proc(struct door *door, pid_t pid, const char *name, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct stat st;
	int r;

	if (!proc_name_ok(name))
		return err_set(err, EINVAL, "not a file of a process that may be read");
	if (door->broker)
		return broker_open_text(door->broker, BROKER_PROC, pid, 0, name, err);
	dir = door_process(door, pid);
	r = dir < 0 ? dir : open_at(dir, name);
	/*
	 * Below a process that is gone everything is ENOENT: tell that from a name that does not
	 * exist.
	 */
	if (r == -ENOENT && (!strncmp(name, "task/", 5) || fstatat(dir, "stat", &st, 0) < 0))
		r = -ESRCH;
	if (r == -ESRCH)
		return err_set(err, ESRCH, "process %d is gone", pid);
	return r < 0 ? err_set(err, -r, "read /proc/%d/%s: %s", pid, name, strerror(-r)) : r;
}

int door_read_proc(struct door *door, pid_t pid, const char *name, size_t cap, struct strbuf *ret,
		   bool *cut, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (cut)
		*cut = false;
	fd = door_open_proc(door, pid, name, err);
	if (fd < 0)
		return fd;
	r = read_fd(fd, cap, ret, cut);
	/* What is read of a process that has ended meanwhile: fs/proc/base.c says ESRCH. */
	if (r == -ESRCH)
		return err_set(err, ESRCH, "process %d is gone", pid);
	return r < 0 ? err_set(err, -r, "read /proc/%d/%s: %s", pid, name, strerror(-r)) : 0;
}

/* Relative to our root, so that they stay the host's even if we change root later. */
static const struct {
	const char *path;
	size_t cap; /* bytes */
} texts[DOOR_NUM_TEXTS] = {
	[DOOR_KALLSYMS] = { "proc/kallsyms",
			    256u << 20 }, /* 10 to 30 MB; far more with many modules */
	[DOOR_CPUS_ONLINE] = { "sys/devices/system/cpu/online", 65536 },
	[DOOR_PERF_PARANOID] = { "proc/sys/kernel/perf_event_paranoid", 4096 },
	[DOOR_PERF_MLOCK_KB] = { "proc/sys/kernel/perf_event_mlock_kb", 4096 },
	[DOOR_PERF_MAX_RATE] = { "proc/sys/kernel/perf_event_max_sample_rate", 4096 },
	[DOOR_PERF_MAX_STACK] = { "proc/sys/kernel/perf_event_max_stack", 4096 },
	[DOOR_KPTR_RESTRICT] = { "proc/sys/kernel/kptr_restrict", 4096 },
	[DOOR_LOCKDOWN] = { "sys/kernel/security/lockdown", 4096 },
	[DOOR_MEMINFO] = { "proc/meminfo", 65536 },
	[DOOR_CPUINFO] = { "proc/cpuinfo", 4096 }, /* the first CPU is enough */
	[DOOR_MODULES] = { "proc/modules", 1 << 20 },
	[DOOR_KERNEL_NOTES] = { "sys/kernel/notes", 65536 },
	[DOOR_STAT] = { "proc/stat", 1 << 20 },
	[DOOR_PSI_CPU] = { "proc/pressure/cpu", 4096 },
	[DOOR_PSI_MEMORY] = { "proc/pressure/memory", 4096 },
	[DOOR_PSI_IO] = { "proc/pressure/io", 4096 },
};

int door_read_text(struct door *door, enum door_text text, struct strbuf *ret, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r;

	if ((unsigned int)text >= DOOR_NUM_TEXTS)
		return err_set(err, EINVAL, "no such host text");
	fd = door_open_text(door, text, err);
	if (fd < 0)
		return fd;
	r = read_fd(fd, texts[text].cap, ret, NULL);
	return r < 0 ? err_set(err, -r, "read /%s: %s", texts[text].path, strerror(-r)) : 0;
}

int door_open_text(struct door *door, enum door_text text, struct err *err)
{
	int fd;

	if ((unsigned int)text >= DOOR_NUM_TEXTS)
		return err_set(err, EINVAL, "no such host text");
	if (door->broker)
		return broker_open_text(door->broker, BROKER_TEXT, 0, text, "", err);
	fd = open_at(door->root_fd, texts[text].path);
	if (fd < 0)
		return err_set(err, -fd, "open /%s: %s", texts[text].path, strerror(-fd));
	return fd;
}

static bool event_name_ok(const char *name)
{
	size_t len =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	return len && len <= NAME_MAX && !name[len];
}

int door_tracepoint_id(struct door *door, const char *subsys, const char *name, uint64_t *ret,
		       struct err *err)
{
	/* tracefs on its own, then where old systems mount it through debugfs. */
	static const char *const homes[] = { "sys/kernel/tracing", "sys/kernel/debug/tracing" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r = -ENOENT;

	if (!event_name_ok(subsys) || !event_name_ok(name))
		return err_set(err, EINVAL,
			       "a tracepoint is named SUBSYS:NAME, of letters, digits, _ and -");
	if (door->broker)
		return broker_tracepoint(door->broker, subsys, name, ret, err);
	for (size_t i = 0; r < 0 && i < sizeof(homes) / sizeof(homes[0]); i++) {
		char path[2 * NAME_MAX + 64];
		int s;

		snprintf(path, sizeof(path), "%s/events/%s/%s/id", homes[i], subsys, name);
		s = door_read_at(door->root_fd, path, 64, &text, NULL);
		/* A refusal in the first place says more than an absence in the second. */
		if (!s || r == -ENOENT)
			r = s;
	}
	if (r == -ENOENT)
		return err_set(
			err, ENOENT,
			"no tracepoint %s:%s (or tracefs is not mounted at /sys/kernel/tracing)",
			subsys, name);
	if (r < 0)
		return err_set(err, -r, "read the id of tracepoint %s:%s: %s", subsys, name,
			       strerror(-r));
	if (!text.len || !isdigit((unsigned char)text.data[0]))
		return err_set(err, EBADMSG, "tracepoint %s:%s has no number", subsys, name);
	errno = 0;
	*ret = strtoull(text.data, NULL, 10);
	return errno ? err_set(err, EBADMSG, "tracepoint %s:%s has no number", subsys, name) : 0;
}

/* The number a directory entry is named after, or 0. */
static pid_t entry_id(const char *name)
{
	long id;

	if (strspn(name, "0123456789") != strlen(name))
		return 0;
	errno = 0;
	id = strtol(name, NULL, 10);
	return errno || id > INT_MAX ? 0 : (pid_t)id;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int door_open_tasks(struct door *door, pid_t pid, struct err *err)
{
	char name[32] = ".";
	int fd;

	if (door->broker)
		return broker_open_text(door->broker, BROKER_TASKS, pid, 0, "", err);
	if (pid)
		snprintf(name, sizeof(name), "%d/task", pid);
	fd = openat(door->proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ESRCH))
		return err_set(err, ESRCH, "process %d is gone", pid);
	return fd < 0 ? err_set(err, errno, "open /proc/%s: %s", name, strerror(errno)) : fd;
}

int door_each_task(struct door *door, pid_t pid, int (*each)(void *data, pid_t id), void *data,
		   struct err *err)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	_cleanup_close_ int fd = door_open_tasks(door, pid, err);
	char name[32] = "";

	if (fd < 0)
		return fd;
	if (pid)
		snprintf(name, sizeof(name), "%d/task", pid);
	dir = fdopendir(fd);
	if (!dir)
		return err_set(err, errno, "list /proc/%s: %s", name, strerror(errno));
	steal_fd(&fd);
	for (;;) {
		const struct dirent *entry;
		pid_t id;
		int r;

		errno = 0;
		entry = readdir(dir);
		if (!entry)
			break;
		id = entry_id(entry->d_name);
		r = id ? each(data, id) : 0;
		if (r)
			return r;
	}
	/* fs/proc/base.c proc_task_readdir: ENOENT once the process is dead. */
	if (errno == ENOENT || errno == ESRCH)
		return err_set(err, ESRCH, "process %d is gone", pid);
	return errno ? err_set(err, errno, "list /proc/%s: %s", name, strerror(errno)) : 0;
}

int door_allow_events(struct door *door, const struct door_event *events, size_t num, const int *cgroups,
		      size_t num_cgroups, struct err *err)
{
	return door->broker ? broker_allow_events(door->broker, events, num, cgroups, num_cgroups, err) : 0;
}

int door_open_event(struct door *door, size_t index, int cgroup, int cpu, struct err *err)
{
	if (!door->broker)
		return err_set(err, ENOSYS, "there is no broker");
	return broker_open_event(door->broker, index, cgroup, cpu, err);
}

int door_pread(int fd, void *buf, size_t size, uint64_t offset)
{
	ssize_t n = fd_pread_full(fd, buf, size, offset);

	if (n < 0)
		return (int)n;
	return (size_t)n == size ? 0 : -EIO;
}
