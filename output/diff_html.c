/* The page of html/, which shows two profiles as well as one. */
#include "output/diff_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "output/html_priv.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/text_priv.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 200 };

struct page {
	uint64_t *self;
	uint8_t *changed, *changed_self;
	struct strbuf title, lines[3];
};

static void page_deinit(struct page *page)
{
	free(page->self);
	free(page->changed);
	free(page->changed_self);
	strbuf_deinit(&page->title);
	for (size_t i = 0; i < 3; i++)
		strbuf_deinit(&page->lines[i]);
}

static void add_samples(const struct diff *diff, enum diff_side side, struct strbuf *line)
{
	text_count(line, diff->samples[side]);
	strbuf_str(line, diff->samples[side] == 1 ? " sample " : " samples ");
	strbuf_str(line, side == DIFF_BEFORE ? "before" : "after");
}

static void add_name(const struct diff *diff, enum diff_side side, struct strbuf *line)
{
	const char *name = diff->names[side] ? diff->names[side] : "-";

	escape_line(line, name, strlen(name), MAX_NAME);
}

static bool fill(const struct diff *diff, struct page *page)
{
	size_t nodes = stacks_num_nodes(diff->tree.stacks) + 1, frames = diff->tree.frames.len;
	bool failed = false;

	page->self = calloc(nodes, sizeof(*page->self));
	page->changed = calloc(nodes, sizeof(*page->changed));
	page->changed_self = calloc(frames, sizeof(*page->changed_self));
	if (!page->self || !page->changed || !page->changed_self)
		return false;
	for (size_t i = 1; i < nodes; i++) {
		page->self[i] = diff->nodes[i].self[DIFF_BEFORE];
		page->changed[i] = diff->nodes[i].total_changed;
	}
	for (size_t i = 1; i < frames; i++)
		page->changed_self[i] = diff->functions[i].self_changed;
	add_name(diff, DIFF_BEFORE, &page->title);
	strbuf_str(&page->title, " → ");
	add_name(diff, DIFF_AFTER, &page->title);
	add_samples(diff, DIFF_BEFORE, &page->lines[0]);
	strbuf_str(&page->lines[0], ", ");
	add_samples(diff, DIFF_AFTER, &page->lines[0]);
	diff_summary(diff, &page->lines[1]);
	strbuf_str(&page->lines[2], "Chance: Fisher's exact test of each share, of all that is said to have changed at most "
				    "1 % is (Benjamini and Hochberg). Samples are taken to be independent; two runs of one "
				    "program may differ by more than that.");
	for (size_t i = 0; i < 3; i++)
		failed |= page->lines[i].failed;
	return !failed && !page->title.failed;
}

static int write_html(const struct diff *diff, unsigned int columns, FILE *out, struct err *err)
{
	_cleanup_(page_deinit) struct page page = { 0 };
	const char *notes[4] = { NULL };
	struct html_before before;
	struct html_page html = { .tree = &diff->tree, .stats = &diff->profile->stats, .notes = notes };

	if (!fill(diff, &page))
		return err_oom(err);
	before = (struct html_before){ page.self, page.changed, page.changed_self, diff->samples[DIFF_BEFORE] };
	html.before = &before;
	html.title = page.title.data;
	for (size_t i = 0; i < 3; i++)
		notes[i] = page.lines[i].data;
	return html_write(&html, out, err);
}

static const char *const extensions[] = { ".html", ".htm", NULL };

const struct diff_format diff_format_html = { "html", extensions, write_html };
