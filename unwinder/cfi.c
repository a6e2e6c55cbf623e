/* From rows to our rules: plain ones are read at once, all others by libdw. */
#include "symbols/elf_cfi.h"
#include "unwinder/unwinder_priv.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

enum { MAX_OPS = 256 }; /* of all expressions of a row together; glibc's signal frame has 36 */

/* Copies operations into the record; false when there are too many or memory is out. */
static bool take_ops(struct rule_ext *ext, const Dwarf_Op *ops, size_t num, struct rule_where *ret)
{
	struct rule_op *grown;

	if (!num || num > MAX_OPS - ext->num_ops || num > UINT8_MAX)
		return false;
	grown = realloc(ext->ops, (ext->num_ops + num) * sizeof(*grown));
	if (!grown)
		return false;
	ext->ops = grown;
	for (size_t i = 0; i < num; i++) {
		grown[ext->num_ops + i] = (struct rule_op){
			.atom = ops[i].atom,
			.number = ops[i].number,
			.number2 = ops[i].number2,
			.offset = ops[i].offset,
		};
	}
	ret->first_op = ext->num_ops;
	ret->num_ops = (uint8_t)num;
	ext->num_ops += (uint32_t)num;
	return true;
}

/* REG + OFFSET in either spelling. */
static bool is_breg(const Dwarf_Op *op, uint64_t *reg, int64_t *offset)
{
	if (op->atom == DW_OP_bregx) {
		*reg = op->number;
		*offset = (int64_t)op->number2;
		return true;
	}
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
		*reg = op->atom - DW_OP_breg0;
		*offset = (int64_t)op->number;
		return true;
	}
	return false;
}

static bool cfa_from_row(const struct arch *arch, Dwarf_Frame *frame, struct rule_ext *ext)
{
	Dwarf_Op *ops;
	size_t num;
	uint64_t reg;
	int64_t offset;

	if (dwarf_frame_cfa(frame, &ops, &num) != 0 || !num)
		return false;
	if (num == 1 && is_breg(&ops[0], &reg, &offset)) {
		if (reg >= arch->num_regs)
			return false;
		ext->cfa.how = HOW_REGISTER;
		ext->cfa.value = offset;
		ext->cfa_reg = (uint8_t)reg;
		return true;
	}
	ext->cfa.how = HOW_EXPR;
	return take_ops(ext, ops, num, &ext->cfa);
}

/* "In register N", as DW_CFA_register says. */
static bool is_reg(const struct arch *arch, const Dwarf_Op *ops, size_t num, struct rule_where *ret)
{
	uint64_t reg;

	if (num != 1)
		return false;
	if (ops[0].atom == DW_OP_regx)
		reg = ops[0].number;
	else if (ops[0].atom >= DW_OP_reg0 && ops[0].atom <= DW_OP_reg31)
		reg = ops[0].atom - DW_OP_reg0;
	else
		return false;
	ret->how = reg < arch->num_regs ? HOW_REGISTER : HOW_UNDEFINED;
	ret->value = (int64_t)reg;
	return true;
}

/* CFA, or CFA + constant. */
static bool is_cfa_plus(const Dwarf_Op *ops, size_t num, int64_t *ret)
{
	if (!num || num > 2 || ops[0].atom != DW_OP_call_frame_cfa)
		return false;
	if (num == 2 && ops[1].atom != DW_OP_plus_uconst)
		return false;
	*ret = num == 2 ? (int64_t)ops[1].number : 0;
	return true;
}

static bool where_from_row(const struct arch *arch, Dwarf_Frame *frame, int reg,
			   struct rule_ext *ext, struct rule_where *ret)
{
	Dwarf_Op mem[3];
	Dwarf_Op *ops;
	size_t num;
	bool is_value;

	if (dwarf_frame_register(frame, reg, mem, &ops, &num) != 0)
		return false;
	if (!num) {
		/* libdw: no operations in our memory mean undefined, no memory means unchanged. */
		ret->how = ops == mem ? HOW_UNDEFINED : HOW_SAME;
		if (reg < arch->num_regs && (arch->libdw_forgets >> reg & 1))
			ret->how = HOW_SAME;
		return true;
	}
	if (is_reg(arch, ops, num, ret))
		return true;
	is_value = ops[num - 1].atom == DW_OP_stack_value;
	num -= is_value;
	if (is_cfa_plus(ops, num, &ret->value)) {
		ret->how = is_value ? HOW_CFA_PLUS : HOW_AT_CFA;
		return true;
	}
	ret->how = is_value ? HOW_EXPR : HOW_AT_EXPR;
	return take_ops(ext, ops, num, ret);
}

/* The whole row. `column` is where it keeps the return address. */
static bool ext_from_row(const struct arch *arch, Dwarf_Frame *frame, int column,
			 struct rule_ext *ext)
{
	struct rule_where *ra = &ext->reg[arch->ra];

	if (!cfa_from_row(arch, frame, ext))
		return false;
	for (int reg = 0; reg < arch->num_regs; reg++) {
		if (!where_from_row(arch, frame, reg, ext, &ext->reg[reg]))
			return false;
	}
	if (column == arch->ra)
		return true;
	/* An unusual column: what it says is what the usual one means to us. */
	if (!where_from_row(arch, frame, column, ext, ra))
		return false;
	if (ra->how == HOW_SAME) {
		ra->how = column < arch->num_regs ? HOW_REGISTER : HOW_UNDEFINED;
		ra->value = column;
	}
	return true;
}

static bool slot_from_where(const struct rule_where *w, uint8_t *ret)
{
	switch ((enum rule_how)w->how) {
	case HOW_SAME:
		*ret = SLOT_SAME;
		return true;
	case HOW_UNDEFINED:
		*ret = SLOT_UNDEFINED;
		return true;
	case HOW_AT_CFA:
		if (w->value >= 0 || w->value % 8 || w->value < -8 * (int64_t)SLOT_MAX)
			return false;
		*ret = (uint8_t)(-w->value / 8);
		return true;
	case HOW_CFA_PLUS:
	case HOW_REGISTER:
	case HOW_AT_EXPR:
	case HOW_EXPR:
		return false;
	}
	return false;
}

static bool is_tracked(const struct arch *arch, int reg)
{
	for (size_t i = 0; i < arch->num_tracked; i++) {
		if (arch->tracked[i] == reg)
			return true;
	}
	return false;
}

/* True when nothing is said about the register that a 16-byte rule would lose. */
static bool is_plain(const struct arch *arch, int reg, const struct rule_where *w)
{
	if (reg == arch->sp && w->how == HOW_CFA_PLUS)
		return w->value == 0;
	return w->how == HOW_SAME || w->how == HOW_UNDEFINED || is_tracked(arch, reg);
}

static bool rule_from_ext(const struct arch *arch, const struct rule_ext *ext, struct rule *ret)
{
	struct rule rule = { .kind = RULE_CFA, .flags = ext->signal ? RULE_SIGNAL : 0 };

	if (ext->cfa.how != HOW_REGISTER || ext->cfa.value % 8 || ext->cfa.value / 8 > INT16_MAX ||
	    ext->cfa.value / 8 < INT16_MIN)
		return false;
	rule.cfa_reg = ext->cfa_reg;
	rule.cfa_off8 = (int16_t)(ext->cfa.value / 8);
	for (int reg = 0; reg < arch->num_regs; reg++) {
		if (!is_plain(arch, reg, &ext->reg[reg]))
			return false;
	}
	for (size_t i = 0; i < arch->num_tracked; i++) {
		if (!slot_from_where(&ext->reg[arch->tracked[i]], &rule.slot[i]))
			return false;
	}
	*ret = rule;
	return true;
}

/* The row at vaddr; NULL when libdw finds fault with it. */
static Dwarf_Frame *row_at(Dwarf_CFI *cfi, uint64_t vaddr, uint64_t *start, uint64_t *end,
			   bool *signal, int *column)
{
	Dwarf_Frame *frame;
	Dwarf_Addr from, to;

	if (dwarf_cfi_addrframe(cfi, vaddr, &frame) != 0)
		return NULL;
	*column = dwarf_frame_info(frame, &from, &to, signal);
	if (*column < 0 || vaddr < from || vaddr >= to) {
		free(frame);
		return NULL;
	}
	*start = from;
	*end = to;
	return frame;
}

static struct rule rule_from_row(const struct arch *arch, Dwarf_Frame *frame, int column,
				 struct rule_ext *ext)
{
	struct rule rule = { .kind = RULE_BAD, .ext = REASON_BAD_CFI };

	if (!ext_from_row(arch, frame, column, ext)) {
		rule_ext_deinit(ext);
		return rule;
	}
	if (ext->reg[arch->ra].how == HOW_UNDEFINED) {
		rule_ext_deinit(ext);
		return (struct rule){ .kind = RULE_END };
	}
	if (rule_from_ext(arch, ext, &rule)) {
		rule_ext_deinit(ext);
		return rule;
	}
	return (struct rule){ .kind = RULE_EXT, .flags = ext->signal ? RULE_SIGNAL : 0 };
}

/*
 * Go's own table in place of CFI. Frame pointers alone would lose the caller of every function without a
 * frame, and assembly uses rbp for other things. A function with a frame keeps its caller's frame pointer
 * in the word below the return address (golang cmd/internal/obj/x86/obj6.go). Go saves no other register.
 */
static void save_go_registers(const struct arch *arch, int32_t words, struct rule *rule)
{
	if (words)
		rule->slot[1] = 2; /* arch->fp */
	for (size_t i = 2; i < arch->num_tracked; i++)
		rule->slot[i] = SLOT_UNDEFINED;
}

/* Code whose frame is told by its stack pointer; else the frame pointer must do. */
static struct rule rule_without_cfi(const struct arch *arch, struct elf_file *f, uint64_t vaddr,
				    uint64_t *start, uint64_t *end)
{
	struct rule rule = { .kind = RULE_CFA, .cfa_reg = arch->sp };
	struct elf_sp_frame frame;
	bool go;

	if (!arch->call_pushes_ra)
		return (struct rule){ .kind = RULE_FP };
	go = elf_go_frame(f, vaddr, &frame);
	if ((!go && !elf_init_frame(f, vaddr, &frame)) || frame.sp_below % 8 ||
	    frame.sp_below / 8 >= INT16_MAX)
		return (struct rule){ .kind = RULE_FP };
	rule.cfa_off8 = (int16_t)(frame.sp_below / 8 + 1);
	rule.slot[0] = 1; /* arch->ra */
	if (go)
		save_go_registers(arch, frame.sp_below / 8, &rule);
	*start = frame.start;
	*end = frame.end;
	return rule;
}

/* False when a 16-byte rule cannot say it. */
static bool rule_from_plain(const struct arch *arch, const struct elf_plain_row *row, struct rule *ret)
{
	struct rule rule = { .kind = RULE_CFA, .flags = row->signal ? RULE_SIGNAL : 0,
			     .cfa_reg = row->cfa_reg, .cfa_off8 = (int16_t)(row->cfa_off / 8) };
	uint32_t others = row->saved;

	if (row->ra != arch->ra || row->cfa_reg >= arch->num_regs)
		return false;
	for (size_t i = 0; i < arch->num_tracked; i++) {
		const uint8_t reg = arch->tracked[i];
		const int at = row->at[reg];

		others &= ~(1u << reg);
		if (row->undefined >> reg & 1)
			rule.slot[i] = SLOT_UNDEFINED;
		if (!(row->saved >> reg & 1))
			continue;
		if (at >= 0 || at % 8 || at < -8 * SLOT_MAX)
			return false;
		rule.slot[i] = (uint8_t)(-at / 8);
	}
	if (others)
		return false;
	if (row->undefined >> arch->ra & 1)
		rule = (struct rule){ .kind = RULE_END };
	else if (rule.slot[0] == SLOT_SAME || row->cfa_off % 8 || rule.cfa_off8 != row->cfa_off / 8)
		return false;
	*ret = rule;
	return true;
}

bool rule_from_jit(const struct arch *arch, const struct jit_cfi *cfi, uint64_t addr, struct rule *ret)
{
	struct elf_plain_row plain;

	return arch == &arch_x86_64 && jit_cfi_plain_row(cfi, addr, &plain) && rule_from_plain(arch, &plain, ret);
}

struct rule rule_from_cfi(const struct arch *arch, struct elf_file *f, uint64_t vaddr,
			  uint64_t *start, uint64_t *end, struct rule_ext *ext)
{
	struct rule rule = { .kind = RULE_BAD, .ext = REASON_BAD_CFI };
	struct elf_plain_row plain;
	Dwarf_Frame *frame = NULL;
	Dwarf_CFI *cfi;
	int column;

	ext->ops = NULL;
	ext->num_ops = 0;
	*start = *end = 0;
	if (!elf_file_is_64(f) || elf_file_machine(f) != arch->elf_machine)
		return (struct rule){ .kind = RULE_FP };
	if (elf_file_plain_row(f, vaddr, &plain) && rule_from_plain(arch, &plain, &rule)) {
		*start = plain.start;
		*end = plain.end;
		return rule;
	}
	memset(ext, 0, sizeof(*ext));
	switch (elf_file_row(f, vaddr, &cfi)) {
	case ELF_ROW_NONE:
		return rule_without_cfi(arch, f, vaddr, start, end);
	case ELF_ROW_FINE:
		frame = row_at(cfi, vaddr, start, end, &ext->signal, &column);
		break;
	case ELF_ROW_BAD:
		break;
	}
	if (!frame)
		return rule;
	rule = rule_from_row(arch, frame, column, ext);
	free(frame);
	return rule;
}
