/*
 * Bytes of code that walks asked for lately, by where they lie in a file: what is sampled is sampled again, and a walk is no
 * place for a system call. As with rules, a file is believed to stay what it was while its id lasts.
 */
#include "unwinder/unwinder_priv.h"

#include "base/hash.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"

#include <stdlib.h>
#include <string.h>

enum { CODE_SLOTS = 1024 };

struct code {
	struct code_slot {
		uint64_t vaddr;
		uint32_t file; /* id, never used again for another file; 0 = empty */
		uint32_t len;
		uint8_t bytes[CODE_MAX];
	} slots[CODE_SLOTS];
};

bool unwinder_code(struct unwinder *u, const struct file *file, uint64_t vaddr, void *buf, size_t len)
{
	struct code_slot *slot;

	if (!u->code)
		u->code = calloc(1, sizeof(*u->code));
	if (!u->code || len > CODE_MAX)
		return elf_file_read_vaddr(file->elf, vaddr, buf, len);
	slot = &u->code->slots[hash_two(file->id, vaddr) % CODE_SLOTS];
	if (slot->file != file->id || slot->vaddr != vaddr || slot->len < len) {
		slot->file = 0;
		if (!elf_file_read_vaddr(file->elf, vaddr, slot->bytes, len))
			return false;
		slot->vaddr = vaddr;
		slot->file = file->id;
		slot->len = (uint32_t)len;
	}
	memcpy(buf, slot->bytes, len);
	return true;
}
