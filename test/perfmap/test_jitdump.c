/* Records in, names with times out: what real runtimes write, in any pieces, and what nobody should. */
#include "perfmap/jitdump.h"

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "perfmap/perfmap.h"
#include "symbols/elf_cfi.h"
#include "symbols/symbols.h"
#include "test/check.h"

#include <stdint.h>

static void u32(struct strbuf *b, uint32_t v)
{
	strbuf_add(b, &v, sizeof(v));
}

static void u64(struct strbuf *b, uint64_t v)
{
	strbuf_add(b, &v, sizeof(v));
}

static void header(struct strbuf *b, uint64_t flags)
{
	u32(b, 0x4a695444);
	u32(b, 1);
	u32(b, 40);
	u32(b, 62); /* EM_X86_64 */
	u32(b, 0);
	u32(b, 77); /* pid */
	u64(b, 5);
	u64(b, flags);
}

static void load(struct strbuf *b, uint64_t time_ns, uint64_t addr, uint64_t size, const char *name)
{
	static const char code[64];

	u32(b, 0);
	u32(b, (uint32_t)(16 + 40 + strlen(name) + 1 + sizeof(code)));
	u64(b, time_ns);
	u32(b, 77);
	u32(b, 78);
	u64(b, addr);
	u64(b, addr);
	u64(b, size);
	u64(b, 1);
	strbuf_add(b, name, strlen(name) + 1);
	strbuf_add(b, code, sizeof(code));
}

static void move(struct strbuf *b, uint64_t time_ns, uint64_t from, uint64_t to, uint64_t size)
{
	u32(b, 1);
	u32(b, 16 + 48);
	u64(b, time_ns);
	u32(b, 77);
	u32(b, 78);
	u64(b, to);
	u64(b, from);
	u64(b, to);
	u64(b, size);
	u64(b, 1);
}

/* Of a kind that is passed over: line numbers, or one that is not known yet. */
static void other(struct strbuf *b, uint32_t id, size_t bytes)
{
	u32(b, id);
	u32(b, (uint32_t)(16 + bytes));
	u64(b, 1);
	for (size_t i = 0; i < bytes; i++)
		strbuf_char(b, 'x');
}

/* As the source reads a file: `piece` bytes at a time from where the last ended. How far it came. */
static uint64_t feed(struct jitdump *j, struct perfmap *m, const struct strbuf *b, size_t piece, uint64_t stamp_ns)
{
	uint64_t at = 0;

	while (at < b->len) {
		size_t len = b->len - at < piece ? b->len - at : piece;
		uint64_t used = jitdump_append(j, (const uint8_t *)b->data + at, len, b->len - at, m, stamp_ns);

		if (!used)
			break;
		at += used;
	}
	return at;
}

static const char *name_at(struct perfmap *m, uint64_t time_ns, uint64_t addr)
{
	uint64_t start = 0;
	const char *name;

	perfmap_apply(m, time_ns);
	name = perfmap_find(m, addr, &start);
	return name ? name : "-";
}

static void test_times(size_t piece)
{
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();
	struct code_ranges changed = { 0 };
	struct strbuf b = { 0 };

	header(&b, 0);
	load(&b, 100, 0x1000, 0x100, "first");
	other(&b, 2, 300);
	other(&b, 4, 5000);
	load(&b, 200, 0x1000, 0x80, "second");
	other(&b, 99, 17);
	load(&b, 300, 0x5000, 0x40, "py::f:/my file.py");
	move(&b, 400, 0x5000, 0x6000, 0x40);
	other(&b, 3, 0);
	CHECK(feed(j, m, &b, piece, 7) == b.len);
	CHECK(jitdump_count(j) == 3);
	CHECK(!jitdump_failed(j));
	CHECK(perfmap_next(m) == 100);
	CHECK_STR(name_at(m, 99, 0x1000), "-");
	CHECK_STR(name_at(m, 100, 0x1000), "first");
	CHECK_STR(name_at(m, 199, 0x1040), "first");
	CHECK(perfmap_changes(m, 200, &changed) && changed.v.len == 1);
	CHECK(changed.v.len && changed.v.data[0].start == 0x1000 && changed.v.data[0].end == 0x1080);
	CHECK_STR(name_at(m, 200, 0x1040), "second");
	CHECK_STR(name_at(m, 200, 0x1080), "first");
	CHECK_STR(name_at(m, 399, 0x6000), "-");
	CHECK_STR(name_at(m, 400, 0x603f), "py::f:/my file.py");
	CHECK_STR(name_at(m, 400, 0x6040), "-");
	CHECK(perfmap_next(m) == UINT64_MAX);
	vec_deinit(&changed.v);
	strbuf_deinit(&b);
	jitdump_free(j);
	perfmap_free(m);
}

/* Cut anywhere: whole records count, and it goes on from there when there is more. */
static void test_truncated(void)
{
	struct strbuf b = { 0 };
	size_t whole;

	header(&b, 0);
	load(&b, 1, 0x1000, 0x10, "one");
	whole = b.len;
	load(&b, 2, 0x2000, 0x10, "two");
	for (size_t len = 0; len <= b.len; len++) {
		struct perfmap *m = perfmap_new(NULL);
		struct jitdump *j = jitdump_new();
		struct strbuf part = { .data = b.data, .len = len };
		uint64_t at = feed(j, m, &part, 4096, 0);

		CHECK(at == (len < 40 ? 0 : len < whole ? 40 : len < b.len ? whole : b.len));
		CHECK(jitdump_count(j) == (len < whole ? 0u : len < b.len ? 1u : 2u));
		CHECK(!jitdump_failed(j));
		part = (struct strbuf){ .data = b.data + at, .len = b.len - at };
		CHECK(feed(j, m, &part, 4096, 0) == part.len);
		CHECK(jitdump_count(j) == 2);
		jitdump_free(j);
		perfmap_free(m);
	}
	strbuf_deinit(&b);
}

/* Times by the CPU's own counter mean nothing here: then it is when the file was seen to have it. */
static void test_foreign_clock(void)
{
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();
	struct strbuf b = { 0 };

	header(&b, 1);
	load(&b, 123456789012345, 0x1000, 0x10, "one");
	CHECK(feed(j, m, &b, 4096, 42) == b.len);
	CHECK(perfmap_next(m) == 42);
	strbuf_deinit(&b);
	jitdump_free(j);
	perfmap_free(m);
}

static void expect_refused(struct strbuf *b, uint64_t at, size_t count)
{
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();

	CHECK(feed(j, m, b, 4096, 0) == at);
	CHECK(jitdump_failed(j));
	CHECK(jitdump_count(j) == count);
	CHECK(jitdump_append(j, (const uint8_t *)b->data, b->len, b->len, m, 0) == 0);
	strbuf_deinit(b);
	jitdump_free(j);
	perfmap_free(m);
}

static void test_hostile(void)
{
	struct strbuf b = { 0 };
	char *name = malloc(10000);
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();

	strbuf_str(&b, "this is no jitdump, but long enough for its head");
	expect_refused(&b, 0, 0);
	b = (struct strbuf){ 0 };
	header(&b, 0);
	load(&b, 1, 0x1000, 0x10, "one");
	u32(&b, 0);
	u32(&b, 15); /* a record that is smaller than its own head */
	u64(&b, 0);
	expect_refused(&b, b.len - 16, 1);
	b = (struct strbuf){ 0 };
	header(&b, 0);
	u32(&b, 0);
	u32(&b, 0xffffffff);
	u64(&b, 0);
	expect_refused(&b, 40, 0);

	/* Ranges that are none, and a name without an end: skipped, and what follows counts. */
	b = (struct strbuf){ 0 };
	memset(name, 'n', 9999);
	name[9999] = '\0';
	header(&b, 0);
	load(&b, 1, UINT64_MAX - 5, 0x10, "wraps");
	load(&b, 1, 0xffffffff81000000, 0x10, "kernel");
	load(&b, 1, 0x1000, 0, "empty");
	load(&b, 1, 0x1000, 0x10, "");
	u32(&b, 0);
	u32(&b, 20);
	u64(&b, 1);
	u32(&b, 0); /* a load that ends in its head */
	move(&b, 2, 0x1000, 0x2000, 0x10); /* of nothing */
	load(&b, 3, 0x3000, 0x10, name);
	load(&b, 1, 0x4000, 0x10, "earlier than the one before");
	CHECK(feed(j, m, &b, 65536, 0) == b.len);
	CHECK(jitdump_count(j) == 2);
	CHECK(perfmap_next(m) == 3);
	CHECK(strlen(name_at(m, 3, 0x3000)) == 4096);
	CHECK_STR(name_at(m, 3, 0x4000), "earlier than the one before");
	CHECK_STR(name_at(m, 3, 0x1000), "-");
	CHECK_STR(name_at(m, 3, 0x2000), "-");
	strbuf_deinit(&b);
	jitdump_free(j);
	perfmap_free(m);
	free(name);
}

/* CFA = rsp + `words` * 8 all through, of 64 bytes of code before it. */
static void eh_frame(struct strbuf *b, uint8_t words)
{
	static const uint8_t cie[] = { 20, 0, 0, 0,  0, 0, 0, 0,  1, 'z', 'R', 0,  1, 0x78, 16, 1,
				       0x1b,          /* pcrel | sdata4 */
				       0x0c, 7, 8,    /* DW_CFA_def_cfa rsp, 8 */
				       0x90, 1,       /* DW_CFA_offset ra, CFA - 8 */
				       0, 0 };
	const uint8_t program[] = { 0, 0x0e, (uint8_t)(words * 8), 0 }; /* no augmentation; DW_CFA_def_cfa_offset */

	strbuf_add(b, cie, sizeof(cie));
	u32(b, 16);
	u32(b, sizeof(cie) + 4);
	u32(b, (uint32_t)-(64 + (int)sizeof(cie) + 8));
	u32(b, 64);
	strbuf_add(b, program, sizeof(program));
}

static void unwinding(struct strbuf *b, uint8_t words)
{
	struct strbuf frame = { 0 };

	eh_frame(&frame, words);
	u32(b, 4);
	u32(b, (uint32_t)(16 + 24 + frame.len + 20));
	u64(b, 1);
	u64(b, frame.len + 20);
	u64(b, 20); /* .eh_frame_hdr */
	u64(b, 0);
	strbuf_add(b, frame.data, frame.len);
	strbuf_add(b, "01234567890123456789", 20);
	strbuf_deinit(&frame);
}

/* The CFA's offset there in words; 0 = nothing is known. */
static int64_t words_at(struct perfmap *m, uint64_t addr)
{
	struct elf_plain_row row;
	struct jit_cfi cfi;

	if (!perfmap_find_cfi(m, addr, &cfi) || !jit_cfi_plain_row(&cfi, addr, &row))
		return 0;
	CHECK(row.cfa_reg == 7 && row.saved == 1 << 16 && row.at[16] == -8);
	return row.cfa_off / 8;
}

/* Unwinding information is of the code that is loaded next, whatever stands between, and goes along when that moves. */
static void test_unwinding(size_t piece)
{
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();
	_cleanup_(strbuf_deinit) struct strbuf b = { 0 };
	struct code_ranges changed = { 0 };
	struct jit_cfi cfi;

	header(&b, 0);
	unwinding(&b, 3);
	other(&b, 2, 40);
	load(&b, 10, 0x1000, 64, "three");
	load(&b, 10, 0x2000, 64, "none");
	unwinding(&b, 5);
	load(&b, 10, 0x3000, 61, "five"); /* 64 when it is rounded */
	move(&b, 20, 0x1000, 0x5000, 64);
	unwinding(&b, 7);
	other(&b, 3, 0);
	load(&b, 20, 0x4000, 64, "late");
	unwinding(&b, 9);
	load(&b, 30, 0x3000, 61, "five"); /* the same but for its frame */
	unwinding(&b, 11); /* nothing comes any more */
	CHECK(feed(j, m, &b, piece, 0) < b.len);
	CHECK(!perfmap_find_cfi(m, 0x1000, &cfi) && perfmap_has_cfi(m));
	perfmap_apply(m, 10);
	CHECK(words_at(m, 0x1000) == 3 && words_at(m, 0x103f) == 3);
	CHECK(words_at(m, 0x2000) == 0 && words_at(m, 0x1040) == 0);
	CHECK(words_at(m, 0x3000) == 5 && words_at(m, 0x303c) == 5);
	perfmap_apply(m, 20);
	CHECK(words_at(m, 0x5000) == 3 && words_at(m, 0x4000) == 0);
	CHECK(words_at(m, 0x3000) == 5);
	CHECK(perfmap_changes(m, 30, &changed));
	CHECK(changed.v.len == 1 && changed.v.data[0].start == 0x3000 && changed.v.data[0].end == 0x303d);
	perfmap_apply(m, 30);
	CHECK(words_at(m, 0x3000) == 9);
	vec_deinit(&changed.v);
	jitdump_free(j);
	perfmap_free(m);
}

/* Sizes that lie, information that is too long, and none that its load is too far away from. */
static void test_unwinding_hostile(void)
{
	struct perfmap *m = perfmap_new(NULL);
	struct jitdump *j = jitdump_new();
	_cleanup_(strbuf_deinit) struct strbuf b = { 0 };
	struct jit_cfi cfi;

	header(&b, 0);
	unwinding(&b, 3);
	b.data[b.len - 44 - 20 - 24] = 'x'; /* the size of all */
	load(&b, 10, 0x1000, 64, "lies");
	u32(&b, 4);
	u32(&b, 16 + 24 + PERFMAP_MAX_CFI + 1);
	u64(&b, 1);
	u64(&b, PERFMAP_MAX_CFI + 1);
	u64(&b, 0);
	u64(&b, 0);
	for (size_t i = 0; i < PERFMAP_MAX_CFI + 1; i++)
		strbuf_char(&b, 'x');
	load(&b, 10, 0x2000, 64, "long");
	unwinding(&b, 3);
	other(&b, 2, 300 << 10);
	load(&b, 10, 0x3000, 64, "far");
	CHECK(feed(j, m, &b, 256 << 10, 0) == b.len);
	perfmap_apply(m, 10);
	CHECK(perfmap_count(m) == 3 && !perfmap_has_cfi(m));
	CHECK(!perfmap_find_cfi(m, 0x1000, &cfi) && !perfmap_find_cfi(m, 0x3000, &cfi));
	jitdump_free(j);
	perfmap_free(m);
}

static void test_path(void)
{
	static const struct {
		const char *path;
		pid_t pid;
	} paths[] = {
		{ "/tmp/jit-4242.dump", 4242 },
		{ "/a b/jit-1.dump (deleted)", 1 },
		{ "jit-2147483647.dump", 2147483647 },
		{ "/tmp/jit-2147483648.dump", 0 },
		{ "/tmp/jit-.dump", 0 },
		{ "/tmp/jit-12x.dump", 0 },
		{ "/tmp/jit-12.dumpx", 0 },
		{ "/tmp/ajit-12.dump", 0 },
		{ "/tmp/jit-12.dump/libx.so", 0 },
		{ "jit-.dum", 0 },
		{ "", 0 },
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		pid_t pid = 0;

		CHECK(jitdump_is_path(paths[i].path, strlen(paths[i].path), &pid) == (paths[i].pid != 0));
		CHECK(pid == paths[i].pid);
	}
}

int main(void)
{
	test_times(1 << 20);
	test_times(5000);
	test_truncated();
	test_foreign_clock();
	test_hostile();
	test_unwinding(1 << 20);
	test_unwinding(5000);
	test_unwinding_hostile();
	test_path();
	return check_done();
}
