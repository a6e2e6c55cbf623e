/*
 * Open addressing hash table of plain values, instantiated by one macro:
 *
 *	struct slot { uint64_t key; struct thing *thing; };
 *	HTAB(things, struct slot, uint64_t,
 *	     hash_u64(key),             // expression over `key`
 *	     slot->key == key,          // expression over `slot` (const pointer) and `key`
 *	     hash_u64(slot->key))       // hash of an element, for growth
 *
 * gives struct things { ... } (zeroed = empty) and
 *	struct slot *things_find(const struct things *t, uint64_t key);       NULL when absent
 *	struct slot *things_add(struct things *t, uint64_t key, bool *added);  NULL when out of memory;
 *	                        a new element is zeroed: the caller must set what the expressions read
 *	bool things_remove(struct things *t, uint64_t key);
 *	struct slot *things_next(const struct things *t, size_t *cursor);      cursor starts at 0
 *	void things_deinit(struct things *t);
 *
 * Linear probing with backward-shift deletion, at most 5/8 full. Pointers to elements are valid until
 * the next add or remove.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HTAB(name, type, key_type, key_hash, slot_is_key, slot_hash)                            \
	struct name {                                                                           \
		type *slots;                                                                    \
		uint8_t *used; /* parallel to slots; 0 = empty */                               \
		size_t len;                                                                     \
		size_t mask; /* number of slots - 1; 0 = nothing allocated */                   \
	};                                                                                      \
	__attribute__((unused)) static type *name##_find(const struct name *t, key_type key)    \
	{                                                                                       \
		if (!t->mask)                                                                   \
			return NULL;                                                            \
		for (size_t i = (key_hash)&t->mask; t->used[i]; i = (i + 1) & t->mask) {        \
			const type *slot = &t->slots[i];                                        \
			if (slot_is_key)                                                        \
				return &t->slots[i];                                            \
		}                                                                               \
		return NULL;                                                                    \
	}                                                                                       \
	__attribute__((unused)) static bool name##_grow_(struct name *t)                        \
	{                                                                                       \
		size_t num = t->mask ? (t->mask + 1) * 2 : 16;                                  \
		type *slots = calloc(num, sizeof(*slots));                                      \
		uint8_t *used = calloc(num, 1);                                                 \
		if (!slots || !used) {                                                          \
			free(slots);                                                            \
			free(used);                                                             \
			return false;                                                           \
		}                                                                               \
		for (size_t old = 0; t->mask && old <= t->mask; old++) {                        \
			const type *slot = &t->slots[old];                                      \
			size_t i;                                                               \
			if (!t->used[old])                                                      \
				continue;                                                       \
			for (i = (slot_hash) & (num - 1); used[i]; i = (i + 1) & (num - 1))     \
				;                                                               \
			slots[i] = *slot;                                                       \
			used[i] = 1;                                                            \
		}                                                                               \
		free(t->slots);                                                                 \
		free(t->used);                                                                  \
		t->slots = slots;                                                               \
		t->used = used;                                                                 \
		t->mask = num - 1;                                                              \
		return true;                                                                    \
	}                                                                                       \
	__attribute__((unused)) static type *name##_add(struct name *t, key_type key, bool *added) \
	{                                                                                       \
		size_t i;                                                                       \
		if (added)                                                                      \
			*added = false;                                                         \
		if ((!t->mask || t->len + 1 > (t->mask + 1) / 8 * 5)) {                         \
			type *found = name##_find(t, key);                                      \
			if (found)                                                              \
				return found;                                                   \
			if (!name##_grow_(t))                                                   \
				return NULL;                                                    \
		}                                                                               \
		for (i = (key_hash)&t->mask; t->used[i]; i = (i + 1) & t->mask) {               \
			const type *slot = &t->slots[i];                                        \
			if (slot_is_key)                                                        \
				return &t->slots[i];                                            \
		}                                                                               \
		memset(&t->slots[i], 0, sizeof(t->slots[i]));                                   \
		t->used[i] = 1;                                                                 \
		t->len++;                                                                       \
		if (added)                                                                      \
			*added = true;                                                          \
		return &t->slots[i];                                                            \
	}                                                                                       \
	__attribute__((unused)) static bool name##_remove(struct name *t, key_type key)         \
	{                                                                                       \
		type *found = name##_find(t, key);                                              \
		size_t hole;                                                                    \
		if (!found)                                                                     \
			return false;                                                           \
		hole = (size_t)(found - t->slots);                                              \
		for (size_t i = (hole + 1) & t->mask; t->used[i]; i = (i + 1) & t->mask) {      \
			const type *slot = &t->slots[i];                                        \
			size_t home = (slot_hash)&t->mask;                                      \
			if (((i - home) & t->mask) < ((i - hole) & t->mask))                    \
				continue;                                                       \
			t->slots[hole] = *slot;                                                 \
			hole = i;                                                               \
		}                                                                               \
		t->used[hole] = 0;                                                              \
		t->len--;                                                                       \
		return true;                                                                    \
	}                                                                                       \
	__attribute__((unused)) static type *name##_next(const struct name *t, size_t *cursor)  \
	{                                                                                       \
		for (; t->mask && *cursor <= t->mask; (*cursor)++) {                            \
			if (t->used[*cursor])                                                   \
				return &t->slots[(*cursor)++];                                  \
		}                                                                               \
		return NULL;                                                                    \
	}                                                                                       \
	__attribute__((unused)) static void name##_deinit(struct name *t)                       \
	{                                                                                       \
		free(t->slots);                                                                 \
		free(t->used);                                                                  \
		memset(t, 0, sizeof(*t));                                                       \
	}                                                                                       \
	struct name /* swallow the semicolon */
