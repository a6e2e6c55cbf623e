#include "collector/ring_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void ring_init(struct ring *r, struct perf_event_mmap_page *page, const void *data, size_t size)
{
	*r = (struct ring){ .page = page, .data = data, .size = size };
	r->tail = r->released = r->head = page->data_tail;
}

int ring_map(struct ring *r, int fd, size_t size)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE), map_bytes;
	uint8_t *map;

	if (__builtin_add_overflow(size, page_bytes, &map_bytes))
		return -EOVERFLOW;
	map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	/* Rings hold pieces of other programs' stacks: not for our own core files, nor for our children. */
	madvise(map, map_bytes, MADV_DONTDUMP);
	madvise(map, map_bytes, MADV_DONTFORK);
	ring_init(r, (struct perf_event_mmap_page *)map, map + page_bytes, size);
	r->map_bytes = map_bytes;
	return 0;
}

void ring_unmap(struct ring *r)
{
	if (r->map_bytes)
		munmap(r->page, r->map_bytes);
	memset(r, 0, sizeof(*r));
}

/* Acquire: the records before this head were written before it (perf_output_put_handle). */
void ring_snapshot(struct ring *r)
{
	r->head = __atomic_load_n(&r->page->data_head, __ATOMIC_ACQUIRE);
}

uint64_t ring_room(const struct ring *r)
{
	uint64_t used = r->head - r->released;

	return used < r->size ? r->size - used : 0;
}

int ring_peek(const struct ring *r, struct perf_event_header *ret)
{
	uint64_t left = r->head - r->tail;

	if (!left)
		return 0;
	/* Records start on 8 bytes, so the header itself never wraps. */
	if (left > r->size || left < sizeof(*ret) || r->tail % 8)
		return -EBADMSG;
	memcpy(ret, r->data + (r->tail & (r->size - 1)), sizeof(*ret));
	if (ret->size < sizeof(*ret) || ret->size % 8 || ret->size > left)
		return -EBADMSG;
	return 1;
}

uint64_t ring_word(const struct ring *r, size_t offset)
{
	uint64_t ret;

	memcpy(&ret, r->data + ((r->tail + offset) & (r->size - 1)), sizeof(ret));
	return ret;
}

const void *ring_record(const struct ring *r, size_t size, void *bounce)
{
	size_t at = (size_t)(r->tail & (r->size - 1));
	size_t first = (size_t)r->size - at;

	if (size <= first)
		return r->data + at;
	memcpy(bounce, r->data + at, first);
	memcpy((uint8_t *)bounce + first, r->data, size - first);
	return bounce;
}

void ring_expect(const struct ring *r, size_t size)
{
	uint64_t from = r->tail + size, left = r->head - from;

	for (uint64_t i = 0; i < RING_EXPECT_BYTES && i < left; i += 64)
		__builtin_prefetch(r->data + ((from + i) & (r->size - 1)));
}

void ring_advance(struct ring *r, size_t size)
{
	r->tail += size;
	if (r->tail - r->released >= r->size / 16)
		ring_release(r);
}

/* Release: all reads are done before the kernel may write there. */
void ring_release(struct ring *r)
{
	if (r->released == r->tail)
		return;
	__atomic_store_n(&r->page->data_tail, r->tail, __ATOMIC_RELEASE);
	r->released = r->tail;
}

void ring_discard(struct ring *r)
{
	r->tail = r->head;
	ring_release(r);
}
