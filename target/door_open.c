/* Opening what a target can name; door.h tells the rules, here is what each of them is good for. */
#include "target/door.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/broker_priv.h"
#include "target/door_priv.h"
#include "target/proc_text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000

/*
 * Kernels give up a path walk with EAGAIN when a rename races with ".." (openat2(2)): try again,
 * not for ever.
 */
#define MAX_RACES 16

static const char deleted[] = " (deleted)"; /* fs/d_path.c */

/* linux/magic.h of older distributions lacks some. */
static const uint32_t magic_overlayfs = 0x794c7630, magic_btrfs = 0x9123683e;

/*
 * File systems whose "regular" files are calls into the kernel: they block, have side effects, or
 * tell of the reader.
 */
static const uint32_t kernel_filesystems[] = {
	PROC_SUPER_MAGIC,
	SYSFS_MAGIC,
	DEBUGFS_MAGIC,
	TRACEFS_MAGIC,
	SECURITYFS_MAGIC,
	CGROUP_SUPER_MAGIC,
	CGROUP2_SUPER_MAGIC,
	SELINUX_MAGIC,
	BPF_FS_MAGIC,
	NSFS_MAGIC,
	0x62656570 /* configfs */,
	0xde5e81e4 /* efivarfs */,
};

/*
 * File systems whose answer comes from a server, who may be the target: it may never come, or be another one each time.
 * Where our own root is on that very file system (virtiofs, NFS) it is as good as any.
 */
static const uint32_t remote_filesystems[] = {
	0x65735546 /* FUSE */, 0x6969 /* NFS */,     0x517b /* smbfs */,     0xff534d42 /* CIFS */,
	0xfe534d42 /* SMB2 */, 0x01021997 /* 9P */,  0x73757245 /* Coda */,  0x5346414f /* AFS */,
	0x6b414653 /* kAFS */, 0x00c36400 /* Ceph */, 0x0bd00bd0 /* Lustre */, 0x47504653 /* GPFS */,
	0x19830326 /* BeeGFS */, 0x0187 /* autofs */,
};

static const struct {
	uint64_t max_size; /* bytes */
	bool may_be_empty;
	bool is_private; /* owner, links and age are checked; the name itself must not be a link */
} wants[DOOR_NUM_WANTS] = {
	[DOOR_ELF] = { 4ull << 30, false, false },
	[DOOR_DEBUG] = { 4ull << 30, false, false },
	[DOOR_PERFMAP] = { 256u << 20, true, true },
};

static enum door_refusal refuse(struct err *err, enum door_refusal refusal, int code,
				const char *why)
{
	err_set(err, code, "%s", why);
	return refusal;
}

static enum door_refusal refuse_errno(struct err *err, int code, const char *what)
{
	enum door_refusal refusal = DOOR_FAILED;

	if (code == ENOENT || code == ENOTDIR || code == ESRCH)
		refusal = DOOR_GONE;
	else if (code == EACCES || code == EPERM)
		refusal = DOOR_DENIED;
	else if (code == ELOOP || code == EXDEV)
		refusal = DOOR_ESCAPE;
	else if (code == ENXIO)
		refusal = DOOR_NOT_REGULAR;
	err_set(err, code, "%s: %s", what, strerror(code));
	return refusal;
}

/* Nanoseconds, clamped: a file system may hold any 64-bit second. */
static int64_t timespec_ns(const struct timespec *ts)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)ts->tv_sec, (int64_t)NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts->tv_nsec, &ns))
		return ts->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

/* A file seen through O_PATH: nothing of it has run or been read yet. */
struct sight {
	struct stat st;
	uint32_t magic; /* of its file system */
};

static bool is_one_of(uint32_t magic, const uint32_t *magics, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		if (magics[i] == magic)
			return true;
	}
	return false;
}

/* Without asking a server. */
static bool is_on_our_root(const struct door *door, int path_fd)
{
	struct statx file, root;

	return !statx(path_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &file) &&
	       !statx(door->root_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &root) &&
	       file.stx_dev_major == root.stx_dev_major && file.stx_dev_minor == root.stx_dev_minor;
}

static enum door_refusal look(const struct door *door, int path_fd, enum door_want want, struct sight *ret,
			      struct err *err)
{
	struct statfs fs;

	/* First of all: of a FUSE mount that is not for us the kernel answers this itself. */
	if (fstatfs(path_fd, &fs) < 0)
		return refuse_errno(err, errno, "stat the file system");
	ret->magic = (uint32_t)fs.f_type;
	if (is_one_of(ret->magic, remote_filesystems, sizeof(remote_filesystems) / sizeof(remote_filesystems[0])) &&
	    !is_on_our_root(door, path_fd))
		return refuse(err, DOOR_REMOTE, EREMOTE, "on FUSE or a network file system, which may never answer");
	if (fstat(path_fd, &ret->st) < 0)
		return refuse_errno(err, errno, "stat the file");
	if (!S_ISREG(ret->st.st_mode))
		return refuse(err, DOOR_NOT_REGULAR, EINVAL,
			      "not a regular file but a FIFO, device, directory, socket or link");
	if (is_one_of(ret->magic, kernel_filesystems, sizeof(kernel_filesystems) / sizeof(kernel_filesystems[0])))
		return refuse(err, DOOR_NOT_REGULAR, EINVAL, "a file of the kernel, not a stored one");
	if (ret->st.st_size < 0 || (uint64_t)ret->st.st_size > wants[want].max_size)
		return refuse(err, DOOR_TOO_BIG, EFBIG, "larger than what is read of such a file");
	if (!ret->st.st_size && !wants[want].may_be_empty)
		return refuse(err, DOOR_FAILED, ENODATA, "the file is empty");
	return DOOR_OK;
}

/*
 * Opens for reading what was looked at, by descriptor: there is no second walk of the path to win a
 * race against. O_NONBLOCK also turns the wait for a lease that the target may hold into
 * EWOULDBLOCK.
 */
static enum door_refusal open_seen(const struct door *door, int path_fd, const struct sight *sight,
				   struct door_file *ret, struct err *err)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "self/fd/%d", path_fd);
	fd = openat(door->proc_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return refuse_errno(err, errno, "open the file for reading");
	*ret = (struct door_file){
		.fd = fd,
		.dev = sight->st.st_dev,
		.ino = sight->st.st_ino,
		.size = (uint64_t)sight->st.st_size,
		.mtime_ns = timespec_ns(&sight->st.st_mtim),
		.ctime_ns = timespec_ns(&sight->st.st_ctim),
	};
	return DOOR_OK;
}

static bool same_inode(int dir_a, const char *name_a, int dir_b, const char *name_b)
{
	struct stat a, b;

	return !fstatat(dir_a, name_a, &a, 0) && !fstatat(dir_b, name_b, &b, 0) &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool door_shares_our_root(const struct door *door, int process)
{
	return same_inode(process, "root", door->proc_fd, "self/root") &&
	       same_inode(process, "ns/mnt", door->proc_fd, "self/ns/mnt");
}

/* RESOLVE_IN_ROOT refuses magic links too, but openat2(2) says not to count on that. */
static int openat2_retry(int root, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | flags,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd = -1;

	for (int i = 0; i < MAX_RACES; i++) {
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd;
}

/*
 * O_PATH descriptor of `path` inside the root of `process` (a descriptor of /proc/PID, -1 = our own
 * root). By name alone, /proc/PID/root + path leaves the container by an absolute link or by "..".
 */
static enum door_refusal find_in_root(const struct door *door, int process, const char *path,
				      enum door_want want, int *ret, struct err *err)
{
	_cleanup_close_ int root_fd = -1;
	int root = door->root_fd;

	if (path[0] != '/')
		return refuse(err, DOOR_FAILED, EINVAL, "the path is not absolute");
	if (process >= 0) {
		root = root_fd = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return refuse_errno(err, errno, "open the root of the process");
	}
	if (door->have_openat2)
		*ret = openat2_retry(root, path, wants[want].is_private ? O_NOFOLLOW : 0);
	else if (process < 0 || door_shares_our_root(door, process))
		*ret = openat(root, path + strspn(path, "/"), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	else
		return refuse(
			err, DOOR_DENIED, ENOSYS,
			"files of a container cannot be opened safely here: openat2 needs Linux 5.6 "
			"and a seccomp filter that allows it");
	if (*ret < 0)
		return refuse_errno(err, errno, "open the path");
	return DOOR_OK;
}

/* What a perf map is held against. */
struct owner {
	uid_t uid;
	uid_t root;       /* 0 of its user namespace as we see it; = uid when there is none */
	int64_t start_ns; /* CLOCK_REALTIME at which it started */
};

/*
 * In its own user namespace anybody can bind a file of the host's root into a private /tmp, so only
 * the root of that namespace counts there. user_namespaces(7): uid_map tells outer ids as the
 * reader sees them, except for a reader in the same namespace, who sees 0 as 0.
 */
static int read_root_uid(const struct door *door, int process, uid_t *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r;

	if (same_inode(process, "ns/user", door->proc_fd, "self/ns/user")) {
		*ret = 0;
		return 0;
	}
	r = door_read_at(process, "uid_map", 65536, &text, NULL);
	return r < 0 ? r : proc_uidmap_root(text.data, text.len, ret);
}

static int read_start(int process, int64_t *ret_ns)
{
	uint64_t start;
	int r = door_start_time(process, &start);

	if (!r)
		*ret_ns = (int64_t)(start + clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME));
	return r;
}

static int read_status(int process, struct proc_status *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r = door_read_at(process, "status", 65536, &text, NULL);

	return r < 0 ? r : proc_status_parse(text.data, text.len, ret);
}

static enum door_refusal read_owner(const struct door *door, int process, struct owner *ret,
				    struct err *err)
{
	struct proc_status status;
	int r;

	if (process < 0) { /* a copy somebody made for us: ours or root's, of any age */
		*ret = (struct owner){ geteuid(), 0, INT64_MIN };
		return DOOR_OK;
	}
	r = read_status(process, &status);
	if (!r)
		r = read_start(process, &ret->start_ns);
	if (r < 0)
		return refuse_errno(err, -r, "read who the process is");
	ret->uid = status.euid;
	if (read_root_uid(door, process, &ret->root) < 0)
		ret->root = status.euid;
	return DOOR_OK;
}

static enum door_refusal check_owner(const struct sight *sight, const struct owner *owner,
				     struct err *err)
{
	/*
	 * Ticks and coarse file times are both rounded down, on some file systems to whole seconds. No more than that:
	 * what a predecessor under the same pid wrote just before it ended must not name this process's code.
	 */
	const int64_t slack_ns = sight->st.st_mtim.tv_nsec ? NSEC_PER_SEC / 50 : NSEC_PER_SEC;

	if (sight->st.st_uid != owner->uid && sight->st.st_uid != owner->root)
		return refuse(err, DOOR_FOREIGN, EPERM,
			      "the file belongs neither to the process's user nor to its root");
	if (sight->st.st_nlink != 1)
		return refuse(err, DOOR_FOREIGN, EMLINK, "the file has not exactly one name");
	if (owner->start_ns > INT64_MIN &&
	    timespec_ns(&sight->st.st_mtim) < owner->start_ns - slack_ns)
		return refuse(err, DOOR_STALE, ESTALE, "the file is older than the process");
	return DOOR_OK;
}

static enum door_refusal open_checked(const struct door *door, int process, const char *path,
				      enum door_want want, struct door_file *ret, struct err *err)
{
	_cleanup_close_ int path_fd = -1;
	enum door_refusal refusal;
	struct sight sight;
	struct owner owner;

	refusal = find_in_root(door, process, path, want, &path_fd, err);
	if (refusal == DOOR_OK)
		refusal = look(door, path_fd, want, &sight, err);
	if (refusal == DOOR_OK && wants[want].is_private) {
		refusal = read_owner(door, process, &owner, err);
		if (refusal == DOOR_OK)
			refusal = check_owner(&sight, &owner, err);
	}
	return refusal == DOOR_OK ? open_seen(door, path_fd, &sight, ret, err) : refusal;
}

static enum door_refusal ask_by_path(struct door *door, enum broker_op op, pid_t pid, const char *path,
				     enum door_want want, struct door_file *ret, struct err *err)
{
	enum door_refusal refusal = DOOR_SLOW;
	struct err why = { 0 };

	if (!door_is_slow(door, pid, NULL, &why)) {
		refusal = broker_open(door->broker, op, pid, path, want, ret, &why);
		if (refusal == DOOR_FAILED && why.code == ETIMEDOUT)
			refusal = door_note_slow(door, pid, NULL);
	}
	if (refusal != DOOR_OK && err)
		*err = why;
	return door_note_refusal(door, pid, path, refusal);
}

static enum door_refusal ask_for_mapping(struct door *door, const struct door_mapping *mapping, const pid_t *also_pids,
					 size_t num_also, struct door_file *ret, struct err *err)
{
	enum door_refusal refusal = DOOR_SLOW;
	struct err why = { 0 };

	if (!door_is_slow(door, mapping->pid, mapping, &why)) {
		refusal = broker_open_mapping(door->broker, mapping, also_pids, num_also, ret, &why);
		if (refusal == DOOR_FAILED && why.code == ETIMEDOUT)
			refusal = door_note_slow(door, mapping->pid, mapping);
	}
	if (refusal != DOOR_OK && err)
		*err = why;
	return refusal;
}

enum door_refusal door_open(struct door *door, pid_t pid, const char *path, enum door_want want,
			    struct door_file *ret, struct err *err)
{
	_cleanup_close_ int process = -1;

	if ((unsigned int)want >= DOOR_NUM_WANTS)
		return refuse(err, DOOR_FAILED, EINVAL, "no such kind of file");
	if (door->broker)
		return ask_by_path(door, BROKER_OPEN, pid, path, want, ret, err);
	if (pid) {
		process = door_process(door, pid);
		if (process < 0)
			return refuse_errno(err, -process, "open the process");
	}
	return open_checked(door, process, path, want, ret, err);
}

enum door_refusal door_open_perfmap(struct door *door, pid_t pid, struct door_file *ret,
				    struct err *err)
{
	_cleanup_close_ int process = -1;
	enum door_refusal refusal;
	struct proc_status status;
	char path[48];
	int r;

	if (door->broker)
		return ask_by_path(door, BROKER_PERFMAP, pid, "", DOOR_PERFMAP, ret, err);
	process = door_process(door, pid);
	if (process < 0)
		return refuse_errno(err, -process, "open the process");
	r = read_status(process, &status);
	if (r < 0)
		return refuse_errno(err, -r, "read who the process is");
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", status.nspid);
	refusal = open_checked(door, process, path, DOOR_PERFMAP, ret, err);
	if (refusal != DOOR_OK)
		err_prefix(err, "%s of process %d", path, pid);
	return refusal;
}

int door_keep_place(struct door *door, pid_t pid, struct door_place *ret, struct err *err)
{
	_cleanup_close_ int process = -1;
	_cleanup_close_ int dir = -1;
	struct proc_status status;
	struct owner owner;
	struct stat st;
	int r;

	if (door->broker)
		return broker_keep_place(door->broker, pid, ret, err);
	process = door_process(door, pid);
	r = process < 0 ? process : read_status(process, &status);
	if (r < 0)
		return err_set(err, -r, "read who process %d is: %s", pid, strerror(-r));
	if (read_owner(door, process, &owner, err) != DOOR_OK ||
	    find_in_root(door, process, "/tmp", DOOR_ELF, &dir, err) != DOOR_OK)
		return -EACCES;
	if (fstat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "/tmp of process %d is no directory", pid);
	*ret = (struct door_place){ steal_fd(&dir), status.nspid, owner.uid, owner.root, owner.start_ns };
	return 0;
}

enum door_refusal door_open_left(struct door *door, const struct door_place *place, struct door_file *ret,
				 struct err *err)
{
	const struct owner owner = { place->uid, place->root, place->start_ns };
	_cleanup_close_ int path_fd = -1;
	enum door_refusal refusal;
	struct sight sight;
	char name[32];

	if (door->broker)
		return broker_open_left(door->broker, place, ret, err);
	snprintf(name, sizeof(name), "perf-%d.map", place->nspid);
	path_fd = openat(place->dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path_fd < 0)
		return refuse_errno(err, errno, "open the map that a process left");
	refusal = look(door, path_fd, DOOR_PERFMAP, &sight, err);
	if (refusal == DOOR_OK)
		refusal = check_owner(&sight, &owner, err);
	return refusal == DOOR_OK ? open_seen(door, path_fd, &sight, ret, err) : refusal;
}

static bool ends_deleted(const char *path, size_t len)
{
	const size_t tail = sizeof(deleted) - 1;

	return len >= tail && !memcmp(path + len - tail, deleted, tail);
}

/*
 * Whether the inode is the recorded one. On overlayfs and btrfs stat answers with another device
 * than the inode's superblock, which is what perf and /proc/PID/maps tell, so there the inode
 * number alone decides.
 */
static bool is_recorded_inode(const struct sight *sight, const struct door_mapping *mapping)
{
	if ((uint64_t)sight->st.st_ino != mapping->ino)
		return false;
	if (sight->magic == magic_overlayfs || sight->magic == magic_btrfs)
		return true;
	return major(sight->st.st_dev) == mapping->maj && minor(sight->st.st_dev) == mapping->min;
}

/* Compares the link's text with the recorded path, both without " (deleted)". */
static bool is_recorded_path(int process, const char *link, const struct door_mapping *mapping)
{
	char text[4096];
	ssize_t n = readlinkat(process, link, text, sizeof(text));
	size_t len, want = strlen(mapping->path);

	if (n <= 0 || (size_t)n >= sizeof(text))
		return false;
	len = (size_t)n;
	if (ends_deleted(text, len))
		len -= sizeof(deleted) - 1;
	if (ends_deleted(mapping->path, want))
		want -= sizeof(deleted) - 1;
	return len == want && !memcmp(text, mapping->path, len);
}

/*
 * Through /proc/PID/map_files, which leads to the mapped inode itself whatever became of its name.
 * Overlayfs with layers on several devices also gives other inode numbers than the mapped file's:
 * there, and only there, the path may vouch for it.
 */
static enum door_refusal open_map_file(const struct door *door, int process,
				       const struct door_mapping *mapping, struct door_file *ret,
				       struct err *err)
{
	_cleanup_close_ int path_fd = -1;
	enum door_refusal refusal;
	struct sight sight;
	char link[64];

	snprintf(link, sizeof(link), "map_files/%" PRIx64 "-%" PRIx64, mapping->start,
		 mapping->end);
	path_fd = openat(process, link, O_PATH | O_CLOEXEC);
	if (path_fd < 0 && (errno == EPERM || errno == EACCES))
		return refuse(
			err, DOOR_DENIED, errno,
			"opening mapped files needs CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE");
	if (path_fd < 0)
		return refuse_errno(err, errno, "open the mapped file");
	refusal = look(door, path_fd, DOOR_ELF, &sight, err);
	if (refusal != DOOR_OK)
		return refusal;
	if (mapping->ino && !is_recorded_inode(&sight, mapping) &&
	    !(sight.magic == magic_overlayfs && is_recorded_path(process, link, mapping)))
		return refuse(err, DOOR_CHANGED, ESTALE, "another file is mapped there by now");
	return open_seen(door, path_fd, &sight, ret, err);
}

static enum door_refusal open_mapped_path(const struct door *door, int process,
					  const struct door_mapping *mapping, struct door_file *ret,
					  struct err *err)
{
	_cleanup_close_ int path_fd = -1;
	enum door_refusal refusal;
	struct sight sight;

	refusal = find_in_root(door, process, mapping->path, DOOR_ELF, &path_fd, err);
	if (refusal == DOOR_OK)
		refusal = look(door, path_fd, DOOR_ELF, &sight, err);
	if (refusal != DOOR_OK)
		return refusal;
	if (mapping->ino && !is_recorded_inode(&sight, mapping))
		return refuse(err, DOOR_CHANGED, ESTALE,
			      "the path now names another file than the mapped one");
	return open_seen(door, path_fd, &sight, ret, err);
}

/*
 * "[vdso]" and "//anon" are no paths, and what is deleted is certainly not found under its old
 * name.
 */
static bool is_path(const char *path)
{
	return path[0] == '/' && path[1] != '/' && !ends_deleted(path, strlen(path));
}

/* Both ways through one process. */
static enum door_refusal open_through(const struct door *door, pid_t pid,
				      const struct door_mapping *mapping, struct door_file *ret,
				      struct err *err)
{
	_cleanup_close_ int process = door_process(door, pid);
	enum door_refusal refusal = DOOR_GONE, by_path;
	struct err path_err = { 0 };

	if (process < 0)
		return refuse_errno(err, -process, "open the process");
	err_set(err, ENOENT, "the file is not mapped there any more and its path is gone");
	/*
	 * A relative may still map the same file at the same place (fork); then the inode must
	 * prove it.
	 */
	if (mapping->ino || pid == mapping->pid)
		refusal = open_map_file(door, process, mapping, ret, err);
	if (refusal == DOOR_OK || !is_path(mapping->path))
		return refusal;
	by_path = open_mapped_path(door, process, mapping, ret, &path_err);
	/* That map_files was denied says more than that the path is gone. */
	if (by_path == DOOR_GONE)
		return refusal;
	*err = path_err;
	return by_path;
}

enum door_refusal door_open_mapping(struct door *door, const struct door_mapping *mapping,
				    const pid_t *also_pids, size_t num_also, struct door_file *ret,
				    struct err *err)
{
	struct err first = { 0 };
	enum door_refusal refusal;

	if (door->broker)
		return ask_for_mapping(door, mapping, also_pids, num_also, ret, err);
	refusal = open_through(door, mapping->pid, mapping, ret, &first);

	for (size_t i = 0; refusal != DOOR_OK && i < num_also; i++) {
		struct err other = { 0 };
		enum door_refusal also;

		if (also_pids[i] == mapping->pid)
			continue;
		also = open_through(door, also_pids[i], mapping, ret, &other);
		/* That another process may not be looked into tells nothing of this one's file. */
		if (also == DOOR_OK || (refusal == DOOR_GONE && also != DOOR_DENIED)) {
			refusal = also;
			first = other;
		}
	}
	if (refusal != DOOR_OK && err)
		*err = first;
	return refusal;
}
