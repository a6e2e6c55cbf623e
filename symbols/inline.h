/*
 * Inlined functions: which calls the compiler folded into the code at an address, from DWARF (2 to 5, split
 * .dwo files and .dwp packages, dwz supplementary files, zlib-compressed sections). An index of code ranges
 * per compilation unit is built when the unit is first asked about; each address is asked for once by the
 * caller. What a file may cost is bounded by its size: one that lies has no inlines.
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
	/*
	 * Linkage name as symbols_demangle shows it, else the plain name ("??" without either); interned. The
	 * last frame's lacks what only the ELF symbol knows (".part.0", the scope of a function without a
	 * linkage name): callers that know the symbol show it there, as perf does.
	 */
	const char *name;
	const char
		*file; /* source file of the place in this function; interned, NULL = not known */
	uint32_t line; /* 0 = not known */
};

/*
 * Gives the other files that DWARF names, so that nothing here opens a path; -1 = not to be had. What is
 * opened is checked against the build-id or the unit's id, and the descriptor is taken. `name` is
 *  - ".dwp": the package beside the binary, the binary's own path with this at its end; asked for once;
 *  - of a .dwo file: absolute, or relative when the unit has no directory (build_id NULL);
 *  - of a dwz file (.gnu_debugaltlink, .debug_sup), with its build-id: absolute or relative to the directory
 *    of the file that names it; /usr/lib/debug/.build-id has it too.
 * The path comes from the file, so it is a target's word.
 */
struct inline_files {
	int (*open)(void *data, const char *name, const uint8_t *build_id, size_t build_id_len);
	void *data;
};

/*
 * Takes fd (closed on failure too), an ELF file with .debug_info: the binary itself or its debug file. `files`
 * is copied and may be NULL. -ENODATA without debug information; -EFBIG when a section is over 1 GiB or in a
 * compression that is not understood (zstd); -EBADMSG when no unit can be read; others as elf_file_open_fd.
 */
int inliner_open(int fd, const struct inline_files *files, struct intern *strings,
		 struct inliner **ret, struct err *err);
void inliner_free(struct inliner *in); /* NULL is fine */

/*
 * Frames at vaddr, at most max (the innermost ones). 0 = no unit covers it or nothing is inlined there beyond
 * the function. Of a call's return address ask for the byte before.
 */
size_t inliner_find(struct inliner *in, uint64_t vaddr, struct inline_frame *ret, size_t max);
