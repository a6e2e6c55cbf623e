/* Remembered stacks: they change what a walk costs and never what it finds. */
#include "fixture.h"
#include "test/check.h"
#include "base/hash.h"
#include "unwinder/unwinder_priv.h"

#include <string.h>

enum { RBP = 6, RSP = 7, RIP = 16 };
enum { FUNCTIONS = 64, WORDS = 4096, MAX_DEPTH = 250 };

/* What a function does with the frame pointer. Function 0 ends stacks. */
enum { LEAVES_FP, SAVES_FP, FRAME_BY_FP };

static unsigned int kind_of(unsigned int function)
{
	return function % 4 % 3;
}

static unsigned int words_of(unsigned int function)
{
	return 3 + function % 5;
}

struct frame {
	unsigned int function;
	uint64_t pc;
	size_t sp;   /* index of the word at its stack pointer */
	uint64_t fp; /* that it has */
};

/* A thread, whose frames come and go. */
struct thread {
	struct program program;
	struct unwinder *u;
	uint64_t stack[WORDS];
	uint8_t copy[8 * WORDS];
	struct frame frames[MAX_DEPTH]; /* outermost first */
	size_t depth;
	uint64_t random;
	uint64_t regs[ARCH_MAX_PERF_REGS];
	struct unwind_input in;
};

static unsigned int pick(struct thread *t, unsigned int num)
{
	t->random = hash_u64(t->random + 0x9e3779b97f4a7c15u);
	return (unsigned int)(t->random % num);
}

static void setup(struct thread *t)
{
	static struct cfi_bytes cfi;

	memset(&cfi, 0, sizeof(cfi));
	memset(t, 0, sizeof(*t));
	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, TEXT, 64, CFI_PROGRAM(DW_CFA_undefined, RIP));
	for (unsigned int i = 1; i < FUNCTIONS; i++) {
		uint8_t size = (uint8_t)(8 * words_of(i));

		if (kind_of(i) == LEAVES_FP)
			cfi_fde(&cfi, TEXT + 64 * i, 64, CFI_PROGRAM(DW_CFA_def_cfa_offset, size));
		else if (kind_of(i) == SAVES_FP)
			cfi_fde(&cfi, TEXT + 64 * i, 64,
				CFI_PROGRAM(DW_CFA_def_cfa_offset, size, DW_CFA_offset | RBP, 2));
		else
			cfi_fde(&cfi, TEXT + 64 * i, 64,
				CFI_PROGRAM(DW_CFA_def_cfa, RBP, 16, DW_CFA_offset | RBP, 2));
	}
	program_init(&t->program, EM_X86_64, &cfi);
	t->u = new_unwinder(&arch_x86_64, UNWIND_CFI);
	t->frames[0] = (struct frame){ .pc = LOADED_AT + TEXT + 8, .sp = WORDS - 8 };
	t->depth = 1;
}

static void teardown(struct thread *t)
{
	unwinder_free(t->u);
	program_deinit(&t->program);
}

/* The innermost frame calls a function, which stands somewhere. */
static void call(struct thread *t, unsigned int function)
{
	const struct frame *caller = &t->frames[t->depth - 1];
	struct frame *f = &t->frames[t->depth];
	size_t cfa = caller->sp;

	*f = (struct frame){ .function = function, .sp = cfa - words_of(function), .fp = caller->fp };
	f->pc = LOADED_AT + TEXT + 64 * function + 8 + 8 * pick(t, 4);
	t->stack[cfa - 1] = caller->pc;
	if (kind_of(function) != LEAVES_FP)
		t->stack[cfa - 2] = caller->fp;
	if (kind_of(function) == SAVES_FP)
		f->fp = pick(t, 1000);
	if (kind_of(function) == FRAME_BY_FP)
		f->fp = stack_addr(cfa - 2);
	t->depth++;
}

static size_t fetch(void *data, size_t bytes)
{
	struct thread *t = data;

	memcpy(t->copy, t->stack + t->frames[t->depth - 1].sp, bytes);
	return bytes;
}

static void take(struct thread *t, bool in_pieces)
{
	const struct frame *leaf = &t->frames[t->depth - 1];

	memset(t->copy, 0xaa, sizeof(t->copy));
	t->regs[6] = leaf->fp; /* enum perf_event_x86_regs: BP, SP, IP */
	t->regs[7] = stack_addr(leaf->sp);
	t->regs[8] = leaf->pc;
	t->in = (struct unwind_input){
		.space = &t->program.space,
		.perf_regs = t->regs,
		.perf_mask = arch_x86_64.perf_regs,
		.stack = t->copy,
		.stack_bytes = 8 * (WORDS - leaf->sp),
		.fetch = in_pieces ? fetch : NULL,
		.fetch_data = t,
	};
	if (!in_pieces)
		fetch(t, t->in.stack_bytes);
}

static void forget(struct thread *t)
{
	known_deinit(&t->u->known);
	memset(&t->u->known, 0, sizeof(t->u->known));
}

/* Walks with what is remembered, and without. */
static void compare(struct thread *t, bool in_pieces)
{
	uint32_t with[1024], without[1024];
	struct unwind_result a, b;
	struct known_stacks known;

	take(t, in_pieces);
	unwinder_walk(t->u, &t->in, with, &a);
	known = t->u->known;
	memset(&t->u->known, 0, sizeof(known));
	take(t, in_pieces);
	unwinder_walk(t->u, &t->in, without, &b);
	forget(t);
	t->u->known = known;
	CHECK_MSG(a.class == b.class && a.reason == b.reason && a.num_frames == b.num_frames,
		  "class %d, reason %d, %zu frames, not %d, %d, %zu", a.class, a.reason, a.num_frames, b.class,
		  b.reason, b.num_frames);
	CHECK(!memcmp(with, without, b.num_frames * sizeof(with[0])));
}

static struct known_stack *only_known(struct thread *t)
{
	return t->u->known.sets[t->program.space.id % KNOWN_SETS][0];
}

/* The walk's outermost frame is the one that was remembered, not the one that is there. */
static bool is_used(struct thread *t)
{
	struct known_stack *s = only_known(t);
	uint32_t frames[1024], id = s->frames[0].id;
	struct unwind_result r;

	s->frames[0].id = 4711;
	take(t, false);
	unwinder_walk(t->u, &t->in, frames, &r);
	s->frames[0].id = id;
	return r.class == UNWIND_COMPLETE && frames[r.num_frames - 1] == 4711;
}

static void test_is_used(void)
{
	static struct thread t;

	setup(&t);
	for (unsigned int i = 1; i < 20; i++)
		call(&t, i);
	/* The first walk asks for rules, and so does not go from plain frame to plain frame. */
	compare(&t, false);
	CHECK(!only_known(&t));
	compare(&t, false);
	CHECK(only_known(&t)->num == KNOWN_NEW && is_used(&t));
	/* It becomes longer with each walk that comes to it. */
	compare(&t, false);
	CHECK(only_known(&t)->num == 19);
	/* Another function was called than before. */
	t.depth = 10;
	call(&t, 3);
	CHECK(is_used(&t));
	/* Not another program's, nor by rules or mappings that were. */
	t.program.space.version++;
	CHECK(!is_used(&t));
	t.program.space.version--;
	CHECK(is_used(&t));
	t.u->frames.version++;
	CHECK(!is_used(&t));
	t.u->frames.version--;
	t.program.space.id += KNOWN_SETS;
	CHECK(!known_find(&t.u->known, &t.u->frames, &t.program.space, t.regs[7]));
	t.program.space.id -= KNOWN_SETS;
	/* Nor of a stack further down, or far up. */
	CHECK(known_find(&t.u->known, &t.u->frames, &t.program.space, t.regs[7]));
	CHECK(!known_find(&t.u->known, &t.u->frames, &t.program.space, stack_addr(WORDS)));
	CHECK(!known_find(&t.u->known, &t.u->frames, &t.program.space, t.regs[7] - (16 << 20)));
	teardown(&t);
}

/* Every word that matters is looked at. */
static void test_words(void)
{
	static struct thread t;
	size_t counted;
	const struct known_stack *s;

	setup(&t);
	for (unsigned int i = 1; i < 30; i++)
		call(&t, i);
	for (unsigned int i = 0; i < 6; i++)
		compare(&t, false);
	s = only_known(&t);
	CHECK(s->num == 29);
	take(&t, false);
	counted = t.in.stack_bytes;
	CHECK(known_outer(s, t.copy, counted, t.regs[7], ~0ull) == 29);
	for (unsigned int i = 0; i < s->num; i++) {
		uint64_t *ra = (uint64_t *)(t.copy + (s->frames[i].ra_at - t.regs[7])), old = *ra;

		*ra += 8;
		CHECK(known_outer(s, t.copy, counted, t.regs[7], ~0ull) == i);
		*ra = old;
		if (!s->frames[i].fp_at)
			continue;
		CHECK(s->frames[i].needs_fp);
		ra = (uint64_t *)(t.copy + (s->frames[i].fp_at - t.regs[7]));
		old = *ra;
		*ra += 16;
		CHECK(known_outer(s, t.copy, counted, t.regs[7], ~0ull) == i);
		*ra = old;
	}
	/* Only what is in the copy. */
	CHECK(known_outer(s, t.copy, s->frames[0].sp - t.regs[7] - 1, t.regs[7], ~0ull) == 0);
	CHECK(known_outer(s, t.copy + 8, counted - 8, s->frames[20].ra_at + 8, ~0ull) <= 20);
	/* Nor what was read nowhere. */
	((struct known_frame *)s->frames)[0].ra_at = 0;
	compare(&t, false);
	teardown(&t);
}

/* A thread that calls and returns at random, whose stack is now and then damaged. */
static void test_random(void)
{
	static struct thread t;

	setup(&t);
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int returns = pick(&t, 12), calls = pick(&t, 12);
		size_t damaged = 0;
		uint64_t old = 0;

		t.depth = t.depth > returns ? t.depth - returns : 1;
		while (calls-- && t.depth < MAX_DEPTH)
			call(&t, 1 + pick(&t, FUNCTIONS - 1));
		if (t.depth == 1)
			continue;
		if (pick(&t, 8) == 0) {
			damaged = t.frames[t.depth - 1].sp + pick(&t, 64);
			damaged = damaged < WORDS ? damaged : WORDS - 1;
			old = t.stack[damaged];
			t.stack[damaged] = pick(&t, 2) ? old + 8 : t.frames[pick(&t, (unsigned int)t.depth)].pc;
		}
		t.u->max_frames = pick(&t, 8) ? 1024 : 1 + pick(&t, 40);
		compare(&t, pick(&t, 4) == 0);
		if (damaged)
			t.stack[damaged] = old;
	}
	CHECK(is_used(&t));
	teardown(&t);
}

int main(void)
{
	test_is_used();
	test_words();
	test_random();
	return check_done();
}
