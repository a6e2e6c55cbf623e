/* The broker's messages. One packet each way; a descriptor travels beside an answer (SCM_RIGHTS). */
#pragma once

#include "base/err.h"
#include "target/door.h"

#include <limits.h>
#include <stdint.h>

enum broker_op {
	BROKER_MAPPING,
	BROKER_OPEN,
	BROKER_PERFMAP,
	BROKER_KEEP,       /* a directory; the rest of struct door_place in the answer */
	BROKER_LEFT,       /* a file of the directory that comes along; the rest of its place in the request */
	BROKER_PROC,       /* /proc/PID/text */
	BROKER_TEXT,       /* `want` is an enum door_text */
	BROKER_TASKS,      /* a directory: /proc or /proc/PID/task */
	BROKER_LOGS,       /* a directory: `want` as door_open_logs has it */
	BROKER_CGROUP,     /* a directory: text, `want` 1 = unified */
	BROKER_CGROUP_DIR, /* the same by the directory's own name */
	BROKER_TRACEPOINT, /* text: "SUBSYS:NAME"; a number, as the next two */
	BROKER_NAMESPACE,  /* text: which */
	BROKER_MEMORY,     /* a descriptor of /proc/PID/mem, and a number: when the process started */
	BROKER_POPULATED,  /* of the cgroup whose directory comes along */
	BROKER_DIAGNOSTICS,   /* a connected socket: see target/diagnostics.h, as the next two */
	BROKER_MAP_OPEN,      /* a number: 1 where the process writes a perf map */
	BROKER_SESSION_BEGAN, /* text: its number, hexadecimal; its stream comes along */
	BROKER_SESSION_ENDED, /* text: its number */
	BROKER_EVENT,      /* a descriptor: `want` and value (the CPU) as door_open_event has them; a cgroup comes along */
	BROKER_OUT_OPEN,   /* text: the name; value: a number of our own for it, of which there is no second */
	BROKER_OUT_COMMIT, /* the same again, and the file comes along: who opened it may have ended */
	BROKER_OUT_ABORT,  /* as well */
};

enum { BROKER_MAX_ALSO = 16 };

struct broker_ask {
	uint32_t seq;
	uint32_t op; /* enum broker_op */
	int32_t pid;
	uint32_t want;
	uint64_t start, end, ino, value;
	uint32_t maj, min;
	uint32_t num_also;
	int32_t also[BROKER_MAX_ALSO];
	struct door_place place; /* dir_fd means nothing here */
	char text[PATH_MAX]; /* NUL-terminated; only as much as is needed is sent */
};

struct broker_answer {
	uint32_t seq;
	int32_t result; /* enum door_refusal, or 0 and -errno */
	uint64_t value;
	struct door_file file; /* fd means nothing here */
	struct door_place place; /* nor here */
	struct err err;
};

/* 0 or -errno; fd -1 = none. Not interrupted by signals. */
int broker_send(int sock, const void *bytes, size_t size, int fd);
/* Size of the packet, 0 at the end, or -errno. *ret_fd (close-on-exec) is -1 when none came; more than one is closed. */
int broker_receive(int sock, void *bytes, size_t size, int *ret_fd);

/* The asking side, for door.c: as the functions of door.h are, but descriptors in place of text. */
struct broker;
enum door_refusal broker_open_mapping(struct broker *b, const struct door_mapping *mapping, const pid_t *also,
				      size_t num_also, struct door_file *ret, struct err *err);
enum door_refusal broker_open(struct broker *b, enum broker_op op, pid_t pid, const char *path,
			      enum door_want want, struct door_file *ret, struct err *err);
int broker_open_text(struct broker *b, enum broker_op op, pid_t pid, uint32_t text, const char *name,
		     struct err *err);
int broker_open_memory(struct broker *b, pid_t pid, uint64_t *ret_start_ns, struct err *err);
int broker_keep_place(struct broker *b, pid_t pid, struct door_place *ret, struct err *err);
enum door_refusal broker_open_left(struct broker *b, const struct door_place *place, struct door_file *ret,
				   struct err *err);
/* `with`: a descriptor that goes along, or -1. */
int broker_number(struct broker *b, enum broker_op op, pid_t pid, const char *text, int with, uint64_t *ret,
		  struct err *err);
int broker_tracepoint(struct broker *b, const char *subsys, const char *name, uint64_t *ret, struct err *err);
int broker_allow_events(struct broker *b, const struct door_event *events, size_t num, const int *cgroups,
			size_t num_cgroups, struct err *err);
int broker_open_event(struct broker *b, size_t index, int cgroup, int cpu, struct err *err);
void broker_free(struct broker *b); /* NULL is fine */
