/*
 * A .NET single-file application: the runtime's ELF program with the application's files behind it. dotnet/runtime
 * src/native/corehost/bundle (header.cpp, file_entry.cpp, and the marker of apphost/bundle_marker.cpp).
 */
#pragma once

#include "runtimes/pe_image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bundle;

struct bundle_file {
	const char *name;     /* "System.Linq.dll", a path relative to the bundle */
	uint64_t offset;      /* in the program's file */
	uint64_t size;        /* of what it holds */
	uint64_t packed_size; /* of the deflate stream; 0 = it is not compressed */
};

/*
 * `from` and `to` bound where in the file its marker is looked for: the program's writable data. 0, -ENOEXEC when there
 * is no bundle, -EBADMSG, -ENOMEM. Reads nothing later.
 */
int bundle_open(const struct pe_bytes *bytes, uint64_t from, uint64_t to, struct bundle **ret);
void bundle_free(struct bundle *b); /* NULL is fine */
size_t bundle_files(const struct bundle *b, const struct bundle_file **ret); /* borrowed */
/* NULL: none of its files holds that place, or has that name (without the ".dll"). */
const struct bundle_file *bundle_at(const struct bundle *b, uint64_t offset);
const struct bundle_file *bundle_find(const struct bundle *b, const char *assembly);

/*
 * What a packed file holds, read at any place, in some 2 MiB of memory whatever its size: unpacked as far as is asked
 * for and forgotten again. Going back costs unpacking a few percent of it anew. `bytes` and `file` are borrowed as long
 * as it lives. NULL when it is not packed, or memory is out.
 */
struct bundle_stream;
struct bundle_stream *bundle_stream_new(const struct pe_bytes *bytes, const struct bundle_file *file);
struct pe_bytes bundle_stream_bytes(struct bundle_stream *s); /* borrows it */
void bundle_stream_free(struct bundle_stream *s); /* NULL is fine */

/*
 * The first `size` bytes of a file, at most PE_MAX_LOAD, unpacked where it is packed; the caller's to free. NULL when
 * they cannot be had.
 */
void *bundle_load(const struct pe_bytes *bytes, const struct bundle_file *file, uint64_t size);
