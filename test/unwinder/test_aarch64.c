/* aarch64 on any host: its registers, rules and walks, from call-frame information written by
 * hand. */
#include "fixture.h"
#include "test/check.h"
#include "unwinder/unwinder_priv.h"

static const struct arch *const arm = &arch_aarch64;

enum { X19 = 19, X20 = 20, X28 = 28, FP = 29, LR = 30, SP = 31, NEGATE_RA_STATE = 0x2d };
enum {
	LEAF = TEXT,           /* nothing saved: return address in x30 */
	FRAMED = TEXT + 0x100, /* stp x29, x30, [sp, #-32]!; str x19, [sp, #16] */
	SIGNED = TEXT + 0x200, /* paciasp, then the same */
	ROOT = TEXT + 0x300,   /* return address undefined */
	SAVES = TEXT + 0x400,  /* x19..x28 and the frame record */
	NO_CFI = TEXT + 0x2000,
};

/* A return address with a pointer authentication code in its upper bits. */
#define SIGNED_RA(addr) ((addr) | 0x5a7b000000000000ull)

struct test {
	struct program program;
	struct sample sample;
	struct unwinder *u;
};

static uint64_t at(uint64_t function, uint64_t offset)
{
	return LOADED_AT + function + offset;
}

static void arm_cfi(struct cfi_bytes *b)
{
	cfi_cie(b, "", LR, CFI_PROGRAM(DW_CFA_def_cfa, SP, 0));
	cfi_fde(b, LEAF, 0x100, CFI_PROGRAM(DW_CFA_nop));
	cfi_fde(b, FRAMED, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_offset, 32, DW_CFA_offset | FP, 4, DW_CFA_offset | LR, 3,
			    DW_CFA_offset | X19, 2));
	cfi_fde(b, SIGNED, 0x100,
		CFI_PROGRAM(NEGATE_RA_STATE, DW_CFA_def_cfa_offset, 32, DW_CFA_offset | FP, 4,
			    DW_CFA_offset | LR, 3, DW_CFA_offset | X19, 2));
	cfi_fde(b, ROOT, 0x100, CFI_PROGRAM(DW_CFA_undefined, LR));
	cfi_fde(b, SAVES, 0x100,
		CFI_PROGRAM(DW_CFA_def_cfa_offset, 96, DW_CFA_offset | FP, 12, DW_CFA_offset | LR,
			    11, DW_CFA_offset | 19, 10, DW_CFA_offset | 20, 9, DW_CFA_offset | 21,
			    8, DW_CFA_offset | 22, 7, DW_CFA_offset | 23, 6, DW_CFA_offset | 24, 5,
			    DW_CFA_offset | 25, 4, DW_CFA_offset | 26, 3, DW_CFA_offset | 27, 2,
			    DW_CFA_offset | 28, 1));
}

static void setup(struct test *t)
{
	static struct cfi_bytes cfi;

	memset(&cfi, 0, sizeof(cfi));
	arm_cfi(&cfi);
	program_init(&t->program, EM_AARCH64, &cfi);
	sample_init(&t->sample, arm, &t->program, 64);
	t->u = new_unwinder(arm, UNWIND_CFI);
}

static void teardown(struct test *t)
{
	unwinder_free(t->u);
	program_deinit(&t->program);
}

/* The fast way takes the same. */
static void test_layout(const struct arch *arch, uint64_t mask, const uint64_t *values)
{
	struct arch_layout layout;
	struct regs want, got;

	arch_regs_from_perf(arch, mask, values, (size_t)__builtin_popcountll(mask), &want);
	arch_layout_init(&layout, arch, mask);
	arch_regs_take_main(&layout, arch, values, &got);
	CHECK(!(want.valid >> arch->sp & 1) || got.v[arch->sp] == want.v[arch->sp]);
	CHECK(!(want.valid >> arch->fp & 1) || got.v[arch->fp] == want.v[arch->fp]);
	arch_regs_take(&layout, values, &got);
	CHECK(got.valid == want.valid && got.pc == want.pc);
	for (unsigned int reg = 0; reg < ARCH_MAX_REGS; reg++)
		CHECK(!(want.valid >> reg & 1) || got.v[reg] == want.v[reg]);
}

static void test_registers(void)
{
	uint64_t values[33];
	struct regs regs;

	for (uint64_t i = 0; i < 33; i++)
		values[i] = 1000 + i;
	arch_regs_from_perf(arm, arm->perf_regs, values, 33, &regs);
	CHECK(regs.valid == 0xffffffff && regs.pc == 1032);
	CHECK(regs.v[0] == 1000 && regs.v[FP] == 1029 && regs.v[LR] == 1030 && regs.v[SP] == 1031);
	/* A smaller mask: values move together. */
	arch_regs_from_perf(arm, 1ull << 32 | 1ull << 29 | 1ull << 31, values, 3, &regs);
	CHECK(regs.valid == (1ull << FP | 1ull << SP));
	CHECK(regs.v[FP] == 1000 && regs.v[SP] == 1001 && regs.pc == 1002);
	/* More bits than values, and bits nobody knows. */
	arch_regs_from_perf(arm, ~0ull, values, 2, &regs);
	CHECK(regs.valid == 3 && regs.pc == 0);
	CHECK(arch_by_machine(EM_AARCH64) == arm && arch_by_machine(EM_X86_64) == &arch_x86_64);
	CHECK(!arch_by_machine(EM_386));

	arch_regs_from_perf(&arch_x86_64, arch_x86_64.perf_regs, values, 17, &regs);
	CHECK(regs.valid == 0xffff && regs.pc == 1008);
	/* perf: AX BX CX DX SI DI BP SP; DWARF: rax rdx rcx rbx rsi rdi rbp rsp. */
	CHECK(regs.v[0] == 1000 && regs.v[3] == 1001 && regs.v[2] == 1002 && regs.v[1] == 1003);
	CHECK(regs.v[4] == 1004 && regs.v[5] == 1005 && regs.v[6] == 1006 && regs.v[7] == 1007);
	CHECK(regs.v[8] == 1009 && regs.v[15] == 1016);

	test_layout(&arch_x86_64, arch_x86_64.perf_regs, values);
	test_layout(arm, arm->perf_regs, values);
	test_layout(arm, 1ull << 32 | 1ull << 29 | 1ull << 31, values);
	test_layout(arm, 1ull << 29, values);
	test_layout(arm, 0, values);
}

static struct rule rule_of(struct test *t, uint64_t vaddr)
{
	struct rule_ext ext;
	uint64_t start, end;
	struct rule rule = rule_from_cfi(arm, t->program.elf, vaddr, &start, &end, &ext);

	rule_ext_deinit(&ext);
	return rule;
}

static void test_rules(void)
{
	struct test t;
	struct rule rule;

	setup(&t);
	rule = rule_of(&t, LEAF + 4);
	CHECK(rule.kind == RULE_CFA && rule.cfa_reg == SP && rule.cfa_off8 == 0);
	for (size_t i = 0; i < arm->num_tracked; i++)
		CHECK_MSG(rule.slot[i] == SLOT_SAME, "%zu", i);
	rule = rule_of(&t, FRAMED + 4);
	CHECK(rule.kind == RULE_CFA && rule.cfa_off8 == 4);
	CHECK(rule.slot[0] == 3 && rule.slot[1] == 4 && rule.slot[2] == 2 &&
	      rule.slot[3] == SLOT_SAME);
	/* Signing the return address changes nothing we keep: it is masked wherever it is read. */
	CHECK(rule_of(&t, SIGNED + 4).kind == RULE_CFA && rule_of(&t, SIGNED + 4).slot[0] == 3);
	rule = rule_of(&t, SAVES + 4);
	CHECK(rule.kind == RULE_CFA && rule.cfa_off8 == 12);
	CHECK(rule.slot[0] == 11 && rule.slot[1] == 12);
	for (size_t i = 2; i < 12; i++)
		CHECK(rule.slot[i] == 12 - i);
	CHECK(rule_of(&t, ROOT + 4).kind == RULE_END);
	CHECK(rule_of(&t, NO_CFI).kind == RULE_FP);
	teardown(&t);
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

static void test_walk(void)
{
	struct test t;

	setup(&t);
	/* A leaf, its caller by x30 (signed), frames on the stack, the root. */
	sample_pc(&t.sample, arm, at(LEAF, 8));
	sample_reg(&t.sample, arm, LR, SIGNED_RA(at(SIGNED, 0x20)));
	t.sample.stack[1] = SIGNED_RA(at(FRAMED, 0x40));
	t.sample.stack[5] = at(ROOT, 0x10);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 4);
	CHECK(sample_place(t.u, &t.sample, 1) == SIGNED + 0x1f);
	CHECK(sample_place(t.u, &t.sample, 2) == FRAMED + 0x3f);
	CHECK(sample_place(t.u, &t.sample, 3) == ROOT + 0xf);
	/* In a caller the link register is gone: a row that needs it cannot be followed. */
	t.sample.stack[1] = at(LEAF, 0x40);
	expect(&t, UNWIND_BROKEN, REASON_NO_PROGRESS, 3);
	teardown(&t);
}

static void test_frame_records(void)
{
	struct test t;

	setup(&t);
	sample_pc(&t.sample, arm, JIT_AT + 8);
	sample_reg(&t.sample, arm, FP, stack_addr(4));
	t.sample.stack[4] = stack_addr(10);
	t.sample.stack[5] = SIGNED_RA(at(NO_CFI, 0x20));
	t.sample.stack[10] = 0;
	t.sample.stack[11] = at(ROOT, 0x10);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	CHECK(t.sample.result.num_jit == 1);
	/* A record need not end its frame, so nothing may count from the stack pointer behind
	 * it. */
	t.sample.stack[11] = at(FRAMED, 0x10);
	t.sample.stack[13] = at(ROOT, 0x10);
	expect(&t, UNWIND_BROKEN, REASON_UNKNOWN_REG, 3);
	/* No record yet: the link register. */
	sample_reg(&t.sample, arm, FP, 0);
	sample_reg(&t.sample, arm, LR, SIGNED_RA(at(FRAMED, 0x20)));
	t.sample.stack[1] = at(ROOT, 0x10);
	expect(&t, UNWIND_COMPLETE, REASON_NONE, 3);
	teardown(&t);
}

static void test_ends_in_call(void)
{
	static const struct {
		uint32_t insn;
		bool is_call;
	} codes[] = {
		{ 0x94000010, true },  /* bl */
		{ 0x97fffff0, true },  /* bl, backwards */
		{ 0xd63f0100, true },  /* blr x8 */
		{ 0xd63f0900, true },  /* blraaz x8 */
		{ 0xd73f0901, true },  /* blraa x8, x1 */
		{ 0x14000010, false }, /* b */
		{ 0xd61f0100, false }, /* br x8 */
		{ 0xd65f03c0, false }, /* ret */
		{ 0xd503201f, false }, /* nop */
	};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		uint8_t code[ARCH_CALL_BYTES] = { 0 };

		memcpy(code + sizeof(code) - 4, &codes[i].insn, 4);
		CHECK_MSG(arm->ends_in_call(code) == codes[i].is_call, "%zu", i);
	}
}

int main(void)
{
	test_ends_in_call();
	test_registers();
	test_rules();
	test_walk();
	test_frame_records();
	return check_done();
}
