/*
 * libdw is never given the file itself: dwarf_getcfi_elf may read all of it (where only
 * PT_GNU_EH_FRAME is there it asks for the raw file to find where .eh_frame ends), and
 * dwarf_begin_elf loads every debug section. It gets a small ELF image in memory that holds the
 * sections it needs at the vaddrs they have.
 */
#include "symbols/elf_file_priv.h"

#include "base/cleanup.h"

#include <elfutils/libdw.h>
#include <endian.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 2 };

/* A section of the image. */
struct part {
	const char *name;
	uint64_t addr, size;
	uint64_t at; /* in the image */
};

struct image {
	struct part parts[MAX_PARTS];
	size_t num;
	uint8_t *bytes;
	size_t size;
};

static uint64_t align8(uint64_t x)
{
	return (x + 7) & ~(uint64_t)7;
}

static void image_add(struct image *im, const char *name, uint64_t addr, uint64_t size)
{
	im->parts[im->num++] = (struct part){ .name = name, .addr = addr, .size = size };
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

/*
 * Lays the image out: file header, parts, names, section headers. The parts are filled by the
 * caller.
 */
static bool image_build(struct image *im, const struct elf_file *f)
{
	static const char shstrtab[] = ".shstrtab";
	uint64_t at = sizeof(Elf64_Ehdr), names_at, shoff, name = 1;
	size_t names = 1 + sizeof(shstrtab);
	Elf64_Ehdr ehdr = {
		.e_type = ET_DYN,
		.e_machine = f->machine,
		.e_version = EV_CURRENT,
		.e_flags = f->flags,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = (Elf64_Half)(im->num + 2),
		.e_shstrndx = (Elf64_Half)(im->num + 1),
	};

	for (size_t i = 0; i < im->num; i++) {
		im->parts[i].at = at;
		at = align8(at + im->parts[i].size); /* at most MAX_PARTS times ELF_MAX_CONTENT */
		names += strlen(im->parts[i].name) + 1;
	}
	names_at = at;
	shoff = align8(names_at + names);
	im->size = shoff + (im->num + 2) * sizeof(Elf64_Shdr);
	im->bytes = calloc(1, im->size);
	if (!im->bytes)
		return false;

	memcpy(ehdr.e_ident, f->ident, EI_NIDENT);
	ehdr.e_shoff = shoff;
	memcpy(im->bytes, &ehdr, sizeof(ehdr));
	for (size_t i = 0; i < im->num; i++) {
		const struct part *p = &im->parts[i];

		memcpy(im->bytes + names_at + name, p->name, strlen(p->name));
		write_shdr(im->bytes + shoff + (i + 1) * sizeof(Elf64_Shdr), (uint32_t)name,
			   SHT_PROGBITS, SHF_ALLOC, p->addr, p->at, p->size);
		name += strlen(p->name) + 1;
	}
	memcpy(im->bytes + names_at + name, shstrtab, sizeof(shstrtab));
	write_shdr(im->bytes + shoff + (im->num + 1) * sizeof(Elf64_Shdr), (uint32_t)name,
		   SHT_STRTAB, 0, 0, names_at, names);
	return true;
}

void elf_cfi_deinit(struct elf_cfi *cfi)
{
	if (cfi->dwarf)
		dwarf_end(cfi->dwarf);
	else if (cfi->cfi)
		dwarf_cfi_end(cfi->cfi);
	if (cfi->elf)
		elf_end(cfi->elf);
	free(cfi->image);
	*cfi = (struct elf_cfi){ .tried = true };
}

/* Takes the image's bytes. */
static bool open_image(struct elf_cfi *cfi, struct image *im)
{
	cfi->image = steal_ptr(im->bytes);
	elf_version(EV_CURRENT);
	cfi->elf = elf_memory((char *)cfi->image, im->size);
	return cfi->elf;
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

static void imagep(struct image *im)
{
	free(im->bytes);
}

static void load_eh_frame(struct elf_file *f, struct elf_cfi *cfi)
{
	_cleanup_(imagep) struct image im = { 0 };
	struct eh_place place;
	const struct part *frame;

	if (!place_from_phdr(f, &place) && !place_from_section(f, &place))
		return;
	/* Without a header .eh_frame may run to the end of a segment: what is too much is cut. */
	if (place.frame.size > ELF_MAX_CONTENT)
		place.frame.size = ELF_MAX_CONTENT;
	if (!place.frame.size || place.frame.size > f->size)
		return;
	if (place.hdr.size)
		image_add(&im, ".eh_frame_hdr", place.hdr.vaddr, place.hdr.size);
	image_add(&im, ".eh_frame", place.frame.vaddr, place.frame.size);
	if (place.hdr.size > f->size || !image_build(&im, f))
		return;
	frame = &im.parts[im.num - 1];
	if ((place.hdr.size &&
	     elf_file_read(f, im.bytes + im.parts[0].at, place.hdr.size, place.hdr.offset) < 0) ||
	    elf_file_read(f, im.bytes + frame->at, frame->size, place.frame.offset) < 0 ||
	    elf_file_changed(f))
		return;
	if (open_image(cfi, &im))
		cfi->cfi = dwarf_getcfi_elf(cfi->elf);
}

Dwarf_CFI *elf_file_eh_frame(struct elf_file *f)
{
	if (!f->eh_frame.tried) {
		f->eh_frame.tried = true;
		if (f->is_64)
			load_eh_frame(f, &f->eh_frame);
		if (!f->eh_frame.cfi)
			elf_cfi_deinit(&f->eh_frame);
	}
	return f->eh_frame.cfi;
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
	_cleanup_(imagep) struct image im = { 0 };
	struct packed p = { 0 };
	uint8_t *at;

	if (!find_debug_frame(f, &p))
		return;
	image_add(&im, ".debug_frame", 0, p.unpacked ? p.unpacked : p.size);
	if (!image_build(&im, f))
		return;
	at = im.bytes + im.parts[0].at;
	if (p.unpacked ? !elf_unpack_zlib(f, p.offset, p.size, at, p.unpacked)
		       : elf_file_read(f, at, p.size, p.offset) < 0)
		return;
	if (elf_file_changed(f) || !open_image(cfi, &im))
		return;
	cfi->dwarf = dwarf_begin_elf(cfi->elf, DWARF_C_READ, NULL);
	if (cfi->dwarf)
		cfi->cfi = dwarf_getcfi(cfi->dwarf);
}

Dwarf_CFI *elf_file_debug_frame(struct elf_file *f)
{
	if (!f->debug_frame.tried) {
		f->debug_frame.tried = true;
		if (f->is_64)
			load_debug_frame(f, &f->debug_frame);
		if (!f->debug_frame.cfi)
			elf_cfi_deinit(&f->debug_frame);
	}
	return f->debug_frame.cfi;
}
