/* Where files lie by their build-id: GDB manual, "Debugging Information in Separate Files". */
#pragma once

#include "base/strbuf.h"

/* `dir`/.build-id/xx/yyyy..., then `tail`; the id has two bytes at least. */
static inline void build_id_path(struct strbuf *out, const char *dir, const uint8_t *id, size_t len, const char *tail)
{
	strbuf_str(out, dir);
	strbuf_str(out, "/.build-id/");
	strbuf_hex(out, id, 1);
	strbuf_char(out, '/');
	strbuf_hex(out, id + 1, len - 1);
	strbuf_str(out, tail);
}
