/* For file.c, file_recorded.c and file_debug.c. */
#pragma once

#include "symbols/file.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "symbols/elf_cfi.h"
#include "target/door.h"

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

static inline struct entry *entry_of(struct file *file)
{
	return (struct entry *)file;
}

static inline void door_file_close(struct door_file *file)
{
	closep(&file->fd);
}

/* ---- file.c ---- */

/* The entry of what the kernel tells so; a `generation` of 0 agrees with any. NULL: it is not known, or has changed. */
struct entry *files_find_alias(struct files *files, const struct alias_key *key, uint32_t generation);
/* Failing for want of memory only costs another open. */
void files_add_alias(struct files *files, struct entry *e, const struct alias_key *key, uint32_t generation);
/* An entry just found or made: the youngest of the idle ones, or in use. */
struct file *files_touch(struct files *files, struct entry *e);
/* False when every descriptor we allow ourselves is held by a file in use. */
bool files_make_room(struct files *files);
/* The entry of an opened file, whose descriptor it takes; `path` is interned. NULL when out of memory. */
struct entry *files_entry_opened(struct files *files, const char *path, struct door_file *opened);
/*
 * A file that cannot be opened. Shared by path, so that frames in it meet in one place, but never found by device and
 * inode: the next process that maps it gets another try. NULL when out of memory.
 */
struct file *files_missing(struct files *files, const char *path, enum door_refusal refusal);

/* ---- file_recorded.c ---- */

/* Has it the build-id that was recorded? */
bool file_elf_is(struct elf_file *elf, const struct door_mapping *mapping);
/* `path` is interned; `in_memory`: of a memfd. NULL when out of memory. */
struct file *files_get_recorded(struct files *files, const struct door_mapping *mapping, const char *path,
				bool in_memory);
