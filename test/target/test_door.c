/*
 * The door against the shapes that hurt other profilers. What needs root (another owner, a chroot,
 * a user namespace, a reused pid) is left out with a word on stderr for a plain user.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/door_priv.h"
#include "target/proc_text.h"
#include "test/check.h"
#include "test/silent_fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct door *door;
static uint64_t start_ns; /* CLOCK_REALTIME, a moment after this process began */
static char tmp[] = "/tmp/test_door_XXXXXX";

/* One of a few static buffers: TMP + the formatted rest. */
static const char *in_tmp(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *in_tmp(const char *fmt, ...)
{
	static char bufs[4][512];
	static int next;
	char *buf = bufs[next++ % 4];
	va_list ap;
	int n = snprintf(buf, sizeof(bufs[0]), "%s/", tmp);

	va_start(ap, fmt);
	vsnprintf(buf + n, sizeof(bufs[0]) - (size_t)n, fmt, ap);
	va_end(ap);
	return buf;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static void must(int r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
}

/* What the opener answered, and the file's first bytes when it opened. */
struct answer {
	enum door_refusal refusal;
	struct err err;
	char text[32];
	struct door_file file; /* closed */
};

static struct answer finish(enum door_refusal refusal, struct door_file *file,
			    const struct err *err)
{
	struct answer a = { .refusal = refusal, .err = *err, .file = *file };

	alarm(0);
	if (refusal == DOOR_OK) {
		size_t size = file->size < sizeof(a.text) - 1 ? file->size : sizeof(a.text) - 1;

		CHECK(!a.err.code);
		CHECK(door_pread(file->fd, a.text, size, 0) == 0);
		CHECK(fcntl(file->fd, F_GETFD) & FD_CLOEXEC);
		CHECK((fcntl(file->fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
		close(file->fd);
	} else {
		CHECK(a.err.code > 0 && a.err.msg[0]);
		CHECK(file->fd == -7); /* untouched */
	}
	return a;
}

/* A hang is a failure: a minute, then SIGALRM ends the test. */
static struct answer try_open(struct door *d, pid_t pid, const char *path, enum door_want want)
{
	struct door_file file = { .fd = -7 };
	struct err err = { 0 };

	alarm(60);
	return finish(door_open(d, pid, path, want, &file, &err), &file, &err);
}

static struct answer try_mapping(struct door *d, const struct door_mapping *m, const pid_t *also,
				 size_t num)
{
	struct door_file file = { .fd = -7 };
	struct err err = { 0 };

	alarm(60);
	return finish(door_open_mapping(d, m, also, num, &file, &err), &file, &err);
}

static void expect(const char *path, enum door_want want, enum door_refusal refusal)
{
	/* As the host's file and as that of a process which shares our root. */
	for (int i = 0; i < 2; i++) {
		struct answer a = try_open(door, i ? getpid() : 0, path, want);

		CHECK_MSG(a.refusal == refusal, "%s, pid %s: %s (%s), not %s", path,
			  i ? "self" : "0", door_refusal_name(a.refusal), a.err.msg,
			  door_refusal_name(refusal));
	}
}

static void test_plain(void)
{
	const char *path = in_tmp("plain");
	struct answer a;
	struct stat st;

	put(path, "hello");
	must(stat(path, &st), "stat");
	a = try_open(door, 0, path, DOOR_ELF);
	CHECK(a.refusal == DOOR_OK);
	CHECK_STR(a.text, "hello");
	CHECK(a.file.size == 5 && a.file.ino == st.st_ino && a.file.dev == st.st_dev);
	CHECK(a.file.mtime_ns == st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	CHECK(a.file.ctime_ns == st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
	expect(path, DOOR_ELF, DOOR_OK);
	expect(path, DOOR_DEBUG, DOOR_OK);
	expect(in_tmp("missing"), DOOR_ELF, DOOR_GONE);
	expect(in_tmp("plain/x"), DOOR_ELF, DOOR_GONE);
	expect("plain", DOOR_ELF, DOOR_FAILED);
	expect("", DOOR_ELF, DOOR_FAILED);
	expect(path, DOOR_NUM_WANTS, DOOR_FAILED);
	put(in_tmp("empty"), "");
	expect(in_tmp("empty"), DOOR_ELF, DOOR_FAILED);
	/* Links are fine as long as they stay inside. */
	must(symlink("plain", in_tmp("link")), "symlink");
	expect(in_tmp("link"), DOOR_ELF, DOOR_OK);
	CHECK(door_open(door, 0, path, DOOR_NUM_WANTS, NULL, NULL) ==
	      DOOR_FAILED); /* err may be NULL */
}

static void test_hostile_shapes(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char fd_path[64];
	int fd = open(in_tmp("plain"), O_RDONLY | O_CLOEXEC);

	must(fd, "open");
	must(mkfifo(in_tmp("fifo"), 0666), "mkfifo");
	must(mkdir(in_tmp("dir"), 0777), "mkdir");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", in_tmp("socket"));
	must(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), "bind");
	must(symlink("fifo", in_tmp("to_fifo")), "symlink");
	must(symlink("/dev/zero", in_tmp("to_zero")), "symlink");
	must(symlink("loop_b", in_tmp("loop_a")), "symlink");
	must(symlink("loop_a", in_tmp("loop_b")), "symlink");
	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd);
	must(symlink(fd_path, in_tmp("to_fd")), "symlink");
	must(symlink("/proc/self/exe", in_tmp("to_exe")), "symlink");
	for (enum door_want want = DOOR_ELF; want < DOOR_NUM_WANTS; want++) {
		/* A map may not be a link at all, so it is refused for being one. */
		enum door_refusal link = want == DOOR_PERFMAP ? DOOR_NOT_REGULAR : DOOR_ESCAPE;

		expect(in_tmp("fifo"), want, DOOR_NOT_REGULAR);
		expect(in_tmp("to_fifo"), want, DOOR_NOT_REGULAR);
		expect(in_tmp("dir"), want, DOOR_NOT_REGULAR);
		expect(in_tmp("socket"), want, DOOR_NOT_REGULAR);
		expect("/dev/null", want, DOOR_NOT_REGULAR);
		expect(in_tmp("to_zero"), want, DOOR_NOT_REGULAR);
		expect("/proc/kallsyms", want, DOOR_NOT_REGULAR);
		expect("/proc/self/mem", want, DOOR_NOT_REGULAR);
		expect("/sys/devices/system/cpu/online", want, DOOR_NOT_REGULAR);
		expect(in_tmp("loop_a"), want, link);
		expect(in_tmp("to_fd"), want, link);
		expect(in_tmp("to_exe"), want, link);
		expect("/proc/self/root/etc/passwd", want, DOOR_ESCAPE);
	}
	expect(fd_path, DOOR_ELF, DOOR_ESCAPE);
	/* ".." stops at the root. */
	expect("/../../../../../../../../etc/passwd", DOOR_ELF, DOOR_OK);
	close(fd);
	close(sock);
}

static void test_too_big(void)
{
	static const struct {
		enum door_want want;
		off_t size;
		enum door_refusal refusal;
	} rows[] = {
		{ DOOR_ELF, 4ll << 30, DOOR_OK },
		{ DOOR_ELF, (4ll << 30) + 1, DOOR_TOO_BIG },
		{ DOOR_DEBUG, (4ll << 30) + 1, DOOR_TOO_BIG },
		{ DOOR_PERFMAP, 256 << 20, DOOR_OK },
		{ DOOR_PERFMAP, (256 << 20) + 1, DOOR_TOO_BIG },
	};
	const char *path = in_tmp("big");

	put(path, "");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		must(truncate(path, rows[i].size), "truncate");
		expect(path, rows[i].want, rows[i].refusal);
	}
	must(unlink(path), "unlink");
}

/* A file under a lease makes an ordinary open wait up to lease-break-time (45 s). */
static void test_lease(void)
{
	const char *path = in_tmp("leased");
	int fd, pipes[2];
	char byte;
	pid_t pid;

	put(path, "x");
	must(pipe2(pipes, O_CLOEXEC), "pipe");
	pid = fork();
	must(pid, "fork");
	if (!pid) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		signal(SIGIO, SIG_IGN);
		byte = fcntl(fd, F_SETLEASE, F_WRLCK) ? 'n' : 'y';
		(void)!write(pipes[1], &byte, 1);
		for (;;)
			pause();
	}
	CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'y');
	CHECK(try_open(door, 0, path, DOOR_ELF).refusal == DOOR_FAILED);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(pipes[0]);
	close(pipes[1]);
}

/* A FUSE mount, also where its server would answer. */
static void test_remote(void)
{
	char dir[64], path[80];
	pid_t server;

	snprintf(dir, sizeof(dir), "%s/fuse", tmp);
	must(mkdir(dir, 0755), "mkdir");
	server = silent_fuse_start(dir);
	if (server < 0) {
		fprintf(stderr, "no FUSE here\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/file", dir);
	expect(path, DOOR_ELF, DOOR_REMOTE);
	expect(path, DOOR_DEBUG, DOOR_REMOTE);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	must(umount2(dir, MNT_DETACH), "umount");
}

static void set_age(const char *path, int seconds)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = time(NULL) - seconds } };

	must(utimensat(AT_FDCWD, path, times, 0), "utimensat");
}

static enum door_refusal open_map(pid_t pid, const char *path)
{
	return try_open(door, pid, path, DOOR_PERFMAP).refusal;
}

static void test_perfmap(void)
{
	const uint64_t before_ns = start_ns - 300000000; /* we started a moment before that was taken */
	const struct timespec before[2] = { { .tv_nsec = UTIME_OMIT },
					    { .tv_sec = (time_t)(before_ns / 1000000000),
					      .tv_nsec = (long)(before_ns % 1000000000 | 1) } };
	const char *path = in_tmp("map"), *other = in_tmp("other");
	struct door_file file = { .fd = -7 };
	struct err err = { 0 };
	char own[64];

	put(path, "10 10 f\n");
	CHECK(open_map(getpid(), path) == DOOR_OK);
	must(link(path, other), "link");
	CHECK(open_map(getpid(), path) == DOOR_FOREIGN);
	CHECK(open_map(0, path) == DOOR_FOREIGN);
	must(unlink(other), "unlink");
	must(symlink(path, other), "symlink");
	CHECK(open_map(getpid(), other) == DOOR_NOT_REGULAR);
	set_age(path, 2 * 24 * 3600);
	CHECK(open_map(getpid(), path) == DOOR_STALE);
	CHECK(open_map(0, path) == DOOR_OK);
	set_age(path, 0); /* whole seconds may be rounded */
	CHECK(open_map(getpid(), path) == DOOR_OK);
	/* Written by who had our pid just before. */
	must(utimensat(AT_FDCWD, path, before, 0), "utimensat");
	CHECK(open_map(getpid(), path) == DOOR_STALE);
	must(utimensat(AT_FDCWD, path, NULL, 0), "utimensat");
	CHECK(open_map(getpid(), path) == DOOR_OK);
	if (!geteuid()) {
		must(chown(path, 65534, 65534), "chown");
		CHECK(open_map(getpid(), path) == DOOR_FOREIGN);
		CHECK(open_map(0, path) == DOOR_FOREIGN);
	}
	put(other = in_tmp("empty_map"), "");
	CHECK(open_map(getpid(), other) == DOOR_OK);

	snprintf(own, sizeof(own), "/tmp/perf-%d.map", getpid());
	unlink(own);
	CHECK(door_open_perfmap(door, getpid(), &file, &err) == DOOR_GONE && err.code == ENOENT);
	put(own, "10 10 f\n");
	CHECK(door_open_perfmap(door, getpid(), &file, NULL) == DOOR_OK && file.size == 8);
	close(file.fd);
	must(unlink(own), "unlink");
	must(symlink("/etc/passwd", own), "symlink");
	CHECK(door_open_perfmap(door, getpid(), &file, NULL) == DOOR_NOT_REGULAR);
	must(unlink(own), "unlink");
}

/* A child that has called prepare() and waits; killed and reaped by end_child(). */
static pid_t start_child(void (*prepare)(void))
{
	char byte = 0;
	int pipes[2];
	pid_t pid;

	must(pipe2(pipes, O_CLOEXEC), "pipe");
	pid = fork();
	must(pid, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (prepare)
			prepare();
		(void)!write(pipes[1], "y", 1);
		for (;;)
			pause();
	}
	close(pipes[1]);
	CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'y');
	close(pipes[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void enter_container(void)
{
	must(unshare(CLONE_NEWNS), "unshare");
	must(chroot(in_tmp("root")), "chroot");
	must(chdir("/"), "chdir");
}

static void fill_container(void)
{
	must(mkdir(in_tmp("root"), 0755), "mkdir");
	must(mkdir(in_tmp("root/etc"), 0755), "mkdir");
	must(mkdir(in_tmp("root/tmp"), 0755), "mkdir");
	put(in_tmp("root/etc/passwd"), "inside");
	put(in_tmp("outside"), "outside");
	must(symlink("/etc/passwd", in_tmp("root/absolute")), "symlink");
	must(symlink("../../../../../../etc/passwd", in_tmp("root/tmp/climb")), "symlink");
	must(symlink("/etc", in_tmp("root/etc_link")), "symlink");
	must(symlink("/etc/hostname", in_tmp("root/host_only")), "symlink");
	must(symlink("/proc/1/root/etc/passwd", in_tmp("root/magic")), "symlink");
	must(symlink(in_tmp("outside"), in_tmp("root/to_outside")), "symlink");
	must(mkfifo(in_tmp("root/fifo"), 0666), "mkfifo");
}

static void test_container(void)
{
	static const char *const inside[] = {
		"/etc/passwd",      "/absolute",      "/tmp/climb",
		"/etc_link/passwd", "/../etc/passwd", "/tmp/../../../../../../etc/passwd",
	};
	static const char *const nowhere[] = { "/host_only", "/magic", "/to_outside",
					       "/proc/self/fd/0" };
	pid_t pid;

	fill_container();
	if (geteuid()) {
		fprintf(stderr, "no root: the container shapes are left out\n");
		return;
	}
	pid = start_child(enter_container);
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		struct answer a = try_open(door, pid, inside[i], DOOR_DEBUG);

		CHECK_MSG(a.refusal == DOOR_OK, "%s: %s", inside[i], a.err.msg);
		CHECK_STR(a.text, "inside");
	}
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		CHECK_MSG(try_open(door, pid, nowhere[i], DOOR_DEBUG).refusal == DOOR_GONE, "%s",
			  nowhere[i]);
	CHECK(try_open(door, pid, "/fifo", DOOR_ELF).refusal == DOOR_NOT_REGULAR);
	/* The same names on the host do lead out, so the above was the door's doing. */
	CHECK_STR(try_open(door, 0, in_tmp("root/to_outside"), DOOR_DEBUG).text, "outside");
	end_child(pid);
	CHECK(try_open(door, pid, "/etc/passwd", DOOR_ELF).refusal == DOOR_GONE);
}

static int go[2];

/* Root of its own user namespace is uid 5000 outside, and the process itself uid 5001. */
static void enter_user_namespace(void)
{
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
	(void)!write(go[1], "u", 1);
	while (setresuid(1, 1, 1))
		usleep(1000);
	/* Changing uid made us undumpable, which would hand our /proc files to root. */
	prctl(PR_SET_DUMPABLE, 1);
}

static void write_uid_map(pid_t parent_of_child)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/uid_map", parent_of_child);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	must(fd, path);
	must((int)write(fd, "0 5000 2\n", 9), path);
	close(fd);
}

static void test_user_namespace(void)
{
	const char *path = in_tmp("user_map");
	char byte;
	pid_t pid;

	if (geteuid())
		return;
	must(pipe2(go, O_CLOEXEC), "pipe");
	pid = fork();
	must(pid, "fork");
	if (!pid) {
		enter_user_namespace();
		(void)!write(go[1], "y", 1);
		for (;;)
			pause();
	}
	/* The child has the only other end: its death is an end of file here, not a wait without end. */
	close(go[1]);
	if (read(go[0], &byte, 1) != 1 || byte != 'u') {
		fprintf(stderr, "no user namespaces: left out\n");
		return;
	}
	write_uid_map(pid);
	CHECK(read(go[0], &byte, 1) == 1 && byte == 'y');
	put(path, "10 10 f\n");
	CHECK(open_map(pid, path) == DOOR_FOREIGN); /* the host's root is nobody there */
	must(chown(path, 5000, 5000), "chown");
	CHECK(open_map(pid, path) == DOOR_OK);
	must(chown(path, 5001, 5001), "chown");
	CHECK(open_map(pid, path) == DOOR_OK);
	must(chown(path, 5002, 5002), "chown");
	CHECK(open_map(pid, path) == DOOR_FOREIGN);
	end_child(pid);
	close(go[0]);
}

/* A page of a file mapped, and the record of it as perf would tell. */
struct mapped {
	void *at;
	struct door_mapping record;
	char path[512];
};

static void map_file(struct mapped *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	must(fd, path);
	must(fstat(fd, &st), path);
	m->at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(m->at != MAP_FAILED);
	close(fd);
	snprintf(m->path, sizeof(m->path), "%s", path);
	m->record = (struct door_mapping){
		.pid = getpid(),
		.start = (uintptr_t)m->at,
		.end = (uintptr_t)m->at + 4096,
		.maj = major(st.st_dev),
		.min = minor(st.st_dev),
		.ino = st.st_ino,
		.path = m->path,
	};
}

static int find_map(void *data, const struct proc_map *map)
{
	struct door_mapping *m = data;

	if (map->start != m->start)
		return 0;
	m->maj = map->maj;
	m->min = map->min;
	m->ino = map->ino;
	return 1;
}

/* Takes the numbers from /proc/PID/maps, where they are those of the superblock. */
static void ask_maps(struct mapped *m)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	CHECK(door_read_proc(door, getpid(), "maps", 16 << 20, &text, NULL, NULL) == 0);
	CHECK(proc_maps_parse(text.data, text.len, find_map, &m->record, NULL) == 1);
}

static void test_mapping(void)
{
	pid_t self = getpid(), gone;
	struct mapped m;
	struct answer a;

	put(in_tmp("lib"), "v1 of the library");
	map_file(&m, in_tmp("lib"));
	ask_maps(&m);
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "v1 of the library");

	/* Through a relative of a process that is gone, and through none. */
	gone = start_child(NULL);
	end_child(gone);
	m.record.pid = gone;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_GONE);
	CHECK(try_mapping(door, &m.record, &gone, 1).refusal == DOOR_GONE);
	CHECK_STR(try_mapping(door, &m.record, (pid_t[]){ gone, self }, 2).text,
		  "v1 of the library");
	/* That the relative has another file there says more than that the process is gone. */
	m.record.ino++;
	CHECK(try_mapping(door, &m.record, &self, 1).refusal == DOOR_CHANGED);
	m.record.ino--;
	m.record.pid = self;

	/* By path once it is no longer mapped; never another inode. */
	munmap(m.at, 4096);
	a = try_mapping(door, &m.record, NULL, 0);
	CHECK_MSG(a.refusal == DOOR_OK, "%s", a.err.msg);
	m.record.ino++;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
	CHECK(try_mapping(door, &m.record, (pid_t[]){ getppid(), self }, 2).refusal ==
	      DOOR_CHANGED);
	m.record.ino--;
	m.record.min++;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
	m.record.min--;
	m.record.maj = m.record.min = 0;
	m.record.ino = 0; /* not known: the path is believed */
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_OK);

	/* What is no path is not opened by path. */
	put(in_tmp("lib (deleted)"), "a trap");
	m.record.path = in_tmp("lib (deleted)");
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal != DOOR_OK);
	m.record.path = "[vdso]";
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal != DOOR_OK);
	m.record.path = "//etc/passwd";
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal != DOOR_OK);
	m.record.path = in_tmp("fifo");
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_NOT_REGULAR);
}

static void drop_checkpoint_restore(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { 0 };

	must((int)syscall(SYS_capget, &head, caps), "capget");
	caps[CAP_SYS_ADMIN / 32].effective &= ~(1u << (CAP_SYS_ADMIN % 32));
	caps[CAP_CHECKPOINT_RESTORE / 32].effective &= ~(1u << (CAP_CHECKPOINT_RESTORE % 32));
	must((int)syscall(SYS_capset, &head, caps), "capset");
}

/* Runs a part in a child that may lose rights; its failures count. */
static void in_child(void (*part)(void))
{
	int status = 0;
	pid_t pid = fork();

	must(pid, "fork");
	if (!pid) {
		check_failures = 0;
		part();
		_exit(check_failures ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void denied_map_files(void)
{
	struct mapped m;
	struct answer a;

	put(in_tmp("denied"), "by path");
	map_file(&m, in_tmp("denied"));
	drop_checkpoint_restore();
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "by path");
	must(unlink(m.path), "unlink");
	a = try_mapping(door, &m.record, NULL, 0);
	CHECK(a.refusal == DOOR_DENIED && strstr(a.err.msg, "CAP_CHECKPOINT_RESTORE"));
	put(m.path, "replaced");
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
}

/*
 * On overlayfs perf tells device and inode of the layer, stat may tell others: the same inode
 * number is enough there, and for what is mapped right now the path.
 */
static void overlay_numbers(void)
{
	struct mapped m;
	char options[1024];

	must(unshare(CLONE_NEWNS), "unshare");
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount private");
	must(mkdir(in_tmp("overlay"), 0755), "mkdir");
	must(mount("tmpfs", in_tmp("overlay"), "tmpfs", 0, NULL), "mount tmpfs");
	for (const char *const *dir =
		     (const char *const[]){ "lower", "upper", "work", "merged", NULL };
	     *dir; dir++)
		must(mkdir(in_tmp("overlay/%s", *dir), 0755), "mkdir");
	put(in_tmp("overlay/lower/lib"), "layered");
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s",
		 in_tmp("overlay/lower"), in_tmp("overlay/upper"), in_tmp("overlay/work"));
	if (mount("overlay", in_tmp("overlay/merged"), "overlay", 0, options)) {
		fprintf(stderr, "no overlayfs: left out\n");
		return;
	}
	map_file(&m, in_tmp("overlay/merged/lib"));
	m.record.min += 1000;
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "layered");
	m.record.ino += 1000;
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "layered");
	m.record.path = in_tmp("overlay/merged/lib (deleted)");
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "layered");
	m.record.path = in_tmp("overlay/merged/other");
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
	munmap(m.at, 4096);
	/* By path the inode number has to be right. */
	m.record.path = m.path;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
	m.record.ino -= 1000;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_OK);
}

static void test_replaced(void)
{
	struct mapped m, memory;
	int fd;

	if (geteuid()) {
		fprintf(stderr, "no root: map_files is left out\n");
		return;
	}
	put(in_tmp("prog"), "old");
	map_file(&m, in_tmp("prog"));
	put(in_tmp("prog.new"), "new");
	must(rename(in_tmp("prog.new"), in_tmp("prog")), "rename");
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "old");
	must(unlink(m.path), "unlink");
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "old");
	m.record.path = in_tmp("prog (deleted)");
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "old");
	m.record.ino++;
	CHECK(try_mapping(door, &m.record, NULL, 0).refusal == DOOR_CHANGED);
	m.record.ino = 0;
	CHECK_STR(try_mapping(door, &m.record, NULL, 0).text, "old");
	/* Without an inode to prove it, a relative's mapping at the same place says nothing. */
	m.record.pid = start_child(NULL);
	end_child(m.record.pid);
	CHECK(try_mapping(door, &m.record, (pid_t[]){ getpid() }, 1).refusal == DOOR_GONE);
	munmap(m.at, 4096);

	fd = memfd_create("jit", MFD_CLOEXEC);
	must((int)write(fd, "code", 4), "write");
	snprintf(memory.path, sizeof(memory.path), "/proc/self/fd/%d", fd);
	map_file(&memory, memory.path);
	memory.record.path = "/memfd:jit (deleted)";
	close(fd);
	CHECK_STR(try_mapping(door, &memory.record, NULL, 0).text, "code");
	munmap(memory.at, 4096);
	in_child(denied_map_files);
	in_child(overlay_numbers);
}

static int keep_id(void *data, pid_t id)
{
	pid_t *want = data;

	if (id == *want)
		*want = -id;
	return 0;
}

static int stop_at_once(void *data, pid_t id)
{
	return 42;
}

static void test_proc(void)
{
	static const char *const bad[] = { "",          "/maps",       "root/etc/passwd",
					   "fd/0",      "..",          "task",
					   "../1/maps", "task//comm",  "task/x/comm",
					   "maps/",     "task/1/fd/0", "Maps",
					   "task/1",    "task/1/" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	pid_t self = getpid(), gone = start_child(NULL), want;
	struct err err = { 0 };
	struct stat st;
	char name[64], *pages;
	bool cut;

	prctl(PR_SET_NAME, "test_door");
	end_child(gone);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* "task" alone has allowed letters but is a directory. */
		int r = door_read_proc(door, self, bad[i], 4096, &text, NULL, NULL);

		CHECK_MSG(r == (strcmp(bad[i], "task") ? -EINVAL : -EISDIR), "%s: %d", bad[i], r);
	}
	CHECK(text.len == 0);
	strbuf_str(&text, "before:");
	CHECK(door_read_proc(door, self, "comm", 4096, &text, &cut, &err) == 0 && !cut &&
	      !err.code);
	CHECK_STR(text.data, "before:test_door\n");
	strbuf_clear(&text);
	snprintf(name, sizeof(name), "task/%d/comm", self);
	CHECK(door_read_proc(door, self, name, 10, &text, &cut, NULL) == 0 && !cut);
	CHECK_STR(text.data, "test_door\n");
	CHECK(door_read_proc(door, gone, "comm", 64, &text, NULL, &err) == -ESRCH &&
	      err.code == ESRCH);
	CHECK(door_read_proc(door, gone, name, 64, &text, NULL, NULL) == -ESRCH);
	CHECK(door_read_proc(door, 0, "comm", 64, &text, NULL, NULL) == -ESRCH);
	CHECK(door_read_proc(door, -1, "comm", 64, &text, NULL, NULL) == -ESRCH);
	snprintf(name, sizeof(name), "task/%d/comm", gone);
	CHECK(door_read_proc(door, self, name, 64, &text, NULL, NULL) == -ESRCH);
	CHECK(door_read_proc(door, self, "nosuch", 64, &text, NULL, NULL) == -ENOENT);
	CHECK_STR(text.data, "test_door\n");

	/* Cut at a whole line; a first line that does not fit leaves nothing. */
	strbuf_clear(&text);
	CHECK(door_read_proc(door, self, "status", 100, &text, &cut, NULL) == 0 && cut);
	CHECK(text.len > 20 && text.len <= 100 && text.data[text.len - 1] == '\n');
	CHECK(strlen(text.data) == text.len && !strncmp(text.data, "Name:\ttest_door\n", 16));
	strbuf_clear(&text);
	CHECK(door_read_proc(door, self, "status", 9, &text, &cut, NULL) == 0 && cut &&
	      text.len == 0);
	CHECK(door_read_proc(door, self, "status", 0, &text, &cut, NULL) == 0 && cut &&
	      text.len == 0);

	/* Longer than one read: a line per page of alternating protection. */
	pages = mmap(NULL, 1024 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 1024; i += 2)
		CHECK(mprotect(pages + i * 4096, 4096, PROT_NONE) == 0);
	CHECK(door_read_proc(door, self, "maps", 16 << 20, &text, &cut, NULL) == 0 && !cut);
	CHECK(text.len > 1024 * 32 && strlen(text.data) == text.len &&
	      strstr(text.data, "[stack]"));
	munmap(pages, 1024 * 4096);

	want = self;
	CHECK(door_each_task(door, 0, keep_id, &want, NULL) == 0 && want == -self);
	want = self;
	CHECK(door_each_task(door, self, keep_id, &want, NULL) == 0 && want == -self);
	want = 1;
	CHECK(door_each_task(door, self, keep_id, &want, NULL) == 0 && want == 1);
	CHECK(door_each_task(door, 0, stop_at_once, NULL, NULL) == 42);
	CHECK(door_each_task(door, gone, keep_id, &want, &err) == -ESRCH);
	CHECK(door_each_task(door, -1, keep_id, &want, NULL) == -ESRCH);
	CHECK(fstat(door->proc_fd, &st) == 0);
}

static void test_texts(void)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct err err = { 0 };
	_cleanup_close_ int fd = -1;
	uint8_t bits[64];
	char piece[100];
	uint64_t id = 0;
	int r;

	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &text, NULL) == 0);
	CHECK(cpulist_parse(text.data, text.len, bits, 512) >= 1);
	strbuf_clear(&text);
	CHECK(door_read_text(door, DOOR_KALLSYMS, &text, NULL) == 0 && text.len > 100000);
	fd = door_open_text(door, DOOR_KALLSYMS, NULL);
	CHECK(fd >= 0);
	CHECK(door_read_piece(fd, piece, sizeof(piece)) == (ssize_t)sizeof(piece));
	CHECK(!memcmp(piece, text.data, sizeof(piece)));
	CHECK(door_read_piece(-1, piece, sizeof(piece)) == -EBADF);
	CHECK(door_open_text(door, DOOR_NUM_TEXTS, NULL) == -EINVAL);
	strbuf_clear(&text);
	CHECK(door_read_text(door, DOOR_MEMINFO, &text, NULL) == 0);
	CHECK(!strncmp(text.data, "MemTotal:", 9));
	strbuf_clear(&text);
	CHECK(door_read_text(door, DOOR_PERF_MAX_RATE, &text, NULL) == 0 && atoi(text.data) > 0);
	CHECK(door_read_text(door, DOOR_NUM_TEXTS, &text, &err) == -EINVAL);
	CHECK(door_tracepoint_id(door, "sched", "../x", &id, &err) == -EINVAL);
	CHECK(door_tracepoint_id(door, "", "x", &id, NULL) == -EINVAL);
	CHECK(door_tracepoint_id(door, "sched", "no_such_event", &id, &err) < 0);
	r = door_tracepoint_id(door, "sched", "sched_switch", &id, &err);
	if (r == 0)
		CHECK(id > 0);
	else
		CHECK_MSG(r == -ENOENT || r == -EACCES || r == -EPERM, "%s", err.msg);
}

static void test_pread(void)
{
	const char *path = in_tmp("pread");
	char buf[8] = "";
	int fd;

	put(path, "0123456789");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(door_pread(fd, buf, 4, 6) == 0 && !memcmp(buf, "6789", 4));
	CHECK(door_pread(fd, buf, 4, 7) == -EIO);
	CHECK(door_pread(fd, buf, 0, 100) == 0);
	CHECK(door_pread(fd, buf, 1, 10) == -EIO);
	CHECK(door_pread(fd, buf, 4, UINT64_MAX - 1) == -EIO);
	CHECK(door_pread(fd, buf, 4, INT64_MAX) == -EIO);
	CHECK(door_pread(-1, buf, 4, 0) == -EBADF);
	close(fd);
}

/* Answers openat2 as a kernel before 5.6 does. */
static void forbid_openat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), "seccomp");
}

static void change_root_only(void)
{
	must(chroot(in_tmp("root")), "chroot");
	must(chdir("/"), "chdir");
}

/* The same root directory, under which other things may be mounted. */
static void change_mounts_only(void)
{
	must(unshare(CLONE_NEWNS), "unshare");
}

static pid_t strangers[3]; /* processes whose tree is not ours; 0 for a plain user */

static void without_openat2(void)
{
	struct door *old = NULL;
	struct answer a;

	forbid_openat2();
	CHECK(door_new(&old, NULL) == 0 && !old->have_openat2);
	CHECK_STR(try_open(old, 0, in_tmp("plain"), DOOR_ELF).text, "hello");
	CHECK_STR(try_open(old, getpid(), in_tmp("plain"), DOOR_ELF).text, "hello");
	CHECK(try_open(old, 0, in_tmp("fifo"), DOOR_ELF).refusal == DOOR_NOT_REGULAR);
	CHECK(try_open(old, getpid(), in_tmp("link"), DOOR_ELF).refusal == DOOR_NOT_REGULAR);
	for (size_t i = 0; i < 3 && strangers[i]; i++) {
		a = try_open(old, strangers[i], "/etc/passwd", DOOR_ELF);
		CHECK_MSG(a.refusal == DOOR_DENIED && a.err.code == ENOSYS, "stranger %zu", i);
		CHECK(strstr(a.err.msg, "openat2"));
	}
	door_free(old);
}

static void test_old_kernel(void)
{
	if (!geteuid()) {
		strangers[0] = start_child(enter_container);
		strangers[1] = start_child(change_root_only);
		strangers[2] = start_child(change_mounts_only);
	}
	in_child(without_openat2);
	for (size_t i = 0; i < 3 && strangers[i]; i++)
		end_child(strangers[i]);
}

/* Makes the next fork get `pid`; false when it may not be asked for. */
static bool next_pid(pid_t pid)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && dprintf(fd, "%d", pid - 1) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* The claim of door_process: its descriptor never tells of a later process of the same pid. */
static void test_reused_pid(void)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct stat st;

	for (int i = 0; i < 20; i++) {
		pid_t first = start_child(NULL), second;
		_cleanup_close_ int fd = door_process(door, first);

		CHECK(fd >= 0 && door_read_at(fd, "comm", 64, &text, NULL) == 0);
		end_child(first);
		if (!next_pid(first))
			break;
		second = start_child(NULL);
		if (second == first) {
			CHECK(door_read_proc(door, first, "comm", 64, &text, NULL, NULL) == 0);
			CHECK(door_read_at(fd, "comm", 64, &text, NULL) < 0);
			CHECK(fstatat(fd, "root", &st, 0) < 0);
			end_child(second);
			return;
		}
		end_child(second);
	}
	fprintf(stderr, "no pid could be used again: left out\n");
}

static void test_names(void)
{
	CHECK_STR(door_refusal_name(DOOR_OK), "ok");
	CHECK_STR(door_refusal_name(DOOR_NOT_REGULAR), "not_regular");
	CHECK_STR(door_refusal_name(DOOR_FAILED), "failed");
	CHECK_STR(door_refusal_name(DOOR_NUM_REFUSALS), "unknown");
	for (enum door_refusal r = DOOR_OK; r < DOOR_NUM_REFUSALS; r++)
		CHECK(door_refusal_name(r));
	door_free(NULL);
}

/* Descriptors open in this process. */
static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void remove_tmp(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", tmp);
	CHECK(system(command) == 0);
}

int main(void)
{
	int fds;

	start_ns = clock_ns(CLOCK_REALTIME);
	umask(022);
	if (!mkdtemp(tmp) || chmod(tmp, 0755)) {
		perror(tmp);
		return 1;
	}
	fds = count_fds();
	CHECK(door_new(&door, NULL) == 0 && door->have_openat2);
	test_names();
	test_plain();
	test_hostile_shapes();
	test_remote();
	test_too_big();
	test_lease();
	test_perfmap();
	test_container();
	test_user_namespace();
	test_mapping();
	test_replaced();
	test_proc();
	test_texts();
	test_pread();
	test_old_kernel();
	test_reused_pid();
	door_free(door);
	CHECK_MSG(count_fds() == fds, "%d descriptors, %d at the start", count_fds(), fds);
	remove_tmp();
	return check_done();
}
