/*
 * What the victims share. A victim burns CPU in a known place with a known chain of callers, prints nothing,
 * and ends after argv[1] seconds (or never). Its functions are external and never inlined, so that the chain
 * in the source is the chain on the stack.
 */
#pragma once

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noinline, noclone, noipa))
#endif

/* Behind a call: the call is no tail call, so its caller keeps a frame. */
#define STAY() __asm__ volatile("" ::: "memory")

/* A frame of at least that many bytes: another CFA than the neighbours'. */
#define FRAME_BYTES(n)  \
	char frame[n]; \
	__asm__ volatile("" : : "r"(frame) : "memory")

static void victim_ends(int sig)
{
	(void)sig;
	_exit(0);
}

/* A timer and not a clock that is looked at: nothing but the burning function shows in the profile. */
static inline void victim_lives(const char *seconds)
{
	if (!seconds)
		return;
	signal(SIGALRM, victim_ends);
	alarm((unsigned int)strtoul(seconds, NULL, 10));
}

/* A child never outlives the victim. */
static inline void victim_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* About a nanosecond each; the result is wanted, so no compiler removes the loop. */
static inline void spin(uint64_t rounds)
{
	uint64_t x = rounds;

	for (uint64_t i = 0; i < rounds; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		__asm__ volatile("" : "+r"(x));
	}
}
