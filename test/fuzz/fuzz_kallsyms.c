/*
 * Kernel symbols: whatever the text says and however it is cut, a symbol found starts at or below the address
 * asked for, and the answers are the same.
 */
#include "symbols/kallsyms.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_QUESTIONS = 256 };

static struct kallsyms *ask(const uint64_t *addrs, size_t num, const uint8_t *data, size_t size, size_t piece)
{
	struct kallsyms *k = kallsyms_new(addrs, num);

	if (!k)
		return NULL;
	for (size_t at = 0; at < size; at += piece) {
		if (!kallsyms_feed(k, (const char *)data + at, size - at < piece ? size - at : piece))
			break;
	}
	if (!kallsyms_finish(k))
		abort();
	return k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t addrs[MAX_QUESTIONS];
	struct kallsyms *whole, *cut;
	size_t num = 0, found = 0;

	for (uint64_t addr = UINT64_MAX, step = 1; addr > step && num < MAX_QUESTIONS; step += step / 4 + 1) {
		addrs[MAX_QUESTIONS - ++num] = addr;
		addr -= step;
	}
	whole = ask(addrs + MAX_QUESTIONS - num, num, data, size, size + 1);
	cut = ask(addrs + MAX_QUESTIONS - num, num, data, size, 5);
	for (size_t i = 0; whole && cut && i < num; i++) {
		struct kallsyms_entry a, b;
		bool any = kallsyms_answer(whole, i, &a);

		if (any != kallsyms_answer(cut, i, &b))
			abort();
		if (!any)
			continue;
		found++;
		if (a.start > addrs[MAX_QUESTIONS - num + i] || !*a.name || (a.module && !*a.module))
			abort();
		if (a.start != b.start || strcmp(a.name, b.name) || !a.module != !b.module)
			abort();
	}
	if (found && kallsyms_hidden(whole))
		abort();
	kallsyms_free(whole);
	kallsyms_free(cut);
	return 0;
}
