/*
 * Files that a person names on the command line: opened as any program opens them, with none of the door's checks, as
 * it is their word that they are meant. What is in them is trusted no more than anything else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct err;

/* A file, device or pipe for reading; "-" is stdin. The descriptor is the caller's. */
int given_open(const char *path, int *ret_fd, struct err *err);

/*
 * A recording: a file or pipe, or a directory of `perf record --threads`, whose files data, data.0, data.1, ... are
 * all opened. *ret_fds is the caller's to free, and each descriptor in it to close.
 */
int given_open_recording(const char *path, int **ret_fds, size_t *ret_num, struct err *err);

/*
 * What a pipe gives to its end, behind the `len` bytes of `head`, in a file without a name, in $TMPDIR or /var/tmp. Its
 * descriptor is the caller's; fd is left open.
 */
int given_keep(int fd, const void *head, size_t len, int *ret_fd, struct err *err);

/* When the file was last written, CLOCK_REALTIME; INT64_MAX for what is no stored file. */
int64_t given_written_ns(int fd);
