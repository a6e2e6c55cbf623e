/*
 * An output that appears whole or not at all: written under a temporary name in the same directory
 * (O_EXCL, 0600 less umask widened to 0666 & ~umask at commit), flushed, fsynced, renamed.
 * "-" is stdout and is flushed and checked at commit. Devices, pipes and sockets are written in place;
 * a symbolic link stays and what it leads to is replaced.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct err;
struct outfile;

/*
 * The exception: a file that is to be readable at every moment, even after its writer was killed, has its own name
 * from the start. What had that name is kept as PATH.old. Mode 0600, as such a file holds what others' memory held.
 * "-" is a copy of stdout; devices, pipes and sockets are opened in place. *stream: it cannot be sought in.
 */
int outfile_open_growing(const char *path, int *ret_fd, bool *stream, struct err *err);

int outfile_open(const char *path, struct outfile **ret, struct err *err);
FILE *outfile_stream(struct outfile *f); /* borrowed */
/* Checks every earlier write too; on failure what was at `path` before stays. Frees f either way. */
int outfile_commit(struct outfile *f, struct err *err);
void outfile_abort(struct outfile *f); /* removes the temporary file; NULL is fine */
void outfile_abortp(struct outfile **f);
