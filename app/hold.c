#include "app/hold.h"

#include "collector/record.h"

#include <stdlib.h>
#include <string.h>

struct held {
	struct held *next;
	size_t bytes;
	struct record rec;
	uint64_t data[]; /* what it points to */
};

struct hold {
	struct held *first, **last;
	size_t bytes;
};

static const size_t max_bytes = 64 << 20; /* of one process */

struct hold *hold_new(void)
{
	struct hold *h = calloc(1, sizeof(*h));

	if (h)
		h->last = &h->first;
	return h;
}

void hold_free(struct hold *h)
{
	while (h && h->first)
		hold_drop_first(h);
	free(h);
}

/* What the record points to, one after the other from `to` on (NULL: only counted); the pointers then lead there. */
static size_t copy_pointed(struct record *rec, uint8_t *to)
{
	struct {
		const void **from;
		size_t len;
	} parts[4];
	size_t num = 0, at = 0;

	switch (rec->type) {
	case RECORD_SAMPLE:
		parts[num].from = (const void **)&rec->sample.chain;
		parts[num++].len = rec->sample.num_chain * sizeof(uint64_t);
		parts[num].from = (const void **)&rec->sample.regs;
		parts[num++].len = rec->sample.num_regs * sizeof(uint64_t);
		parts[num].from = (const void **)&rec->sample.stack;
		parts[num++].len = rec->sample.stack_bytes;
		break;
	case RECORD_MMAP:
		parts[num].from = (const void **)&rec->mmap.path;
		parts[num++].len = rec->mmap.path_len + 1;
		parts[num].from = (const void **)&rec->mmap.build_id;
		parts[num++].len = rec->mmap.build_id_len;
		break;
	case RECORD_COMM:
		parts[num].from = (const void **)&rec->comm.comm;
		parts[num++].len = rec->comm.len + 1;
		break;
	case RECORD_KSYMBOL:
		parts[num].from = (const void **)&rec->ksymbol.name;
		parts[num++].len = rec->ksymbol.name_len + 1;
		break;
	case RECORD_FORK:
	case RECORD_EXIT:
	case RECORD_LOST:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_SWITCH:
	case RECORD_OTHER:
		break;
	}
	for (size_t i = 0; i < num; i++) {
		if (!*parts[i].from)
			continue;
		if (to && parts[i].len) {
			memcpy(to + at, *parts[i].from, parts[i].len);
			*parts[i].from = to + at;
		}
		at += (parts[i].len + 7) & ~(size_t)7;
	}
	return at;
}

bool hold_add(struct hold *h, const struct record *rec)
{
	struct record copy = *rec;
	size_t bytes = sizeof(struct held) + copy_pointed(&copy, NULL);
	struct held *held;

	if (h->bytes + bytes > max_bytes)
		return false;
	held = malloc(bytes);
	if (!held)
		return false;
	held->next = NULL;
	held->bytes = bytes;
	held->rec = *rec;
	copy_pointed(&held->rec, (uint8_t *)held->data);
	*h->last = held;
	h->last = &held->next;
	h->bytes += bytes;
	return true;
}

const struct record *hold_first(const struct hold *h)
{
	return h->first ? &h->first->rec : NULL;
}

void hold_drop_first(struct hold *h)
{
	struct held *first = h->first;

	h->first = first->next;
	if (!h->first)
		h->last = &h->first;
	h->bytes -= first->bytes;
	free(first);
}
