#include "base/hash.h"

#include <string.h>

uint64_t hash_bytes(const void *bytes, size_t len)
{
	const unsigned char *pos = bytes;
	uint64_t hash = hash_u64(len);
	uint64_t word;

	for (; len >= sizeof(word); len -= sizeof(word), pos += sizeof(word)) {
		memcpy(&word, pos, sizeof(word));
		hash = hash_two(hash, word);
	}
	if (len) {
		/* The length is part of the hash, so padding with zeros tells "a" from "a\0". */
		word = 0;
		memcpy(&word, pos, len);
		hash = hash_two(hash, word);
	}
	return hash;
}
