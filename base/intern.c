#include "base/intern.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"

/* Strings are packed into chunks that never move; a long string gets a chunk of its own. */
enum { CHUNK_BYTES = 64 * 1024, LONG_BYTES = CHUNK_BYTES / 8 };

struct chunk {
	struct chunk *next;
	char bytes[];
};

struct word {
	const char *str;
	size_t len;
	uint64_t hash;
};

struct slot {
	struct word word; /* str points into a chunk */
	uint32_t id;
};

HTAB(words, struct slot, struct word, key.hash,
     slot->word.hash == key.hash && slot->word.len == key.len &&
	     !memcmp(slot->word.str, key.str, key.len),
     slot->word.hash);

struct intern {
	struct words words;
	VEC(const char *) by_id;
	struct chunk *chunks;
	char *room; /* free part of the newest ordinary chunk */
	size_t room_left;
};

struct intern *intern_new(void)
{
	return calloc(1, sizeof(struct intern));
}

void intern_free(struct intern *t)
{
	if (!t)
		return;
	while (t->chunks) {
		struct chunk *next = t->chunks->next;

		free(t->chunks);
		t->chunks = next;
	}
	words_deinit(&t->words);
	vec_deinit(&t->by_id);
	free(t);
}

static char *chunk_add(struct intern *t, size_t bytes)
{
	struct chunk *chunk;
	size_t size;

	if (__builtin_add_overflow(sizeof(*chunk), bytes, &size))
		return NULL;
	chunk = malloc(size);
	if (!chunk)
		return NULL;
	chunk->next = t->chunks;
	t->chunks = chunk;
	return chunk->bytes;
}

static char *room_for(struct intern *t, size_t bytes)
{
	char *ret;

	if (bytes > LONG_BYTES)
		return chunk_add(t, bytes);
	if (bytes > t->room_left) {
		ret = chunk_add(t, CHUNK_BYTES);
		if (!ret)
			return NULL;
		t->room = ret;
		t->room_left = CHUNK_BYTES;
	}
	ret = t->room;
	t->room += bytes;
	t->room_left -= bytes;
	return ret;
}

static const struct slot *intern_add(struct intern *t, const char *str, size_t len)
{
	struct word word = { .str = str ? str : "", .len = str ? strnlen(str, len) : 0 };
	struct slot *slot;
	char *copy;

	word.hash = hash_bytes(word.str, word.len);
	slot = words_find(&t->words, word);
	if (slot)
		return slot;
	/* UINT32_MAX says "out of memory", so it is never an id. */
	if (t->by_id.len >= UINT32_MAX || !vec_reserve(&t->by_id, t->by_id.len + 1))
		return NULL;
	copy = room_for(t, word.len + 1);
	if (!copy)
		return NULL;
	memcpy(copy, word.str, word.len);
	copy[word.len] = '\0';
	word.str = copy;
	slot = words_add(&t->words, word, NULL);
	if (!slot)
		return NULL; /* the copy stays with its chunk */
	slot->word = word;
	slot->id = (uint32_t)t->by_id.len;
	t->by_id.data[t->by_id.len++] = copy;
	return slot;
}

const char *intern_mem(struct intern *t, const char *str, size_t len)
{
	const struct slot *slot = intern_add(t, str, len);

	return slot ? slot->word.str : NULL;
}

const char *intern_str(struct intern *t, const char *str)
{
	return intern_mem(t, str, strlen(str));
}

uint32_t intern_id(struct intern *t, const char *str, size_t len)
{
	const struct slot *slot = intern_add(t, str, len);

	return slot ? slot->id : UINT32_MAX;
}

const char *intern_get(const struct intern *t, uint32_t id)
{
	return id < t->by_id.len ? t->by_id.data[id] : NULL;
}

size_t intern_count(const struct intern *t)
{
	return t->by_id.len;
}
