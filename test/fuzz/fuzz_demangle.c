/* A symbol's name, as a file gives it. */
#include "base/intern.h"
#include "symbols/symbols.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct intern *strings = intern_new();
	char *name = malloc(size + 1);

	if (strings && name) {
		memcpy(name, data, size);
		name[size] = 0;
		symbols_demangle(strings, name);
	}
	free(name);
	intern_free(strings);
	return 0;
}
