/*
 * What a nettrace stream tells of code, a line an event, for proofs:
 *	load|unload|exists TIME START SIZE MODULE ID FLAGS NAME		numbers but TIME hexadecimal
 *	module TIME ID PATH
 * usage: nettrace_list [-r] FILE
 * -r: times in microseconds from the stream's start, names as the runtime spells them, methods only
 */
#include "base/strbuf.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/nettrace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct listing {
	struct nettrace *trace;
	struct strbuf name;
	bool raw;
};

static void tell(void *data, const struct nettrace_event *e)
{
	static const char *const kinds[] = { "load", "unload", "exists" };
	struct listing *l = data;
	struct strbuf *name = &l->name;

	if (l->raw && e->kind <= NETTRACE_METHOD_EXISTS) {
		printf("%s %.0f %" PRIx64 " %" PRIx32 " %" PRIx64 " %" PRIx64 " %" PRIx32 " %s::%s\n", kinds[e->kind],
		       (double)(e->time_ns - nettrace_header(l->trace)->start_ns) / 1000, e->method.start, e->method.size,
		       e->method.module_id, e->method.id, e->method.flags & 15, e->method.type, e->method.name);
		return;
	}
	if (l->raw)
		return;
	if (e->kind == NETTRACE_MODULE) {
		printf("module %" PRIu64 " %" PRIx64 " %s\n", e->time_ns, e->module.id, e->module.path);
		return;
	}
	if (e->kind > NETTRACE_MODULE)
		return;
	strbuf_clear(name);
	dotnet_name(name, e->method.type, strlen(e->method.type), e->method.name, strlen(e->method.name));
	printf("%s %" PRIu64 " %" PRIx64 " %" PRIx32 " %" PRIx64 " %" PRIx64 " %" PRIx32 " %s\n", kinds[e->kind],
	       e->time_ns, e->method.start, e->method.size, e->method.module_id, e->method.id, e->method.flags,
	       name->data ? name->data : "");
}

int main(int argc, char **argv)
{
	struct nettrace *n = nettrace_new();
	struct listing l = { .trace = n, .raw = argc == 3 && !strcmp(argv[1], "-r") };
	FILE *file = argc == 2 + l.raw ? fopen(argv[1 + l.raw], "rb") : NULL;
	enum nettrace_state state = NETTRACE_MORE;
	char bytes[65536];
	size_t size;

	if (!n || !file) {
		fprintf(stderr, "usage: nettrace_list [-r] FILE\n");
		return 2;
	}
	while ((size = fread(bytes, 1, sizeof(bytes), file)) > 0)
		state = nettrace_feed(n, bytes, size, &(const struct nettrace_sink){ tell, &l });
	fprintf(stderr, "%s, %" PRIu64 " events, %" PRIu64 " odd, %" PRIu64 " lost\n",
		state == NETTRACE_END ? "whole" : state == NETTRACE_MORE ? "cut" : nettrace_why(n),
		nettrace_counts(n)->events, nettrace_counts(n)->odd, nettrace_counts(n)->lost);
	fclose(file);
	nettrace_free(n);
	strbuf_deinit(&l.name);
	return state == NETTRACE_BROKEN;
}
