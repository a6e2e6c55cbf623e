/* The broker against the plain door, and what happens when its process hangs or dies. */
#include "target/broker.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/outfile.h"
#include "base/strbuf.h"
#include "target/broker_hang.h"
#include "target/door.h"
#include "test/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct ids {
	pid_t id[100000];
	size_t num;
};

static int add_id(void *data, pid_t id)
{
	struct ids *ids = data;

	if (ids->num < 100000)
		ids->id[ids->num++] = id;
	return 0;
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512] = "";
	FILE *file;
	int ppid = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fread(text, 1, sizeof(text) - 1, file) && strrchr(text, ')'))
		sscanf(strrchr(text, ')') + 1, " %*c %d", &ppid);
	fclose(file);
	return ppid;
}

/* The process that opens: a grandchild of ours; 0 when there is none. */
static pid_t find_opener(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (dir && (entry = readdir(dir)) && !found) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 1 && parent_of(pid) > 1 && parent_of(parent_of(pid)) == getpid())
			found = pid;
	}
	if (dir)
		closedir(dir);
	return found;
}

static void test_same_answers(struct door *door, struct door *plain)
{
	struct door_file a = { 0 }, b = { 0 };
	struct strbuf x = { 0 }, y = { 0 };
	struct ids *ids = calloc(1, sizeof(*ids));
	struct err err = { 0 };
	uint64_t id = 0, want = 0;
	char byte = 0;

	CHECK(door_open(door, 0, "/proc/self/exe", DOOR_ELF, &a, &err) != DOOR_OK);
	CHECK(door_open(door, 0, "/bin/sh", DOOR_ELF, &a, &err) == DOOR_OK);
	CHECK(door_open(plain, 0, "/bin/sh", DOOR_ELF, &b, &err) == DOOR_OK);
	CHECK(a.ino == b.ino && a.dev == b.dev && a.size == b.size && a.mtime_ns == b.mtime_ns);
	CHECK(pread(a.fd, &byte, 1, 0) == 1 && byte == 0x7f);
	close(a.fd);
	close(b.fd);
	CHECK(door_open(door, 0, "/nowhere", DOOR_ELF, &a, &err) == DOOR_GONE && err.msg[0]);
	CHECK(door_open(door, 0, "/dev/null", DOOR_ELF, &a, &err) == DOOR_NOT_REGULAR);

	CHECK(door_read_proc(door, getppid(), "comm", 256, &x, NULL, &err) == 0);
	CHECK(door_read_proc(plain, getppid(), "comm", 256, &y, NULL, &err) == 0);
	CHECK_STR(x.data, y.data);
	CHECK(door_read_proc(door, 4500000, "comm", 256, &x, NULL, &err) == -ESRCH);
	CHECK(door_read_proc(door, getpid(), "root/etc/passwd", 256, &x, NULL, &err) == -EINVAL);
	strbuf_clear(&x);
	strbuf_clear(&y);
	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &x, &err) == 0);
	CHECK(door_read_text(plain, DOOR_CPUS_ONLINE, &y, &err) == 0);
	CHECK_STR(x.data, y.data);
	strbuf_deinit(&x);
	strbuf_deinit(&y);

	CHECK(ids && door_each_task(door, getpid(), add_id, ids, &err) == 0);
	CHECK(ids->num == 1 && ids->id[0] == getpid());
	CHECK(door_each_task(door, 4500000, add_id, ids, &err) == -ESRCH);
	CHECK(door_each_task(door, 0, add_id, ids, &err) == 0 && ids->num > 2);
	free(ids);

	CHECK(door_tracepoint_id(door, "sched", "sched_switch", &id, &err) ==
	      door_tracepoint_id(plain, "sched", "sched_switch", &want, &err));
	CHECK(id == want);
	CHECK(door_tracepoint_id(door, "..", "x", &id, &err) == -EINVAL);
}

/* What a process leaves behind is opened below the directory that was held for it, by the same rules. */
static void test_left(struct door *door, struct door *plain)
{
	struct door_place by_broker = { 0 }, by_us = { 0 };
	struct door_file file = { .fd = -1 };
	char path[64], link[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	snprintf(link, sizeof(link), "/tmp/perf-%d.link", (int)getpid());
	unlink(path);
	CHECK(door_keep_place(door, getpid(), &by_broker, NULL) == 0);
	CHECK(door_keep_place(plain, getpid(), &by_us, NULL) == 0);
	CHECK(by_broker.nspid == by_us.nspid && by_broker.uid == by_us.uid && by_broker.root == by_us.root &&
	      by_broker.start_ns / 100000000 == by_us.start_ns / 100000000);
	CHECK(door_open_left(door, &by_broker, &file, NULL) == DOOR_GONE);
	close(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
	CHECK(door_open_left(door, &by_broker, &file, NULL) == DOOR_OK);
	close(file.fd);
	CHECK(door_open_left(plain, &by_us, &file, NULL) == DOOR_OK);
	close(file.fd);
	by_broker.uid = by_broker.root = 4711;
	CHECK(door_open_left(door, &by_broker, &file, NULL) == DOOR_FOREIGN);
	CHECK(rename(path, link) == 0 && symlink(link, path) == 0);
	CHECK(door_open_left(plain, &by_us, &file, NULL) == DOOR_NOT_REGULAR);
	unlink(path);
	unlink(link);
	CHECK(door_keep_place(door, 0x7ffffff0, &by_broker, NULL) < 0);
	close(by_broker.dir_fd);
	close(by_us.dir_fd);
}

static void test_mapping(struct door *door)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096], path[4096] = "";
	struct door_mapping m = { .pid = getpid(), .path = path };
	struct door_file file = { .fd = -1 };
	struct stat st;

	while (maps && fgets(line, sizeof(line), maps)) {
		char prot[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*x %x:%x %" SCNu64 " %4095s", &m.start, &m.end, prot,
			   &m.maj, &m.min, &m.ino, path) == 7 && prot[2] == 'x' && *path == '/')
			break;
	}
	if (maps)
		fclose(maps);
	CHECK(door_open_mapping(door, &m, NULL, 0, &file, NULL) == DOOR_OK);
	CHECK(fstat(file.fd, &st) == 0 && st.st_ino == file.ino);
	close(file.fd);
}

static void write_output(struct door *door, const char *path, int expect)
{
	struct outfile *out = NULL;
	struct err err = { 0 };
	int r = outfile_open_by(broker_opener(door), path, &out, &err);

	CHECK_MSG(r == expect, "%s: %d %s", path, r, err.msg);
	if (r)
		return;
	fputs("text\n", outfile_stream(out));
	CHECK(access(path, F_OK) < 0); /* not there before it is whole */
	CHECK(outfile_commit(out, &err) == 0);
}

static void test_outputs(struct door *door, const char *allowed, const char *other)
{
	struct outfile *out = NULL;
	char text[16] = "";
	FILE *file;

	write_output(door, allowed, 0);
	file = fopen(allowed, "r");
	CHECK(file && fgets(text, sizeof(text), file));
	CHECK_STR(text, "text\n");
	if (file)
		fclose(file);
	CHECK(unlink(allowed) == 0);
	write_output(door, other, -EPERM);
	CHECK(outfile_open_by(broker_opener(door), allowed, &out, NULL) == 0);
	fputs("more\n", outfile_stream(out));
	outfile_abort(out);
	CHECK(access(allowed, F_OK) < 0);
}

/* Who opened it dies or hangs before the file is whole: another finishes it. A disk may take its time. */
static void test_outputs_outlive(struct door *door, const char *allowed)
{
	struct outfile *out = NULL;
	struct strbuf text = { 0 };
	struct err err = { 0 };
	char line[16] = "";
	pid_t opener, waker;
	unsigned int replaced;
	FILE *file;

	CHECK(outfile_open_by(broker_opener(door), allowed, &out, &err) == 0);
	fputs("outlives\n", outfile_stream(out));
	CHECK(kill(find_opener(), SIGSTOP) == 0);
	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &text, &err) == -ETIMEDOUT);
	opener = find_opener();
	CHECK(opener && kill(opener, SIGKILL) == 0);
	CHECK_MSG(outfile_commit(out, &err) == 0, "%s", err.msg);
	file = fopen(allowed, "r");
	CHECK(file && fgets(line, sizeof(line), file));
	CHECK_STR(line, "outlives\n");
	if (file)
		fclose(file);
	CHECK(unlink(allowed) == 0);

	CHECK(outfile_open_by(broker_opener(door), allowed, &out, &err) == 0);
	opener = find_opener();
	replaced = broker_replaced(door);
	CHECK(opener && kill(opener, SIGSTOP) == 0);
	waker = fork();
	if (!waker) {
		nanosleep(&(struct timespec){ .tv_sec = 3 }, NULL);
		kill(opener, SIGCONT);
		_exit(0);
	}
	CHECK_MSG(outfile_commit(out, &err) == 0, "%s", err.msg);
	CHECK(broker_replaced(door) == replaced && find_opener() == opener);
	CHECK(waitpid(waker, NULL, 0) == waker && unlink(allowed) == 0);
	strbuf_deinit(&text);
}

static void test_when_it_hangs(void)
{
	const uint64_t ms = 1000000, start = 7000 * ms;
	struct broker_hang blocked = { .start_ns = start }, crowded = blocked, silent = blocked, late = blocked;

	/* Blocked from the start: the half second before the first look counts. */
	CHECK(!broker_hang_look(&blocked, start + 500 * ms, false, 40 * ms));
	CHECK(!broker_hang_look(&blocked, start + 1999 * ms, false, 40 * ms));
	CHECK(!broker_hang_look(&blocked, start + 2500 * ms, true, 40 * ms));
	CHECK(broker_hang_look(&blocked, start + 2000 * ms, false, 40 * ms));
	/* Mostly without a CPU. */
	CHECK(!broker_hang_look(&crowded, start + 500 * ms, false, 40 * ms));
	CHECK(!broker_hang_look(&crowded, start + 9000 * ms, false, (40 + 7001) * ms));
	CHECK(broker_hang_look(&crowded, start + 9000 * ms, false, (40 + 7000) * ms));
	CHECK(broker_hang_look(&crowded, start + 60000 * ms, true, (40 + 59000) * ms));
	/* Where no times are told. */
	CHECK(!broker_hang_look(&silent, start + 500 * ms, true, 0));
	CHECK(!broker_hang_look(&silent, start + 3000 * ms, true, 0));
	CHECK(broker_hang_look(&silent, start + 3500 * ms, false, 0));
	/* Those who look had no CPU. */
	CHECK(!broker_hang_look(&late, start + 6000 * ms, false, 0));
	CHECK(!broker_hang_look(&late, start + 7499 * ms, false, 0));
	CHECK(broker_hang_look(&late, start + 7500 * ms, false, 0));
}

static int open_directly(const struct perf_event_attr *attr)
{
	struct perf_event_attr copy = *attr;

	return (int)syscall(SYS_perf_event_open, &copy, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Events as they were allowed and no others; by whom of the broker they are opened does not matter. */
static void test_events(struct door *door, struct door *plain)
{
	struct door_event events[3] = { 0 };
	uint64_t values[2] = { 0 };
	struct err err = { 0 };
	int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), direct, fd;

	for (int i = 0; i < 3; i++)
		events[i].attr = (struct perf_event_attr){ .size = sizeof(struct perf_event_attr),
							   .type = PERF_TYPE_SOFTWARE,
							   .config = PERF_COUNT_SW_DUMMY,
							   .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED };
	events[1].of_cgroups = true;
	CHECK(door_open_event(door, 0, -1, 0, &err) == -EPERM); /* none is allowed yet */
	CHECK(door_open_event(plain, 0, -1, 0, &err) == -ENOSYS);
	CHECK(door_allow_events(plain, events, 2, NULL, 0, &err) == 0);
	CHECK(door_allow_events(door, events, 3, NULL, 0, &err) == -EINVAL);
	CHECK(door_allow_events(door, events, 2, &(int){ -1 }, 1, &err) == -EBADF);
	CHECK(door_allow_events(door, events, 2, &dir, 1, &err) == 0);
	broker_seal(door);
	CHECK(door_allow_events(door, events, 1, NULL, 0, &err) == -EPERM);
	CHECK(door_open_event(door, 2, -1, 0, &err) == -EPERM);
	CHECK(door_open_event(door, 0, dir, 0, &err) == -EPERM); /* that one is of all processes */
	CHECK(door_open_event(door, 1, -1, 0, &err) == -EPERM);
	fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(door_open_event(door, 1, fd, 0, &err) == -EPERM); /* not that cgroup */
	close(fd);
	/* It gets as far as the kernel, to which this is no cgroup. */
	fd = door_open_event(door, 1, dir, 0, &err);
	CHECK_MSG(fd == -EBADF || fd == -EACCES, "%d", fd);
	close(dir);
	direct = open_directly(&events[0].attr);
	if (direct < 0) {
		fprintf(stderr, "not tried: opening an event, which is refused here\n");
		return;
	}
	close(direct);
	CHECK(door_open_event(door, 0, -1, 8191, &err) == -ENODEV || door_open_event(door, 0, -1, 8191, &err) == -EINVAL);
	CHECK(door_open_event(door, 0, -1, -1, &err) == -EPERM);
	for (int i = 0; i < 3; i++) {
		pid_t opener = find_opener();

		CHECK(opener && kill(opener, SIGKILL) == 0); /* the next one knows as well */
		fd = door_open_event(door, 0, -1, 0, &err);
		CHECK_MSG(fd >= 0 && read(fd, values, sizeof(values)) == sizeof(values) && values[1] > 0, "%s",
			  err.msg);
		close(fd);
	}
}

/* A file system that does not answer is a process that does not run. */
static void test_hang(struct door *door)
{
	struct strbuf text = { 0 };
	struct err err = { 0 };
	pid_t opener = find_opener();
	uint64_t start = clock_monotonic_ns();
	unsigned int replaced = broker_replaced(door);

	CHECK(opener && kill(opener, SIGSTOP) == 0);
	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &text, &err) == -ETIMEDOUT);
	CHECK(clock_monotonic_ns() - start > 1900000000u); /* no bar above: it depends on who else wants a CPU */
	CHECK(broker_replaced(door) == replaced + 1);
	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &text, &err) == 0 && text.len);
	CHECK(find_opener() && find_opener() != opener);
	strbuf_deinit(&text);
}

/* Wherever it dies, between requests or in one, the request is answered. */
static void test_death(struct door *door)
{
	unsigned int before = broker_replaced(door);
	struct strbuf text = { 0 };
	struct err err = { 0 };

	for (int i = 0; i < 20; i++) {
		pid_t opener = find_opener();

		CHECK(opener && kill(opener, SIGKILL) == 0);
		strbuf_clear(&text);
		CHECK_MSG(door_read_text(door, DOOR_CPUS_ONLINE, &text, &err) == 0 && text.len, "%s", err.msg);
	}
	/* Each death counts once, and is known before the request that comes after it. */
	CHECK(door_read_text(door, DOOR_CPUS_ONLINE, &text, &err) == 0);
	CHECK_MSG(broker_replaced(door) == before + 20, "%u", broker_replaced(door) - before);
	strbuf_deinit(&text);
}

int main(void)
{
	char dir[] = "/var/tmp/ringfold-test-XXXXXX", allowed[64], other[64];
	const char *outputs[] = { allowed };
	struct door *door = NULL, *plain = NULL;
	struct err err = { 0 };
	pid_t opener;

	CHECK(mkdtemp(dir));
	snprintf(allowed, sizeof(allowed), "%s/allowed", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	if (broker_start(outputs, 1, &door, &err) < 0 || door_new(&plain, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	test_same_answers(door, plain);
	test_left(door, plain);
	test_mapping(door);
	test_when_it_hangs();
	test_outputs(door, allowed, other);
	test_outputs_outlive(door, allowed);
	test_hang(door);
	test_death(door);
	test_events(door, plain);
	opener = find_opener();
	CHECK(opener);
	door_free(door);
	CHECK(kill(opener, 0) < 0); /* nothing is left behind */
	door_free(plain);
	CHECK(rmdir(dir) == 0);
	return check_done();
}
