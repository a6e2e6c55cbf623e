/*
 * A flame graph as a picture that any browser shows: no script, tooltips by <title>, light or dark as the viewer is.
 * Browsers are slow with tens of thousands of elements. So only what is wide enough to be pointed at is a box with a
 * tooltip; what is narrower is in one path for all frames of a row and colour, and what could not be seen is left out
 * and counted.
 */
#include "output/format.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/flame_priv.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/text_priv.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Pixels, but for MAX_ROWS. A character of the 11 px monospaced font is 6.6 wide. */
enum { WIDTH = 1200, MARGIN = 10, ROW = 17, HEAD = 52, FOOT = 34, MAX_ROWS = 1000, MIN_CUT = 5, FLUSH_BYTES = 65536 };
static const double CHAR_WIDTH = 6.65;
/* Narrower is not drawn; makes no row of its own; has no tooltip, which is raised where there would be too many. */
static const double MIN_WIDTH = 0.1, ROW_WIDTH = 0.5, BOX_WIDTH = 3;
enum { MAX_FRAMES = 200000, MAX_BOXES = 30000, NUM_CLASSES = FLAME_NUM_KINDS * FLAME_SHADES };

struct svg {
	struct tree tree;
	struct flame flame;
	struct strbuf text, cell;
	struct strbuf thin[NUM_CLASSES]; /* paths of the row at hand, by kind and shade */
	FILE *out;
	uint32_t rows;
	double scale; /* pixels for a sample */
	uint64_t box; /* samples of the narrowest box */
	size_t hidden; /* frames that are not drawn */
};

static void svg_deinit(struct svg *svg)
{
	flame_deinit(&svg->flame);
	tree_deinit(&svg->tree);
	strbuf_deinit(&svg->text);
	strbuf_deinit(&svg->cell);
	for (int i = 0; i < NUM_CLASSES; i++)
		strbuf_deinit(&svg->thin[i]);
}

/* Text as XML takes it: what is left of names has no control characters, but may have U+FFFE and U+FFFF. */
static void add_escaped(struct strbuf *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"'", *text)) {
			strbuf_printf(out, "&#%d;", *text);
		} else if (!strncmp(text, "\xef\xbf\xbe", 3) || !strncmp(text, "\xef\xbf\xbf", 3)) {
			strbuf_char(out, '?');
			text += 2;
		} else {
			strbuf_char(out, *text);
		}
	}
}

/* Hundredths of a pixel as an integer, so that no locale has a say. */
static uint64_t hundredths(double value)
{
	return value > 0 ? (uint64_t)(value * 100 + 0.5) : 0;
}

static void add_pixels(struct strbuf *out, uint64_t value)
{
	if (value >= 100 || !value)
		strbuf_printf(out, "%" PRIu64, value / 100);
	if (value % 10)
		strbuf_printf(out, ".%02u", (unsigned int)(value % 100));
	else if (value % 100)
		strbuf_printf(out, ".%u", (unsigned int)(value % 100 / 10));
}

static void add_cell(struct svg *svg)
{
	svg->text.failed |= svg->cell.failed;
	if (svg->cell.len)
		add_escaped(&svg->text, svg->cell.data);
	strbuf_clear(&svg->cell);
}

static void add_rules(struct svg *svg, bool dark)
{
	for (int kind = 0; kind < FLAME_NUM_KINDS; kind++) {
		for (unsigned int shade = 0; shade < FLAME_SHADES; shade++)
			strbuf_printf(&svg->text, ".k%d.s%u{fill:#%06x}", kind, shade,
				      flame_kind_colour((enum flame_kind)kind, shade, dark));
		strbuf_char(&svg->text, '\n');
	}
}

static void add_style(struct svg *svg)
{
	strbuf_str(&svg->text, "<style>\n"
			       "text{font:11px ui-monospace,\"DejaVu Sans Mono\",Menlo,Consolas,monospace;fill:#131924}\n"
			       ".title{font:600 15px system-ui,\"DejaVu Sans\",sans-serif}\n"
			       ".soft{font:12px system-ui,\"DejaVu Sans\",sans-serif;fill:#5d6778}\n"
			       ":root{background:#fff}.ground{fill:#fff}g rect{rx:1.5px}\n"
			       "g text{pointer-events:none}\n"
			       "g:hover rect{stroke:#131924;stroke-width:.7}\n");
	add_rules(svg, false);
	strbuf_str(&svg->text, "@media(prefers-color-scheme:dark){\n"
			       "text{fill:#f3f5fa}.soft{fill:#929db0}:root{background:#12151b}.ground{fill:#12151b}g:hover rect{stroke:#fff}\n");
	add_rules(svg, true);
	strbuf_str(&svg->text, "}\n</style>\n");
}

static void add_head(struct svg *svg, const struct profile_stats *stats)
{
	uint32_t height = HEAD + svg->rows * ROW + FOOT + (svg->hidden ? ROW : 0);
	char *end;

	strbuf_printf(&svg->text,
		      "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n"
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" viewBox=\"0 0 %d %u\">\n",
		      WIDTH, height, WIDTH, height);
	/* Without a title of the document's own, Blink looks through the whole document for one at each tooltip's. */
	quality_title(stats, &svg->cell);
	strbuf_str(&svg->text, "<title>");
	add_cell(svg);
	strbuf_str(&svg->text, "</title>\n");
	add_style(svg);
	strbuf_str(&svg->text, "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n");
	strbuf_printf(&svg->text, "<text class=\"title\" x=\"%d\" y=\"22\">", MARGIN);
	quality_title(stats, &svg->cell);
	add_cell(svg);
	strbuf_printf(&svg->text, "</text>\n<text class=\"soft\" x=\"%d\" y=\"40\">", MARGIN);
	quality_lines(stats, &svg->cell);
	end = svg->cell.len ? strchr(svg->cell.data, '\n') : NULL;
	if (end) {
		*end = '\0';
		svg->cell.len = (size_t)(end - svg->cell.data);
	}
	add_cell(svg);
	strbuf_str(&svg->text, "</text>\n");
}

static void add_tooltip(struct svg *svg, const char *name, const char *where, uint64_t total, uint64_t self)
{
	uint64_t whole = svg->flame.total[0];

	strbuf_str(&svg->text, "<title>");
	add_escaped(&svg->text, name);
	if (*where) {
		strbuf_str(&svg->text, "&#10;");
		add_escaped(&svg->text, where);
	}
	strbuf_str(&svg->text, "&#10;");
	text_percent(&svg->cell, total, whole);
	strbuf_str(&svg->cell, ", ");
	text_count(&svg->cell, total);
	strbuf_str(&svg->cell, total == 1 ? " sample" : " samples");
	if (self && self != total) {
		strbuf_str(&svg->cell, ", self ");
		text_percent(&svg->cell, self, whole);
	}
	add_cell(svg);
	strbuf_str(&svg->text, "</title>");
}

static void add_box(struct svg *svg, uint32_t node, const char *name, enum flame_kind kind, unsigned int shade)
{
	double x = MARGIN + (double)svg->flame.from[node] * svg->scale;
	double width = (double)svg->flame.total[node] * svg->scale;
	uint32_t y = HEAD + (svg->rows - 1 - svg->flame.depth[node]) * ROW;
	size_t chars = width > 6 ? (size_t)((width - 6) / CHAR_WIDTH) : 0;

	strbuf_str(&svg->text, "<rect x=\"");
	add_pixels(&svg->text, hundredths(x));
	strbuf_printf(&svg->text, "\" y=\"%u\" width=\"", y);
	add_pixels(&svg->text, hundredths(width - 0.5));
	strbuf_printf(&svg->text, "\" height=\"%d\" class=\"k%d s%u\"/>", ROW - 1, (int)kind, shade);
	if (chars < 2 || (chars < MIN_CUT && text_columns(name) > chars))
		return;
	strbuf_str(&svg->text, "<text x=\"");
	add_pixels(&svg->text, hundredths(x + 3));
	strbuf_printf(&svg->text, "\" y=\"%u\">", y + 12);
	text_left(&svg->cell, name, chars, false);
	add_cell(svg);
	strbuf_str(&svg->text, "</text>");
}

/* Both edges are rounded by themselves, so that neighbours neither overlap nor leave a gap. */
static void add_thin(struct svg *svg, uint32_t node, enum flame_kind kind, unsigned int shade)
{
	struct strbuf *path = &svg->thin[(unsigned int)kind * FLAME_SHADES + shade];
	double left = MARGIN + (double)svg->flame.from[node] * svg->scale;
	uint64_t from = hundredths(left), to = hundredths(left + (double)svg->flame.total[node] * svg->scale);

	strbuf_char(path, 'M');
	add_pixels(path, from);
	strbuf_printf(path, " %uh", HEAD + (svg->rows - 1 - svg->flame.depth[node]) * ROW);
	add_pixels(path, to - from);
	strbuf_printf(path, "v%dh-", ROW - 1);
	add_pixels(path, to - from);
	strbuf_char(path, 'z');
}

static void end_row(struct svg *svg)
{
	for (unsigned int i = 0; i < NUM_CLASSES; i++) {
		struct strbuf *path = &svg->thin[i];

		svg->text.failed |= path->failed;
		if (path->len)
			strbuf_printf(&svg->text, "<path class=\"k%u s%u\" d=\"%s\"/>\n", i / FLAME_SHADES, i % FLAME_SHADES,
				      path->data);
		strbuf_clear(path);
	}
}

static void add_frame(struct svg *svg, uint32_t node)
{
	const struct stacks_node *at = stacks_node(svg->tree.stacks, node);
	const struct tree_frame *frame = node ? tree_frame(&svg->tree, node) : NULL;
	const char *name = frame ? frame->text : "all";
	enum flame_kind kind = frame ? flame_kind(frame) : FLAME_LABEL;
	unsigned int shade = frame ? flame_shade(frame) : 0;

	if (svg->flame.total[node] < svg->box) {
		add_thin(svg, node, kind, shade);
		return;
	}
	strbuf_str(&svg->text, "<g>");
	add_tooltip(svg, name, frame ? frame->module : "", svg->flame.total[node], node ? at->self : 0);
	add_box(svg, node, name, kind, shade);
	strbuf_str(&svg->text, "</g>\n");
}

static void add_legend(struct svg *svg)
{
	uint32_t y = HEAD + svg->rows * ROW + 12;
	uint64_t sums[FLAME_NUM_KINDS];
	unsigned int x = MARGIN;

	flame_kind_sums(&svg->tree, sums);
	for (int kind = 0; kind < FLAME_NUM_KINDS; kind++) {
		const char *name = flame_kind_name((enum flame_kind)kind);

		if (!sums[kind])
			continue;
		strbuf_printf(&svg->text, "<rect x=\"%u\" y=\"%u\" width=\"11\" height=\"11\" rx=\"2\" class=\"k%d s1\"/>", x, y,
			      kind);
		strbuf_printf(&svg->text, "<text class=\"soft\" x=\"%u\" y=\"%u\">%s ", x + 16, y + 10, name);
		text_percent(&svg->cell, sums[kind], svg->flame.total[0]);
		add_cell(svg);
		strbuf_str(&svg->text, "</text>\n");
		x += 84 + 7 * (unsigned int)strlen(name);
	}
	if (svg->hidden) {
		text_count(&svg->cell, svg->hidden);
		strbuf_printf(&svg->text,
			      "<text class=\"soft\" x=\"%d\" y=\"%u\">%s %s too narrow or too high to be drawn</text>\n",
			      MARGIN, y + 10 + ROW, svg->cell.data ? svg->cell.data : "",
			      svg->hidden == 1 ? "frame is" : "frames are");
		strbuf_clear(&svg->cell);
	}
	strbuf_str(&svg->text, "</svg>\n");
}

static int flush(struct svg *svg, bool all, struct err *err)
{
	int r = 0;

	if (all || svg->text.len >= FLUSH_BYTES || svg->text.failed) {
		r = write_text(svg->out, &svg->text, err);
		strbuf_clear(&svg->text);
	}
	return r;
}

static size_t num_wider(const struct svg *svg, uint64_t least)
{
	size_t num = 0;

	for (size_t i = 0; i < svg->flame.num; i++)
		num += svg->flame.total[svg->flame.order[i]] >= least;
	return num;
}

/* The samples that are at least so wide. */
static uint64_t at_least(const struct svg *svg, double pixels)
{
	double samples = svg->scale > 0 ? pixels / svg->scale : 0;
	uint64_t whole = (uint64_t)samples;

	return samples > (double)whole || !whole ? whole + 1 : whole;
}

/* How many rows there are, and what is a box. */
static void choose(struct svg *svg, uint64_t least)
{
	uint64_t row = at_least(svg, ROW_WIDTH);
	size_t drawn = 0;

	svg->box = at_least(svg, BOX_WIDTH);
	while (num_wider(svg, svg->box) > MAX_BOXES)
		svg->box += svg->box / 4 + 1;
	for (size_t i = 0; i < svg->flame.num; i++) {
		uint32_t node = svg->flame.order[i], depth = svg->flame.depth[node];

		drawn += svg->flame.total[node] >= least;
		if (drawn > MAX_FRAMES || depth >= MAX_ROWS)
			break;
		if (svg->flame.total[node] >= row)
			svg->rows = depth + 1;
	}
}

static bool is_drawn(const struct svg *svg, uint32_t node, uint64_t least)
{
	return !node || (svg->flame.total[node] >= least && svg->flame.depth[node] < svg->rows);
}

static int write_svg(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	_cleanup_(svg_deinit) struct svg svg = { .out = out, .rows = 1 };
	const uint32_t *order;
	uint64_t least;
	double total;
	int r = tree_init(&svg.tree, profile, view, TREE_FOR_PICTURE, err);

	if (r < 0)
		return r;
	total = (double)stacks_total(svg.tree.stacks);
	svg.scale = total > 0 ? (WIDTH - 2 * MARGIN) / total : 0;
	r = flame_init(&svg.flame, &svg.tree, 0, err);
	if (r < 0)
		return r;
	least = at_least(&svg, MIN_WIDTH);
	choose(&svg, least);
	order = svg.flame.order;
	for (size_t i = 0; i < svg.flame.num; i++)
		svg.hidden += !is_drawn(&svg, order[i], least);
	add_head(&svg, &profile->stats);
	for (size_t i = 0; i < svg.flame.num && r == 0; i++) {
		if (i && svg.flame.depth[order[i]] != svg.flame.depth[order[i - 1]])
			end_row(&svg);
		if (is_drawn(&svg, order[i], least))
			add_frame(&svg, order[i]);
		r = flush(&svg, false, err);
	}
	end_row(&svg);
	add_legend(&svg);
	r = r < 0 ? r : flush(&svg, true, err);
	return r < 0 ? r : write_end(out, err);
}

static const char *const extensions[] = { ".svg", NULL };

const struct format format_svg = {
	.name = "svg",
	.description = "flame graph as a picture, without script",
	.extensions = extensions,
	.write = write_svg,
};
