#include "symbols/inline_priv.h"

#include "base/cleanup.h"
#include "symbols/elf_file_priv.h"

#include <endian.h>
#include <stdio.h>
#include <sys/mman.h>

enum {
	PAGE = 4096,
	WHOLE_BELOW = 1 << 20, /* sections smaller than this are read at once */
};

static const char *const section_names[DW_NUM_SECTIONS] = {
	[DW_INFO] = "info",         [DW_ABBREV] = "abbrev",     [DW_STR] = "str",
	[DW_LINE] = "line",         [DW_LINE_STR] = "line_str", [DW_RANGES] = "ranges",
	[DW_RNGLISTS] = "rnglists", [DW_ADDR] = "addr",         [DW_STR_OFFSETS] = "str_offsets",
	[DW_ARANGES] = "aranges",   [DW_CU_INDEX] = "cu_index",
};

static const struct elf_section *find(struct elf_file *elf, const char *prefix,
				      enum dw_section_id id, bool split)
{
	/* The index of a package has no ".dwo". */
	bool dwo = split && id != DW_CU_INDEX;
	char name[32];

	snprintf(name, sizeof(name), "%s_%s%s", prefix, section_names[id], dwo ? ".dwo" : "");
	return elf_file_section(elf, name);
}

/* SHF_COMPRESSED (gABI, "Compression Header") or the older .zdebug_*: "ZLIB" and a big-endian size. */
static bool locate_packed(struct elf_file *elf, const struct elf_section *s, bool old,
			  struct dw_section *ret)
{
	const size_t head_len = old                   ? 12
				: elf_file_is_64(elf) ? sizeof(Elf64_Chdr)
						      : sizeof(Elf32_Chdr);
	uint8_t head[sizeof(Elf64_Chdr)];
	struct reader r = reader_init(head, head_len);
	uint32_t magic;

	if (s->size < head_len || elf_file_read(elf, head, head_len, s->offset) < 0)
		return false;
	magic = reader_u32(&r);
	if (magic != (old ? htole32(0x42494c5a) /* "ZLIB" */ : ELFCOMPRESS_ZLIB))
		return false;
	if (!old && elf_file_is_64(elf))
		reader_u32(&r); /* ch_reserved */
	ret->size = old ? be64toh(reader_u64(&r)) : elf_word(elf, &r);
	ret->offset = s->offset + head_len;
	ret->packed = s->size - head_len;
	return elf_unpack_allowed(ret->packed, ret->size);
}

static void locate(struct dw_file *f, enum dw_section_id id)
{
	const struct elf_section *s = find(f->elf, ".debug", id, f->split);
	struct dw_section *ret = &f->sections[id];
	bool old = !s;
	bool ok;

	if (old)
		s = find(f->elf, ".zdebug", id, f->split);
	if (!s || s->type == SHT_NOBITS || !s->size)
		return;
	if (old || (s->flags & SHF_COMPRESSED)) {
		ok = locate_packed(f->elf, s, old, ret);
	} else {
		ret->offset = s->offset;
		ret->size = s->size;
		ok = s->offset <= f->elf->size && s->size <= f->elf->size - s->offset;
	}
	if (!ok || ret->size > DW_MAX_SECTION)
		*ret = (struct dw_section){ .failed = true };
}

void dw_file_init(struct dw_file *f, struct elf_file *elf, bool split, struct dw_budget *budget)
{
	*f = (struct dw_file){ .elf = elf, .split = split, .budget = budget };
	for (int id = 0; id < DW_NUM_SECTIONS; id++)
		locate(f, id);
}

static void section_deinit(struct dw_section *s)
{
	if (s->mapped)
		munmap(s->bytes, s->size);
	else
		free(s->bytes);
	free(s->have);
}

void dw_file_deinit(struct dw_file *f)
{
	size_t cursor = 0;
	struct dw_abbrevs_slot *slot;

	for (size_t i = 0; i < f->units.len; i++)
		dw_unit_deinit(&f->units.data[i]);
	vec_deinit(&f->units);
	while ((slot = dw_abbrevs_map_next(&f->abbrevs, &cursor)))
		dw_abbrevs_free(slot->abbrevs);
	dw_abbrevs_map_deinit(&f->abbrevs);
	for (int id = 0; id < DW_NUM_SECTIONS; id++)
		section_deinit(&f->sections[id]);
	elf_file_free(f->elf);
	f->elf = NULL;
}

void dw_file_free(struct dw_file *f)
{
	if (!f)
		return;
	dw_file_deinit(f);
	free(f);
}

static bool load_whole(struct dw_file *f, struct dw_section *s)
{
	s->bytes = malloc(s->size);
	if (!s->bytes)
		return false;
	if (s->packed)
		return elf_unpack_zlib(f->elf, s->offset, s->packed, s->bytes, s->size);
	return elf_file_read(f->elf, s->bytes, s->size, s->offset) == 0;
}

/* Memory for all of a large section, which costs nothing until it is filled. */
static bool load_lazily(struct dw_section *s)
{
	void *bytes = mmap(NULL, s->size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED)
		return false;
	s->bytes = bytes;
	s->mapped = true;
	s->have = calloc((s->size + PAGE - 1) / PAGE, 1);
	return s->have;
}

static bool load(struct dw_file *f, enum dw_section_id id)
{
	/* Read from some place to an end that is not known before, and small. */
	bool whole = id == DW_ABBREV || id == DW_ARANGES || id == DW_CU_INDEX;
	struct dw_section *s = &f->sections[id];
	bool ok;

	if (s->bytes || s->failed)
		return !s->failed;
	whole |= s->packed || s->size < WHOLE_BELOW;
	ok = f->elf && (whole ? load_whole(f, s) : load_lazily(s));
	s->failed = !ok;
	return ok;
}

/* Reads the pages that are missing between first and last, neighbours in one go. */
static bool fill(struct dw_file *f, struct dw_section *s, uint64_t first, uint64_t last)
{
	for (uint64_t page = first; page <= last; page++) {
		uint64_t from = page, start = page * PAGE, len;

		if (s->have[page])
			continue;
		while (page < last && !s->have[page + 1])
			page++;
		len = (page + 1) * PAGE < s->size ? (page + 1) * PAGE - start : s->size - start;
		if (!f->elf || elf_file_read(f->elf, s->bytes + start, len, s->offset + start) < 0)
			return false;
		memset(s->have + from, 1, page - from + 1);
	}
	return true;
}

const uint8_t *dw_bytes(struct dw_file *f, enum dw_section_id id, uint64_t offset, uint64_t len)
{
	struct dw_section *s = &f->sections[id];

	if (offset > s->size || len > s->size - offset || !s->size || !load(f, id))
		return NULL;
	if (s->have && len && !fill(f, s, offset / PAGE, (offset + len - 1) / PAGE))
		return NULL;
	return s->bytes + offset;
}

struct reader dw_reader(struct dw_file *f, enum dw_section_id id, uint64_t offset, uint64_t max)
{
	uint64_t size = dw_size(f, id);
	uint64_t len = offset < size ? size - offset : 0;
	const uint8_t *bytes;
	struct reader r;

	if (len > max)
		len = max;
	bytes = len ? dw_bytes(f, id, offset, len) : NULL;
	r = reader_init(bytes, bytes ? len : 0);
	r.failed = !bytes;
	return r;
}

const char *dw_string(struct dw_file *f, enum dw_section_id id, uint64_t offset)
{
	uint64_t size = dw_size(f, id);
	uint64_t limit =
		offset < size && size - offset > DW_MAX_STRING ? offset + DW_MAX_STRING : size;
	const uint8_t *start = NULL;

	for (uint64_t at = offset; at < limit;) {
		uint64_t next = (at / PAGE + 1) * PAGE;
		const uint8_t *bytes;

		if (next > limit)
			next = limit;
		bytes = dw_bytes(f, id, at, next - at);
		if (!bytes)
			return NULL;
		if (!start)
			start = bytes;
		if (memchr(bytes, 0, next - at))
			return (const char *)start;
		at = next;
	}
	return NULL;
}

bool dw_file_detach(struct dw_file *f)
{
	static const enum dw_section_id needed[] = { DW_INFO, DW_ABBREV, DW_STR, DW_RNGLISTS,
						     DW_STR_OFFSETS };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		enum dw_section_id id = needed[i];

		if (dw_size(f, id) && !dw_bytes(f, id, 0, dw_size(f, id)))
			return false;
	}
	elf_file_free(f->elf);
	f->elf = NULL;
	return true;
}
