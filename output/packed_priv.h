/*
 * Numbers in few characters: 7 bits a byte, the lowest first, the high bit on all but the last (LEB128), the bytes in
 * base64 (RFC 4648 §4). For the pages that scripts read.
 */
#pragma once

#include "base/strbuf.h"

#include <stdint.h>

struct packed {
	struct strbuf *out;
	uint8_t rest[3];
	unsigned int num_rest;
};

void packed_add(struct packed *p, uint64_t value);
void packed_end(struct packed *p); /* pads; nothing may follow */
