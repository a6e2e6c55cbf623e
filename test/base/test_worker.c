/* Requests to a worker that answers, wants, dies, hangs, lies and is killed by others. */
#include "base/worker.h"

#include "base/clock.h"
#include "base/worker_wire.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	ECHO = WORKER_KIND(WORKER_BASE, 1),  /* u32: every word of the body, doubled */
	CRASH = WORKER_KIND(WORKER_BASE, 2), /* aborts */
	HANG = WORKER_KIND(WORKER_BASE, 3),  /* body: u8 1 = without using CPU time */
	WANT = WORKER_KIND(WORKER_BASE, 4),  /* reads a byte from what it is given */
	KEEP = WORKER_KIND(WORKER_BASE, 5),  /* told: a word to be kept */
	KEPT = WORKER_KIND(WORKER_BASE, 6),  /* that word; -ENOENT */
	LIE = WORKER_KIND(WORKER_BASE, 7),   /* a record that is too long */
	FLAKY = WORKER_KIND(WORKER_BASE, 8), /* aborts unless a word was kept with the second lowest bit */
};

struct state {
	uint32_t kept;
};

static int serve_echo(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	while (reader_left(r)) {
		uint32_t word = reader_u32(r) * 2;

		if (r->failed)
			return -EBADMSG;
		if (!worker_answer(call, &word, sizeof(word)))
			return -EPIPE;
	}
	return 0;
}

static int serve_crash(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	uint32_t word = 7;

	worker_answer(call, &word, sizeof(word));
	signal(SIGABRT, SIG_DFL);
	abort();
}

static int serve_hang(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	bool sleeps = reader_u8(r);

	for (volatile bool for_ever = true; for_ever;) {
		if (sleeps)
			pause();
	}
	return 0;
}

static int serve_want(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	int given = worker_want(call, "which", 5);
	char byte = 0;

	if (given < 0)
		return -ENOENT;
	if (read(given, &byte, 1) != 1)
		byte = 0;
	close(given);
	worker_answer(call, &byte, 1);
	return 0;
}

static int serve_keep(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	((struct state *)state)->kept = reader_u32(r);
	return 0;
}

static int serve_kept(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	const struct state *s = state;

	if (!s->kept)
		return -ENOENT;
	worker_answer(call, &s->kept, sizeof(s->kept));
	return 0;
}

static int serve_lie(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	worker_answer(call, "three", 3);
	return 0;
}

static int serve_flaky(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	const struct state *s = state;

	if (!(s->kept & 2))
		abort();
	return serve_echo(state, call, r, fd);
}

static const struct worker_service services[] = {
	{ ECHO, serve_echo }, { CRASH, serve_crash }, { HANG, serve_hang }, { WANT, serve_want },   { KEEP, serve_keep },
	{ KEPT, serve_kept }, { LIE, serve_lie },     { FLAKY, serve_flaky }, { 0 },
};

/* ---- who starts it ---- */

static pid_t current;

static int start(void *data, struct worker_process *ret, struct err *err)
{
	int sock[2], status = 0;

	if (current) {
		kill(current, SIGKILL);
		waitpid(current, &status, 0);
	}
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
	current = fork();
	if (!current) {
		struct state state = { 0 };
		const struct worker_services all[] = { { services, &state }, { 0 } };
		const struct worker_server server = { .services = all };

		close(sock[0]);
		_exit(worker_serve(sock[1], &server) ? 0 : 3);
	}
	close(sock[1]);
	*ret = (struct worker_process){ .sock = sock[0], .pid = current, .ended = status };
	return 0;
}

/* ---- asking ---- */

struct words {
	uint32_t word[40000];
	size_t num;
	size_t restarts;
	uint32_t told_to, tell;
};

static bool take_word(void *data, struct reader *r)
{
	struct words *w = data;

	if (w->num == sizeof(w->word) / sizeof(w->word[0]))
		return false;
	w->word[w->num++] = reader_u32(r);
	return true;
}

static void forget_words(void *data)
{
	struct words *w = data;

	w->num = 0;
	w->restarts++;
}

static bool prepare(void *data, struct worker *w)
{
	struct words *words = data;

	if (words->told_to == worker_generation(w))
		return true;
	words->told_to = worker_generation(w);
	words->tell++;
	return worker_tell(w, KEEP, &words->tell, sizeof(words->tell), -1);
}

static struct worker_request request(uint16_t kind, struct words *words, const void *body, size_t size)
{
	*words = (struct words){ 0 };
	return (struct worker_request){ .kind = kind,
					.body = body,
					.size = size,
					.fd = -1,
					.cpu_ms = 100,
					.wall_ms = 60000,
					.take = take_word,
					.restart = forget_words,
					.data = words };
}

static void test_echo(struct worker *w, struct words *got)
{
	static uint32_t words[30000];
	struct worker_request q = request(ECHO, got, words, sizeof(words));

	for (size_t i = 0; i < 30000; i++)
		words[i] = (uint32_t)i;
	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == 0 && got->num == 30000);
	CHECK(got->word[0] == 0 && got->word[1] == 2 && got->word[29999] == 59998);
	q = request(ECHO, got, "abc", 3);
	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == -EBADMSG && got->num == 0);
	q = request(WORKER_KIND(WORKER_RUNTIMES, 15), got, NULL, 0);
	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == -ENOSYS);
	CHECK(worker_counts(w).started == 1 && worker_counts(w).repeated == 0);
}

static int give_byte(void *data, struct reader *r)
{
	int ends[2];

	CHECK(reader_left(r) == 5 && !memcmp(reader_bytes(r, 5), "which", 5));
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "\x2a\x00\x00\x00", 4) == 4);
	close(ends[1]);
	return ends[0];
}

static bool take_byte(void *data, struct reader *r)
{
	*(uint8_t *)data = reader_u8(r);
	return true;
}

static void test_want(struct worker *w, struct words *got)
{
	struct worker_request q = request(WANT, got, NULL, 0);
	uint8_t byte = 0;

	q.take = take_byte;
	q.restart = NULL;
	q.data = &byte;
	q.want = give_byte;
	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == 0 && byte == 42);
	q.want = NULL; /* nothing was to be wanted: a lie, told twice */
	CHECK(worker_ask(w, &q) == WORKER_REFUSED);
}

static void test_failures(struct worker *w, struct words *got)
{
	static const uint16_t kinds[] = { CRASH, LIE };
	struct worker_counts before, after;

	for (size_t i = 0; i < 2; i++) {
		struct worker_request q = request(kinds[i], got, NULL, 0);

		before = worker_counts(w);
		CHECK(worker_ask(w, &q) == WORKER_REFUSED && got->restarts == 1);
		after = worker_counts(w);
		CHECK(after.died - before.died == 2 && after.hanged == before.hanged);
	}
	for (uint8_t sleeps = 0; sleeps < 2; sleeps++) {
		struct worker_request q = request(HANG, got, &sleeps, 1);

		q.wall_ms = sleeps ? 150 : 60000;
		before = worker_counts(w);
		CHECK(worker_ask(w, &q) == WORKER_REFUSED && got->restarts == 1);
		after = worker_counts(w);
		CHECK(after.hanged - before.hanged == 2 && after.died == before.died);
	}
}

static bool is_ready(void *data, pid_t pid)
{
	unsigned int *looks = data;

	CHECK(pid == current);
	return ++*looks <= 3;
}

/* Time without a CPU does not count against it, but one that sleeps is given up. */
static void test_crowded(struct words *got)
{
	unsigned int looks = 0;
	const struct worker_opts opts = { .start = start, .ready = is_ready, .data = &looks };
	struct worker *w = worker_new(&opts);
	const uint8_t sleeps = 1;
	struct worker_request q = request(HANG, got, &sleeps, 1);
	uint64_t start_ns = clock_monotonic_ns();

	q.wall_ms = 10;
	CHECK(worker_ask(w, &q) == WORKER_REFUSED && worker_counts(w).hanged == 2);
	CHECK(looks == 3 + 2 + 2 && clock_monotonic_ns() - start_ns >= 1500000000u);
	worker_free(w);
}

/* It is told anew what a fresh worker does not know. */
static void test_prepare(struct worker *w, struct words *got)
{
	const uint32_t five = 5;
	struct worker_request q = request(KEPT, got, NULL, 0);

	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == -ENOENT);
	q.prepare = prepare;
	CHECK(worker_ask(w, &q) == WORKER_DONE && q.result == 0 && got->num == 1 && got->word[0] == 1);
	CHECK(worker_ask(w, &q) == WORKER_DONE && got->num == 2 && got->word[1] == 1);
	kill(current, SIGKILL);
	CHECK(worker_ask(w, &q) == WORKER_DONE && got->num == 1 && got->word[0] == 2 && got->restarts == 1);
	/* The first time it dies, the second time it does not: no more than a repetition. */
	q = request(FLAKY, got, &five, sizeof(five));
	q.prepare = prepare;
	CHECK(worker_ask(w, &q) == WORKER_DONE && got->num == 1 && got->word[0] == 10 && got->restarts == 1);
}

static void test_killed(struct worker *w, struct words *got)
{
	struct worker_counts before = worker_counts(w);

	for (uint32_t i = 0; i < 100; i++) {
		struct worker_request q = request(ECHO, got, &i, sizeof(i));

		if (i % 3)
			kill(current, SIGKILL);
		CHECK(worker_ask(w, &q) == WORKER_DONE && got->num == 1 && got->word[0] == 2 * i);
	}
	CHECK(worker_counts(w).started - before.started == 66);
}

/* What the other side sends is not believed. */
static int start_liar(void *data, struct worker_process *ret, struct err *err)
{
	const struct wire_packet *packet = data;
	int sock[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
	CHECK(send(sock[1], packet, sizeof(packet->head) + packet->size, 0) > 0);
	shutdown(sock[1], SHUT_WR);
	*ret = (struct worker_process){ .sock = sock[0], .pid = getpid() };
	/* The other end stays open so that requests can be sent. */
	return 0;
}

static void test_liar(struct words *got)
{
	static struct wire_packet packet;
	static const struct wire_head heads[] = {
		{ .seq = 2, .kind = ECHO, .type = WIRE_END },  { .seq = 1, .kind = KEEP, .type = WIRE_END },
		{ .seq = 1, .kind = ECHO, .type = WIRE_ASK },  { .seq = 1, .kind = ECHO, .type = 77 },
		{ .seq = 1, .kind = ECHO, .type = WIRE_END, .more = 2 }, { .seq = 1, .kind = ECHO, .type = WIRE_WANT },
		{ .seq = 1, .kind = ECHO, .type = WIRE_END }, /* with a result that is none */
	};
	struct worker_opts opts = { .start = start_liar, .data = &packet };

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct worker *w = worker_new(&opts);
		struct worker_request q = request(ECHO, got, NULL, 0);

		packet.head = heads[i];
		packet.size = 4;
		memcpy(packet.body, "\x01\x00\x00\x00", 4);
		/* Its second process lies about the second request's number as well. */
		CHECK_MSG(worker_ask(w, &q) == WORKER_REFUSED, "lie %zu", i);
		worker_free(w);
	}
}

static void test_serve_one(struct words *got)
{
	struct state state = { 0 };
	const struct worker_services all[] = { { services, &state }, { 0 } };
	const struct worker_server server = { .services = all };
	const uint32_t words[] = { 1, 2 };
	int result;

	*got = (struct words){ 0 };
	CHECK(worker_serve_one(&server, ECHO, words, sizeof(words), -1, take_word, got, &result) && result == 0);
	CHECK(got->num == 2 && got->word[1] == 4);
	CHECK(worker_serve_one(&server, WANT, NULL, 0, -1, NULL, NULL, &result) && result == -ENOENT);
}

int main(void)
{
	static struct words got;
	const struct worker_opts opts = { .start = start };
	struct worker *w = worker_new(&opts);

	CHECK(w != NULL);
	test_echo(w, &got);
	test_want(w, &got);
	test_failures(w, &got);
	test_prepare(w, &got);
	test_killed(w, &got);
	test_liar(&got);
	test_serve_one(&got);
	worker_free(w);
	test_crowded(&got);
	kill(current, SIGKILL);
	return check_done();
}
