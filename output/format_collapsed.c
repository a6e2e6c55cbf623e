/*
 * "comm;root;...;leaf COUNT", one line per distinct stack, in the order of the lines' bytes (LC_ALL=C sort).
 *
 * That order is not the tree's: "a b;x" comes before "a;y", as a space is less than ';'. But all lines that
 * begin with "PATH;a;" stand together. So what a node contributes is a list of items, the lines that end in
 * a child and the whole subtrees below a child, and the list is sorted by the bytes with which each begins.
 */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/format.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/tree_priv.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <string.h>

struct item {
	uint32_t node;
	bool below;    /* the lines below the node; else the one that ends in it */
	size_t prefix; /* bytes of the line before the node's text */
};

struct collapsed {
	struct tree tree;
	VEC(struct item) todo; /* the next one is last */
	struct strbuf line;
};

static void collapsed_deinit(struct collapsed *c)
{
	tree_deinit(&c->tree);
	vec_deinit(&c->todo);
	strbuf_deinit(&c->line);
}

/* What follows the text of the node: ";", or " COUNT\n". */
struct tail {
	char bytes[24];
	bool reached;
};

static const char *tail_enter(struct tail *tail, const struct tree *tree, const struct item *item)
{
	tail->reached = true;
	if (item->below)
		strcpy(tail->bytes, ";");
	else
		snprintf(tail->bytes, sizeof(tail->bytes), " %" PRIu64 "\n",
			 stacks_node(tree->stacks, item->node)->self);
	return tail->bytes;
}

static int compare_items(const struct tree *tree, const struct item *a, const struct item *b)
{
	const char *x = tree_frame(tree, a->node)->text;
	const char *y = tree_frame(tree, b->node)->text;
	struct tail x_tail = { 0 }, y_tail = { 0 };

	for (;; x++, y++) {
		if (!*x && !x_tail.reached)
			x = tail_enter(&x_tail, tree, a);
		if (!*y && !y_tail.reached)
			y = tail_enter(&y_tail, tree, b);
		if (*x != *y || !*x)
			return (int)(unsigned char)*x - (int)(unsigned char)*y;
	}
}

/* The list is worked off from its end. */
static int last_first(const void *a, const void *b, void *tree)
{
	return compare_items(tree, b, a);
}

static bool push_item(struct collapsed *c, uint32_t node, bool below)
{
	struct item item = { .node = node, .below = below, .prefix = c->line.len };

	return vec_push(&c->todo, item);
}

static bool push_children(struct collapsed *c, uint32_t parent)
{
	const struct tree *tree = &c->tree;
	size_t start = c->todo.len;

	for (uint32_t i = tree->first[parent]; i < tree->first[parent + 1]; i++) {
		uint32_t node = tree->kids[i];

		if (tree->first[node] != tree->first[node + 1] && !push_item(c, node, true))
			return false;
		if (stacks_node(tree->stacks, node)->self && !push_item(c, node, false))
			return false;
	}
	if (c->todo.len - start > 1)
		qsort_r(&c->todo.data[start], c->todo.len - start, sizeof(c->todo.data[0]),
			last_first, &c->tree);
	return true;
}

static int write_item(struct collapsed *c, const struct item *item, FILE *out, struct err *err)
{
	const struct tree_frame *frame = tree_frame(&c->tree, item->node);

	c->line.len = item->prefix;
	strbuf_add(&c->line, frame->text, frame->len);
	if (!item->below) {
		strbuf_char(&c->line, ' ');
		strbuf_decimal(&c->line, stacks_node(c->tree.stacks, item->node)->self);
		strbuf_char(&c->line, '\n');
		return write_text(out, &c->line, err);
	}
	strbuf_char(&c->line, ';');
	return c->line.failed || !push_children(c, item->node) ? err_oom(err) : 0;
}

static int write_collapsed(const struct profile *profile, const struct profile_view *view, FILE *out,
			   struct err *err)
{
	_cleanup_(collapsed_deinit) struct collapsed c = { 0 };
	int r;

	r = tree_init(&c.tree, profile, view, TREE_BY_TEXT, err);
	if (r < 0)
		return r;
	if (!push_children(&c, 0))
		return err_oom(err);
	while (c.todo.len) {
		struct item item = c.todo.data[--c.todo.len];

		r = write_item(&c, &item, out, err);
		if (r < 0)
			return r;
	}
	return write_end(out, err);
}

static const char *const extensions[] = { ".folded", ".collapsed", ".txt", NULL };

const struct format format_collapsed = {
	.name = "collapsed",
	.description = "one line per stack and its count, for flame graph tools",
	.extensions = extensions,
	.write = write_collapsed,
};
