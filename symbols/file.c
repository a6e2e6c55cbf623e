#include "symbols/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "symbols/elf_cfi.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "target/build_id.h"
#include "target/offline.h"
#include "target/proc_text.h"

static const char deleted_suffix[] = " (deleted)"; /* fs/d_path.c prepend_unreachable, d_path */

/*
 * What the kernel tells of a mapped file. The path is part of it because btrfs numbers inodes per
 * subvolume while s_dev, which perf and /proc/PID/maps show, is that of the whole file system.
 */
struct alias_key {
	uint32_t maj, min;
	uint64_t ino;
	const char *path; /* interned */
};

struct entry {
	struct file file;    /* first: the outside knows only this */
	struct files *files; /* that it belongs to */
	VEC(struct alias_key) aliases;
	bool has_inode; /* dev and ino are those of an open descriptor */
	dev_t dev;
	ino_t ino;
	int fd;               /* of FILE_OTHER; the ELF file holds its own */
	unsigned int num_fds; /* 0, 1, or 2 with a debug file */
	bool reachable;       /* a look-up can still find it; false once it changed on disk */
	bool in_memory;       /* a memfd: our descriptor keeps its memory */
	bool idle;            /* in the list: refs is 0, and something can still find it */
	struct entry *prev, *next;
};

struct alias {
	struct alias_key key;
	uint32_t generation; /* 0 = not known: /proc/PID/maps does not tell */
	struct entry *entry;
};

struct inode_key {
	dev_t dev;
	ino_t ino;
};

struct inode {
	struct inode_key key;
	struct entry *entry;
};

struct missing_key {
	const char *path; /* interned */
	enum door_refusal refusal;
};

struct missing {
	struct missing_key key;
	struct entry *entry;
};

struct by_id {
	uint32_t id;
	struct entry *entry;
};

static uint64_t alias_hash(const struct alias_key *key)
{
	uint64_t dev = (uint64_t)key->maj << 32 | key->min;

	return hash_two(hash_two(dev, key->ino), (uintptr_t)key->path);
}

static bool alias_equal(const struct alias_key *a, const struct alias_key *b)
{
	return a->ino == b->ino && a->maj == b->maj && a->min == b->min && a->path == b->path;
}

HTAB(aliases, struct alias, const struct alias_key *, alias_hash(key), alias_equal(&slot->key, key),
     alias_hash(&slot->key));
HTAB(inodes, struct inode, struct inode_key, hash_two(key.dev, key.ino),
     slot->key.ino == key.ino && slot->key.dev == key.dev, hash_two(slot->key.dev, slot->key.ino));
HTAB(missings, struct missing, struct missing_key, hash_two((uintptr_t)key.path, key.refusal),
     slot->key.path == key.path && slot->key.refusal == key.refusal,
     hash_two((uintptr_t)slot->key.path, slot->key.refusal));
HTAB(ids, struct by_id, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct files {
	struct files_opts opts;
	struct aliases aliases;
	struct inodes inodes;
	struct missings missings;
	struct ids ids;                /* every entry is in here */
	struct entry *oldest, *newest; /* idle ones */
	struct cfi_room cfi_room;
	size_t num_idle;
	size_t num_fds, max_fds;
	uint32_t next_id;
	struct entry *vdso;
	uint64_t refused[DOOR_NUM_REFUSALS];
	uint64_t num_aside;
};

static struct entry *entry_of(struct file *file)
{
	return (struct entry *)file;
}

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

/* An entry just found or made: the youngest of the idle ones, or in use. */
static struct file *touch(struct files *files, struct entry *e)
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

/*
 * A file that cannot be opened. Shared by path, so that frames in it meet in one place, but never
 * found by device and inode: the next process that maps it gets another try.
 */
static struct file *missing(struct files *files, const char *path, enum door_refusal refusal)
{
	struct missing_key key = { path, refusal };
	struct missing *slot = missings_find(&files->missings, key);
	struct entry *e;

	if (slot)
		return touch(files, slot->entry);
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
	return touch(files, e);
}

struct file *files_special(struct files *files, const char *name)
{
	const char *path = intern_str(files->opts.strings, name);

	return path ? missing(files, path, DOOR_NOT_REGULAR) : NULL;
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

/* Failing for want of memory only costs another open. */
static void alias_add(struct files *files, struct entry *e, const struct alias_key *key,
		      uint32_t generation)
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
static struct entry *alias_find(struct files *files, const struct alias_key *key,
				uint32_t generation)
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

/* False when every descriptor we allow ourselves is held by a file in use. */
static bool make_room(struct files *files)
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

static struct elf_remote_opts remote_opts(struct entry *e)
{
	return (struct elf_remote_opts){ .worker = e->files->opts.worker,
					 .aside = entry_aside,
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

static struct entry *entry_opened(struct files *files, const char *path, struct door_file *opened)
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

static void door_file_close(struct door_file *file)
{
	closep(&file->fd);
}

/* What a mapping is called without " (deleted)", interned; NULL when out of memory. */
static const char *clean_path(struct files *files, const char *path, bool *ret_deleted)
{
	const size_t tail = sizeof(deleted_suffix) - 1;
	size_t len = strlen(path);

	*ret_deleted = len > tail && !strcmp(path + len - tail, deleted_suffix);
	return intern_mem(files->opts.strings, path, *ret_deleted ? len - tail : len);
}

/* ---- files of a recording ---- */

/* perf before 5.11 told build-ids of any length as 20 bytes, the rest zeros. */
static bool same_build_id(const uint8_t *told, size_t told_len, const uint8_t *id, size_t len)
{
	static const uint8_t zeros[20];

	if (!len || len > told_len || memcmp(told, id, len))
		return false;
	return len == told_len || (told_len == sizeof(zeros) && !memcmp(told + len, zeros, told_len - len));
}

static bool elf_is(struct elf_file *elf, const struct door_mapping *mapping)
{
	const uint8_t *id;
	size_t len = elf_file_build_id(elf, &id);

	return same_build_id(mapping->build_id, mapping->build_id_len, id, len);
}

static bool file_is(const struct door_file *file, const struct door_mapping *mapping)
{
	int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	struct elf_file *elf;
	bool ret;

	if (fd < 0 || elf_file_open_fd(fd, file->size, &elf, NULL) < 0)
		return false;
	ret = elf_is(elf, mapping);
	elf_file_free(elf);
	return ret;
}

static struct offline_wish wish_of(const struct door_mapping *mapping, const char *path)
{
	return (struct offline_wish){ .path = path,
				      .build_id = mapping->build_id,
				      .build_id_len = mapping->build_id_len,
				      .maj = mapping->maj,
				      .min = mapping->min,
				      .ino = mapping->ino,
				      .mapping = mapping };
}

/* The reason that says most: that another file was there, rather than that there was none elsewhere. */
static enum door_refusal worse(enum door_refusal first, enum door_refusal later)
{
	return first == DOOR_GONE ? later : first;
}

static enum door_refusal find_recorded(struct files *files, const struct door_mapping *mapping,
				       const char *path, struct door_file *ret, pid_t *ret_pid)
{
	struct offline_wish wish = wish_of(mapping, path);
	enum door_refusal all = DOOR_GONE, refusal;
	struct door_file file;

	if (mapping->build_id_of_path && offline_was_replaced(files->opts.offline, &wish))
		return DOOR_CHANGED;
	for (size_t place = 0; offline_find(files->opts.offline, OFFLINE_ELF, &wish, place,
					    &refusal, &file);
	     place++) {
		if (refusal == DOOR_OK && mapping->build_id_len && !file_is(&file, mapping)) {
			closep(&file.fd);
			refusal = DOOR_CHANGED;
		}
		if (refusal == DOOR_OK) {
			*ret = file;
			*ret_pid = place == OFFLINE_PLACE_PROCESS ? mapping->pid : 0;
			return DOOR_OK;
		}
		all = worse(all, refusal);
	}
	return all;
}

/* What the recording says of a file, in the shape of what a kernel says. */
static struct alias_key recorded_key(const struct door_mapping *mapping, const char *path)
{
	struct alias_key key = { mapping->maj, mapping->min, mapping->ino, path };

	if (mapping->build_id_len >= 16 && !mapping->build_id_of_path) {
		memcpy(&key.ino, mapping->build_id, sizeof(key.ino));
		memcpy(&key.maj, mapping->build_id + 8, sizeof(key.maj));
		memcpy(&key.min, mapping->build_id + 12, sizeof(key.min));
	} else if (!key.ino) {
		key.maj = key.min = UINT32_MAX; /* no device: the path is all there is */
		key.ino = 1;
	}
	return key;
}

static struct file *get_recorded(struct files *files, const struct door_mapping *mapping,
				 const char *path, bool in_memory)
{
	_cleanup_(door_file_close) struct door_file opened = { .fd = -1 };
	struct alias_key key = recorded_key(mapping, path);
	enum door_refusal refusal = DOOR_FAILED;
	struct entry *e = alias_find(files, &key, 0);
	pid_t pid = 0;

	if (e)
		return touch(files, e);
	if (make_room(files))
		refusal = find_recorded(files, mapping, path, &opened, &pid);
	if (refusal != DOOR_OK) {
		struct file *file = missing(files, path, refusal);

		/*
		 * Nothing comes back that was not there: thousands of processes may map it. What was made in memory
		 * is mostly code of which there never was a file.
		 */
		if (!in_memory || mapping->build_id_len)
			files->refused[refusal]++;
		if (file)
			alias_add(files, entry_of(file), &key, 0);
		return file;
	}
	e = entry_opened(files, path, &opened);
	if (!e)
		return NULL;
	e->file.by_path = !mapping->build_id_len;
	e->file.seen_pid = pid;
	alias_add(files, e, &key, 0);
	return touch(files, e);
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
		return get_recorded(files, mapping, key.path, false);
	e = alias_find(files, &key, ino_generation);
	if (e)
		return touch(files, e);

	if (!files->opts.door)
		refusal = DOOR_GONE;
	else if (!make_room(files))
		refusal = DOOR_FAILED;
	else
		refusal = door_open_mapping(files->opts.door, mapping, also_pids, num_also, &opened, &why);
	if (refusal != DOOR_OK) {
		log_debug("symbols", "a file that process %d maps is not opened: %s: %s", mapping->pid,
			  door_refusal_name(refusal), why.msg);
		files->refused[refusal]++;
		return missing(files, key.path, refusal);
	}
	e = entry_opened(files, key.path, &opened);
	if (!e)
		return NULL;
	if (!e->file.seen_pid) {
		e->file.seen_pid = mapping->pid;
		e->file.deleted = deleted;
	}
	alias_add(files, e, &key, ino_generation);
	return touch(files, e);
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

	if (make_room(files))
		refusal = door_open_mapping(files->opts.door, mapping, NULL, 0, &opened, NULL);
	if (refusal != DOOR_OK) {
		file = missing(files, key->path, refusal);
	} else {
		e = entry_opened(files, key->path, &opened);
		file = e ? touch(files, e) : NULL;
		if (e) {
			e->in_memory = e->file.deleted = true;
			e->file.seen_pid = mapping->pid;
			let_go_of_other(files, e);
		}
	}
	if (file) /* also that there is nothing: compilers map new parts all the time */
		alias_add(files, entry_of(file), key, ino_generation);
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
		file = get_recorded(files, mapping, key.path, true);
	else if ((e = alias_find(files, &key, ino_generation)))
		file = touch(files, e);
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
	if (mapping->build_id_len ? own->file.elf && elf_is(own->file.elf, mapping)
				  : files->opts.own_kernel)
		return &own->file;
	return get_recorded(files, mapping, own->file.path, false);
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

void files_rest(struct files *files)
{
	struct by_id *slot;
	size_t cursor = 0;

	while ((slot = ids_next(&files->ids, &cursor))) {
		if (slot->entry->file.elf)
			elf_file_rest(slot->entry->file.elf);
	}
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
