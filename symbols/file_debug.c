/* Debug files, and others that a file names: where they may lie, and that they are the file's own. */
#include "symbols/file_priv.h"

#include "base/strbuf.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "target/build_id.h"
#include "target/offline.h"

#include <string.h>

/* True when it fits. Takes fd. */
static bool join_debug(struct entry *e, int fd, uint64_t size)
{
	struct elf_file *debug;

	if (elf_file_is_remote(e->file.elf))
		return elf_remote_add_debug(e->file.elf, fd, size) == 0;
	return elf_file_open_fd(fd, size, &debug, NULL) == 0 && elf_file_add_debug(e->file.elf, debug, NULL) == 0;
}

/* True when it fitted. Takes the descriptor. */
static bool add_debug(struct files *files, struct entry *e, struct door_file *opened)
{
	_cleanup_(door_file_close) struct door_file file = *opened;

	if (files->num_fds >= files->max_fds)
		return false; /* nothing is evicted for it: that could be this file */
	if (file.dev == e->dev && file.ino == e->ino)
		return false; /* a debuglink to itself */
	if (!join_debug(e, steal_fd(&file.fd), file.size))
		return false;
	e->num_fds++; /* it stays open with the file */
	files->num_fds++;
	return true;
}

static bool try_debug(struct files *files, struct entry *e, pid_t pid, const char *path)
{
	struct door_file opened;

	return door_open(files->opts.door, pid, path, DOOR_DEBUG, &opened, NULL) == DOOR_OK &&
	       add_debug(files, e, &opened);
}

/* The same file under the same name in the host's root: then the host's debug files are its own. */
static bool named_by_host(struct files *files, const struct entry *e)
{
	_cleanup_(door_file_close) struct door_file opened = { .fd = -1 };

	return door_open(files->opts.door, 0, e->file.path, DOOR_ELF, &opened, NULL) == DOOR_OK &&
	       opened.dev == e->dev && opened.ino == e->ino;
}

enum { MAX_DEBUG_PATHS = 4 };

/* Where GDB looks: GDB manual, "Debugging Information in Separate Files". */
static size_t debug_paths(struct entry *e, struct strbuf paths[MAX_DEBUG_PATHS])
{
	const char *path = e->file.path, *link;
	const uint8_t *id;
	size_t id_len = elf_file_build_id(e->file.elf, &id), num = 0;
	int dir_len = (int)(e->file.base - path); /* with its slash */
	uint32_t crc;

	if (id_len >= 2 && id_len <= 64)
		build_id_path(&paths[num++], "/usr/lib/debug", id, id_len, ".debug");
	link = elf_file_debuglink(e->file.elf, &crc);
	if (link && *link && !strchr(link, '/') && strlen(link) <= 255) {
		strbuf_printf(&paths[num++], "%.*s%s", dir_len, path, link);
		strbuf_printf(&paths[num++], "%.*s.debug/%s", dir_len, path, link);
		strbuf_printf(&paths[num++], "/usr/lib/debug%.*s%s", dir_len, path, link);
	}
	return num;
}

/* Of a recording's file: by its build-id wherever that leads, then by the debuglink's paths. */
static bool find_recorded_debug(struct files *files, struct entry *e, const struct strbuf *paths,
				size_t num)
{
	struct offline_wish wish = { .path = e->file.path };
	enum door_refusal refusal;
	struct door_file opened;

	wish.build_id_len = elf_file_build_id(e->file.elf, &wish.build_id);
	for (size_t place = 0; wish.build_id_len && offline_find(files->opts.offline, OFFLINE_DEBUG,
								 &wish, place, &refusal, &opened);
	     place++) {
		if (refusal == DOOR_OK && add_debug(files, e, &opened))
			return true;
	}
	for (size_t i = 0; i < num; i++) {
		if (!paths[i].failed &&
		    offline_open_debug(files->opts.offline, paths[i].data, &opened) == DOOR_OK &&
		    add_debug(files, e, &opened))
			return true;
	}
	return false;
}

/*
 * In the root of a process that maps it, and on the host: there by its name only if that is the host's, but by its
 * build-id always, as what images leave out is often installed on the host, and only the very same build has this id.
 */
static bool find_live_debug(struct files *files, struct entry *e, const struct strbuf *paths,
			    size_t num)
{
	size_t id_len, on_host = 0;
	const uint8_t *id;
	bool found = false;

	for (size_t i = 0; i < num && !found; i++)
		found = !paths[i].failed && try_debug(files, e, e->file.seen_pid, paths[i].data);
	id_len = elf_file_build_id(e->file.elf, &id);
	if (!found && num && named_by_host(files, e))
		on_host = num;
	else if (id_len >= 2 && id_len <= 64)
		on_host = 1; /* the first, see debug_paths */
	for (size_t i = 0; i < on_host && !found; i++)
		found = !paths[i].failed && try_debug(files, e, 0, paths[i].data);
	return found;
}

bool files_find_debug(struct files *files, struct file *file)
{
	struct strbuf paths[MAX_DEBUG_PATHS] = { 0 };
	struct entry *e = entry_of(file);
	bool found;
	size_t num;

	if (file->debug_tried || !file->elf || !files->opts.door || *file->path != '/')
		return false;
	file->debug_tried = true;
	num = debug_paths(e, paths);
	found = files->opts.offline ? find_recorded_debug(files, e, paths, num)
				    : find_live_debug(files, e, paths, num);
	for (size_t i = 0; i < num; i++)
		strbuf_deinit(&paths[i]);
	return found;
}

static int open_named(struct files *files, struct entry *e, const char *path)
{
	struct door_file opened;
	bool found;

	if (files->opts.offline && !e->file.seen_pid)
		return offline_open_debug(files->opts.offline, path, &opened) == DOOR_OK ? opened.fd : -1;
	found = door_open(files->opts.door, e->file.seen_pid, path, DOOR_DEBUG, &opened, NULL) == DOOR_OK ||
		(!files->opts.offline && named_by_host(files, e) &&
		 door_open(files->opts.door, 0, path, DOOR_DEBUG, &opened, NULL) == DOOR_OK);
	return found ? opened.fd : -1;
}

int files_open_named(struct files *files, struct file *file, const char *path)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	if (!files->opts.door || *file->path != '/' || !*path)
		return -1;
	if (*path != '/') {
		strbuf_add(&text, file->path, (size_t)(file->base - file->path));
		strbuf_str(&text, path);
		path = text.data;
	}
	return text.failed ? -1 : open_named(files, entry_of(file), path);
}
