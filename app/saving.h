/*
 * The perf.data outputs of a recording. They are written while records come, not from the profile, and under their
 * own names from the start, so that a killed recording leaves a file that can be read (collector/perfdata_write.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct addrspaces_learned;
struct collector;
struct door;
struct err;
struct outputs;
struct record;
struct saving;
struct session;

struct saving_opts { /* all borrowed until the end */
	const struct outputs *outputs;
	struct collector *collector;
	struct door *door;
	char *const *argv; /* the command line */
	const pid_t *pids; /* whose threads and mappings are told first */
	size_t num_pids;
	bool all;          /* those of every process */
};

/* NULL in *ret when no output is a perf.data. Tells of what is there already, so call it before enabling. */
int saving_open(const struct saving_opts *opts, struct saving **ret, struct err *err);
void saving_close(struct saving *s); /* NULL is fine; without saving_end, files stay unfinished */

/* Each record once, in time order; an unwanted sample is not for here. */
void saving_record(struct saving *s, const struct record *rec);

/*
 * What no record told of a process or a thread's name, as it was lost: told now, as of the record that is being handled. To be
 * called before that is given to saving_record.
 */
void saving_learned(struct saving *s, const struct addrspaces_learned *learned, uint64_t time_ns);

/* Of a file that is sampled: told now, as a killed recording has no table of them, and in that table again. */
void saving_build_id(struct saving *s, const char *path, const uint8_t *id, size_t len);

/*
 * After each drain. An output that fails is named on stderr at once, keeps what it has and gets no more; false when none
 * is left.
 */
bool saving_flush(struct saving *s);

/* The last words of each: loss, build-ids. Returns the first failure there ever was. */
int saving_end(struct saving *s, struct session *session, struct err *err);
