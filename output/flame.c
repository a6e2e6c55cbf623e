#include "output/flame_priv.h"

#include "base/err.h"
#include "output/count_priv.h"
#include "output/stacks.h"

#include <stdlib.h>
#include <string.h>

/* Children come after their parents, so one pass from the end sums every subtree. */
static void sum_up(struct flame *flame)
{
	const struct stacks *stacks = flame->tree->stacks;

	for (size_t i = stacks_num_nodes(stacks); i > 0; i--) {
		const struct stacks_node *node = stacks_node(stacks, (uint32_t)i);

		flame->total[i] = count_add(flame->total[i], node->self);
		flame->total[node->parent] = count_add(flame->total[node->parent], flame->total[i]);
	}
}

static int by_name(const void *a, const void *b, void *data)
{
	const struct tree *tree = data;
	const struct tree_frame *x = tree_frame(tree, *(const uint32_t *)a);
	const struct tree_frame *y = tree_frame(tree, *(const uint32_t *)b);
	int ret = strcmp(x->text, y->text);

	if (!ret)
		ret = strcmp(x->module, y->module);
	return ret ? ret : (int)x->kind - (int)y->kind;
}

/* Level by level: the order is the queue. */
static void place(struct flame *flame, uint64_t least)
{
	const struct tree *tree = flame->tree;

	flame->num = 1; /* the root */
	for (size_t i = 0; i < flame->num; i++) {
		uint32_t parent = flame->order[i];
		uint32_t first = tree->first[parent], end = tree->first[parent + 1];
		uint64_t from = flame->from[parent];

		qsort_r(tree->kids + first, end - first, sizeof(*tree->kids), by_name, (void *)tree);
		for (uint32_t k = first; k < end; k++) {
			uint32_t node = tree->kids[k];

			flame->from[node] = from;
			flame->depth[node] = flame->depth[parent] + 1;
			from = count_add(from, flame->total[node]);
			if (flame->total[node] < least)
				continue;
			flame->order[flame->num++] = node;
			if (flame->depth[node] > flame->max_depth)
				flame->max_depth = flame->depth[node];
		}
	}
}

int flame_init(struct flame *flame, const struct tree *tree, uint64_t least, struct err *err)
{
	size_t num = stacks_num_nodes(tree->stacks) + 1;

	*flame = (struct flame){
		.tree = tree,
		.total = calloc(num, sizeof(*flame->total)),
		.from = calloc(num, sizeof(*flame->from)),
		.depth = calloc(num, sizeof(*flame->depth)),
		.order = calloc(num, sizeof(*flame->order)),
	};
	if (!flame->total || !flame->from || !flame->depth || !flame->order)
		return err_oom(err);
	sum_up(flame);
	place(flame, least ? least : 1);
	return 0;
}

void flame_deinit(struct flame *flame)
{
	free(flame->total);
	free(flame->from);
	free(flame->depth);
	free(flame->order);
}
