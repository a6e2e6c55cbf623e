/*
 * The flight recorder: the last seconds of samples, whatever came before. Two sessions take turns, so that what one has
 * gathered (stacks, names of processes long gone) is given back: when the younger is a while old or large, a new one takes
 * over, and the older is freed when nobody can ask for its seconds any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct flight;
struct profile;
struct record;
struct recording;

/*
 * Of the recording's session, which it takes over; `keep_ns`: how far back a profile may begin; `turn_ns`: when the next
 * session takes over at the latest.
 */
int flight_new(struct recording *r, uint64_t keep_ns, uint64_t turn_ns, struct flight **ret, struct err *err);
void flight_free(struct flight *f); /* NULL is fine */

void flight_record(struct flight *f, const struct record *record);
/* About once a second; `hold`: a profile is about to be asked for, nothing is given back. */
int flight_tick(struct flight *f, uint64_t now_ns, bool hold, struct err *err);
/* The samples with from_ns <= time < to_ns (CLOCK_MONOTONIC), named. */
int flight_profile(struct flight *f, uint64_t from_ns, uint64_t to_ns, bool (*stop)(void *data), void *data,
		   struct profile **ret, struct err *err);
/* How often a session has taken over. */
unsigned int flight_turns(const struct flight *f);
