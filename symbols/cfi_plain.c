/*
 * The rows that libdw need not be asked for: it takes 2 us for one, most of them for allocating, and this a tenth. Only
 * what changes nothing but the location, the CFA's register and offset, and where registers are saved is understood here;
 * anything else is libdw's. test_rows holds every row of real libraries against libdw's.
 */
#include "symbols/cfi_index.h"

#include <dwarf.h>

enum { REMEMBERED_MAX = 2 };

struct machine {
	uint64_t code_align; /* of 32 bits, as its factors: no product wraps */
	int64_t data_align;  /* of 16 bits, its factors of 32 */
	uint64_t vaddr;      /* that is looked for */
	uint64_t loc;        /* begin of the row at work */
	uint64_t end;        /* of it, when it is the one */
	bool initial;        /* running the CIE's instructions */
	struct cfi_state now;
	const struct cfi_state *first;
	struct cfi_state remembered[REMEMBERED_MAX];
	unsigned int num_remembered;
};

/* What an instruction comes to. */
enum done { GOES_ON, FOUND /* the row */, ODD /* something for libdw */ };

struct number {
	struct reader rest;
	uint64_t value;
};

static __attribute__((noinline)) struct number take_long(struct reader r, bool is_signed)
{
	struct number ret;

	ret.value = is_signed ? (uint64_t)cfi_take_sleb(&r) : cfi_take_uleb(&r);
	ret.rest = r;
	return ret;
}

/* Nearly all numbers are of one byte. Nobody is told where the reader is, so that it stays in registers. */
static inline uint64_t take_uleb(struct reader *r)
{
	struct number n;

	if (__builtin_expect(r->pos < r->end && !(*r->pos & 0x80), 1))
		return *r->pos++;
	n = take_long(*r, false);
	*r = n.rest;
	return n.value;
}

static inline int64_t take_sleb(struct reader *r)
{
	struct number n = take_long(*r, true);

	*r = n.rest;
	return (int64_t)n.value;
}

static inline bool is_reg(uint64_t reg)
{
	return reg < ELF_PLAIN_REGS;
}

static inline enum done save(struct machine *m, uint64_t reg, int64_t factored)
{
	int64_t at;

	if (!is_reg(reg) || factored != (int32_t)factored)
		return ODD;
	at = factored * m->data_align;
	if (at != (int16_t)at)
		return ODD;
	m->now.at[reg] = (int16_t)at;
	m->now.saved |= 1u << reg;
	m->now.undefined &= ~(1u << reg);
	return GOES_ON;
}

static inline enum done save_uleb(struct machine *m, struct reader *r, uint64_t reg)
{
	uint64_t factored = take_uleb(r);

	return factored > INT32_MAX ? ODD : save(m, reg, (int64_t)factored);
}

static inline enum done restore(struct machine *m, uint64_t reg)
{
	uint32_t bit;

	if (!is_reg(reg) || m->initial)
		return ODD;
	bit = 1u << reg;
	m->now.saved = (m->now.saved & ~bit) | (m->first->saved & bit);
	m->now.undefined = (m->now.undefined & ~bit) | (m->first->undefined & bit);
	m->now.at[reg] = m->first->at[reg];
	return GOES_ON;
}

/* The register is undefined, or has its value. */
static enum done forget(struct machine *m, uint64_t reg, bool undefined)
{
	if (!is_reg(reg))
		return ODD;
	m->now.saved &= ~(1u << reg);
	m->now.undefined = (m->now.undefined & ~(1u << reg)) | (uint32_t)undefined << reg;
	return GOES_ON;
}

/* The row at work ends here, and either it is the one or the next begins. */
static inline enum done advance(struct machine *m, uint64_t factored)
{
	uint64_t to;

	if (m->initial || __builtin_add_overflow(m->loc, factored * m->code_align, &to))
		return ODD;
	if (m->vaddr < to) {
		m->end = to;
		return FOUND;
	}
	m->loc = to;
	return GOES_ON;
}

static enum done remember(struct machine *m)
{
	if (m->num_remembered == REMEMBERED_MAX)
		return ODD;
	m->remembered[m->num_remembered++] = m->now;
	return GOES_ON;
}

static enum done go_back(struct machine *m)
{
	if (!m->num_remembered)
		return ODD;
	m->now = m->remembered[--m->num_remembered];
	return GOES_ON;
}

static inline enum done define_offset(struct machine *m, struct reader *r)
{
	uint64_t value = take_uleb(r);

	if (!m->now.has_cfa || value > INT32_MAX)
		return ODD;
	m->now.cfa_off = (int32_t)value;
	return GOES_ON;
}

static inline enum done define_register(struct machine *m, struct reader *r)
{
	uint64_t reg = take_uleb(r);

	if (!m->now.has_cfa || !is_reg(reg))
		return ODD;
	m->now.cfa_reg = (uint8_t)reg;
	return GOES_ON;
}

static inline enum done define_both(struct machine *m, struct reader *r)
{
	m->now.has_cfa = true;
	return define_register(m, r) == ODD ? ODD : define_offset(m, r);
}

static inline enum done extended(struct machine *m, struct reader *r, uint8_t opcode)
{
	uint64_t reg;

	switch (opcode) {
	case DW_CFA_nop:
		return GOES_ON;
	case DW_CFA_advance_loc1:
		return advance(m, reader_u8(r));
	case DW_CFA_advance_loc2:
		return advance(m, reader_u16(r));
	case DW_CFA_advance_loc4:
		return advance(m, reader_u32(r));
	case DW_CFA_offset_extended:
		reg = take_uleb(r);
		return save_uleb(m, r, reg);
	case DW_CFA_offset_extended_sf:
		reg = take_uleb(r);
		return save(m, reg, take_sleb(r));
	case DW_CFA_restore_extended:
		return restore(m, take_uleb(r));
	case DW_CFA_undefined:
		return forget(m, take_uleb(r), true);
	case DW_CFA_same_value:
		return forget(m, take_uleb(r), false);
	case DW_CFA_remember_state:
		return remember(m);
	case DW_CFA_restore_state:
		return go_back(m);
	case DW_CFA_def_cfa:
		return define_both(m, r);
	case DW_CFA_def_cfa_register:
		return define_register(m, r);
	case DW_CFA_def_cfa_offset:
		return define_offset(m, r);
	case DW_CFA_GNU_args_size:
		take_uleb(r);
		return GOES_ON;
	default:
		return ODD;
	}
}

/* False: what is there is not plain. */
static bool run(struct machine *m, struct reader r)
{
	enum done done = GOES_ON;

	while (r.pos < r.end && done == GOES_ON) {
		uint8_t opcode = *r.pos++, low = opcode & 0x3f;

		switch (opcode & 0xc0) {
		case DW_CFA_advance_loc:
			done = advance(m, low);
			break;
		case DW_CFA_offset:
			done = save_uleb(m, &r, low);
			break;
		case DW_CFA_restore:
			done = restore(m, low);
			break;
		default:
			done = extended(m, &r, opcode);
			break;
		}
	}
	return done != ODD && !r.failed;
}

/* What holds at the begin of all functions of a CIE; NULL when that is not plain. */
static const struct cfi_state *begin(struct cfi_index *x, const struct cfi_cie *cie, struct machine *m)
{
	struct cfi_begin *known = &x->begins[cie->place / 8 % CFI_KNOWN_CIES];

	if (known->place != cie->place) {
		m->now = (struct cfi_state){ 0 };
		m->initial = true;
		known->place = cie->place;
		known->plain = cie->code_align <= UINT32_MAX && cie->data_align == (int16_t)cie->data_align &&
			       run(m, reader_init(x->bytes + cie->program_at, cie->program_size));
		known->state = m->now;
	}
	return known->plain ? &known->state : NULL;
}

bool cfi_index_plain(struct cfi_index *x, uint64_t vaddr, struct elf_plain_row *ret)
{
	struct cfi_fde fde;
	struct machine m;

	if (x->aarch64 || cfi_index_find(x, vaddr, &fde) != ELF_ROW_FINE)
		return false;
	m.code_align = fde.cie.code_align;
	m.data_align = fde.cie.data_align;
	m.num_remembered = 0;
	m.first = begin(x, &fde.cie, &m);
	if (!m.first)
		return false;
	m.now = *m.first;
	m.initial = false;
	m.num_remembered = 0;
	m.vaddr = vaddr;
	m.loc = fde.start;
	m.end = fde.end;
	if (fde.cie.sized)
		reader_bytes(&fde.rest, cfi_take_uleb(&fde.rest));
	if (!run(&m, fde.rest) || !m.now.has_cfa)
		return false;
	ret->start = m.loc;
	ret->end = m.end < fde.end ? m.end : fde.end;
	ret->signal = fde.cie.signal;
	ret->ra = fde.cie.ra;
	ret->cfa_reg = m.now.cfa_reg;
	ret->cfa_off = m.now.cfa_off;
	ret->saved = m.now.saved;
	ret->undefined = m.now.undefined;
	memcpy(ret->at, m.now.at, sizeof(ret->at));
	return true;
}
