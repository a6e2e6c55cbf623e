/*
 * .NET processes while they are recorded: their runtimes are asked, over the diagnostics socket, which code they make
 * and what they have made before.
 *
 * Two event sessions in each process. The live one is opened first and tells of every method that comes or goes, to the
 * end. The second is opened and stopped at once, as a runtime lists what is there when a session stops. Stopped is each of
 * them on every way out: by managed_end, by the broker should this process be gone (target/diagnostics.h), by the
 * process's own end.
 *
 * A runtime hands its events on ten times a second, so that records of these processes wait (app/hold.h) until
 * what belongs to their time has come.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;
struct managed;
struct record;
struct session;

struct managed_opts {
	struct door *door;       /* borrowed, as is the next */
	struct session *session; /* whose names and rules these are; takes the records in the end */
};

int managed_new(const struct managed_opts *opts, struct managed **ret, struct err *err);
void managed_free(struct managed *m); /* NULL is fine */

/* A process that may be a .NET one. True when it is; nothing happens where it is asked already. */
bool managed_add(struct managed *m, pid_t pid);
/*
 * Before recording: waits until all that were added have told what they have, at most 2 s. Says on stderr what that
 * took, and of whom nothing came.
 */
void managed_settle(struct managed *m);

/* True: the record waits here; else it is the caller's as ever. */
bool managed_takes(struct managed *m, const struct record *rec);
/* Takes what has come, and hands on what has waited long enough. After each drain. */
void managed_poll(struct managed *m);
/* Stops all sessions, at most 2 s long, and hands on all that waits. */
void managed_end(struct managed *m);
