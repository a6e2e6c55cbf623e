/* The build-ids of the files that were sampled. */
#include "app/session_priv.h"

#include "symbols/elf_file.h"
#include "symbols/file.h"

#include <stdlib.h>
#include <string.h>

struct file_slot {
	uint32_t id;
};
HTAB(file_set, struct file_slot, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

static bool file_id_of(const struct file *file, struct file_id *ret)
{
	const uint8_t *id;
	size_t len;

	if (!file || file->kind != FILE_ELF)
		return false;
	len = elf_file_build_id(file->elf, &id);
	if (!len || len > sizeof(ret->id))
		return false;
	ret->path = file->path;
	ret->len = (uint8_t)len;
	memcpy(ret->id, id, len);
	return true;
}

void session_keep_build_id(struct session *s, const struct file *file)
{
	struct file_id id;

	if (s->opts.keep_build_ids && file_id_of(file, &id) && !vec_push(&s->gone, id))
		s->failed = true;
}

void session_file_known(void *data, struct file *file)
{
	struct session *s = data;
	struct file_id id;

	if (s->opts.build_id && file_id_of(file, &id))
		s->opts.build_id(s->opts.data, id.path, id.id, id.len);
}

static bool first_sight(struct file_set *seen, uint32_t id)
{
	bool added;
	struct file_slot *slot = file_set_add(seen, id, &added);

	if (slot)
		slot->id = id;
	return slot && added;
}

/* Files of one path together; names are interned. */
static int compare_paths(const void *left, const void *right)
{
	const struct file_id *a = left, *b = right;

	return a->path < b->path ? -1 : a->path > b->path;
}

static bool same_build_id(const struct file_id *a, const struct file_id *b)
{
	return a->len == b->len && !memcmp(a->id, b->id, a->len);
}

bool session_each_build_id(struct session *s,
			   void (*each)(void *data, const char *path, const uint8_t *id, size_t len),
			   void *data)
{
	VEC(struct file_id) ids = { 0 };
	struct file_set seen = { 0 };
	bool ok = true;

	for (size_t i = 0; i < s->gone.len && ok; i++)
		ok = vec_push(&ids, s->gone.data[i]);
	for (uint32_t id = 1; id < unwinder_num_frames(s->unwinder) && ok; id++) {
		struct unwind_frame place = unwinder_frame(s->unwinder, id);
		struct file_id file;

		if (place.where != FRAME_IN_FILE || !first_sight(&seen, place.owner))
			continue;
		if (file_id_of(files_by_id(s->files, place.owner), &file))
			ok = vec_push(&ids, file);
	}
	if (ids.len)
		qsort(ids.data, ids.len, sizeof(ids.data[0]), compare_paths);
	for (size_t i = 0, end; i < ids.len && ok; i = end) {
		bool one = true;

		for (end = i + 1; end < ids.len && ids.data[end].path == ids.data[i].path; end++)
			one &= same_build_id(&ids.data[i], &ids.data[end]);
		if (one)
			each(data, ids.data[i].path, ids.data[i].id, ids.data[i].len);
	}
	file_set_deinit(&seen);
	vec_deinit(&ids);
	return ok;
}
