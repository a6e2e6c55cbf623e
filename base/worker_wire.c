/* Packets and descriptors over a socket (unix(7), cmsg(3)). */
#include "base/worker_wire.h"

#include "base/clock.h"
#include "base/passed_fd.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* 0 when there is room, or -errno. */
static int wait_room(int sock, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd poll_fd = { .fd = sock, .events = POLLOUT };
		uint64_t now = deadline_ns ? clock_monotonic_ns() : 0;
		int ms = -1, n;

		if (deadline_ns)
			ms = now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
		n = poll(&poll_fd, 1, ms);
		if (n > 0)
			return 0;
		if (!n)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

int wire_send(int sock, const struct wire_head *head, const void *body, size_t size, int fd, uint64_t deadline_ns)
{
	union passed_fd room;
	struct iovec parts[] = { { .iov_base = (void *)head, .iov_len = sizeof(*head) },
				 { .iov_base = (void *)body, .iov_len = size } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };

	if (size > WIRE_MAX_BODY)
		return -EMSGSIZE;
	if (fd >= 0)
		passed_fd_put(&msg, &room, fd);
	for (;;) {
		ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n >= 0)
			return (size_t)n == sizeof(*head) + size ? 0 : -EMSGSIZE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = wait_room(sock, deadline_ns);
		if (r < 0)
			return r;
	}
}

static int check(struct wire_packet *p, ssize_t n, const struct msghdr *msg)
{
	if (msg->msg_flags & MSG_TRUNC || n < (ssize_t)sizeof(p->head) || p->head.type >= WIRE_NUM_TYPES ||
	    p->head.more > 1)
		return -EBADMSG;
	p->size = (size_t)n - sizeof(p->head);
	return 1;
}

int wire_receive(int sock, struct wire_packet *ret, int *ret_fd, int wait)
{
	union passed_fd room;
	struct iovec parts[] = { { .iov_base = &ret->head, .iov_len = sizeof(ret->head) },
				 { .iov_base = ret->body, .iov_len = sizeof(ret->body) } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n;
	int r;

	if (ret_fd) {
		*ret_fd = -1;
		passed_fd_expect(&msg, &room);
	}
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (ret_fd)
		passed_fd_take(&msg, ret_fd);
	if (!n)
		return 0;
	r = check(ret, n, &msg);
	if (r < 0 && ret_fd && *ret_fd >= 0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
	return r;
}
