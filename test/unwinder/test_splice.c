/* The kernel's chain continues a cut stack only where both are proved to be the same words. */
#include "fixture.h"
#include "test/check.h"

#include <string.h>

static const struct arch *const x86 = &arch_x86_64;

enum { RBP = 6, RSP = 7, RIP = 16 };
enum {
	FRAMED = TEXT,        /* CFA = rbp + 16, rbp at CFA - 16 */
	PLAIN = TEXT + 0x100, /* CFA = rsp + 16: keeps no frame pointer */
	ROOT = TEXT + 0x200,  /* return address undefined */
	WORDS = 64,           /* of the stack; the copy has fewer */
};

struct test {
	struct program program;
	struct sample sample;
	struct unwinder *u;
	uint64_t chain[32];
};

/* Frame records each 6 words: sampled at word 2, then 8, 14 …, the last one with a null saved
 * rbp. */
enum { FIRST = 2, STRIDE = 6, NUM_RECORDS = 10, IN_COPY = 5 };

static uint64_t at(uint64_t function, uint64_t offset)
{
	return LOADED_AT + function + offset;
}

static void setup(struct test *t)
{
	static struct cfi_bytes cfi;

	memset(t, 0, sizeof(*t));
	memset(&cfi, 0, sizeof(cfi));
	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, FRAMED, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, RBP, 16, DW_CFA_offset | RBP, 2));
	cfi_fde(&cfi, PLAIN, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 16));
	cfi_fde(&cfi, ROOT, 0x100, CFI_PROGRAM(DW_CFA_undefined, RIP));
	program_init(&t->program, EM_X86_64, &cfi);
	t->u = new_unwinder(x86, UNWIND_CFI);
	sample_init(&t->sample, x86, &t->program, WORDS);
	sample_pc(&t->sample, x86, at(FRAMED, 0x10));
	sample_reg(&t->sample, x86, RBP, stack_addr(FIRST));
	t->chain[0] = at(FRAMED, 0x10);
	for (size_t i = 0; i < NUM_RECORDS; i++) {
		size_t word = FIRST + i * STRIDE;
		bool last = i == NUM_RECORDS - 1;

		t->sample.stack[word] = last ? 0 : stack_addr(word + STRIDE);
		t->sample.stack[word + 1] = last ? at(ROOT, 0x30) : at(FRAMED, 0x20 + i);
		t->chain[i + 1] = t->sample.stack[word + 1];
	}
	t->sample.in.chain = t->chain;
	t->sample.in.num_chain = NUM_RECORDS + 1;
	/* The copy ends behind record IN_COPY - 1. */
	t->sample.in.stack_bytes = (FIRST + IN_COPY * STRIDE) * 8;
	t->sample.in.stack_full = true;
}

static void teardown(struct test *t)
{
	unwinder_free(t->u);
	program_deinit(&t->program);
}

static void walk(struct test *t)
{
	sample_walk(t->u, &t->sample);
}

static void check_cut(struct test *t, size_t frames)
{
	walk(t);
	CHECK(t->sample.result.class == UNWIND_TRUNCATED);
	CHECK(!t->sample.result.spliced);
	CHECK_MSG(t->sample.result.num_frames == frames, "%zu", t->sample.result.num_frames);
}

static void check_whole(struct test *t)
{
	walk(t);
	CHECK(t->sample.result.class == UNWIND_COMPLETE && t->sample.result.reason == REASON_NONE);
	CHECK(t->sample.result.spliced);
	CHECK(t->sample.result.num_frames == NUM_RECORDS + 1);
	for (size_t i = 0; i <= NUM_RECORDS; i++)
		CHECK(sample_place(t->u, &t->sample, i) == t->chain[i] - LOADED_AT - (i != 0));
}

static void test_proved(void)
{
	struct test t;

	setup(&t);
	check_whole(&t);
	/* The chain ends before a root. */
	t.sample.in.num_chain = NUM_RECORDS;
	walk(&t);
	CHECK(t.sample.result.class == UNWIND_TRUNCATED && t.sample.result.spliced);
	CHECK(t.sample.result.num_frames == NUM_RECORDS);
	/* Or at a word that is no code: what comes before is kept. */
	t.sample.in.num_chain = NUM_RECORDS + 1;
	t.chain[8] = 0x1234;
	walk(&t);
	CHECK(t.sample.result.class == UNWIND_TRUNCATED && t.sample.result.spliced);
	CHECK(t.sample.result.num_frames == 8);
	/* Nothing new in it. */
	t.sample.in.num_chain = IN_COPY + 1;
	check_cut(&t, IN_COPY + 1);
	t.sample.in.chain = NULL;
	check_cut(&t, IN_COPY + 1);
	teardown(&t);
}

/* In a recursion all return addresses are equal: the place on the stack tells the frames apart. */
static void test_recursion(void)
{
	struct test t;

	setup(&t);
	for (size_t i = 0; i < NUM_RECORDS - 1; i++)
		t.chain[i + 1] = t.sample.stack[FIRST + i * STRIDE + 1] = at(FRAMED, 0x20);
	check_whole(&t);
	/* A function without a frame pointer among them: the kernel has missed its caller, we
	 * have not. */
	t.sample.stack[FIRST + STRIDE + 1] = t.chain[2] = at(PLAIN, 0x20);
	t.sample.stack[FIRST + STRIDE + 3] = at(FRAMED, 0x20);
	walk(&t);
	CHECK(t.sample.result.class == UNWIND_COMPLETE && t.sample.result.spliced);
	CHECK(t.sample.result.num_frames == NUM_RECORDS + 2);
	CHECK(sample_place(t.u, &t.sample, NUM_RECORDS + 1) == ROOT + 0x2f);
	teardown(&t);
}

static void test_not_proved(void)
{
	struct test t;

	/* The kernel saw another word inside the copy. */
	setup(&t);
	t.chain[2] = at(FRAMED, 0x99);
	check_cut(&t, IN_COPY + 1);
	teardown(&t);
	/* Fewer than three frames in common. */
	setup(&t);
	t.sample.in.stack_bytes = (FIRST + 2 * STRIDE) * 8;
	check_cut(&t, 3);
	t.sample.in.stack_bytes = (FIRST + 3 * STRIDE) * 8;
	walk(&t);
	CHECK(t.sample.result.spliced && t.sample.result.class == UNWIND_COMPLETE);
	teardown(&t);
	/* The frame at the cut keeps no frame pointer: its caller is not in the chain. */
	setup(&t);
	t.sample.stack[FIRST + 4 * STRIDE + 1] = t.chain[5] = at(PLAIN, 0x20);
	t.sample.in.stack_bytes = (FIRST + 4 * STRIDE + 2) * 8;
	check_cut(&t, IN_COPY + 1);
	teardown(&t);
	/* One further in does not: three proved frames are missing at the cut. */
	setup(&t);
	t.sample.stack[FIRST + 3 * STRIDE + 1] = t.chain[4] = at(PLAIN, 0x20);
	t.sample.stack[FIRST + 3 * STRIDE + 3] = at(FRAMED, 0x77);
	check_cut(&t, IN_COPY + 2);
	teardown(&t);
	/* Frame pointers that do not grow. */
	setup(&t);
	t.sample.stack[FIRST + 2 * STRIDE] = stack_addr(FIRST);
	walk(&t);
	CHECK(!t.sample.result.spliced);
	teardown(&t);
}

static void test_all(void)
{
	test_proved();
	test_recursion();
	test_not_proved();
}

int main(void)
{
	test_all();
	walk_in_pieces();
	test_all();
	return check_done();
}
