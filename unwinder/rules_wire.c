#include "unwinder/rules_wire.h"

#include "unwinder/unwinder_priv.h"

#include <stdlib.h>
#include <string.h>

/* ---- to bytes ---- */

static void put(uint8_t **pos, const void *value, size_t size)
{
	memcpy(*pos, value, size);
	*pos += size;
}

static void put_u8(uint8_t **pos, uint8_t value)
{
	put(pos, &value, sizeof(value));
}

static void put_u64(uint8_t **pos, uint64_t value)
{
	put(pos, &value, sizeof(value));
}

static void put_where(uint8_t **pos, const struct rule_where *w)
{
	put_u8(pos, w->how);
	put_u8(pos, w->num_ops);
	put(pos, &w->first_op, sizeof(w->first_op));
	put(pos, &w->value, sizeof(w->value));
}

static void put_ext(uint8_t **pos, const struct rule_ext *ext)
{
	const uint16_t num_ops = (uint16_t)ext->num_ops;

	put_u8(pos, ext->signal);
	put_u8(pos, ext->cfa_reg);
	put(pos, &num_ops, sizeof(num_ops));
	put_where(pos, &ext->cfa);
	for (size_t i = 0; i < ARCH_MAX_REGS; i++)
		put_where(pos, &ext->reg[i]);
	for (size_t i = 0; i < num_ops; i++) {
		put_u8(pos, ext->ops[i].atom);
		put_u64(pos, ext->ops[i].number);
		put_u64(pos, ext->ops[i].number2);
		put_u64(pos, ext->ops[i].offset);
	}
}

size_t rules_encode(const struct rules_answer *answer, uint8_t *to)
{
	uint8_t *pos = to;

	put_u64(&pos, answer->vaddr);
	put_u64(&pos, answer->start);
	put_u64(&pos, answer->end);
	put(&pos, &answer->rule, sizeof(answer->rule));
	if (answer->rule.kind == RULE_EXT)
		put_ext(&pos, &answer->ext);
	return (size_t)(pos - to);
}

/* ---- from bytes ---- */

static bool is_sane_where(const struct arch *arch, const struct rule_where *w, uint32_t num_ops)
{
	switch ((enum rule_how)w->how) {
	case HOW_SAME:
	case HOW_UNDEFINED:
	case HOW_AT_CFA:
	case HOW_CFA_PLUS:
		return true;
	case HOW_REGISTER:
		return w->value >= 0 && w->value < arch->num_regs;
	case HOW_AT_EXPR:
	case HOW_EXPR:
		return w->num_ops && w->first_op < num_ops && w->num_ops <= num_ops - w->first_op;
	}
	return false;
}

static struct rule_where read_where(struct reader *r)
{
	struct rule_where w;

	w.how = reader_u8(r);
	w.num_ops = reader_u8(r);
	w.first_op = reader_u32(r);
	w.value = (int64_t)reader_u64(r);
	return w;
}

static bool is_sane_cfa(const struct arch *arch, const struct rule_ext *ext)
{
	if (ext->cfa.how == HOW_REGISTER)
		return ext->cfa_reg < arch->num_regs; /* cfa.value is an offset */
	return ext->cfa.how == HOW_EXPR && is_sane_where(arch, &ext->cfa, ext->num_ops);
}

static bool read_ops(struct reader *r, struct rule_ext *ext)
{
	if (!ext->num_ops)
		return true;
	ext->ops = calloc(ext->num_ops, sizeof(*ext->ops));
	for (size_t i = 0; ext->ops && i < ext->num_ops; i++) {
		ext->ops[i].atom = reader_u8(r);
		ext->ops[i].number = reader_u64(r);
		ext->ops[i].number2 = reader_u64(r);
		ext->ops[i].offset = reader_u64(r);
	}
	return ext->ops;
}

static bool read_ext(const struct arch *arch, struct reader *r, struct rule_ext *ext)
{
	ext->signal = reader_u8(r) != 0;
	ext->cfa_reg = reader_u8(r);
	ext->num_ops = reader_u16(r);
	if (ext->num_ops > RULES_MAX_OPS)
		return false;
	ext->cfa = read_where(r);
	if (!is_sane_cfa(arch, ext))
		return false;
	for (size_t i = 0; i < ARCH_MAX_REGS; i++) {
		ext->reg[i] = read_where(r);
		if (!is_sane_where(arch, &ext->reg[i], ext->num_ops))
			return false;
	}
	if (read_ops(r, ext) && !r->failed)
		return true;
	rule_ext_deinit(ext);
	return false;
}

static bool are_sane_slots(const struct arch *arch, const struct rule *rule)
{
	if (rule->cfa_reg >= arch->num_regs)
		return false;
	for (size_t i = 0; i < ARCH_MAX_TRACKED; i++) {
		if (rule->slot[i] > SLOT_UNDEFINED || (i >= arch->num_tracked && rule->slot[i]))
			return false;
	}
	return true;
}

static bool is_sane_rule(const struct arch *arch, const struct rule *rule)
{
	if (rule->flags & ~RULE_SIGNAL)
		return false;
	switch ((enum rule_kind)rule->kind) {
	case RULE_CFA:
		return are_sane_slots(arch, rule);
	case RULE_BAD:
		return rule->ext > REASON_NONE && rule->ext < REASON_NUM;
	case RULE_EXT:
	case RULE_FP:
	case RULE_END:
		return true;
	case RULE_UNSET: /* these three are not the parser's to say */
	case RULE_ROOT:
	case RULE_NEXT:
		break;
	}
	return false;
}

bool rules_decode(const struct arch *arch, struct reader *r, struct rules_answer *ret)
{
	const void *rule;

	memset(ret, 0, sizeof(*ret));
	ret->vaddr = reader_u64(r);
	ret->start = reader_u64(r);
	ret->end = reader_u64(r);
	rule = reader_bytes(r, sizeof(ret->rule));
	if (!rule)
		return false;
	memcpy(&ret->rule, rule, sizeof(ret->rule));
	if (ret->end && (ret->vaddr < ret->start || ret->vaddr >= ret->end))
		return false;
	if (!is_sane_rule(arch, &ret->rule))
		return false;
	return ret->rule.kind != RULE_EXT || read_ext(arch, r, &ret->ext);
}
