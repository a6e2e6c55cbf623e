#include "base/worker.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/vec.h"
#include "base/worker_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct worker_call {
	int sock; /* -1: records go to `take` */
	struct wire_head head;
	bool told;   /* nobody waits for an answer */
	bool closed; /* nobody listens any more */
	bool (*take)(void *data, struct reader *r);
	void *data;
	size_t used;
	uint8_t out[WIRE_MAX_BODY];
};

/* The process's state between packets: much of it, so not on the stack. */
struct serving {
	struct wire_packet packet;
	struct worker_call call;
	VEC(uint8_t) body; /* of a request in several parts */
};

static void hand_out(struct worker_call *call, const void *bytes, size_t size)
{
	struct wire_head head = call->head;
	struct reader r = reader_init(bytes, size);

	if (call->sock < 0) {
		while (!call->closed && reader_left(&r))
			call->closed = call->take && (!call->take(call->data, &r) || r.failed);
		return;
	}
	head.type = WIRE_ANSWER;
	if (wire_send(call->sock, &head, bytes, size, -1, 0) < 0)
		call->closed = true;
}

static void flush(struct worker_call *call)
{
	if (call->used)
		hand_out(call, call->out, call->used);
	call->used = 0;
}

bool worker_answer(struct worker_call *call, const void *record, size_t size)
{
	if (call->told || call->closed || size > sizeof(call->out))
		return false;
	if (size > sizeof(call->out) - call->used)
		flush(call);
	memcpy(call->out + call->used, record, size);
	call->used += size;
	return !call->closed;
}

int worker_want(struct worker_call *call, const void *body, size_t size)
{
	struct wire_head head = call->head;
	struct wire_packet *given;
	int fd = -1;

	if (call->told || call->closed || call->sock < 0)
		return -1;
	flush(call);
	head.type = WIRE_WANT;
	given = malloc(sizeof(*given));
	if (!given)
		return -1;
	if (wire_send(call->sock, &head, body, size, -1, 0) < 0 ||
	    wire_receive(call->sock, given, &fd, true) <= 0 || given->head.type != WIRE_GIVEN)
		call->closed = true;
	free(given);
	return fd;
}

static const struct worker_service *find(const struct worker_server *server, uint16_t kind, void **ret_state)
{
	for (const struct worker_services *lists = server->services; lists->list; lists++) {
		for (const struct worker_service *s = lists->list; s->serve; s++) {
			*ret_state = lists->state;
			if (s->kind == kind)
				return s;
		}
	}
	return NULL;
}

static int serve_call(const struct worker_server *server, struct worker_call *call, const void *body, size_t size,
		      int *fd)
{
	void *state = NULL;
	const struct worker_service *service = find(server, call->head.kind, &state);
	struct reader r = reader_init(body, size);
	int result = service ? service->serve(state, call, &r, fd) : -ENOSYS;

	closep(fd);
	*fd = -1;
	if (!call->told)
		flush(call);
	return result;
}

/* The parts of a message that came in several; false: what came is no such part. */
static bool join(struct serving *s, int sock)
{
	struct wire_head first = s->packet.head;

	s->body.len = 0;
	for (;;) {
		size_t want = s->body.len + s->packet.size;
		bool more = s->packet.head.more;
		int fd = -1;

		if (want > WIRE_MAX_REQUEST || !vec_reserve(&s->body, want + 1))
			return false;
		memcpy(s->body.data + s->body.len, s->packet.body, s->packet.size);
		s->body.len = want;
		if (!more)
			return true;
		if (wire_receive(sock, &s->packet, &fd, true) <= 0)
			return false;
		closep(&fd); /* only the first has one */
		if (s->packet.head.seq != first.seq || s->packet.head.kind != first.kind ||
		    s->packet.head.type != first.type)
			return false;
	}
}

static bool serve_message(const struct worker_server *server, struct serving *s, int sock, int *fd)
{
	struct worker_call *call = &s->call;
	struct wire_head head = s->packet.head;
	const void *body = s->packet.body;
	size_t size = s->packet.size;
	uint32_t result;

	if (head.type != WIRE_ASK && head.type != WIRE_TELL)
		return false;
	if (head.more) {
		if (!join(s, sock))
			return false;
		body = s->body.data;
		size = s->body.len;
	}
	call->sock = sock;
	call->head = head;
	call->head.more = 0;
	call->told = head.type == WIRE_TELL;
	call->closed = false;
	call->used = 0;
	result = (uint32_t)serve_call(server, call, body, size, fd);
	if (call->told)
		return true;
	call->head.type = WIRE_END;
	return !call->closed && wire_send(sock, &call->head, &result, sizeof(result), -1, 0) == 0;
}

/* Until there is a message; lets go of what was not needed meanwhile. */
static void wait_message(int sock, const struct worker_server *server, uint64_t *last_ns)
{
	struct pollfd poll_fd = { .fd = sock, .events = POLLIN };
	bool more = true;
	uint64_t now;

	if (!server->idle)
		return;
	now = clock_monotonic_ns();
	if (now - *last_ns >= (uint64_t)server->idle_ms * 1000000) {
		*last_ns = now;
		server->idle(server->data);
	}
	while (more && poll(&poll_fd, 1, server->idle_ms) == 0) {
		more = server->idle(server->data);
		*last_ns = clock_monotonic_ns();
	}
}

bool worker_serve(int sock, const struct worker_server *server)
{
	struct serving *s = calloc(1, sizeof(*s));
	uint64_t last_ns = clock_monotonic_ns();
	bool ok = s != NULL;

	while (ok) {
		int fd = -1, n;

		wait_message(sock, server, &last_ns);
		n = wire_receive(sock, &s->packet, &fd, true);
		if (!n)
			break;
		ok = n > 0 && serve_message(server, s, sock, &fd);
		closep(&fd);
	}
	if (s)
		vec_deinit(&s->body);
	free(s);
	return ok;
}

bool worker_serve_one(const struct worker_server *server, uint16_t kind, const void *body, size_t size, int fd,
		      bool (*take)(void *data, struct reader *r), void *data, int *ret_result)
{
	_cleanup_free_ struct worker_call *call = calloc(1, sizeof(*call));

	if (!call)
		return false;
	call->sock = -1;
	call->head.kind = kind;
	call->take = take;
	call->data = data;
	*ret_result = serve_call(server, call, body, size, &fd);
	return !call->closed;
}

void worker_obey_test(const char *who)
{
#ifndef NDEBUG
	const char *text = getenv("RINGFOLD_TEST_PARSER");
	const char *colon = text ? strchr(text, ':') : NULL;

	if (!colon || strcmp(colon + 1, who) != 0)
		return;
	if (*text == 'c')
		raise(SIGSEGV);
	for (volatile bool hangs = *text == 'h'; hangs;)
		;
#endif
}
