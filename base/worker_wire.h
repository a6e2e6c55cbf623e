/*
 * How a worker and whoever asks it talk (worker.h): packets over a SOCK_SEQPACKET pair, in host byte order.
 *
 *	u32 seq     of the request; an answer repeats it
 *	u16 kind    of the request; an answer repeats it
 *	u8  type    enum wire_type
 *	u8  more    1: the message goes on in the next packet
 *	bytes       the body, at most WIRE_MAX_BODY
 *
 * A message may take several packets. The parts of a request are put together before it is served; each packet of an
 * answer holds whole records and is taken at once. An answer ends with WIRE_END, whose body is an i32: 0 or -errno. While a
 * request is served the worker may want something (WIRE_WANT, one packet) and gets WIRE_GIVEN. Descriptors travel
 * beside the first packet of a request and beside WIRE_GIVEN, never from the worker.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum wire_type {
	WIRE_ASK,    /* a request that is answered */
	WIRE_TELL,   /* one that is not */
	WIRE_ANSWER, /* whole records of an answer */
	WIRE_END,
	WIRE_WANT,
	WIRE_GIVEN,
	WIRE_NUM_TYPES,
};

struct wire_head {
	uint32_t seq;
	uint16_t kind;
	uint8_t type;
	uint8_t more;
};
_Static_assert(sizeof(struct wire_head) == 8, "no padding");

enum {
	WIRE_MAX_PACKET = 32 << 10, /* several fit a socket's buffer (net.core.wmem_default is 208 KiB) */
	WIRE_MAX_BODY = WIRE_MAX_PACKET - (int)sizeof(struct wire_head),
	WIRE_MAX_REQUEST = 64 << 20, /* bytes of all parts together */
};

struct wire_packet {
	struct wire_head head;
	size_t size; /* of the body */
	uint8_t body[WIRE_MAX_BODY];
};

/*
 * 0 or -errno; -ETIMEDOUT when the other side took nothing until `deadline_ns` (CLOCK_MONOTONIC; 0 = wait for ever). fd
 * -1 = none.
 */
int wire_send(int sock, const struct wire_head *head, const void *body, size_t size, int fd, uint64_t deadline_ns);
/*
 * 1, 0 at the end, or -errno (-EBADMSG: no packet of ours; -EAGAIN: nothing there, with `wait` false). ret_fd NULL:
 * descriptors are not let in; else *ret_fd is one (close-on-exec), or -1.
 */
int wire_receive(int sock, struct wire_packet *ret, int *ret_fd, int wait);
