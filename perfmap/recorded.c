/*
 * The source after the fact. Maps have no times of their own, so what was written last counts for all; jitdumps have, and
 * are read when the process is first seen in JIT code.
 */
#include "perfmap/perfmap.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "perfmap/names_priv.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/offline.h"

#include <stdlib.h>

struct source {
	struct offline *offline;
	struct intern *strings;
	char *chunk; /* NAMES_CHUNK_BYTES, made at first use */
};

static void source_poll(void *data, struct addrspace *space, bool last)
{
	struct source *source = data;
	const struct offline_process process = { .pid = space->pid, .exec_ns = space->exec_ns,
						 .ended = space->dead };
	struct names *n = space->names;
	struct door_file file;

	if (!n)
		return;
	names_find_dumps(n, space);
	names_read_dumps(n, source->chunk, UINT64_MAX);
	/* The map itself is read once: when the process has ended, or the recording has. */
	if (!last || n->text.fd >= 0)
		return;
	n->refused = offline_open_perfmap(source->offline, &process, &file);
	if (n->refused != DOOR_OK)
		return;
	names_set_text(n, file.fd);
	names_read_text(n, source->chunk, UINT64_MAX, true);
}

static void source_first_seen(void *data, struct addrspace *space)
{
	struct source *source = data;
	struct door_file file;

	if (space->names)
		return;
	if (!source->chunk)
		source->chunk = malloc(NAMES_CHUNK_BYTES);
	space->names = source->chunk ? names_new(NULL) : NULL;
	if (space->names && offline_open_given_dump(source->offline, space->pid, &file) == DOOR_OK)
		names_add_dump(space->names, 0, file.fd);
	source_poll(source, space, false);
}

static bool source_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct source *source = data;

	return space->names && names_symbol(space->names, source->strings, addr, ret);
}

static void source_free(void *data)
{
	struct source *source = data;

	if (!source)
		return;
	free(source->chunk);
	free(source);
}

int perfmap_recorded_source_new(struct offline *offline, struct intern *strings,
				struct symbol_source *ret, struct err *err)
{
	struct source *source = calloc(1, sizeof(*source));

	if (!source)
		return err_oom(err);
	source->offline = offline;
	source->strings = strings;
	*ret = (struct symbol_source){
		.name = "perf map",
		.find = source_find,
		.cfi = names_cfi,
		.first_seen = source_first_seen,
		.poll = source_poll,
		.next = names_next,
		.changes = names_changes,
		.apply = names_apply,
		.origin = names_origin,
		.gone = names_gone,
		.free = source_free,
		.data = source,
	};
	return 0;
}
