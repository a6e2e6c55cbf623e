/* One entry of a zip that a person named, read whole into memory with a cap. */
#pragma once

#include <stddef.h>

struct err;
struct strbuf;

/*
 * The first entry whose name ends in `suffix`; at most `cap` bytes of it. -ENOENT when there is none, -EBADMSG for no
 * zip.
 */
int zip_in_read(const char *path, const char *suffix, size_t cap, struct strbuf *ret, struct err *err);
