#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

ssize_t fd_read_some(int fd, void *buf, size_t size)
{
	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		ssize_t n = read(fd, buf, size);

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			poll(&ready, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
}

ssize_t fd_pread_full(int fd, void *buf, size_t size, uint64_t offset)
{
	size_t done = 0;

	if (size > PTRDIFF_MAX || offset > INT64_MAX - size)
		return 0; /* no file reaches so far */
	while (done < size) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fd_write_all(int fd, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	while (size) {
		ssize_t n = write(fd, from, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		size -= (size_t)n;
	}
	return 0;
}
