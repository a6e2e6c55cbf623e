/* A nettrace stream in two pieces and in one: the same events, each within what the header promises. */
#include "runtimes/nettrace.h"

#include <stdlib.h>
#include <string.h>

struct told {
	uint64_t num, sum;
};

static void note(void *data, const struct nettrace_event *event)
{
	struct told *told = data;
	uint64_t end;

	told->num++;
	told->sum = told->sum * 31 + event->time_ns + event->kind;
	if (event->kind == NETTRACE_MODULE || event->kind == NETTRACE_MODULE_UNLOAD) {
		told->sum += strlen(event->module.path) + strlen(event->module.native_path);
	} else if (event->kind == NETTRACE_ASSEMBLY) {
		told->sum += strlen(event->assembly.name) + event->assembly.flags;
	} else if (event->kind <= NETTRACE_METHOD_EXISTS) {
		if (!event->method.start || !event->method.size ||
		    __builtin_add_overflow(event->method.start, event->method.size, &end))
			abort();
		told->sum += strlen(event->method.type) * 7 + strlen(event->method.name) + event->method.start;
	}
}

static struct told read_all(const uint8_t *data, size_t size, size_t piece)
{
	struct told told = { 0 };
	const struct nettrace_sink sink = { note, &told };
	struct nettrace *n = nettrace_new();
	enum nettrace_state state = NETTRACE_MORE;

	if (!n)
		return told;
	for (size_t at = 0; at < size; at += piece)
		state = nettrace_feed(n, data + at, piece < size - at ? piece : size - at, &sink);
	if ((state == NETTRACE_BROKEN) != (nettrace_why(n) != NULL))
		abort();
	nettrace_free(n);
	return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told one = read_all(data, size, size ? size : 1), two = read_all(data, size, size / 7 + 1);

	if (memcmp(&one, &two, sizeof(one)) != 0)
		abort();
	return 0;
}
