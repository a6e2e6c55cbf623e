/* The parser's side. */
#include "runtimes/r2r_serve.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "runtimes/r2r_files_priv.h"
#include "symbols/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	MAX_FILES = 64, /* open at a time */
	MAX_PARTS = 64, /* with data, of one file */
	MAX_MODULE = 1024,
};

struct served {
	uint32_t id;
	uint64_t used; /* when it was last asked for, in questions */
	struct known *known; /* owned */
};
HTAB(served_tab, struct served, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct r2r_serve {
	struct r2r_files files;
	struct served_tab served;
	uint64_t questions;
};

static void known_free(struct known *k)
{
	if (k)
		free((void *)(uintptr_t)k->path);
	r2r_known_free(k);
}

static void known_freep(struct known **k)
{
	known_free(*k);
}

struct r2r_serve *r2r_serve_new(void)
{
	struct r2r_serve *s = calloc(1, sizeof(*s));

	if (s)
		s->files.opts.arch = arch_host();
	return s;
}

void r2r_serve_free(struct r2r_serve *s)
{
	struct served *slot;
	size_t cursor = 0;

	if (!s)
		return;
	while ((slot = served_tab_next(&s->served, &cursor)))
		known_free(slot->known);
	served_tab_deinit(&s->served);
	free(s);
}

static void forget(struct r2r_serve *s, uint32_t id)
{
	struct served *slot = served_tab_find(&s->served, id);

	if (!slot)
		return;
	known_free(slot->known);
	served_tab_remove(&s->served, id);
}

static void make_room(struct r2r_serve *s)
{
	struct served *slot, *oldest = NULL;
	size_t cursor = 0;

	if (s->served.len < MAX_FILES)
		return;
	while ((slot = served_tab_next(&s->served, &cursor))) {
		if (!oldest || slot->used < oldest->used)
			oldest = slot;
	}
	forget(s, oldest->id);
}

static int read_told(struct known *k, struct reader *r)
{
	size_t len;
	const void *path;

	k->is_elf = reader_u8(r) != 0;
	len = reader_u16(r);
	path = reader_bytes(r, len);
	if (r->failed || memchr(path, '\0', len))
		return -EBADMSG;
	k->path = strndup(path, len);
	while (reader_left(r) && k->data.len < MAX_PARTS) {
		struct span span;

		span.from = reader_u64(r);
		span.to = reader_u64(r);
		if (r->failed)
			return -EBADMSG;
		if (!vec_push(&k->data, span))
			return -ENOMEM;
	}
	return k->path ? 0 : -ENOMEM;
}

static int serve_tell_file(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	_cleanup_(known_freep) struct known *k = calloc(1, sizeof(*k));
	struct r2r_serve *s = state;
	uint32_t id = reader_u32(r);
	struct served *slot;
	int result;

	if (!k)
		return -ENOMEM;
	k->fd = -1;
	result = *fd < 0 || fstat(*fd, &k->at_open) < 0 ? -EBADMSG : read_told(k, r);
	if (result < 0)
		return result;
	k->fd = steal_fd(fd);
	k->own_fd = true;
	forget(s, id);
	make_room(s);
	slot = served_tab_add(&s->served, id, NULL);
	if (!slot)
		return -ENOMEM;
	*slot = (struct served){ id, ++s->questions, steal_ptr(k) };
	return 0;
}

static int serve_forget(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	forget(state, reader_u32(r));
	return 0;
}

static struct known *find(struct r2r_serve *s, struct reader *r)
{
	struct served *slot = served_tab_find(&s->served, reader_u32(r));

	if (!slot)
		return NULL;
	slot->used = ++s->questions;
	return slot->known;
}

static int serve_rules(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct r2r_serve *s = state;
	struct known *k = find(s, r);
	const char *slash;

	if (!k)
		return -ESTALE;
	slash = strrchr(k->path, '/');
	worker_obey_test(slash ? slash + 1 : k->path);
	while (reader_left(r)) {
		uint8_t record[1 + sizeof(struct rule)] = { R2R_OUTSIDE };
		uint64_t place = reader_u64(r);
		struct rule rule = { 0 };

		if (r->failed)
			return -EBADMSG;
		if (r2r_rule_in(&s->files, k, place >> 1, place & 1, &rule))
			record[0] = R2R_INSIDE;
		else if (!r2r_may_have_image(k))
			record[0] = R2R_NOWHERE;
		memcpy(record + 1, &rule, sizeof(rule));
		if (!worker_answer(call, record, sizeof(record)))
			return -EPIPE;
	}
	return 0;
}

/* struct r2r_files, near */
static int want_near(void *data, size_t place, const char *name)
{
	uint8_t body[1 + R2R_MAX_ASSEMBLY] = { (uint8_t)place };
	size_t len = strlen(name);

	if (len > R2R_MAX_ASSEMBLY)
		return -1;
	memcpy(body + 1, name, len);
	return worker_want(data, body, 1 + len);
}

static void put(uint8_t **pos, const void *value, size_t size)
{
	memcpy(*pos, value, size);
	*pos += size;
}

static bool answer_name(struct worker_call *call, uint32_t index, const struct symbol *symbol)
{
	uint8_t record[4 + 8 + 2 + R2R_MAX_NAME + 2 + MAX_MODULE], *pos = record;
	const size_t len = strlen(symbol->name), module_len = symbol->module ? strlen(symbol->module) : 0;
	const uint16_t name_bytes = (uint16_t)len, module_bytes = (uint16_t)module_len;

	if (!len || len > R2R_MAX_NAME || module_len > MAX_MODULE)
		return true;
	put(&pos, &index, 4);
	put(&pos, &symbol->offset, 8);
	put(&pos, &name_bytes, 2);
	put(&pos, symbol->name, len);
	put(&pos, &module_bytes, 2);
	put(&pos, symbol->module, module_len);
	return worker_answer(call, record, (size_t)(pos - record));
}

static int answer_names(struct worker_call *call, const struct symbol *symbols, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		if (symbols[i].name && !answer_name(call, (uint32_t)i, &symbols[i]))
			return -EPIPE;
	}
	return 0;
}

/* What names are made of lives as long as the request. */
static bool begin_names(struct r2r_serve *s, struct worker_call *call, uint8_t tiers)
{
	s->files.opts.tiers = tiers;
	s->files.opts.strings = intern_new();
	s->files.near = want_near;
	s->files.near_data = call;
	return s->files.opts.strings;
}

static void end_names(struct r2r_serve *s)
{
	intern_free(s->files.opts.strings);
	s->files.opts.strings = NULL;
}

static int serve_names(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct r2r_serve *s = state;
	struct known *k = find(s, r);
	const uint8_t tiers = reader_u8(r);
	const size_t num = reader_left(r) / sizeof(uint64_t);
	_cleanup_free_ uint64_t *offsets = calloc(num + 1, sizeof(*offsets));
	_cleanup_free_ struct symbol *symbols = calloc(num + 1, sizeof(*symbols));
	int result = -ENOMEM;

	if (!k)
		return -ESTALE;
	for (size_t i = 0; offsets && i < num; i++)
		offsets[i] = reader_u64(r);
	if (r->failed)
		return -EBADMSG;
	if (begin_names(s, call, tiers) && offsets && symbols &&
	    r2r_known_names(&s->files, k, offsets, num, symbols))
		result = answer_names(call, symbols, num);
	end_names(s);
	return result;
}

/* ---- compressed bundles ---- */

static int serve_heads(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct known *k = find(state, r);
	struct packed_heads heads = { 0 };
	int result = 0;

	if (!k)
		return -ESTALE;
	if (!r2r_packed_heads(k, &heads))
		result = -ENOMEM;
	for (size_t i = 0; !result && i < heads.v.len; i++) {
		const struct packed_head *head = &heads.v.data[i];
		uint8_t record[3 * 4], *pos = record;

		put(&pos, &head->part, 4);
		put(&pos, &head->timestamp, 4);
		put(&pos, &head->image_size, 4);
		if (!worker_answer(call, record, sizeof(record)))
			result = -EPIPE;
	}
	vec_deinit(&heads.v);
	return result;
}

static int serve_packed(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct r2r_serve *s = state;
	struct known *k = find(s, r);
	const uint8_t tiers = reader_u8(r);
	const uint32_t part = reader_u32(r);
	const size_t num = reader_left(r) / sizeof(uint32_t);
	_cleanup_free_ uint32_t *rvas = calloc(num + 1, sizeof(*rvas));
	_cleanup_free_ struct symbol *symbols = calloc(num + 1, sizeof(*symbols));
	int result = -ENOMEM;

	if (!k)
		return -ESTALE;
	for (size_t i = 0; rvas && i < num; i++)
		rvas[i] = reader_u32(r);
	if (r->failed)
		return -EBADMSG;
	if (begin_names(s, call, tiers) && rvas && symbols &&
	    r2r_packed_names(&s->files, k, part, rvas, num, symbols))
		result = answer_names(call, symbols, num);
	end_names(s);
	return result;
}

const struct worker_service r2r_services[] = {
	{ R2R_TELL_FILE, serve_tell_file },
	{ R2R_TELL_FORGET, serve_forget },
	{ R2R_ASK_RULES, serve_rules },
	{ R2R_ASK_NAMES, serve_names },
	{ R2R_ASK_HEADS, serve_heads },
	{ R2R_ASK_PACKED, serve_packed },
	{ 0 },
};
