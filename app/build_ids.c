#include "app/build_ids.h"

#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 20 };

struct path_key {
	const char *path;
	size_t len;
};

struct told {
	const char *path; /* interned */
	size_t path_len;
	uint8_t id[MAX_BYTES], len;
};

HTAB(told_tab, struct told, const struct path_key *, hash_bytes(key->path, key->len),
     slot->path_len == key->len && !memcmp(slot->path, key->path, key->len),
     hash_bytes(slot->path, slot->path_len));

struct build_ids {
	struct intern *strings;
	struct told_tab tab;
};

struct build_ids *build_ids_new(struct intern *strings)
{
	struct build_ids *t = calloc(1, sizeof(*t));

	if (t)
		t->strings = strings;
	return t;
}

void build_ids_free(struct build_ids *t)
{
	if (!t)
		return;
	told_tab_deinit(&t->tab);
	free(t);
}

bool build_ids_add(struct build_ids *t, const char *path, const uint8_t *id, size_t len)
{
	struct path_key key = { path, strlen(path) };
	struct told *told;
	bool added;

	if (!len || len > MAX_BYTES)
		return true;
	key.path = intern_str(t->strings, path);
	told = key.path ? told_tab_add(&t->tab, &key, &added) : NULL;
	if (!told)
		return false;
	if (added) {
		told->path = key.path;
		told->path_len = key.len;
		told->len = (uint8_t)len;
		memcpy(told->id, id, len);
	} else if (told->len != len || memcmp(told->id, id, len)) {
		told->len = MAX_BYTES;
		memset(told->id, 0, MAX_BYTES);
	}
	return true;
}

size_t build_ids_find(const struct build_ids *t, const char *path, size_t len, const uint8_t **ret)
{
	const struct path_key key = { path, len };
	const struct told *told = told_tab_find(&t->tab, &key);

	if (!told)
		return 0;
	*ret = told->id;
	return told->len;
}
