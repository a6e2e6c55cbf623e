/* The code of .init and .fini, which the C library's start files make and give no call-frame information. */
#include "symbols/elf_file_priv.h"

#include <string.h>

enum { MAX_INIT_BYTES = 4096 };

/* glibc sysdeps/x86_64/crti.S: sub $8,%rsp; crtn.S: add $8,%rsp; ret. */
static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
static const uint8_t begin[] = { 0x48, 0x83, 0xec, 0x08 };
static const uint8_t end[] = { 0x48, 0x83, 0xc4, 0x08, 0xc3 };

static const struct elf_section *init_section(struct elf_file *f, uint64_t vaddr)
{
	static const char *const names[] = { ".init", ".fini" };

	for (size_t i = 0; i < 2; i++) {
		const struct elf_section *s = elf_file_section(f, names[i]);

		if (s && s->type == SHT_PROGBITS && vaddr >= s->addr && vaddr - s->addr < s->size)
			return s;
	}
	return NULL;
}

bool elf_init_frame(struct elf_file *f, uint64_t vaddr, struct elf_sp_frame *ret)
{
	const struct elf_section *s = init_section(f, vaddr);
	uint8_t code[MAX_INIT_BYTES];
	uint64_t body, tail;

	if (!s || f->machine != EM_X86_64 || s->size > sizeof(code) ||
	    s->size < sizeof(begin) + sizeof(end) ||
	    elf_file_read(f, code, s->size, s->offset) < 0 || elf_file_changed(f))
		return false;
	body = memcmp(code, endbr64, sizeof(endbr64)) ? 0 : sizeof(endbr64);
	if (body + sizeof(begin) + sizeof(end) > s->size || memcmp(code + body, begin, sizeof(begin)) ||
	    memcmp(code + s->size - sizeof(end), end, sizeof(end)))
		return false;
	body += s->addr + sizeof(begin);
	tail = s->addr + s->size - 1; /* the ret */
	if (vaddr < body)
		*ret = (struct elf_sp_frame){ s->addr, body, 0 };
	else if (vaddr < tail)
		*ret = (struct elf_sp_frame){ body, tail, 8 };
	else
		*ret = (struct elf_sp_frame){ tail, tail + 1, 0 };
	return true;
}
