#include "app/naming.h"

#include "app/jit_runtimes.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/profile.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/inline.h"
#include "symbols/inlined.h"
#include "symbols/symbols.h"
#include "unwinder/unwinder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is inlined at a frame's place; few have any. */
struct inlined_slot {
	uint32_t id;
	uint32_t first, num; /* in inlined_names */
};
HTAB(inlined_tab, struct inlined_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

/* A file's build-id as text, made once. */
struct hex_slot {
	uint32_t file; /* id, never used again */
	const char *text; /* NULL = it has none */
};
HTAB(hex_tab, struct hex_slot, uint32_t, hash_u64(key), slot->file == key, hash_u64(slot->file));

struct naming {
	struct naming_opts opts;
	struct hex_tab build_ids;
	VEC(struct profile_frame) frames; /* by frame id; kind FRAME_LABEL = not named, whatever else may stand there */
	struct inlined_tab inlined;
	VEC(const char *) inlined_names;
	bool failed;
};

/* A frame that waits for its symbol. */
struct waiting {
	uint32_t owner; /* file id; KERNEL = the kernel, which no file is */
	uint32_t id;
	bool by_offset; /* no segment of an ELF file holds it */
	uint8_t kind;   /* enum frame_kind */
	uint64_t place; /* vaddr in the file, or its offset there, or address */
};

enum { KERNEL = 0, EVERY_FILE = 0 };

struct queue {
	VEC(struct waiting) frames;
};

static void queue_deinit(struct queue *q)
{
	vec_deinit(&q->frames);
}

struct naming *naming_new(const struct naming_opts *opts)
{
	struct naming *n = calloc(1, sizeof(*n));

	if (n)
		n->opts = *opts;
	return n;
}

void naming_free(struct naming *n)
{
	if (!n)
		return;
	vec_deinit(&n->frames);
	vec_deinit(&n->inlined_names);
	inlined_tab_deinit(&n->inlined);
	hex_tab_deinit(&n->build_ids);
	free(n);
}

const struct profile_frame *naming_get(const struct naming *n, uint32_t id)
{
	if (id >= n->frames.len || n->frames.data[id].kind == FRAME_LABEL)
		return NULL;
	return &n->frames.data[id];
}

size_t naming_inlined(const struct naming *n, uint32_t id, const char *const **ret)
{
	const struct inlined_slot *slot = inlined_tab_find(&n->inlined, id);

	if (!slot)
		return 0;
	*ret = n->inlined_names.data + slot->first;
	return slot->num;
}

static bool grow(struct naming *n, uint32_t num)
{
	size_t old = n->frames.len;

	if (num <= old)
		return true;
	if (!vec_reserve(&n->frames, num))
		return false;
	memset(n->frames.data + old, 0, (num - old) * sizeof(n->frames.data[0]));
	n->frames.len = num;
	return true;
}

enum { MAX_BUILD_ID = 64 };

/* In hexadecimal, interned; NULL where there is none. */
static const char *make_build_id(struct naming *n, const struct file *file)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint8_t *id;
	size_t len = file->kind == FILE_ELF ? elf_file_build_id(file->elf, &id) : 0;

	if (!len || len > MAX_BUILD_ID)
		return NULL;
	strbuf_hex(&text, id, len);
	return text.failed ? NULL : intern_str(n->opts.strings, text.data);
}

static const char *build_id_text(struct naming *n, const struct file *file)
{
	bool added;
	struct hex_slot *slot = hex_tab_add(&n->build_ids, file->id, &added);

	if (slot && added)
		*slot = (struct hex_slot){ file->id, make_build_id(n, file) };
	return slot ? slot->text : NULL;
}

static bool is_assembly(const char *base)
{
	size_t len = strlen(base);

	return len > 4 && !strcmp(base + len - 4, ".dll");
}

/* What is known of a frame without its symbol; false: there is none to look for. */
static bool describe(struct naming *n, const struct unwind_frame *place, struct waiting *ret,
		     struct profile_frame *frame)
{
	struct file *file;

	*frame = (struct profile_frame){ .place = place->place, .kind = FRAME_KERNEL };
	ret->owner = KERNEL;
	ret->place = place->place;
	if (place->where == FRAME_IN_KERNEL)
		return true;
	file = files_by_id(n->opts.files, place->owner);
	if (!file) { /* it left the table unnamed: memory was out then */
		frame->kind = FRAME_UNKNOWN;
		return false;
	}
	frame->module = file->base;
	frame->path = file->path;
	frame->build_id = build_id_text(n, file);
	frame->kind = FRAME_NATIVE;
	ret->owner = file->id;
	ret->by_offset = file->kind != FILE_ELF || !elf_file_vaddr(file->elf, place->place, &ret->place);
	if (ret->by_offset && is_assembly(file->base))
		frame->runtime = jit_runtime_dotnet;
	return file->kind != FILE_MISSING;
}

static bool collect(struct naming *n, uint32_t only_file, struct queue *q)
{
	uint32_t num = unwinder_num_frames(n->opts.unwinder);

	if (!grow(n, num))
		return false;
	for (uint32_t id = 1; id < num; id++) {
		struct unwind_frame place;
		struct profile_frame frame;
		struct waiting waiting = { .id = id };

		if (n->frames.data[id].kind != FRAME_LABEL)
			continue;
		place = unwinder_frame(n->opts.unwinder, id);
		if (place.where != FRAME_IN_FILE && place.where != FRAME_IN_KERNEL)
			continue;
		if (only_file != EVERY_FILE &&
		    (place.where != FRAME_IN_FILE || place.owner != only_file))
			continue;
		if (describe(n, &place, &waiting, &frame)) {
			waiting.kind = (uint8_t)frame.kind;
			frame.kind = FRAME_LABEL;
			if (!vec_push(&q->frames, waiting))
				return false;
		}
		n->frames.data[id] = frame;
	}
	return true;
}

enum { PLACE_DIGITS = 8, OWNER_DIGITS = 4, DIGITS = PLACE_DIGITS + 1 + OWNER_DIGITS };

/* Digit 0 matters least: by owner, then by what kind the place is, then by the place. */
static unsigned int digit_of(const struct waiting *w, unsigned int digit)
{
	if (digit < PLACE_DIGITS)
		return (w->place >> 8 * digit) & 255;
	return digit == PLACE_DIGITS ? w->by_offset : (w->owner >> 8 * (digit - PLACE_DIGITS - 1)) & 255;
}

/* By one digit, those that are equal in the order they are in. False: all are equal, so nothing was moved. */
static bool sort_by(const struct waiting *from, size_t num, unsigned int digit, struct waiting *to)
{
	size_t at[256] = { 0 }, sum = 0;

	for (size_t i = 0; i < num; i++)
		at[digit_of(&from[i], digit)]++;
	if (at[digit_of(&from[0], digit)] == num)
		return false;
	for (size_t i = 0; i < 256; i++) {
		size_t here = at[i];

		at[i] = sum;
		sum += here;
	}
	for (size_t i = 0; i < num; i++)
		to[at[digit_of(&from[i], digit)]++] = from[i];
	return true;
}

/* Radix sort: comparing them took a fifth of all naming. */
static bool sort_waiting(struct queue *q)
{
	size_t num = q->frames.len;
	struct waiting *other = num ? malloc(num * sizeof(*other)) : NULL;

	if (!other)
		return !num;
	for (unsigned int digit = 0; digit < DIGITS; digit++) {
		struct waiting *from = q->frames.data;

		if (sort_by(from, num, digit, other)) {
			q->frames.data = other;
			q->frames.cap = num;
			other = from;
		}
	}
	free(other);
	return true;
}

/* Symbols of the places of one group, in their order. False when out of memory. */
static bool find_symbols(struct naming *n, const struct waiting *group, const uint64_t *places, size_t num,
			 struct symbol *symbols, const char **modules)
{
	struct file *file;

	if (group->owner == KERNEL)
		return symbols_kernel_batch(n->opts.symbols, places, num, symbols, modules);
	file = files_by_id(n->opts.files, group->owner);
	if (group->by_offset)
		return symbols_offset_batch(n->opts.symbols, file, places, num, symbols);
	return symbols_file_batch(n->opts.symbols, file, places, num, symbols);
}

static bool name_frame(struct naming *n, const struct waiting *waiting, const struct symbol *symbol,
		       const char *kernel_module)
{
	struct profile_frame *frame = &n->frames.data[waiting->id];

	frame->name = symbol->name;
	frame->offset = symbol->offset;
	if (symbol->module) {
		frame->module = symbol->module;
		frame->runtime = jit_runtime_dotnet; /* in a file there is no other managed code */
	}
	if (waiting->owner == KERNEL)
		frame->module = kernel_module ? kernel_module : intern_str(n->opts.strings, "[kernel]");
	frame->kind = waiting->kind;
	return waiting->owner != KERNEL || frame->module;
}

struct group {
	struct naming *naming;
	const struct waiting *frames;
};

/* inlined_find: all but the last, which the symbol table names better. */
static void take_inlined(void *data, size_t i, const struct inline_frame *frames, size_t num)
{
	struct group *g = data;
	struct naming *n = g->naming;
	struct inlined_slot *slot = inlined_tab_add(&n->inlined, g->frames[i].id, NULL);

	if (!slot || !vec_reserve(&n->inlined_names, n->inlined_names.len + num)) {
		n->failed = true;
		return;
	}
	*slot = (struct inlined_slot){ g->frames[i].id, (uint32_t)n->inlined_names.len, (uint32_t)num - 1 };
	for (size_t at = 0; at + 1 < num; at++)
		n->inlined_names.data[n->inlined_names.len++] = frames[at].name;
}

/* Frames of one owner, all of one kind of place. */
static bool name_group(struct naming *n, const struct waiting *group, size_t num)
{
	_cleanup_free_ uint64_t *places = calloc(num, sizeof(*places));
	_cleanup_free_ struct symbol *symbols = calloc(num, sizeof(*symbols));
	_cleanup_free_ const char **modules = calloc(num, sizeof(*modules));

	if (!places || !symbols || !modules)
		return false;
	for (size_t i = 0; i < num; i++)
		places[i] = group[i].place;
	if (!find_symbols(n, group, places, num, symbols, modules))
		return false;
	for (size_t i = 0; i < num; i++) {
		if (!name_frame(n, &group[i], &symbols[i], modules[i]))
			return false;
	}
	if (n->opts.inlined && group->owner != KERNEL && !group->by_offset) {
		struct group g = { n, group };

		inlined_find(n->opts.files, n->opts.strings, files_by_id(n->opts.files, group->owner), places,
			     num, take_inlined, &g);
	}
	return !n->failed;
}

static bool name_queue(struct naming *n, struct queue *q, bool (*stop)(void *data), void *data)
{
	const struct waiting *frames;
	size_t num = q->frames.len;

	if (!sort_waiting(q))
		return false;
	frames = q->frames.data;
	for (size_t i = 0, end; i < num; i = end) {
		for (end = i + 1; end < num && frames[end].owner == frames[i].owner &&
				  frames[end].by_offset == frames[i].by_offset;)
			end++;
		if (stop && stop(data))
			return true;
		if (!name_group(n, frames + i, end - i))
			return false;
	}
	return true;
}

bool naming_all(struct naming *n, bool (*stop)(void *data), void *data)
{
	_cleanup_(queue_deinit) struct queue q = { 0 };

	return collect(n, EVERY_FILE, &q) && name_queue(n, &q, stop, data);
}

bool naming_file(struct naming *n, uint32_t file_id)
{
	_cleanup_(queue_deinit) struct queue q = { 0 };

	return collect(n, file_id, &q) && name_queue(n, &q, NULL, NULL);
}
