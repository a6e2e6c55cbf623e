/* The parts of output/diff.h. */
#pragma once

#include "output/diff.h"
#include "output/tree_priv.h"

#include <stdint.h>

struct profile;

/* Of a function, or of a node of the tree. */
struct diff_count {
	uint64_t self[2], total[2]; /* by enum diff_side; of functions, `total` counts the outermost calls */
	bool self_changed, total_changed; /* by more than chance */
};

struct diff {
	struct profile *profile; /* of both: counts are sums */
	const char *names[2];
	uint64_t samples[2], bad_lines[2];
	VEC(uint64_t) self[2];   /* by node of the profile */
	struct tree tree;
	struct diff_count *nodes, *functions; /* by node and frame of the tree */
};

/* The change of its share, in points: 100 * (after - before). */
double diff_points(const struct diff *diff, const uint64_t counts[2]);

struct strbuf;
/* "3 functions grew and 1 shrank by more than ..." */
void diff_summary(const struct diff *diff, struct strbuf *text);
bool diff_mark_changes(struct diff *diff); /* false: out of memory */

extern const struct diff_format diff_format_text, diff_format_collapsed, diff_format_html;
