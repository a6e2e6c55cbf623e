/*
 * libdw is never given the file itself: dwarf_getcfi_elf may read all of it (where only
 * PT_GNU_EH_FRAME is there it asks for the raw file to find where .eh_frame ends), and
 * dwarf_begin_elf loads every debug section. It gets a small ELF image in memory with two sections,
 * .eh_frame_hdr and .eh_frame. Where the file has no usable search table, or a .debug_frame
 * instead, the image has what the linker could have written: so libdw only ever reads the entries
 * it is asked about, and we can look at them first (cfi_index.h). Of a large .eh_frame only the
 * pieces with those entries are read: a compiler's has 5 MB, of which a profile needs a part.
 */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"
#include "symbols/elf_cfi.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <endian.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	FRAME_AT = sizeof(Elf64_Ehdr),
	HDR_BYTES = 16, /* of .eh_frame_hdr before the table, as we write it */
	TABLE_AT = 12,  /* in .eh_frame_hdr, as linkers write it */
	NUM_SECTIONS = 4,
	PIECE = 4096,
	WHOLE_BELOW = 64 << 10, /* bytes of .eh_frame that are read at once */
};

static uint64_t align8(uint64_t x)
{
	return (x + 7) & ~(uint64_t)7;
}

/* The image while it is made: its file header, .eh_frame, then what image_finish writes behind it. */
struct image {
	uint8_t *bytes;
	bool pieces;    /* .eh_frame is not read yet */
	size_t size;    /* of .eh_frame */
	uint64_t vaddr; /* of it */
	uint8_t *table; /* of .eh_frame_hdr, to be copied; NULL if it is at its place already */
	size_t num;     /* entries */
	uint64_t hdr_vaddr;
};

/* Offsets in it. */
static size_t hdr_at(const struct image *im)
{
	return FRAME_AT + align8(im->size);
}

static size_t names_at(const struct image *im)
{
	return hdr_at(im) + HDR_BYTES + im->num * CFI_TABLE_ENTRY;
}

static const char section_names[] = "\0.eh_frame_hdr\0.eh_frame\0.shstrtab";

static size_t sections_at(const struct image *im)
{
	return align8(names_at(im) + sizeof(section_names));
}

static size_t image_size(const struct image *im)
{
	return sections_at(im) + NUM_SECTIONS * sizeof(Elf64_Shdr);
}

static bool image_alloc(struct image *im, uint64_t size)
{
	if (!size || size > ELF_MAX_CONTENT)
		return false;
	im->size = size;
	im->bytes = malloc(FRAME_AT + align8(size));
	return im->bytes;
}

/*
 * Memory for all of it, of which nothing is touched until it is filled. What it held is not cleared: nobody reads a piece that
 * was not fetched. False without memory.
 */
static bool image_in_pieces(struct image *im)
{
	im->bytes = aligned_alloc(PIECE, (image_size(im) + PIECE - 1) / PIECE * PIECE);
	im->pieces = im->bytes;
	return im->bytes;
}

static void image_free(struct image *im)
{
	free(im->bytes);
	im->bytes = NULL;
	im->pieces = false;
}

static void image_deinit(struct image *im)
{
	free(im->bytes);
	free(im->table);
}

static void write_shdr(uint8_t *at, uint32_t name, uint32_t type, uint64_t flags, uint64_t addr,
		       uint64_t offset, uint64_t size)
{
	const Elf64_Shdr shdr = {
		.sh_name = name,
		.sh_type = type,
		.sh_flags = flags,
		.sh_addr = addr,
		.sh_offset = offset,
		.sh_size = size,
		.sh_addralign = 1,
	};

	memcpy(at, &shdr, sizeof(shdr));
}

/* LSB Core, Generic, 10.6.2. */
static void write_hdr(const struct image *im, uint8_t *at)
{
	static const uint8_t encodings[] = { 1, DW_EH_PE_udata8, DW_EH_PE_udata4,
					     DW_EH_PE_datarel | DW_EH_PE_sdata4 };
	const uint32_t num = (uint32_t)im->num;

	memcpy(at, encodings, 4);
	memcpy(at + 4, &im->vaddr, 8);
	memcpy(at + 12, &num, 4);
	if (im->table)
		memcpy(at + HDR_BYTES, im->table, im->num * CFI_TABLE_ENTRY);
}

/* What follows .eh_frame: .eh_frame_hdr, names, section headers. False without memory. */
static bool image_finish(struct image *im, const struct elf_file *f)
{
	const size_t size = image_size(im);
	Elf64_Ehdr ehdr = {
		.e_type = ET_DYN,
		.e_machine = f->machine,
		.e_version = EV_CURRENT,
		.e_shoff = sections_at(im),
		.e_flags = f->flags,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = NUM_SECTIONS,
		.e_shstrndx = NUM_SECTIONS - 1,
	};
	uint8_t *bytes = im->pieces ? im->bytes : realloc(im->bytes, size), *at;

	if (!bytes)
		return false;
	im->bytes = bytes;
	memset(bytes + FRAME_AT + im->size, 0, hdr_at(im) - FRAME_AT - im->size);
	memset(bytes + names_at(im), 0, size - names_at(im));
	memcpy(ehdr.e_ident, f->ident, EI_NIDENT);
	memcpy(bytes, &ehdr, sizeof(ehdr));
	write_hdr(im, bytes + hdr_at(im));
	memcpy(bytes + names_at(im), section_names, sizeof(section_names));
	at = bytes + sections_at(im) + sizeof(Elf64_Shdr);
	write_shdr(at, 1, SHT_PROGBITS, SHF_ALLOC, im->hdr_vaddr, hdr_at(im), names_at(im) - hdr_at(im));
	at += sizeof(Elf64_Shdr);
	write_shdr(at, 15, SHT_PROGBITS, SHF_ALLOC, im->vaddr, FRAME_AT, im->size);
	at += sizeof(Elf64_Shdr);
	write_shdr(at, 25, SHT_STRTAB, 0, 0, names_at(im), sizeof(section_names));
	return true;
}

static void close_libdw(struct elf_cfi *cfi)
{
	if (cfi->cfi)
		dwarf_cfi_end(cfi->cfi);
	if (cfi->elf)
		elf_end(cfi->elf);
	cfi->cfi = NULL;
	cfi->elf = NULL;
}

void elf_cfi_deinit(struct elf_cfi *cfi)
{
	cfi_room_leave(cfi);
	close_libdw(cfi);
	free(cfi->image);
	free(cfi->have);
	*cfi = (struct elf_cfi){ .tried = true };
}

/* What libdw says; NULL when it says nothing. */
static Dwarf_CFI *open_libdw(struct elf_cfi *cfi)
{
	if (!cfi->elf) {
		elf_version(EV_CURRENT);
		cfi->elf = elf_memory((char *)cfi->image, cfi->image_size);
		if (cfi->elf)
			cfi->cfi = dwarf_getcfi_elf(cfi->elf);
	}
	return cfi->cfi;
}

/* --- Pieces of a large .eh_frame --- */

static void hold(struct elf_cfi *cfi, size_t more)
{
	cfi->held += more;
	if (cfi->room)
		cfi->room->held += more;
}

/* Reads those of [first, last] that are missing, neighbours in one go. */
static bool read_pieces(struct elf_cfi *cfi, size_t first, size_t last)
{
	for (size_t i = first; i <= last; i++) {
		const size_t from = i, start = i * PIECE;
		size_t len;

		if (cfi->have[i])
			continue;
		while (i < last && !cfi->have[i + 1])
			i++;
		len = (i + 1) * PIECE < cfi->index.size ? (i + 1) * PIECE - start : cfi->index.size - start;
		if (elf_file_read(cfi->file, cfi->index.bytes + start, len, cfi->offset + start) < 0 ||
		    elf_file_changed(cfi->file))
			return false;
		memset(cfi->have + from, 1, i - from + 1);
		hold(cfi, len);
	}
	return true;
}

/* struct cfi_index */
static bool fetch(void *data, size_t offset, size_t len)
{
	struct elf_cfi *cfi = data;

	return read_pieces(cfi, offset / PIECE, (offset + len - 1) / PIECE);
}

void elf_cfi_drop(struct elf_cfi *cfi)
{
	const size_t num = (cfi->index.size + PIECE - 1) / PIECE;
	size_t dropped = 0;

	if (!cfi->have)
		return;
	/* It remembers places in the bytes. */
	close_libdw(cfi);
	memset(cfi->index.known, 0, sizeof(cfi->index.known));
	for (size_t i = 0; i < num; i++) {
		if (cfi->have[i])
			dropped += i + 1 < num ? PIECE : cfi->index.size - i * PIECE;
	}
	memset(cfi->have, 0, num);
	/* Whole pages without the image's header before and its table behind; what is left is read over. */
	madvise(cfi->image + PIECE, (FRAME_AT + cfi->index.size) / PIECE * PIECE - PIECE, MADV_DONTNEED);
	cfi->held -= dropped;
	if (cfi->room)
		cfi->room->held -= dropped;
}

/* --- The image --- */

/* Makes the table where there is none, and keeps the image. Takes its bytes. */
static void keep_image(struct elf_cfi *cfi, struct image *im, const struct elf_file *f, bool moves)
{
	struct cfi_index *x = &cfi->index;

	*x = (struct cfi_index){ .bytes = im->bytes + FRAME_AT,
				 .size = im->size,
				 .vaddr = im->vaddr,
				 .aarch64 = f->machine == EM_AARCH64 };
	if (!im->table && !im->pieces) {
		im->table = cfi_table_build(x, moves);
		im->num = x->num;
		im->vaddr = x->vaddr;
		im->hdr_vaddr = x->base;
	}
	if (!im->num || !image_finish(im, f))
		return;
	if (im->pieces) {
		cfi->have = calloc((im->size + PIECE - 1) / PIECE, 1);
		if (!cfi->have)
			return;
		cfi->file = f;
		x->fetch = fetch;
		x->data = cfi;
	}
	cfi->image = steal_ptr(im->bytes);
	cfi->image_size = image_size(im);
	x->bytes = cfi->image + FRAME_AT;
	x->table = cfi->image + hdr_at(im) + HDR_BYTES;
	x->num = im->num;
	x->base = im->hdr_vaddr;
	hold(cfi, im->pieces ? cfi->image_size - im->size : cfi->image_size);
}

/* --- .eh_frame (LSB Core, "DWARF Extensions"; exception frame header) --- */

struct eh_place {
	struct elf_range hdr; /* size 0: there is no search table */
	struct elf_range frame;
};

/* One encoded pointer, as DW_EH_PE_* says; only what linkers write. */
static bool read_encoded(struct reader *r, uint8_t encoding, uint64_t pos_vaddr,
			 uint64_t data_vaddr, uint64_t *ret)
{
	enum {
		PE_ABSPTR = 0x00,
		PE_UDATA4 = 0x03,
		PE_UDATA8 = 0x04,
		PE_SDATA4 = 0x0b,
		PE_SDATA8 = 0x0c,
		PE_FORMAT = 0x0f,
		PE_PCREL = 0x10,
		PE_DATAREL = 0x30,
		PE_BASE = 0x70,
		PE_INDIRECT = 0x80,
	};
	uint64_t value, base;

	switch (encoding & PE_FORMAT) {
	case PE_UDATA4:
		value = reader_u32(r);
		break;
	case PE_SDATA4:
		value = (uint64_t)(int64_t)(int32_t)reader_u32(r);
		break;
	case PE_ABSPTR:
	case PE_UDATA8:
	case PE_SDATA8:
		value = reader_u64(r);
		break;
	default:
		return false;
	}
	if (encoding & PE_INDIRECT)
		return false;
	if ((encoding & PE_BASE) == PE_PCREL)
		base = pos_vaddr;
	else if ((encoding & PE_BASE) == PE_DATAREL)
		base = data_vaddr;
	else if (!(encoding & PE_BASE))
		base = 0;
	else
		return false;
	*ret = base + value;
	return !r->failed;
}

/*
 * From the header the loader uses. Without section headers .eh_frame is taken to end with its
 * segment.
 */
static bool place_from_phdr(struct elf_file *f, struct eh_place *ret)
{
	const struct elf_range *hdr = &f->eh_frame_hdr;
	const struct elf_section *section = elf_file_section(f, ".eh_frame");
	uint64_t vaddr, offset;
	uint8_t head[12];
	struct reader r = reader_init(head, sizeof(head));
	uint8_t version, encoding;

	if (hdr->size < sizeof(head) || hdr->size > ELF_MAX_CONTENT ||
	    elf_file_read(f, head, sizeof(head), hdr->offset) < 0)
		return false;
	version = reader_u8(&r);
	encoding = reader_u8(&r);
	reader_u16(&r); /* fde_count_enc, table_enc: for libdw */
	if (version != 1 || !read_encoded(&r, encoding, hdr->vaddr + 4, hdr->vaddr, &vaddr) ||
	    !elf_file_offset(f, vaddr, &offset))
		return false;
	*ret = (struct eh_place){ .hdr = *hdr, .frame = { .offset = offset, .vaddr = vaddr } };
	if (section && section->addr == vaddr && section->type != SHT_NOBITS) {
		ret->frame.size = section->size;
		return true;
	}
	for (size_t i = 0; i < f->loads.len; i++) {
		const struct elf_load *load = &f->loads.data[i];

		if (vaddr >= load->vaddr && vaddr - load->vaddr < load->filesz &&
		    offset == vaddr - load->vaddr + load->offset)
			ret->frame.size = load->filesz - (vaddr - load->vaddr);
	}
	return ret->frame.size;
}

static bool place_from_section(struct elf_file *f, struct eh_place *ret)
{
	const struct elf_section *s = elf_file_section(f, ".eh_frame");

	if (!s || s->type == SHT_NOBITS || !(s->flags & SHF_ALLOC))
		return false;
	*ret = (struct eh_place){
		.frame = { .offset = s->offset, .vaddr = s->addr, .size = s->size }
	};
	return true;
}

/* How many entries the table of .eh_frame_hdr has, if it is of the one form that linkers write; else 0. */
static size_t table_entries(struct elf_file *f, const struct elf_range *hdr)
{
	const uint8_t wanted = DW_EH_PE_datarel | DW_EH_PE_sdata4;
	uint8_t head[TABLE_AT];
	uint32_t num;

	/* place_from_phdr has read the first two bytes; a pointer of 8 bytes nobody writes. */
	if (hdr->size < sizeof(head) || elf_file_read(f, head, sizeof(head), hdr->offset) < 0 ||
	    (head[1] & 0x07) != DW_EH_PE_udata4 || head[2] != DW_EH_PE_udata4 || head[3] != wanted)
		return 0;
	memcpy(&num, head + 8, sizeof(num));
	return num > (hdr->size - sizeof(head)) / CFI_TABLE_ENTRY || hdr->size > f->size ? 0 : num;
}

/* Reads the table; where it is not sorted none is taken. */
static bool read_table(struct elf_file *f, const struct elf_range *hdr, uint8_t *table, size_t num)
{
	return elf_file_read(f, table, num * CFI_TABLE_ENTRY, hdr->offset + TABLE_AT) >= 0 &&
	       cfi_table_is_sorted(table, num);
}

/* Of a large .eh_frame only the table, at its place. */
static bool load_table(struct elf_file *f, const struct eh_place *place, struct image *im)
{
	im->size = place->frame.size;
	if (im->num * CFI_TABLE_ENTRY > ELF_MAX_CONTENT || !image_in_pieces(im))
		return false;
	if (read_table(f, &place->hdr, im->bytes + hdr_at(im) + HDR_BYTES, im->num))
		return true;
	image_free(im);
	return false;
}

/* All of .eh_frame, and its table if there is one that can be used. */
static bool load_whole(struct elf_file *f, const struct eh_place *place, struct image *im)
{
	if (!image_alloc(im, place->frame.size) ||
	    elf_file_read(f, im->bytes + FRAME_AT, im->size, place->frame.offset) < 0)
		return false;
	if (!im->num)
		return true;
	im->table = malloc(im->num * CFI_TABLE_ENTRY);
	if (im->table && !read_table(f, &place->hdr, im->table, im->num)) {
		free(im->table);
		im->table = NULL;
	}
	return true;
}

static void load_eh_frame(struct elf_file *f, struct elf_cfi *cfi)
{
	_cleanup_(image_deinit) struct image im = { 0 };
	struct eh_place place;

	if (!place_from_phdr(f, &place) && !place_from_section(f, &place))
		return;
	/* Without a header .eh_frame may run to the end of a segment: what is too much is cut. */
	if (place.frame.size > ELF_MAX_CONTENT)
		place.frame.size = ELF_MAX_CONTENT;
	if (place.frame.size > f->size)
		return;
	im.vaddr = place.frame.vaddr;
	im.hdr_vaddr = place.hdr.vaddr;
	im.num = table_entries(f, &place.hdr);
	cfi->offset = place.frame.offset;
	if (!(im.num && place.frame.size >= WHOLE_BELOW && load_table(f, &place, &im)) && !load_whole(f, &place, &im))
		return;
	if (!elf_file_changed(f))
		keep_image(cfi, &im, f, false);
}

/* Whether there is any; it then is the one that was asked last. */
static bool ready(struct elf_file *f, struct elf_cfi *cfi,
		  void (*load)(struct elf_file *f, struct elf_cfi *cfi))
{
	cfi->asked = true;
	if (!cfi->tried) {
		cfi->tried = true;
		if (f->is_64)
			load(f, cfi);
		if (!cfi->image)
			elf_cfi_deinit(cfi);
	}
	if (cfi->image)
		cfi_room_use(f->cfi_room, cfi);
	return cfi->image;
}

Dwarf_CFI *elf_file_eh_frame(struct elf_file *f)
{
	struct elf_cfi *cfi = &f->eh_frame;

	if (!ready(f, cfi, load_eh_frame) || (cfi->have && !fetch(cfi, 0, cfi->index.size)))
		return NULL;
	return open_libdw(cfi);
}

/* --- .debug_frame (DWARF 5, section 6.4), plain or packed --- */

struct packed {
	uint64_t offset, size; /* of the zlib stream, or of the plain bytes */
	uint64_t unpacked;     /* 0: not packed */
};

/*
 * SHF_COMPRESSED (gABI, "Compression Header") or the older .zdebug_*: "ZLIB" and a big-endian size.
 */
static bool find_debug_frame(struct elf_file *f, struct packed *ret)
{
	const struct elf_section *s = elf_file_section(f, ".debug_frame");
	const bool old = !s;
	const size_t head_len = old ? 12 : sizeof(Elf64_Chdr);
	uint8_t head[sizeof(Elf64_Chdr)];
	struct reader r = reader_init(head, head_len);

	if (old)
		s = elf_file_section(f, ".zdebug_frame");
	if (!s || s->type == SHT_NOBITS || !s->size)
		return false;
	if (!old && !(s->flags & SHF_COMPRESSED)) {
		*ret = (struct packed){ .offset = s->offset, .size = s->size };
		return s->size <= ELF_MAX_CONTENT && s->size <= f->size;
	}
	if (s->size < head_len || elf_file_read(f, head, head_len, s->offset) < 0)
		return false;
	if (old ? reader_u32(&r) != htole32(0x42494c5a) /* "ZLIB" */
		: reader_u32(&r) != ELFCOMPRESS_ZLIB)
		return false;
	if (!old)
		reader_u32(&r); /* ch_reserved */
	ret->unpacked = old ? be64toh(reader_u64(&r)) : reader_u64(&r);
	ret->offset = s->offset + head_len;
	ret->size = s->size - head_len;
	return elf_unpack_allowed(ret->size, ret->unpacked);
}

static void load_debug_frame(struct elf_file *f, struct elf_cfi *cfi)
{
	_cleanup_(image_deinit) struct image im = { 0 };
	struct packed p = { 0 };
	uint8_t *at;

	if (!find_debug_frame(f, &p) || !image_alloc(&im, p.unpacked ? p.unpacked : p.size))
		return;
	at = im.bytes + FRAME_AT;
	if (p.unpacked ? !elf_unpack_zlib(f, p.offset, p.size, at, p.unpacked)
		       : elf_file_read(f, at, p.size, p.offset) < 0)
		return;
	if (elf_file_changed(f))
		return;
	cfi_from_debug_frame(at, im.size);
	keep_image(cfi, &im, f, true);
}

Dwarf_CFI *elf_file_debug_frame(struct elf_file *f)
{
	return ready(f, &f->debug_frame, load_debug_frame) ? open_libdw(&f->debug_frame) : NULL;
}

enum elf_row elf_file_row(struct elf_file *f, uint64_t vaddr, Dwarf_CFI **ret)
{
	enum elf_row row = ELF_ROW_NONE;
	struct elf_cfi *cfi = &f->eh_frame;

	cfi_room_keep_within(f->cfi_room);
	if (ready(f, cfi, load_eh_frame))
		row = cfi_index_row(&cfi->index, vaddr);
	if (row == ELF_ROW_NONE) {
		cfi = &f->debug_frame;
		if (ready(f, cfi, load_debug_frame))
			row = cfi_index_row(&cfi->index, vaddr);
	}
	*ret = row == ELF_ROW_FINE ? open_libdw(cfi) : NULL;
	return row == ELF_ROW_FINE && !*ret ? ELF_ROW_BAD : row;
}

bool elf_file_plain_row(struct elf_file *f, uint64_t vaddr, struct elf_plain_row *ret)
{
	cfi_room_keep_within(f->cfi_room);
	return ready(f, &f->eh_frame, load_eh_frame) && cfi_index_plain(&f->eh_frame.index, vaddr, ret);
}

void elf_file_share_room(struct elf_file *f, struct cfi_room *room)
{
	f->cfi_room = room;
}

uint64_t elf_cfi_end_of(struct elf_file *f, uint64_t vaddr)
{
	struct cfi_fde fde;

	if (!ready(f, &f->eh_frame, load_eh_frame) ||
	    cfi_index_find(&f->eh_frame.index, vaddr, &fde) != ELF_ROW_FINE || fde.start != vaddr)
		return 0;
	return fde.end;
}

static void rest(struct elf_cfi *cfi)
{
	if (cfi->image && !cfi->asked) {
		elf_cfi_deinit(cfi);
		cfi->tried = false;
	}
	cfi->asked = false;
}

void elf_file_rest(struct elf_file *f)
{
	rest(&f->eh_frame);
	rest(&f->debug_frame);
}
