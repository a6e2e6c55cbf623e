/* What victims that compile code share: a file that tells of it and goes when they do, and how a jitdump begins. */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char path[64];
static int out;

static void ends(int sig)
{
	(void)sig;
	unlink(path);
	_exit(0);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * The head of a jitdump (perf's tools/perf/Documentation/jitdump-specification.txt), and the mapping that tells readers
 * of it.
 */
static inline int dump_open(void)
{
	struct {
		uint32_t magic, version, size, machine, pad, pid;
		uint64_t time, flags;
	} head = { 0x4a695444, 1, sizeof(head), 62, 0, (uint32_t)getpid(), now_ns(), 0 }; /* 62: EM_X86_64 */

	snprintf(path, sizeof(path), "/tmp/jit-%d.dump", (int)getpid());
	out = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0 || write(out, &head, sizeof(head)) != sizeof(head))
		return -1;
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, out, 0) == MAP_FAILED ? -1 : 0;
}
