#include "output/tree_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/hash.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "output/stacks.h"

#include <string.h>

/* What a frame's text and key are made of; as the profile has each string once, the same pointers mean the same. */
struct shown {
	const char *name, *module, *path;
	enum frame_kind kind;
	uint32_t id; /* in the tree; 0 = the entry is empty */
};

enum { SHOWN_BITS = 10 };

struct naming {
	struct tree *tree;
	const struct profile_view *view;
	enum tree_key key;
	struct intern *keys; /* number n is frame n + 1 of the tree */
	struct strbuf text, module, all;
	struct shown shown[1 << SHOWN_BITS]; /* frames of late: a function has many places */
};

static void naming_deinit(struct naming *naming)
{
	intern_free(naming->keys);
	strbuf_deinit(&naming->text);
	strbuf_deinit(&naming->module);
	strbuf_deinit(&naming->all);
}

/* Labels and marks are not code: none of them is a function of the same name. */
static char kind_letter(enum frame_kind kind)
{
	if (kind == FRAME_LABEL)
		return 'l';
	return kind == FRAME_MARK ? 'm' : 'c';
}

/* Fills text, module and `all`, the key: '\n' separates, as no escaped text holds one. */
static bool describe(struct naming *naming, const struct profile_frame *frame)
{
	const char *module = frame->module ? frame->module : "";

	strbuf_clear(&naming->text);
	strbuf_clear(&naming->module);
	strbuf_clear(&naming->all);
	if (naming->key == TREE_FOR_PICTURE)
		profile_frame_plain(frame, &naming->text);
	else
		profile_frame_text(frame, naming->view, &naming->text);
	if (naming->key != TREE_BY_TEXT && *module)
		escape_frame(&naming->module, module, strlen(module));
	if (naming->text.failed || naming->module.failed)
		return false;
	strbuf_add(&naming->all, naming->text.data, naming->text.len);
	if (naming->key != TREE_BY_TEXT) {
		strbuf_char(&naming->all, '\n');
		strbuf_add(&naming->all, naming->module.data, naming->module.len);
		strbuf_char(&naming->all, '\n');
		strbuf_char(&naming->all, naming->key == TREE_FOR_PICTURE ? (char)('a' + (int)frame->kind)
									  : kind_letter(frame->kind));
	}
	return !naming->all.failed;
}

/* The frame's number in the tree; 0 when out of memory. */
static uint32_t name_frame(struct naming *naming, const struct profile_frame *frame)
{
	struct tree *tree = naming->tree;
	struct tree_frame named = { .module = "", .kind = frame->kind };
	uint32_t id;

	if (!describe(naming, frame))
		return 0;
	named.len = naming->text.len;
	id = intern_id(naming->keys, naming->all.data, naming->all.len);
	if (id >= UINT32_MAX - 1)
		return 0;
	if (id + 1 < tree->frames.len)
		return id + 1;
	named.text = intern_mem(tree->strings, naming->text.data, naming->text.len);
	if (naming->module.len)
		named.module = intern_mem(tree->strings, naming->module.data, naming->module.len);
	if (!named.text || !named.module || !vec_push(&tree->frames, named))
		return 0;
	return id + 1;
}

/* The same, without making the text again where a frame like it came before. */
static uint32_t name_like(struct naming *naming, const struct profile_frame *frame)
{
	uint64_t hash = hash_two((uintptr_t)frame->name, (uintptr_t)frame->module);
	struct shown *s = &naming->shown[hash >> (64 - SHOWN_BITS)];

	if (!s->id || s->name != frame->name || s->module != frame->module || s->path != frame->path ||
	    s->kind != frame->kind)
		*s = (struct shown){ frame->name, frame->module, frame->path, frame->kind, name_frame(naming, frame) };
	return s->id;
}

/* Number in the profile -> number in the tree; 0 = left out. NULL when out of memory. */
static uint32_t *name_all(struct naming *naming, const struct profile *profile)
{
	_cleanup_free_ uint32_t *ids = calloc(profile->frames.len + 1, sizeof(*ids));

	if (!ids)
		return NULL;
	for (size_t i = 1; i < profile->frames.len; i++) {
		const struct profile_frame *frame = &profile->frames.data[i];

		if (!profile_frame_shown(frame, naming->view))
			continue;
		ids[i] = name_like(naming, frame);
		if (!ids[i])
			return NULL;
	}
	return steal_ptr(ids);
}

struct mapping {
	const uint32_t *ids;
	size_t num;
};

static uint32_t map_frame(void *data, uint32_t frame)
{
	const struct mapping *mapping = data;

	return frame < mapping->num ? mapping->ids[frame] : 0;
}

/* No sample may vanish: a stack of which the view left nothing stands as "[left out]". */
static bool keep_the_rest(struct naming *naming, const struct stacks *from)
{
	static const struct profile_frame left_out = { .name = "[left out]", .kind = FRAME_LABEL };
	uint64_t total = stacks_total(from), shown = stacks_total(naming->tree->stacks);
	uint32_t *became = naming->tree->became;
	uint32_t id, node;

	if (shown >= total)
		return true;
	id = name_frame(naming, &left_out);
	if (!id || !stacks_add_node(naming->tree->stacks, &id, 1, total - shown, &node))
		return false;
	for (size_t i = 1; became && i <= stacks_num_nodes(from); i++)
		became[i] = became[i] ? became[i] : node;
	return true;
}

static bool merge(struct naming *naming, const struct profile *profile, struct mapping *mapping)
{
	struct tree *tree = naming->tree;

	if (naming->key != TREE_FOR_PICTURE)
		return stacks_merge(tree->stacks, profile->stacks, map_frame, mapping);
	tree->became = calloc(stacks_num_nodes(profile->stacks) + 1, sizeof(*tree->became));
	return tree->became &&
	       stacks_merge_nodes(tree->stacks, profile->stacks, map_frame, mapping, tree->became);
}

/* Counting sort by parent. */
static bool link_kids(struct tree *tree)
{
	size_t num = stacks_num_nodes(tree->stacks);
	uint32_t *first;

	/* One more than the ends need, so that filling can move the starts up by one place. */
	tree->first = first = calloc(num + 3, sizeof(*first));
	tree->kids = calloc(num + 1, sizeof(*tree->kids));
	if (!first || !tree->kids)
		return false;
	for (size_t i = 1; i <= num; i++)
		first[stacks_node(tree->stacks, (uint32_t)i)->parent + 2]++;
	for (size_t i = 1; i < num + 3; i++)
		first[i] += first[i - 1];
	for (size_t i = 1; i <= num; i++) {
		uint32_t parent = stacks_node(tree->stacks, (uint32_t)i)->parent;

		tree->kids[first[parent + 1]++] = (uint32_t)i;
	}
	return true;
}

int tree_init(struct tree *tree, const struct profile *profile, const struct profile_view *view,
	      enum tree_key key, struct err *err)
{
	_cleanup_(naming_deinit) struct naming naming = { .tree = tree, .view = view, .key = key };
	_cleanup_free_ uint32_t *ids = NULL;
	struct mapping mapping;

	*tree = (struct tree){ .stacks = stacks_new(), .strings = intern_new() };
	naming.keys = intern_new();
	if (!tree->stacks || !tree->strings || !naming.keys ||
	    !vec_push(&tree->frames, (struct tree_frame){ 0 }))
		return err_oom(err);
	ids = name_all(&naming, profile);
	if (!ids)
		return err_oom(err);
	mapping = (struct mapping){ ids, profile->frames.len };
	if (!merge(&naming, profile, &mapping) || !keep_the_rest(&naming, profile->stacks) || !link_kids(tree))
		return err_oom(err);
	return 0;
}

void tree_deinit(struct tree *tree)
{
	stacks_free(tree->stacks);
	intern_free(tree->strings);
	vec_deinit(&tree->frames);
	free(tree->first);
	free(tree->kids);
	free(tree->became);
}

const struct tree_frame *tree_frame(const struct tree *tree, uint32_t node)
{
	return &tree->frames.data[stacks_node(tree->stacks, node)->frame];
}
