/* Which files of this machine are taken for those of a recording, and which perf maps for those of its processes. */
#include "target/offline.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "target/given.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t second = 1000000000;
static char dir[] = "/tmp/ringfold-offline-XXXXXX";

/* A path below the test's own directory; of two at a time. */
static const char *below(const char *name)
{
	static char paths[2][256];
	static unsigned int turn;

	turn++;
	snprintf(paths[turn % 2], sizeof(paths[0]), "%s/%s", dir, name);
	return paths[turn % 2];
}

/* Creates what does not exist, then sets its time of last writing. */
static void write_at(const char *path, int64_t mtime_ns)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = mtime_ns / second, .tv_nsec = mtime_ns % second } };
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	CHECK_MSG(fd >= 0 && write(fd, "x\n", 2) == 2, "%s", path);
	CHECK(futimens(fd, times) == 0);
	close(fd);
}

static int64_t now_ns(void)
{
	return (int64_t)clock_ns(CLOCK_REALTIME);
}

struct world {
	struct door *door;
	struct offline *offline;
};

static struct world world_new(const char *symfs, const char *map_dir, int64_t end_ns,
			      enum offline_origin origin)
{
	struct world w = { 0 };
	struct offline_opts opts = { .symfs = symfs, .map_dir = map_dir, .end_ns = end_ns };
	struct err err = { 0 };

	CHECK_MSG(door_new(&w.door, &err) == 0, "%s", err.msg);
	opts.door = w.door;
	CHECK_MSG(offline_new(&opts, &w.offline, &err) == 0, "%s", err.msg);
	offline_set_origin(w.offline, origin,
			   (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC)));
	return w;
}

static void world_free(struct world *w)
{
	offline_free(w->offline);
	door_free(w->door);
}

/* What a place of a wish gives; the descriptor is closed. */
static enum door_refusal ask(struct world *w, const struct offline_wish *wish, size_t place)
{
	enum door_refusal refusal = DOOR_NUM_REFUSALS;
	struct door_file file;

	if (!offline_find(w->offline, OFFLINE_ELF, wish, place, &refusal, &file))
		return DOOR_NUM_REFUSALS;
	if (refusal == DOOR_OK)
		close(file.fd);
	return refusal;
}

static struct offline_wish wish_for(const char *path, bool with_inode)
{
	struct offline_wish wish = { .path = path };
	struct stat st;

	if (with_inode && stat(path, &st) == 0) {
		wish.maj = major(st.st_dev);
		wish.min = minor(st.st_dev);
		wish.ino = st.st_ino;
	}
	return wish;
}

/* Without a build-id: the very inode, or one that did not change since, and never a younger one. */
static void test_by_path(void)
{
	const char *path = below("lib.so");
	int64_t now = now_ns();
	struct world before, after, elsewhere;
	struct offline_wish by_inode, by_age, other;

	write_at(path, now - 100 * second);
	by_inode = wish_for(path, true);
	by_age = wish_for(path, false);
	other = by_inode;
	other.ino++;
	after = world_new(NULL, NULL, now + 100 * second, OFFLINE_THIS_MACHINE);
	before = world_new(NULL, NULL, now - 50 * second, OFFLINE_THIS_MACHINE);
	elsewhere = world_new(NULL, NULL, now + 100 * second, OFFLINE_ELSEWHERE);

	CHECK(ask(&after, &by_inode, 0) == DOOR_OK);
	CHECK(ask(&after, &by_age, 0) == DOOR_OK);
	CHECK(ask(&after, &other, 0) == DOOR_CHANGED);
	CHECK(ask(&after, &by_inode, 1) == DOOR_GONE);
	CHECK(ask(&after, &by_inode, 2) == DOOR_NUM_REFUSALS);
	/* Its inode was made since (ctime), whatever mtime an installer gave it. */
	CHECK(ask(&before, &by_inode, 0) == DOOR_OK);
	CHECK(ask(&before, &by_age, 0) == DOOR_CHANGED);
	CHECK(ask(&elsewhere, &by_age, 0) == DOOR_CHANGED);
	/* Written since. */
	write_at(path, now - 10 * second);
	CHECK(ask(&before, &by_inode, 0) == DOOR_STALE);
	CHECK(ask(&after, &by_inode, 0) == DOOR_OK);

	other = wish_for("/nowhere/lib.so", false);
	CHECK(ask(&after, &other, 0) == DOOR_GONE);
	other = wish_for("//anon", false);
	CHECK(ask(&after, &other, 0) == DOOR_GONE);
	other = wish_for("/dev/null", false);
	CHECK(ask(&after, &other, 0) == DOOR_NOT_REGULAR);
	world_free(&before);
	world_free(&after);
	world_free(&elsewhere);
}

/* A mapping of a file that has no name any more: through the process that has it, and the very inode alone. */
static void test_mapped(void)
{
	const char *path = below("deleted.so");
	struct offline_wish wish;
	struct door_mapping mapping = { .pid = getpid(), .path = "/nowhere/in/a/container.so" };
	int64_t now = now_ns();
	struct world w, other;
	void *at;
	int fd;

	write_at(path, now - 100 * second);
	wish = wish_for(path, true);
	wish.path = mapping.path;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(at != MAP_FAILED);
	close(fd);
	unlink(path);
	mapping.start = (uint64_t)(uintptr_t)at;
	mapping.end = mapping.start + 4096;
	mapping.maj = wish.maj;
	mapping.min = wish.min;
	mapping.ino = wish.ino;
	wish.mapping = &mapping;
	w = world_new(NULL, NULL, now + second, OFFLINE_THIS_BOOT);
	other = world_new(NULL, NULL, now + second, OFFLINE_THIS_MACHINE);
	if (geteuid() == 0)
		CHECK(ask(&w, &wish, 1) == DOOR_OK);
	CHECK(ask(&other, &wish, 1) == DOOR_GONE);
	wish.ino = ++mapping.ino;
	CHECK(ask(&w, &wish, 1) == DOOR_GONE);
	munmap(at, 4096);
	world_free(&w);
	world_free(&other);
}

/* With one: places are handed out for the asker to compare, in their order. */
static void test_by_build_id(void)
{
	static const uint8_t id[20] = { 0xab, 0xcd };
	struct offline_wish wish = { .path = "/usr/bin/x", .build_id = id, .build_id_len = 20 };
	struct world w;
	char path[512];

	setenv("HOME", dir, 1);
	snprintf(path, sizeof(path),
		 "mkdir -p %s/tree/usr/bin %s/.debug/.build-id/ab/cd%036d %s/tree/usr/lib/.build-id/ab", dir,
		 dir, 0, dir);
	CHECK(system(path) == 0);
	write_at(below("tree/usr/bin/x"), now_ns() + 100 * second);
	snprintf(path, sizeof(path), "%s/.debug/.build-id/ab/cd%036d/elf", dir, 0);
	write_at(path, now_ns());
	snprintf(path, sizeof(path), "%s/tree/usr/lib/.build-id/ab/cd%036d", dir, 0);
	write_at(path, now_ns());

	w = world_new(below("tree"), NULL, now_ns(), OFFLINE_ELSEWHERE);
	CHECK(ask(&w, &wish, 0) == DOOR_OK); /* of any age */
	CHECK(ask(&w, &wish, 1) == DOOR_GONE); /* no process */
	CHECK(ask(&w, &wish, 2) == DOOR_OK);
	CHECK(ask(&w, &wish, 3) == DOOR_NOT_REGULAR);
	CHECK(ask(&w, &wish, 4) == DOOR_OK);
	CHECK(ask(&w, &wish, 5) == DOOR_GONE);
	CHECK(ask(&w, &wish, 6) == DOOR_GONE); /* no servers */
	CHECK(ask(&w, &wish, 7) == DOOR_NUM_REFUSALS);
	wish.build_id_len = 21;
	CHECK(ask(&w, &wish, 0) == DOOR_NUM_REFUSALS);
	CHECK(offline_note(w.offline) == NULL);
	world_free(&w);
}

/* A link out of --symfs leads nowhere but into it. */
static void test_symfs(void)
{
	struct offline_wish wish = { .path = "/usr/bin/passwd" };
	struct offline_opts opts = { .symfs = "/nowhere/at/all" };
	struct err err = { 0 };
	struct offline *none;
	struct world w;

	CHECK(symlink("/etc/passwd", below("tree/usr/bin/passwd")) == 0);
	w = world_new(below("tree"), NULL, now_ns(), OFFLINE_ELSEWHERE);
	CHECK(ask(&w, &wish, 0) == DOOR_GONE);
	wish.path = "/../../../etc/passwd";
	CHECK(ask(&w, &wish, 0) == DOOR_GONE);
	wish.path = "/usr/bin/x"; /* the user's word is enough without a build-id */
	CHECK(ask(&w, &wish, 0) == DOOR_OK);
	opts.door = w.door;
	CHECK(offline_new(&opts, &none, &err) == -ENOENT && strstr(err.msg, "--symfs"));
	world_free(&w);
}

static enum door_refusal map_of(struct world *w, pid_t pid, uint64_t exec_ns, bool ended)
{
	const struct offline_process process = { .pid = pid, .exec_ns = exec_ns, .ended = ended };
	struct door_file file;
	enum door_refusal ret = offline_open_perfmap(w->offline, &process, &file);

	if (ret == DOOR_OK)
		close(file.fd);
	return ret;
}

/* A pid that nobody has, of a child that has ended, and of which no earlier process left a map. */
static pid_t dead_pid(void)
{
	char path[64];
	pid_t pid;

	do {
		pid = fork();
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
		snprintf(path, sizeof(path), "/tmp/perf-%d.map", pid);
	} while (access(path, F_OK) == 0);
	return pid;
}

static void test_maps(void)
{
	const int64_t now = now_ns();
	const uint64_t mono = clock_monotonic_ns();
	const pid_t pid = dead_pid(), own = getpid();
	struct world w = world_new(NULL, NULL, now, OFFLINE_THIS_BOOT);
	struct world other = world_new(NULL, NULL, now, OFFLINE_THIS_MACHINE), given;
	char path[64], own_path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", pid);
	snprintf(own_path, sizeof(own_path), "/tmp/perf-%d.map", own);
	CHECK(map_of(&w, pid, 0, true) == DOOR_GONE);
	write_at(path, now - 30 * second);
	CHECK(map_of(&w, pid, 0, true) == DOOR_OK);
	CHECK(map_of(&w, pid, mono - 40 * (uint64_t)second, true) == DOOR_OK);
	/* Its program began after the map was last written: another process's. */
	CHECK(map_of(&w, pid, mono - 15 * (uint64_t)second, true) == DOOR_STALE);
	CHECK(map_of(&other, pid, 0, true) == DOOR_FOREIGN);
	/* Two days old, and written after the end. */
	write_at(path, now - 2 * 86400 * second);
	CHECK(map_of(&w, pid, mono, true) == DOOR_STALE);
	write_at(path, now + second);
	CHECK(map_of(&w, pid, 0, true) == DOOR_STALE);
	write_at(path, now - 30 * second);
	CHECK(link(path, below("second-name")) == 0);
	CHECK(map_of(&w, pid, 0, true) == DOOR_FOREIGN);
	unlink(below("second-name"));
	if (geteuid() == 0) {
		CHECK(chown(path, 65534, 65534) == 0);
		CHECK(map_of(&w, pid, 0, true) == DOOR_FOREIGN);
	}
	unlink(path);
	CHECK(symlink("/etc/passwd", path) == 0);
	CHECK(map_of(&w, pid, 0, true) == DOOR_ESCAPE || map_of(&w, pid, 0, true) == DOOR_NOT_REGULAR);
	unlink(path);

	/* We live and started before the end: what we wrote since is ours too. */
	write_at(own_path, now + 5 * second);
	CHECK(map_of(&w, own, 0, false) == DOOR_OK);
	/* The recorded one under our pid ended; or it was executed long before we started. */
	CHECK(map_of(&w, own, 0, true) == DOOR_STALE);
	CHECK(map_of(&w, own, mono > 3600 * (uint64_t)second ? mono - 3600 * (uint64_t)second : 1, false) ==
	      DOOR_STALE);
	unlink(own_path);

	/* --map-dir is the user's word. */
	snprintf(path, sizeof(path), "perf-%d.map", pid);
	write_at(below(path), now - 2 * 86400 * second);
	given = world_new(NULL, dir, now, OFFLINE_ELSEWHERE);
	CHECK(map_of(&given, pid, mono, true) == DOOR_OK);
	CHECK(map_of(&given, own, 0, false) == DOOR_GONE);
	world_free(&given);
	world_free(&other);
	world_free(&w);
}

static void test_given(void)
{
	struct err err = { 0 };
	size_t num = 0;
	int *fds = NULL, fd;

	CHECK(given_open_recording(below("nothing"), &fds, &num, &err) == -ENOENT);
	CHECK(strstr(err.msg, "nothing") != NULL);
	CHECK(given_open_recording(dir, &fds, &num, &err) == -ENOENT && strstr(err.msg, "/data:"));
	write_at(below("data"), 7 * second + 5);
	write_at(below("data.0"), now_ns());
	write_at(below("data.1"), now_ns());
	write_at(below("data.3"), now_ns());
	CHECK(given_open_recording(dir, &fds, &num, &err) == 0 && num == 3);
	CHECK(num && given_written_ns(fds[0]) == 7 * second + 5);
	for (size_t i = 0; i < num; i++)
		close(fds[i]);
	free(fds);
	CHECK(given_open("/dev/null", &fd, &err) == 0);
	CHECK(given_written_ns(fd) == INT64_MAX);
	close(fd);
}

int main(void)
{
	char command[64];

	unsetenv("DEBUGINFOD_URLS");
	CHECK(mkdtemp(dir) != NULL);
	test_by_path();
	test_mapped();
	test_by_build_id();
	test_symfs();
	test_maps();
	test_given();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	CHECK(system(command) == 0);
	return check_done();
}
