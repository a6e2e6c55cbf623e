/* Between who asks for memory and the helper; one packet (SOCK_SEQPACKET) each way. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum {
	MEMORY_SLOTS = 256,   /* processes whose memory is open at a time */
	MEMORY_PIECES = 128,  /* of one request */
	MEMORY_BYTES = 65536, /* of one answer: a socket's buffer holds it whatever it consists of */
	MEMORY_WAIT_MS = 20,
	MEMORY_MAX_STUCK = 4, /* helpers that SIGKILL does not end, as a FUSE server holds them in the kernel */
	MEMORY_NO_SLOT = 0xffff,
};

enum memory_op {
	MEMORY_READ,
	MEMORY_ADD,  /* the descriptor that comes along is `slot` from now on; no answer, as for the next */
	MEMORY_DROP,
};

struct memory_want {
	uint32_t slot, len;
	uint64_t addr;
};

struct memory_ask {
	uint32_t op;   /* enum memory_op */
	uint32_t slot; /* of ADD and DROP */
	uint32_t num;  /* of READ; only so many are sent */
	struct memory_want wants[MEMORY_PIECES];
};

/* The answer: int32_t of each piece, bytes read or -errno, and then these bytes one after the other. */

/* In memory that both see: what the helper is reading now, so that it is known who kept it waiting. */
struct memory_progress {
	_Atomic uint32_t slot;
};

/*
 * To the guard, who forks helpers: a byte. From it: a byte, and with MEMORY_FRESH the socket of the new helper.
 * GIVE_UP: the helper does not answer. If it only waits for a CPU it is left to work (MEMORY_BUSY).
 */
enum memory_control {
	MEMORY_GIVE_UP = 'g',
	MEMORY_REPLACE = 'r', /* it is gone */
	MEMORY_FRESH = 'f',
	MEMORY_BUSY = 'b',
	MEMORY_NO_MORE = 'n',
};

/* The guard's process: ends when the other end of `control` is closed. */
_Noreturn void memory_guard(int control, struct memory_progress *progress);
