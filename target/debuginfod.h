/*
 * Files by their build-id from the servers of $DEBUGINFOD_URLS. libdebuginfod is loaded when it is first needed and is
 * no part of what must be installed. What it finds it keeps in its own cache (debuginfod_find_debuginfo(3)).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct debuginfod;

/* NULL when there are no servers to ask, no library, or no memory; *why then says which (a sentence), or is NULL. */
struct debuginfod *debuginfod_new(const char **why);
void debuginfod_free(struct debuginfod *d); /* NULL is fine */

enum debuginfod_kind { DEBUGINFOD_EXECUTABLE, DEBUGINFOD_DEBUGINFO };

/*
 * A descriptor, or -errno (-ENOENT: no server has it). A file may take 20 s, all of them together 90; nobody is asked
 * any more after that, or after three in a row could not be had for want of a server's answer.
 */
int debuginfod_find(struct debuginfod *d, enum debuginfod_kind kind, const uint8_t *id,
		    size_t id_len);
