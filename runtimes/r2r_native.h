/*
 * How ReadyToRun images pack numbers and tables: dotnet/runtime src/coreclr/vm/nativeformatreader.h. Every offset is from
 * the start of a section that was read whole.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct native {
	const uint8_t *bytes; /* borrowed */
	uint32_t size;
};

/* A packed number at *at, which becomes where it ends. False outside the section. */
bool native_unsigned(const struct native *n, uint32_t *at, uint32_t *ret);

/* A sparse array; false when it is none. */
struct native_array {
	struct native in;
	uint32_t base, num;
	uint8_t cell_bytes;
};
bool native_array_open(const struct native *in, struct native_array *ret);
/* Where element i is; false: there is none. */
bool native_array_at(const struct native_array *a, uint32_t i, uint32_t *ret);

/* A hash table, of which all entries are wanted. */
struct native_table {
	struct native in;
	uint32_t at, end;
};
bool native_table_open(const struct native *in, struct native_table *ret);
/* Where the next entry is; false at the end. */
bool native_table_next(struct native_table *t, uint32_t *ret);
