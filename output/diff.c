#include "output/diff_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "output/collapsed.h"
#include "output/count_priv.h"
#include "output/profile.h"
#include "output/stacks.h"

#include <errno.h>
#include <string.h>

static void diff_freep(struct diff **diff)
{
	diff_free(*diff);
}

int diff_new(struct diff **ret, struct err *err)
{
	_cleanup_(diff_freep) struct diff *diff = calloc(1, sizeof(*diff));
	int r;

	if (!diff)
		return err_oom(err);
	r = profile_new(&diff->profile, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(diff);
	return 0;
}

void diff_free(struct diff *diff)
{
	if (!diff)
		return;
	profile_free(diff->profile);
	tree_deinit(&diff->tree);
	free(diff->nodes);
	free(diff->functions);
	vec_deinit(&diff->self[DIFF_BEFORE]);
	vec_deinit(&diff->self[DIFF_AFTER]);
	free(diff);
}

uint64_t diff_samples(const struct diff *diff, enum diff_side side)
{
	return diff->samples[side];
}

/* Input */

struct input {
	struct diff *diff;
	enum diff_side side;
	VEC(uint32_t) ids; /* leaf first */
};

static bool is_mark(const char *name)
{
	static const char *const marks[] = { "[truncated]", "[broken]", "[altstack]", "[left out]", "[left_out]" };

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (!strcmp(name, marks[i]))
			return true;
	}
	return false;
}

static enum frame_kind kind_of(const struct collapsed_frame *frame, const char *name, bool first)
{
	if (first)
		return FRAME_LABEL;
	if (frame->suffix == 'k' || !strcmp(name, "[kernel]"))
		return FRAME_KERNEL;
	if (frame->suffix == 'i')
		return FRAME_INLINED;
	if (frame->suffix == 'j' || frame->suffix == '0' || frame->suffix == '1' || !strcmp(name, "[jit]"))
		return FRAME_JIT;
	if (!strcmp(name, "[unknown]"))
		return FRAME_UNKNOWN;
	return is_mark(name) ? FRAME_MARK : FRAME_NATIVE;
}

/* A name is one function in both profiles, also where only one tells its kind. 0 = out of memory. */
static uint32_t frame_id(struct diff *diff, const struct collapsed_frame *from, bool first)
{
	struct profile *p = diff->profile;
	uint32_t id = intern_id(p->strings, from->name, from->len);
	struct profile_frame frame = { 0 };

	if (id >= UINT32_MAX - 1)
		return 0;
	frame.name = intern_get(p->strings, id);
	frame.kind = kind_of(from, frame.name, first);
	if (id + 1 < p->frames.len) {
		if (p->frames.data[id + 1].kind == FRAME_NATIVE || p->frames.data[id + 1].kind == FRAME_LABEL)
			p->frames.data[id + 1].kind = frame.kind;
		return id + 1;
	}
	return vec_push(&p->frames, frame) ? id + 1 : 0;
}

static bool add_stack(void *data, const struct collapsed_frame *frames, size_t num, uint64_t count)
{
	struct input *input = data;
	struct diff *diff = input->diff;
	uint32_t node;

	input->ids.len = 0;
	for (size_t i = num; i > 0; i--) {
		uint32_t id = frame_id(diff, &frames[i - 1], i == 1);

		if (!id || !vec_push(&input->ids, id))
			return false;
	}
	if (!stacks_add_node(diff->profile->stacks, input->ids.data, input->ids.len, count, &node))
		return false;
	for (int side = 0; side < 2; side++) {
		while (diff->self[side].len <= node) {
			if (!vec_push(&diff->self[side], 0))
				return false;
		}
	}
	diff->self[input->side].data[node] = count_add(diff->self[input->side].data[node], count);
	return true;
}

int diff_add(struct diff *diff, enum diff_side side, const char *name, const char *text, size_t len, struct err *err)
{
	struct input input = { .diff = diff, .side = side };
	struct collapsed_stats stats;
	int r = collapsed_parse(text, len, add_stack, &input, &stats, err);

	vec_deinit(&input.ids);
	if (r < 0)
		return r;
	diff->names[side] = name;
	diff->samples[side] = count_add(diff->samples[side], stats.samples);
	diff->bad_lines[side] += stats.bad_lines;
	return 0;
}

/* Sums */

static void place_self(struct diff *diff)
{
	for (int side = 0; side < 2; side++) {
		for (size_t i = 1; i < diff->self[side].len; i++) {
			uint64_t *self = &diff->nodes[diff->tree.became[i]].self[side];

			*self = count_add(*self, diff->self[side].data[i]);
		}
	}
}

/* Children come after their parents. */
static void sum_nodes(struct diff *diff)
{
	const struct stacks *stacks = diff->tree.stacks;

	for (size_t i = stacks_num_nodes(stacks); i > 0; i--) {
		const struct stacks_node *at = stacks_node(stacks, (uint32_t)i);
		struct diff_count *node = &diff->nodes[i], *parent = &diff->nodes[at->parent];
		struct diff_count *function = &diff->functions[at->frame];

		for (int side = 0; side < 2; side++) {
			node->total[side] = count_add(node->total[side], node->self[side]);
			parent->total[side] = count_add(parent->total[side], node->total[side]);
			function->self[side] = count_add(function->self[side], node->self[side]);
		}
	}
}

/* How often each function is on the way from the root to where a walk is: inside itself it counts no more. */
static bool sum_functions(struct diff *diff)
{
	const struct tree *tree = &diff->tree;
	struct step {
		uint32_t node, next;
	};
	VEC(struct step) path = { 0 };
	_cleanup_free_ uint32_t *inside = calloc(tree->frames.len + 1, sizeof(*inside));
	bool ok = inside && vec_push(&path, ((struct step){ 0, tree->first[0] }));

	while (ok && path.len) {
		struct step *at = &path.data[path.len - 1];
		uint32_t kid, frame;

		if (at->next == tree->first[at->node + 1]) {
			if (at->node)
				inside[stacks_node(tree->stacks, at->node)->frame]--;
			path.len--;
			continue;
		}
		kid = tree->kids[at->next++];
		frame = stacks_node(tree->stacks, kid)->frame;
		for (int side = 0; side < 2 && !inside[frame]; side++)
			diff->functions[frame].total[side] =
				count_add(diff->functions[frame].total[side], diff->nodes[kid].total[side]);
		inside[frame]++;
		ok = vec_push(&path, ((struct step){ kid, tree->first[kid] }));
	}
	vec_deinit(&path);
	return ok;
}

int diff_count(struct diff *diff, struct err *err)
{
	static const struct profile_view view = { 0 };
	int r = tree_init(&diff->tree, diff->profile, &view, TREE_FOR_PICTURE, err);

	if (r < 0)
		return r;
	diff->nodes = calloc(stacks_num_nodes(diff->tree.stacks) + 1, sizeof(*diff->nodes));
	diff->functions = calloc(diff->tree.frames.len + 1, sizeof(*diff->functions));
	if (!diff->nodes || !diff->functions)
		return err_oom(err);
	place_self(diff);
	sum_nodes(diff);
	if (!sum_functions(diff) || !diff_mark_changes(diff))
		return err_oom(err);
	return 0;
}

static double share(uint64_t count, uint64_t all)
{
	return all ? (double)count / (double)all : 0;
}

double diff_points(const struct diff *diff, const uint64_t counts[2])
{
	return 100 * (share(counts[DIFF_AFTER], diff->samples[DIFF_AFTER]) -
		      share(counts[DIFF_BEFORE], diff->samples[DIFF_BEFORE]));
}

static const struct diff_format *const formats[] = { &diff_format_text, &diff_format_collapsed, &diff_format_html };

enum { NUM_FORMATS = sizeof(formats) / sizeof(formats[0]) };

const struct diff_format *diff_format_find(const char *name)
{
	for (size_t i = 0; i < NUM_FORMATS; i++) {
		if (!strcmp(formats[i]->name, name))
			return formats[i];
	}
	return NULL;
}

const struct diff_format *diff_format_for_path(const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < NUM_FORMATS; i++) {
		for (const char *const *ext = formats[i]->extensions; *ext; ext++) {
			size_t ext_len = strlen(*ext);

			if (len > ext_len && !strcmp(path + len - ext_len, *ext))
				return formats[i];
		}
	}
	return NULL;
}
