/*
 * Streams that a runtime sent (made small by test/prove/dotnet/shrink.py), against what TraceEvent 4.0.0 reads in the
 * same bytes; and streams that lie.
 * usage: test_nettrace DIRECTORY
 */
#include "runtimes/nettrace.h"

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "test/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void tell(void *data, const struct nettrace_event *e)
{
	static const char *const kinds[] = { "load", "unload", "exists" };
	struct strbuf *out = data;

	if (e->kind == NETTRACE_MODULE || e->kind == NETTRACE_MODULE_UNLOAD)
		strbuf_printf(out, "%s %" PRIu64 " %" PRIx64 " %s|%s\n",
			      e->kind == NETTRACE_MODULE ? "module" : "gone", e->time_ns, e->module.id, e->module.path,
			      e->module.native_path);
	else if (e->kind == NETTRACE_ASSEMBLY)
		strbuf_printf(out, "assembly %" PRIu64 " %" PRIx32 " %s\n", e->time_ns, e->assembly.flags, e->assembly.name);
	else if (e->kind == NETTRACE_RUNDOWN_END)
		strbuf_printf(out, "end %" PRIu64 "\n", e->time_ns);
	else
		strbuf_printf(out, "%s %" PRIu64 " %" PRIx64 " %" PRIx32 " %" PRIx64 " %" PRIx64 " %" PRIx32 " %s::%s\n",
			      kinds[e->kind], e->time_ns, e->method.start, e->method.size, e->method.module_id,
			      e->method.id, e->method.flags, e->method.type, e->method.name);
}

static char *load(const char *dir, const char *name, size_t *ret_size)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[4096], *bytes = calloc(1, 1 << 20);

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	CHECK_MSG(f != NULL, "%s", path);
	*ret_size = f && bytes ? fread(bytes, 1, (1 << 20) - 1, f) : 0;
	return bytes;
}

static enum nettrace_state feed(const void *bytes, size_t size, size_t piece, struct strbuf *out,
				struct nettrace_counts *counts)
{
	const struct nettrace_sink sink = { tell, out };
	struct nettrace *n = nettrace_new();
	enum nettrace_state state = NETTRACE_MORE;

	for (size_t at = 0; at < size; at += piece)
		state = nettrace_feed(n, (const char *)bytes + at, piece < size - at ? piece : size - at, &sink);
	*counts = *nettrace_counts(n);
	nettrace_free(n);
	return state;
}

/* Whole, and in pieces of odd sizes. */
static void test_recorded(const char *dir, const char *name)
{
	static const size_t pieces[] = { 1 << 20, 4096, 7, 1 };
	char file[64];
	size_t size, want_size;
	_cleanup_free_ char *bytes = NULL, *want = NULL;

	snprintf(file, sizeof(file), "%s.nettrace", name);
	bytes = load(dir, file, &size);
	snprintf(file, sizeof(file), "%s.txt", name);
	want = load(dir, file, &want_size);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct strbuf out = { 0 };
		struct nettrace_counts counts;

		CHECK(feed(bytes, size, pieces[i], &out, &counts) == NETTRACE_END);
		CHECK_MSG(out.data && !strcmp(out.data, want), "%s in pieces of %zu is not as kept", name, pieces[i]);
		CHECK(counts.odd == 0);
		CHECK(counts.bytes == size);
		CHECK(counts.events > 20);
		if (i == 0 && getenv("NETTRACE_PRINT"))
			fputs(out.data, stdout);
		strbuf_deinit(&out);
	}
}

/* An event that is not there is missed: the sequence numbers tell. */
static void test_lost(const char *dir)
{
	struct strbuf out = { 0 };
	struct nettrace_counts counts;
	size_t size;
	_cleanup_free_ char *bytes = load(dir, "rundown.nettrace", &size);

	feed(bytes, size, size, &out, &counts);
	CHECK(counts.lost > 1000); /* as only the first events of each block were kept */
	strbuf_deinit(&out);
}

static void expect_broken(const char *what, const void *bytes, size_t size)
{
	struct strbuf out = { 0 };
	struct nettrace_counts counts;

	CHECK_MSG(feed(bytes, size, 13, &out, &counts) == NETTRACE_BROKEN, "%s", what);
	strbuf_deinit(&out);
}

static void test_lies(const char *dir)
{
	size_t size;
	_cleanup_free_ char *bytes = load(dir, "rundown.nettrace", &size);
	const size_t trace_end = 32 + 11 + 4 + 5 + 1 + 48 + 1, length = trace_end + 11 + 4 + 13 + 1;
	struct strbuf out = { 0 };
	struct nettrace_counts counts;
	char keep[4];

	expect_broken("another format", "HTTP/1.1 400 Bad Request\r\n\r\n and more of that", 40);
	expect_broken("no object", "Nettrace\x14\0\0\0!FastSerialization.1XYZ", 35);
	CHECK(!memcmp(bytes + trace_end + 15, "MetadataBlock", 13));
	memcpy(keep, bytes + length, 4);
	memset(bytes + length, 0xff, 4); /* a block of 4 GiB */
	expect_broken("4 GiB", bytes, size);
	memcpy(bytes + length, "\x03\0\0\0", 4);
	expect_broken("a block shorter than its events", bytes, size);
	memcpy(bytes + length, keep, 4);
	memset(bytes + trace_end + 11, 0x7f, 4); /* a name of 2 GiB */
	expect_broken("a name of 2 GiB", bytes, size);
	/* Half a stream is no lie: it waits for the rest. */
	CHECK(feed(bytes, trace_end, 10, &out, &counts) == NETTRACE_MORE);
	strbuf_deinit(&out);
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "test/data/nettrace";

	test_recorded(dir, "rundown");
	test_recorded(dir, "live");
	test_recorded(dir, "assemblies");
	test_lost(dir);
	test_lies(dir);
	return check_done();
}
