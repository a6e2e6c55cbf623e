/* The line table of a unit: section 6.2, versions 2 to 5. */
#include "symbols/inline_priv.h"

#include "base/cleanup.h"
#include "base/intern.h"
#include "base/strbuf.h"

#include <dwarf.h>

struct row {
	uint64_t addr;
	uint32_t file, line;
};

/* Rows of ascending addresses; the last one's address is where the sequence ends. */
struct sequence {
	uint64_t lo, hi;
	uint32_t first, num; /* rows without the end */
};

struct file_entry {
	const char *name; /* borrowed from the section; NULL = broken */
	const char *path; /* interned; NULL = not asked for yet */
	uint64_t dir;
};

struct dw_lines {
	uint16_t version;
	const char *comp_dir;   /* borrowed; NULL = none */
	VEC(const char *) dirs; /* borrowed; NULL = broken */
	VEC(struct file_entry) files;
	VEC(struct row) rows;
	VEC(struct sequence) sequences; /* sorted by lo */
};

/* What the header says about the program. */
struct program {
	uint8_t min_length, opcode_base, line_range;
	int8_t line_base;
	const uint8_t *lengths; /* operands of each standard opcode, from opcode 1 */
	struct dw_unit header;  /* sizes of forms in this table */
};

/* The state machine's registers (section 6.2.2) that matter here. */
struct machine {
	uint64_t addr;
	uint64_t file, line;
	uint32_t first; /* row of the sequence at hand */
};

/* --- Directories and files --- */

static bool read_paths_4(struct dw_unit *u, struct dw_lines *l, struct reader *r)
{
	const char *str;

	/* Directory 0 is the compilation's own; binutils and libdw count so too. */
	if (!vec_push(&l->dirs, NULL) || !vec_push(&l->files, ((struct file_entry){ 0 })))
		return false;
	for (;;) {
		str = reader_str(r);
		if (!str || !dw_spend(u->file->budget, 1))
			return false;
		if (!*str)
			break;
		if (!vec_push(&l->dirs, str))
			return false;
	}
	for (;;) {
		struct file_entry f = { .name = reader_str(r) };

		if (!f.name || !dw_spend(u->file->budget, 1))
			return false;
		if (!*f.name)
			return true;
		f.dir = reader_uleb(r);
		reader_uleb(r); /* time */
		reader_uleb(r); /* length */
		if (r->failed || !vec_push(&l->files, f))
			return false;
	}
}

struct formats {
	struct {
		uint64_t content;
		uint16_t form;
	} column[DW_MAX_FORMATS];
	size_t num;
};

static bool read_formats(struct reader *r, struct formats *ret)
{
	ret->num = reader_u8(r);
	if (ret->num > DW_MAX_FORMATS)
		return false;
	for (size_t i = 0; i < ret->num; i++) {
		ret->column[i].content = reader_uleb(r);
		ret->column[i].form = (uint16_t)reader_uleb(r);
		if (ret->column[i].form == DW_FORM_implicit_const)
			return false;
	}
	return !r->failed;
}

static bool read_entry_5(struct dw_unit *u, struct reader *r, const struct formats *f,
			 struct file_entry *ret)
{
	*ret = (struct file_entry){ 0 };
	for (size_t i = 0; i < f->num; i++) {
		struct dw_value v;

		if (!dw_value_read(u, r, f->column[i].form, 0, &v))
			return false;
		if (f->column[i].content == DW_LNCT_path)
			ret->name = dw_value_string(u, &v);
		else if (f->column[i].content == DW_LNCT_directory_index)
			ret->dir = v.u;
	}
	return true;
}

/* Both tables of version 5: directories, then files. */
static bool read_paths_5(struct dw_unit *u, struct dw_lines *l, struct reader *r)
{
	for (int table = 0; table < 2; table++) {
		struct formats formats;
		uint64_t num;

		if (!read_formats(r, &formats))
			return false;
		num = reader_uleb(r);
		/* Columns may be missing only from an empty table: each entry takes a byte or more. */
		if (r->failed || num > reader_left(r) || (num && !formats.num))
			return false;
		for (; num; num--) {
			struct file_entry e;

			if (!dw_spend(u->file->budget, 1) || !read_entry_5(u, r, &formats, &e))
				return false;
			if (table ? !vec_push(&l->files, e) : !vec_push(&l->dirs, e.name))
				return false;
		}
	}
	return true;
}

/* --- The program --- */

static bool add_row(struct dw_lines *l, const struct machine *m)
{
	struct row row = { m->addr, (uint32_t)m->file, (uint32_t)m->line };
	struct row *last = l->rows.len > m->first ? &l->rows.data[l->rows.len - 1] : NULL;

	/* Of several rows for one address the last counts. */
	if (last && last->addr == row.addr) {
		*last = row;
		return true;
	}
	if (l->rows.len == l->rows.cap && !vec_reserve(&l->rows, l->rows.len + 1))
		return false;
	l->rows.data[l->rows.len++] = row;
	return true;
}

static bool end_sequence(struct dw_unit *u, struct dw_lines *l, struct machine *m)
{
	struct sequence s = { .hi = m->addr, .first = m->first };
	bool ok = true;

	s.num = (uint32_t)l->rows.len - m->first;
	if (s.num)
		s.lo = l->rows.data[m->first].addr;
	if (s.lo < s.hi && dw_is_code(u->file, s.lo))
		ok = vec_push(&l->sequences, s);
	else
		l->rows.len = m->first;
	*m = (struct machine){ .file = 1, .line = 1, .first = (uint32_t)l->rows.len };
	return ok;
}

static bool run_extended(struct dw_unit *u, struct dw_lines *l, struct reader *r, struct machine *m)
{
	uint64_t len = reader_uleb(r);
	const uint8_t *bytes = len <= reader_left(r) ? reader_bytes(r, len) : NULL;
	struct reader op = reader_init(bytes, bytes ? len : 0);

	if (!bytes || !len)
		return false;
	switch (reader_u8(&op)) {
	case DW_LNE_end_sequence:
		return end_sequence(u, l, m);
	case DW_LNE_set_address:
		m->addr = dw_number(&op, (unsigned int)(len - 1));
		return !op.failed;
	default:
		return true;
	}
}

static bool run_standard(const struct program *p, struct dw_lines *l, struct reader *r,
			 struct machine *m, uint8_t op)
{
	switch (op) {
	case DW_LNS_copy:
		return add_row(l, m);
	case DW_LNS_advance_pc:
		m->addr += reader_uleb(r) * p->min_length;
		break;
	case DW_LNS_advance_line:
		m->line += (uint64_t)reader_sleb(r);
		break;
	case DW_LNS_set_file:
		m->file = reader_uleb(r);
		break;
	case DW_LNS_const_add_pc:
		m->addr += (uint64_t)((255 - p->opcode_base) / p->line_range) * p->min_length;
		break;
	case DW_LNS_fixed_advance_pc:
		m->addr += reader_u16(r);
		break;
	default: /* columns, flags, and what later versions may add */
		for (uint8_t i = p->lengths[op - 1]; i; i--)
			reader_uleb(r);
		break;
	}
	return !r->failed;
}

static bool run(struct dw_unit *u, const struct program *p, struct dw_lines *l, struct reader *r)
{
	struct machine m = { .file = 1, .line = 1 };

	while (reader_left(r)) {
		uint8_t op = reader_u8(r);
		bool ok;

		if (!dw_spend(u->file->budget, 1))
			return false;
		if (op >= p->opcode_base) {
			uint8_t step = op - p->opcode_base;

			m.addr += (uint64_t)(step / p->line_range) * p->min_length;
			m.line += (uint64_t)(int64_t)(p->line_base + step % p->line_range);
			ok = add_row(l, &m);
		} else {
			ok = op ? run_standard(p, l, r, &m, op) : run_extended(u, l, r, &m);
		}
		if (!ok)
			return false;
	}
	return true;
}

/* --- The header (section 6.2.4) --- */

/* The bytes of the whole table, behind its length. */
static struct reader table_reader(struct dw_unit *u, uint8_t *ret_offset_size)
{
	struct reader r = dw_reader(u->file, DW_LINE, u->stmt_list, 12);
	uint64_t head = 4, len = reader_u32(&r);

	*ret_offset_size = 4;
	if (len == 0xffffffff) {
		len = reader_u64(&r);
		head = 12;
		*ret_offset_size = 8;
	}
	if (r.failed || len > dw_size(u->file, DW_LINE) - u->stmt_list - head) {
		r.failed = true;
		return r;
	}
	return dw_reader(u->file, DW_LINE, u->stmt_list + head, len);
}

static bool read_header(struct dw_unit *u, struct reader *r, struct dw_lines *l, struct program *p)
{
	const uint8_t *behind;
	uint64_t len;
	bool ok;

	l->version = reader_u16(r);
	if (l->version < 2 || l->version > 5)
		return false;
	p->header.address_size = u->address_size;
	if (l->version >= 5) {
		p->header.address_size = reader_u8(r);
		reader_u8(r); /* segment selectors, which no one uses */
	}
	len = dw_number(r, p->header.offset_size);
	if (r->failed || len > reader_left(r))
		return false;
	behind = r->pos + len;
	p->min_length = reader_u8(r);
	if (l->version >= 4)
		reader_u8(r); /* operations of an instruction: only for VLIW machines */
	reader_u8(r);         /* default_is_stmt */
	p->line_base = (int8_t)reader_u8(r);
	p->line_range = reader_u8(r);
	p->opcode_base = reader_u8(r);
	if (r->failed || !p->line_range || !p->opcode_base)
		return false;
	p->lengths = reader_bytes(r, p->opcode_base - 1u);
	if (!p->lengths)
		return false;
	p->header.version = l->version;
	ok = l->version >= 5 ? read_paths_5(&p->header, l, r) : read_paths_4(&p->header, l, r);
	if (!ok || r->pos > behind)
		return false;
	r->pos = behind;
	return true;
}

void dw_lines_free(struct dw_lines *l)
{
	if (!l)
		return;
	vec_deinit(&l->dirs);
	vec_deinit(&l->files);
	vec_deinit(&l->rows);
	vec_deinit(&l->sequences);
	free(l);
}

static void lines_freep(struct dw_lines **l)
{
	dw_lines_free(*l);
}

static int by_lo(const void *a, const void *b)
{
	const struct sequence *x = a, *y = b;

	if (x->lo != y->lo)
		return x->lo < y->lo ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static struct dw_lines *read_lines(struct dw_unit *u)
{
	_cleanup_(lines_freep) struct dw_lines *l = calloc(1, sizeof(*l));
	struct program p = { .header = *u };
	struct reader r = table_reader(u, &p.header.offset_size);

	if (!l || r.failed || !read_header(u, &r, l, &p))
		return NULL;
	l->comp_dir = dw_value_string(u, &u->comp_dir);
	/* A program that breaks off is good for the sequences it finished. */
	run(u, &p, l, &r);
	if (l->sequences.len)
		qsort(l->sequences.data, l->sequences.len, sizeof(l->sequences.data[0]), by_lo);
	return steal_ptr(l);
}

struct dw_lines *dw_unit_lines(struct dw_unit *u)
{
	if (u->skeleton)
		u = u->skeleton;
	if (!u->lines_tried) {
		u->lines_tried = true;
		if (dw_unit_root(u) && u->has_lines)
			u->lines = read_lines(u);
	}
	return u->lines;
}

static const struct sequence *find_sequence(const struct dw_lines *l, uint64_t vaddr)
{
	size_t lo = 0, hi = l->sequences.len;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->sequences.data[mid].lo <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || vaddr >= l->sequences.data[lo - 1].hi)
		return NULL;
	return &l->sequences.data[lo - 1];
}

bool dw_lines_find(const struct dw_lines *l, uint64_t vaddr, uint32_t *ret_file, uint32_t *ret_line)
{
	const struct sequence *s = find_sequence(l, vaddr);
	const struct row *rows;
	size_t lo = 0, hi;

	if (!s)
		return false;
	rows = l->rows.data + s->first;
	hi = s->num;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rows[mid].addr <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return false;
	*ret_file = rows[lo - 1].file;
	*ret_line = rows[lo - 1].line;
	return true;
}

/* --- Paths --- */

/* As binutils joins them: the compilation's directory, the file's, its name, as many as are needed. */
static const char *join_path(const struct dw_lines *l, struct intern *strings,
			     const struct file_entry *f)
{
	const char *dir = f->dir < l->dirs.len ? l->dirs.data[f->dir] : NULL;
	const char *root = dir && *dir == '/' ? NULL : l->comp_dir;
	struct strbuf path = { 0 };
	const char *ret = NULL;

	if (*f->name != '/') {
		if (root)
			strbuf_printf(&path, "%s/", root);
		if (dir)
			strbuf_printf(&path, "%s/", dir);
	}
	strbuf_str(&path, f->name);
	if (!path.failed)
		ret = intern_mem(strings, path.data, path.len);
	strbuf_deinit(&path);
	return ret;
}

const char *dw_lines_file(struct dw_lines *l, struct intern *strings, uint32_t file)
{
	struct file_entry *f = file < l->files.len ? &l->files.data[file] : NULL;

	if (!f || !f->name)
		return NULL;
	if (!f->path)
		f->path = join_path(l, strings, f);
	return f->path;
}
