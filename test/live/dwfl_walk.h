/* A walk by elfutils' libdwfl over a sample's registers and copied stack: the other unwinder of the oracles. */
#pragma once

#include "unwinder/arch.h"

#include <stddef.h>
#include <stdint.h>

struct addrspace;
struct dwfl_walker;

struct dwfl_sample {
	const struct addrspace *space;
	const uint64_t *perf_regs; /* x86-64's, in bit order of the mask */
	uint64_t perf_mask;
	const uint8_t *stack; /* from sp upwards */
	size_t stack_bytes;
};

struct dwfl_walker *dwfl_walker_new(void); /* NULL = out of memory */
void dwfl_walker_free(struct dwfl_walker *w);
/*
 * Addresses, leaf first, of callers those of the call: return address - 1. Files are opened by their path, in the root of
 * the process if that still runs.
 */
size_t dwfl_walk(struct dwfl_walker *w, const struct dwfl_sample *sample, uint64_t *addrs, size_t max);
