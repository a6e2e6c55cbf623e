/* Packets and descriptors over a socket (unix(7), cmsg(3)). */
#include "target/broker_priv.h"

#include "base/cleanup.h"
#include "base/passed_fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int broker_send(int sock, const void *bytes, size_t size, int fd)
{
	union passed_fd room;
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0)
		passed_fd_put(&msg, &room, fd);
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EMSGSIZE;
}

int broker_receive(int sock, void *bytes, size_t size, int *ret_fd)
{
	union passed_fd room;
	struct iovec iov = { .iov_base = bytes, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	*ret_fd = -1;
	passed_fd_expect(&msg, &room);
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	passed_fd_take(&msg, ret_fd);
	if (msg.msg_flags & MSG_TRUNC) {
		closep(ret_fd);
		*ret_fd = -1;
		return -EMSGSIZE;
	}
	return (int)n;
}
