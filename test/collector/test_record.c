#include "collector/record_priv.h"

#include "test/check.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <sys/mman.h>

/* A record under construction, a word at a time. */
struct build {
	_Alignas(8) uint8_t bytes[4096];
	size_t len;
};

static struct build begin(uint32_t type, uint16_t misc)
{
	struct build b = { .len = sizeof(struct perf_event_header) };

	*(struct perf_event_header *)b.bytes =
		(struct perf_event_header){ .type = type, .misc = misc };
	return b;
}

static void put(struct build *b, const void *bytes, size_t len)
{
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void put64(struct build *b, uint64_t value)
{
	put(b, &value, sizeof(value));
}

static void put32(struct build *b, uint32_t value)
{
	put(b, &value, sizeof(value));
}

/* Text padded with NULs to 8 bytes, at least one. */
static void put_text(struct build *b, const char *text)
{
	size_t len = strlen(text) + 1;

	memset(b->bytes + b->len, 0, (len + 7) & ~(size_t)7);
	memcpy(b->bytes + b->len, text, len);
	b->len += (len + 7) & ~(size_t)7;
}

static int decode(struct build *b, const struct record_format *f, struct record *ret)
{
	((struct perf_event_header *)b->bytes)->size = (uint16_t)b->len;
	return record_decode(f, b->bytes, b->len, ret);
}

static const struct record_format plain = {
	.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
		       PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |
		       PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
	.regs_user = 0x7,
	.sample_id_all = true,
};

static void put_plain_head(struct build *b)
{
	put64(b, 77); /* IDENTIFIER */
	put64(b, 0x401000);
	put32(b, 10);
	put32(b, 11);
	put64(b, 123456789);
	put32(b, 3);
	put32(b, 0);
	put64(b, 1001001);
}

static void put_plain_trailer(struct build *b)
{
	put32(b, 20);
	put32(b, 21);
	put64(b, 5000);
	put32(b, 1);
	put32(b, 0);
	put64(b, 88);
}

static void test_sample(void)
{
	struct build b = begin(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
	const uint64_t *chain;
	struct record rec;

	put_plain_head(&b);
	put64(&b, 6);
	put64(&b, PERF_CONTEXT_KERNEL);
	put64(&b, 0xffffffff81000000);
	put64(&b, PERF_CONTEXT_USER);
	put64(&b, 0x401000);
	put64(&b, 0x402000);
	put64(&b, 0x403000);
	put64(&b, PERF_SAMPLE_REGS_ABI_64);
	put64(&b, 100);
	put64(&b, 101);
	put64(&b, 102);
	put64(&b, 16);
	put64(&b, 0x1111);
	put64(&b, 0x2222);
	put64(&b, 9);
	CHECK(decode(&b, &plain, &rec) == 0);
	CHECK(rec.type == RECORD_SAMPLE && rec.id == 77 && rec.pid == 10 && rec.tid == 11);
	CHECK(rec.time_ns == 123456789 && rec.cpu == 3 && rec.sample.period == 1001001);
	CHECK(rec.sample.ip == 0x401000 && rec.sample.mode == MODE_USER &&
	      rec.sample.num_chain == 6);
	CHECK(record_user_chain(&rec.sample, &chain) == 3 && chain[2] == 0x403000);
	CHECK(record_kernel_chain(&rec.sample, &chain) == 1 && chain[0] == 0xffffffff81000000);
	CHECK(rec.sample.regs_abi == PERF_SAMPLE_REGS_ABI_64 && rec.sample.num_regs == 3 &&
	      rec.sample.regs[2] == 102);
	CHECK(rec.sample.stack_size == 16 && rec.sample.stack_bytes == 9 &&
	      *(const uint64_t *)rec.sample.stack == 0x1111);
	CHECK(record_time_offset(&plain, PERF_RECORD_SAMPLE, b.len) == 32);
	/* Every shorter record is refused, and never read beyond its end. */
	for (size_t len = 8; len < b.len; len += 8) {
		uint8_t *copy = malloc(len);

		memcpy(copy, b.bytes, len);
		((struct perf_event_header *)copy)->size = (uint16_t)len;
		CHECK_MSG(record_decode(&plain, copy, len, &rec) == -EBADMSG, "length %zu", len);
		free(copy);
	}
}

/* Neither registers nor stack: the abi and the size stand alone. */
static void test_sample_without(void)
{
	struct build b = begin(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL);
	const uint64_t *chain;
	struct record rec;

	put_plain_head(&b);
	put64(&b, 0);
	put64(&b, PERF_SAMPLE_REGS_ABI_NONE);
	put64(&b, 0);
	CHECK(decode(&b, &plain, &rec) == 0);
	CHECK(!rec.sample.regs && !rec.sample.num_regs && !rec.sample.stack &&
	      !rec.sample.stack_size);
	CHECK(rec.sample.mode == MODE_KERNEL && record_user_chain(&rec.sample, &chain) == 0);
	CHECK(record_kernel_chain(&rec.sample, &chain) == 0);
}

static void test_sample_hostile(void)
{
	static const uint64_t counts[] = { 2, 1ull << 61, UINT64_MAX, UINT64_MAX / 8 + 2 };
	struct record rec;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct build chain = begin(PERF_RECORD_SAMPLE, 0),
			     stack = begin(PERF_RECORD_SAMPLE, 0);

		put_plain_head(&chain);
		put64(&chain, counts[i]);
		put64(&chain, 0);
		CHECK(decode(&chain, &plain, &rec) == -EBADMSG);
		put_plain_head(&stack);
		put64(&stack, 0);
		put64(&stack, 0);
		put64(&stack, counts[i] + 15);
		put64(&stack, 0);
		CHECK(decode(&stack, &plain, &rec) == -EBADMSG);
	}
	/* dyn_size above size */
	struct build b = begin(PERF_RECORD_SAMPLE, 0);

	put_plain_head(&b);
	put64(&b, 0);
	put64(&b, 0);
	put64(&b, 8);
	put64(&b, 1);
	put64(&b, 9);
	CHECK(decode(&b, &plain, &rec) == -EBADMSG);
}

/* Every field the kernel may write before the stack, in its order. */
static void test_all_fields(void)
{
	const struct record_format all = {
		.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
			       PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR | PERF_SAMPLE_ID |
			       PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |
			       PERF_SAMPLE_READ | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_RAW |
			       PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER |
			       PERF_SAMPLE_STACK_USER | PERF_SAMPLE_WEIGHT | PERF_SAMPLE_REGS_INTR,
		.read_format = PERF_FORMAT_GROUP | PERF_FORMAT_ID | PERF_FORMAT_LOST |
			       PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
		.regs_user = 1ull << 63 | 1,
		.branch_type = PERF_SAMPLE_BRANCH_HW_INDEX,
	};
	struct build b = begin(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_GUEST_USER);
	struct record rec;

	put64(&b, 5);
	put64(&b, 0x1234);
	put32(&b, 1);
	put32(&b, 2);
	put64(&b, 999);
	put64(&b, 0xadd7); /* ADDR */
	put64(&b, 6);      /* ID */
	put64(&b, 7);      /* STREAM_ID */
	put32(&b, 4);
	put32(&b, 0);
	put64(&b, 55);
	put64(&b, 2); /* READ: nr, enabled, running, 2 x (value, id, lost) */
	for (unsigned int i = 0; i < 2 + 2 * 3; i++)
		put64(&b, 0xbad);
	put64(&b, 1);
	put64(&b, 0x7777);
	put32(&b, 12); /* RAW */
	for (unsigned int i = 0; i < 3; i++)
		put32(&b, 0xbad);
	put64(&b, 2); /* BRANCH_STACK: nr, hw_idx, 2 x 24 bytes */
	for (unsigned int i = 0; i < 1 + 2 * 3; i++)
		put64(&b, 0xbad);
	put64(&b, PERF_SAMPLE_REGS_ABI_32);
	put64(&b, 31);
	put64(&b, 32);
	put64(&b, 8);
	put64(&b, 0x5a5a);
	put64(&b, 8);
	put64(&b, 0xbad); /* WEIGHT and what follows is not looked at */
	CHECK(decode(&b, &all, &rec) == 0);
	CHECK(rec.id == 6 && rec.time_ns == 999 && rec.cpu == 4 && rec.sample.period == 55);
	CHECK(rec.sample.mode == MODE_GUEST_USER);
	CHECK(rec.sample.num_chain == 1 && rec.sample.chain[0] == 0x7777);
	CHECK(rec.sample.num_regs == 2 && rec.sample.regs[1] == 32 &&
	      rec.sample.regs_abi == PERF_SAMPLE_REGS_ABI_32);
	CHECK(rec.sample.stack_bytes == 8 && *(const uint64_t *)rec.sample.stack == 0x5a5a);
	CHECK(record_time_offset(&all, PERF_RECORD_SAMPLE, b.len) == 32);
	/* The trailer: TID TIME ID STREAM_ID CPU IDENTIFIER, and without sample_id_all there is none. */
	CHECK(record_time_offset(&all, PERF_RECORD_COMM, 128) == 0);
}

static void test_raw_misaligned(void)
{
	const struct record_format f = { .sample_type = PERF_SAMPLE_RAW | PERF_SAMPLE_REGS_USER,
					 .regs_user = 1 };
	struct build b = begin(PERF_RECORD_SAMPLE, 0);
	struct record rec;

	put32(&b, 8);
	put64(&b, 1);
	put64(&b, 1);
	put32(&b, 0);
	CHECK(decode(&b, &f, &rec) == -EBADMSG);
}

static void put_mmap2(struct build *b)
{
	put32(b, 30);
	put32(b, 31);
	put64(b, 0x7f0000000000);
	put64(b, 0x2000);
	put64(b, 0x1000);
}

static void test_mmap2(void)
{
	struct build b = begin(PERF_RECORD_MMAP2, 0);
	struct record rec;

	put_mmap2(&b);
	put32(&b, 8);
	put32(&b, 1);
	put64(&b, 4242);
	put64(&b, 17);
	put32(&b, PROT_READ | PROT_EXEC);
	put32(&b, MAP_PRIVATE);
	put_text(&b, "/usr/lib/libc.so.6");
	put_plain_trailer(&b);
	CHECK(decode(&b, &plain, &rec) == 0);
	CHECK(rec.type == RECORD_MMAP && rec.pid == 30 && rec.tid == 31 && rec.time_ns == 5000 &&
	      rec.id == 88 && rec.cpu == 1);
	CHECK(rec.mmap.start == 0x7f0000000000 && rec.mmap.len == 0x2000 &&
	      rec.mmap.pgoff == 0x1000);
	CHECK(rec.mmap.maj == 8 && rec.mmap.min == 1 && rec.mmap.ino == 4242 &&
	      rec.mmap.ino_generation == 17);
	CHECK(rec.mmap.executable && !rec.mmap.build_id && rec.mmap.flags == MAP_PRIVATE);
	CHECK_STR(rec.mmap.path, "/usr/lib/libc.so.6");
	CHECK(rec.mmap.path_len == 18);
	CHECK(record_time_offset(&plain, PERF_RECORD_MMAP2, b.len) == b.len - 24);
}

/* The union is 24 bytes whatever the build-id's length is. */
static void test_mmap2_build_id(void)
{
	static const uint8_t id[20] = { 0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xcd };

	for (uint32_t len = 16; len <= 21; len++) {
		struct build b = begin(PERF_RECORD_MMAP2, 1u << 14);
		struct record rec;
		int r;

		put_mmap2(&b);
		put32(&b, len);
		put(&b, id, sizeof(id));
		put32(&b, PROT_READ);
		put32(&b, MAP_SHARED);
		put_text(&b, "/bin/x");
		put_plain_trailer(&b);
		r = decode(&b, &plain, &rec);
		CHECK(r == (len > 20 ? -EBADMSG : 0));
		if (r < 0)
			continue;
		CHECK(rec.mmap.build_id_len == len && rec.mmap.build_id[0] == 0xab &&
		      rec.mmap.build_id[15] == 0xcd);
		CHECK(!rec.mmap.executable && rec.mmap.prot == PROT_READ && rec.mmap.ino == 0);
		CHECK_STR(rec.mmap.path, "/bin/x");
	}
}

static void test_mmap(void)
{
	struct build b = begin(PERF_RECORD_MMAP, 0), data = begin(PERF_RECORD_MMAP, 1u << 13);
	struct build wrap = begin(PERF_RECORD_MMAP, 0), endless = begin(PERF_RECORD_MMAP, 0);
	struct record rec;

	put_mmap2(&b);
	put_text(&b, "//anon");
	put_plain_trailer(&b);
	CHECK(decode(&b, &plain, &rec) == 0 && rec.mmap.executable);
	CHECK_STR(rec.mmap.path, "//anon");
	put_mmap2(&data);
	put_text(&data, "");
	put_plain_trailer(&data);
	CHECK(decode(&data, &plain, &rec) == 0 && !rec.mmap.executable && rec.mmap.path_len == 0);
	put64(&wrap, 0);
	put64(&wrap, UINT64_MAX - 10);
	put64(&wrap, 11);
	put64(&wrap, 0);
	put_text(&wrap, "x");
	put_plain_trailer(&wrap);
	CHECK(decode(&wrap, &plain, &rec) == -EBADMSG);
	/* The NUL must be in the body, not in the trailer. */
	put_mmap2(&endless);
	put(&endless, "12345678", 8);
	put_plain_trailer(&endless);
	CHECK(decode(&endless, &plain, &rec) == -EBADMSG);
}

static void test_comm(void)
{
	for (uint16_t misc = 0; misc <= 1u << 13; misc += 1u << 13) {
		struct build b = begin(PERF_RECORD_COMM, misc);
		struct record rec;

		put32(&b, 40);
		put32(&b, 41);
		put_text(&b, "a;b c");
		put_plain_trailer(&b);
		CHECK(decode(&b, &plain, &rec) == 0);
		CHECK(rec.type == RECORD_COMM && rec.pid == 40 && rec.tid == 41 &&
		      rec.comm.exec == (misc != 0));
		CHECK_STR(rec.comm.comm, "a;b c");
		CHECK(rec.comm.len == 5);
	}
}

static void test_tasks(void)
{
	static const uint32_t types[] = { PERF_RECORD_FORK, PERF_RECORD_EXIT };
	const struct record_format bare = { .sample_type = PERF_SAMPLE_TID };

	for (size_t i = 0; i < 4; i++) {
		struct build b = begin(types[i % 2], i < 2 ? 0 : 1u << 13 /* FORK_EXEC */);
		struct record rec;

		put32(&b, 50);
		put32(&b, 51);
		put32(&b, 52);
		put32(&b, (uint32_t)-1);
		put64(&b, 4321);
		CHECK(decode(&b, &bare, &rec) == 0);
		CHECK(rec.type == (i % 2 ? RECORD_EXIT : RECORD_FORK) && rec.time_ns == 4321);
		CHECK(rec.task.found == (i == 2));
		CHECK(rec.pid == 50 && rec.task.ppid == 51 && rec.tid == 52 && rec.task.ptid == -1);
		put_plain_trailer(&b);
		CHECK(decode(&b, &plain, &rec) == 0 && rec.time_ns == 5000 && rec.id == 88);
	}
}

static void test_losses(void)
{
	struct build lost = begin(PERF_RECORD_LOST, 0),
		     samples = begin(PERF_RECORD_LOST_SAMPLES, 0);
	struct build throttle = begin(PERF_RECORD_THROTTLE, 0);
	struct record rec;

	put64(&lost, 9);
	put64(&lost, 123);
	put_plain_trailer(&lost);
	CHECK(decode(&lost, &plain, &rec) == 0 && rec.type == RECORD_LOST && rec.lost.id == 9 &&
	      rec.lost.count == 123);
	put64(&samples, 123);
	put_plain_trailer(&samples);
	CHECK(decode(&samples, &plain, &rec) == 0 && rec.type == RECORD_OTHER);
	CHECK(rec.raw_type == PERF_RECORD_LOST_SAMPLES && rec.time_ns == 5000);
	put64(&throttle, 4000);
	put64(&throttle, 3);
	put64(&throttle, 3);
	put_plain_trailer(&throttle);
	CHECK(decode(&throttle, &plain, &rec) == 0 && rec.type == RECORD_THROTTLE && rec.id == 88 &&
	      rec.time_ns == 5000);
}

static void test_switches(void)
{
	struct build one = begin(PERF_RECORD_SWITCH, 1u << 13 | 1u << 14),
		     wide = begin(PERF_RECORD_SWITCH_CPU_WIDE, 0);
	struct record rec;

	put_plain_trailer(&one);
	CHECK(decode(&one, &plain, &rec) == 0 && rec.type == RECORD_SWITCH && rec.switching.out &&
	      rec.switching.preempt);
	CHECK(rec.pid == 20 && rec.tid == 21 && rec.switching.other_pid == -1);
	put32(&wide, 60);
	put32(&wide, 61);
	put_plain_trailer(&wide);
	CHECK(decode(&wide, &plain, &rec) == 0 && !rec.switching.out &&
	      rec.switching.other_tid == 61);
}

static void test_ksymbol(void)
{
	struct build b = begin(PERF_RECORD_KSYMBOL, 0), endless;
	struct record rec;

	put64(&b, 0xffffffffc0001000);
	put32(&b, 1664);
	put32(&b, PERF_RECORD_KSYMBOL_TYPE_BPF | PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER << 16);
	endless = b;
	put64(&b, 0x65646362); /* "bcde" */
	put_plain_trailer(&b);
	CHECK(decode(&b, &plain, &rec) == 0 && rec.type == RECORD_KSYMBOL && rec.time_ns == 5000);
	CHECK(rec.ksymbol.start == 0xffffffffc0001000 && rec.ksymbol.len == 1664 && rec.ksymbol.name_len == 4);
	CHECK(rec.ksymbol.type == PERF_RECORD_KSYMBOL_TYPE_BPF && rec.ksymbol.flags == PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER);
	CHECK_STR(rec.ksymbol.name, "bcde");
	put64(&endless, 0x6161616161616161);
	put_plain_trailer(&endless);
	CHECK(decode(&endless, &plain, &rec) == -EBADMSG);
}

static void test_headers(void)
{
	struct build b = begin(PERF_RECORD_COMM, 0), unknown = begin(42, 0), user = begin(79, 0);
	struct record rec;

	((struct perf_event_header *)b.bytes)->size = 16;
	CHECK(record_decode(&plain, b.bytes, 8, &rec) == -EBADMSG); /* size says otherwise */
	CHECK(record_decode(&plain, b.bytes, 4, &rec) == -EBADMSG);
	CHECK(record_decode(&plain, b.bytes, 0, &rec) == -EBADMSG);
	((struct perf_event_header *)b.bytes)->size = 12;
	CHECK(record_decode(&plain, b.bytes, 12, &rec) == -EBADMSG); /* not a multiple of 8 */
	CHECK(decode(&unknown, &plain, &rec) == -EBADMSG);           /* no room for the trailer */
	put_plain_trailer(&unknown);
	CHECK(decode(&unknown, &plain, &rec) == 0 && rec.type == RECORD_OTHER &&
	      rec.time_ns == 5000);
	CHECK(decode(&user, &plain, &rec) == 0 && rec.type == RECORD_OTHER && rec.time_ns == 0);
	CHECK(record_time_offset(&plain, 79, 4096) == 0);
	CHECK(record_time_offset(&plain, PERF_RECORD_COMM, 32) == 0);
	CHECK(record_time_offset(&plain, PERF_RECORD_COMM, 40) == 16);
	CHECK(record_time_offset(&plain, PERF_RECORD_SAMPLE, 32) == 0);
}

int main(void)
{
	test_sample();
	test_sample_without();
	test_sample_hostile();
	test_all_fields();
	test_raw_misaligned();
	test_mmap2();
	test_mmap2_build_id();
	test_mmap();
	test_comm();
	test_tasks();
	test_losses();
	test_switches();
	test_ksymbol();
	test_headers();
	return check_done();
}
