/* A perf map in two pieces: whatever it says, a name found lies at or below the address asked for.
 */
#include "perfmap/perfmap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct perfmap_limits limits = { .max_entries = 10000, .max_line = 200 };
	struct perfmap *m = perfmap_new(&limits);
	size_t half = size / 2, used, count;
	const char *text = (const char *)data;

	if (!m)
		return 0;
	used = perfmap_append(m, text, half);
	if (used > half)
		abort();
	used += perfmap_append(m, text + used, size - used);
	if (used > size || size - used > limits.max_line)
		abort();
	for (uint64_t addr = 0, step = 1; addr < UINT64_C(1) << 63;
	     addr += step, step += step / 4 + 1) {
		uint64_t start = 0;
		const char *name = perfmap_find(m, addr, &start);

		if (name && (start > addr || !*name || strlen(name) > limits.max_line))
			abort();
	}
	count = perfmap_count(m);
	if (count > limits.max_entries || perfmap_find(m, UINT64_MAX, &(uint64_t){ 0 }))
		abort();
	perfmap_free(m);
	return 0;
}
