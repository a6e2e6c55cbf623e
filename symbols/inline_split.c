/*
 * Debug information that lies in other files: dwz's supplementary file, .dwo files and .dwp packages of split
 * DWARF. Which file is meant is asked of the caller; none is opened here.
 */
#include "symbols/inline_priv.h"

#include "base/cleanup.h"
#include "symbols/elf_file_priv.h"

#include <dwarf.h>
#include <sys/stat.h>

enum {
	LINK_MAX = 8 << 10, /* bytes of .gnu_debugaltlink */
	PACKAGE_MAX_COLUMNS = 16,
};

/* DW_SECT_* of a package's index (section 7.3.5.3; the same numbers in GNU's version 2). */
enum { SECT_INFO = 1, SECT_ABBREV = 3, SECT_STR_OFFSETS = 6, SECT_RNGLISTS = 8 };

/* .debug_cu_index: a hash table from a unit's id to a row of offsets into the sections. */
struct dw_package {
	struct dw_file file;
	uint32_t columns, units, slots;
	uint64_t hashes, indices, offsets;     /* where the parts of the index begin */
	uint32_t section[PACKAGE_MAX_COLUMNS]; /* DW_SECT_* of each column */
};

/* --- Opening --- */

static struct elf_file *open_elf(struct dw_files *fs, const char *name, const uint8_t *build_id,
				 size_t len)
{
	_cleanup_close_ int fd = -1;
	struct elf_file *elf = NULL;
	struct stat st;

	if (fs->callbacks.open)
		fd = fs->callbacks.open(fs->callbacks.data, name, build_id, len);
	if (fd < 0 || fstat(fd, &st) < 0 ||
	    elf_file_open_fd(steal_fd(&fd), (uint64_t)st.st_size, &elf, NULL) < 0)
		return NULL;
	return elf;
}

/* Takes elf; NULL when it has no units. */
static struct dw_file *new_file(struct dw_files *fs, struct elf_file *elf, bool split)
{
	struct dw_file *f = calloc(1, sizeof(*f));

	if (!f) {
		elf_file_free(elf);
		return NULL;
	}
	dw_file_init(f, elf, split, fs->budget);
	if (dw_file_scan(f))
		return f;
	dw_file_free(f);
	return NULL;
}

/* --- Supplementary files --- */

struct alt_link {
	_Alignas(8) uint8_t bytes[LINK_MAX + 1];
	const char *name;
	const uint8_t *id;
	size_t id_len;
};

static bool read_link(struct dw_file *f, const char *section, struct alt_link *l, struct reader *r)
{
	const struct elf_section *s = elf_file_section(f->elf, section);

	if (!s || s->type == SHT_NOBITS || s->size > LINK_MAX ||
	    elf_file_read(f->elf, l->bytes, s->size, s->offset) < 0)
		return false;
	*r = reader_init(l->bytes, s->size);
	return true;
}

static bool find_link(struct dw_file *f, struct alt_link *l)
{
	struct reader r;

	if (read_link(f, ".gnu_debugaltlink", l, &r)) {
		l->name = reader_str(&r);
		l->id_len = reader_left(&r);
	} else if (read_link(f, ".debug_sup", l, &r)) { /* section 7.3.6 */
		reader_u16(&r);                         /* version */
		if (reader_u8(&r))
			return false; /* this is the supplementary file itself */
		l->name = reader_str(&r);
		l->id_len = reader_uleb(&r);
	} else {
		return false;
	}
	l->id = l->id_len <= reader_left(&r) ? reader_bytes(&r, l->id_len) : NULL;
	return l->name && *l->name && l->id && l->id_len;
}

/* What the file says it is must be what was asked for: build-id, or .debug_sup's own checksum. */
static bool is_linked(struct elf_file *elf, const struct alt_link *l)
{
	const struct elf_section *s = elf_file_section(elf, ".debug_sup");
	const uint8_t *id;
	size_t len = elf_file_build_id(elf, &id);
	uint8_t sup[256];

	if (len == l->id_len && !memcmp(id, l->id, len))
		return true;
	/* Its end: the checksum is the last field. */
	return s && s->type != SHT_NOBITS && s->size <= sizeof(sup) && s->size > l->id_len &&
	       elf_file_read(elf, sup, s->size, s->offset) == 0 &&
	       !memcmp(sup + s->size - l->id_len, l->id, l->id_len);
}

struct dw_file *dw_open_alt(struct dw_files *fs, struct dw_file *f)
{
	struct alt_link l = { 0 };
	struct elf_file *elf;

	if (!find_link(f, &l))
		return NULL;
	elf = open_elf(fs, l.name, l.id, l.id_len);
	if (!elf)
		return NULL;
	if (!is_linked(elf, &l)) {
		elf_file_free(elf);
		return NULL;
	}
	return new_file(fs, elf, false);
}

/* --- Packages --- */

static uint32_t package_u32(struct dw_package *p, uint64_t offset)
{
	struct reader r = dw_reader(&p->file, DW_CU_INDEX, offset, 4);

	return reader_u32(&r);
}

static bool parse_package(struct dw_package *p)
{
	struct reader r = dw_reader(&p->file, DW_CU_INDEX, 0, 16);
	uint32_t version = reader_u32(&r);

	p->columns = reader_u32(&r);
	p->units = reader_u32(&r);
	p->slots = reader_u32(&r);
	if (r.failed || (version != 2 && (version & 0xffff) != 5))
		return false;
	if (!p->columns || p->columns > PACKAGE_MAX_COLUMNS || !p->slots ||
	    p->slots & (p->slots - 1))
		return false;
	p->hashes = 16;
	p->indices = p->hashes + (uint64_t)p->slots * 8;
	p->offsets = p->indices + (uint64_t)p->slots * 4;
	for (uint32_t i = 0; i < p->columns; i++)
		p->section[i] = package_u32(p, p->offsets + (uint64_t)i * 4);
	return p->offsets + ((uint64_t)p->units + 1) * p->columns * 4 <=
	       dw_size(&p->file, DW_CU_INDEX);
}

static void package_free(struct dw_package *p)
{
	if (p)
		dw_file_deinit(&p->file);
	free(p);
}

static void try_package(struct dw_files *fs)
{
	struct elf_file *elf;

	if (fs->package_tried)
		return;
	fs->package_tried = true;
	elf = open_elf(fs, ".dwp", NULL, 0);
	if (!elf)
		return;
	fs->package = calloc(1, sizeof(*fs->package));
	if (!fs->package) {
		elf_file_free(elf);
		return;
	}
	dw_file_init(&fs->package->file, elf, true, fs->budget);
	if (!parse_package(fs->package)) {
		package_free(fs->package);
		fs->package = NULL;
	}
}

/* Row of a unit, from 1; 0 = not there. The hash is the one of section 7.3.5.3. */
static uint32_t package_row(struct dw_package *p, uint64_t id)
{
	uint32_t mask = p->slots - 1, slot = (uint32_t)id & mask,
		 step = ((uint32_t)(id >> 32) & mask) | 1;

	for (uint32_t n = 0; n < p->slots && dw_spend(p->file.budget, 1); n++) {
		uint32_t row = package_u32(p, p->indices + (uint64_t)slot * 4);
		struct reader r =
			dw_reader(&p->file, DW_CU_INDEX, p->hashes + (uint64_t)slot * 8, 8);

		if (!row || row > p->units)
			return 0;
		if (reader_u64(&r) == id)
			return row;
		slot = (slot + step) & mask;
	}
	return 0;
}

static uint64_t package_offset(struct dw_package *p, uint32_t row, uint32_t section)
{
	for (uint32_t i = 0; i < p->columns; i++) {
		if (p->section[i] == section)
			return package_u32(p, p->offsets + ((uint64_t)row * p->columns + i) * 4);
	}
	return 0;
}

static struct dw_unit *from_package(struct dw_package *p, struct dw_unit *skeleton)
{
	uint32_t row = package_row(p, skeleton->dwo_id);
	struct dw_unit *u;
	uint64_t next;

	if (!row)
		return NULL;
	u = calloc(1, sizeof(*u));
	if (!u || !dw_unit_parse(&p->file, package_offset(p, row, SECT_INFO), u, &next)) {
		free(u);
		return NULL;
	}
	u->skeleton = skeleton;
	u->abbrev_offset += package_offset(p, row, SECT_ABBREV);
	u->str_shift = package_offset(p, row, SECT_STR_OFFSETS);
	u->rng_shift = u->version >= 5 ? package_offset(p, row, SECT_RNGLISTS) : 0;
	return u;
}

/* --- .dwo files --- */

/* The directory of the compilation in front of a relative name. */
static char *dwo_path(struct dw_unit *skeleton)
{
	const char *name = dw_value_string(skeleton, &skeleton->dwo_name);
	const char *dir = dw_value_string(skeleton, &skeleton->comp_dir);
	char *path = NULL;

	if (!name || !*name)
		return NULL;
	if (*name == '/' || !dir || !*dir)
		return strdup(name);
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return NULL;
	return path;
}

static struct dw_unit *find_split(struct dw_file *f, struct dw_unit *skeleton)
{
	for (size_t i = 0; i < f->units.len; i++) {
		struct dw_unit *u = &f->units.data[i];

		u->skeleton = skeleton;
		if (dw_unit_root(u) && u->dwo_id == skeleton->dwo_id &&
		    u->tag == DW_TAG_compile_unit)
			return u;
	}
	return NULL;
}

static struct dw_unit *from_dwo(struct dw_files *fs, struct dw_unit *skeleton)
{
	_cleanup_free_ char *path = dwo_path(skeleton);
	struct elf_file *elf = path ? open_elf(fs, path, NULL, 0) : NULL;
	struct dw_file *f = elf ? new_file(fs, elf, true) : NULL;
	struct dw_unit *u = f ? find_split(f, skeleton) : NULL;

	/* There may be thousands: keeping them all open would cost a descriptor each. */
	if (u && dw_file_detach(f))
		return u;
	dw_file_free(f);
	return NULL;
}

static void find_full(struct dw_files *fs, struct dw_unit *u)
{
	u->split_state = DW_SPLIT_NONE;
	try_package(fs);
	if (fs->package)
		u->split = from_package(fs->package, u);
	if (!u->split) {
		u->split = from_dwo(fs, u);
		u->split_owns_file = u->split;
	}
	if (u->split)
		u->split_state = DW_SPLIT_FOUND;
}

struct dw_unit *dw_unit_full(struct dw_files *fs, struct dw_unit *u)
{
	if (!dw_unit_root(u) || !u->dwo_name.form)
		return u;
	if (u->split_state == DW_SPLIT_UNTRIED)
		find_full(fs, u);
	return u->split_state == DW_SPLIT_FOUND ? u->split : u;
}

void dw_unit_deinit(struct dw_unit *u)
{
	dw_code_free(u->code);
	dw_lines_free(u->lines);
	if (!u->split)
		return;
	if (u->split_owns_file) {
		dw_file_free(u->split->file);
		return;
	}
	dw_unit_deinit(u->split);
	free(u->split);
}

void dw_files_deinit(struct dw_files *fs)
{
	package_free(fs->package);
	fs->package = NULL;
}
