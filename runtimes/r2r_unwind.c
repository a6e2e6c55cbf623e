/*
 * Windows' unwind codes, which .NET also uses elsewhere, to our rules. Microsoft, "x64 exception handling"; 11 is
 * UWOP_SET_FPREG_LARGE (dotnet/runtime src/coreclr/inc/win64unwind.h). They describe the prologue, so that each place
 * in it has its own rule; of epilogues they say nothing, and these are read from the code.
 */
#include "runtimes/r2r.h"

#include "base/reader.h"
#include "runtimes/r2r_priv.h"
#include "runtimes/x64_code.h"
#include "unwinder/arch.h"
#include "unwinder/rule.h"

#include <elf.h>

enum {
	OP_PUSH,
	OP_ALLOC_LARGE,
	OP_ALLOC_SMALL,
	OP_SET_FPREG,
	OP_SAVE,
	OP_SAVE_FAR,
	OP_SAVE_XMM = 8,
	OP_SAVE_XMM_FAR,
	OP_PUSH_MACHFRAME,
	OP_SET_FPREG_LARGE,
	FLAG_CHAINED = 4,
	MAX_CHAIN = 32,
	MAX_CODES = 255,
	INFO_BYTES = 4 + 2 * (MAX_CODES + 1) + 12, /* with the chained function behind */
};

/* What the codes that were executed add up to. */
struct frame {
	uint64_t depth;       /* bytes between the stack pointer and the return address */
	uint8_t cfa_reg;      /* DWARF number */
	uint64_t cfa_off;     /* CFA = cfa_reg + cfa_off; only where it is a frame register */
	uint64_t saved[16];   /* by Windows' numbers: bytes below the CFA; 0 = not saved */
	bool by_fp;
};

/* One code, its operands put together. */
struct code {
	uint8_t offset, op, info;
	uint64_t value;
};

struct info {
	uint8_t version, flags, prologue, num, fp_reg, fp_offset;
	uint8_t bytes[INFO_BYTES];
	size_t size;
};

static bool read_info(const struct r2r *r, uint32_t rva, struct info *ret)
{
	ret->size = pe_image_read_some(&r->pe, rva, ret->bytes, sizeof(ret->bytes));
	if (ret->size < 4)
		return false;
	ret->version = ret->bytes[0] & 7;
	ret->flags = ret->bytes[0] >> 3;
	ret->prologue = ret->bytes[1];
	ret->num = ret->bytes[2];
	ret->fp_reg = ret->bytes[3] & 15;
	ret->fp_offset = ret->bytes[3] >> 4;
	return ret->version == 1 && 4 + 2 * (size_t)ret->num <= ret->size;
}

/* Slots of two bytes that a code takes; 0 = unknown. */
static unsigned int code_slots(uint8_t op, uint8_t info)
{
	switch (op) {
	case OP_PUSH:
	case OP_ALLOC_SMALL:
	case OP_SET_FPREG:
	case OP_PUSH_MACHFRAME:
		return 1;
	case OP_ALLOC_LARGE:
		return info ? 3 : 2;
	case OP_SAVE:
	case OP_SAVE_XMM:
		return 2;
	case OP_SAVE_FAR:
	case OP_SAVE_XMM_FAR:
	case OP_SET_FPREG_LARGE:
		return 3;
	default:
		return 0;
	}
}

static uint64_t code_value(const struct info *info, const struct code *code, const uint8_t *operand, unsigned int slots)
{
	uint64_t value = 0;

	if (slots == 3)
		value = operand[0] | operand[1] << 8 | (uint64_t)operand[2] << 16 | (uint64_t)operand[3] << 24;
	else if (slots == 2)
		value = operand[0] | operand[1] << 8;
	switch (code->op) {
	case OP_ALLOC_LARGE:
		return slots == 3 ? value : value * 8;
	case OP_ALLOC_SMALL:
		return code->info * 8u + 8;
	case OP_SAVE:
		return value * 8;
	case OP_SET_FPREG:
		return info->fp_offset * 16u;
	case OP_SET_FPREG_LARGE:
		return value * 16;
	default:
		return value;
	}
}

/* In the order in which the prologue does them, which is not the order in which they are written. */
static bool read_codes(const struct info *info, struct code codes[MAX_CODES], unsigned int *ret_num)
{
	unsigned int num = 0;

	for (unsigned int at = 0; at < info->num;) {
		const uint8_t *slot = info->bytes + 4 + 2 * (size_t)at;
		struct code code = { .offset = slot[0], .op = slot[1] & 15, .info = slot[1] >> 4 };
		unsigned int slots = code_slots(code.op, code.info);

		if (!slots || slots > info->num - at)
			return false;
		code.value = code_value(info, &code, slot + 2, slots);
		codes[num++] = code;
		at += slots;
	}
	for (unsigned int i = 0; i < num / 2; i++) {
		struct code swap = codes[i];

		codes[i] = codes[num - 1 - i];
		codes[num - 1 - i] = swap;
	}
	*ret_num = num;
	return true;
}

/* Windows' register numbers are the machine's. */
static uint8_t dwarf_of(uint8_t reg)
{
	static const uint8_t dwarf[16] = { 0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15 };

	return dwarf[reg & 15];
}

static bool apply(const struct info *info, const struct code *code, struct frame *frame)
{
	switch (code->op) {
	case OP_PUSH:
		frame->depth += 8;
		frame->saved[code->info] = frame->depth + 8;
		return true;
	case OP_ALLOC_LARGE:
	case OP_ALLOC_SMALL:
		frame->depth += code->value;
		return true;
	case OP_SET_FPREG:
	case OP_SET_FPREG_LARGE:
		frame->by_fp = true;
		frame->cfa_reg = dwarf_of(info->fp_reg);
		frame->cfa_off = frame->depth + 8 - code->value;
		return frame->depth + 8 >= code->value;
	case OP_SAVE:
	case OP_SAVE_FAR:
		if (code->value >= frame->depth + 8)
			return false;
		frame->saved[code->info] = frame->depth + 8 - code->value;
		return true;
	case OP_SAVE_XMM:
	case OP_SAVE_XMM_FAR:
		return true;
	default:
		return false; /* a machine frame: not of a method */
	}
}

/*
 * The function that this one's info is continued by. Its prologue was done before.
 * False: none.
 */
static bool chained(const struct info *info, uint32_t *ret_unwind)
{
	size_t at = 4 + 2 * (((size_t)info->num + 1) & ~(size_t)1);

	if (!(info->flags & FLAG_CHAINED) || at + 12 > info->size)
		return false;
	memcpy(ret_unwind, info->bytes + at + 8, sizeof(*ret_unwind));
	return true;
}

/*
 * Of the chain's outermost function first, as that is where the frame began. Each is read again for it: chains are
 * short, and rare.
 */
static bool sum_up(const struct r2r *r, uint32_t unwind, uint32_t into, struct frame *frame)
{
	uint32_t chain[MAX_CHAIN];
	unsigned int depth = 0;
	struct info info;

	*frame = (struct frame){ 0 };
	do {
		if (depth == MAX_CHAIN || !read_info(r, unwind, &info))
			return false;
		chain[depth++] = unwind;
	} while (chained(&info, &unwind));
	while (depth-- > 0) {
		struct code codes[MAX_CODES];
		unsigned int num;

		if (!read_info(r, chain[depth], &info) || !read_codes(&info, codes, &num))
			return false;
		for (unsigned int i = 0; i < num; i++) {
			if ((depth || codes[i].offset <= into) && !apply(&info, &codes[i], frame))
				return false;
		}
	}
	return true;
}

static bool to_slot(uint64_t below, uint8_t *ret)
{
	if (below % 8 || below / 8 > SLOT_MAX)
		return false;
	*ret = (uint8_t)(below / 8);
	return true;
}

static bool to_rule(const struct arch *arch, const struct frame *frame, struct rule *ret)
{
	uint64_t off = frame->by_fp ? frame->cfa_off : frame->depth + 8;
	struct rule rule = { .kind = RULE_CFA, .cfa_reg = frame->by_fp ? frame->cfa_reg : arch->sp };

	if (off % 8 || off / 8 > INT16_MAX)
		return false;
	rule.cfa_off8 = (int16_t)(off / 8);
	rule.slot[0] = 1; /* arch->ra */
	for (uint8_t reg = 0; reg < 16; reg++) {
		for (size_t i = 1; frame->saved[reg] && i < arch->num_tracked; i++) {
			if (arch->tracked[i] == dwarf_of(reg) && !to_slot(frame->saved[reg], &rule.slot[i]))
				return false;
		}
	}
	*ret = rule;
	return true;
}

static bool from_leaving(const struct arch *arch, const struct x64_leaving *leaving, struct rule *ret)
{
	struct frame frame = { .depth = leaving->sp_above };

	for (unsigned int i = 0; i < leaving->num_pops; i++)
		frame.saved[leaving->pops[i].reg] = frame.depth + 8 - leaving->pops[i].at;
	return to_rule(arch, &frame, ret);
}

static bool from_epilogue(const struct r2r *r, const struct arch *arch, uint32_t rva, const struct r2r_function *f,
			  struct rule *ret)
{
	uint8_t code[X64_EPILOGUE_BYTES];
	size_t got = pe_image_read_some(&r->pe, rva, code, sizeof(code));
	struct x64_leaving leaving;

	return x64_epilogue(code, got, rva, f->begin, f->end, &leaving) && from_leaving(arch, &leaving, ret);
}

static bool from_stub(const struct r2r *r, const struct arch *arch, uint32_t rva, struct rule *ret)
{
	enum { BEFORE = 6 }; /* a push of what lies in memory */
	uint8_t code[BEFORE + X64_EPILOGUE_BYTES];
	size_t got = rva < BEFORE ? 0 : pe_image_read_some(&r->pe, rva - BEFORE, code, sizeof(code));
	struct x64_leaving leaving;

	return x64_stub(code, got, BEFORE, &leaving) && from_leaving(arch, &leaving, ret);
}

bool r2r_rule(const struct r2r *r, const struct arch *arch, uint32_t rva, bool exact, struct rule *ret)
{
	struct r2r_function f;
	struct frame frame;

	if (r->pe.machine != PE_MACHINE_LINUX_X64 || arch->elf_machine != EM_X86_64)
		return false;
	if (!r2r_function(r, rva, &f))
		return exact && from_stub(r, arch, rva, ret);
	if (exact && from_epilogue(r, arch, rva, &f, ret))
		return true;
	return sum_up(r, f.unwind, rva - f.begin, &frame) && to_rule(arch, &frame, ret);
}
