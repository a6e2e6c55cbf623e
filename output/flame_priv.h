/* What flame graphs have in common, wherever they are drawn. */
#pragma once

#include "output/tree_priv.h"

#include <stdbool.h>
#include <stdint.h>

struct err;

/* In the order of KINDS in html/model.js. */
enum flame_kind {
	FLAME_LABEL,
	FLAME_NATIVE,
	FLAME_KERNEL,
	FLAME_JIT,
	FLAME_INLINED,
	FLAME_RUNTIME, /* native code of a language's runtime */
	FLAME_UNKNOWN,
	FLAME_MARK,
	FLAME_NUM_KINDS,
};

enum flame_kind flame_kind(const struct tree_frame *frame);
const char *flame_kind_name(enum flame_kind kind);
/* 0xRRGGBB, for dark text or, with `dark`, for light text on it. Functions of a kind differ a little. */
uint32_t flame_colour(const struct tree_frame *frame, bool dark);
uint32_t flame_kind_colour(enum flame_kind kind, unsigned int shade, bool dark);
enum { FLAME_SHADES = 4 };
unsigned int flame_shade(const struct tree_frame *frame); /* < FLAME_SHADES */
/* Samples that end in frames of each kind. */
void flame_kind_sums(const struct tree *tree, uint64_t sums[FLAME_NUM_KINDS]);

/* Where each node stands: children side by side above their parent, by name, from left to right. */
struct flame {
	const struct tree *tree;
	uint64_t *total;  /* by node: samples at or below it; [0] is all */
	uint64_t *from;   /* samples left of it */
	uint32_t *depth;  /* the root has 0 */
	uint32_t *order;  /* nodes by depth, then from left to right; the root is first */
	size_t num;       /* nodes with the root */
	uint32_t max_depth; /* of nodes with at least `least` samples */
};

/* Nodes of fewer than `least` samples (they would not be seen) are left out of `order`. */
int flame_init(struct flame *flame, const struct tree *tree, uint64_t least, struct err *err);
void flame_deinit(struct flame *flame); /* zeroed is fine */
