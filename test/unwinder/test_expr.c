/* The expression interpreter: operations, what it refuses, and its limits. */
#include "test/check.h"
#include "unwinder/unwinder_priv.h"

#include <dwarf.h>

static const uint64_t stack[4] = { 0x1122334455667788, 0xfffffffffffffff0, 42, 0 };

static struct regs regs = { .valid = 1u << 3 | 1u << 7,
			    .v = { [3] = 100, [7] = 0x7000 },
			    .pc = 0x40100b };

static struct expr_env env_for(bool has_cfa)
{
	return (struct expr_env){
		.arch = &arch_x86_64,
		.regs = &regs,
		.stack = (const uint8_t *)stack,
		.stack_bytes = sizeof(stack) - 4, /* the last word is cut */
		.stack_base = 0x7000,
		.cfa = 0x9000,
		.has_cfa = has_cfa,
	};
}

static enum expr_status last_status;
static struct expr_env last_env;

static uint64_t eval(const struct rule_op *ops, size_t num)
{
	uint64_t value = 0xdead;

	last_env = env_for(true);
	last_status = expr_eval(&last_env, ops, num, &value);
	return value;
}

#define OP_(atom, number, number2, offset, ...) \
	((struct rule_op){ (atom), (number), (number2), (offset) })
#define OP(...) OP_(__VA_ARGS__, 0, 0, 0, 0) /* atom, number, number2, offset */
#define EVAL(...)                                     \
	eval((const struct rule_op[]){ __VA_ARGS__ }, \
	     sizeof((struct rule_op[]){ __VA_ARGS__ }) / sizeof(struct rule_op))
#define LIT(n)             OP(DW_OP_lit0 + (n))
#define CONST(n)           OP(DW_OP_consts, (uint64_t)(n))
#define BINARY(a, b, atom) EVAL(CONST(a), CONST(b), OP(atom))

static void test_arithmetic(void)
{
	CHECK(BINARY(12, 10, DW_OP_and) == 8);
	CHECK(BINARY(12, 10, DW_OP_or) == 14);
	CHECK(BINARY(12, 10, DW_OP_xor) == 6);
	CHECK(BINARY(12, 10, DW_OP_plus) == 22);
	CHECK(BINARY(12, 10, DW_OP_minus) == 2);
	CHECK(BINARY(12, -10, DW_OP_mul) == (uint64_t)-120);
	CHECK(BINARY(-12, 5, DW_OP_div) == (uint64_t)-2);
	CHECK(BINARY(INT64_MIN, -1, DW_OP_div) == (uint64_t)INT64_MIN);
	CHECK(BINARY(12, 5, DW_OP_mod) == 2);
	CHECK(BINARY(1, 63, DW_OP_shl) == 1ull << 63);
	CHECK(BINARY(1, 64, DW_OP_shl) == 0);
	CHECK(BINARY(-1, 60, DW_OP_shr) == 15);
	CHECK(BINARY(-1, 64, DW_OP_shr) == 0);
	CHECK(BINARY(-16, 2, DW_OP_shra) == (uint64_t)-4);
	CHECK(BINARY(-16, 200, DW_OP_shra) == (uint64_t)-1);
	CHECK(BINARY(-1, 1, DW_OP_lt) == 1);
	CHECK(BINARY(-1, 1, DW_OP_gt) == 0);
	CHECK(BINARY(1, 1, DW_OP_le) == 1);
	CHECK(BINARY(1, 1, DW_OP_ge) == 1);
	CHECK(BINARY(1, 1, DW_OP_eq) == 1);
	CHECK(BINARY(1, 1, DW_OP_ne) == 0);
	CHECK(EVAL(CONST(-5), OP(DW_OP_abs)) == 5);
	CHECK(EVAL(CONST(5), OP(DW_OP_neg)) == (uint64_t)-5);
	CHECK(EVAL(CONST(0), OP(DW_OP_not)) == ~0ull);
	CHECK(EVAL(LIT(31), OP(DW_OP_plus_uconst, 100)) == 131);
	CHECK(last_status == EXPR_OK);
}

static void test_stack(void)
{
	CHECK(EVAL(LIT(1), LIT(2), OP(DW_OP_dup), OP(DW_OP_plus)) == 4);
	CHECK(EVAL(LIT(1), LIT(2), OP(DW_OP_drop)) == 1);
	CHECK(EVAL(LIT(1), LIT(2), OP(DW_OP_over)) == 1);
	CHECK(EVAL(LIT(7), LIT(1), LIT(2), OP(DW_OP_pick, 2)) == 7);
	CHECK(EVAL(LIT(1), LIT(2), OP(DW_OP_swap)) == 1);
	/* 1 2 3 -> 3 1 2: the top becomes the third (DWARF 5, 2.5.1.3). */
	CHECK(EVAL(LIT(1), LIT(2), LIT(3), OP(DW_OP_rot)) == 2);
	CHECK(EVAL(LIT(1), LIT(2), LIT(3), OP(DW_OP_rot), OP(DW_OP_drop)) == 1);
	CHECK(EVAL(LIT(1), LIT(2), LIT(3), OP(DW_OP_rot), OP(DW_OP_drop), OP(DW_OP_drop)) == 3);
	CHECK(EVAL(LIT(9), OP(DW_OP_nop)) == 9);
}

static void test_registers_and_memory(void)
{
	CHECK(EVAL(OP(DW_OP_breg3, (uint64_t)-1)) == 99);
	CHECK(EVAL(OP(DW_OP_bregx, 3, 5)) == 105);
	CHECK(EVAL(OP(DW_OP_breg16, 1)) == 0x40100c);
	EVAL(OP(DW_OP_breg5));
	CHECK(last_status == EXPR_UNKNOWN_REG);
	EVAL(OP(DW_OP_bregx, 1u << 30));
	CHECK(last_status == EXPR_UNKNOWN_REG);
	CHECK(EVAL(OP(DW_OP_call_frame_cfa), OP(DW_OP_plus_uconst, 8)) == 0x9008);
	CHECK(EVAL(OP(DW_OP_breg7, 16), OP(DW_OP_deref)) == 42);
	CHECK(EVAL(OP(DW_OP_breg7), OP(DW_OP_deref_size, 1)) == 0x88);
	CHECK(EVAL(OP(DW_OP_breg7), OP(DW_OP_deref_size, 4)) == 0x55667788);
	EVAL(OP(DW_OP_breg7), OP(DW_OP_deref_size, 3));
	CHECK(last_status == EXPR_BAD);
	EVAL(OP(DW_OP_breg7, 24), OP(DW_OP_deref));
	CHECK(last_status == EXPR_OUTSIDE && last_env.bad_addr == 0x7018);
	EVAL(OP(DW_OP_breg7, (uint64_t)-1), OP(DW_OP_deref));
	CHECK(last_status == EXPR_OUTSIDE && last_env.bad_addr == 0x6fff);
	EVAL(CONST(-4), OP(DW_OP_deref));
	CHECK(last_status == EXPR_OUTSIDE);
}

/* rsp + 8 + ((rip & 15) >= 11) * 8, as linkers write it for .plt. */
static void test_plt(void)
{
	static const struct rule_op ops[] = {
		{ DW_OP_breg7, 8, 0, 0 }, { DW_OP_breg16, 0, 0, 2 }, { DW_OP_lit15, 0, 0, 4 },
		{ DW_OP_and, 0, 0, 5 },   { DW_OP_lit11, 0, 0, 6 },  { DW_OP_ge, 0, 0, 7 },
		{ DW_OP_lit3, 0, 0, 8 },  { DW_OP_shl, 0, 0, 9 },    { DW_OP_plus, 0, 0, 10 },
	};

	regs.pc = 0x40100b;
	CHECK(eval(ops, 9) == 0x7010);
	regs.pc = 0x401006;
	CHECK(eval(ops, 9) == 0x7008);
	regs.pc = 0x40100b;
}

static void test_branches(void)
{
	/* 5 if 1, else 6: bra over "lit6, skip". */
	CHECK(EVAL(OP(DW_OP_lit1, 0, 0, 0), OP(DW_OP_bra, 4, 0, 1), OP(DW_OP_lit6, 0, 0, 4),
		   OP(DW_OP_skip, 1, 0, 5), OP(DW_OP_lit5, 0, 0, 8)) == 5);
	CHECK(EVAL(OP(DW_OP_lit0, 0, 0, 0), OP(DW_OP_bra, 4, 0, 1), OP(DW_OP_lit6, 0, 0, 4),
		   OP(DW_OP_skip, 1, 0, 5), OP(DW_OP_lit5, 0, 0, 8)) == 6);
	CHECK(last_status == EXPR_OK);
	/* Into the middle of an operation. */
	EVAL(OP(DW_OP_lit1, 0, 0, 0), OP(DW_OP_skip, 1, 0, 1), OP(DW_OP_const2u, 1, 0, 4),
	     OP(DW_OP_lit5, 0, 0, 7));
	CHECK(last_status == EXPR_BAD);
	/* For ever. */
	EVAL(OP(DW_OP_skip, (uint64_t)-3, 0, 0));
	CHECK(last_status == EXPR_BAD);
	/* A counted loop: from 20 down to 0. */
	CHECK(EVAL(OP(DW_OP_const1u, 20, 0, 0), OP(DW_OP_lit1, 0, 0, 2), OP(DW_OP_minus, 0, 0, 3),
		   OP(DW_OP_dup, 0, 0, 4), OP(DW_OP_bra, (uint64_t)-6, 0, 5)) == 0);
	CHECK(last_status == EXPR_OK);
}

static void test_refusals(void)
{
	struct rule_op many[65];
	struct expr_env env = env_for(false);
	uint64_t value;

	eval(NULL, 0);
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), OP(DW_OP_plus));
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), LIT(0), OP(DW_OP_div));
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), LIT(0), OP(DW_OP_mod));
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), OP(DW_OP_pick, 1));
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), OP(DW_OP_pick, ~0ull));
	CHECK(last_status == EXPR_BAD);
	EVAL(OP(DW_OP_reg3));
	CHECK(last_status == EXPR_BAD);
	EVAL(OP(DW_OP_addr, 1));
	CHECK(last_status == EXPR_BAD);
	EVAL(LIT(1), OP(DW_OP_drop));
	CHECK(last_status == EXPR_BAD);
	for (size_t i = 0; i < 65; i++)
		many[i] = LIT(1);
	eval(many, 64);
	CHECK(last_status == EXPR_OK);
	eval(many, 65);
	CHECK(last_status == EXPR_BAD);
	/* While the CFA is being computed there is none. */
	CHECK(expr_eval(&env, &OP(DW_OP_call_frame_cfa), 1, &value) == EXPR_BAD);
}

int main(void)
{
	test_arithmetic();
	test_stack();
	test_registers_and_memory();
	test_plt();
	test_branches();
	test_refusals();
	return check_done();
}
