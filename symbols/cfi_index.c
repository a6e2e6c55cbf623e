#include "symbols/cfi_index.h"

#include "base/cleanup.h"
#include "base/reader.h"
#include "base/vec.h"

#include <dwarf.h>
#include <stdlib.h>

enum {
	PE_FORMAT = 0x0f, /* of a pointer's encoding (LSB Core, Generic, 10.5.1) */
	PE_BASE = 0x70,
	DEBUG_FRAME_CIE = -1, /* CIE_id in .debug_frame; 0 in .eh_frame */
	/* elfutils before 0.190 does not know it (AArch64 DWARF ABI, "DWARF CFA operations"). */
	AARCH64_NEGATE_RA_STATE = 0x2d,
};

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static void put_u32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* ---- entries ---- */

struct entry {
	size_t offset; /* of its length field */
	size_t id_at;  /* offset of what tells CIE from FDE */
	uint32_t id;
	struct reader body;
};

/* What is at `offset`. False at the end, and where nothing can be told from there on. */
static bool entry_at(const uint8_t *bytes, size_t size, size_t offset, struct entry *ret)
{
	uint32_t length;

	if (offset > size || size - offset < 8)
		return false;
	length = get_u32(bytes + offset);
	/* From 0xfffffff0 on lengths are escapes (DWARF 5, 7.4); nobody has such tables. */
	if (length < 4 || length > size - offset - 4)
		return false;
	ret->offset = offset;
	ret->id_at = offset + 4;
	ret->id = get_u32(bytes + ret->id_at);
	ret->body = reader_init(bytes + ret->id_at + 4, length - 4);
	return true;
}

/* The same where the bytes may have to be fetched first. */
static bool fetch_entry(const struct cfi_index *x, size_t offset, struct entry *ret)
{
	uint32_t length;

	if (!x->fetch)
		return entry_at(x->bytes, x->size, offset, ret);
	if (offset > x->size || x->size - offset < 8 || !x->fetch(x->data, offset, 8))
		return false;
	length = get_u32(x->bytes + offset);
	return length <= x->size - offset - 4 && x->fetch(x->data, offset, 4 + (size_t)length) &&
	       entry_at(x->bytes, x->size, offset, ret);
}

static size_t entry_end(const struct entry *e, const uint8_t *bytes)
{
	return (size_t)(e->body.end - bytes);
}

/* Bytes of an encoded pointer; 0 for those of varying length. */
static size_t encoded_size(uint8_t encoding)
{
	switch (encoding & PE_FORMAT) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return 8;
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		return 4;
	case DW_EH_PE_udata2:
	case DW_EH_PE_sdata2:
		return 2;
	default:
		return 0;
	}
}

static uint64_t take_encoded(struct reader *r, uint8_t encoding)
{
	switch (encoding & PE_FORMAT) {
	case DW_EH_PE_udata4:
		return reader_u32(r);
	case DW_EH_PE_sdata4:
		return (uint64_t)(int64_t)(int32_t)reader_u32(r);
	case DW_EH_PE_udata2:
		return reader_u16(r);
	case DW_EH_PE_sdata2:
		return (uint64_t)(int64_t)(int16_t)reader_u16(r);
	default:
		return reader_u64(r);
	}
}

/* ---- instructions (DWARF 5, 6.4.2) ---- */

struct program {
	struct reader r;
	bool initial; /* of a CIE: what moves the location or restores from a CIE is wrong there */
	uint8_t encoding; /* of DW_CFA_set_loc */
	bool aarch64;
	bool changed; /* an instruction was made a no-op */
	unsigned int remembered;
};

static uint8_t take_reg(struct reader *r)
{
	uint64_t reg = cfi_take_uleb(r);

	r->failed |= reg > CFI_MAX_REG;
	return (uint8_t)reg;
}

static void take_expr(struct program *p)
{
	uint64_t len = cfi_take_uleb(&p->r);

	/*
	 * Where hostile entries overlap, this length could be an instruction of another, become 0
	 * with that, and all that follows here be read differently from what was checked.
	 */
	if (len > CFI_MAX_EXPR || (p->aarch64 && len == AARCH64_NEGATE_RA_STATE))
		p->r.failed = true;
	reader_bytes(&p->r, (size_t)len);
}

/* Instructions that have no operand in their first byte; false when that is no instruction. */
static bool scan_extended(struct program *p, uint8_t *opcode)
{
	struct reader *r = &p->r;

	switch (*opcode) {
	case DW_CFA_nop:
		return true;
	case DW_CFA_set_loc:
		reader_bytes(r, encoded_size(p->encoding));
		return !p->initial;
	case DW_CFA_advance_loc1:
		reader_bytes(r, 1);
		return !p->initial;
	case DW_CFA_advance_loc2:
		reader_bytes(r, 2);
		return !p->initial;
	case DW_CFA_advance_loc4:
		reader_bytes(r, 4);
		return !p->initial;
	case DW_CFA_restore_extended:
		take_reg(r);
		return !p->initial;
	case DW_CFA_undefined:
	case DW_CFA_same_value:
	case DW_CFA_def_cfa_register:
		take_reg(r);
		return true;
	case DW_CFA_offset_extended:
	case DW_CFA_offset_extended_sf:
	case DW_CFA_val_offset:
	case DW_CFA_val_offset_sf:
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_sf:
	case DW_CFA_GNU_negative_offset_extended:
		take_reg(r);
		cfi_take_uleb(r);
		return true;
	case DW_CFA_register:
		take_reg(r);
		take_reg(r);
		return true;
	case DW_CFA_def_cfa_offset:
	case DW_CFA_def_cfa_offset_sf:
	case DW_CFA_GNU_args_size:
		cfi_take_uleb(r);
		return true;
	case DW_CFA_def_cfa_expression:
		take_expr(p);
		return true;
	case DW_CFA_expression:
	case DW_CFA_val_expression:
		take_reg(r);
		take_expr(p);
		return true;
	case DW_CFA_remember_state:
		return ++p->remembered <= CFI_MAX_REMEMBERED;
	case DW_CFA_restore_state:
		return p->remembered-- > 0;
	case AARCH64_NEGATE_RA_STATE:
		if (p->aarch64)
			*opcode = DW_CFA_nop;
		p->changed = true;
		return p->aarch64;
	default:
		return false;
	}
}

/* The whole of it is as libdw may see it. `bytes`: the section that it is a part of. */
static bool scan_program(struct program *p, uint8_t *bytes)
{
	if (reader_left(&p->r) > CFI_MAX_PROGRAM)
		return false;
	while (p->r.pos < p->r.end && !p->r.failed) {
		uint8_t *opcode = bytes + (p->r.pos - bytes);

		p->r.pos++;
		switch (*opcode & 0xc0) {
		case DW_CFA_offset: /* the register is in the opcode */
			cfi_take_uleb(&p->r);
			break;
		case DW_CFA_advance_loc:
		case DW_CFA_restore:
			if (p->initial)
				return false;
			break;
		default:
			if (!scan_extended(p, opcode))
				return false;
			break;
		}
	}
	return !p->r.failed;
}

/* ---- CIEs ---- */

/* The augmentation (LSB Core, Generic, 10.6.1.1.1): only what is known, and its data in bounds. */
static bool parse_augmentation(struct reader *r, const char *augmentation, struct cfi_cie *ret)
{
	struct reader data;
	uint64_t size;

	ret->encoding = DW_EH_PE_absptr;
	ret->sized = augmentation[0] == 'z';
	if (!ret->sized)
		return !augmentation[0];
	size = cfi_take_uleb(r);
	data = reader_init(r->pos, reader_left(r));
	if (!reader_bytes(r, size))
		return false;
	data.end = r->pos;
	for (const char *c = augmentation + 1; *c; c++) {
		uint8_t encoding;

		switch (*c) {
		case 'R':
			ret->encoding = reader_u8(&data);
			break;
		case 'L': /* of what handles exceptions */
			reader_u8(&data);
			break;
		case 'P': /* the personality routine */
			encoding = reader_u8(&data);
			if (!encoded_size(encoding) || (encoding & PE_BASE) == DW_EH_PE_aligned)
				return false;
			reader_bytes(&data, encoded_size(encoding));
			break;
		case 'S':
			ret->signal = true;
			break;
		case 'B': /* aarch64: return addresses are signed with the B key */
		case 'G': /* aarch64: tagged stack */
			break;
		default:
			return false;
		}
	}
	return !data.failed && encoded_size(ret->encoding) &&
	       ((ret->encoding & ~PE_FORMAT) == DW_EH_PE_absptr ||
		(ret->encoding & ~PE_FORMAT) == DW_EH_PE_pcrel);
}

static bool parse_cie(const struct cfi_index *x, struct entry *e, struct cfi_cie *ret)
{
	struct program p = { .initial = true, .aarch64 = x->aarch64 };
	struct reader *r = &e->body;
	uint8_t version = reader_u8(r);
	const char *augmentation = reader_str(r);

	if (e->id || !augmentation || (version != 1 && version != 3 && version != 4))
		return false;
	if (version == 4 && (reader_u8(r) != 8 || reader_u8(r) != 0))
		return false; /* sizes of addresses and of segment selectors */
	ret->code_align = cfi_take_uleb(r);
	ret->data_align = cfi_take_sleb(r);
	ret->ra = version == 1 ? reader_u8(r) : take_reg(r);
	if (!parse_augmentation(r, augmentation, ret))
		return false;
	p.r = *r;
	ret->program_at = (uint32_t)(r->pos - x->bytes);
	ret->program_size = (uint32_t)reader_left(r);
	p.encoding = ret->encoding;
	ret->fine = scan_program(&p, x->bytes);
	return true;
}

/* The CIE at `offset`. */
static struct cfi_cie cie_at(struct cfi_index *x, size_t offset)
{
	struct cfi_cie *known = &x->known[offset / 8 % CFI_KNOWN_CIES];
	struct entry e;

	if (known->place == offset + 1)
		return *known;
	*known = (struct cfi_cie){ .place = (uint32_t)offset + 1 };
	known->readable = fetch_entry(x, offset, &e) && parse_cie(x, &e, known);
	return *known;
}

/* ---- FDEs ---- */

/* ELF_ROW_NONE when it is no FDE, or one of code that the linker left out. */
static enum elf_row parse_fde(struct cfi_index *x, struct entry *e, struct cfi_fde *ret)
{
	uint64_t pos, size;

	/* A reference is the distance back to the CIE. */
	if (!e->id || e->id > e->id_at)
		return ELF_ROW_NONE;
	ret->cie = cie_at(x, e->id_at - e->id);
	if (!ret->cie.readable)
		return ELF_ROW_BAD;
	pos = x->vaddr + (uint64_t)(e->body.pos - x->bytes);
	ret->start = take_encoded(&e->body, ret->cie.encoding);
	if ((ret->cie.encoding & PE_BASE) == DW_EH_PE_pcrel)
		ret->start += pos;
	size = take_encoded(&e->body, ret->cie.encoding & PE_FORMAT);
	ret->rest = e->body;
	if (e->body.failed || !ret->start || (int64_t)size <= 0 ||
	    __builtin_add_overflow(ret->start, size, &ret->end))
		return ELF_ROW_NONE;
	return ELF_ROW_FINE;
}

static bool scan_fde(struct cfi_index *x, struct cfi_fde *fde)
{
	struct program p = { .encoding = fde->cie.encoding, .aarch64 = x->aarch64 };
	bool fine;

	if (fde->cie.sized)
		reader_bytes(&fde->rest, cfi_take_uleb(&fde->rest));
	p.r = fde->rest;
	fine = scan_program(&p, x->bytes) && fde->cie.fine;
	if (p.changed) /* entries may overlap in a hostile file */
		memset(x->known, 0, sizeof(x->known));
	return fine;
}

/* ---- the search table ---- */

/* What a pair counts from base: where code starts, or where the FDE lies. */
static int32_t table_value(const uint8_t *table, size_t index, bool fde)
{
	return (int32_t)get_u32(table + index * CFI_TABLE_ENTRY + (fde ? 4 : 0));
}

bool cfi_table_is_sorted(const uint8_t *table, size_t num)
{
	for (size_t i = 1; i < num; i++) {
		if (table_value(table, i - 1, false) > table_value(table, i, false))
			return false;
	}
	return true;
}

void cfi_from_debug_frame(uint8_t *bytes, size_t size)
{
	size_t next = 0;
	struct entry e;

	while (entry_at(bytes, size, next, &e)) {
		uint32_t id = e.id;

		next = entry_end(&e, bytes);
		if (id == (uint32_t)DEBUG_FRAME_CIE)
			put_u32(bytes + e.id_at, 0);
		else if (id < e.offset)
			put_u32(bytes + e.id_at, (uint32_t)(e.id_at - id));
		else
			put_u32(bytes + e.id_at, UINT32_MAX);
	}
}

struct found {
	uint64_t start;
	size_t offset;
};

static int compare_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->offset < y->offset ? 1 : x->offset > y->offset ? -1 : 0;
}

typedef VEC(struct found) found_vec;

static void found_deinit(found_vec *v)
{
	vec_deinit(v);
}

/* All FDEs of the section. */
static bool find_fdes(struct cfi_index *x, found_vec *ret)
{
	size_t next = 0;
	struct entry e;
	struct cfi_fde fde;

	while (ret->len < CFI_MAX_FDES && fetch_entry(x, next, &e)) {
		next = entry_end(&e, x->bytes);
		if (parse_fde(x, &e, &fde) == ELF_ROW_FINE &&
		    !vec_push(ret, ((struct found){ fde.start, e.offset })))
			return false;
	}
	return ret->len > 0;
}

uint8_t *cfi_table_build(struct cfi_index *x, bool moves)
{
	_cleanup_(found_deinit) found_vec found = { 0 };
	uint8_t *table;

	if (!find_fdes(x, &found))
		return NULL;
	qsort(found.data, found.len, sizeof(found.data[0]), compare_found);
	if (moves)
		x->vaddr = found.data[0].start;
	x->base = x->vaddr;
	x->num = 0;
	x->table = table = malloc(found.len * CFI_TABLE_ENTRY);
	if (!table)
		return NULL;
	for (size_t i = 0; i < found.len; i++) {
		int64_t start = (int64_t)(found.data[i].start - x->base);
		uint8_t *at = table + x->num * CFI_TABLE_ENTRY;

		if (start != (int32_t)start)
			continue;
		put_u32(at, (uint32_t)start);
		put_u32(at + 4, (uint32_t)found.data[i].offset);
		x->num++;
	}
	return table;
}

/* The FDE whose code starts last before vaddr or at it. */
static bool find_entry(const struct cfi_index *x, uint64_t vaddr, struct entry *ret)
{
	int64_t wanted = (int64_t)(vaddr - x->base);
	size_t lo = 0, hi = x->num;
	uint64_t offset;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (table_value(x->table, mid, false) <= wanted)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return false;
	offset = x->base + (uint64_t)(int64_t)table_value(x->table, lo - 1, true) - x->vaddr;
	return offset <= x->size && fetch_entry(x, (size_t)offset, ret);
}

enum elf_row cfi_index_find(struct cfi_index *x, uint64_t vaddr, struct cfi_fde *ret)
{
	enum elf_row row;
	struct entry e;

	if (!find_entry(x, vaddr, &e))
		return ELF_ROW_NONE;
	row = parse_fde(x, &e, ret);
	if (row != ELF_ROW_FINE)
		return row;
	return vaddr < ret->start || vaddr >= ret->end ? ELF_ROW_NONE : ELF_ROW_FINE;
}

enum elf_row cfi_index_row(struct cfi_index *x, uint64_t vaddr)
{
	struct cfi_fde fde;
	enum elf_row row = cfi_index_find(x, vaddr, &fde);

	if (row != ELF_ROW_FINE)
		return row;
	return scan_fde(x, &fde) ? ELF_ROW_FINE : ELF_ROW_BAD;
}
