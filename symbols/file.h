/*
 * Files that processes map: one object per file, shared by all processes. Known by the device and inode that
 * the kernel told and by those of the descriptor; the descriptor is held while the file is in the table, so
 * its inode number cannot be given to another file meanwhile.
 */
#pragma once

#include "base/intern.h"
#include "target/door.h"

#include <stdbool.h>
#include <stdint.h>

struct elf_file;
struct files;
struct offline;
struct worker;

enum file_kind {
	FILE_ELF,     /* elf is set */
	FILE_OTHER,   /* opened, but no ELF file (a .NET DLL, say): frame pointers only */
	FILE_MISSING, /* could not be opened: `refusal` says why */
};

struct file {
	uint32_t id;            /* > 0, never reused within a run */
	uint32_t refs;          /* mappings that point here; managed by addrspace */
	enum file_kind kind;
	enum door_refusal refusal;
	const char *path;       /* as the process names it, without " (deleted)"; interned */
	const char *base;       /* last part of path: "[vdso]", "libc.so.6"; points into path */
	struct elf_file *elf;   /* NULL unless FILE_ELF */
	bool deleted;           /* the name was gone or meant another file when it was first seen */
	pid_t seen_pid;         /* a process that mapped it, for debug files in its root */
	bool debug_tried;       /* separate debug files were looked for */
	bool by_path;           /* of a recording that tells no build-id: believed by its path and age */
};

struct files_opts {
	struct door *door;      /* borrowed; NULL: every file is FILE_MISSING (DOOR_GONE) */
	/*
	 * Borrowed: the files are those of a recording. Each is looked for by the build-id that the recording tells,
	 * and never used with another one. NULL: those of a live machine.
	 */
	struct offline *offline;
	struct worker *worker;  /* borrowed: ELF files are parsed there (elf_remote.h); NULL: here */
	/* With worker: the file ended it, or kept it busy, twice in a row, and is set aside. May be NULL. */
	void (*aside)(void *data, struct file *file);
	/* With worker: the first question about the file, mostly as it was sampled, was answered. May be NULL. */
	void (*known)(void *data, struct file *file);
	bool own_kernel;        /* with offline: it was made on the very kernel that runs here */
	struct intern *strings; /* borrowed: paths live there */
	size_t max_idle;        /* files kept that no process maps; 0 = 1024 */
	/* Called before a file that no process maps leaves the table: last chance to name frames in it. Not
	 * called by files_free. May be NULL. */
	void (*evict)(void *data, struct file *file);
	void *data;
};

int files_new(const struct files_opts *opts, struct files **ret, struct err *err);
void files_free(struct files *files);

/* The file behind a mapping; never NULL except when out of memory. Opened at first sight. */
struct file *files_get(struct files *files, const struct door_mapping *mapping, uint32_t ino_generation,
		       const pid_t *also_pids, size_t num_also);
/*
 * The ELF file in a memfd: a program or library that was loaded from memory (fexecve, as runc does, or dlopen). NULL:
 * it holds none, or cannot be seen: code that was made there. Its memory is given back as soon as no process maps it.
 */
struct file *files_in_memory(struct files *files, const struct door_mapping *mapping, uint32_t ino_generation);
/*
 * Our own vDSO: the kernel gives every process the same. Of a recording, only if it was the same kernel's; else `mapping`
 * is not looked at. To be asked for once before the jail, in which not even our own broker may look into us.
 */
struct file *files_vdso(struct files *files, const struct door_mapping *mapping);
/* With offline, once the recording has told what kernel it was made on. */
void files_set_own_kernel(struct files *files, bool own_kernel);
/* Code of the kernel's making that no file holds, by its bracket ("[uprobes]"): always FILE_MISSING. */
struct file *files_special(struct files *files, const char *name);
struct file *files_by_id(struct files *files, uint32_t id); /* NULL once evicted */
void files_ref(struct file *file);
void files_unref(struct files *files, struct file *file); /* may evict the longest idle file */

/* Looks for separate debug files (build-id, debuglink) once, in the root of a process that maps the file and,
 * if that is the host's, on the host. What fits is added to file->elf: true then. */
bool files_find_debug(struct files *files, struct file *file);

/*
 * A file that the debug information of `file` names: absolute, or relative to the directory of `file`; where debug
 * files are looked for. A descriptor, or -1.
 */
int files_open_named(struct files *files, struct file *file, const char *path);

/* The descriptor of a FILE_OTHER, borrowed; -1 = there is none. */
int files_other_fd(const struct file *file);

/* Call about once a second: call-frame information of files that no row was asked of since is let go. */
void files_rest(struct files *files);
/* That of all of them: nobody walks for now. */
void files_forget_cfi(struct files *files);

/* How often the door refused, by reason. */
const uint64_t *files_refused(const struct files *files); /* DOOR_NUM_REFUSALS counters */
uint64_t files_aside(const struct files *files); /* files that were set aside */
size_t files_count(const struct files *files);
