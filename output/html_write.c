/*
 * The data of the page: JSON whose long lists are packed (packed_priv.h). Read by html/model.js.
 *
 *	title, quality [line], grade, freq, total, start_ms (since 1970), command, names [text], modules [text], frames [[module, kind]], count,
 *	nodes    for each: how far its parent is behind it, its frame, the samples that end in it;
 *	         of a comparison also those before, and whether it changed by more than chance
 *	time     bins, bin_ns, samples: for each bin the number of pairs, then node (less the one before), samples
 *	before   of a comparison: samples before; changed_self: 0 or 1 by frame
 */
#include "output/html_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/intern.h"
#include "base/vec.h"
#include "output/flame_priv.h"
#include "output/packed_priv.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <string.h>

/* Of the strip of time: more would be narrower than a pixel. */
enum { MAX_BINS = 1200 };
static const uint64_t MIN_BIN_NS = 1000000;

struct writer {
	const struct html_page *page;
	struct strbuf text; /* JSON; collected, as packed lists are not whole lines */
	struct intern *modules;
	uint32_t *bin_nodes; /* of the samples, in their order */
};

static void writer_deinit(struct writer *w)
{
	strbuf_deinit(&w->text);
	intern_free(w->modules);
	free(w->bin_nodes);
}

static void add_string(struct writer *w, const char *text)
{
	escape_json(&w->text, text, strlen(text));
}

static void add_names(struct writer *w)
{
	const struct tree *tree = w->page->tree;

	strbuf_str(&w->text, ",\n\"names\":[");
	for (size_t i = 1; i < tree->frames.len; i++) {
		strbuf_str(&w->text, i > 1 ? ",\n" : "\n");
		add_string(w, tree->frames.data[i].text);
	}
	strbuf_str(&w->text, "]");
}

static bool add_frames(struct writer *w)
{
	const struct tree *tree = w->page->tree;

	strbuf_str(&w->text, ",\n\"frames\":[");
	for (size_t i = 1; i < tree->frames.len; i++) {
		const struct tree_frame *frame = &tree->frames.data[i];
		uint32_t module = intern_id(w->modules, frame->module, strlen(frame->module));

		if (module == UINT32_MAX)
			return false;
		strbuf_printf(&w->text, "%s[%u,%d]", i > 1 ? "," : "", module, (int)flame_kind(frame));
	}
	strbuf_str(&w->text, "],\n\"modules\":[");
	for (uint32_t i = 0; i < intern_count(w->modules); i++) {
		strbuf_str(&w->text, i ? "," : "");
		add_string(w, intern_get(w->modules, i));
	}
	strbuf_str(&w->text, "]");
	return true;
}

static void add_nodes(struct writer *w)
{
	const struct stacks *stacks = w->page->tree->stacks;
	const struct html_before *before = w->page->before;
	struct packed packed = { .out = &w->text };
	size_t num = stacks_num_nodes(stacks);

	strbuf_printf(&w->text, ",\n\"count\":%zu,\"nodes\":\"", num);
	for (size_t i = 1; i <= num; i++) {
		const struct stacks_node *node = stacks_node(stacks, (uint32_t)i);

		packed_add(&packed, i - node->parent);
		packed_add(&packed, node->frame - 1);
		packed_add(&packed, before ? node->self - before->self[i] : node->self);
		if (before) {
			packed_add(&packed, before->self[i]);
			packed_add(&packed, before->changed[i]);
		}
	}
	packed_end(&packed);
	strbuf_char(&w->text, '"');
}

static int compare_nodes(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The nodes of one bin's samples: sorted, and each told once with its number. */
static void add_bin(struct packed *packed, uint32_t *nodes, size_t num)
{
	size_t distinct = 0;
	uint32_t last = 0;

	qsort(nodes, num, sizeof(*nodes), compare_nodes);
	for (size_t i = 0; i < num; i++)
		distinct += !i || nodes[i] != nodes[i - 1];
	packed_add(packed, distinct);
	for (size_t i = 0, next; i < num; i = next) {
		for (next = i + 1; next < num && nodes[next] == nodes[i]; next++)
			;
		packed_add(packed, nodes[i] - last);
		packed_add(packed, next - i);
		last = nodes[i];
	}
}

static bool add_time(struct writer *w)
{
	const struct profile *p = w->page->profile;
	struct packed packed = { .out = &w->text };
	uint64_t start, span, bin_ns, bins;

	if (!p || !p->samples.len)
		return true;
	w->bin_nodes = calloc(p->samples.len, sizeof(*w->bin_nodes));
	if (!w->bin_nodes)
		return false;
	for (size_t i = 0; i < p->samples.len; i++)
		w->bin_nodes[i] = w->page->tree->became[p->samples.data[i].node];
	start = p->samples.data[0].time_ns; /* they are in time order */
	span = p->samples.data[p->samples.len - 1].time_ns - start;
	bin_ns = span / MAX_BINS + 1;
	bin_ns = bin_ns < MIN_BIN_NS ? MIN_BIN_NS : bin_ns;
	bins = span / bin_ns + 1;
	strbuf_printf(&w->text, ",\n\"time\":{\"bins\":%" PRIu64 ",\"bin_ns\":%" PRIu64 ",\"samples\":\"", bins,
		      bin_ns);
	for (size_t bin = 0, i = 0; bin < bins; bin++) {
		size_t first = i;

		while (i < p->samples.len && (p->samples.data[i].time_ns - start) / bin_ns <= bin)
			i++;
		add_bin(&packed, w->bin_nodes + first, i - first);
	}
	packed_end(&packed);
	strbuf_str(&w->text, "\"}");
	return true;
}

static void add_before(struct writer *w)
{
	const struct html_before *before = w->page->before;

	if (!before)
		return;
	strbuf_printf(&w->text, ",\n\"before\":%" PRIu64 ",\"changed_self\":[", before->total);
	for (size_t i = 1; i < w->page->tree->frames.len; i++)
		strbuf_printf(&w->text, "%s%d", i > 1 ? "," : "", before->changed_self[i]);
	strbuf_char(&w->text, ']');
}

/* The lines that say what this is and how far to believe it. */
static bool add_head(struct writer *w, const char *title)
{
	_cleanup_(strbuf_deinit) struct strbuf lines = { 0 };
	const struct html_page *page = w->page;
	uint64_t total = stacks_total(page->tree->stacks);
	const char *comma = "";

	strbuf_str(&w->text, "{\"title\":");
	add_string(w, title);
	strbuf_str(&w->text, ",\n\"quality\":[");
	if (page->notes) {
		for (size_t i = 0; page->notes[i]; i++)
			strbuf_printf(&lines, "%s\n", page->notes[i]);
	} else {
		quality_lines(page->stats, &lines);
	}
	for (const char *line = lines.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
		strbuf_str(&w->text, comma);
		escape_json(&w->text, line, (size_t)(end - line));
		comma = ",\n";
	}
	strbuf_printf(&w->text, "],\n\"grade\":\"%s\",\"freq\":%u,\"total\":%" PRIu64,
		      page->notes ? "good" : quality_grade(page->stats), page->notes ? 0 : page->stats->freq,
		      page->before ? total - page->before->total : total);
	if (page->stats->start_ns)
		strbuf_printf(&w->text, ",\"start_ms\":%" PRIu64, page->stats->start_ns / 1000000);
	if (page->stats->command) {
		strbuf_str(&w->text, ",\"command\":");
		add_string(w, page->stats->command);
	}
	return !lines.failed;
}

static bool escape_markup(struct strbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
			strbuf_printf(out, "&#%d;", *text);
		else
			strbuf_char(out, *text);
	}
	return !out->failed;
}

static int write_page(struct writer *w, const char *title, FILE *out, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf escaped = { 0 };
	int r;

	if (!escape_markup(&escaped, title))
		return err_oom(err);
	r = write_bytes(out, html_before_title, strlen(html_before_title), err);
	r = r < 0 ? r : write_text(out, &escaped, err);
	r = r < 0 ? r : write_bytes(out, html_before_data, strlen(html_before_data), err);
	r = r < 0 ? r : write_text(out, &w->text, err);
	r = r < 0 ? r : write_bytes(out, html_after_data, strlen(html_after_data), err);
	return r < 0 ? r : write_end(out, err);
}

int html_write(const struct html_page *page, FILE *out, struct err *err)
{
	_cleanup_(writer_deinit) struct writer w = { .page = page, .modules = intern_new() };
	_cleanup_(strbuf_deinit) struct strbuf made = { 0 };
	const char *title = page->title;

	if (!title) {
		quality_title(page->stats, &made);
		title = made.len && !made.failed ? made.data : "profile";
	}
	if (!w.modules || made.failed || !add_head(&w, title))
		return err_oom(err);
	add_names(&w);
	if (!add_frames(&w))
		return err_oom(err);
	add_nodes(&w);
	if (!add_time(&w))
		return err_oom(err);
	add_before(&w);
	strbuf_char(&w.text, '}');
	return write_page(&w, title, out, err);
}
