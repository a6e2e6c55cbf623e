/* Build-ids that a recording tells by path, in its header or in records of their own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct build_ids;
struct intern;

struct build_ids *build_ids_new(struct intern *strings); /* NULL when out of memory */
void build_ids_free(struct build_ids *t); /* NULL is fine */
/*
 * At most 20 bytes. A path told twice with different ids (a file that was replaced meanwhile) has from then on one that
 * no file has, as nobody knows which mapping was of which. False when out of memory.
 */
bool build_ids_add(struct build_ids *t, const char *path, const uint8_t *id, size_t len);
/* Its length, 0 = not told. Borrowed until the next add. */
size_t build_ids_find(const struct build_ids *t, const char *path, size_t len, const uint8_t **ret);
