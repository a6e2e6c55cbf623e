/* Everything that is read out of an ELF file. */
#include "symbols/elf_file.h"
#include "symbols/symtab.h"

#include <stddef.h>
#include <stdint.h>

static void ask_places(struct elf_file *f)
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(f, &loads);

	for (size_t i = 0; i < num; i++) {
		const uint64_t at[] = { loads[i].offset, loads[i].offset - 1,
					loads[i].offset + loads[i].filesz };

		for (size_t j = 0; j < sizeof(at) / sizeof(at[0]); j++) {
			struct symtab_entry e;
			uint64_t vaddr, offset;
			uint8_t bytes[16];

			if (!elf_file_vaddr(f, at[j], &vaddr))
				continue;
			elf_file_offset(f, vaddr, &offset);
			elf_file_read_vaddr(f, vaddr, bytes, sizeof(bytes));
			symtab_find(elf_file_symtab(f), vaddr, &e);
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
	elf_file_symtab(f);
	ask_places(f);
	/* Its own separate debug file, which the build-id proves. */
	if (elf_file_open_memory(data, size, &debug, NULL) == 0)
		elf_file_add_debug(f, debug, NULL);
	ask_places(f);
	elf_file_free(f);
	return 0;
}
