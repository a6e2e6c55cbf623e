/*
 * A profile as it is shown: frames that read the same are one, frames the view leaves out are gone, and every
 * node knows its children. For the formats.
 */
#pragma once

#include "base/vec.h"
#include "output/profile.h"

#include <stddef.h>
#include <stdint.h>

struct err;
struct intern;
struct stacks;

struct tree_frame {
	const char *text;   /* escaped, never empty */
	size_t len;         /* of the text */
	const char *module; /* escaped; "" = none or not asked for */
	enum frame_kind kind;
};

enum tree_key {
	TREE_BY_TEXT,     /* what prints the same is the same */
	TREE_BY_FUNCTION, /* text, module, and whether it is a label, a mark or code */
	TREE_FOR_PICTURE, /* profile_frame_plain, module, kind; `became` is kept */
};

struct tree {
	struct stacks *stacks; /* node frames are indices into `frames` */
	VEC(struct tree_frame) frames; /* frames.data[0] is unused */
	struct intern *strings;
	uint32_t *first; /* the children of node i are kids[first[i]] .. kids[first[i + 1] - 1] */
	uint32_t *kids;
	uint32_t *became; /* TREE_FOR_PICTURE: node of the profile -> node here; never 0 but for the root */
};

int tree_init(struct tree *tree, const struct profile *profile, const struct profile_view *view,
	      enum tree_key key, struct err *err);
void tree_deinit(struct tree *tree); /* zeroed is fine */

const struct tree_frame *tree_frame(const struct tree *tree, uint32_t node);
