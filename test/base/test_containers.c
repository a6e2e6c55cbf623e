/* vec, blocks, htab, hash, intern. */
#include "base/blocks.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/vec.h"
#include "test/check.h"

#include <stdint.h>

struct slot {
	uint64_t key;
	uint64_t value;
};

HTAB(table, struct slot, uint64_t, hash_u64(key), slot->key == key, hash_u64(slot->key));
/* Everything collides: probing and backward-shift deletion at their worst. */
HTAB(crowd, struct slot, uint64_t, key & 1, slot->key == key, slot->key & 1);

static void test_vec(void)
{
	VEC(uint32_t) v = { 0 };
	size_t cap;

	for (uint32_t i = 0; i < 100; i++)
		CHECK(vec_push(&v, i * 2));
	CHECK(v.len == 100 && v.data[99] == 198);
	CHECK(vec_insert(&v, 0, 7u));
	CHECK(vec_insert(&v, v.len, 8u));
	CHECK(vec_insert(&v, 2, 9u));
	CHECK(v.len == 103 && v.data[0] == 7 && v.data[1] == 0 && v.data[2] == 9 && v.data[3] == 2);
	CHECK(v.data[102] == 8);
	vec_remove(&v, 1, 2);
	CHECK(v.len == 101 && v.data[0] == 7 && v.data[1] == 2 && v.data[100] == 8);

	cap = v.cap;
	CHECK(!vec_reserve(&v, SIZE_MAX)); /* the doubling overflows */
	CHECK(!vec_reserve(&v, SIZE_MAX / 4));
	CHECK(v.len == 101 && v.cap == cap && v.data[100] == 8);
	vec_deinit(&v);
	CHECK(!v.data && !v.len && !v.cap);
	vec_deinit(&v);
}

/* Elements stay where they are once their block is full, and neighbours where a block does not end. */
static void test_blocks(void)
{
	BLOCKS(uint64_t) b = { 0 };
	const uint64_t *first;

	blocks_deinit(&b);
	for (uint64_t i = 0; i < BLOCK_LEN; i++)
		CHECK(blocks_push(&b, i * 3));
	first = blocks_at(&b, 0);
	for (uint64_t i = BLOCK_LEN; i < 9 * BLOCK_LEN + 5; i++)
		CHECK(blocks_push(&b, i * 3));
	CHECK(b.len == 9 * BLOCK_LEN + 5 && b.cap == 10 * BLOCK_LEN);
	CHECK(blocks_at(&b, 0) == first && blocks_at(&b, BLOCK_LEN - 1) == first + BLOCK_LEN - 1);
	for (uint64_t i = 0; i < b.len; i++) {
		CHECK(*blocks_at(&b, i) == i * 3);
		CHECK(i % BLOCK_LEN == 0 || blocks_at(&b, i) == blocks_at(&b, i - 1) + 1);
	}
	blocks_deinit(&b);
	CHECK(!b.data && !b.len && !b.cap);
	CHECK(blocks_reserve_block(&b) && b.cap == BLOCK_LEN && b.len == 0);
	first = blocks_at(&b, 0);
	for (uint64_t i = 0; i < 2 * BLOCK_LEN; i++)
		CHECK(blocks_push(&b, i) && blocks_at(&b, 0) == first);
	CHECK(*blocks_at(&b, BLOCK_LEN) == BLOCK_LEN && b.cap == 2 * BLOCK_LEN);
	blocks_deinit(&b);
}

static void test_htab(void)
{
	struct table t = { 0 };
	uint64_t sum = 0;
	size_t cursor = 0, seen = 0;
	struct slot *slot;
	bool added;

	CHECK(!table_find(&t, 1) && !table_remove(&t, 1) && !table_next(&t, &cursor));
	for (uint64_t key = 0; key < 10000; key++) {
		slot = table_add(&t, key, &added);
		CHECK(slot && added && slot->key == 0 && slot->value == 0);
		*slot = (struct slot){ key, key * 3 };
	}
	CHECK(t.len == 10000 && t.len <= (t.mask + 1) / 8 * 5);
	slot = table_add(&t, 77, &added);
	CHECK(slot && !added && slot->value == 231 && t.len == 10000);
	for (uint64_t key = 0; key < 10000; key += 2)
		CHECK(table_remove(&t, key));
	CHECK(!table_remove(&t, 0));
	for (uint64_t key = 0; key < 10000; key++) {
		slot = table_find(&t, key);
		CHECK(key % 2 ? slot && slot->value == key * 3 : !slot);
	}
	cursor = 0;
	while ((slot = table_next(&t, &cursor))) {
		seen++;
		sum += slot->key;
	}
	CHECK(seen == 5000 && sum == 25000000 && t.len == 5000);
	table_deinit(&t);
	CHECK(!t.slots && !t.mask);
}

/* Against a plain array, with removals in the middle of a cluster that wraps around the end. */
static void test_htab_collisions(void)
{
	bool want[64] = { false };
	struct crowd t = { 0 };
	uint64_t random = 1;

	for (int round = 0; round < 20000; round++) {
		uint64_t key = (random = hash_two(random, 1)) % 64;

		if (random >> 63) {
			struct slot *slot = crowd_add(&t, key, NULL);

			CHECK(slot);
			if (slot)
				slot->key = key;
			want[key] = true;
		} else {
			CHECK(crowd_remove(&t, key) == want[key]);
			want[key] = false;
		}
		for (uint64_t k = 0; k < 64; k++)
			CHECK(!!crowd_find(&t, k) == want[k]);
	}
	crowd_deinit(&t);
}

static void test_hash(void)
{
	uint64_t one = 0;

	CHECK(hash_bytes("a", 1) != hash_bytes("a\0", 2));
	CHECK(hash_bytes("", 0) != hash_bytes("\0", 1));
	CHECK(hash_bytes("abcdefgh", 8) != hash_bytes("abcdefgi", 8));
	CHECK(hash_bytes("abcdefghi", 9) == hash_bytes("abcdefghi", 9));
	CHECK(hash_two(1, 2) != hash_two(2, 1));
	/* Neighbouring keys must differ in the low bits, which index the tables. */
	for (uint64_t i = 0; i < 1024; i++)
		one += hash_u64(i << 12) & 1;
	CHECK(one > 400 && one < 624);
}

static void test_intern(void)
{
	struct intern *t = intern_new();
	const char *first, *many[2000];
	char text[20000];

	CHECK(t && intern_count(t) == 0 && !intern_get(t, 0));
	first = intern_str(t, "main");
	CHECK_STR(first, "main");
	CHECK(intern_mem(t, "main()", 4) == first);
	CHECK(intern_mem(t, "main\0x", 6) == first); /* an embedded NUL ends it */
	CHECK(intern_id(t, "main", 4) == 0);
	CHECK(intern_id(t, "", 0) == 1);
	CHECK(intern_id(t, NULL, 0) == 1);
	CHECK_STR(intern_get(t, 1), "");
	CHECK(intern_count(t) == 2 && !intern_get(t, 2));

	for (int i = 0; i < 2000; i++) {
		memset(text, 'x', sizeof(text));
		/* Some fill a chunk exactly, some are longer than one. */
		snprintf(text, 16, "%d", i);
		text[strlen(text)] = '-';
		many[i] = intern_mem(t, text, i % 100 == 0 ? sizeof(text) : 40u + (unsigned)i % 60);
		CHECK(many[i]);
	}
	CHECK(intern_count(t) == 2002 && intern_str(t, "main") == first);
	for (int i = 0; i < 2000; i++) {
		CHECK(atoi(many[i]) == i && intern_get(t, (uint32_t)i + 2) == many[i]);
		CHECK(intern_str(t, many[i]) == many[i]);
	}
	CHECK(strlen(many[100]) == sizeof(text) && strlen(many[101]) == 81);
	intern_free(t);
	intern_free(NULL);
}

int main(void)
{
	test_vec();
	test_blocks();
	test_htab();
	test_htab_collisions();
	test_hash();
	test_intern();
	return check_done();
}
