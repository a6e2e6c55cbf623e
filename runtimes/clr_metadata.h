/*
 * The metadata of a .NET module: who its types and methods are. ECMA-335 6th edition, partition II, 22 to 24. Borrows
 * the bytes; every look-up is checked, and rows count from 1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

/* Table numbers; II.22. */
enum {
	CLR_TYPE_REF = 0x01,
	CLR_TYPE_DEF = 0x02,
	CLR_METHOD_DEF = 0x06,
	CLR_MEMBER_REF = 0x0a,
	CLR_MODULE_REF = 0x1a,
	CLR_TYPE_SPEC = 0x1b,
	CLR_ASSEMBLY = 0x20,
	CLR_ASSEMBLY_REF = 0x23,
	CLR_EXPORTED_TYPE = 0x27,
	CLR_NESTED_CLASS = 0x29,
	CLR_METHOD_SPEC = 0x2b,
	CLR_NUM_TABLES = 0x2d,
	CLR_MAX_COLUMNS = 9,
};

/* A token: table number above, row below. 0 = none. */
typedef uint32_t clr_token;
static inline clr_token clr_token_of(uint32_t table, uint32_t row)
{
	return table << 24 | row;
}
static inline uint32_t clr_token_table(clr_token token)
{
	return token >> 24;
}
static inline uint32_t clr_token_row(clr_token token)
{
	return token & 0xffffff;
}

struct clr_heap {
	const uint8_t *bytes; /* NULL = not there */
	size_t size;
};

struct clr_table {
	const uint8_t *rows;
	uint32_t num;
	uint8_t row_bytes;
	uint8_t column_at[CLR_MAX_COLUMNS], column_bytes[CLR_MAX_COLUMNS];
};

/* Open only so that it can be embedded. */
struct clr_metadata {
	struct clr_heap strings, blobs, guids;
	struct clr_table tables[CLR_NUM_TABLES];
};

/* False when the bytes are no metadata or its tables do not fit into them. */
bool clr_metadata_open(const void *bytes, size_t size, struct clr_metadata *ret);

uint32_t clr_metadata_rows(const struct clr_metadata *md, uint32_t table);

struct clr_method {
	const char *name;
	uint32_t type; /* TypeDef row; 0 = none */
};
bool clr_metadata_method(const struct clr_metadata *md, uint32_t row, struct clr_method *ret);

/* A MemberRef: its name, and the token of what it is a member of. */
bool clr_metadata_member(const struct clr_metadata *md, uint32_t row, const char **name, clr_token *parent);

/* The scope of a TypeRef's outermost enclosing one: AssemblyRef, ModuleRef, or 0 (an exported type of this module). */
bool clr_metadata_type_home(const struct clr_metadata *md, uint32_t row, clr_token *ret);

/* The signature of a TypeSpec. */
bool clr_metadata_type_spec(const struct clr_metadata *md, uint32_t row, struct clr_heap *ret);

/* Appends "Namespace.Outer+Inner" of a TypeDef or TypeRef; false when there is none. */
bool clr_metadata_type_name(const struct clr_metadata *md, clr_token type, struct strbuf *ret);

/* The name of AssemblyRef `row`; of the module's own assembly. NULL without. */
const char *clr_metadata_assembly_ref(const struct clr_metadata *md, uint32_t row);
const char *clr_metadata_assembly(const struct clr_metadata *md);
/* Which build of the module this is (Module.Mvid, 16 bytes); NULL without. */
const uint8_t *clr_metadata_mvid(const struct clr_metadata *md);
