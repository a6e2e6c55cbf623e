/* Everything that is read out of an ELF file. */
#include "symbols/elf_file.h"
#include "symbols/symtab.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A name that is told begins at or before the place, and is one. */
static void ask_names(struct elf_file *f, uint64_t vaddr)
{
	const uint64_t vaddrs[] = { vaddr, vaddr, vaddr | 0xf, vaddr | 0xfff, UINT64_MAX };
	struct symtab *t = elf_file_resolve(f, vaddrs, 5);
	struct symtab_entry e;

	for (size_t i = 0; t && i < 5; i++) {
		if (symtab_answer(t, i, &e) && (e.start > vaddrs[i] || !*e.name))
			abort();
	}
	symtab_free(t);
}

static void ask_places(struct elf_file *f)
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(f, &loads);

	for (size_t i = 0; i < num; i++) {
		const uint64_t at[] = { loads[i].offset, loads[i].offset - 1,
					loads[i].offset + loads[i].filesz };

		for (size_t j = 0; j < sizeof(at) / sizeof(at[0]); j++) {
			uint64_t vaddr, offset;
			uint8_t bytes[16];

			if (!elf_file_vaddr(f, at[j], &vaddr))
				continue;
			elf_file_offset(f, vaddr, &offset);
			elf_file_read_vaddr(f, vaddr, bytes, sizeof(bytes));
			ask_names(f, vaddr);
			elf_file_is_root(f, vaddr);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_file *f, *debug;
	const uint8_t *id;
	uint32_t crc;

	if (elf_file_open_memory(data, size, &f, NULL) < 0)
		return 0;
	elf_file_machine(f);
	elf_file_is_64(f);
	elf_file_build_id(f, &id);
	elf_file_eh_frame(f);
	elf_file_debug_frame(f);
	elf_file_is_go(f);
	elf_file_debuglink(f, &crc);
	ask_places(f);
	/* Its own separate debug file, which the build-id proves. */
	if (elf_file_open_memory(data, size, &debug, NULL) == 0)
		elf_file_add_debug(f, debug, NULL);
	ask_places(f);
	elf_file_free(f);
	return 0;
}
