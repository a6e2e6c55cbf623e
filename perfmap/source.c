/* The live source: maps and jitdumps of running processes, read as they grow. */
#include "perfmap/perfmap.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "perfmap/names_priv.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Read of one process before records go on: a runtime writes a few thousand lines a second when it is busy. */
static const uint64_t bytes_per_poll = 1 << 20;
/* A map that is not there may come: when somebody asks the JVM for one, say. */
static const uint64_t first_wait_ns = 100 * 1000 * 1000, longest_wait_ns = 1000 * 1000 * 1000;
/* File times follow the timer tick, at least 100 Hz. */
static const uint64_t mtime_grain_ns = 20 * 1000 * 1000;

struct source {
	struct door *door;
	struct worker *worker; /* borrowed; NULL = bytes are taken apart here */
	const char *map_dir; /* borrowed; NULL = none */
	struct intern *strings;
	char *chunk; /* NAMES_CHUNK_BYTES, made at first use */
	size_t num_places; /* held for processes that may leave a map at their exit */
};

enum { MAX_PLACES = 256 };

/*
 * Last written before this program was executed: by the one before it under the same pid. The door
 * has seen to those that are older than the process.
 */
static bool is_older_program(const struct addrspace *space, const struct door_file *file, uint64_t now_ns)
{
	uint64_t written_ns = (uint64_t)file->mtime_ns, exec_ns = space->exec_ns;

	if (!exec_ns || exec_ns > now_ns || file->mtime_ns < 0)
		return false;
	return written_ns + mtime_grain_ns < clock_ns(CLOCK_REALTIME) - (now_ns - exec_ns);
}

/* Opens the map that the process has now. What earlier ones said stays where the new one says nothing. */
static bool open_map(struct source *source, struct names *n, struct addrspace *space, bool last)
{
	uint64_t now_ns = clock_monotonic_ns();
	struct door_file file;

	if (space->dead || (!last && n->opened_ns && now_ns - n->opened_ns < n->wait_ns))
		return false;
	n->opened_ns = now_ns;
	n->wait_ns = !n->wait_ns ? first_wait_ns : n->wait_ns < longest_wait_ns ? 2 * n->wait_ns : longest_wait_ns;
	n->refused = door_open_perfmap(source->door, space->pid, &file, NULL);
	if (n->refused != DOOR_OK)
		return false;
	if (is_older_program(space, &file, now_ns)) {
		closep(&file.fd);
		n->refused = DOOR_STALE;
		return false;
	}
	names_set_text(n, file.fd);
	n->wait_ns = 0;
	return true;
}

/* No map yet: there may be one when the process has ended, and then nothing else leads to it. */
static void keep_place(struct source *source, struct names *n, pid_t pid)
{
	if (n->place.dir_fd < 0 && source->num_places < MAX_PLACES &&
	    door_keep_place(source->door, pid, &n->place, NULL) == 0)
		source->num_places++;
}

static void let_place_go(struct source *source, struct names *n)
{
	if (n->place.dir_fd < 0)
		return;
	close(steal_fd(&n->place.dir_fd));
	source->num_places--;
}

/* The process has ended: what it wrote at last, anew or over what was there. */
static void read_left(struct source *source, struct names *n, const struct addrspace *space)
{
	struct door_file file;
	int fd = -1;

	if (n->text.fd >= 0) {
		fd = fcntl(n->text.fd, F_DUPFD_CLOEXEC, 0);
	} else if (n->place.dir_fd >= 0 && door_open_left(source->door, &n->place, &file, NULL) == DOOR_OK) {
		if (is_older_program(space, &file, clock_monotonic_ns()))
			closep(&file.fd);
		else
			fd = file.fd;
	}
	if (fd < 0)
		return;
	names_set_text(n, fd);
	names_read_text(n, source->chunk, UINT64_MAX, false);
}

/* Its name now means another file, or none. */
static bool lost_its_name(const struct names *n)
{
	struct stat st;

	return fstat(n->text.fd, &st) < 0 || !st.st_nlink;
}

/* Under the name that the process gave it, with the checks of a map. */
static void find_lost_dump(struct source *source, struct names *n, const struct addrspace *space)
{
	uint64_t now_ns = clock_monotonic_ns();
	struct door_file file;

	if (!n->lost_dump || space->dead || (n->lost_ns && now_ns - n->lost_ns < first_wait_ns))
		return;
	n->lost_ns = now_ns;
	if (door_open(source->door, space->pid, n->lost_dump, DOOR_PERFMAP, &file, NULL) != DOOR_OK)
		return;
	names_add_dump(n, n->lost_id, file.fd);
	n->lost_dump = NULL;
}

static void read_names(struct source *source, struct names *n, struct addrspace *space, bool last)
{
	uint64_t budget = last ? UINT64_MAX : bytes_per_poll;
	bool same = n->text.fd >= 0 && names_read_text(n, source->chunk, budget, false);

	if (!same && space->dead)
		read_left(source, n, space);
	else if ((!same || lost_its_name(n)) && open_map(source, n, space, last))
		names_read_text(n, source->chunk, budget, false);
	if (n->text.fd < 0 && n->refused == DOOR_GONE && !space->dead)
		keep_place(source, n, space->pid);
	else
		let_place_go(source, n);
	names_find_dumps(n, space);
	find_lost_dump(source, n, space);
	names_read_dumps(n, source->chunk, budget);
}

static void source_poll(void *data, struct addrspace *space, bool last)
{
	struct names *n = space->names;

	if (n)
		read_names(data, n, space, last);
}

/* What somebody copied earlier, who vouches for it: of no time, so that all that comes is newer. */
static void read_given(struct source *source, struct names *n, pid_t pid)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	struct door_file file;

	strbuf_printf(&path, "%s/perf-%d.map", source->map_dir, (int)pid);
	if (!path.failed && door_open(source->door, 0, path.data, DOOR_DEBUG, &file, NULL) == DOOR_OK) {
		names_set_text(n, file.fd);
		names_read_text(n, source->chunk, UINT64_MAX, true);
		names_forget_text(n);
	}
	strbuf_clear(&path);
	strbuf_printf(&path, "%s/jit-%d.dump", source->map_dir, (int)pid);
	if (!path.failed && door_open(source->door, 0, path.data, DOOR_DEBUG, &file, NULL) == DOOR_OK)
		names_add_dump(n, 0, file.fd);
}

static void source_first_seen(void *data, struct addrspace *space)
{
	struct source *source = data;

	if (space->names)
		return;
	if (!source->chunk)
		source->chunk = malloc(NAMES_CHUNK_BYTES);
	space->names = source->chunk ? names_new(source->worker) : NULL;
	if (space->names && source->map_dir)
		read_given(source, space->names, space->pid);
	source_poll(source, space, false);
}

static bool source_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct source *source = data;

	return space->names && names_symbol(space->names, source->strings, addr, ret);
}

static void source_gone(void *data, struct addrspace *space)
{
	if (space->names)
		let_place_go(data, space->names);
	names_gone(data, space);
}

static void source_free(void *data)
{
	struct source *source = data;

	if (!source)
		return;
	free(source->chunk);
	free(source);
}

int perfmap_source_new(struct door *door, struct worker *worker, const char *map_dir, struct intern *strings,
		       struct symbol_source *ret, struct err *err)
{
	struct source *source = calloc(1, sizeof(*source));

	if (!source)
		return err_oom(err);
	source->door = door;
	source->worker = worker;
	source->map_dir = map_dir;
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
		.gone = source_gone,
		.free = source_free,
		.data = source,
	};
	return 0;
}
