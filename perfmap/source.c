#include "perfmap/perfmap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"

enum { CHUNK_BYTES = 256 << 10 };

static const uint64_t max_bytes = 256u
				  << 20; /* read per process in all: the door's cap on one file */
static const uint64_t retry_ns = 100 * 1000 * 1000;
static const uint64_t mtime_grain_ns =
	20 * 1000 * 1000; /* file times follow the timer tick, at least 100 Hz */

struct source {
	struct door *door;
	struct intern *strings;
	char *chunk; /* CHUNK_BYTES, made at first use */
};

/* In addrspace.names: one process's map. */
struct space_map {
	struct perfmap *map;
	int fd;              /* -1 = none (yet) */
	uint64_t offset;     /* read so far; a whole number of lines, unless `inside` */
	bool inside;         /* offset lies inside a line that is too long */
	uint64_t total;      /* bytes read, of all files that had the name */
	uint64_t opened_ns;  /* when that was last tried */
	uint64_t checked_ns; /* when growth was last looked for */
};

static void space_map_free(struct space_map *s)
{
	if (!s)
		return;
	perfmap_free(s->map);
	closep(&s->fd);
	free(s);
}

/*
 * Reads what was appended. False when the file is another one now: shorter, or what was read before
 * no longer ends where a line ends.
 */
static bool read_growth(struct source *source, struct space_map *s, uint64_t size)
{
	uint64_t start = s->offset;
	char before;

	if (size < start)
		return false;
	if (size == start || s->total >= max_bytes || perfmap_failed(s->map))
		return true;
	if (start && !s->inside && (door_pread(s->fd, &before, 1, start - 1) < 0 || before != '\n'))
		return false;
	while (s->offset < size && s->total < max_bytes && !perfmap_failed(s->map)) {
		size_t want = size - s->offset < CHUNK_BYTES ? size - s->offset : CHUNK_BYTES, used;

		if (door_pread(s->fd, source->chunk, want, s->offset) < 0)
			break;
		used = perfmap_append(s->map, source->chunk, want);
		if (!used)
			break; /* the last line is not whole yet */
		s->inside = source->chunk[used - 1] != '\n';
		s->offset += used;
		s->total += used;
	}
	return true;
}

/*
 * Last written before this program was executed: by the one before it under the same pid. The door
 * has seen to those that are older than the process.
 */
static bool is_older_program(const struct addrspace *space, const struct door_file *file,
			     uint64_t now_ns)
{
	uint64_t written_ns = (uint64_t)file->mtime_ns, exec_ns = space->exec_ns;

	if (!exec_ns || exec_ns > now_ns || file->mtime_ns < 0)
		return false;
	return written_ns + mtime_grain_ns < clock_ns(CLOCK_REALTIME) - (now_ns - exec_ns);
}

/* Opens the map the process has now. What earlier ones said stays, where the new one says nothing.
 */
static void open_map(struct source *source, struct space_map *s, struct addrspace *space,
		     uint64_t now_ns)
{
	struct door_file file;

	if (s->opened_ns && now_ns - s->opened_ns < retry_ns)
		return;
	s->opened_ns = now_ns;
	if (space->dead || door_open_perfmap(source->door, space->pid, &file, NULL) != DOOR_OK)
		return;
	if (is_older_program(space, &file, now_ns)) {
		closep(&file.fd);
		return;
	}
	closep(&s->fd);
	s->fd = file.fd;
	s->offset = 0;
	if (s->inside)
		perfmap_append(s->map, "\n", 1); /* ends the long line of the file before */
	s->inside = false;
	read_growth(source, s, file.size);
}

/* Looks whether there is more than what was read. */
static void refresh(struct source *source, struct space_map *s, struct addrspace *space,
		    uint64_t now_ns)
{
	struct stat st;

	s->checked_ns = now_ns;
	if (s->fd < 0 || fstat(s->fd, &st) < 0) {
		open_map(source, s, space, now_ns);
		return;
	}
	/* Rewritten in place, or its name now means another file (or none). */
	if (!read_growth(source, s, (uint64_t)st.st_size) || !st.st_nlink)
		open_map(source, s, space, now_ns);
}

static struct space_map *space_map_get(struct source *source, struct addrspace *space,
				       uint64_t now_ns)
{
	struct space_map *s = space->names;

	if (s)
		return s;
	if (!source->chunk)
		source->chunk = malloc(CHUNK_BYTES);
	s = source->chunk ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return NULL;
	s->fd = -1;
	s->map = perfmap_new(NULL);
	if (!s->map) {
		space_map_free(s);
		return NULL;
	}
	space->names = s;
	refresh(source, s, space, now_ns);
	return s;
}

static void source_first_seen(void *data, struct addrspace *space)
{
	space_map_get(data, space, clock_monotonic_ns());
}

/*
 * A name may be old (code moves, and the runtime says so in a later line), so growth is looked for
 * now and then; without a name it is looked for at once, as lines come only after the code ran for
 * the first time.
 */
static bool source_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct source *source = data;
	uint64_t now_ns = clock_monotonic_ns(), start = 0;
	struct space_map *s = space_map_get(source, space, now_ns);
	const char *name;

	if (!s)
		return false;
	if (now_ns - s->checked_ns >= retry_ns)
		refresh(source, s, space, now_ns);
	name = perfmap_find(s->map, addr, &start);
	if (!name && s->checked_ns != now_ns) {
		refresh(source, s, space, now_ns);
		name = perfmap_find(s->map, addr, &start);
	}
	name = name ? intern_str(source->strings, name) : NULL;
	if (!name)
		return false;
	*ret = (struct symbol){ name, addr - start };
	return true;
}

static void source_gone(void *data, struct addrspace *space)
{
	space_map_free(space->names);
	space->names = NULL;
}

static void source_free(void *data)
{
	struct source *source = data;

	if (!source)
		return;
	free(source->chunk);
	free(source);
}

int perfmap_source_new(struct door *door, struct intern *strings, struct symbol_source *ret,
		       struct err *err)
{
	struct source *source = calloc(1, sizeof(*source));

	if (!source)
		return err_oom(err);
	source->door = door;
	source->strings = strings;
	*ret = (struct symbol_source){
		.name = "perf map",
		.find = source_find,
		.first_seen = source_first_seen,
		.gone = source_gone,
		.free = source_free,
		.data = source,
	};
	return 0;
}
