/*
 * The diagnostics socket of a .NET runtime (dotnet/diagnostics documentation/design-docs/ipc-protocol.md), reached so that
 * no target can make it anything else: found inside the target's own root by a name that only its runtime has (its pid
 * there and the time it started), a socket of the target's user, connected through the descriptor that was looked at, and
 * listened to by that very process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;

/*
 * A connected stream, non-blocking, or -errno: -ENOENT the process has no such socket (it is no .NET process, or its
 * diagnostics are off), -EPERM it is not what it should be (err says what), -EAGAIN nobody accepts. Nothing has been
 * sent. One request a connection.
 */
int door_open_diagnostics(struct door *door, pid_t pid, struct err *err);

/* Whether the process has a file open that is called as its perf map: the runtime writes one. */
bool door_perf_map_is_open(struct door *door, pid_t pid);

/*
 * An event session was opened in that process, and `stream` is its connection. The runtime keeps a session, and a thread
 * for it, until it is told to stop: should this program end without having done so, the broker does. A copy of the
 * descriptor is made. door_session_ended: it was stopped. Nothing happens without a broker.
 */
void door_session_began(struct door *door, pid_t pid, uint64_t id, int stream);
void door_session_ended(struct door *door, pid_t pid, uint64_t id);

/* The broker's side of both: sessions to be ended when the program is gone. Zero at first. */
struct diagnostics_sessions {
	struct diagnostics_session {
		pid_t pid;
		uint64_t id;
		int stream;
	} *all;
	unsigned int num, cap;
};
void diagnostics_began(struct diagnostics_sessions *s, pid_t pid, uint64_t id, int stream); /* takes stream */
void diagnostics_ended(struct diagnostics_sessions *s, pid_t pid, uint64_t id);
/* Stops what is left, at most 2 s long, and frees. */
void diagnostics_end_all(struct diagnostics_sessions *s, struct door *door);
