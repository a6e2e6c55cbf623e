#include "runtimes/clr_metadata.h"

#include "base/reader.h"
#include "base/strbuf.h"

enum {
	ROOT_MAGIC = 0x424a5342, /* "BSJB"; II.24.2.1 */
	MAX_STREAMS = 16,
	MAX_ROWS = 1 << 24,      /* a token has 24 bits for them */
	MAX_NESTING = 32,        /* types in types */
	MAX_STRING = 64 << 10,
};

/* What a column holds: a table's number, or one of these. */
enum {
	U16 = 0x80,
	U32,
	STR,
	GUID,
	BLOB,
	CODED, /* and what follows: coded[column - CODED] */
	TYPE_DEF_OR_REF = CODED,
	HAS_CONSTANT,
	HAS_ATTRIBUTE,
	HAS_MARSHAL,
	HAS_SECURITY,
	MEMBER_PARENT,
	HAS_SEMANTICS,
	METHOD_DEF_OR_REF,
	MEMBER_FORWARDED,
	IMPLEMENTATION,
	ATTRIBUTE_TYPE,
	SCOPE,
	TYPE_OR_METHOD,
	END = 0xff,
};

/* II.24.2.6: how many bits tell the table, and the tables by what these say. NO: not used. */
enum { NO = 0xff };
struct coded {
	uint8_t bits, num;
	uint8_t tables[22];
};
static const struct coded coded[] = {
	[TYPE_DEF_OR_REF - CODED] = { 2, 3, { 0x02, 0x01, 0x1b } },
	[HAS_CONSTANT - CODED] = { 2, 3, { 0x04, 0x08, 0x17 } },
	[HAS_ATTRIBUTE - CODED] = { 5, 22, { 0x06, 0x04, 0x01, 0x02, 0x08, 0x09, 0x0a, 0x00, 0x0e, 0x17, 0x14,
					     0x11, 0x1a, 0x1b, 0x20, 0x23, 0x26, 0x27, 0x28, 0x2a, 0x2c, 0x2b } },
	[HAS_MARSHAL - CODED] = { 1, 2, { 0x04, 0x08 } },
	[HAS_SECURITY - CODED] = { 2, 3, { 0x02, 0x06, 0x20 } },
	[MEMBER_PARENT - CODED] = { 3, 5, { 0x02, 0x01, 0x1a, 0x06, 0x1b } },
	[HAS_SEMANTICS - CODED] = { 1, 2, { 0x14, 0x17 } },
	[METHOD_DEF_OR_REF - CODED] = { 1, 2, { 0x06, 0x0a } },
	[MEMBER_FORWARDED - CODED] = { 1, 2, { 0x04, 0x06 } },
	[IMPLEMENTATION - CODED] = { 2, 3, { 0x26, 0x23, 0x27 } },
	[ATTRIBUTE_TYPE - CODED] = { 3, 5, { NO, NO, 0x06, 0x0a, NO } },
	[SCOPE - CODED] = { 2, 4, { 0x00, 0x1a, 0x23, 0x01 } },
	[TYPE_OR_METHOD - CODED] = { 1, 2, { 0x02, 0x06 } },
};

/* The columns of each table, II.22; tables of portable debug information are not looked at. */
static const uint8_t columns[CLR_NUM_TABLES][CLR_MAX_COLUMNS + 1] = {
	[0x00] = { U16, STR, GUID, GUID, GUID, END },                      /* Module */
	[0x01] = { SCOPE, STR, STR, END },                                 /* TypeRef */
	[0x02] = { U32, STR, STR, TYPE_DEF_OR_REF, 0x04, 0x06, END },      /* TypeDef */
	[0x03] = { 0x04, END },                                            /* FieldPtr */
	[0x04] = { U16, STR, BLOB, END },                                  /* Field */
	[0x05] = { 0x06, END },                                            /* MethodPtr */
	[0x06] = { U32, U16, U16, STR, BLOB, 0x08, END },                  /* MethodDef */
	[0x07] = { 0x08, END },                                            /* ParamPtr */
	[0x08] = { U16, U16, STR, END },                                   /* Param */
	[0x09] = { 0x02, TYPE_DEF_OR_REF, END },                           /* InterfaceImpl */
	[0x0a] = { MEMBER_PARENT, STR, BLOB, END },                        /* MemberRef */
	[0x0b] = { U16, HAS_CONSTANT, BLOB, END },                         /* Constant */
	[0x0c] = { HAS_ATTRIBUTE, ATTRIBUTE_TYPE, BLOB, END },             /* CustomAttribute */
	[0x0d] = { HAS_MARSHAL, BLOB, END },                               /* FieldMarshal */
	[0x0e] = { U16, HAS_SECURITY, BLOB, END },                         /* DeclSecurity */
	[0x0f] = { U16, U32, 0x02, END },                                  /* ClassLayout */
	[0x10] = { U32, 0x04, END },                                       /* FieldLayout */
	[0x11] = { BLOB, END },                                            /* StandAloneSig */
	[0x12] = { 0x02, 0x14, END },                                      /* EventMap */
	[0x13] = { 0x14, END },                                            /* EventPtr */
	[0x14] = { U16, STR, TYPE_DEF_OR_REF, END },                       /* Event */
	[0x15] = { 0x02, 0x17, END },                                      /* PropertyMap */
	[0x16] = { 0x17, END },                                            /* PropertyPtr */
	[0x17] = { U16, STR, BLOB, END },                                  /* Property */
	[0x18] = { U16, 0x06, HAS_SEMANTICS, END },                        /* MethodSemantics */
	[0x19] = { 0x02, METHOD_DEF_OR_REF, METHOD_DEF_OR_REF, END },      /* MethodImpl */
	[0x1a] = { STR, END },                                             /* ModuleRef */
	[0x1b] = { BLOB, END },                                            /* TypeSpec */
	[0x1c] = { U16, MEMBER_FORWARDED, STR, 0x1a, END },                /* ImplMap */
	[0x1d] = { U32, 0x04, END },                                       /* FieldRVA */
	[0x1e] = { U32, U32, END },                                        /* EncLog */
	[0x1f] = { U32, END },                                             /* EncMap */
	[0x20] = { U32, U16, U16, U16, U16, U32, BLOB, STR, STR },         /* Assembly */
	[0x21] = { U32, END },                                             /* AssemblyProcessor */
	[0x22] = { U32, U32, U32, END },                                   /* AssemblyOS */
	[0x23] = { U16, U16, U16, U16, U32, BLOB, STR, STR, BLOB },        /* AssemblyRef */
	[0x24] = { U32, 0x23, END },                                       /* AssemblyRefProcessor */
	[0x25] = { U32, U32, U32, 0x23, END },                             /* AssemblyRefOS */
	[0x26] = { U32, STR, BLOB, END },                                  /* File */
	[0x27] = { U32, U32, STR, STR, IMPLEMENTATION, END },              /* ExportedType */
	[0x28] = { U32, U32, STR, IMPLEMENTATION, END },                   /* ManifestResource */
	[0x29] = { 0x02, 0x02, END },                                      /* NestedClass */
	[0x2a] = { U16, U16, TYPE_OR_METHOD, STR, END },                   /* GenericParam */
	[0x2b] = { METHOD_DEF_OR_REF, BLOB, END },                         /* MethodSpec */
	[0x2c] = { 0x2a, TYPE_DEF_OR_REF, END },                           /* GenericParamConstraint */
};

/* ---- layout ---- */

static uint8_t index_bytes(uint32_t num, uint32_t bits)
{
	return num < 1u << (16 - bits) ? 2 : 4;
}

static uint8_t coded_bytes(const struct clr_metadata *md, const struct coded *c)
{
	uint8_t bytes = 2;

	for (uint32_t i = 0; i < c->num; i++) {
		if (c->tables[i] != NO && index_bytes(md->tables[c->tables[i]].num, c->bits) > bytes)
			bytes = 4;
	}
	return bytes;
}

/* `sizes` are the bits of II.24.2.6, HeapSizes. */
static uint8_t column_size(const struct clr_metadata *md, uint8_t column, uint8_t sizes)
{
	switch (column) {
	case U16:
		return 2;
	case U32:
		return 4;
	case STR:
		return sizes & 1 ? 4 : 2;
	case GUID:
		return sizes & 2 ? 4 : 2;
	case BLOB:
		return sizes & 4 ? 4 : 2;
	default:
		return column < CLR_NUM_TABLES ? index_bytes(md->tables[column].num, 0)
					       : coded_bytes(md, &coded[column - CODED]);
	}
}

static void lay_out(struct clr_metadata *md, uint32_t table, uint8_t sizes)
{
	struct clr_table *t = &md->tables[table];

	for (uint32_t i = 0; i < CLR_MAX_COLUMNS && columns[table][i] != END; i++) {
		t->column_at[i] = t->row_bytes;
		t->column_bytes[i] = column_size(md, columns[table][i], sizes);
		t->row_bytes = (uint8_t)(t->row_bytes + t->column_bytes[i]);
	}
}

static bool take_tables(struct clr_metadata *md, struct reader r)
{
	uint64_t present;
	uint8_t sizes;

	reader_bytes(&r, 6); /* reserved, major and minor version */
	sizes = reader_u8(&r);
	reader_u8(&r);
	present = reader_u64(&r);
	reader_u64(&r); /* which are sorted: all that we look up so are */
	for (uint32_t i = 0; i < 64; i++) {
		uint32_t num = present >> i & 1 ? reader_u32(&r) : 0;

		if (num >= MAX_ROWS)
			return false;
		if (i < CLR_NUM_TABLES)
			md->tables[i].num = num;
	}
	if (sizes & 0x40)
		reader_u32(&r); /* "extra data" of uncompressed metadata, coreclr metamodel.cpp */
	for (uint32_t i = 0; i < CLR_NUM_TABLES; i++) {
		struct clr_table *t = &md->tables[i];

		lay_out(md, i, sizes);
		t->rows = reader_bytes(&r, (size_t)t->num * t->row_bytes);
	}
	return !r.failed;
}

static bool name_is(const char *name, const char *is)
{
	return name && !strcmp(name, is);
}

/* A stream's name is padded to a multiple of 4, its NUL included. */
static const char *stream_name(struct reader *r)
{
	const uint8_t *start = r->pos;
	const char *name = reader_str(r);

	while (!r->failed && (r->pos - start) % 4)
		reader_u8(r);
	return name;
}

bool clr_metadata_open(const void *bytes, size_t size, struct clr_metadata *ret)
{
	struct reader r = reader_init(bytes, size), tables = { 0 };
	struct clr_metadata md = { 0 };
	bool found = false;
	uint16_t num;

	if (reader_u32(&r) != ROOT_MAGIC)
		return false;
	reader_u64(&r);                    /* versions and a reserved word */
	reader_bytes(&r, reader_u32(&r)); /* version, padded */
	reader_u16(&r);
	num = reader_u16(&r);
	for (uint16_t i = 0; i < num && i < MAX_STREAMS; i++) {
		uint32_t at = reader_u32(&r), len = reader_u32(&r);
		const char *name = stream_name(&r);
		struct clr_heap heap = { (const uint8_t *)bytes + at, len };

		if (r.failed || at > size || len > size - at)
			return false;
		if (name_is(name, "#Strings"))
			md.strings = heap;
		else if (name_is(name, "#Blob"))
			md.blobs = heap;
		else if (name_is(name, "#GUID"))
			md.guids = heap;
		else if (name_is(name, "#~") || name_is(name, "#-")) {
			tables = reader_init(heap.bytes, heap.size);
			found = true;
		}
	}
	if (!found || !take_tables(&md, tables))
		return false;
	*ret = md;
	return true;
}

/* ---- look-ups ---- */

uint32_t clr_metadata_rows(const struct clr_metadata *md, uint32_t table)
{
	return md->tables[table].num;
}

/* 0 for what is not there. */
static uint32_t cell(const struct clr_metadata *md, uint32_t table, uint32_t row, uint32_t column)
{
	const struct clr_table *t = &md->tables[table];
	const uint8_t *at;
	uint32_t wide;
	uint16_t narrow;

	if (!row || row > t->num)
		return 0;
	at = t->rows + (size_t)(row - 1) * t->row_bytes + t->column_at[column];
	if (t->column_bytes[column] == 4) {
		memcpy(&wide, at, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return narrow;
}

/* NULL for what is not there. Borrowed; at most 64 KiB, else cut off as not there. */
static const char *string_at(const struct clr_metadata *md, uint32_t at)
{
	size_t left;

	if (at >= md->strings.size)
		return NULL;
	left = md->strings.size - at;
	return memchr(md->strings.bytes + at, 0, left < MAX_STRING ? left : MAX_STRING)
		       ? (const char *)md->strings.bytes + at
		       : NULL;
}

static const char *text(const struct clr_metadata *md, uint32_t table, uint32_t row, uint32_t column)
{
	return row && row <= md->tables[table].num ? string_at(md, cell(md, table, row, column))
						   : NULL;
}

static clr_token coded_token(uint8_t kind, uint32_t value)
{
	const struct coded *c = &coded[kind - CODED];
	uint32_t which = value & ((1u << c->bits) - 1), row = value >> c->bits;

	return which < c->num && c->tables[which] != NO && row && row < MAX_ROWS
		       ? clr_token_of(c->tables[which], row)
		       : 0;
}

/*
 * The last row whose cell is at most `value`, of a table that is sorted by that column; 0 = none. A table that is not
 * sorted gives some row or none.
 */
static uint32_t last_at_most(const struct clr_metadata *md, uint32_t table, uint32_t column, uint32_t value)
{
	uint32_t low = 0, high = md->tables[table].num; /* rows <= low are at most value, rows > high are not */

	while (low < high) {
		uint32_t mid = low + (high - low + 1) / 2;

		if (cell(md, table, mid, column) <= value)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

bool clr_metadata_method(const struct clr_metadata *md, uint32_t row, struct clr_method *ret)
{
	const char *name = text(md, CLR_METHOD_DEF, row, 3);

	if (!name)
		return false;
	/* A type's methods begin at its MethodList, and end where the next type's begin. */
	*ret = (struct clr_method){ name, last_at_most(md, CLR_TYPE_DEF, 5, row) };
	return true;
}

bool clr_metadata_member(const struct clr_metadata *md, uint32_t row, const char **name, clr_token *parent)
{
	const char *found = text(md, CLR_MEMBER_REF, row, 1);

	if (!found)
		return false;
	*name = found;
	*parent = coded_token(MEMBER_PARENT, cell(md, CLR_MEMBER_REF, row, 0));
	return true;
}

/* The scope of a TypeRef: AssemblyRef, ModuleRef, TypeRef that encloses it, or 0 (an exported type of this module). */
static bool type_scope(const struct clr_metadata *md, uint32_t row, clr_token *ret)
{
	if (!row || row > md->tables[CLR_TYPE_REF].num)
		return false;
	*ret = coded_token(SCOPE, cell(md, CLR_TYPE_REF, row, 0));
	return true;
}

bool clr_metadata_type_home(const struct clr_metadata *md, uint32_t row, clr_token *ret)
{
	clr_token scope = clr_token_of(CLR_TYPE_REF, row);

	for (uint32_t depth = 0; depth < MAX_NESTING; depth++) {
		if (!type_scope(md, clr_token_row(scope), &scope))
			return false;
		if (clr_token_table(scope) != CLR_TYPE_REF) {
			*ret = scope;
			return true;
		}
	}
	return false;
}

/* II.23.2, of a blob's length too. */
static bool blob_at(const struct clr_metadata *md, uint32_t at, struct clr_heap *ret)
{
	const uint8_t *p;
	size_t left, skip = 1, len;

	if (at >= md->blobs.size)
		return false;
	p = md->blobs.bytes + at;
	left = md->blobs.size - at;
	len = *p;
	if (len & 0x80) {
		skip = len & 0x40 ? 4 : 2;
		if (left < skip)
			return false;
		len = skip == 2 ? (len & 0x3f) << 8 | p[1]
				: (len & 0x1f) << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	}
	if (len > left - skip)
		return false;
	*ret = (struct clr_heap){ p + skip, len };
	return true;
}

bool clr_metadata_type_spec(const struct clr_metadata *md, uint32_t row, struct clr_heap *ret)
{
	return row && row <= md->tables[CLR_TYPE_SPEC].num && blob_at(md, cell(md, CLR_TYPE_SPEC, row, 0), ret);
}

/* The type that encloses this one; 0 = none. */
static clr_token enclosing(const struct clr_metadata *md, clr_token type)
{
	uint32_t row = clr_token_row(type), nested;
	clr_token scope;

	if (clr_token_table(type) == CLR_TYPE_REF) {
		if (type_scope(md, row, &scope) && clr_token_table(scope) == CLR_TYPE_REF)
			return scope;
		return 0;
	}
	nested = last_at_most(md, CLR_NESTED_CLASS, 0, row);
	if (!nested || cell(md, CLR_NESTED_CLASS, nested, 0) != row)
		return 0;
	return clr_token_of(CLR_TYPE_DEF, cell(md, CLR_NESTED_CLASS, nested, 1));
}

bool clr_metadata_type_name(const struct clr_metadata *md, clr_token type, struct strbuf *ret)
{
	clr_token chain[MAX_NESTING];
	uint32_t num = 0;

	for (clr_token at = type; at; at = enclosing(md, at)) {
		if (num == MAX_NESTING || (clr_token_table(at) != CLR_TYPE_DEF && clr_token_table(at) != CLR_TYPE_REF))
			return false;
		chain[num++] = at;
	}
	for (uint32_t i = num; i-- > 0;) {
		/* Name and Namespace are columns 1 and 2 of both. */
		const char *name = text(md, clr_token_table(chain[i]), clr_token_row(chain[i]), 1);
		const char *space = text(md, clr_token_table(chain[i]), clr_token_row(chain[i]), 2);

		if (!name)
			return false;
		if (i + 1 < num)
			strbuf_char(ret, '+');
		if (space && *space) {
			strbuf_str(ret, space);
			strbuf_char(ret, '.');
		}
		strbuf_str(ret, name);
	}
	return num;
}

const char *clr_metadata_assembly_ref(const struct clr_metadata *md, uint32_t row)
{
	return text(md, CLR_ASSEMBLY_REF, row, 6);
}

const char *clr_metadata_assembly(const struct clr_metadata *md)
{
	return text(md, CLR_ASSEMBLY, 1, 7);
}

const uint8_t *clr_metadata_mvid(const struct clr_metadata *md)
{
	uint32_t at = cell(md, 0, 1, 2);

	return at && at <= md->guids.size / 16 ? md->guids.bytes + 16 * (size_t)(at - 1) : NULL;
}
