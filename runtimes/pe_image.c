#include "runtimes/pe_image.h"

#include "base/cleanup.h"
#include "base/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	DOS_LFANEW = 0x3c,
	COFF_BYTES = 24,      /* "PE\0\0" and the COFF header */
	SECTION_BYTES = 40,
	MAGIC_PE32_PLUS = 0x20b,
	DIR_CLR = 14,
	MAX_EXPORTS = 64,     /* R2R images have one or none */
	SECTION_EXECUTE = 0x20000000,
};

static int read_memory(void *data, void *buf, size_t size, uint64_t offset)
{
	memcpy(buf, (const uint8_t *)data + offset, size);
	return 0;
}

struct pe_bytes pe_bytes_of_memory(const void *bytes, size_t size)
{
	return (struct pe_bytes){ read_memory, (void *)(uintptr_t)bytes, size };
}

static bool read_file(const struct pe_bytes *bytes, uint64_t offset, void *buf, size_t size)
{
	return offset <= bytes->size && size <= bytes->size - offset &&
	       (!size || bytes->read(bytes->data, buf, size, offset) == 0);
}

static struct pe_dir read_dir(const uint8_t *optional, size_t size, uint32_t index)
{
	struct reader r = reader_init(optional, size);
	struct pe_dir dir = { 0 };
	uint32_t num;

	reader_bytes(&r, 108);
	num = reader_u32(&r);
	if (index >= num)
		return dir;
	reader_bytes(&r, 8 * (size_t)index);
	dir.rva = reader_u32(&r);
	dir.size = reader_u32(&r);
	return r.failed ? (struct pe_dir){ 0 } : dir;
}

static bool take_sections(struct reader *r, uint32_t num, struct pe_image *pe)
{
	for (uint32_t i = 0; i < num; i++) {
		struct pe_section *s = &pe->sections[i];

		reader_bytes(r, 8); /* name */
		s->virtual_size = reader_u32(r);
		s->rva = reader_u32(r);
		s->size = reader_u32(r);
		s->offset = reader_u32(r);
		reader_bytes(r, 12);
		s->executable = reader_u32(r) & SECTION_EXECUTE;
		/* What lies behind its end in memory is padding of the file. */
		if (s->virtual_size && s->size > s->virtual_size)
			s->size = s->virtual_size;
		if (s->size > UINT32_MAX - s->rva)
			return false;
	}
	pe->num_sections = num;
	return !r->failed;
}

/* `head` are the bytes from "PE\0\0" on. */
static bool take_headers(const uint8_t *head, size_t size, struct pe_image *pe)
{
	struct reader r = reader_init(head, size);
	const uint8_t *optional;
	uint16_t num_sections, optional_size;

	if (reader_u32(&r) != 0x4550)
		return false;
	pe->machine = reader_u16(&r);
	num_sections = reader_u16(&r);
	pe->timestamp = reader_u32(&r);
	reader_bytes(&r, 8);
	optional_size = reader_u16(&r);
	reader_u16(&r);
	optional = reader_bytes(&r, optional_size);
	if (!optional || optional_size < 112 || num_sections > PE_MAX_SECTIONS ||
	    (optional[0] | optional[1] << 8) != MAGIC_PE32_PLUS)
		return false;
	memcpy(&pe->image_size, optional + 56, sizeof(pe->image_size));
	pe->exports = read_dir(optional, optional_size, 0);
	pe->clr = read_dir(optional, optional_size, DIR_CLR);
	return take_sections(&r, num_sections, pe);
}

bool pe_image_open(const struct pe_bytes *bytes, uint64_t base, struct pe_image *ret)
{
	uint8_t head[PE_HEADER_BYTES];
	struct pe_image pe = { .bytes = *bytes, .base = base };
	size_t size = sizeof(head);
	uint32_t pe_at;

	if (base >= bytes->size)
		return false;
	if (size > bytes->size - base)
		size = (size_t)(bytes->size - base);
	if (size < DOS_LFANEW + 4 || !read_file(bytes, base, head, size) || head[0] != 'M' || head[1] != 'Z')
		return false;
	memcpy(&pe_at, head + DOS_LFANEW, sizeof(pe_at));
	if (pe_at > size - COFF_BYTES || !take_headers(head + pe_at, size - pe_at, &pe))
		return false;
	*ret = pe;
	return true;
}

bool pe_image_open_loaded(const struct pe_bytes *bytes, uint64_t base, struct pe_image *ret)
{
	if (!pe_image_open(bytes, base, ret))
		return false;
	for (uint32_t i = 0; i < ret->num_sections; i++) {
		struct pe_section *s = &ret->sections[i];

		s->offset = s->rva;
		if (s->size < s->virtual_size)
			s->size = s->virtual_size;
		if (s->size > UINT32_MAX - s->rva)
			return false;
	}
	return true;
}

bool pe_image_rva(const struct pe_image *pe, uint64_t file_offset, uint32_t *ret)
{
	uint64_t at = file_offset - pe->base;

	for (uint32_t i = 0; file_offset >= pe->base && i < pe->num_sections; i++) {
		const struct pe_section *s = &pe->sections[i];

		if (at >= s->offset && at - s->offset < s->size) {
			*ret = s->rva + (uint32_t)(at - s->offset);
			return true;
		}
	}
	return false;
}

const struct pe_section *pe_image_section(const struct pe_image *pe, uint32_t rva)
{
	for (uint32_t i = 0; i < pe->num_sections; i++) {
		const struct pe_section *s = &pe->sections[i];

		if (rva >= s->rva && rva - s->rva < s->size)
			return s;
	}
	return NULL;
}

size_t pe_image_read_some(const struct pe_image *pe, uint32_t rva, void *buf, size_t size)
{
	const struct pe_section *s = pe_image_section(pe, rva);

	if (!s)
		return 0;
	if (size > s->size - (rva - s->rva))
		size = s->size - (rva - s->rva);
	return read_file(&pe->bytes, pe->base + s->offset + (rva - s->rva), buf, size) ? size : 0;
}

bool pe_image_read(const struct pe_image *pe, uint32_t rva, void *buf, size_t size)
{
	return pe_image_read_some(pe, rva, buf, size) == size;
}

void *pe_image_load(const struct pe_image *pe, struct pe_dir dir)
{
	_cleanup_free_ void *buf = NULL;

	/* Not there is told before memory is asked for: a size is only a claim. */
	if (!dir.size || dir.size > PE_MAX_LOAD || dir.size > pe->bytes.size)
		return NULL;
	buf = malloc(dir.size);
	if (!buf || !pe_image_read(pe, dir.rva, buf, dir.size))
		return NULL;
	return steal_ptr(buf);
}

static bool is_string_at(const struct pe_image *pe, uint32_t rva, const char *name)
{
	char text[64];
	size_t len = strlen(name) + 1;

	return len <= sizeof(text) && pe_image_read(pe, rva, text, len) && !memcmp(text, name, len);
}

uint32_t pe_image_export(const struct pe_image *pe, const char *name)
{
	uint32_t dir[10]; /* IMAGE_EXPORT_DIRECTORY */
	uint32_t num, rva;
	uint16_t ordinal;

	if (pe->exports.size < sizeof(dir) || !pe_image_read(pe, pe->exports.rva, dir, sizeof(dir)))
		return 0;
	num = dir[6] < MAX_EXPORTS ? dir[6] : MAX_EXPORTS;
	for (uint32_t i = 0; i < num; i++) {
		if (!pe_image_read(pe, dir[8] + 4 * i, &rva, sizeof(rva)) || !is_string_at(pe, rva, name))
			continue;
		if (!pe_image_read(pe, dir[9] + 2 * i, &ordinal, sizeof(ordinal)) || ordinal >= dir[5] ||
		    !pe_image_read(pe, dir[7] + 4 * ordinal, &rva, sizeof(rva)))
			return 0;
		return rva;
	}
	return 0;
}
