#include "symbols/file_priv.h"

#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "target/proc_text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

static const char deleted_suffix[] = " (deleted)"; /* fs/d_path.c prepend_unreachable, d_path */

/* Half of what this process may open, the rest is for events and others. */
static size_t descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 512;
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 1u << 30)
		return 1u << 29;
	return (size_t)limit.rlim_cur / 2;
}

static void entry_free(struct entry *e)
{
	if (!e)
		return;
	elf_file_free(e->file.elf);
	closep(&e->fd);
	vec_deinit(&e->aliases);
	free(e);
}

static void idle_add(struct files *files, struct entry *e)
{
	e->idle = true;
	e->next = NULL;
	e->prev = files->newest;
	if (files->newest)
		files->newest->next = e;
	else
		files->oldest = e;
	files->newest = e;
	files->num_idle++;
}

static void idle_remove(struct files *files, struct entry *e)
{
	if (!e->idle)
		return;
	*(e->prev ? &e->prev->next : &files->oldest) = e->next;
	*(e->next ? &e->next->prev : &files->newest) = e->prev;
	e->prev = e->next = NULL;
	e->idle = false;
	files->num_idle--;
}

/* No look-up finds it any more; mappings that point here keep it. */
static void unreach(struct files *files, struct entry *e)
{
	for (size_t i = 0; i < e->aliases.len; i++) {
		struct alias *alias = aliases_find(&files->aliases, &e->aliases.data[i]);

		if (alias && alias->entry == e)
			aliases_remove(&files->aliases, &e->aliases.data[i]);
	}
	if (e->has_inode)
		inodes_remove(&files->inodes, (struct inode_key){ e->dev, e->ino });
	if (e->file.kind == FILE_MISSING)
		missings_remove(&files->missings,
				(struct missing_key){ e->file.path, e->file.refusal });
	e->aliases.len = 0;
	e->has_inode = false;
	e->reachable = false;
}

static void evict(struct files *files, struct entry *e)
{
	idle_remove(files, e); /* first: naming frames may open files and make room for them */
	if (files->opts.evict)
		files->opts.evict(files->opts.data, &e->file);
	unreach(files, e);
	ids_remove(&files->ids, e->file.id);
	files->num_fds -= e->num_fds;
	entry_free(e);
}

int files_new(const struct files_opts *opts, struct files **ret, struct err *err)
{
	struct files *files = calloc(1, sizeof(*files));

	if (!files)
		return err_oom(err);
	files->opts = *opts;
	if (!files->opts.max_idle)
		files->opts.max_idle = 1024;
	files->max_fds = descriptor_limit();
	files->cfi_room.max = CFI_ROOM_BYTES;
	*ret = files;
	return 0;
}

void files_free(struct files *files)
{
	struct by_id *slot;
	size_t cursor = 0;

	if (!files)
		return;
	while ((slot = ids_next(&files->ids, &cursor)))
		entry_free(slot->entry);
	aliases_deinit(&files->aliases);
	inodes_deinit(&files->inodes);
	missings_deinit(&files->missings);
	ids_deinit(&files->ids);
	free(files);
}

void files_forget_cfi(struct files *files)
{
	cfi_room_clear(&files->cfi_room);
}

void files_ref(struct file *file)
{
	struct entry *e = entry_of(file);

	idle_remove(e->files, e);
	file->refs++;
}

void files_unref(struct files *files, struct file *file)
{
	struct entry *e = entry_of(file);

	if (file->refs && --file->refs)
		return;
	if (!e->reachable || e->in_memory) {
		evict(files, e);
		return;
	}
	if (!e->idle)
		idle_add(files, e);
	while (files->num_idle > files->opts.max_idle)
		evict(files, files->oldest);
}

struct file *files_touch(struct files *files, struct entry *e)
{
	idle_remove(files, e);
	if (!e->file.refs)
		idle_add(files, e);
	return &e->file;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static struct entry *entry_new(struct files *files, const char *path)
{
	struct entry *e = calloc(1, sizeof(*e));
	struct by_id *slot;

	if (!e)
		return NULL;
	e->files = files;
	e->fd = -1;
	e->reachable = true;
	e->file.id = files->next_id + 1;
	e->file.path = path;
	e->file.base = base_name(path);
	slot = ids_add(&files->ids, e->file.id, NULL);
	if (!slot) {
		free(e);
		return NULL;
	}
	*slot = (struct by_id){ e->file.id, e };
	files->next_id++;
	return e;
}

struct file *files_missing(struct files *files, const char *path, enum door_refusal refusal)
{
	struct missing_key key = { path, refusal };
	struct missing *slot = missings_find(&files->missings, key);
	struct entry *e;

	if (slot)
		return files_touch(files, slot->entry);
	e = entry_new(files, path);
	if (!e)
		return NULL;
	e->file.kind = FILE_MISSING;
	e->file.refusal = refusal;
	slot = missings_add(&files->missings, key, NULL);
	if (!slot) {
		ids_remove(&files->ids, e->file.id);
		entry_free(e);
		return NULL;
	}
	*slot = (struct missing){ key, e };
	return files_touch(files, e);
}

struct file *files_special(struct files *files, const char *name)
{
	const char *path = intern_str(files->opts.strings, name);

	return path ? files_missing(files, path, DOOR_NOT_REGULAR) : NULL;
}

static bool entry_changed(const struct entry *e)
{
	return e->file.elf && elf_file_changed(e->file.elf);
}

/* The file changed on disk since we opened it: who maps it now gets a new object. */
static void replace_changed(struct files *files, struct entry *e)
{
	unreach(files, e);
	if (!e->file.refs)
		evict(files, e);
}

void files_add_alias(struct files *files, struct entry *e, const struct alias_key *key, uint32_t generation)
{
	struct alias *alias;

	if (!key->ino || !vec_push(&e->aliases, *key))
		return;
	alias = aliases_add(&files->aliases, key, NULL);
	if (alias)
		*alias = (struct alias){ *key, generation, e };
	else
		e->aliases.len--;
}

/*
 * While the descriptor is held its inode number cannot be given away, so an unknown generation
 * agrees with any; two known ones that differ are two files (network and FUSE file systems).
 */
struct entry *files_find_alias(struct files *files, const struct alias_key *key, uint32_t generation)
{
	struct alias *alias = key->ino ? aliases_find(&files->aliases, key) : NULL;

	if (!alias)
		return NULL;
	if (alias->generation && generation && alias->generation != generation)
		return NULL;
	/* After the fact nobody maps it anew: what it was when it was opened is what counts. */
	if (!files->opts.offline && entry_changed(alias->entry)) {
		replace_changed(files, alias->entry);
		return NULL;
	}
	if (generation)
		alias->generation = generation;
	return alias->entry;
}

bool files_make_room(struct files *files)
{
	if (files->num_fds < files->max_fds)
		return true;
	files->max_fds = descriptor_limit(); /* may have been raised since */
	while (files->num_fds >= files->max_fds && files->oldest)
		evict(files, files->oldest);
	return files->num_fds < files->max_fds;
}

/* struct elf_remote_opts */
static void entry_aside(void *data)
{
	struct entry *e = data;
	struct files *files = e->files;

	files->num_aside++;
	if (files->opts.aside)
		files->opts.aside(files->opts.data, &e->file);
}

static void entry_known(void *data)
{
	struct entry *e = data;
	struct files *files = e->files;

	if (files->opts.known)
		files->opts.known(files->opts.data, &e->file);
}

static struct elf_remote_opts remote_opts(struct entry *e)
{
	return (struct elf_remote_opts){ .worker = e->files->opts.worker,
					 .aside = entry_aside,
					 .known = entry_known,
					 .data = e };
}

/* Takes fd. */
static int open_elf(struct entry *e, int fd, uint64_t size)
{
	const struct elf_remote_opts remote = remote_opts(e);
	int r;

	if (remote.worker)
		return elf_remote_open(fd, size, &remote, &e->file.elf, NULL);
	r = elf_file_open_fd(fd, size, &e->file.elf, NULL);
	if (r == 0)
		elf_file_share_room(e->file.elf, &e->files->cfi_room);
	return r;
}

/* ELF or not: the descriptor must stay open either way, it keeps the inode. Takes it. */
static void entry_load(struct entry *e, int fd, uint64_t size)
{
	int spare = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	e->num_fds = 1;
	if (open_elf(e, fd, size) == 0) {
		e->file.kind = FILE_ELF;
		closep(&spare);
		return;
	}
	e->file.kind = FILE_OTHER;
	e->fd = spare;
}

struct entry *files_entry_opened(struct files *files, const char *path, struct door_file *opened)
{
	struct inode_key key = { opened->dev, opened->ino };
	struct inode *slot = inodes_find(&files->inodes, key);
	struct entry *e;

	if (slot && !entry_changed(slot->entry))
		return slot->entry;
	if (slot)
		replace_changed(files, slot->entry);
	e = entry_new(files, path);
	if (!e)
		return NULL;
	slot = inodes_add(&files->inodes, key, NULL);
	if (!slot) {
		ids_remove(&files->ids, e->file.id);
		entry_free(e);
		return NULL;
	}
	*slot = (struct inode){ key, e };
	e->has_inode = true;
	e->dev = key.dev;
	e->ino = key.ino;
	entry_load(e, steal_fd(&opened->fd), opened->size);
	files->num_fds += e->num_fds;
	return e;
}

/* What a mapping is called without " (deleted)", interned; NULL when out of memory. */
static const char *clean_path(struct files *files, const char *path, bool *ret_deleted)
{
	const size_t tail = sizeof(deleted_suffix) - 1;
	size_t len = strlen(path);

	*ret_deleted = len > tail && !strcmp(path + len - tail, deleted_suffix);
	return intern_mem(files->opts.strings, path, *ret_deleted ? len - tail : len);
}

struct file *files_get(struct files *files, const struct door_mapping *mapping,
		       uint32_t ino_generation, const pid_t *also_pids, size_t num_also)
{
	_cleanup_(door_file_close) struct door_file opened = { .fd = -1 };
	struct alias_key key = { mapping->maj, mapping->min, mapping->ino, NULL };
	enum door_refusal refusal;
	struct err why = { 0 };
	bool deleted = false;
	struct entry *e;

	key.path = clean_path(files, mapping->path, &deleted);
	if (!key.path)
		return NULL;
	if (files->opts.offline)
		return files_get_recorded(files, mapping, key.path, false);
	e = files_find_alias(files, &key, ino_generation);
	if (e)
		return files_touch(files, e);

	if (!files->opts.door)
		refusal = DOOR_GONE;
	else if (!files_make_room(files))
		refusal = DOOR_FAILED;
	else
		refusal = door_open_mapping(files->opts.door, mapping, also_pids, num_also, &opened, &why);
	if (refusal != DOOR_OK) {
		log_debug("symbols", "a file that process %d maps is not opened: %s: %s", mapping->pid,
			  door_refusal_name(refusal), why.msg);
		files->refused[refusal]++;
		return files_missing(files, key.path, refusal);
	}
	e = files_entry_opened(files, key.path, &opened);
	if (!e)
		return NULL;
	if (!e->file.seen_pid) {
		e->file.seen_pid = mapping->pid;
		e->file.deleted = deleted;
	}
	files_add_alias(files, e, &key, ino_generation);
	return files_touch(files, e);
}

/* Only ELF files are worth holding memory for. */
static void let_go_of_other(struct files *files, struct entry *e)
{
	if (e->file.kind != FILE_OTHER)
		return;
	closep(&e->fd);
	e->fd = -1;
	files->num_fds -= e->num_fds;
	e->num_fds = 0;
}

static struct file *open_in_memory(struct files *files, const struct door_mapping *mapping, const struct alias_key *key,
				   uint32_t ino_generation)
{
	_cleanup_(door_file_close) struct door_file opened = { .fd = -1 };
	enum door_refusal refusal = DOOR_FAILED;
	struct file *file;
	struct entry *e;

	if (files_make_room(files))
		refusal = door_open_mapping(files->opts.door, mapping, NULL, 0, &opened, NULL);
	if (refusal != DOOR_OK) {
		file = files_missing(files, key->path, refusal);
	} else {
		e = files_entry_opened(files, key->path, &opened);
		file = e ? files_touch(files, e) : NULL;
		if (e) {
			e->in_memory = e->file.deleted = true;
			e->file.seen_pid = mapping->pid;
			let_go_of_other(files, e);
		}
	}
	if (file) /* also that there is nothing: compilers map new parts all the time */
		files_add_alias(files, entry_of(file), key, ino_generation);
	return file;
}

struct file *files_in_memory(struct files *files, const struct door_mapping *mapping, uint32_t ino_generation)
{
	struct alias_key key = { mapping->maj, mapping->min, mapping->ino, NULL };
	struct file *file = NULL;
	struct entry *e;
	bool deleted;

	key.path = clean_path(files, mapping->path, &deleted);
	if (!key.path || !key.ino)
		return NULL;
	if (files->opts.offline) /* in perf's cache, or where it still is mapped */
		file = files_get_recorded(files, mapping, key.path, true);
	else if ((e = files_find_alias(files, &key, ino_generation)))
		file = files_touch(files, e);
	else if (files->opts.door)
		file = open_in_memory(files, mapping, &key, ino_generation);
	return file && file->kind == FILE_ELF ? file : NULL;
}

struct own_vdso {
	uint64_t start, size;
};

static int find_own_vdso(void *data, const struct proc_map *map)
{
	struct own_vdso *vdso = data;

	if (map->start != vdso->start)
		return 0;
	vdso->size = map->end - map->start;
	return 1;
}

/* Our own memory: the kernel maps it for as long as we live. */
static struct elf_file *open_own_vdso(struct files *files, struct entry *e)
{
	const struct elf_remote_opts remote = remote_opts(e);
	const void *bytes;
	struct own_vdso vdso = { .start = getauxval(AT_SYSINFO_EHDR) };
	struct elf_file *elf = NULL;
	struct strbuf maps = { 0 };

	if (vdso.start && files->opts.door &&
	    door_read_proc(files->opts.door, getpid(), "maps", 16u << 20, &maps, NULL, NULL) == 0)
		proc_maps_parse(maps.data, maps.len, find_own_vdso, &vdso, NULL);
	strbuf_deinit(&maps);
	if (!vdso.size)
		return NULL;
	bytes = (const void *)(uintptr_t)vdso.start;
	if (remote.worker)
		elf_remote_open_vdso(bytes, vdso.size, &remote, &elf, NULL);
	else
		elf_file_open_memory(bytes, vdso.size, &elf, NULL);
	return elf;
}

/* Kept for the whole run. */
static struct entry *own_vdso(struct files *files)
{
	const char *path;
	struct entry *e;

	if (files->vdso)
		return files->vdso;
	path = intern_str(files->opts.strings, "[vdso]");
	e = path ? entry_new(files, path) : NULL;
	if (!e)
		return NULL;
	e->file.elf = open_own_vdso(files, e);
	e->file.kind = e->file.elf ? FILE_ELF : FILE_OTHER;
	e->file.debug_tried = true;
	e->file.refs = 1; /* ours: it stays */
	files->vdso = e;
	return e;
}

struct file *files_vdso(struct files *files, const struct door_mapping *mapping)
{
	struct entry *own = own_vdso(files);

	if (!own)
		return NULL;
	if (!files->opts.offline)
		return &own->file;
	if (mapping->build_id_len ? own->file.elf && file_elf_is(own->file.elf, mapping)
				  : files->opts.own_kernel)
		return &own->file;
	return files_get_recorded(files, mapping, own->file.path, false);
}

int files_other_fd(const struct file *file)
{
	return file->kind == FILE_OTHER ? ((const struct entry *)file)->fd : -1;
}

void files_set_own_kernel(struct files *files, bool own_kernel)
{
	files->opts.own_kernel = own_kernel;
}

struct file *files_by_id(struct files *files, uint32_t id)
{
	struct by_id *slot = ids_find(&files->ids, id);

	return slot ? &slot->entry->file : NULL;
}

uint64_t files_aside(const struct files *files)
{
	return files->num_aside;
}

const uint64_t *files_refused(const struct files *files)
{
	return files->refused;
}

size_t files_count(const struct files *files)
{
	return files->ids.len;
}

void files_rest(struct files *files)
{
	struct by_id *slot;
	size_t cursor = 0;

	while ((slot = ids_next(&files->ids, &cursor))) {
		if (slot->entry->file.elf)
			elf_file_rest(slot->entry->file.elf);
	}
}
