/* read(2), pread(2) and write(2) that go on after signals. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* read() that waits where the descriptor itself would not: how many bytes came, 0 at the end, or -errno. */
ssize_t fd_read_some(int fd, void *buf, size_t size);
/* How many bytes there are from `offset` on, `size` at most, or -errno. */
ssize_t fd_pread_full(int fd, void *buf, size_t size, uint64_t offset);
/* 0 when all is written, or -errno. */
int fd_write_all(int fd, const void *bytes, size_t size);
