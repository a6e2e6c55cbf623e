/* The map of this very process, as it is written, grows, is rewritten and vanishes. */
#include "perfmap/perfmap.h"

#include "base/clock.h"
#include "base/intern.h"
#include "perfmap/published.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "test/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct door *door;
	struct intern *strings;
	struct symbol_source source;
	struct addrspace space;
	char path[64];
};

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->strings = intern_new();
	if (!w->strings || door_new(&w->door, NULL) < 0 ||
	    perfmap_source_new(w->door, NULL, NULL, w->strings, &w->source, NULL) < 0)
		abort();
	w->space.pid = getpid();
	snprintf(w->path, sizeof(w->path), "/tmp/perf-%d.map", (int)getpid());
	unlink(w->path);
}

static void world_deinit(struct world *w)
{
	w->source.gone(w->source.data, &w->space);
	CHECK(!w->space.names);
	w->source.free(w->source.data);
	intern_free(w->strings);
	door_free(w->door);
	unlink(w->path);
}

static void put(struct world *w, const char *text, int flags)
{
	int fd = open(w->path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

/* As the session does before it names what it has: what was published counts from its own time on. */
static void look(struct world *w)
{
	if (w->space.names)
		w->source.poll(w->source.data, &w->space, false);
	else
		w->source.first_seen(w->source.data, &w->space);
	w->source.apply(w->source.data, &w->space, UINT64_MAX);
}

static const char *name_now(struct world *w, uint64_t addr)
{
	struct symbol symbol = { 0 };

	if (!w->source.find(w->source.data, &w->space, addr, &symbol))
		return "-";
	CHECK(symbol.offset == (addr & 0xf));
	return symbol.name;
}

static const char *name_at(struct world *w, uint64_t addr)
{
	look(w);
	return name_now(w, addr);
}

static void wait_retry(void)
{
	usleep(110 * 1000);
}

/* Everything that is new counts from a time on, which lies between the last look and this one. */
static void test_times(void)
{
	struct code_ranges ranges = { 0 };
	uint64_t before_ns, after_ns, at_ns;
	struct world w;

	world_init(&w);
	put(&w, "1000 10 one\n2000 10 two\n", O_TRUNC);
	look(&w);
	usleep(300 * 1000);
	before_ns = clock_monotonic_ns() - 200 * 1000 * 1000; /* file times follow the timer tick, which a host may hold back */
	put(&w, "1000 10 newer\n2000 10 two\n3000 10 three\n2008 10 over\n", O_APPEND);
	after_ns = clock_monotonic_ns();
	usleep(30 * 1000);
	w.source.poll(w.source.data, &w.space, false);
	at_ns = w.source.next(w.source.data, &w.space);
	CHECK(at_ns >= before_ns && at_ns <= after_ns);
	CHECK_STR(name_now(&w, 0x1000), "one");
	CHECK(w.source.changes(w.source.data, &w.space, at_ns - 1, &ranges) && !ranges.v.len);
	w.source.apply(w.source.data, &w.space, at_ns - 1);
	CHECK_STR(name_now(&w, 0x1000), "one");
	CHECK_STR(name_now(&w, 0x3000), "-");
	/* What is said again is no change, nor is what had no name. */
	CHECK(w.source.changes(w.source.data, &w.space, at_ns, &ranges) && ranges.v.len == 2);
	CHECK(ranges.v.len > 1 && ranges.v.data[0].start == 0x1000 && ranges.v.data[0].end == 0x1010);
	CHECK(ranges.v.len > 1 && ranges.v.data[1].start == 0x2008 && ranges.v.data[1].end == 0x2010);
	CHECK_STR(name_now(&w, 0x1000), "one");
	w.source.apply(w.source.data, &w.space, at_ns);
	CHECK_STR(name_now(&w, 0x1000), "newer");
	CHECK_STR(name_now(&w, 0x3000), "three");
	CHECK(w.source.next(w.source.data, &w.space) == UINT64_MAX);
	vec_deinit(&ranges.v);
	world_deinit(&w);
}

/* Nothing is read when nothing grew, and what is half a line waits. */
static void test_idle(void)
{
	struct symbol_origin origin = { 0 }, again = { 0 };
	struct world w;

	world_init(&w);
	put(&w, "1000 10 one\n2000 10 tw", O_TRUNC);
	look(&w);
	look(&w);
	w.source.origin(w.source.data, &w.space, &origin);
	CHECK_STR(origin.from, "perf map");
	CHECK(!origin.refused);
	for (int i = 0; i < 10; i++)
		look(&w);
	w.source.origin(w.source.data, &w.space, &again);
	CHECK(again.reads == origin.reads);
	world_deinit(&w);
}

static void test_grows(void)
{
	struct world w;

	world_init(&w);
	put(&w, "1000 10 one\n2000 10 tw", O_TRUNC);
	w.source.first_seen(w.source.data, &w.space);
	CHECK_STR(name_at(&w, 0x1003), "one");
	CHECK_STR(name_at(&w, 0x2000), "-");
	put(&w, "o\n", O_APPEND);
	CHECK_STR(name_at(&w, 0x2000), "two");
	put(&w, "1000 10 newer\n", O_APPEND);
	CHECK_STR(name_at(&w, 0x1000), "newer");
	/* The name goes, the descriptor stays. */
	put(&w, "3000 10 three\n", O_APPEND);
	unlink(w.path);
	CHECK_STR(name_at(&w, 0x3001), "three");
	CHECK_STR(name_at(&w, 0x2001), "two");
	world_deinit(&w);
}

static void test_rewritten(void)
{
	struct world w;

	world_init(&w);
	put(&w, "1000 10 one\n2000 10 two\n3000 10 three\n", O_TRUNC);
	CHECK_STR(name_at(&w, 0x1000), "one");
	wait_retry();
	put(&w, "1000 10 again\n", O_TRUNC); /* shorter */
	CHECK_STR(name_at(&w, 0x4000), "-");
	CHECK_STR(name_at(&w, 0x1000), "again");
	CHECK_STR(name_at(&w, 0x2000), "two"); /* nothing newer is known */
	/* Another file under the name. */
	unlink(w.path);
	put(&w, "5000 10 five\n1000 10 third time\n", O_TRUNC | O_EXCL);
	wait_retry();
	CHECK_STR(name_at(&w, 0x5000), "five");
	CHECK_STR(name_at(&w, 0x1001), "third time");
	/* Longer at once, so only the place where lines end gives it away. */
	wait_retry();
	put(&w, "6000 10 a name that is much longer than what was there\n7000 10 seven\n", O_TRUNC);
	CHECK_STR(name_at(&w, 0x6000), "a name that is much longer than what was there");
	CHECK_STR(name_at(&w, 0x7000), "seven");
	world_deinit(&w);
}

static void test_late(void)
{
	struct world w;

	world_init(&w);
	w.source.first_seen(w.source.data, &w.space);
	CHECK_STR(name_at(&w, 0x1000), "-");
	put(&w, "1000 10 one\n", O_TRUNC);
	wait_retry();
	CHECK_STR(name_at(&w, 0x1000), "one");
	world_deinit(&w);
}

/* A dead generation opens nothing: the pid may be another's by now. */
static void test_dead(void)
{
	struct world w;

	world_init(&w);
	put(&w, "1000 10 one\n", O_TRUNC);
	w.space.dead = true;
	CHECK_STR(name_at(&w, 0x1000), "-");
	world_deinit(&w);
}

/* The map of the program that ran under this pid before the exec. */
static void test_exec(void)
{
	struct world w;

	world_init(&w);
	put(&w, "1000 10 before\n", O_TRUNC);
	usleep(60 * 1000);
	w.space.exec_ns = clock_monotonic_ns();
	CHECK_STR(name_at(&w, 0x1000), "-");
	wait_retry();
	put(&w, "1000 10 after\n", O_TRUNC);
	CHECK_STR(name_at(&w, 0x1000), "after");
	world_deinit(&w);
}

/* A process that writes its map as it ends, as a JVM does with -XX:+DumpPerfMapAtExit. */
static void test_left(void)
{
	struct symbol_origin origin = { 0 };
	struct world w;
	int status, go[2];
	char byte;

	world_init(&w);
	if (pipe(go) < 0)
		abort();
	w.space.pid = fork();
	if (!w.space.pid) {
		close(go[1]);
		(void)!read(go[0], &byte, 1);
		snprintf(w.path, sizeof(w.path), "/tmp/perf-%d.map", (int)getpid());
		put(&w, "1000 10 at last\n", O_TRUNC);
		_exit(0);
	}
	close(go[0]);
	snprintf(w.path, sizeof(w.path), "/tmp/perf-%d.map", (int)w.space.pid);
	look(&w);
	CHECK_STR(name_now(&w, 0x1000), "-");
	close(go[1]);
	waitpid(w.space.pid, &status, 0);
	w.space.dead = true;
	w.source.poll(w.source.data, &w.space, true);
	w.source.apply(w.source.data, &w.space, UINT64_MAX);
	CHECK_STR(name_now(&w, 0x1000), "at last");
	w.source.origin(w.source.data, &w.space, &origin);
	CHECK_STR(origin.from, "perf map");
	world_deinit(&w);
}

/* What a target could put there instead must neither block nor be believed. */
static void test_hostile(void)
{
	struct world w;

	world_init(&w);
	CHECK(mkfifo(w.path, 0644) == 0);
	CHECK_STR(name_at(&w, 0x1000), "-");
	unlink(w.path);
	CHECK(mkdir(w.path, 0755) == 0);
	wait_retry();
	CHECK_STR(name_at(&w, 0x1000), "-");
	rmdir(w.path);
	CHECK(symlink("/dev/zero", w.path) == 0);
	wait_retry();
	CHECK_STR(name_at(&w, 0x1000), "-");
	world_deinit(&w);
}

/* More than one chunk, and a line longer than any chunk. */
static void test_chunks(void)
{
	enum { LINES = 40000 };
	struct world w;
	FILE *f;

	world_init(&w);
	f = fopen(w.path, "w");
	if (!f)
		abort();
	for (int i = 0; i < LINES; i++)
		fprintf(f, "%x 10 function number %d\n", 0x100000 + i * 16, i);
	fprintf(f, "10 10 ");
	for (int i = 0; i < 600000; i++)
		fputc('x', f);
	fflush(f);
	CHECK_STR(name_at(&w, 0x100000 + 39999 * 16), "function number 39999");
	CHECK_STR(name_at(&w, 0x10), "-");
	fprintf(f, "\n20 10 behind it\n");
	fclose(f);
	CHECK_STR(name_at(&w, 0x20), "behind it");
	CHECK_STR(name_at(&w, 0x10), "-");
	world_deinit(&w);
}

static int serve_crash(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* A parser that no map survives. */
static int start_crashing(void *data, struct worker_process *ret, struct err *err)
{
	static const struct worker_service crashing[] = { { PUBLISHED_TEXT, serve_crash }, { 0 } };
	static const struct worker_services services[] = { { crashing, NULL }, { 0 } };
	const struct worker_server server = { .services = services };
	unsigned int *started = data;
	int sock[2], ended = 0;
	pid_t pid;

	if (*started)
		wait(&ended);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
	++*started;
	pid = fork();
	if (!pid) {
		close(sock[0]);
		worker_serve(sock[1], &server);
		_exit(0);
	}
	close(sock[1]);
	*ret = (struct worker_process){ .sock = sock[0], .pid = pid, .ended = ended };
	return 0;
}

/* A map that ends two parsers in a row is read no more, and told of. */
static void test_aside(void)
{
	unsigned int started = 0;
	const struct worker_opts opts = { .start = start_crashing, .data = &started };
	struct worker *worker = worker_new(&opts);
	struct symbol_origin origin = { 0 };
	struct world w;

	world_init(&w);
	w.source.free(w.source.data);
	if (!worker || perfmap_source_new(w.door, worker, NULL, w.strings, &w.source, NULL) < 0)
		abort();
	put(&w, "1000 10 one\n", O_TRUNC);
	CHECK_STR(name_at(&w, 0x1000), "-");
	CHECK(started == 3);
	put(&w, "2000 10 two\n", O_APPEND);
	CHECK_STR(name_at(&w, 0x2000), "-");
	CHECK(started == 3);
	w.source.origin(w.source.data, &w.space, &origin);
	CHECK(origin.aside && !origin.from);
	CHECK_STR(origin.refused, "parser");
	world_deinit(&w);
	worker_free(worker);
	wait(NULL);
}

int main(void)
{
	test_grows();
	test_times();
	test_idle();
	test_rewritten();
	test_late();
	test_dead();
	test_exec();
	test_left();
	test_hostile();
	test_chunks();
	test_aside();
	return check_done();
}
