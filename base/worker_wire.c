/* Packets and descriptors over a socket (unix(7), cmsg(3)). */
#include "base/worker_wire.h"

#include "base/clock.h"

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
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec parts[] = { { .iov_base = (void *)head, .iov_len = sizeof(*head) },
				 { .iov_base = (void *)body, .iov_len = size } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };

	if (size > WIRE_MAX_BODY)
		return -EMSGSIZE;
	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
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

/* The kernel never hands out more than the buffer has room for, but alignment gives it room for two. */
static void take_fds(struct msghdr *msg, int *ret_fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t num;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		num = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < num; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
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
	char control[CMSG_SPACE(2 * sizeof(int))];
	struct iovec parts[] = { { .iov_base = &ret->head, .iov_len = sizeof(ret->head) },
				 { .iov_base = ret->body, .iov_len = sizeof(ret->body) } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n;
	int r;

	if (ret_fd) {
		*ret_fd = -1;
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
	}
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (ret_fd)
		take_fds(&msg, ret_fd);
	if (!n)
		return 0;
	r = check(ret, n, &msg);
	if (r < 0 && ret_fd && *ret_fd >= 0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
	return r;
}
