/*
 * DWARF expressions of call-frame information (DWARF 5, 2.5 and 6.4.2), on registers and the
 * copied stack. Code may loop there, so steps and stack are bounded.
 */
#include "unwinder/unwinder_priv.h"

#include <dwarf.h>

enum {
	EXPR_MAX_STACK = 64,
	EXPR_MAX_STEPS = 1024,
};

struct machine {
	struct expr_env *env;
	const struct rule_op *ops;
	size_t num_ops;
	size_t next; /* operation to run next */
	uint64_t stack[EXPR_MAX_STACK];
	size_t depth;
};

static enum expr_status push(struct machine *m, uint64_t value)
{
	if (m->depth == EXPR_MAX_STACK)
		return EXPR_BAD;
	m->stack[m->depth++] = value;
	return EXPR_OK;
}

/* The element `down` below the top, which must be there. */
static uint64_t *top(struct machine *m, size_t down)
{
	return &m->stack[m->depth - 1 - down];
}

static enum expr_status push_reg(struct machine *m, uint64_t reg, uint64_t add)
{
	const struct arch *arch = m->env->arch;

	/* Where a call pushes its return address, that column is the program counter itself. */
	if (reg == arch->ra && arch->call_pushes_ra)
		return push(m, m->env->regs->pc + add);
	if (reg >= arch->num_regs || !(m->env->regs->valid >> reg & 1))
		return EXPR_UNKNOWN_REG;
	return push(m, m->env->regs->v[reg] + add);
}

/* Reads `size` bytes (1, 2, 4, 8; host byte order, which is the target's) from the address on
 * top. */
static enum expr_status deref(struct machine *m, uint64_t size)
{
	struct expr_env *env = m->env;
	uint64_t at = *top(m, 0) - env->stack_base;
	uint64_t value = 0;

	if (size != 1 && size != 2 && size != 4 && size != 8)
		return EXPR_BAD;
	if (env->stack_bytes < size || at > env->stack_bytes - size) {
		env->bad_addr = *top(m, 0);
		return EXPR_OUTSIDE;
	}
	memcpy(&value, env->stack + at, size);
	*top(m, 0) = value;
	return EXPR_OK;
}

/* Operands in the order of the standard: `a` is the former second entry, `b` the former top. */
static bool binary(uint8_t atom, uint64_t a, uint64_t b, uint64_t *ret)
{
	switch (atom) {
	case DW_OP_and:
		*ret = a & b;
		return true;
	case DW_OP_div:
		if (!b)
			return false;
		/* The one signed quotient that does not fit wraps. */
		*ret = b == ~0ull ? 0 - a : (uint64_t)((int64_t)a / (int64_t)b);
		return true;
	case DW_OP_minus:
		*ret = a - b;
		return true;
	case DW_OP_mod:
		if (!b)
			return false;
		*ret = a % b;
		return true;
	case DW_OP_mul:
		*ret = a * b;
		return true;
	case DW_OP_or:
		*ret = a | b;
		return true;
	case DW_OP_plus:
		*ret = a + b;
		return true;
	case DW_OP_shl:
		*ret = b < 64 ? a << b : 0;
		return true;
	case DW_OP_shr:
		*ret = b < 64 ? a >> b : 0;
		return true;
	case DW_OP_shra:
		*ret = (uint64_t)((int64_t)a >> (b < 64 ? b : 63));
		return true;
	case DW_OP_xor:
		*ret = a ^ b;
		return true;
	case DW_OP_eq:
		*ret = a == b;
		return true;
	case DW_OP_ne:
		*ret = a != b;
		return true;
	case DW_OP_ge:
		*ret = (int64_t)a >= (int64_t)b;
		return true;
	case DW_OP_gt:
		*ret = (int64_t)a > (int64_t)b;
		return true;
	case DW_OP_le:
		*ret = (int64_t)a <= (int64_t)b;
		return true;
	case DW_OP_lt:
		*ret = (int64_t)a < (int64_t)b;
		return true;
	default:
		return false;
	}
}

/* A branch `delta` bytes from behind its own three. Only the start of an operation or the end is
 * a target. */
static enum expr_status jump(struct machine *m, const struct rule_op *op)
{
	uint64_t to = op->offset + 3 + (uint64_t)(int64_t)(int16_t)op->number;

	/* From the end: libdw gives its implicit first operation the offset of the real first
	 * one. */
	for (size_t i = m->num_ops; i-- > 0;) {
		if (m->ops[i].offset == to) {
			m->next = i;
			return EXPR_OK;
		}
	}
	if (to <= m->ops[m->num_ops - 1].offset)
		return EXPR_BAD;
	m->next = m->num_ops;
	return EXPR_OK;
}

/* Entries an operation takes off the stack, or needs to look at. */
static size_t operands(const struct rule_op *op)
{
	switch (op->atom) {
	case DW_OP_deref:
	case DW_OP_deref_size:
	case DW_OP_dup:
	case DW_OP_drop:
	case DW_OP_abs:
	case DW_OP_neg:
	case DW_OP_not:
	case DW_OP_plus_uconst:
	case DW_OP_bra:
		return 1;
	case DW_OP_over:
	case DW_OP_swap:
	case DW_OP_and:
	case DW_OP_div:
	case DW_OP_minus:
	case DW_OP_mod:
	case DW_OP_mul:
	case DW_OP_or:
	case DW_OP_plus:
	case DW_OP_shl:
	case DW_OP_shr:
	case DW_OP_shra:
	case DW_OP_xor:
	case DW_OP_eq:
	case DW_OP_ne:
	case DW_OP_ge:
	case DW_OP_gt:
	case DW_OP_le:
	case DW_OP_lt:
		return 2;
	case DW_OP_rot:
		return 3;
	case DW_OP_pick:
		return op->number < EXPR_MAX_STACK ? op->number + 1 : EXPR_MAX_STACK + 1;
	default:
		return 0;
	}
}

static void rotate(struct machine *m)
{
	uint64_t first = *top(m, 0);

	*top(m, 0) = *top(m, 1);
	*top(m, 1) = *top(m, 2);
	*top(m, 2) = first;
}

static enum expr_status run_binary(struct machine *m, const struct rule_op *op)
{
	uint64_t value;

	if (!binary(op->atom, *top(m, 1), *top(m, 0), &value))
		return EXPR_BAD;
	m->depth--;
	*top(m, 0) = value;
	return EXPR_OK;
}

static enum expr_status run(struct machine *m, const struct rule_op *op)
{
	uint64_t value;

	if (m->depth < operands(op))
		return EXPR_BAD;
	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31)
		return push(m, op->atom - DW_OP_lit0);
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31)
		return push_reg(m, op->atom - DW_OP_breg0, op->number);

	switch (op->atom) {
	case DW_OP_nop:
		return EXPR_OK;
	case DW_OP_call_frame_cfa:
		return m->env->has_cfa ? push(m, m->env->cfa) : EXPR_BAD;
	case DW_OP_bregx:
		return push_reg(m, op->number, op->number2);
	case DW_OP_const1u:
	case DW_OP_const1s:
	case DW_OP_const2u:
	case DW_OP_const2s:
	case DW_OP_const4u:
	case DW_OP_const4s:
	case DW_OP_const8u:
	case DW_OP_const8s:
	case DW_OP_constu:
	case DW_OP_consts:
		return push(m, op->number); /* libdw has extended the sign */
	case DW_OP_dup:
		return push(m, *top(m, 0));
	case DW_OP_over:
		return push(m, *top(m, 1));
	case DW_OP_pick:
		return push(m, *top(m, op->number));
	case DW_OP_drop:
		m->depth--;
		return EXPR_OK;
	case DW_OP_swap:
		value = *top(m, 0);
		*top(m, 0) = *top(m, 1);
		*top(m, 1) = value;
		return EXPR_OK;
	case DW_OP_rot:
		rotate(m);
		return EXPR_OK;
	case DW_OP_deref:
		return deref(m, sizeof(uint64_t));
	case DW_OP_deref_size:
		return deref(m, op->number);
	case DW_OP_abs:
		if ((int64_t)*top(m, 0) < 0)
			*top(m, 0) = 0 - *top(m, 0);
		return EXPR_OK;
	case DW_OP_neg:
		*top(m, 0) = 0 - *top(m, 0);
		return EXPR_OK;
	case DW_OP_not:
		*top(m, 0) = ~*top(m, 0);
		return EXPR_OK;
	case DW_OP_plus_uconst:
		*top(m, 0) += op->number;
		return EXPR_OK;
	case DW_OP_skip:
		return jump(m, op);
	case DW_OP_bra:
		value = *top(m, 0);
		m->depth--;
		return value ? jump(m, op) : EXPR_OK;
	default:
		return operands(op) == 2 ? run_binary(m, op) : EXPR_BAD;
	}
}

enum expr_status expr_eval(struct expr_env *env, const struct rule_op *ops, size_t num_ops,
			   uint64_t *ret)
{
	struct machine m;

	/* The stack is left as it is: nothing above `depth` is ever read. */
	m.env = env;
	m.ops = ops;
	m.num_ops = num_ops;
	m.next = 0;
	m.depth = 0;
	for (unsigned int steps = 0; m.next < num_ops; steps++) {
		const struct rule_op *op = &ops[m.next++];
		enum expr_status status;

		if (steps == EXPR_MAX_STEPS)
			return EXPR_BAD;
		status = run(&m, op);
		if (status != EXPR_OK)
			return status;
	}
	if (!m.depth)
		return EXPR_BAD;
	*ret = *top(&m, 0);
	return EXPR_OK;
}
