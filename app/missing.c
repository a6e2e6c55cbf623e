#include "app/missing.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "symbols/file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAMED = 3, MAX_PATH_BYTES = 60, MAX_NOTE_BYTES = 380 };

struct tally {
	const struct file *file;
	uint64_t samples; /* with a frame in it */
};

HTAB(tallies, struct tally, const struct file *, hash_u64((uintptr_t)key), slot->file == key,
     hash_u64((uintptr_t)slot->file));

struct count {
	const struct profile *profile;
	const struct file *const *files;
	size_t num_files;
	uint64_t *total; /* by node: samples at or below it */
	struct tallies missing;
	uint64_t samples; /* with a frame in any missing file */
	size_t by_path;   /* files that are believed without a build-id */
};

static void count_deinit(struct count *c)
{
	free(c->total);
	tallies_deinit(&c->missing);
}

static const struct file *file_at(const struct count *c, uint32_t node)
{
	uint32_t frame = stacks_node(c->profile->stacks, node)->frame;

	return frame < c->num_files ? c->files[frame] : NULL;
}

/* "[vsyscall]" and the like are not files, and "[vdso]" is only missing where it is another kernel's. */
static bool is_missing(const struct file *file)
{
	return file && file->kind == FILE_MISSING &&
	       (*file->path != '[' || !strcmp(file->path, "[vdso]"));
}

/* The nearest frame above in any missing file, and in this one: so that no sample counts twice. */
static void look_up(const struct count *c, uint32_t node, const struct file *file, bool *ret_any,
		    bool *ret_same)
{
	*ret_any = *ret_same = false;
	for (uint32_t at = stacks_node(c->profile->stacks, node)->parent; at && !*ret_same;
	     at = stacks_node(c->profile->stacks, at)->parent) {
		const struct file *above = file_at(c, at);

		*ret_any |= is_missing(above);
		*ret_same = above == file;
	}
}

static bool count_node(struct count *c, uint32_t node)
{
	const struct file *file = file_at(c, node);
	struct tally *tally;
	bool any, same;

	if (!is_missing(file))
		return true;
	look_up(c, node, file, &any, &same);
	tally = tallies_add(&c->missing, file, NULL);
	if (!tally)
		return false;
	tally->file = file;
	if (!same)
		tally->samples += c->total[node];
	if (!any && !same)
		c->samples += c->total[node];
	return true;
}

static bool count_all(struct count *c)
{
	size_t num = stacks_num_nodes(c->profile->stacks);
	bool ok = true;

	c->total = calloc(num + 1, sizeof(*c->total));
	if (!c->total)
		return false;
	for (size_t i = num; i > 0; i--) { /* children come after their parents */
		const struct stacks_node *node = stacks_node(c->profile->stacks, (uint32_t)i);

		c->total[i] += node->self;
		c->total[node->parent] += c->total[i];
	}
	for (size_t i = 1; i <= num && ok; i++)
		ok = count_node(c, (uint32_t)i);
	return ok;
}

/* Files that frames lie in, each once. */
static bool count_by_path(struct count *c)
{
	struct tallies seen = { 0 };
	bool ok = true;

	for (size_t i = 0; i < c->num_files && ok; i++) {
		const struct file *file = c->files[i];
		struct tally *tally;
		bool added = false;

		if (!file || !file->by_path)
			continue;
		tally = tallies_add(&seen, file, &added);
		ok = tally;
		if (ok)
			tally->file = file;
		c->by_path += added;
	}
	tallies_deinit(&seen);
	return ok;
}

static int compare_tallies(const void *left, const void *right)
{
	const struct tally *a = left, *b = right;

	if (a->samples != b->samples)
		return a->samples > b->samples ? -1 : 1;
	return strcmp(a->file->path, b->file->path);
}

static const char *reason(const struct file *file)
{
	switch (file->refusal) {
	case DOOR_GONE:
		return "not here";
	case DOOR_CHANGED:
		return "another version is here";
	case DOOR_STALE:
		return "written since";
	case DOOR_DENIED:
		return "not permitted";
	case DOOR_OK:
	case DOOR_NOT_REGULAR:
	case DOOR_TOO_BIG:
	case DOOR_FOREIGN:
	case DOOR_ESCAPE:
	case DOOR_REMOTE:
	case DOOR_SLOW:
	case DOOR_FAILED:
	case DOOR_NUM_REFUSALS:
		break;
	}
	return door_refusal_name(file->refusal);
}

static bool add_note(struct profile *profile, const struct strbuf *text)
{
	size_t num = sizeof(profile->stats.notes) / sizeof(profile->stats.notes[0]);

	for (size_t i = 0; i + 1 < num; i++) {
		if (profile->stats.notes[i])
			continue;
		profile->stats.notes[i] = text->failed ? NULL
						       : intern_str(profile->strings, text->data);
		return profile->stats.notes[i];
	}
	return true;
}

/* The worst of them by name. */
static bool note_missing(struct profile *profile, struct count *c)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	VEC(struct tally) list = { 0 };
	struct tally *tally;
	size_t cursor = 0;
	bool ok = true;

	while ((tally = tallies_next(&c->missing, &cursor)) && ok)
		ok = vec_push(&list, *tally);
	if (list.len)
		qsort(list.data, list.len, sizeof(list.data[0]), compare_tallies);
	strbuf_printf(&text,
		      "%zu file%s of the recording could not be used, so frames there have no names "
		      "and stacks may end there:",
		      list.len, list.len == 1 ? "" : "s");
	for (size_t i = 0; i < list.len && i < MAX_NAMED; i++) {
		const struct file *file = list.data[i].file;

		strbuf_str(&text, i ? ", " : " ");
		escape_line(&text, file->path, strlen(file->path), MAX_PATH_BYTES);
		strbuf_printf(&text, " (%s; %" PRIu64 " sample%s)", reason(file),
			      list.data[i].samples, list.data[i].samples == 1 ? "" : "s");
	}
	if (list.len > MAX_NAMED)
		strbuf_str(&text, ", ...");
	vec_deinit(&list);
	return ok && add_note(profile, &text);
}

static bool note_by_path(struct profile *profile, const struct count *c)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	strbuf_printf(&text,
		      "the recording tells no build-id of %zu file%s that stacks go through: believed by path",
		      c->by_path, c->by_path == 1 ? "" : "s");
	return add_note(profile, &text);
}

int missing_note(struct profile *profile, const struct file *const *files, size_t num_files,
		 bool recorded, struct err *err)
{
	_cleanup_(count_deinit) struct count c = { .profile = profile, .files = files,
						   .num_files = num_files };
	bool ok = count_all(&c) && count_by_path(&c);

	profile->stats.unresolved_files = c.missing.len;
	profile->stats.unresolved_samples = c.samples;
	if (ok && recorded && c.missing.len)
		ok = note_missing(profile, &c);
	if (ok && recorded && c.by_path)
		ok = note_by_path(profile, &c);
	return ok ? 0 : err_oom(err);
}
