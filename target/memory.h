/*
 * Memory of running processes, for what is not in a sample. A helper process reads it: it has no capability, a seccomp
 * filter that leaves it read calls and its socket, and nothing open but that socket and the /proc/PID/mem descriptors
 * that the broker opened. A page may lie on a FUSE mount or in a userfaultfd range whose owner never answers: a
 * read that takes longer than 20 ms is abandoned, the helper killed and replaced, and that process's memory left
 * alone from then on. Whoever asks is never kept longer than that by one process.
 *
 * A descriptor stays with the program it was opened for: after exec or exit it reads nothing, and nothing is read of
 * a process that took over a pid.
 *
 * To be started before the jail (target/jail.h), and used inside it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct err;
struct memory;

/* `door` is borrowed; with a broker behind it this process needs no privileges. */
int memory_new(struct door *door, struct memory **ret, struct err *err);
void memory_free(struct memory *m); /* NULL is fine; ends the helper */

struct memory_piece {
	pid_t pid;
	uint32_t generation; /* of the program in it: whoever asks has a number for each (addrspace.id) */
	uint64_t seen_ns;    /* CLOCK_MONOTONIC: it was there then. One that started later is another process */
	uint64_t addr;
	void *buf;
	size_t len;
	/*
	 * Out: bytes read, up to the first page that cannot be; or -errno when there are none: -EIO nothing is mapped
	 * there, -ESRCH the program has ended, -EACCES it may not be looked into, -EDEADLK it kept a helper
	 * waiting, -EPIPE no helper can be had any more.
	 */
	ssize_t got;
};

/* Reads them all: one round trip for many, of whichever processes. */
void memory_read(struct memory *m, struct memory_piece *pieces, size_t num);

/*
 * Reads a byte of each of the MEMORY_TOUCH_PAGES pages from who->addr (on a page boundary) on, up to the first that is
 * not readable, and forgets them; who->buf, len and got are not used. The kernel then has these pages at hand: it
 * copies a stack only up to the first page that was never touched, as there are in large arrays. Pages without
 * access, which guard a stack's end, are left alone. How many pages there were, or -errno.
 */
enum { MEMORY_TOUCH_PAGES = 16 };
ssize_t memory_touch(struct memory *m, const struct memory_piece *who);

/* The program has ended: its descriptor is closed. */
void memory_forget(struct memory *m, uint32_t generation);

struct memory_counts {
	uint64_t requests, pieces, bytes;
	uint64_t blocked;  /* processes whose memory is left alone, as a read of it did not come back */
	uint64_t denied;   /* programs that may not be looked into */
	uint64_t reused;   /* times that a pid was found to be another process by then */
	uint64_t replaced; /* helpers */
	uint64_t ns;       /* that whoever asked was waiting */
};
struct memory_counts memory_counts(const struct memory *m);
