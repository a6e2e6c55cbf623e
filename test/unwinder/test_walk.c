/* Walks over made-up programs and stacks: one rule of stepping each. */
#include "fixture.h"
#include "test/check.h"
#include "unwinder/unwinder_priv.h"

#include <string.h>

/* DWARF numbers of x86-64. */
enum { RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15, RIP };

static const struct arch *const x86 = &arch_x86_64;

/* Functions of the program, 0x100 bytes each. */
enum {
	PLAIN = TEXT,             /* CFA = rsp + 16 */
	FRAMED = TEXT + 0x100,    /* CFA = rbp + 16, rbp saved at CFA - 16 */
	ROOT = TEXT + 0x200,      /* return address undefined */
	EPILOGUE = TEXT + 0x300,  /* CFA = rsp + 8, rbx still said to be at CFA - 16 */
	DRAP = TEXT + 0x400,      /* CFA = *(rbp - 8), rbp at *rbp: a realigned stack */
	VFORK = TEXT + 0x500,     /* CFA = rsp, return address in rdi */
	SIGRETURN = TEXT + 0x600, /* everything in a context at rsp: {rbp, rbx, rsp, rip} */
	USES_RBX = TEXT + 0x700,  /* CFA = rbx + 16 */
	USES_RAX = TEXT + 0x800,  /* CFA = rax + 16 */
	BACKWARDS = TEXT + 0x900, /* CFA = rsp - 64 */
	SAVES_ALL = TEXT + 0xa00, /* CFA = rsp + 64, six registers saved */
	BAD_EXPR = TEXT + 0xb00,  /* CFA by an expression that never ends */
	BIG = TEXT + 0xc00,       /* CFA = rsp + 800 */
	LOSES_R12 = TEXT + 0xd00, /* CFA = rsp + 8, r12 undefined */
	USES_R12 = TEXT + 0xe00,  /* CFA = r12 + 16 */
	NO_CFI = TEXT + 0x2000,   /* none of this knows */
	END_OF_CFI = TEXT + 0x1000,
	LONE_ROOT = TEXT + 0x3000, /* return address undefined, nothing around it */
	LONE_PLAIN = TEXT + 0x3800, /* as PLAIN */
	TWO_EXITS = TEXT + 0xf00, /* CFA = rsp + 16 but for an exit at 0x20..0x30, where it is rsp + 8 */
};

static uint64_t at(uint64_t function, uint64_t offset)
{
	return LOADED_AT + function + offset;
}

/* Offset in the file (which equals the vaddr) of a caller's frame. */
static uint64_t caller_place(uint64_t function, uint64_t offset)
{
	return function + offset - 1;
}

static void x86_program(struct cfi_bytes *b)
{
	cfi_cie_x86(b, "");
	cfi_fde(b, PLAIN, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 16));
	cfi_fde(b, LONE_ROOT, 0x100, CFI_PROGRAM(DW_CFA_undefined, RIP));
	cfi_fde(b, LONE_PLAIN, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 16));
	cfi_fde(b, FRAMED, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, RBP, 16, DW_CFA_offset | RBP, 2));
	cfi_fde(b, ROOT, 0x100, CFI_PROGRAM(DW_CFA_undefined, RIP));
	cfi_fde(b, EPILOGUE, 0x100, CFI_PROGRAM(DW_CFA_offset | RBX, 2));
	cfi_fde(b, DRAP, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78, DW_OP_deref,
			    DW_CFA_expression, RBP, 2, DW_OP_breg6, 0));
	cfi_fde(b, VFORK, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 0, DW_CFA_register, RIP, RDI));
	cfi_fde(b, USES_RBX, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, RBX, 16));
	cfi_fde(b, USES_RAX, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, RAX, 16));
	cfi_fde(b, BACKWARDS, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset_sf, 8));
	cfi_fde(b, SAVES_ALL, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_offset, 64, DW_CFA_offset | RBP, 2, DW_CFA_offset | RBX,
			    3, DW_CFA_offset | R12, 4, DW_CFA_offset | R13, 5, DW_CFA_offset | R14,
			    6, DW_CFA_offset | R15, 7));
	cfi_fde(b, BAD_EXPR, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_expression, 3, DW_OP_skip, 0xfd, 0xff));
	cfi_fde(b, BIG, 0x100, CFI_PROGRAM(DW_CFA_def_cfa_offset, 0xa0, 6));
	cfi_fde(b, LOSES_R12, 0x100, CFI_PROGRAM(DW_CFA_undefined, R12));
	cfi_fde(b, USES_R12, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, R12, 16));
	cfi_fde(b, TWO_EXITS, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_offset, 16, DW_CFA_remember_state,
			    DW_CFA_advance_loc | 0x20, DW_CFA_def_cfa_offset, 8,
			    DW_CFA_advance_loc | 0x10, DW_CFA_restore_state));
	cfi_cie_x86(b, "zS");
	cfi_fde(b, SIGRETURN, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_expression, 3, DW_OP_breg7, 16,
			    DW_OP_deref, /* CFA = its rsp */
			    DW_CFA_expression, RBP, 2, DW_OP_breg7, 0, DW_CFA_expression, RBX, 2,
			    DW_OP_breg7, 8, DW_CFA_expression, RSP, 2, DW_OP_breg7, 16,
			    DW_CFA_expression, RIP, 2, DW_OP_breg7, 24));
}

struct test {
	struct program program;
	struct sample sample;
	struct unwinder *u;
};

static void setup(struct test *t, size_t words)
{
	static struct cfi_bytes cfi;

	memset(&cfi, 0, sizeof(cfi));
	x86_program(&cfi);
	program_init(&t->program, EM_X86_64, &cfi);
	sample_init(&t->sample, x86, &t->program, words);
	t->u = new_unwinder(x86, UNWIND_CFI);
}

static void again(struct test *t, size_t words)
{
	sample_init(&t->sample, x86, &t->program, words);
}

static void teardown(struct test *t)
{
	unwinder_free(t->u);
	program_deinit(&t->program);
}

/* Checks class, reason and the whole chain of places. */
#define EXPECT(t, want_class, want_reason, ...)                                                \
	do {                                                                                   \
		const uint64_t want_[] = { __VA_ARGS__ };                                      \
		const struct unwind_result *r_ = &(t)->sample.result;                          \
		sample_walk((t)->u, &(t)->sample);                                             \
		CHECK_MSG(r_->class == (want_class), "class %d", r_->class);                   \
		CHECK_MSG(r_->reason == (want_reason), "%s", unwind_reason_name(r_->reason));  \
		CHECK_MSG(r_->num_frames == sizeof(want_) / 8, "%zu frames", r_->num_frames);  \
		for (size_t i_ = 0; i_ < sizeof(want_) / 8; i_++)                              \
			CHECK_MSG(sample_place((t)->u, &(t)->sample, i_) == want_[i_],         \
				  "frame %zu is %llx", i_,                                     \
				  (unsigned long long)sample_place((t)->u, &(t)->sample, i_)); \
	} while (0)

static void test_plain(void)
{
	struct test t;
	struct unwind_counts counts;

	setup(&t, 16);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(PLAIN, 0x20);
	t.sample.stack[3] = at(ROOT, 0x30);
	/* The sampled place is exact, callers lie inside the call. */
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x30));
	counts = unwinder_counts(t.u);
	CHECK(counts.rule_misses == 3 && counts.rules_cached == 3 && counts.frames == 3);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x30));
	counts = unwinder_counts(t.u);
	CHECK(counts.rule_misses == 3 && counts.walks == 2);
	/* A call as the very last instruction: the return address is in the next function. */
	t.sample.stack[1] = at(FRAMED, 0);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, PLAIN + 0xff,
	       caller_place(ROOT, 0x30));
	/* Sampled in the root itself. */
	sample_pc(&t.sample, x86, at(ROOT, 0));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, ROOT);
	teardown(&t);
}

static void test_frame_pointer_rows(void)
{
	struct test t;

	setup(&t, 32);
	sample_pc(&t.sample, x86, at(FRAMED, 0x10));
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[4] = stack_addr(10);
	t.sample.stack[5] = at(FRAMED, 0x20);
	t.sample.stack[10] = 0;
	t.sample.stack[11] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, FRAMED + 0x10, caller_place(FRAMED, 0x20),
	       caller_place(ROOT, 0x30));
	teardown(&t);
}

/* Rows that need registers: only those that are known may be used. */
static void test_registers(void)
{
	struct test t;

	setup(&t, 64);
	/* rbx goes through a function that saves it and is used two frames up. */
	sample_pc(&t.sample, x86, at(SAVES_ALL, 0));
	sample_reg(&t.sample, x86, RBX, 0xbad);
	t.sample.stack[5] = stack_addr(20); /* rbx: CFA - 24 */
	t.sample.stack[7] = at(PLAIN, 0x20);
	t.sample.stack[9] = at(USES_RBX, 0x20);
	t.sample.stack[21] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, SAVES_ALL, caller_place(PLAIN, 0x20),
	       caller_place(USES_RBX, 0x20), caller_place(ROOT, 0x30));
	/* rax is known in the sampled frame only. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(USES_RAX, 4));
	sample_reg(&t.sample, x86, RAX, stack_addr(2));
	t.sample.stack[3] = at(USES_RAX, 0x20);
	EXPECT(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, USES_RAX + 4, caller_place(USES_RAX, 0x20));
	/* A helper that leaves rax alone: its value leads on where a return address proves it. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(EPILOGUE, 4));
	sample_reg(&t.sample, x86, RAX, stack_addr(8));
	t.sample.stack[0] = at(USES_RAX, 0x20);
	t.sample.stack[9] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, EPILOGUE + 4, caller_place(USES_RAX, 0x20),
	       caller_place(ROOT, 0x30));
	t.sample.stack[9] = 0x1234;
	EXPECT(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, EPILOGUE + 4, caller_place(USES_RAX, 0x20));
	/* r12 was lost on the way, or not. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(LOSES_R12, 4));
	sample_reg(&t.sample, x86, R12, stack_addr(20));
	t.sample.stack[0] = at(USES_R12, 0x20);
	t.sample.stack[21] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, LOSES_R12 + 4, caller_place(USES_R12, 0x20));
	sample_pc(&t.sample, x86, at(EPILOGUE, 4));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, EPILOGUE + 4, caller_place(USES_R12, 0x20),
	       caller_place(ROOT, 0x30));
	teardown(&t);
}

/* Rows on both sides of one that was asked for later. */
static void test_rows_between(void)
{
	struct test t;

	setup(&t, 16);
	sample_reg(&t.sample, x86, RBP, 1);
	t.sample.stack[0] = at(ROOT, 0x10);
	t.sample.stack[1] = at(ROOT, 0x20);
	for (int i = 0; i < 2; i++) {
		sample_pc(&t.sample, x86, at(TWO_EXITS, 0x40));
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, TWO_EXITS + 0x40, caller_place(ROOT, 0x20));
		sample_pc(&t.sample, x86, at(TWO_EXITS, 0x24));
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, TWO_EXITS + 0x24, caller_place(ROOT, 0x10));
		sample_pc(&t.sample, x86, at(TWO_EXITS, 0x2c));
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, TWO_EXITS + 0x2c, caller_place(ROOT, 0x10));
		sample_pc(&t.sample, x86, at(TWO_EXITS, 0x10));
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, TWO_EXITS + 0x10, caller_place(ROOT, 0x20));
		sample_pc(&t.sample, x86, at(TWO_EXITS, 0x80));
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, TWO_EXITS + 0x80, caller_place(ROOT, 0x20));
	}
	teardown(&t);
}

/* makecontext: the return address is the first byte of the function that ends the stack. */
static void test_handmade_stack(void)
{
	static const uint8_t call[] = { 0xe8, 1, 2, 3, 4 };
	static const uint8_t start_context[] = { 0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24 };
	struct test t;

	setup(&t, 16);
	sample_reg(&t.sample, x86, RBP, 1); /* no frame pointer, nor the end of a chain of them */
	/* The byte before lies in no function. */
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(LONE_ROOT, 0);
	for (int i = 0; i < 2; i++)
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, LONE_ROOT);
	/* What runs there is something else. */
	sample_pc(&t.sample, x86, at(LONE_ROOT, -1ull));
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, LONE_ROOT - 1);
	/* Not the end of a stack: a pointer that is no return address. */
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(LONE_PLAIN, 0);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, PLAIN + 0x10, LONE_PLAIN - 1);
	/* The byte before lies in another function, whose row it is. */
	t.sample.stack[1] = at(ROOT, 0);
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[5] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, ROOT - 1, caller_place(ROOT, 0x30));
	teardown(&t);
	/* Known by its code, as glibc's row does not say it. */
	setup(&t, 16);
	memcpy(&t.program.image[LONE_PLAIN], start_context, sizeof(start_context));
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(LONE_PLAIN, 0);
	for (int i = 0; i < 2; i++)
		EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, LONE_PLAIN);
	teardown(&t);
	/* A call is the last instruction of code without a row. */
	setup(&t, 16);
	sample_reg(&t.sample, x86, RBP, 1);
	memcpy(&t.program.image[LONE_ROOT - sizeof(call)], call, sizeof(call));
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(LONE_ROOT, 0);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, PLAIN + 0x10, LONE_ROOT - 1);
	teardown(&t);
}

static void test_ends_in_call(void)
{
	static const struct {
		uint8_t len, code[ARCH_CALL_BYTES];
		bool is_call;
	} codes[] = {
		{ 5, { 0xe8, 1, 2, 3, 4 }, true },             /* call rel32 */
		{ 2, { 0xff, 0xd0 }, true },                   /* call *%rax */
		{ 3, { 0x41, 0xff, 0xd4 }, true },             /* call *%r12 */
		{ 2, { 0xff, 0x13 }, true },                   /* call *(%rbx) */
		{ 6, { 0xff, 0x15, 1, 2, 3, 4 }, true },       /* call *x(%rip) */
		{ 3, { 0xff, 0x50, 0x18 }, true },             /* call *0x18(%rax) */
		{ 6, { 0xff, 0x90, 1, 2, 3, 4 }, true },       /* call *x(%rax) */
		{ 3, { 0xff, 0x14, 0xc3 }, true },             /* call *(%rbx,%rax,8) */
		{ 4, { 0xff, 0x54, 0x24, 0x08 }, true },       /* call *8(%rsp) */
		{ 7, { 0xff, 0x14, 0xc5, 1, 2, 3, 4 }, true }, /* call *x(,%rax,8) */
		{ 7, { 0xff, 0x94, 0x24, 1, 2, 3, 4 }, true }, /* call *x(%rsp) */
		{ 5, { 0xe9, 1, 2, 3, 4 }, false },            /* jmp rel32 */
		{ 2, { 0xff, 0xe0 }, false },                  /* jmp *%rax */
		{ 6, { 0xff, 0x35, 1, 2, 3, 4 }, false },      /* push x(%rip) */
		{ 1, { 0xc3 }, false },
	};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		uint8_t code[ARCH_CALL_BYTES];

		memset(code, 0x90, sizeof(code));
		memcpy(code + sizeof(code) - codes[i].len, codes[i].code, codes[i].len);
		CHECK_MSG(x86->ends_in_call(code) == codes[i].is_call, "%zu", i);
	}
}

/* Slots below the stack pointer: popped already in the sampled frame. */
static void test_epilogue(void)
{
	struct test t;

	setup(&t, 32);
	sample_pc(&t.sample, x86, at(EPILOGUE, 0x40));
	sample_reg(&t.sample, x86, RBX, stack_addr(10));
	t.sample.stack[0] = at(USES_RBX, 0x20);
	t.sample.stack[11] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, EPILOGUE + 0x40, caller_place(USES_RBX, 0x20),
	       caller_place(ROOT, 0x30));
	/* In a caller such a slot is the callee's: the register is not known. */
	again(&t, 32);
	sample_pc(&t.sample, x86, at(PLAIN, 0x40));
	sample_reg(&t.sample, x86, RBX, stack_addr(10));
	t.sample.stack[1] = at(EPILOGUE, 0x20);
	t.sample.stack[2] = at(USES_RBX, 0x20);
	t.sample.stack[11] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, PLAIN + 0x40, caller_place(EPILOGUE, 0x20),
	       caller_place(USES_RBX, 0x20));
	teardown(&t);
}

static void test_drap(void)
{
	struct test t;

	setup(&t, 64);
	sample_pc(&t.sample, x86, at(DRAP, 0x40));
	sample_reg(&t.sample, x86, RBP, stack_addr(8));
	t.sample.stack[7] = stack_addr(20); /* r10 as it was pushed: the CFA */
	t.sample.stack[8] = stack_addr(30); /* caller's rbp */
	t.sample.stack[19] = at(FRAMED, 0x20);
	t.sample.stack[31] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, DRAP + 0x40, caller_place(FRAMED, 0x20),
	       caller_place(ROOT, 0x30));
	CHECK(unwinder_counts(t.u).ext_records == 1);
	teardown(&t);
}

static void test_vfork(void)
{
	struct test t;

	setup(&t, 16);
	sample_pc(&t.sample, x86, at(VFORK, 4));
	sample_reg(&t.sample, x86, RDI, at(PLAIN, 0x20));
	t.sample.stack[1] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, VFORK + 4, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x30));
	/* In a caller rdi means nothing. */
	again(&t, 16);
	sample_pc(&t.sample, x86, at(PLAIN, 4));
	sample_reg(&t.sample, x86, RDI, at(PLAIN, 0x20));
	t.sample.stack[1] = at(VFORK, 0x20);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_PROGRESS, PLAIN + 4, caller_place(VFORK, 0x20));
	teardown(&t);
}

static void put_context(struct sample *s, size_t index, uint64_t rbp, uint64_t rbx, uint64_t rsp,
			uint64_t rip)
{
	s->stack[index] = rbp;
	s->stack[index + 1] = rbx;
	s->stack[index + 2] = rsp;
	s->stack[index + 3] = rip;
}

static void test_signal(void)
{
	struct test t;

	setup(&t, 64);
	/* A handler, the signal frame, and a function interrupted at its first instruction. */
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(SIGRETURN, 1);
	put_context(&t.sample, 2, stack_addr(40), stack_addr(30), stack_addr(20), at(EPILOGUE, 0));
	t.sample.stack[19] = stack_addr(24); /* rbx in the red zone: there it is to be read */
	t.sample.stack[20] = at(USES_RBX, 0x20);
	t.sample.stack[25] = at(FRAMED, 0x20);
	t.sample.stack[41] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, SIGRETURN + 1, EPILOGUE,
	       caller_place(USES_RBX, 0x20), caller_place(FRAMED, 0x20), caller_place(ROOT, 0x30));
	/* From the alternate stack down to the normal one, both in the copy: the CFA shrinks. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(BIG, 0x10));
	t.sample.stack_bytes = t.sample.in.stack_bytes = 8 * 200;
	t.sample.stack[99] = at(SIGRETURN, 1);
	put_context(&t.sample, 100, 0, 0, stack_addr(20), at(PLAIN, 0x80));
	t.sample.stack[21] = at(ROOT, 0x30);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, BIG + 0x10, SIGRETURN + 1,
	       PLAIN + 0x80, caller_place(ROOT, 0x30));
	teardown(&t);
}

static void test_altstack(void)
{
	struct test t;

	setup(&t, 64);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(SIGRETURN, 1);
	put_context(&t.sample, 2, 0, 0, STACK_AT + 0x7000000, at(PLAIN, 0x80));
	EXPECT(&t, UNWIND_BROKEN, REASON_ALTSTACK, PLAIN + 0x10, SIGRETURN + 1,
	       PLAIN + 0x80);
	/* Also when the copy was full, and when the other stack lies below. */
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_ALTSTACK, PLAIN + 0x10, SIGRETURN + 1,
	       PLAIN + 0x80);
	put_context(&t.sample, 2, 0, 0, STACK_AT - 0x7000000, at(PLAIN, 0x80));
	EXPECT(&t, UNWIND_BROKEN, REASON_ALTSTACK, PLAIN + 0x10, SIGRETURN + 1,
	       PLAIN + 0x80);
	put_context(&t.sample, 2, 0, 0, STACK_AT + 0x7000000, at(NO_CFI, 0x80));
	EXPECT(&t, UNWIND_BROKEN, REASON_ALTSTACK, PLAIN + 0x10, SIGRETURN + 1,
	       NO_CFI + 0x80);
	/* The same stack, of which the copy was just too short. */
	put_context(&t.sample, 2, 0, 0, stack_addr(70), at(PLAIN, 0x80));
	EXPECT(&t, UNWIND_TRUNCATED, REASON_NONE, PLAIN + 0x10, SIGRETURN + 1,
	       PLAIN + 0x80);
	teardown(&t);
}

static void test_ends(void)
{
	struct test t;
	struct unwind_input no_regs;

	setup(&t, 16);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(BIG, 0x20);
	EXPECT(&t, UNWIND_BROKEN, REASON_OUTSIDE, PLAIN + 0x10, caller_place(BIG, 0x20));
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_TRUNCATED, REASON_NONE, PLAIN + 0x10, caller_place(BIG, 0x20));
	/* The last word is cut. */
	t.sample.in.stack_bytes = 15;
	EXPECT(&t, UNWIND_TRUNCATED, REASON_NONE, PLAIN + 0x10);
	/* Absurdly far away is no cut. */
	again(&t, 16);
	t.sample.in.stack_full = true;
	sample_pc(&t.sample, x86, at(FRAMED, 0x10));
	sample_reg(&t.sample, x86, RBP, STACK_AT + (1ull << 40));
	EXPECT(&t, UNWIND_BROKEN, REASON_OUTSIDE, FRAMED + 0x10);
	sample_reg(&t.sample, x86, RBP, STACK_AT - 4096);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_PROGRESS, FRAMED + 0x10);
	/* A null return address: the end only where the stack ends. */
	again(&t, 1000);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_MAPPING, PLAIN + 0x10);
	t.sample.in.stack_bytes = 512 * 8;
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10);
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_MAPPING, PLAIN + 0x10);
	/* A return address to nowhere. */
	t.sample.stack[1] = 0x1234;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_MAPPING, PLAIN + 0x10);
	/* Backwards, and never anywhere. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(BACKWARDS, 0x10));
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_PROGRESS, BACKWARDS + 0x10);
	sample_pc(&t.sample, x86, at(BAD_EXPR, 0x10));
	EXPECT(&t, UNWIND_BROKEN, REASON_BAD_CFI, BAD_EXPR + 0x10);
	t.sample.in.compat = true;
	sample_walk(t.u, &t.sample);
	CHECK(t.sample.result.reason == REASON_COMPAT && !t.sample.result.num_frames);
	no_regs = (struct unwind_input){ .space = &t.program.space };
	unwinder_walk(t.u, &no_regs, t.sample.frames, &t.sample.result);
	CHECK(t.sample.result.class == UNWIND_BROKEN && t.sample.result.reason == REASON_NO_REGS);
	/* No stack bytes at all. */
	again(&t, 0);
	t.sample.in.stack = NULL;
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	EXPECT(&t, UNWIND_BROKEN, REASON_OUTSIDE, PLAIN + 0x10);
	teardown(&t);
}

static void test_too_deep(void)
{
	struct unwind_opts opts = { .arch = x86, .max_frames = 10 };
	struct test t;

	setup(&t, 64);
	unwinder_free(t.u);
	CHECK(unwinder_new(&opts, &t.u, NULL) == 0);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	for (size_t i = 1; i < 64; i += 2)
		t.sample.stack[i] = at(PLAIN, 0x20);
	sample_walk(t.u, &t.sample);
	CHECK(t.sample.result.num_frames == 10);
	CHECK(t.sample.result.class == UNWIND_BROKEN && t.sample.result.reason == REASON_TOO_DEEP);
	teardown(&t);
}

static void test_frame_pointers(void)
{
	const uint64_t jit = JIT_AT + 0x100;
	struct test t;

	setup(&t, 64);
	/* JIT code, code without CFI, then C. */
	sample_pc(&t.sample, x86, jit);
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[4] = stack_addr(10);
	t.sample.stack[5] = at(NO_CFI, 0x20);
	t.sample.stack[10] = stack_addr(20);
	t.sample.stack[11] = at(FRAMED, 0x20);
	t.sample.stack[21] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(NO_CFI, 0x20),
	       caller_place(FRAMED, 0x20), caller_place(ROOT, 0x20));
	CHECK(t.sample.result.num_jit == 1 && t.sample.result.num_unknown == 0);
	/* The registers of the frames below are lost in such code. */
	t.sample.stack[11] = at(USES_RBX, 0x20);
	sample_reg(&t.sample, x86, RBX, stack_addr(30));
	EXPECT(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, jit, caller_place(NO_CFI, 0x20),
	       caller_place(USES_RBX, 0x20));
	/* C that keeps something else in rbp called JIT code: fine when its own row does not
	 * need it. */
	t.sample.stack[10] = 0x1234567;
	t.sample.stack[11] = at(PLAIN, 0x20);
	t.sample.stack[13] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(NO_CFI, 0x20),
	       caller_place(PLAIN, 0x20), caller_place(ROOT, 0x20));
	/* But more code without CFI cannot follow such a thing. */
	t.sample.stack[11] = at(NO_CFI, 0x30);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, jit, caller_place(NO_CFI, 0x20));
	/* A return address in no code. */
	t.sample.stack[10] = stack_addr(20);
	t.sample.stack[11] = 0x4141414141414141;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, jit, caller_place(NO_CFI, 0x20));
	/* The end of the chain, at the end of the stack and elsewhere. */
	t.sample.stack[4] = 0;
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(NO_CFI, 0x20));
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, jit, caller_place(NO_CFI, 0x20));
	t.sample.stack[5] = JIT_AT + 0x200;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FP, jit, JIT_AT + 0x1ff);
	/* Beyond the copy. */
	t.sample.stack[4] = stack_addr(100);
	EXPECT(&t, UNWIND_TRUNCATED, REASON_NONE, jit, JIT_AT + 0x1ff);
	t.sample.in.stack_full = false;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FP, jit, JIT_AT + 0x1ff);
	teardown(&t);
}

static void test_no_frame_yet(void)
{
	const uint64_t jit = JIT_AT + 0x100;
	struct test t;

	setup(&t, 64);
	/* No usable frame pointer: the return address may be on top. */
	sample_pc(&t.sample, x86, jit);
	sample_reg(&t.sample, x86, RBP, STACK_AT - 64);
	t.sample.stack[0] = at(PLAIN, 0x20);
	t.sample.stack[2] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x20));
	/* It is not guessed where the frame pointer leads on. */
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[5] = at(ROOT, 0x40);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(ROOT, 0x40));
	/* Misaligned. */
	sample_reg(&t.sample, x86, RBP, stack_addr(4) + 1);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, jit, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x20));
	t.sample.stack[0] = 77;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FP, jit);
	/* Not for callers. */
	again(&t, 64);
	sample_pc(&t.sample, x86, at(PLAIN, 0));
	t.sample.stack[1] = jit;
	t.sample.stack[2] = at(ROOT, 0x20);
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FP, PLAIN, jit - 1);
	/* A call through a bad pointer. */
	again(&t, 64);
	sample_pc(&t.sample, x86, 0x10);
	t.sample.stack[0] = at(PLAIN, 0x20);
	t.sample.stack[2] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, 0x10, caller_place(PLAIN, 0x20),
	       caller_place(ROOT, 0x20));
	CHECK(t.sample.result.num_unknown == 1);
	CHECK(unwinder_frame(t.u, t.sample.frames[0]).where == FRAME_NOWHERE);
	t.sample.stack[0] = 5;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_MAPPING, 0x10);
	teardown(&t);
}

/* Code without call-frame information, sampled where its frame pointer is its caller's. */
static void test_told_by_code(void)
{
	static const uint8_t prologue[] = { 0x55, 0x48, 0x89, 0xe5 }, call[] = { 0xe8, 1, 2, 3, 4 };
	struct test t;

	setup(&t, 64);
	memcpy(&t.program.image[NO_CFI + 0x100], prologue, sizeof(prologue));
	t.program.image[NO_CFI + 0x140] = 0xc3;
	memcpy(&t.program.image[NO_CFI + 0x40 - sizeof(call)], call, sizeof(call));
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[0] = t.sample.stack[1] = at(NO_CFI, 0x40);
	t.sample.stack[4] = stack_addr(10);
	t.sample.stack[5] = at(ROOT, 0x20);
	/* push %rbp; behind it; ret */
	sample_pc(&t.sample, x86, at(NO_CFI, 0x100));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x100, caller_place(NO_CFI, 0x40), caller_place(ROOT, 0x20));
	t.sample.stack[0] = stack_addr(4);
	sample_pc(&t.sample, x86, at(NO_CFI, 0x101));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x101, caller_place(NO_CFI, 0x40), caller_place(ROOT, 0x20));
	t.sample.stack[0] = at(NO_CFI, 0x40);
	sample_pc(&t.sample, x86, at(NO_CFI, 0x140));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x140, caller_place(NO_CFI, 0x40), caller_place(ROOT, 0x20));
	/* It is read once. */
	t.program.image[NO_CFI + 0x140] = 0x90;
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x140, caller_place(NO_CFI, 0x40), caller_place(ROOT, 0x20));
	/* No call led there: a register that is saved later on. */
	t.sample.stack[0] = at(NO_CFI, 0x60);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x140, caller_place(ROOT, 0x20));
	/* Elsewhere the frame pointer is the function's own, but for the very instruction that was called. */
	t.sample.stack[0] = at(NO_CFI, 0x40);
	sample_pc(&t.sample, x86, at(NO_CFI, 0x180));
	memcpy(&t.program.image[NO_CFI + 0x40 - 4], &(uint32_t){ 0x180 - 0x40 }, 4);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x180, caller_place(NO_CFI, 0x40), caller_place(ROOT, 0x20));
	sample_pc(&t.sample, x86, at(NO_CFI, 0x120));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x120, caller_place(ROOT, 0x20));
	teardown(&t);
}

/* The caller goes on with a frame pointer below its stack, as V8's deoptimizer does. */
static void test_stale_frame_pointer(void)
{
	static const uint8_t call[] = { 0xe8, 1, 2, 3, 4 };
	struct test t;

	setup(&t, 64);
	memcpy(&t.program.image[NO_CFI + 0x40 - sizeof(call)], call, sizeof(call));
	sample_pc(&t.sample, x86, at(NO_CFI, 0x120));
	sample_reg(&t.sample, x86, RBP, stack_addr(4));
	t.sample.stack[4] = stack_addr(2);
	t.sample.stack[5] = at(NO_CFI, 0x40);
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, NO_CFI + 0x120, caller_place(NO_CFI, 0x40));
	/* No call left that. */
	t.sample.stack[5] = at(NO_CFI, 0x60);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_CFI, NO_CFI + 0x120);
	teardown(&t);
}

static void test_missing_file(void)
{
	struct test t;

	setup(&t, 16);
	t.program.file.kind = FILE_MISSING;
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10); /* rbp 0 in the last page */
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, PLAIN + 0x10);
	teardown(&t);
}

/* What a program is started with may be more than a page, and the kernel leaves up to 8 KiB above it. */
static void test_entry_stack(void)
{
	const uint64_t started[] = { 2, stack_addr(900), stack_addr(901), 0, stack_addr(902), stack_addr(903), 0,
				     3, LOADED_AT + 0x40, 6, 4096, 9, at(ROOT, 0), 0, 0 };
	enum { AT = 20, SP = 16, WORDS = sizeof(started) / sizeof(started[0]) };
	uint64_t *stack;
	struct test t;

	setup(&t, 1000);
	stack = t.sample.stack;
	t.program.file.kind = FILE_MISSING;
	sample_pc(&t.sample, x86, at(NO_CFI, 0x10));
	sample_reg(&t.sample, x86, RBP, stack_addr(SP - 2));
	stack[SP - 1] = at(NO_CFI, 0x40);
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
	memcpy(&stack[AT], started, sizeof(started));
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
	/* Everything has to be as it is: what is counted, where strings lie, which entries there are, that they end. */
	for (size_t i = 0; i < WORDS - 1; i++) {
		if (i == 8 || i == 10 || i == 12)
			continue; /* values */
		stack[AT + i] ^= 1ull << 40;
		EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
		stack[AT + i] = started[i];
	}
	stack[AT] = 1;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
	stack[AT] = 2;
	/* Not on a stack that goes on, nor far above the first frame. */
	t.sample.in.stack_full = true;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
	t.sample.in.stack_full = false;
	memset(&stack[AT], 0, sizeof(started));
	memcpy(&stack[SP + 16], started, sizeof(started));
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FILE, NO_CFI + 0x10, caller_place(NO_CFI, 0x40));
	/* Cut off in its middle. */
	memset(&stack[SP + 16], 0, sizeof(started));
	memcpy(&stack[AT], started, sizeof(started));
	t.sample.in.stack_bytes = (AT + WORDS - 2) * sizeof(uint64_t);
	for (size_t i = 0; i < 4; i++)
		stack[AT + 1 + i + (i > 1)] = stack_addr(AT + WORDS - 3);
	CHECK(!entry_stack_at((uint8_t *)stack, t.sample.in.stack_bytes, STACK_AT, stack_addr(SP)));
	CHECK(entry_stack_at((uint8_t *)stack, t.sample.in.stack_bytes + 16, STACK_AT, stack_addr(SP)));
	teardown(&t);
}

static void test_kernel_chain(void)
{
	const uint64_t chain[] = { at(PLAIN, 0x10), at(FRAMED, 0x20), at(ROOT, 0x30) };
	struct test t;

	setup(&t, 16);
	unwinder_free(t.u);
	t.u = new_unwinder(x86, UNWIND_FP);
	t.sample.in.chain = chain;
	t.sample.in.num_chain = 3;
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, caller_place(FRAMED, 0x20),
	       caller_place(ROOT, 0x30));
	t.sample.in.num_chain = 2;
	EXPECT(&t, UNWIND_BROKEN, REASON_NO_FP, PLAIN + 0x10, caller_place(FRAMED, 0x20));
	t.sample.in.num_chain = 0;
	sample_walk(t.u, &t.sample);
	CHECK(t.sample.result.class == UNWIND_BROKEN && t.sample.result.num_frames == 0);
	teardown(&t);
}

/* The same file in two processes, at different addresses: the same frames, one look at the CFI. */
static void test_shared(void)
{
	struct mapping other_map;
	struct map_run run;
	struct addrspace other = { .id = 2 };
	uint32_t frames[2];
	struct test t;

	setup(&t, 16);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(ROOT, 0x20);
	sample_walk(t.u, &t.sample);
	memcpy(frames, t.sample.frames, sizeof(frames));
	other_map = t.program.maps[0];
	other_map.start += 0x10000000;
	other_map.end += 0x10000000;
	other_map.bias += 0x10000000;
	other.maps = mappings_view(&run, &other_map, 1);
	t.sample.in.space = &other;
	sample_pc(&t.sample, x86, at(PLAIN, 0x10) + 0x10000000);
	t.sample.stack[1] += 0x10000000;
	sample_walk(t.u, &t.sample);
	CHECK(t.sample.result.class == UNWIND_COMPLETE && t.sample.result.num_frames == 2);
	CHECK(!memcmp(frames, t.sample.frames, sizeof(frames)));
	CHECK(unwinder_counts(t.u).rule_misses == 2);
	teardown(&t);
}

/* A file that a process maps twice, as V8 does with its own: frames are the same in both, their addresses are not. */
static void test_mapped_twice(void)
{
	const uint64_t again_at = 0x10000000;
	const uint64_t want[] = { at(PLAIN, 0x10) + again_at, at(PLAIN, 0x20) - 1, at(ROOT, 0x30) + again_at - 1 };
	struct mapping maps[2];
	struct map_run run;
	struct test t;

	setup(&t, 16);
	maps[0] = maps[1] = t.program.maps[0];
	maps[1].start += again_at;
	maps[1].end += again_at;
	maps[1].bias += again_at;
	t.program.space.maps = mappings_view(&run, maps, 2);
	sample_pc(&t.sample, x86, want[0]);
	t.sample.stack[1] = want[1] + 1;
	t.sample.stack[3] = want[2] + 1;
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, caller_place(PLAIN, 0x20), caller_place(ROOT, 0x30));
	for (size_t i = 0; i < 3; i++) {
		struct unwind_frame frame = unwinder_frame(t.u, t.sample.frames[i]);

		CHECK(unwinder_frame_addr(t.u, &t.program.space, i, &frame) == want[i]);
		frame.place += 2;
		CHECK(unwinder_frame_addr(t.u, &t.program.space, i, &frame) == 0);
	}
	teardown(&t);
}

static void test_debug_frame(void)
{
	struct cfi_bytes cfi = { .debug_frame = true };
	struct test t;

	x86_program(&cfi);
	program_init(&t.program, EM_X86_64, &cfi);
	sample_init(&t.sample, x86, &t.program, 16);
	t.u = new_unwinder(x86, UNWIND_CFI);
	sample_pc(&t.sample, x86, at(PLAIN, 0x10));
	t.sample.stack[1] = at(ROOT, 0x20);
	EXPECT(&t, UNWIND_COMPLETE, REASON_NONE, PLAIN + 0x10, caller_place(ROOT, 0x20));
	teardown(&t);
}

static void test_all(void)
{
	test_plain();
	test_frame_pointer_rows();
	test_registers();
	test_rows_between();
	test_handmade_stack();
	test_ends_in_call();
	test_epilogue();
	test_drap();
	test_vfork();
	test_signal();
	test_altstack();
	test_ends();
	test_too_deep();
	test_frame_pointers();
	test_no_frame_yet();
	test_told_by_code();
	test_stale_frame_pointer();
	test_missing_file();
	test_entry_stack();
	test_kernel_chain();
	test_shared();
	test_mapped_twice();
	test_debug_frame();
}

int main(void)
{
	test_all();
	walk_in_pieces();
	test_all();
	return check_done();
}
