/*
 * Programs that lie to a profiler, for hostile.py. Each touches 16 new pages ten times a second until it is killed, which
 * `-e page-faults -c 1` sees however busy the machine is.
 *
 *	hostile jit                 from code without a file, at a known address that maps of it can name
 *	hostile file FD OFFSET      from a mapped file, by a function(char *page, long num) there
 *	hostile churn FD OFFSET     from children that map it and end
 *	hostile mapper              from each file it is told, "PATH OFFSET" a line; answers "ok"; keeps the last 64 mapped
 *	hostile reuse NAME TEXT     as jit, as pid 2 of a namespace where another pid 2 has just written such a map
 *	hostile blocked DIR         with a page on its stack that FUSE never fills
 *	hostile canary HEX          with those 8 bytes all over its stack; this one spins
 *
 * before that: --root DIR (chroot there), --pivot DIR (in a mount namespace whose root that is), --uid N
 */
#include "test/silent_fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

enum { PAGES = 16 };

typedef void (*touch_pages)(char *pages, long num);

/* `where` as a function: maps and files can name it. */
static void touch_some(const void *where)
{
	touch_pages touch;
	char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(pages != MAP_FAILED && !madvise(pages, PAGES * 4096, MADV_NOHUGEPAGE), "mmap");
	memcpy(&touch, &where, sizeof(touch));
	touch(pages, PAGES);
	munmap(pages, PAGES * 4096);
}

static void rest(void)
{
	const struct timespec a_while = { .tv_nsec = 100000000 };

	nanosleep(&a_while, NULL);
}

static _Noreturn void touch_from(const void *where)
{
	for (;;) {
		touch_some(where);
		rest();
	}
}

static _Noreturn void jit(void)
{
	/* do { read *page; page += 4096; } while (--num); */
#ifdef __x86_64__
	static const uint8_t code[] = { 0x8a, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00,
					0x00, 0x48, 0xff, 0xce, 0x75, 0xf2, 0xc3 };
#else
	static const uint32_t code[] = { 0x39400002, 0x91400400, 0xf1000421, 0x54ffffa1, 0xd65f03c0 }; /* aarch64 */
#endif
	void *at = mmap((void *)0x20000000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	must(at != MAP_FAILED, "mmap");
	memcpy(at, code, sizeof(code));
	__builtin___clear_cache((char *)at, (char *)at + sizeof(code));
	touch_from(at);
}

static const uint8_t *map_file(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	void *at = mmap(NULL, (size_t)size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	must(at != MAP_FAILED, "mmap");
	return at;
}

static _Noreturn void churn(int fd, size_t offset)
{
	for (;;) {
		pid_t pid = fork();

		if (!pid) {
			touch_some(map_file(fd) + offset);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		rest();
	}
}

/* For as long as it takes to be sampled and looked into. */
enum { KEPT = 64 };

static _Noreturn void mapper(void)
{
	static struct {
		void *at;
		size_t size;
	} kept[KEPT];
	char line[4096], path[4096];
	unsigned long offset;

	for (size_t i = 0; fgets(line, sizeof(line), stdin) && sscanf(line, "%4095s %lu", path, &offset) == 2; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		must(fd >= 0, path);
		if (kept[i % KEPT].at)
			munmap(kept[i % KEPT].at, kept[i % KEPT].size);
		kept[i % KEPT].size = (size_t)lseek(fd, 0, SEEK_END);
		kept[i % KEPT].at = (void *)(uintptr_t)map_file(fd);
		close(fd);
		touch_some((const uint8_t *)kept[i % KEPT].at + offset);
		must(puts("ok") >= 0 && fflush(stdout) == 0, "stdout");
	}
	exit(0);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

/* Sysctl of the caller's own namespace, whichever /proc it is reached by. */
static _Noreturn void reuse(const char *name, const char *text)
{
	const struct timespec moment = { .tv_nsec = 200000000 };
	int last_pid = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	pid_t pid;

	must(last_pid >= 0 && unshare(CLONE_NEWPID) == 0, "a pid namespace");
	pid = fork();
	if (pid) {
		waitpid(pid, NULL, 0);
		exit(1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pid = fork(); /* 2 */
	if (!pid) {
		put(name, text);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	nanosleep(&moment, NULL);
	must(write(last_pid, "1", 1) == 1, "ns_last_pid");
	pid = fork();
	if (!pid) {
			jit();
	}
	must(pid == 2, "to be pid 2 again");
	waitpid(pid, NULL, 0);
	exit(1);
}

/* The hole's pages were never touched, so nothing of it has to be there when one is replaced. */
static __attribute__((noinline)) void touch_above_hole(int fd)
{
	volatile char hole[65536];
	uintptr_t page = ((uintptr_t)&hole[16384] + 4095) & ~(uintptr_t)4095;

	must(mmap((void *)page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == (void *)page, "mmap");
	for (;;) {
		volatile char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t i = 0; i < PAGES; i++)
			pages[i * 4096] = 1;
		munmap((void *)pages, PAGES * 4096);
		rest();
	}
}

static _Noreturn void blocked(const char *dir)
{
	char path[256];
	int fd;

	must(silent_fuse_start(dir) > 0, "FUSE");
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0, path);
	touch_above_hole(fd);
	exit(1);
}

static _Noreturn void canary(const char *hex)
{
	volatile uint64_t words[256], turns = 0;

	/* The bytes as they are written, first to last. */
	for (size_t i = 0; i < 256; i++)
		words[i] = __builtin_bswap64(strtoull(hex, NULL, 16));
	for (;;)
		turns = turns + words[turns % 256];
}

static void pivot(const char *dir)
{
	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		     mount(dir, dir, NULL, MS_BIND | MS_REC, NULL) == 0 && chdir(dir) == 0 &&
		     syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0,
	     dir);
}

int main(int argc, char **argv)
{
	int at = 1;

	for (; at + 1 < argc && !strncmp(argv[at], "--", 2); at += 2) {
		if (!strcmp(argv[at], "--root"))
			must(chroot(argv[at + 1]) == 0 && chdir("/") == 0, "chroot");
		else if (!strcmp(argv[at], "--pivot"))
			pivot(argv[at + 1]);
		else if (!strcmp(argv[at], "--uid"))
			must(setuid((uid_t)atoi(argv[at + 1])) == 0, "setuid");
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (at + 1 == argc && !strcmp(argv[at], "jit"))
		jit();
	if (at + 3 == argc && !strcmp(argv[at], "file"))
		touch_from(map_file(atoi(argv[at + 1])) + strtoul(argv[at + 2], NULL, 0));
	if (at + 2 == argc && !strcmp(argv[at], "canary"))
		canary(argv[at + 1]);
	if (at + 1 == argc && !strcmp(argv[at], "mapper"))
		mapper();
	if (at + 3 == argc && !strcmp(argv[at], "churn"))
		churn(atoi(argv[at + 1]), strtoul(argv[at + 2], NULL, 0));
	if (at + 3 == argc && !strcmp(argv[at], "reuse"))
		reuse(argv[at + 1], argv[at + 2]);
	if (at + 2 == argc && !strcmp(argv[at], "blocked"))
		blocked(argv[at + 1]);
	return 2;
}
