/*
 * A jitdump in two pieces, read as a file is: it never goes back, never beyond what there is, and names stay in bounds. Nor
 * does a row of its unwinding information hold for another place than was asked for.
 */
#include "perfmap/jitdump.h"
#include "perfmap/perfmap.h"
#include "symbols/elf_cfi.h"
#include "symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

static uint64_t feed(struct jitdump *j, struct perfmap *m, const uint8_t *data, uint64_t at, size_t size)
{
	while (at < size) {
		size_t len = size - at < 5000 ? size - at : 5000;
		uint64_t used = jitdump_append(j, data + at, len, size - at, m, 1000);

		if (used > size - at)
			abort();
		if (!used)
			break;
		at += used;
	}
	return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct perfmap_limits limits = { .max_entries = 1000 };
	struct perfmap *m = perfmap_new(&limits);
	struct jitdump *j = jitdump_new();
	struct code_ranges changed = { 0 };
	uint64_t at, next_ns = 0;
	pid_t pid;

	if (m && j) {
		at = feed(j, m, data, 0, size / 2);
		feed(j, m, data, at, size);
		for (int i = 0; i < 64 && next_ns != UINT64_MAX; i++) {
			next_ns = perfmap_next(m);
			perfmap_changes(m, next_ns, &changed);
			perfmap_apply(m, next_ns);
			if (next_ns != UINT64_MAX && perfmap_next(m) <= next_ns)
				abort();
		}
		for (size_t i = 0; i < changed.v.len; i++) {
			uint64_t start = 0;
			const char *name = perfmap_find(m, changed.v.data[i].start, &start);
			struct elf_plain_row row;
			struct jit_cfi cfi;

			if (changed.v.data[i].start >= changed.v.data[i].end)
				abort();
			if (perfmap_find_cfi(m, changed.v.data[i].start, &cfi) &&
			    jit_cfi_plain_row(&cfi, changed.v.data[i].start, &row) &&
			    (changed.v.data[i].start < row.start || changed.v.data[i].start >= row.end))
				abort();
			if (name && (start > changed.v.data[i].start || !*name || strlen(name) > 4096))
				abort();
		}
		if (perfmap_count(m) > limits.max_entries)
			abort();
	}
	jitdump_is_path((const char *)data, size, &pid);
	vec_deinit(&changed.v);
	jitdump_free(j);
	perfmap_free(m);
	return 0;
}
