/*
 * The reading side of one perf ring. The kernel writes records at data_head and never touches what lies between
 * data_tail and data_head (include/uapi/linux/perf_event.h, struct perf_event_mmap_page). A record is read where
 * it lies; one that crosses the end of the ring is put together in a bounce buffer, because Linux 6.17 and later
 * refuse the second, overlapping mapping that would make it look whole.
 *
 * Open, because it is embedded per CPU and tests build rings by hand.
 */
#pragma once

#include <linux/perf_event.h>
#include <stddef.h>
#include <stdint.h>

/* No record is longer: header.size has 16 bits. */
enum { RING_BOUNCE_BYTES = 65536 };
/* Of a sample: what comes before its copied stack, and what a walk mostly reads of that first. */
enum { RING_EXPECT_BYTES = 1280 };

struct ring {
	struct perf_event_mmap_page *page; /* NULL = no ring */
	const uint8_t *data;
	uint64_t size;     /* of data, a power of two */
	uint64_t head;     /* as of the last snapshot */
	uint64_t tail;     /* the next record to read */
	uint64_t released; /* what the kernel knows of tail */
	uint64_t full_at;  /* the drain's: what lay behind this head may not have fitted; 0 = nowhere */
	size_t map_bytes;  /* of a real mapping, 0 for a ring built by hand */
};

/* A ring over memory that the caller keeps; `size` is a power of two. */
void ring_init(struct ring *r, struct perf_event_mmap_page *page, const void *data, size_t size);
/* Maps the ring of an event. 0 or -errno. */
int ring_map(struct ring *r, int fd, size_t size);
void ring_unmap(struct ring *r); /* a zeroed ring is fine */

/* Takes note of the head: what is behind it is not seen before the next snapshot. */
void ring_snapshot(struct ring *r);
/* Bytes that the kernel could still write after that head. */
uint64_t ring_room(const struct ring *r);
/* The header at the tail. 1, 0 when nothing is left, -EBADMSG when what stands there cannot be a record. */
int ring_peek(const struct ring *r, struct perf_event_header *ret);
/* The word at `offset` (a multiple of 8) of the record at the tail. */
uint64_t ring_word(const struct ring *r, size_t offset);
/* The whole record at the tail, `size` bytes; borrows the ring or `bounce` (RING_BOUNCE_BYTES, aligned to 8). */
const void *ring_record(const struct ring *r, size_t size, void *bounce);
/*
 * Asks memory for the begin of the record behind the one of `size` bytes at the tail. The kernel wrote it on another CPU
 * or long ago, so that it is in none of our caches.
 */
void ring_expect(const struct ring *r, size_t size);
/* Goes past it, and gives room back to the kernel when a sixteenth of the ring has been read. */
void ring_advance(struct ring *r, size_t size);
/* Gives back everything that was read. */
void ring_release(struct ring *r);
/* Goes past everything: there is no next record to be found behind one whose size is wrong. */
void ring_discard(struct ring *r);
