/* The map of this very process, as it is written, grows, is rewritten and vanishes. */
#include "perfmap/perfmap.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "test/check.h"

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
	    perfmap_source_new(w->door, w->strings, &w->source, NULL) < 0)
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

static const char *name_at(struct world *w, uint64_t addr)
{
	struct symbol symbol = { 0 };

	if (!w->source.find(w->source.data, &w->space, addr, &symbol))
		return "-";
	CHECK(symbol.offset == (addr & 0xf));
	return symbol.name;
}

static void wait_retry(void)
{
	usleep(110 * 1000);
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
	CHECK_STR(name_at(&w, 0x2000), "two"); /* a miss looks at once */
	put(&w, "1000 10 newer\n", O_APPEND);
	wait_retry();
	CHECK_STR(name_at(&w, 0x1000), "newer"); /* a hit looks now and then */
	/* The name goes, the descriptor stays. */
	put(&w, "3000 10 three\n", O_APPEND);
	unlink(w.path);
	wait_retry();
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

int main(void)
{
	test_grows();
	test_rewritten();
	test_late();
	test_dead();
	test_exec();
	test_hostile();
	test_chunks();
	return check_done();
}
