#include "base/worker.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/worker_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_BLAME = 2,    /* workers that one request may end */
	MAX_INNOCENT = 16, /* repetitions because somebody else ended the worker */
	LOOK_MS = 50,     /* between two looks at the worker's CPU time */
	GRACE_MS = 500,   /* for one whose time is up, but that was seen with or waiting for a CPU */
	MAX_GRACES = 120,
};

/* Of one answer: more is a worker that means to fill our memory. */
static const uint64_t MAX_ANSWER = 1u << 30;

struct worker {
	struct worker_opts opts;
	int sock; /* -1: no worker */
	pid_t pid;
	bool hanged; /* the last was given up by us, which is why it was replaced */
	uint32_t generation, next_generation;
	uint32_t next_number;
	uint32_t seq;
	uint64_t deadline_ns; /* of the request */
	unsigned int graces;  /* by which it was put off */
	struct worker_counts counts;
	struct wire_packet packet; /* received */
};

struct worker *worker_new(const struct worker_opts *opts)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->opts = *opts;
	w->sock = -1;
	return w;
}

static void leave(struct worker *w)
{
	closep(&w->sock);
	w->sock = -1;
	w->generation = 0;
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	leave(w);
	free(w);
}

uint32_t worker_generation(const struct worker *w)
{
	return w->generation;
}

uint32_t worker_number(struct worker *w)
{
	return ++w->next_number;
}

struct worker_counts worker_counts(const struct worker *w)
{
	return w->counts;
}

/* 0 or -errno; *ended is how the one before came to its end, see struct worker_process. */
static int start(struct worker *w, int *ended)
{
	struct worker_process process = { .sock = -1 };
	uint64_t start_ns = clock_monotonic_ns();
	int r = w->opts.start(w->opts.data, &process, NULL);

	w->counts.start_ns += clock_monotonic_ns() - start_ns;
	if (r < 0)
		return r;
	*ended = process.ended;
	w->sock = process.sock;
	w->pid = process.pid;
	w->generation = ++w->next_generation;
	w->counts.started++;
	return 0;
}

/* CPU time of another process (linux/posix-timers_types.h CPUCLOCK_SCHED); 0 when it is gone. */
static uint64_t cpu_ns(pid_t pid)
{
	const clockid_t clock = (clockid_t)(~(unsigned int)pid << 3 | 2);
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* How an attempt ended without an answer. */
enum failure { FAIL_NONE, FAIL_ENDED, FAIL_HANGS, FAIL_MALFORMED, FAIL_MEMORY };

static enum failure failure_of(int r)
{
	return r == -ETIMEDOUT ? FAIL_HANGS : FAIL_ENDED;
}

/* Sends a message in as many packets as it takes. 0 or -errno. */
static int send_message(struct worker *w, struct wire_head head, const void *body, size_t size, int fd)
{
	const uint8_t *pos = body;

	do {
		size_t part = size < WIRE_MAX_BODY ? size : WIRE_MAX_BODY;
		int r;

		head.more = part < size;
		r = wire_send(w->sock, &head, pos, part, fd, w->deadline_ns);
		if (r < 0)
			return r;
		fd = -1;
		size -= part;
		pos += part;
	} while (size);
	return 0;
}

bool worker_tell(struct worker *w, uint16_t kind, const void *body, size_t size, int fd)
{
	const struct wire_head head = { .seq = ++w->seq, .kind = kind, .type = WIRE_TELL };

	return w->sock >= 0 && send_message(w, head, body, size, fd) == 0;
}

/* Asked twice, as one that works waits for the disk now and then. */
static bool has_grace(struct worker *w)
{
	for (int i = 0; i < 2 && w->graces < MAX_GRACES && w->opts.ready; i++) {
		if (!w->opts.ready(w->opts.data, w->pid))
			continue;
		w->graces++;
		w->deadline_ns = clock_monotonic_ns() + GRACE_MS * UINT64_C(1000000);
		return true;
	}
	return false;
}

/* 0 when there is a packet, or -ETIMEDOUT. */
static int wait_packet(struct worker *w, const struct worker_request *q, uint64_t *cpu_deadline)
{
	for (;;) {
		struct pollfd poll_fd = { .fd = w->sock, .events = POLLIN };
		int n = poll(&poll_fd, 1, LOOK_MS);
		uint64_t cpu;

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		cpu = cpu_ns(w->pid);
		/* What it used before this request is not counted: it is looked at first after some time only. */
		if (!*cpu_deadline)
			*cpu_deadline = cpu + q->cpu_ms * UINT64_C(1000000);
		if (cpu >= *cpu_deadline || (clock_monotonic_ns() >= w->deadline_ns && !has_grace(w)))
			return -ETIMEDOUT;
	}
}

static enum failure give(struct worker *w, const struct worker_request *q, struct reader *r)
{
	const struct wire_head head = { .seq = w->seq, .kind = q->kind, .type = WIRE_GIVEN };
	int fd = q->want ? q->want(q->data, r) : -1, sent;

	if (!q->want || r->failed) {
		closep(&fd);
		return FAIL_MALFORMED;
	}
	sent = wire_send(w->sock, &head, NULL, 0, fd, w->deadline_ns);
	closep(&fd);
	return sent < 0 ? failure_of(sent) : FAIL_NONE;
}

static enum failure take_records(const struct worker_request *q, struct reader *r)
{
	while (reader_left(r)) {
		if (!q->take || !q->take(q->data, r) || r->failed)
			return FAIL_MALFORMED;
	}
	return FAIL_NONE;
}

static enum failure take_end(struct worker_request *q, struct reader *r)
{
	q->result = (int)reader_u32(r);
	return r->failed || reader_left(r) || q->result > 0 || q->result < -4095 ? FAIL_MALFORMED : FAIL_NONE;
}

static enum failure take_answer(struct worker *w, struct worker_request *q)
{
	uint64_t cpu_deadline = 0, left = MAX_ANSWER;

	for (;;) {
		enum failure fail = FAIL_NONE;
		struct reader r;
		int got = wait_packet(w, q, &cpu_deadline);

		if (got < 0)
			return failure_of(got);
		got = wire_receive(w->sock, &w->packet, NULL, 0);
		if (got <= 0)
			return got == -EBADMSG ? FAIL_MALFORMED : FAIL_ENDED;
		if (w->packet.head.seq != w->seq || w->packet.head.kind != q->kind || left < w->packet.size)
			return FAIL_MALFORMED;
		left -= w->packet.size;
		r = reader_init(w->packet.body, w->packet.size);
		if (w->packet.head.type == WIRE_END)
			return take_end(q, &r);
		if (w->packet.head.type == WIRE_ANSWER)
			fail = take_records(q, &r);
		else if (w->packet.head.type == WIRE_WANT)
			fail = give(w, q, &r);
		else
			fail = FAIL_MALFORMED;
		if (fail != FAIL_NONE)
			return fail;
	}
}

static enum failure attempt(struct worker *w, struct worker_request *q)
{
	struct wire_head head = { .kind = q->kind, .type = WIRE_ASK };
	int r;

	w->deadline_ns = clock_monotonic_ns() + q->wall_ms * UINT64_C(1000000);
	w->graces = 0;
	if (q->prepare && !q->prepare(q->data, w))
		return FAIL_MEMORY;
	head.seq = ++w->seq;
	r = send_message(w, head, q->body, q->size, q->fd);
	return r < 0 ? failure_of(r) : take_answer(w, q);
}

/* It is given up; the next start() says how it ended. */
static void give_up(struct worker *w, enum failure fail)
{
	w->counts.hanged += fail == FAIL_HANGS;
	w->counts.died += fail != FAIL_HANGS;
	leave(w);
}

/* Somebody killed it from outside; nobody else sends this signal. */
static bool was_killed(int ended)
{
	return WIFSIGNALED(ended) && (WTERMSIG(ended) == SIGKILL || WTERMSIG(ended) == SIGTERM);
}

static enum worker_status ask(struct worker *w, struct worker_request *q)
{
	enum failure fail = FAIL_NONE;
	int blame = 0;

	for (int innocent = 0; innocent < MAX_INNOCENT; innocent++) {
		int ended = 0;

		if (w->sock < 0 && start(w, &ended) < 0)
			return WORKER_NONE;
		if (fail == FAIL_HANGS || fail == FAIL_MALFORMED || (fail == FAIL_ENDED && !was_killed(ended)))
			blame++;
		if (blame >= MAX_BLAME)
			return WORKER_REFUSED;
		if (fail != FAIL_NONE) {
			w->counts.repeated++;
			if (q->restart)
				q->restart(q->data);
		}
		fail = attempt(w, q);
		if (fail == FAIL_NONE)
			return WORKER_DONE;
		if (fail == FAIL_MEMORY)
			return WORKER_NONE;
		give_up(w, fail);
	}
	return WORKER_REFUSED;
}

enum worker_status worker_ask(struct worker *w, struct worker_request *request)
{
	uint64_t start_ns = clock_monotonic_ns(), took_ns;
	enum worker_status status;

	request->result = 0;
	w->counts.requests++;
	if (request->size > WIRE_MAX_REQUEST)
		return WORKER_NONE;
	status = ask(w, request);
	took_ns = clock_monotonic_ns() - start_ns;
	w->counts.wait_ns += took_ns;
	if (took_ns > w->counts.longest_ns)
		w->counts.longest_ns = took_ns;
	return status;
}
