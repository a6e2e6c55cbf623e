/*
 * An output that appears whole or not at all: written without a name (O_TMPFILE; where the file system cannot, under a
 * temporary one in the same directory: O_EXCL), 0600 widened to 0666 & ~umask at commit, flushed, fsynced (but see
 * outfile_no_sync), named or renamed. Nothing is left of it when its writer is killed, except under a temporary name.
 * "-" is stdout and is flushed and checked at commit. Devices, pipes and sockets are written in place, and so is whatever a
 * descriptor of ours leads to (/dev/stdout, /dev/fd/N); any other symbolic link stays and what it leads to is replaced.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct err;
struct outfile;

/*
 * The exception: a file that is to be readable at every moment, even after its writer was killed, has its own name
 * from the start. What had that name is kept as PATH.old. Mode 0600, as such a file holds what others' memory held.
 * "-" is a copy of stdout, and so for other descriptors of ours; devices, pipes and sockets are opened in place. *stream: it
 * cannot be sought in.
 */
int outfile_open_growing(const char *path, int *ret_fd, bool *stream, struct err *err);

int outfile_open(const char *path, struct outfile **ret, struct err *err);

/*
 * Somebody who opens and renames in our place: a process that may, for one that may not. `open` gives a
 * descriptor to write to (the caller's) and a handle >= 0 for what follows, or -errno. `path` and the descriptor are told
 * again at the end, for an opener that has lost what it knew.
 */
struct outfile_opener {
	int64_t (*open)(void *data, const char *path, int *ret_fd, struct err *err);
	int (*commit)(void *data, int64_t handle, const char *path, int fd, struct err *err);
	void (*abort)(void *data, int64_t handle, const char *path, int fd);
	void *data;
};
/* As outfile_open, through `opener`, which must outlive the file; NULL: ourselves. "-" and other descriptors are always our own. */
int outfile_open_by(const struct outfile_opener *opener, const char *path, struct outfile **ret,
		    struct err *err);
/*
 * A file that another process opened by `path` (outfile_open), which has ended since, and to which `fd` was left; it stays
 * the caller's. Commit or abort as its own. -EPERM for what is no such file.
 */
int outfile_adopt(const char *path, int fd, struct outfile **ret, struct err *err);
/*
 * Does not wait at commit until the disk has it: for what can be made again after a crash of the system. Of a crash of ours
 * nothing is seen either way.
 */
void outfile_no_sync(struct outfile *f);
/* At commit what has the name by then is not replaced: -EEXIST, and the file is gone. Not for what is written in place. */
void outfile_exclusive(struct outfile *f);
int outfile_fd(const struct outfile *f); /* for an opener: borrowed */
FILE *outfile_stream(struct outfile *f); /* borrowed */
/* Checks every earlier write too; on failure what was at `path` before stays. Frees f either way. */
int outfile_commit(struct outfile *f, struct err *err);
void outfile_abort(struct outfile *f); /* removes the temporary file; NULL is fine */
void outfile_abortp(struct outfile **f);
