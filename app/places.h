/* Which container each process is in while it is sampled, and what the containers are called in the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct containers;
struct intern;

/* What was seen of one process; zero at first. */
struct place_seen {
	uint32_t place; /* see target/containers.h */
	bool wanted;
	uint64_t look_ns; /* CLOCK_MONOTONIC; 0 = never */
};

/*
 * Looks where the process is, again a second after the last time, as it may have been moved. False when it was
 * gone or ending before it was ever seen: it is then where the nearest process above it is (places_inherit).
 */
bool places_look(struct containers *c, pid_t pid, uint64_t now_ns, struct place_seen *seen);
/* Takes what is known of a process above, or looks at that one now; false when that is gone as well. */
bool places_inherit(struct containers *c, pid_t above, const struct place_seen *above_seen,
		    struct place_seen *seen);

/* Processes that ended lately: samples of their last moments come after their EXIT. Zero at first. */
struct places_ended {
	struct place_ended {
		pid_t pid, ppid;
		struct place_seen seen;
	} ring[512];
	size_t next;
};
void places_ended_add(struct places_ended *e, const struct place_ended *one);
const struct place_ended *places_ended_find(const struct places_ended *e,
					    pid_t pid); /* the latest, or NULL */

/* The place's name as a stored string; NULL only when out of memory. */
const char *places_name(struct containers *c, uint32_t place, bool by_pod, struct intern *strings);
