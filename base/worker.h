/*
 * A worker: a process of its own for what may crash, hang or be taken over, with one who asks it. It can be ended and
 * replaced at any moment: whoever asks keeps all that matters, says before each request what a fresh worker must be told
 * first, and the request is repeated. A request that ends two workers in a row is refused from then on by whoever asks;
 * a worker that is killed from outside costs its request's repetition.
 *
 * To add a kind of request: a number in an enum of its folder (WORKER_KIND), a struct worker_service that reads it
 * and answers, in the list of the program's services, and a struct worker_request on the asking side. worker_wire.h
 * has the packets.
 */
#pragma once

#include "base/reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct worker;

/* Kinds of requests: each folder has its own sixteen. */
#define WORKER_KIND(folder, number) ((uint16_t)((folder) << 4 | (number)))
enum worker_folder { WORKER_BASE, WORKER_SYMBOLS, WORKER_UNWINDER, WORKER_PERFMAP, WORKER_RUNTIMES };

/* ---- asking ---- */

struct worker_process {
	int sock;
	pid_t pid;
	int ended; /* how the one before it ended, as wait() tells; 0 = there was none, or it was ended for this one */
};

struct worker_opts {
	/* Ends the worker if there is one and starts another. 0 or -errno. */
	int (*start)(void *data, struct worker_process *ret, struct err *err);
	/* Whether it runs or waits for a CPU: then it is no sleeper whose time could be up. NULL: nobody can tell. */
	bool (*ready)(void *data, pid_t pid);
	void *data;
};

struct worker *worker_new(const struct worker_opts *opts); /* NULL when out of memory; starts nothing yet */
void worker_free(struct worker *w);                        /* NULL is fine; its process sees its socket end */

enum worker_status {
	WORKER_DONE,    /* answered: request->result */
	WORKER_REFUSED, /* the request ended the worker twice, or its answer was malformed twice */
	WORKER_NONE,    /* no worker can be had, or no memory */
};

struct worker_request {
	uint16_t kind;
	const void *body;
	size_t size;    /* at most WIRE_MAX_REQUEST */
	int fd;         /* goes along and stays ours; -1 = none */
	uint32_t cpu_ms;  /* CPU time of the worker after which it counts as hanging */
	uint32_t wall_ms; /* time, for one that sleeps; one that gets no CPU has a minute more */

	/* Before each attempt: worker_tell what this worker does not know yet. May be NULL. False: out of memory. */
	bool (*prepare)(void *data, struct worker *w);
	/* Before a repetition: what was taken of the answer is void. May be NULL. */
	void (*restart)(void *data);
	/* Records of the answer, as they come. False: malformed. NULL: any record is malformed. */
	bool (*take)(void *data, struct reader *r);
	/* What it wants meanwhile: a descriptor (given away), or -1. NULL: any want is malformed. */
	int (*want)(void *data, struct reader *r);
	void *data;

	int result; /* out: what the worker said, 0 or -errno */
};

enum worker_status worker_ask(struct worker *w, struct worker_request *request);
/* For prepare: a message without an answer. fd is sent along and stays ours. False when the worker is not there. */
bool worker_tell(struct worker *w, uint16_t kind, const void *body, size_t size, int fd);
/* Differs for each process that ever worked; 0 = none does now. What was told to another one is not known. */
uint32_t worker_generation(const struct worker *w);

/* A number that nobody else gets: what it stands for to those who ask and to their services is theirs. */
uint32_t worker_number(struct worker *w);

struct worker_counts {
	uint64_t requests;
	uint64_t started;  /* processes */
	uint64_t hanged;   /* of them ended by us for their time */
	uint64_t died;     /* of them ended otherwise */
	uint64_t repeated; /* requests */
	uint64_t wait_ns;  /* for answers */
	uint64_t longest_ns; /* of them */
	uint64_t start_ns; /* until processes had started; part of the above */
};
struct worker_counts worker_counts(const struct worker *w);

/* ---- working ---- */

struct worker_call; /* a request being served */

struct worker_service {
	uint16_t kind;
	/*
	 * fd (-1 = none) is closed afterwards unless it is taken (set to -1). What it returns is the answer's end: 0 or
	 * -errno; nothing is sent for what was only told.
	 */
	int (*serve)(void *state, struct worker_call *call, struct reader *r, int *fd);
};

/* What one folder serves, with the state it keeps between requests. */
struct worker_services {
	const struct worker_service *list; /* ended by one without serve; NULL ends the server's list of these */
	void *state;
};

struct worker_server {
	const struct worker_services *services;
	/* Every `idle_ms` or so, also between requests, to let go of what was not needed; false: there is no more to let go. */
	bool (*idle)(void *data); /* may be NULL */
	int idle_ms;
	void *data;
};

/* Serves until the socket's other end is closed. False when that ended otherwise (malformed request, no memory). */
bool worker_serve(int sock, const struct worker_server *server);
/* A whole record of the answer; at most WIRE_MAX_BODY bytes. False when nobody listens any more: the answer may stop. */
bool worker_answer(struct worker_call *call, const void *record, size_t size);
/* Asks for a descriptor; -1 = it cannot be had. */
int worker_want(struct worker_call *call, const void *body, size_t size);

/*
 * For tests, in builds that have assertions: RINGFOLD_TEST_PARSER is "crash:WHO" or "hang:WHO", and what is asked of a
 * file that goes by this name does that to the worker.
 */
void worker_obey_test(const char *who);

/* For tests and fuzzing: a request without a process. The answer's records and end go to take (may be NULL) and *ret_result. */
bool worker_serve_one(const struct worker_server *server, uint16_t kind, const void *body, size_t size, int fd,
		      bool (*take)(void *data, struct reader *r), void *data, int *ret_result);
