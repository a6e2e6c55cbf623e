/* A made-up runtime that compiles, moves and frees its code, and givers of every kind. */
#include "fixture.h"
#include "base/vec.h"
#include "symbols/symbols.h"
#include "test/check.h"

#include <string.h>

static const struct arch *const x86 = &arch_x86_64;

enum { RBP = 6, RSP = 7, RIP = 16 };
enum { PLAIN = TEXT, ROOT = TEXT + 0x100, NO_CFI = TEXT + 0x2000 };

static void drop_code(struct unwinder *u, const struct addrspace *space, uint64_t start, uint64_t end)
{
	struct code_ranges ranges = { 0 };

	CHECK(vec_push(&ranges.v, ((struct code_range){ start, end })));
	unwinder_drop_ranges(u, space, &ranges, NULL, NULL);
	vec_deinit(&ranges.v);
}

/* One method of the runtime: frames of `words` words below the return address. */
struct method {
	uint64_t start, end;
	uint8_t words;
};

struct runtime {
	struct method method;
	enum give answer;
	enum give_life life;
	uint8_t reason;
	struct rule rule; /* instead of the method's, when its kind is set */
	struct regs step;
	bool step_activation;
	enum memory_answer memory_says;
	uint64_t memory_word;
	unsigned int asked;
	struct give_query last;
	struct unwinder *u;
	bool drops_when_asked; /* finds out that the code here is new */
};

static enum memory_answer read_memory(void *data, const struct addrspace *space, uint64_t addr,
				      void *buf, size_t len)
{
	struct runtime *r = data;

	if (r->memory_says == MEMORY_OK && len == 8)
		memcpy(buf, &r->memory_word, 8);
	return r->memory_says;
}

static enum give give(void *data, const struct give_query *query, struct give_answer *ret)
{
	struct runtime *r = data;
	uint64_t word;

	if (query->pc < r->method.start || query->pc >= r->method.end)
		return GIVE_PASS;
	r->asked++;
	r->last = *query;
	if (r->drops_when_asked) {
		r->drops_when_asked = false;
		drop_code(r->u, query->space, r->method.start, r->method.end);
	}
	if (query->memory->read(query->memory->data, query->space, 0x10, &word, 8) ==
	    MEMORY_NOT_NOW)
		return GIVE_LATER;
	ret->life = r->life;
	ret->reason = r->reason;
	ret->regs = r->step;
	ret->caller_activation = r->step_activation;
	ret->rule = r->rule;
	if (r->rule.kind == RULE_UNSET)
		ret->rule = (struct rule){
			.kind = RULE_CFA, .cfa_reg = RSP, .cfa_off8 = r->method.words, .slot = { 1 }
		};
	return r->answer;
}

struct test {
	struct program program;
	struct sample sample;
	struct runtime runtime;
	struct unwinder *u;
};

#define METHOD (JIT_AT + 0x1000)

static void setup(struct test *t)
{
	static struct cfi_bytes cfi;
	struct unwind_opts opts = { .arch = x86, .memory = { .read = read_memory, .data = &t->runtime } };
	struct unwind_giver giver = { .name = "made-up", .give = give, .data = &t->runtime };

	memset(t, 0, sizeof(*t));
	memset(&cfi, 0, sizeof(cfi));
	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, PLAIN, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 16));
	cfi_fde(&cfi, ROOT, 0x100, CFI_PROGRAM(DW_CFA_undefined, RIP));
	program_init(&t->program, EM_X86_64, &cfi);
	CHECK(unwinder_new(&opts, &t->u, NULL) == 0);
	CHECK(unwinder_add_giver(t->u, &giver, NULL) == 0);
	t->runtime = (struct runtime){ .method = { METHOD, METHOD + 0x100, 4 },
				       .answer = GIVE_RULE,
				       .life = GIVE_WITH_CODE,
				       .u = t->u };
	sample_init(&t->sample, x86, &t->program, 64);
	t->sample.in.stack_full = true;
	sample_pc(&t->sample, x86, METHOD + 0x10);
	t->sample.stack[3] = LOADED_AT + PLAIN + 0x20; /* with four words */
	t->sample.stack[5] = LOADED_AT + ROOT + 0x20;
}

static void teardown(struct test *t)
{
	unwinder_free(t->u);
	program_deinit(&t->program);
}

static void expect(struct test *t, enum unwind_class class, enum unwind_reason reason,
		   size_t frames)
{
	sample_walk(t->u, &t->sample);
	CHECK_MSG(t->sample.result.class == class, "class %d", t->sample.result.class);
	CHECK_MSG(t->sample.result.reason == reason, "%s",
		  unwind_reason_name(t->sample.result.reason));
	CHECK_MSG(t->sample.result.num_frames == frames, "%zu frames", t->sample.result.num_frames);
}

static void test_lives(void)
{
	struct test t;

	setup(&t);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.runtime.asked == 1);
	CHECK(t.runtime.last.pc == METHOD + 0x10 && t.runtime.last.activation &&
	      t.runtime.last.first);
	CHECK(t.runtime.last.mapping == &t.program.maps[1] &&
	      t.runtime.last.space == &t.program.space);
	CHECK(t.runtime.last.stack == t.sample.in.stack && t.runtime.last.stack_base == STACK_AT &&
	      t.runtime.last.stack_bytes == 64 * 8);
	teardown(&t);

	setup(&t);
	t.runtime.life = GIVE_ONCE;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.runtime.asked == 2);
	teardown(&t);

	/* Code in a file, as .NET's ready-to-run images: for all processes. */
	setup(&t);
	t.runtime.method = (struct method){ LOADED_AT + NO_CFI, LOADED_AT + NO_CFI + 0x100, 4 };
	t.runtime.life = GIVE_WITH_FILE;
	sample_pc(&t.sample, x86, LOADED_AT + NO_CFI + 4);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.runtime.asked == 1);
	/* A rule of one process is not remembered with the file. */
	t.runtime.life = GIVE_WITH_CODE;
	sample_pc(&t.sample, x86, LOADED_AT + NO_CFI + 5);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.runtime.asked == 3);
	teardown(&t);
}

static void test_code_moves(void)
{
	uint32_t first, second;
	struct test t;

	setup(&t);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	first = t.sample.frames[0];
	CHECK(t.sample.result.num_jit == 1);
	CHECK(unwinder_frame(t.u, first).where == FRAME_IN_JIT);
	CHECK(unwinder_frame(t.u, first).place == METHOD + 0x10 &&
	      unwinder_frame(t.u, first).owner == 1);
	/* Other code at the same address, with another frame: another id, another rule. */
	drop_code(t.u, &t.program.space, METHOD, METHOD + 0x100);
	t.runtime.method.words = 2;
	t.sample.stack[1] = LOADED_AT + ROOT + 0x20;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	second = t.sample.frames[0];
	CHECK(second != first && t.runtime.asked == 2);
	CHECK(unwinder_frame(t.u, first).place == METHOD + 0x10); /* still what old stacks mean */
	/* What lies beside it is not dropped. */
	drop_code(t.u, &t.program.space, METHOD + 0x11, METHOD + 0x100);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	CHECK(t.sample.frames[0] == second && t.runtime.asked == 2);
	/* Moved away: the old address is nobody's code, and there is no frame pointer. */
	drop_code(t.u, &t.program.space, METHOD, METHOD + 0x100);
	t.runtime.method.start += 0x1000;
	t.runtime.method.end += 0x1000;
	expect(&t, UNWIND_BROKEN, REASON_NO_FP, 1);
	sample_pc(&t.sample, x86, METHOD + 0x1010);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	/* It comes back: nobody's code is asked for every time. */
	t.runtime.method.start -= 0x1000;
	t.runtime.method.end -= 0x1000;
	sample_pc(&t.sample, x86, METHOD + 0x10);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	/* The giver itself finds out, in the middle of a walk. */
	drop_code(t.u, &t.program.space, METHOD, METHOD + 0x100);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	t.runtime.life = GIVE_ONCE;
	drop_code(t.u, &t.program.space, METHOD, METHOD + 0x100);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	first = t.sample.frames[0];
	t.runtime.drops_when_asked = true;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	second = t.sample.frames[0];
	CHECK(second != first);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	CHECK(t.sample.frames[0] == second);
	/* The generation ends: its ids serve the next. */
	unwinder_space_gone(t.u, &t.program.space);
	t.program.space.id = 2;
	second = unwinder_num_frames(t.u);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 2);
	CHECK(unwinder_num_frames(t.u) == second);
	CHECK(unwinder_frame(t.u, t.sample.frames[0]).owner == 2);
	teardown(&t);
}

static void test_steps(void)
{
	struct test t;

	setup(&t);
	t.runtime.answer = GIVE_STEP;
	t.runtime.step = (struct regs){ .valid = 1u << RSP, .pc = LOADED_AT + PLAIN + 0x20 };
	t.runtime.step.v[RSP] = stack_addr(10);
	t.sample.stack[11] = LOADED_AT + ROOT + 0x20;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(sample_place(t.u, &t.sample, 1) == PLAIN + 0x1f);
	/* A caller that was interrupted. */
	t.runtime.step_activation = true;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(sample_place(t.u, &t.sample, 1) == PLAIN + 0x20);
	t.runtime.step_activation = false;
	/* Steps are checked as rules are. */
	t.runtime.step.v[RSP] = STACK_AT - 8;
	expect(&t, UNWIND_BROKEN, REASON_NO_PROGRESS, 1);
	t.runtime.step.valid = 0;
	expect(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, 1);
	CHECK(t.runtime.asked == 4);
	teardown(&t);
}

static void test_refusals(void)
{
	struct test t;

	setup(&t);
	t.runtime.answer = GIVE_STOP;
	expect(&t, UNWIND_BROKEN, REASON_GIVER, 1);
	t.runtime.reason = REASON_UNKNOWN_REG;
	expect(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, 1);
	t.runtime.reason = 200;
	expect(&t, UNWIND_BROKEN, REASON_GIVER, 1);
	/* Not now: the sample goes without, the next one asks again. */
	t.runtime.answer = GIVE_RULE;
	t.runtime.memory_says = MEMORY_NOT_NOW;
	expect(&t, UNWIND_BROKEN, REASON_NOT_NOW, 1);
	t.runtime.memory_says = MEMORY_OK;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.runtime.asked == 5);
	teardown(&t);
	/* Rules that make no sense. */
	setup(&t);
	t.runtime.rule = (struct rule){ .kind = RULE_EXT, .ext = 77 };
	expect(&t, UNWIND_BROKEN, REASON_GIVER, 1);
	t.runtime.rule = (struct rule){ .kind = RULE_CFA, .cfa_reg = 99, .slot = { 1 } };
	expect(&t, UNWIND_BROKEN, REASON_GIVER, 1);
	t.runtime.rule = (struct rule){ .kind = RULE_BAD, .ext = REASON_NUM };
	expect(&t, UNWIND_BROKEN, REASON_GIVER, 1);
	t.runtime.rule = (struct rule){ .kind = RULE_BAD, .ext = REASON_NO_FP };
	expect(&t, UNWIND_BROKEN, REASON_NO_FP, 1);
	teardown(&t);
	setup(&t);
	t.runtime.rule = (struct rule){ .kind = RULE_ROOT };
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 1);
	teardown(&t);
	/* Passing: the frame pointer, and native code is never taken for unknown. */
	setup(&t);
	t.runtime.method.end = t.runtime.method.start;
	sample_reg(&t.sample, x86, RBP, stack_addr(8));
	t.sample.stack[9] = LOADED_AT + PLAIN + 0x20;
	t.sample.stack[11] = LOADED_AT + ROOT + 0x20;
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	teardown(&t);
}

static void test_all(void)
{
	test_lives();
	test_code_moves();
	test_steps();
	test_refusals();
}

int main(void)
{
	test_all();
	walk_in_pieces();
	test_all();
	return check_done();
}
