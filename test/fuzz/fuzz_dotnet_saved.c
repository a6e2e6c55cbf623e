/* What a recording says that runtimes said: whatever it is, what is found in it lies where it was asked for. */
#include "base/intern.h"
#include "runtimes/dotnet.h"
#include "symbols/addrspace.h"
#include "unwinder/arch.h"

#include <stdlib.h>
#include <string.h>

static void look(struct dotnet *d, const struct symbol_source *source, uint64_t time_ns)
{
	struct addrspace space = { .pid = 1 };
	struct code_ranges ranges = { 0 };

	source->changes(source->data, &space, time_ns, &ranges);
	for (size_t i = 0; i < ranges.v.len; i++) {
		if (ranges.v.data[i].start >= ranges.v.data[i].end)
			abort();
	}
	vec_deinit(&ranges.v);
	source->apply(source->data, &space, time_ns);
	for (uint64_t addr = 0x7000; addr < 0x8000; addr += 16) {
		struct symbol symbol;

		if (source->find(source->data, &space, addr, &symbol) && (!symbol.name || symbol.offset > addr))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct intern *strings = intern_new();
	const struct dotnet_opts opts = { .strings = strings, .arch = &arch_x86_64 };
	struct addrspace space = { .pid = 1 };
	struct symbol_source source;
	struct dotnet *d;

	if (!strings || dotnet_new(&opts, &d, NULL) < 0) {
		intern_free(strings);
		return 0;
	}
	source = dotnet_symbol_source(d);
	dotnet_restore(d, data, size, NULL);
	look(d, &source, 15);
	look(d, &source, 1000);
	look(d, &source, UINT64_MAX);
	source.gone(source.data, &space);
	look(d, &source, UINT64_MAX);
	dotnet_free(d);
	intern_free(strings);
	return 0;
}
