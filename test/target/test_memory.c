/* Memory of other processes through the helper, with pages that never come and helpers that die. */
#include "target/memory.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "target/broker.h"
#include "target/door.h"
#include "target/jail.h"
#include "test/check.h"
#include "test/silent_fuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REGION = 1 << 20 };

/* A process with the parent's memory, that waits to be killed. */
static pid_t make_twin(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent)
		pause();
	_exit(0);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static ssize_t read_one(struct memory *m, pid_t pid, uint32_t generation, const void *addr, void *buf, size_t len)
{
	struct memory_piece piece = { .pid = pid, .generation = generation, .addr = (uintptr_t)addr, .buf = buf,
				      .len = len };

	memory_read(m, &piece, 1);
	return piece.got;
}

static void test_plain(struct memory *m, const uint8_t *region)
{
	_cleanup_free_ uint8_t *buf = malloc(REGION);
	struct memory_piece pieces[300];
	uint64_t words[300];
	pid_t twins[2] = { make_twin(), make_twin() };
	struct memory_counts before;

	CHECK(read_one(m, twins[0], 1, region, buf, 8) == 8 && !memcmp(buf, region, 8));
	/* More than one answer holds. */
	memset(buf, 0, REGION);
	CHECK(read_one(m, twins[0], 1, region, buf, REGION) == REGION && !memcmp(buf, region, REGION));
	/* Up to what is not mapped, and there. */
	CHECK(read_one(m, twins[0], 1, region + REGION - 100, buf, 200) == 100);
	CHECK(read_one(m, twins[0], 1, region + REGION - 70000, buf, 80000) == 70000);
	CHECK(read_one(m, twins[0], 1, region + REGION, buf, 8) == -EIO);
	CHECK(read_one(m, twins[0], 1, (void *)8, buf, 8) == -EIO);
	CHECK(read_one(m, twins[0], 1, (void *)UINTPTR_MAX, buf, 8) == -EIO);
	CHECK(read_one(m, twins[0], 1, region, buf, 0) == 0);
	before = memory_counts(m);
	for (size_t i = 0; i < 300; i++) {
		size_t at = i % 7 ? (i * 4099) % (REGION - 8) : REGION + 64;

		words[i] = 0;
		pieces[i] = (struct memory_piece){ .pid = twins[i & 1], .generation = 1 + (i & 1),
						   .addr = (uintptr_t)region + at, .buf = &words[i], .len = 8 };
	}
	memory_read(m, pieces, 300);
	for (size_t i = 0; i < 300; i++) {
		if (i % 7)
			CHECK(pieces[i].got == 8 && !memcmp(&words[i], (void *)(uintptr_t)pieces[i].addr, 8));
		else
			CHECK(pieces[i].got == -EIO);
	}
	CHECK(memory_counts(m).requests == before.requests + 3);
	CHECK(memory_counts(m).pieces == before.pieces + 300);
	/* An end is noticed, and its pid may be another's from then on. */
	end(twins[0]);
	CHECK(read_one(m, twins[0], 1, region, buf, 8) == -ESRCH);
	memory_forget(m, 1);
	CHECK(read_one(m, twins[0], 1, region, buf, 8) == -ESRCH);
	CHECK(read_one(m, twins[1], 2, region, buf, 8) == 8);
	memory_forget(m, 1);
	memory_forget(m, 2);
	memory_forget(m, 2);
	CHECK(read_one(m, twins[1], 2, region, buf, 8) == 8);
	end(twins[1]);
	memory_forget(m, 2);
}

/* After exec the descriptor is that of a program which is gone: the new one is another generation. */
static void test_exec(struct memory *m, const uint8_t *region)
{
	int go[2];
	uint8_t buf[8];
	pid_t pid;

	CHECK(pipe2(go, O_CLOEXEC) == 0);
	pid = fork();
	if (!pid) {
		char byte;

		if (read(go[0], &byte, 1) == 1)
			execlp("sleep", "sleep", "60", (char *)NULL);
		_exit(1);
	}
	CHECK(read_one(m, pid, 10, region, buf, 8) == 8);
	CHECK(write(go[1], "x", 1) == 1);
	for (int i = 0; i < 1000 && read_one(m, pid, 10, region, buf, 8) == 8; i++)
		usleep(2000);
	CHECK(read_one(m, pid, 10, region, buf, 8) == -ESRCH);
	CHECK(read_one(m, pid, 11, region, buf, 8) == -EIO);
	end(pid);
	close(go[0]);
	close(go[1]);
	memory_forget(m, 10);
	memory_forget(m, 11);
}

/* What was sampled before the process was there was not this process. */
static void test_reused(struct memory *m, const uint8_t *region)
{
	struct memory_piece piece = { .generation = 20, .addr = (uintptr_t)region, .len = 8, .buf = &(uint64_t){ 0 } };

	piece.pid = make_twin();
	piece.seen_ns = clock_monotonic_ns() - 1000000000;
	memory_read(m, &piece, 1);
	CHECK_MSG(piece.got == -ESRCH && memory_counts(m).reused == 1, "%zd", piece.got);
	piece.generation = 21;
	piece.seen_ns = clock_monotonic_ns();
	memory_read(m, &piece, 1);
	CHECK(piece.got == 8);
	end(piece.pid);
}

/* More processes than are open at a time. */
static void test_many(struct memory *m, const uint8_t *region)
{
	enum { NUM = 300 };
	static struct memory_piece pieces[NUM];
	static uint64_t words[NUM];

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < NUM; i++)
			pieces[i] = (struct memory_piece){ .pid = getpid(), .generation = 100 + i, .buf = &words[i],
							   .addr = (uintptr_t)region + i, .len = 8 };
		memory_read(m, pieces, NUM);
		for (uint32_t i = 0; i < NUM; i++)
			CHECK(pieces[i].got == 8 && !memcmp(&words[i], region + i, 8));
	}
	for (uint32_t i = 0; i < NUM; i++)
		memory_forget(m, 100 + i);
}

static int compare_times(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* 16 words of two processes: what a stack of managed code needs. */
static void test_time(struct memory *m, const uint8_t *region)
{
	enum { NUM = 2000 };
	static uint64_t took[NUM];
	struct memory_piece pieces[16];
	uint64_t words[16];
	pid_t twin = make_twin();

	for (size_t i = 0; i < NUM; i++) {
		uint64_t start = clock_monotonic_ns();

		for (size_t k = 0; k < 16; k++)
			pieces[k] = (struct memory_piece){ .pid = k & 1 ? twin : getpid(), .generation = 30 + (k & 1),
							   .addr = (uintptr_t)region + i * 64 + k * 4096,
							   .buf = &words[k], .len = 8 };
		memory_read(m, pieces, 16);
		took[i] = clock_monotonic_ns() - start;
	}
	qsort(took, NUM, sizeof(took[0]), compare_times);
	printf("round trip of 16 pieces: median %.1f us, 99 %% %.1f us, most %.1f us\n", (double)took[NUM / 2] / 1e3,
	       (double)took[NUM * 99 / 100] / 1e3, (double)took[NUM - 1] / 1e3);
	CHECK(took[NUM / 10] <= 200000); /* most may wait for a CPU where others want it */
	end(twin);
	memory_forget(m, 30);
	memory_forget(m, 31);
}

/* A process with pages that userfaultfd never fills; 0: this machine has none for us. */
static pid_t make_missing(const uint8_t **ret)
{
	uint8_t *at = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds[2];
	char ready = 0;
	pid_t pid;

	if (at == MAP_FAILED || pipe(fds) < 0)
		return 0;
	*ret = at;
	pid = fork();
	if (!pid) {
		struct uffdio_api api = { .api = UFFD_API };
		struct uffdio_register reg = { .range = { (uintptr_t)at, REGION }, .mode = UFFDIO_REGISTER_MODE_MISSING };
		int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ready = uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg);
		if (write(fds[1], &ready, 1) == 1)
			pause();
		_exit(0);
	}
	if (pid < 0 || read(fds[0], &ready, 1) != 1 || !ready) {
		end(pid);
		pid = 0;
	}
	close(fds[0]);
	close(fds[1]);
	munmap(at, REGION);
	return pid;
}

/* Kernels differ in whether a read of /proc/PID/mem waits for userfaultfd: 6.x says -EIO at once. */
static void test_userfaultfd(struct memory *m)
{
	const uint8_t *hole = NULL;
	pid_t liar = make_missing(&hole);
	uint64_t word, start = clock_monotonic_ns();
	ssize_t got;

	if (!liar) {
		fprintf(stderr, "no userfaultfd here\n");
		return;
	}
	got = read_one(m, liar, 48, hole, &word, 8);
	CHECK(got == -EIO || got == -EFAULT || got == -EDEADLK);
	CHECK_MSG(clock_monotonic_ns() - start < 20000000000, "%zd", got);
	end(liar);
	memory_forget(m, 48);
}

/* A process that maps a file whose bytes never come, at *ret. */
static pid_t make_liar(const char *dir, const uint8_t **ret)
{
	char path[128];
	uint8_t *at;
	pid_t pid;
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	at = fd < 0 ? MAP_FAILED : mmap(NULL, SILENT_FILE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(at != MAP_FAILED);
	*ret = at;
	pid = make_twin();
	munmap(at, SILENT_FILE_BYTES);
	close(fd);
	return pid;
}

/* One that never answers costs the others nothing but 20 ms. */
static uint64_t block_once(struct memory *m, const uint8_t *region, const char *dir, uint32_t i)
{
	uint64_t words[3] = { 0 }, start, took;
	const uint8_t *hole;
	pid_t liar = make_liar(dir, &hole), twin = make_twin();
	struct memory_piece pieces[] = {
		{ .pid = twin, .generation = 40, .addr = (uintptr_t)region, .buf = &words[0], .len = 8 },
		{ .pid = liar, .generation = 50 + i, .addr = (uintptr_t)hole + i * 65536, .buf = &words[1], .len = 8 },
		{ .pid = twin, .generation = 40, .addr = (uintptr_t)region + 8, .buf = &words[2], .len = 8 },
	};

	start = clock_monotonic_ns();
	memory_read(m, pieces, 3);
	took = clock_monotonic_ns() - start;
	CHECK(pieces[0].got == 8 && pieces[1].got == -EDEADLK && pieces[2].got == 8);
	CHECK(!memcmp(&words[0], region, 8) && !memcmp(&words[2], region + 8, 8));
	/* Left alone from now on, also where its pages are there, and after an exec. */
	CHECK(read_one(m, liar, 50 + i, region, words, 8) == -EDEADLK);
	CHECK(read_one(m, liar, 150 + i, region, words, 8) == -EDEADLK);
	CHECK(memory_counts(m).blocked == i + 1);
	end(liar);
	end(twin);
	memory_forget(m, 40);
	return took;
}

static void test_blocked(struct memory *m, const uint8_t *region)
{
	char dir[] = "/var/tmp/ringfold-test-XXXXXX";
	uint64_t best = UINT64_MAX, replaced = memory_counts(m).replaced, word;
	pid_t server;

	CHECK(mkdtemp(dir));
	server = silent_fuse_start(dir);
	if (server < 0) {
		rmdir(dir);
		SKIP("no FUSE here: reads that never end are not tried");
	}
	/* The kernel does not let go of a helper that waits for FUSE: of so many we can afford to lose. */
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t took = block_once(m, region, dir, i);

		best = took < best ? took : best;
	}
	CHECK(memory_counts(m).replaced == replaced + 4);
	printf("a page that never comes: %.1f ms\n", (double)best / 1e6);
	CHECK(best >= 20000000);
	if (!JAIL_SANITIZED)
		CHECK(best < 100000000);
	/* They end with their server, and all goes on. */
	end(server);
	CHECK(umount2(dir, MNT_DETACH) == 0 && rmdir(dir) == 0);
	CHECK(read_one(m, getpid(), 80, region, &word, 8) == 8 && !memcmp(&word, region, 8));
}

/* A task by its name among all processes; of children of `parent` alone unless that is 0. */
static pid_t find_task(const char *name, pid_t parent)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	pid_t ret = 0;

	while (dir && !ret && (entry = readdir(dir))) {
		char path[300], text[512] = "", want[64];
		const char *paren;
		int fd, ppid = 0;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0) {
			snprintf(want, sizeof(want), "(%.40s)", name);
			paren = strrchr(text, ')');
			if (paren && strstr(text, want) && sscanf(paren, ") %*c %d", &ppid) == 1 && ppid == parent)
				ret = (pid_t)atoi(entry->d_name);
		}
		close(fd);
	}
	if (dir)
		closedir(dir);
	return ret;
}

static void test_helper(struct memory *m, const uint8_t *region)
{
	pid_t guard = find_task("ringfold-memory", getpid()), helper = find_task("ringfold-memory", guard);
	char path[64], text[4096] = "";
	uint64_t word, replaced = memory_counts(m).replaced;
	int fd;

	CHECK(guard && helper);
	snprintf(path, sizeof(path), "/proc/%d/status", helper);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	CHECK(strstr(text, "CapEff:\t0000000000000000") && strstr(text, "CapPrm:\t0000000000000000"));
	CHECK(strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2"));
	for (int i = 0; i < 5; i++) {
		helper = find_task("ringfold-memory", guard);
		CHECK(helper && kill(helper, SIGKILL) == 0);
		CHECK(read_one(m, getpid(), 60, region, &word, 8) == 8 && !memcmp(&word, region, 8));
	}
	/* On a crowded machine one may also have been too slow. */
	CHECK(memory_counts(m).replaced >= replaced + 5);
	memory_forget(m, 60);
}

static ssize_t touch(struct memory *m, pid_t pid, uint64_t addr)
{
	const struct memory_piece who = { .pid = pid, .generation = 70, .addr = addr };

	return memory_touch(m, &who);
}

/* Pages that were never touched are there afterwards, guard pages and holes end it. */
static void test_touch(struct memory *m)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *at = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t addr = (uintptr_t)at;
	unsigned char in[64];

	CHECK(at != MAP_FAILED);
	(void)madvise(at, 64 * page, MADV_NOHUGEPAGE);
	CHECK(!mprotect(at + 3 * page, page, PROT_NONE));
	CHECK(!mincore(at, 64 * page, in) && !(in[0] & 1) && !(in[2] & 1) && !(in[40] & 1));
	CHECK(touch(m, getpid(), addr) == 3);
	CHECK(touch(m, getpid(), addr + 3 * page) == 0);
	CHECK(touch(m, getpid(), addr + 40 * page) == MEMORY_TOUCH_PAGES);
	CHECK(!mincore(at, 64 * page, in) && in[0] & 1 && in[2] & 1 && in[40] & 1 && in[55] & 1);
	CHECK(!(in[3] & 1) && !(in[4] & 1) && !(in[39] & 1) && !(in[56] & 1));
	CHECK(touch(m, getpid(), addr + 8) == -EINVAL);
	CHECK(touch(m, getpid(), UINT64_MAX - page + 1) == -EINVAL);
	CHECK(touch(m, 4500000, addr) == -ESRCH);
	munmap(at, 64 * page);
	memory_forget(m, 70);
}

/* The same from inside the jail: that is where it is used. */
static void test_jailed(const uint8_t *region)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		struct door *door = NULL;
		struct memory *m = NULL;
		struct err err = { 0 };
		uint64_t word;
		int ok = !broker_start(NULL, 0, &door, &err) && !memory_new(door, &m, &err) && !jail_enter(0, &err);

		ok = ok && read_one(m, getppid(), 1, region, &word, 8) == 8 && !memcmp(&word, region, 8);
		ok = ok && touch(m, getppid(), (uintptr_t)region) == MEMORY_TOUCH_PAGES;
		memory_free(m);
		door_free(door);
		_exit(!ok);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	uint8_t *region = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct door *door = NULL;
	struct memory *m = NULL;
	struct err err = { 0 };

	CHECK(region != MAP_FAILED);
	munmap(region + REGION, REGION);
	for (size_t i = 0; i < REGION; i++)
		region[i] = (uint8_t)(i * 31 + i / 251);
	if (door_new(&door, &err) < 0 || memory_new(door, &m, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	test_plain(m, region);
	test_exec(m, region);
	test_reused(m, region);
	test_many(m, region);
	test_time(m, region);
	test_touch(m);
	test_helper(m, region);
	test_jailed(region);
	test_userfaultfd(m);
	test_blocked(m, region);
	memory_free(m);
	CHECK(!find_task("ringfold-memory", getpid())); /* nothing is left behind */
	door_free(door);
	return check_done();
}
