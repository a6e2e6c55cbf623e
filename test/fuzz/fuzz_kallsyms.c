/* Kernel symbols: whatever the text says, a symbol found starts at or below the address asked for.
 */
#include <stdlib.h>
#include <string.h>

#include "symbols/kallsyms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kallsyms *k = kallsyms_parse((const char *)data, size);
	size_t found = 0;

	if (!k)
		return 0;
	for (uint64_t addr = UINT64_MAX, step = 1; addr > step;
	     addr -= step, step += step / 4 + 1) {
		const char *module = NULL, *name;
		uint64_t start = 0;

		name = kallsyms_find(k, addr, &start, &module);
		if (name && (start > addr || !*name || (module && !*module)))
			abort();
		found += name != NULL;
	}
	if (found && (!kallsyms_count(k) || kallsyms_hidden(k)))
		abort();
	kallsyms_free(k);
	return 0;
}
