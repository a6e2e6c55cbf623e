/*
 * A part of a profile by time, and several as one: what a flight recorder keeps becomes a profile of the seconds that
 * matter.
 */
#pragma once

#include <stdint.h>

struct err;
struct profile;

/*
 * Adds the samples of `from` with from_ns <= time < to_ns: their stacks, counts by class, frames and names. `into` starts
 * as profile_new made it; several may be added, oldest first. What is not of single samples (loss, times, notes) is the
 * caller's to fill in. Idle samples that were not kept are not known here.
 */
int profile_add_window(struct profile *into, const struct profile *from, uint64_t from_ns, uint64_t to_ns,
		       struct err *err);
