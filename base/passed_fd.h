/* One descriptor that goes along with a packet over a unix socket (unix(7), cmsg(3)). */
#pragma once

#include <sys/socket.h>

/* Room for one that is sent, and for one that is received: alignment leaves space for two there. */
union passed_fd {
	struct cmsghdr align;
	char send[CMSG_SPACE(sizeof(int))];
	char receive[CMSG_SPACE(2 * sizeof(int))];
};

/* `room` is part of the message until it is sent. */
void passed_fd_put(struct msghdr *msg, union passed_fd *room, int fd);
/* Before receiving: descriptors are wanted. */
void passed_fd_expect(struct msghdr *msg, union passed_fd *room);
/* The first that came goes to *ret_fd (which is -1), the caller's; others are closed. */
void passed_fd_take(struct msghdr *msg, int *ret_fd);
