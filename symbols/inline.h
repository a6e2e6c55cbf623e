/*
 * Inlined functions: which calls the compiler folded into the code at an address, from DWARF (4 and 5, split
 * .dwo/.dwp files, dwz supplementary files). An index of code ranges per compilation unit is built when the
 * unit is first asked about; each address is asked for once by the caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct inliner;
struct intern;

/* One function at the address, innermost first; the last is the function that has the code. */
struct inline_frame {
	const char *name;     /* demangled as symbols_demangle does; interned */
	const char *file;     /* source file of the place in this function; interned, NULL = not known */
	uint32_t line;        /* 0 = not known */
};

/*
 * Takes fd, an ELF file with .debug_info (the binary itself or its debug file); `open_by_build_id` gives the
 * dwz/dwo files it asks for (name as DWARF says; -1 = not to be had) so that nothing here opens a path.
 */
struct inline_files {
	int (*open)(void *data, const char *name, const uint8_t *build_id, size_t build_id_len);
	void *data;
};
int inliner_open(int fd, const struct inline_files *files, struct intern *strings, struct inliner **ret,
		 struct err *err);
void inliner_free(struct inliner *in); /* NULL is fine */

/* Frames at vaddr, at most max. 0 = no unit covers it or nothing is inlined there beyond the function. */
size_t inliner_find(struct inliner *in, uint64_t vaddr, struct inline_frame *ret, size_t max);
