/* The page that shows a profile, and how its data is told. The page is made of html/ when building (html/embed.py). */
#pragma once

#include "base/strbuf.h"
#include "output/tree_priv.h"

#include <stdint.h>
#include <stdio.h>

struct err;
struct profile_stats;

/* Texts, ended by a NUL. Between them stand the title and the data. */
extern const char html_before_title[], html_before_data[], html_after_data[];

/* Of a comparison: by node of the tree, the samples of the first profile, and whether the difference is more than chance. */
struct html_before {
	const uint64_t *self;
	const uint8_t *changed;      /* by node, of all at and below it */
	const uint8_t *changed_self; /* by frame, of what ends in it */
	uint64_t total;
};

struct html_page {
	const struct tree *tree;
	const struct profile_stats *stats; /* for its title and quality */
	const char *title;                 /* NULL: made of the stats */
	const char *const *notes;          /* lines instead of the quality, the first as the summary; NULL ends; NULL = none */
	const struct profile *profile;     /* for its samples; NULL = no strip of time */
	const struct html_before *before;  /* NULL: no comparison */
};

int html_write(const struct html_page *page, FILE *out, struct err *err);
