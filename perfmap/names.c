#include "perfmap/names_priv.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/intern.h"
#include "perfmap/jitdump.h"
#include "perfmap/published.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const uint64_t max_text_bytes = 256u << 20; /* of one process in all: the door's cap on one file */
static const uint64_t max_dump_bytes = 4ull << 30; /* mostly code, which is passed over */

/* Of one process: about 60 MiB while they are put in order. The largest maps that were seen hold 100,000 lines. */
static const struct perfmap_limits limits = { .max_entries = 300000, .max_names = 24u << 20 };

struct names *names_new(struct worker *worker)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->text.fd = n->place.dir_fd = -1;
	n->refused = DOOR_GONE;
	n->worker = worker;
	n->map = perfmap_new(&limits);
	if (n->map)
		return n;
	free(n);
	return NULL;
}

static void names_free(struct names *n)
{
	if (!n)
		return;
	perfmap_free(n->map);
	closep(&n->text.fd);
	closep(&n->place.dir_fd);
	for (size_t i = 0; i < n->num_dumps; i++) {
		closep(&n->dumps[i].file.fd);
		jitdump_free(n->dumps[i].parser);
	}
	free(n);
}

/* CLOCK_MONOTONIC at which the file was last written; file times may be anything, and follow the timer tick. */
static uint64_t written_ns(const struct stat *st, uint64_t now_ns)
{
	uint64_t real_ns = clock_ns(CLOCK_REALTIME);
	int64_t age;

	if (st->st_mtim.tv_sec < 0 || (uint64_t)st->st_mtim.tv_sec > UINT64_MAX / 2000000000)
		return now_ns;
	age = (int64_t)(real_ns - ((uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec));
	if (age < 0)
		return now_ns;
	return (uint64_t)age < now_ns ? now_ns - (uint64_t)age : 0;
}

/*
 * What is new was written after the last look, and no later than the file says. False when that cannot be told, or
 * there is less than was read. While an older part is still being read nothing newer is looked for.
 */
static bool growing_look(struct growing *g)
{
	uint64_t now_ns = clock_monotonic_ns(), stamp_ns;
	struct stat st;

	if (fstat(g->fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size < g->offset)
		return false;
	if (!g->stalled && g->offset < g->size && (uint64_t)st.st_size >= g->size)
		return true;
	g->stalled &= (uint64_t)st.st_size == g->size;
	stamp_ns = written_ns(&st, now_ns);
	if (stamp_ns < g->looked_ns)
		stamp_ns = g->looked_ns;
	g->looked_ns = now_ns;
	g->size = (uint64_t)st.st_size;
	g->stamp_ns = stamp_ns;
	return true;
}

/* It takes no more. */
static bool is_closed(const struct perfmap *m)
{
	return perfmap_failed(m) || perfmap_full(m);
}

/* ---- the map ---- */

void names_set_text(struct names *n, int fd)
{
	closep(&n->text.fd);
	n->text.fd = fd;
	n->text.offset = n->text.size = 0;
	n->text.stalled = false;
	n->tail_len = 0;
	if (n->inside)
		perfmap_append(n->map, "\n", 1); /* ends the long line of the file before */
	n->inside = false;
}

void names_forget_text(struct names *n)
{
	names_set_text(n, -1);
	n->text.looked_ns = 0;
}

static bool tail_is_there(const struct names *n)
{
	uint8_t now[NAMES_TAIL_BYTES];

	return !n->tail_len ||
	       (door_pread(n->text.fd, now, n->tail_len, n->text.offset - n->tail_len) == 0 &&
		!memcmp(now, n->tail, n->tail_len));
}

static void keep_tail(struct names *n, const char *chunk, size_t used)
{
	n->tail_len = used < sizeof(n->tail) ? used : sizeof(n->tail);
	memcpy(n->tail, chunk + used - n->tail_len, n->tail_len);
}

/* It ended two parsers in a row. */
static void set_aside(struct names *n)
{
	n->aside = true;
}

static size_t take_text(struct names *n, const char *chunk, size_t len, uint64_t stamp_ns)
{
	bool aside = false;
	size_t used;

	if (!n->worker)
		return perfmap_append_at(n->map, chunk, len, stamp_ns);
	used = published_text(n->worker, n->map, chunk, len, stamp_ns, &aside);
	if (aside)
		set_aside(n);
	return used;
}

static uint64_t take_dump(struct names *n, struct jitdump *j, const char *chunk, size_t len, uint64_t left,
			  uint64_t stamp_ns)
{
	const uint8_t *bytes = (const uint8_t *)chunk;
	bool aside = false;
	uint64_t used;

	if (!n->worker)
		return jitdump_append(j, bytes, len, left, n->map, stamp_ns);
	used = published_dump(n->worker, j, bytes, len, left, n->map, stamp_ns, &aside);
	if (aside)
		set_aside(n);
	return used;
}

bool names_read_text(struct names *n, char *chunk, uint64_t budget, bool recorded)
{
	struct growing *g = &n->text;
	uint64_t start_ns;

	if (!n->aside && !growing_look(g))
		return false;
	if (n->aside || g->offset == g->size || g->stalled || g->total >= max_text_bytes || is_closed(n->map))
		return true;
	if (!tail_is_there(n))
		return false;
	start_ns = clock_monotonic_ns();
	while (g->offset < g->size && g->total < max_text_bytes && !is_closed(n->map)) {
		uint64_t left = g->size - g->offset;
		size_t want = left < NAMES_CHUNK_BYTES ? (size_t)left : NAMES_CHUNK_BYTES, used;

		if (door_pread(g->fd, chunk, want, g->offset) < 0)
			break;
		used = take_text(n, chunk, want, recorded ? 0 : g->stamp_ns);
		g->stalled = !used;
		if (!used)
			break;
		n->inside = chunk[used - 1] != '\n';
		keep_tail(n, chunk, used);
		g->offset += used;
		g->total += used;
		if (budget <= used)
			break;
		budget -= used;
	}
	n->reads++;
	n->read_ns += clock_monotonic_ns() - start_ns;
	return true;
}

/* ---- jitdumps ---- */

bool names_add_dump(struct names *n, uint32_t file_id, int fd)
{
	struct names_dump *dump = &n->dumps[n->num_dumps];

	if (fd < 0 || n->num_dumps == NAMES_MAX_DUMPS) {
		closep(&fd);
		return false;
	}
	*dump = (struct names_dump){ .file_id = file_id, .file.fd = fd, .parser = jitdump_new() };
	if (!dump->parser) {
		closep(&dump->file.fd);
		return false;
	}
	n->num_dumps++;
	return true;
}

static bool has_dump(const struct names *n, uint32_t file_id)
{
	for (size_t i = 0; i < n->num_dumps; i++) {
		if (n->dumps[i].file_id == file_id)
			return true;
	}
	return false;
}

void names_find_dumps(struct names *n, const struct addrspace *space)
{
	if (n->maps_seen && n->maps_version == space->version)
		return;
	n->maps_seen = true;
	n->maps_version = space->version;
	mappings_for_each(m, &space->maps) {
		const struct file *file = m->file;
		pid_t pid;

		if (!file || file->kind == FILE_ELF || !jitdump_is_path(file->path, strlen(file->path), &pid) ||
		    has_dump(n, file->id))
			continue;
		if (file->kind == FILE_OTHER) {
			names_add_dump(n, file->id, fcntl(files_other_fd(file), F_DUPFD_CLOEXEC, 0));
		} else { /* V8 maps it before it has written anything, and then it is none yet */
			n->lost_dump = file->path;
			n->lost_id = file->id;
		}
	}
}

static void read_dump(struct names *n, struct names_dump *dump, char *chunk, uint64_t budget)
{
	struct growing *g = &dump->file;
	uint64_t start_ns;

	if (n->aside || !growing_look(g) || g->offset >= g->size || g->stalled || g->total >= max_dump_bytes ||
	    is_closed(n->map))
		return;
	start_ns = clock_monotonic_ns();
	while (g->offset < g->size && g->total < max_dump_bytes && !is_closed(n->map)) {
		uint64_t left = g->size - g->offset, used;
		size_t want = left < NAMES_CHUNK_BYTES ? (size_t)left : NAMES_CHUNK_BYTES;

		if (door_pread(g->fd, chunk, want, g->offset) < 0)
			break;
		used = take_dump(n, dump->parser, chunk, want, left, g->stamp_ns);
		g->stalled = !used;
		if (!used)
			break;
		g->offset += used;
		g->total += used;
		if (budget <= want)
			break;
		budget -= want;
	}
	n->reads++;
	n->read_ns += clock_monotonic_ns() - start_ns;
}

void names_read_dumps(struct names *n, char *chunk, uint64_t budget)
{
	for (size_t i = 0; i < n->num_dumps; i++)
		read_dump(n, &n->dumps[i], chunk, budget);
}

/* ---- as a source of symbols ---- */

bool names_symbol(struct names *n, struct intern *strings, uint64_t addr, struct symbol *ret)
{
	uint64_t start = 0;
	const char *name = perfmap_find(n->map, addr, &start);

	name = name ? intern_str(strings, name) : NULL;
	if (!name)
		return false;
	*ret = (struct symbol){ .name = name, .offset = addr - start };
	return true;
}

bool names_cfi(void *data, const struct addrspace *space, uint64_t addr, struct jit_cfi *ret)
{
	const struct names *n = space->names;

	return n && (ret ? perfmap_find_cfi(n->map, addr, ret) : perfmap_has_cfi(n->map));
}

void names_origin(void *data, const struct addrspace *space, struct symbol_origin *ret)
{
	const struct names *n = space->names;
	bool dump = false;

	if (!n)
		return;
	for (size_t i = 0; i < n->num_dumps; i++)
		dump |= jitdump_count(n->dumps[i].parser) != 0;
	if (n->text.total && dump)
		ret->from = "perf map and jitdump";
	else if (n->text.total)
		ret->from = "perf map";
	else if (dump)
		ret->from = "jitdump";
	ret->aside |= n->aside;
	if (n->aside)
		ret->refused = "parser";
	else if (n->refused != DOOR_OK && n->refused != DOOR_GONE)
		ret->refused = door_refusal_name(n->refused);
	else if (perfmap_full(n->map))
		ret->refused = door_refusal_name(DOOR_TOO_BIG);
	ret->reads += n->reads;
	ret->read_ns += n->read_ns;
}

uint64_t names_next(void *data, const struct addrspace *space)
{
	const struct names *n = space->names;

	return n ? perfmap_next(n->map) : UINT64_MAX;
}

bool names_changes(void *data, struct addrspace *space, uint64_t time_ns, struct code_ranges *ret)
{
	struct names *n = space->names;

	return !n || perfmap_changes(n->map, time_ns, ret);
}

void names_apply(void *data, struct addrspace *space, uint64_t time_ns)
{
	struct names *n = space->names;

	if (n)
		perfmap_apply(n->map, time_ns);
}

void names_gone(void *data, struct addrspace *space)
{
	names_free(space->names);
	space->names = NULL;
}
