/*
 * An output that appears whole or not at all: written under a temporary name in the same directory
 * (O_EXCL, 0600 less umask widened to 0666 & ~umask at commit), flushed, fsynced, renamed.
 * "-" is stdout and is flushed and checked at commit. Devices, pipes and sockets are written in place;
 * a symbolic link stays and what it leads to is replaced.
 */
#pragma once

#include <stdio.h>

struct err;
struct outfile;

int outfile_open(const char *path, struct outfile **ret, struct err *err);
FILE *outfile_stream(struct outfile *f); /* borrowed */
/* Checks every earlier write too; on failure what was at `path` before stays. Frees f either way. */
int outfile_commit(struct outfile *f, struct err *err);
void outfile_abort(struct outfile *f); /* removes the temporary file; NULL is fine */
void outfile_abortp(struct outfile **f);
