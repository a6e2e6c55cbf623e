/* Rows of the .eh_frame that a compiler tells with its code (jitdump). */
#include "symbols/elf_cfi.h"

#include "base/cleanup.h"
#include "symbols/cfi_index.h"
#include "symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

bool jit_cfi_plain_row(const struct jit_cfi *cfi, uint64_t addr, struct elf_plain_row *ret)
{
	_cleanup_free_ uint8_t *bytes = malloc(cfi->size + !cfi->size), *table = NULL;
	struct cfi_index x = { .bytes = bytes, .size = cfi->size, .vaddr = cfi->vaddr };

	if (!bytes)
		return false;
	memcpy(bytes, cfi->bytes, cfi->size);
	table = cfi_table_build(&x, false);
	return table && cfi_index_plain(&x, addr, ret);
}
