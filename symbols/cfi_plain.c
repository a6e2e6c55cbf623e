/*
 * The rows that libdw need not be asked for: it takes 2 us for one, most of them for allocating, and this a tenth. Only
 * what changes nothing but the location, the CFA's register and offset, and where registers are saved is understood here;
 * anything else is libdw's. test_rows holds every row of real libraries against libdw's.
 */
#include "symbols/cfi_index.h"

#include <dwarf.h>

enum { REMEMBERED_MAX = 2 };

/* What instructions change. */
struct state {
	uint8_t cfa_reg;
	bool has_cfa;
	int64_t cfa_off;
	uint64_t saved, undefined;
	int64_t at[ELF_PLAIN_REGS];
};

struct machine {
	const struct cfi_cie *cie;
	struct reader r;
	uint64_t vaddr;  /* that is looked for */
	uint64_t loc;    /* begin of the row at work */
	uint64_t end;    /* of it, when it is the one */
	bool found;
	bool initial;    /* running the CIE's instructions */
	bool odd;        /* something for libdw */
	struct state now, first;
	struct state remembered[REMEMBERED_MAX];
	unsigned int num_remembered;
};

/* A register's number; those that are too large are odd. */
static unsigned int take_reg(struct machine *m)
{
	uint64_t reg = cfi_take_uleb(&m->r);

	m->odd |= reg >= ELF_PLAIN_REGS;
	return (unsigned int)(reg % ELF_PLAIN_REGS);
}

static void save(struct machine *m, unsigned int reg, int64_t factored)
{
	m->odd |= reg >= ELF_PLAIN_REGS ||
		  __builtin_mul_overflow(factored, m->cie->data_align, &m->now.at[reg % ELF_PLAIN_REGS]);
	m->now.saved |= 1ull << reg % ELF_PLAIN_REGS;
	m->now.undefined &= ~(1ull << reg % ELF_PLAIN_REGS);
}

static void restore(struct machine *m, unsigned int reg)
{
	uint64_t bit = 1ull << reg % ELF_PLAIN_REGS;

	m->odd |= reg >= ELF_PLAIN_REGS || m->initial;
	m->now.saved = (m->now.saved & ~bit) | (m->first.saved & bit);
	m->now.undefined = (m->now.undefined & ~bit) | (m->first.undefined & bit);
	m->now.at[reg % ELF_PLAIN_REGS] = m->first.at[reg % ELF_PLAIN_REGS];
}

/* The row at work ends here, and either it is the one or the next begins. */
static void advance(struct machine *m, uint64_t factored)
{
	uint64_t by, to;

	if (m->initial || __builtin_mul_overflow(factored, m->cie->code_align, &by) ||
	    __builtin_add_overflow(m->loc, by, &to)) {
		m->odd = true;
	} else if (m->vaddr < to) {
		m->found = true;
		m->end = to;
	} else {
		m->loc = to;
	}
}

static void remember(struct machine *m)
{
	if (m->num_remembered == REMEMBERED_MAX)
		m->odd = true;
	else
		m->remembered[m->num_remembered++] = m->now;
}

static void go_back(struct machine *m)
{
	if (!m->num_remembered)
		m->odd = true;
	else
		m->now = m->remembered[--m->num_remembered];
}

/* DW_CFA_def_cfa and its halves. */
static void define_cfa(struct machine *m, bool reg, bool offset)
{
	m->odd |= !(reg && offset) && !m->now.has_cfa;
	m->now.has_cfa = true;
	if (reg)
		m->now.cfa_reg = (uint8_t)take_reg(m);
	if (offset) {
		uint64_t value = cfi_take_uleb(&m->r);

		m->odd |= value > INT32_MAX;
		m->now.cfa_off = (int64_t)value;
	}
}

static void extended(struct machine *m, uint8_t opcode)
{
	unsigned int reg;

	switch (opcode) {
	case DW_CFA_nop:
		break;
	case DW_CFA_advance_loc1:
		advance(m, reader_u8(&m->r));
		break;
	case DW_CFA_advance_loc2:
		advance(m, reader_u16(&m->r));
		break;
	case DW_CFA_advance_loc4:
		advance(m, reader_u32(&m->r));
		break;
	case DW_CFA_offset_extended:
		reg = take_reg(m);
		save(m, reg, (int64_t)cfi_take_uleb(&m->r));
		break;
	case DW_CFA_offset_extended_sf:
		reg = take_reg(m);
		save(m, reg, cfi_take_sleb(&m->r));
		break;
	case DW_CFA_restore_extended:
		restore(m, take_reg(m));
		break;
	case DW_CFA_undefined:
		reg = take_reg(m);
		m->now.saved &= ~(1ull << reg);
		m->now.undefined |= 1ull << reg;
		break;
	case DW_CFA_same_value:
		reg = take_reg(m);
		m->now.saved &= ~(1ull << reg);
		m->now.undefined &= ~(1ull << reg);
		break;
	case DW_CFA_remember_state:
		remember(m);
		break;
	case DW_CFA_restore_state:
		go_back(m);
		break;
	case DW_CFA_def_cfa:
		define_cfa(m, true, true);
		break;
	case DW_CFA_def_cfa_register:
		define_cfa(m, true, false);
		break;
	case DW_CFA_def_cfa_offset:
		define_cfa(m, false, true);
		break;
	case DW_CFA_GNU_args_size:
		cfi_take_uleb(&m->r);
		break;
	default:
		m->odd = true;
		break;
	}
}

/* False: what is there is not plain. */
static bool run(struct machine *m, struct reader program)
{
	m->r = program;
	while (m->r.pos < m->r.end && !m->found && !m->odd) {
		uint8_t opcode = *m->r.pos++, low = opcode & 0x3f;

		switch (opcode & 0xc0) {
		case DW_CFA_advance_loc:
			advance(m, low);
			break;
		case DW_CFA_offset:
			save(m, low, (int64_t)cfi_take_uleb(&m->r));
			break;
		case DW_CFA_restore:
			restore(m, low);
			break;
		default:
			extended(m, opcode);
			break;
		}
	}
	return !m->odd && !m->r.failed;
}

bool cfi_index_plain(struct cfi_index *x, uint64_t vaddr, struct elf_plain_row *ret)
{
	struct cfi_fde fde;
	struct machine m;

	if (x->aarch64 || cfi_index_find(x, vaddr, &fde) != ELF_ROW_FINE)
		return false;
	m.cie = &fde.cie;
	m.vaddr = vaddr;
	m.found = m.odd = false;
	m.num_remembered = 0;
	m.now = m.first = (struct state){ 0 };
	m.initial = true;
	if (!run(&m, reader_init(x->bytes + fde.cie.program_at, fde.cie.program_size)))
		return false;
	m.first = m.now;
	m.initial = false;
	m.loc = fde.start;
	m.end = fde.end;
	if (fde.cie.sized)
		reader_bytes(&fde.rest, cfi_take_uleb(&fde.rest));
	if (!run(&m, fde.rest) || !m.now.has_cfa)
		return false;
	*ret = (struct elf_plain_row){ .start = m.loc,
				       .end = m.end < fde.end ? m.end : fde.end,
				       .signal = fde.cie.signal,
				       .ra = fde.cie.ra,
				       .cfa_reg = m.now.cfa_reg,
				       .cfa_off = m.now.cfa_off,
				       .saved = m.now.saved,
				       .undefined = m.now.undefined };
	memcpy(ret->at, m.now.at, sizeof(ret->at));
	return true;
}
