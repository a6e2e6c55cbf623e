#include "perfmap/perfmap.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "target/offline.h"

enum { CHUNK_BYTES = 256 << 10 };

static const uint64_t max_bytes = 256u << 20; /* of one map; the door's cap */

struct source {
	struct offline *offline;
	struct intern *strings;
};

/* Whole lines are taken; what is left of a chunk is read again with the next. */
static void read_map(struct perfmap *map, int fd, uint64_t size)
{
	_cleanup_free_ char *chunk = malloc(CHUNK_BYTES);
	uint64_t offset = 0;

	if (size > max_bytes)
		size = max_bytes;
	while (chunk && offset < size && !perfmap_failed(map)) {
		size_t want = size - offset < CHUNK_BYTES ? (size_t)(size - offset) : CHUNK_BYTES;
		size_t used;

		if (door_pread(fd, chunk, want, offset) < 0)
			return;
		used = perfmap_append(map, chunk, want);
		if (!used)
			return;
		offset += used;
	}
}

/* Read once: when the first frame of the process is to be named, it has ended or the recording has. */
static struct perfmap *map_of(struct source *source, struct addrspace *space)
{
	const struct offline_process process = { .pid = space->pid, .exec_ns = space->exec_ns,
						 .ended = space->dead };
	struct door_file file;

	if (space->names)
		return space->names;
	space->names = perfmap_new(NULL);
	if (!space->names)
		return NULL;
	if (offline_open_perfmap(source->offline, &process, &file) == DOOR_OK) {
		read_map(space->names, file.fd, file.size);
		closep(&file.fd);
	}
	return space->names;
}

static bool source_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct source *source = data;
	struct perfmap *map = map_of(source, space);
	uint64_t start = 0;
	const char *name = map ? perfmap_find(map, addr, &start) : NULL;

	name = name ? intern_str(source->strings, name) : NULL;
	if (!name)
		return false;
	*ret = (struct symbol){ name, addr - start };
	return true;
}

static void source_gone(void *data, struct addrspace *space)
{
	perfmap_free(space->names);
	space->names = NULL;
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
		.gone = source_gone,
		.free = free,
		.data = source,
	};
	return 0;
}
