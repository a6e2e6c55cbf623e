#include "app/managed.h"

#include "app/hold.h"
#include "app/session.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/log.h"
#include "base/vec.h"
#include "collector/record.h"
#include "runtimes/dotnet.h"
#include "runtimes/dotnet_ipc.h"
#include "runtimes/nettrace.h"
#include "target/diagnostics.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SETTLE_MS = 2000,    /* at most until recording starts, and until it has ended */
	ANSWER_MS = 2000,    /* a runtime that has not answered by then is not waited for at the end */
	PATIENCE_MS = 15000, /* without a word while recording: nothing is expected any more; busy machines take seconds */
	HOLD_MS = 350,       /* events come 100 ms late, more on a busy machine */
	RETRY_MS = 50,       /* until a process that took no connection is tried again */
	PROBE_MS = 250,      /* its assemblies are watched */
	QUIET_MS = 1000,     /* without word of an assembly going away, which comes late, before methods are asked for */
	PIECE_BYTES = 64 << 10,
	PIECES = 64,         /* read of one process at a time: 4 MiB */
	MAX_PROCESSES = 1024,
	MAX_ADDED = 1 << 16, /* processes that were looked at */
};

static const uint64_t ns_per_ms = 1000000;
static const uint64_t max_stream = UINT64_C(4) << 30; /* bytes of one session; the largest service needs 5 MB an hour */
static const uint64_t max_nothing = 16 << 20;          /* without a single event */

/* A connection that a session is told over. */
struct stream {
	int fd; /* -1 = none */
	enum dotnet_session_kind kind;
	enum dotnet_collect version;
	uint64_t id;          /* of the session; valid once `answered` */
	bool answered, ended; /* ended: all has come that ever will */
	bool stopping;
	uint64_t asked_ns;    /* when the last request was sent */
	uint64_t heard_ns;    /* when the last bytes came; 0 = none yet */
	uint64_t retry_ns;    /* not before then is it told to stop (again) */
	struct nettrace *trace;
	size_t have; /* bytes of the reply */
	uint8_t reply[DOTNET_IPC_MAX_REPLY];
};

enum stage {
	STAGE_LIVE,    /* the live session is being opened */
	STAGE_PROBE,   /* it is; has the process assemblies that it could unload? */
	STAGE_QUIET,   /* it has, or cannot tell: does it? */
	STAGE_RUNDOWN, /* what is there is being listed */
	STAGE_RUNNING,
	STAGE_OVER,    /* no session any more */
};

struct process {
	pid_t pid;
	enum stage stage;
	bool told;             /* the list is whole */
	const char *why;       /* nothing, or not all, was told: a sentence */
	uint64_t began_ns, quiet_ns;
	bool may_unload;       /* it has an assembly that may go away */
	bool listed;           /* it told of its assemblies */
	struct stream live, rundown;
	int stop_fd[2];        /* connections of requests to stop; -1 = none */
	struct hold *hold;     /* owned */
};

struct pid_slot {
	pid_t pid;
	struct process *process; /* of the program that runs there; NULL = looked at, and none */
};
HTAB(managed_pids, struct pid_slot, pid_t, hash_u64((uint64_t)key), slot->pid == key,
     hash_u64((uint64_t)slot->pid));

struct managed {
	struct managed_opts opts;
	struct managed_pids pids;
	VEC(struct process *) all; /* owned */
	uint64_t num_methods; /* loads, unloads and finds that were told */
	struct dotnet *dotnet; /* borrowed: the session's */
	uint8_t *piece;        /* PIECE_BYTES; owned */
	size_t num_held;
	bool settled; /* what comes from now on comes while it is recorded */
};

int managed_new(const struct managed_opts *opts, struct managed **ret, struct err *err)
{
	struct managed *m = calloc(1, sizeof(*m));

	if (m)
		m->piece = malloc(PIECE_BYTES);
	if (!m || !m->piece) {
		free(m);
		return err_oom(err);
	}
	m->opts = *opts;
	m->dotnet = session_dotnet(opts->session);
	*ret = m;
	return 0;
}

static void stream_close(struct stream *s)
{
	closep(&s->fd);
	s->fd = -1;
	s->ended = true;
}

/* As if nothing had been asked over it. */
static void stream_reset(struct stream *s)
{
	stream_close(s);
	nettrace_free(s->trace);
	*s = (struct stream){ .fd = -1 };
}

static void process_free(struct process *p)
{
	if (!p)
		return;
	stream_close(&p->live);
	stream_close(&p->rundown);
	for (size_t i = 0; i < 2; i++)
		closep(&p->stop_fd[i]);
	nettrace_free(p->live.trace);
	nettrace_free(p->rundown.trace);
	hold_free(p->hold);
	free(p);
}

void managed_free(struct managed *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->all.len; i++)
		process_free(m->all.data[i]);
	managed_pids_deinit(&m->pids);
	vec_deinit(&m->all);
	free(m->piece);
	free(m);
}

/* ---- one connection ---- */

/* Asks for the session. 0 or -errno. */
static int stream_ask(struct managed *m, struct process *p, struct stream *s)
{
	uint8_t request[DOTNET_IPC_MAX_REQUEST];
	size_t size = dotnet_ipc_collect(s->version, s->kind, request);
	struct err err = { 0 };

	closep(&s->fd);
	s->have = 0;
	s->fd = door_open_diagnostics(m->opts.door, p->pid, &err);
	if (s->fd < 0) {
		int r = s->fd;

		s->fd = -1;
		if (r != -ENOENT)
			log_debug("managed", "process %d: %s", p->pid, err.msg);
		return r;
	}
	s->asked_ns = clock_monotonic_ns();
	s->heard_ns = 0;
	if (send(s->fd, request, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
		return -EPIPE;
	return 0;
}

static int stream_open(struct managed *m, struct process *p, struct stream *s, enum dotnet_session_kind kind)
{
	s->kind = kind;
	s->trace = nettrace_new();
	return s->trace ? stream_ask(m, p, s) : -ENOMEM;
}

/* On a connection of its own; where the runtime answers is of no interest, the stream's end tells. */
static void stream_stop(struct managed *m, struct process *p, struct stream *s)
{
	uint8_t request[DOTNET_IPC_MAX_REQUEST];
	int *fd = &p->stop_fd[s == &p->rundown];
	size_t size;

	if (s->stopping || !s->answered || s->ended || clock_monotonic_ns() < s->retry_ns)
		return;
	s->retry_ns = clock_monotonic_ns() + RETRY_MS * ns_per_ms;
	size = dotnet_ipc_stop(s->id, request);
	s->stopping = true;
	s->asked_ns = clock_monotonic_ns();
	closep(fd);
	*fd = door_open_diagnostics(m->opts.door, p->pid, NULL);
	if (*fd < 0) {
		*fd = -1;
		s->stopping = false; /* it may take another connection soon */
	} else if (send(*fd, request, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("managed", "process %d: it cannot be told to stop: %s", p->pid, strerror(errno));
}

/*
 * Nothing more is wanted of it. A runtime waits for its session's reader, and keeps what it wants to tell until then: so
 * both descriptors are closed, ours and the copy of the one that opens, and it is told to stop as well.
 */
static void stream_abandon(struct managed *m, struct process *p, struct stream *s)
{
	s->retry_ns = 0;
	stream_stop(m, p, s);
	if (s->answered)
		door_session_ended(m->opts.door, p->pid, s->id);
	stream_close(s);
}

struct told {
	struct managed *m;
	struct process *p;
	struct dotnet_process *dotnet;
};

static void take_event(void *data, const struct nettrace_event *event)
{
	struct told *told = data;

	told->m->num_methods += event->kind <= NETTRACE_METHOD_EXISTS;
	/* What is no dynamic method goes with its assembly, of which mostly nothing else is told than that it goes. */
	if (event->kind == NETTRACE_MODULE_UNLOAD ||
	    (event->kind == NETTRACE_METHOD_UNLOAD && !(event->method.flags & NETTRACE_DYNAMIC)))
		told->p->quiet_ns = clock_monotonic_ns();
	told->p->may_unload |= event->kind == NETTRACE_MODULE_UNLOAD;
	if (event->kind == NETTRACE_ASSEMBLY) {
		told->p->listed = true;
		told->p->may_unload |= event->assembly.flags & NETTRACE_COLLECTIBLE;
	}
	if (told->dotnet)
		dotnet_say(told->m->dotnet, told->dotnet, event);
}

static void take_bytes(struct managed *m, struct process *p, struct stream *s, const uint8_t *bytes, size_t size)
{
	struct told told = { .m = m, .p = p, .dotnet = dotnet_process_find(m->dotnet, p->pid) };
	const struct nettrace_sink sink = { take_event, &told };

	if (nettrace_feed(s->trace, bytes, size, &sink) == NETTRACE_BROKEN && !p->why) {
		p->why = nettrace_why(s->trace);
		log_debug("managed", "process %d: %s", p->pid, p->why);
	}
	if (nettrace_counts(s->trace)->bytes > max_stream ||
	    (nettrace_counts(s->trace)->bytes > max_nothing && !nettrace_counts(s->trace)->events) ||
	    nettrace_why(s->trace))
		stream_abandon(m, p, s);
}

/* The answer to the request that opened it. */
static void take_reply(struct managed *m, struct process *p, struct stream *s, const uint8_t *bytes, size_t size)
{
	size_t take = size < sizeof(s->reply) - s->have ? size : sizeof(s->reply) - s->have;
	size_t had = s->have;
	struct dotnet_reply reply;

	memcpy(s->reply + s->have, bytes, take);
	s->have += take;
	reply = dotnet_ipc_reply(s->reply, s->have);
	switch (reply.kind) {
	case DOTNET_REPLY_MORE:
		return;
	case DOTNET_REPLY_OK:
		s->answered = true;
		s->id = reply.session;
		door_session_began(m->opts.door, p->pid, s->id, s->fd);
		take_bytes(m, p, s, bytes + (reply.bytes - had), size - (reply.bytes - had));
		return;
	case DOTNET_REPLY_ERROR:
		/* An older runtime: what it knows. */
		if ((reply.code == DOTNET_UNKNOWN_COMMAND || reply.code == DOTNET_BAD_ENCODING) &&
		    s->version + 1 < DOTNET_NUM_COLLECTS) {
			s->version++;
			if (stream_ask(m, p, s) == 0)
				return;
		}
		p->why = "its runtime refused to tell";
		break;
	case DOTNET_REPLY_BAD:
		p->why = "what answers there is no .NET runtime";
		break;
	}
	stream_close(s);
}

/* All that has come; false: nothing did. */
static bool stream_read(struct managed *m, struct process *p, struct stream *s)
{
	bool any = false;

	for (int i = 0; i < PIECES && s->fd >= 0 && !s->ended; i++) {
		ssize_t n = recv(s->fd, m->piece, PIECE_BYTES, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			if (s->answered)
				door_session_ended(m->opts.door, p->pid, s->id);
			stream_close(s);
			break;
		}
		any = true;
		s->heard_ns = clock_monotonic_ns();
		if (s->answered)
			take_bytes(m, p, s, m->piece, (size_t)n);
		else
			take_reply(m, p, s, m->piece, (size_t)n);
	}
	return any;
}

/* Nothing was heard of it for so long. */
static bool is_late(const struct stream *s, uint64_t now_ns, unsigned int ms)
{
	uint64_t since = s->heard_ns > s->asked_ns ? s->heard_ns : s->asked_ns;

	return !s->ended && now_ns > since + ms * ns_per_ms;
}

/* ---- one process ---- */

static void give_up(struct process *p, const char *why)
{
	if (!p->why)
		p->why = why;
	p->stage = STAGE_OVER;
}

static void rundown_done(struct managed *m, struct process *p)
{
	const struct nettrace_counts *counts = nettrace_counts(p->rundown.trace);
	struct dotnet_process *dotnet = dotnet_process_find(m->dotnet, p->pid);

	p->stage = STAGE_RUNNING;
	if (!counts->events && !p->why)
		p->why = "its runtime listed nothing";
	if (counts->lost && !p->why)
		p->why = "its runtime could not keep all events";
	if (p->why)
		return;
	p->told = true;
	if (m->settled)
		log_info(NULL, "process %d: its .NET methods are known now", p->pid);
	if (dotnet)
		dotnet_complete(dotnet, clock_monotonic_ns());
}

static void begin_rundown(struct managed *m, struct process *p)
{
	p->rundown.version = p->live.version;
	p->stage = STAGE_RUNDOWN;
	if (stream_open(m, p, &p->rundown, DOTNET_RUNDOWN) < 0) {
		stream_close(&p->rundown);
		p->why = "its runtime does not answer";
		p->stage = STAGE_RUNNING;
	}
}

/*
 * Listing methods while an assembly is being unloaded can end the process: seen with .NET 10.0.12, one listing in 30 to 100
 * beside 20 unloads a second. So its assemblies are watched first, for a moment, in a session whose end brings all that
 * happened and lists what is there, which is safe. Where one could be unloaded, methods are asked for when none went away for
 * a while, and not at all where that does not come.
 */
static void wait_for_quiet(struct managed *m, struct process *p, uint64_t now_ns)
{
	uint64_t since = p->quiet_ns > p->began_ns ? p->quiet_ns : p->began_ns;

	if (p->live.ended) {
		give_up(p, "its runtime does not answer");
		return;
	}
	if (now_ns - since >= QUIET_MS * ns_per_ms)
		begin_rundown(m, p);
	else if (now_ns - p->began_ns > (SETTLE_MS - 500) * ns_per_ms) {
		p->why = "it unloads assemblies all the time, and listing its methods then is not safe";
		p->stage = STAGE_RUNNING;
	}
}

/* Older runtimes cannot list these without all the rest. */
static void begin_probe(struct managed *m, struct process *p, uint64_t now_ns)
{
	p->stage = STAGE_QUIET;
	p->began_ns = now_ns;
	if (p->live.version != DOTNET_COLLECT_4)
		return;
	p->rundown.version = p->live.version;
	if (stream_open(m, p, &p->rundown, DOTNET_ASSEMBLIES) == 0)
		p->stage = STAGE_PROBE;
	else
		stream_reset(&p->rundown);
}

static void wait_for_probe(struct managed *m, struct process *p, uint64_t now_ns)
{
	bool late = is_late(&p->rundown, now_ns, PATIENCE_MS);

	if (now_ns - p->began_ns >= PROBE_MS * ns_per_ms || p->may_unload)
		stream_stop(m, p, &p->rundown);
	if (!p->rundown.ended && !late)
		return;
	if (late)
		stream_abandon(m, p, &p->rundown);
	stream_reset(&p->rundown);
	p->stage = STAGE_QUIET;
	p->began_ns = now_ns;
	if (p->listed && !p->may_unload && !p->why)
		begin_rundown(m, p);
}

static void process_poll(struct managed *m, struct process *p)
{
	uint64_t now_ns;
	bool any = stream_read(m, p, &p->live);

	if (p->rundown.fd >= 0)
		any |= stream_read(m, p, &p->rundown);
	if (any)
		session_runtime_said(m->opts.session, p->pid);
	now_ns = clock_monotonic_ns();
	switch (p->stage) {
	case STAGE_LIVE:
		if (p->live.answered) {
			begin_probe(m, p, now_ns);
		} else if (p->live.ended || is_late(&p->live, now_ns, PATIENCE_MS)) {
			stream_abandon(m, p, &p->live);
			give_up(p, "its runtime does not answer");
		}
		break;
	case STAGE_PROBE:
		wait_for_probe(m, p, now_ns);
		break;
	case STAGE_QUIET:
		wait_for_quiet(m, p, now_ns);
		break;
	case STAGE_RUNDOWN:
		stream_stop(m, p, &p->rundown);
		if (p->rundown.ended) {
			rundown_done(m, p);
		} else if (is_late(&p->rundown, now_ns, PATIENCE_MS)) {
			stream_abandon(m, p, &p->rundown);
			p->why = "its runtime does not answer";
			p->stage = STAGE_RUNNING;
		}
		break;
	case STAGE_RUNNING:
		if (p->live.ended)
			p->stage = STAGE_OVER;
		break;
	case STAGE_OVER:
		break;
	}
}

static struct process *process_new(pid_t pid)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->pid = pid;
	p->live.fd = p->rundown.fd = p->stop_fd[0] = p->stop_fd[1] = -1;
	p->hold = hold_new();
	if (!p->hold) {
		process_free(p);
		return NULL;
	}
	return p;
}

static bool begin(struct managed *m, struct pid_slot *slot)
{
	struct process *p = process_new(slot->pid);

	if (!p)
		return false;
	if (stream_open(m, p, &p->live, DOTNET_LIVE) < 0 || !vec_push(&m->all, p)) {
		process_free(p);
		return false;
	}
	slot->process = p;
	session_runtime_begins(m->opts.session, p->pid);
	return true;
}

static void hand_on(struct managed *m, struct process *p, uint64_t upto_ns)
{
	const struct record *rec;

	while ((rec = hold_first(p->hold)) && rec->time_ns <= upto_ns) {
		session_record(m->opts.session, rec);
		hold_drop_first(p->hold);
		m->num_held--;
	}
}

bool managed_add(struct managed *m, pid_t pid)
{
	struct pid_slot *slot;
	bool added;

	if (m->all.len >= MAX_PROCESSES || m->pids.len >= MAX_ADDED)
		return false;
	slot = managed_pids_add(&m->pids, pid, &added);
	if (!slot)
		return false;
	if (added)
		*slot = (struct pid_slot){ .pid = pid };
	/* What was none, or has ended, may be another program by now. */
	if (slot->process && slot->process->stage != STAGE_OVER)
		return true;
	if (slot->process)
		hand_on(m, slot->process, UINT64_MAX);
	return begin(m, slot);
}

static struct process *process_find(const struct managed *m, pid_t pid)
{
	const struct pid_slot *slot = m->all.len ? managed_pids_find(&m->pids, pid) : NULL;

	return slot ? slot->process : NULL;
}

/* ---- all of them ---- */

/* Until one of them says something, or so long. */
static void wait_for_word(struct managed *m, int timeout_ms)
{
	struct pollfd fds[64];
	nfds_t num = 0;

	for (size_t i = 0; i < m->all.len && num + 2 <= 64; i++) {
		const struct process *p = m->all.data[i];

		if (p->live.fd >= 0)
			fds[num++] = (struct pollfd){ .fd = p->live.fd, .events = POLLIN };
		if (p->rundown.fd >= 0)
			fds[num++] = (struct pollfd){ .fd = p->rundown.fd, .events = POLLIN };
	}
	poll(fds, num, timeout_ms);
}

static size_t num_unsettled(const struct managed *m)
{
	size_t num = 0;

	for (size_t i = 0; i < m->all.len; i++)
		num += m->all.data[i]->stage < STAGE_RUNNING;
	return num;
}

void managed_settle(struct managed *m)
{
	uint64_t start = clock_monotonic_ns(), deadline = start + SETTLE_MS * ns_per_ms;

	while (num_unsettled(m) && clock_monotonic_ns() < deadline) {
		wait_for_word(m, 10);
		for (size_t i = 0; i < m->all.len; i++)
			process_poll(m, m->all.data[i]);
	}
	m->settled = true;
	if (!m->all.len)
		return;
	log_info(NULL, "%zu .NET process%s, %" PRIu64 " methods, asked in %" PRIu64 " ms", m->all.len,
		 m->all.len == 1 ? "" : "es", m->num_methods, (clock_monotonic_ns() - start) / ns_per_ms);
	for (size_t i = 0; i < m->all.len; i++) {
		const struct process *p = m->all.data[i];

		if (p->why || !p->told)
			log_warn(NULL, "process %d: not all of its .NET methods are known: %s", p->pid,
				 p->why		    ? p->why
				 : p->live.answered ? "its runtime takes its time"
						    : "its runtime does not answer yet");
	}
}

bool managed_takes(struct managed *m, const struct record *rec)
{
	struct process *p = process_find(m, rec->pid), *parent;

	/* What a child has of its parent is what that has by now. */
	if (rec->type == RECORD_FORK && (parent = process_find(m, rec->task.ppid)) && parent != p)
		hand_on(m, parent, UINT64_MAX);
	if (!p)
		return false;
	if (p->stage == STAGE_OVER && !hold_first(p->hold))
		return false;
	if (!hold_add(p->hold, rec)) {
		hand_on(m, p, UINT64_MAX);
		return false;
	}
	m->num_held++;
	return true;
}

void managed_poll(struct managed *m)
{
	uint64_t now_ns = clock_monotonic_ns();
	pid_t pid;

	while ((pid = session_next_runtime(m->opts.session)) > 0)
		managed_add(m, pid);
	for (size_t i = 0; i < m->all.len; i++) {
		struct process *p = m->all.data[i];

		process_poll(m, p);
		hand_on(m, p, p->stage == STAGE_OVER ? UINT64_MAX : now_ns - HOLD_MS * ns_per_ms);
	}
}

/* Or there is nothing to wait for: a session without an answer has no number to stop it by. */
static bool stream_over(const struct stream *s, uint64_t now_ns)
{
	return s->fd < 0 || s->ended || (!s->answered && is_late(s, now_ns, ANSWER_MS));
}

static bool is_over(const struct process *p, uint64_t now_ns)
{
	return stream_over(&p->live, now_ns) && stream_over(&p->rundown, now_ns);
}

void managed_end(struct managed *m)
{
	uint64_t deadline = clock_monotonic_ns() + SETTLE_MS * ns_per_ms;
	size_t left = m->all.len;

	while (left && clock_monotonic_ns() < deadline) {
		left = 0;
		for (size_t i = 0; i < m->all.len; i++) {
			struct process *p = m->all.data[i];
			bool any;

			stream_stop(m, p, &p->live);
			stream_stop(m, p, &p->rundown);
			any = stream_read(m, p, &p->live);
			any |= stream_read(m, p, &p->rundown);
			if (any)
				session_runtime_said(m->opts.session, p->pid);
			left += !is_over(p, clock_monotonic_ns());
		}
		if (left)
			wait_for_word(m, 10);
	}
	for (size_t i = 0; i < m->all.len; i++) {
		const struct nettrace_counts *live = nettrace_counts(m->all.data[i]->live.trace);

		log_debug("managed", "process %d: %" PRIu64 " events live, %" PRIu64 " bytes, %" PRIu64 " lost, %" PRIu64 " odd, %s",
			  m->all.data[i]->pid, live->events, live->bytes, live->lost, live->odd,
			  m->all.data[i]->live.ended ? "to the end" : "cut");
		m->all.data[i]->stage = STAGE_OVER;
		hand_on(m, m->all.data[i], UINT64_MAX);
	}
}
