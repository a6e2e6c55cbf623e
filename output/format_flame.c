/*
 * A flame graph in the cells of a terminal, the root at the bottom, where the prompt is. In colour where a terminal
 * shows it; else frames are told apart by lines.
 */
#include "output/format.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "output/flame_priv.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/text_priv.h"
#include "output/write_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MIN_COLUMNS = 40, DEFAULT_COLUMNS = 100, MAX_COLUMNS = 400, MAX_ROWS = 500, MIN_TOP = 4, MIN_CUT = 5 };

enum colours { NO_COLOURS, COLOURS_256, COLOURS_RGB };

struct picture {
	struct tree tree;
	struct flame flame;
	struct strbuf text, cell;
	uint64_t columns;
	enum colours colours;
	bool utf8;
};

static void picture_deinit(struct picture *p)
{
	flame_deinit(&p->flame);
	tree_deinit(&p->tree);
	strbuf_deinit(&p->text);
	strbuf_deinit(&p->cell);
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value;
}

/* no-color.org, and what terminals say of themselves. */
static enum colours find_colours(bool terminal)
{
	const char *term = getenv("TERM"), *more = getenv("COLORTERM");

	if (!terminal || is_set("NO_COLOR") || !term || !*term || !strcmp(term, "dumb"))
		return NO_COLOURS;
	return more && (!strcmp(more, "truecolor") || !strcmp(more, "24bit")) ? COLOURS_RGB : COLOURS_256;
}

/* The variable that decides is the first that is set (POSIX, XBD 8.2). */
static bool find_utf8(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
	}
	return false;
}

static uint64_t find_columns(const struct profile_view *view)
{
	const char *env = getenv("COLUMNS");
	long value = view->columns;

	if (value <= 0 && env)
		value = strtol(env, NULL, 10);
	if (value <= 0)
		value = DEFAULT_COLUMNS;
	return value < MIN_COLUMNS ? MIN_COLUMNS : value > MAX_COLUMNS ? MAX_COLUMNS : (uint64_t)value;
}

/* The column where so many samples from the left are. */
static uint64_t column(const struct picture *p, uint64_t samples)
{
	double at = (double)samples / (double)p->flame.total[0] * (double)p->columns;

	return at >= (double)p->columns ? p->columns : (uint64_t)(at + 0.5);
}

/* What the terminal cannot show is '?'; names are escaped, so valid UTF-8. */
static void add_name(struct picture *p, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x80 || p->utf8)
			strbuf_char(&p->cell, *text);
		else if ((c & 0xc0) != 0x80)
			strbuf_char(&p->cell, '?');
	}
}

static unsigned int cube(uint32_t part)
{
	return part < 48 ? 0 : part < 115 ? 1 : (part - 35) / 40;
}

/* Dark text on the frame's colour; a 6 x 6 x 6 cube where there are 256 (xterm's ctlseqs, SGR 48). */
static void add_colour(struct picture *p, uint32_t rgb)
{
	if (p->colours == COLOURS_RGB)
		strbuf_printf(&p->text, "\033[38;2;19;25;36;48;2;%u;%u;%um", rgb >> 16, rgb >> 8 & 255, rgb & 255);
	else if (p->colours == COLOURS_256)
		strbuf_printf(&p->text, "\033[38;5;16;48;5;%um",
			      16 + 36 * cube(rgb >> 16) + 6 * cube(rgb >> 8 & 255) + cube(rgb & 255));
}

static void end_colour(struct picture *p)
{
	if (p->colours != NO_COLOURS)
		strbuf_str(&p->text, "\033[0m");
}

/* The name, and its share where there is room for both. */
static void describe(struct picture *p, uint32_t node, size_t room)
{
	strbuf_clear(&p->cell);
	add_name(p, node ? tree_frame(&p->tree, node)->text : "all");
	if (!p->cell.failed && text_columns(p->cell.data) + 10 <= room) {
		strbuf_str(&p->cell, "  ");
		text_percent(&p->cell, p->flame.total[node], p->flame.total[0]);
	}
	p->text.failed |= p->cell.failed;
}

static void add_frame(struct picture *p, uint32_t node, size_t width)
{
	bool coloured = p->colours != NO_COLOURS;
	const char *fill = coloured ? " " : p->utf8 ? "─" : "-";
	size_t room = width - 1, columns, used = 0;

	describe(p, node, room);
	if (p->text.failed)
		return;
	if (coloured)
		add_colour(p, node ? flame_colour(tree_frame(&p->tree, node), false)
				   : flame_kind_colour(FLAME_LABEL, 0, false));
	strbuf_str(&p->text, !p->utf8 ? "|" : coloured ? "▏" : "│");
	columns = text_columns(p->cell.data);
	if (columns <= room || room >= MIN_CUT) {
		text_left(&p->text, p->cell.data, room, columns > room);
		used = columns < room ? columns : room;
	}
	for (; used < room; used++)
		strbuf_str(&p->text, fill);
	end_colour(p);
}

/* The nodes order[first] .. order[end - 1] are the row's. Those of less than a column share none. */
static void add_row(struct picture *p, size_t first, size_t end)
{
	uint64_t at = 0;

	for (size_t i = first; i < end; i++) {
		uint32_t node = p->flame.order[i];
		uint64_t from = column(p, p->flame.from[node]);
		uint64_t to = column(p, p->flame.from[node] + p->flame.total[node]);

		from = from < at ? at : from;
		if (to <= from)
			continue;
		for (; at < from; at++)
			strbuf_char(&p->text, ' ');
		add_frame(p, node, (size_t)(to - from));
		at = to;
	}
	strbuf_char(&p->text, '\n');
}

/* Rows above the last with a frame that is wide enough for a word tell nothing. */
static size_t worth_drawing(const struct picture *p)
{
	size_t end = p->flame.num;

	while (end > 1) {
		uint32_t node = p->flame.order[end - 1];

		if (p->flame.depth[node] < MAX_ROWS &&
		    column(p, p->flame.from[node] + p->flame.total[node]) >= column(p, p->flame.from[node]) + MIN_TOP)
			break;
		end--;
	}
	/* The whole row of that frame. */
	while (end < p->flame.num &&
	       p->flame.depth[p->flame.order[end]] == p->flame.depth[p->flame.order[end - 1]])
		end++;
	return end;
}

/* `order` has one depth after the other; the deepest is drawn first. */
static void add_rows(struct picture *p)
{
	size_t end = worth_drawing(p);

	while (end) {
		uint32_t depth = p->flame.depth[p->flame.order[end - 1]];
		size_t first = end;

		while (first && p->flame.depth[p->flame.order[first - 1]] == depth)
			first--;
		add_row(p, first, end);
		end = first;
	}
}

static void add_legend(struct picture *p)
{
	uint64_t sums[FLAME_NUM_KINDS];
	bool coloured = p->colours != NO_COLOURS;
	size_t used = 0;

	flame_kind_sums(&p->tree, sums);
	for (int kind = 0; kind < FLAME_NUM_KINDS; kind++) {
		size_t width;

		if (!sums[kind])
			continue;
		strbuf_clear(&p->cell);
		strbuf_printf(&p->cell, "%s ", flame_kind_name((enum flame_kind)kind));
		text_percent(&p->cell, sums[kind], p->flame.total[0]);
		width = p->cell.len + (coloured ? 3 : 0);
		if (used)
			strbuf_str(&p->text, used + 3 + width > p->columns ? "\n" : "   ");
		used = used && used + 3 + width <= p->columns ? used + 3 + width : width;
		add_colour(p, flame_kind_colour((enum flame_kind)kind, 1, false));
		strbuf_str(&p->text, coloured ? "  " : "");
		end_colour(p);
		strbuf_str(&p->text, coloured ? " " : "");
		text_left(&p->text, p->cell.failed ? "" : p->cell.data, p->columns, false);
		p->text.failed |= p->cell.failed;
	}
	strbuf_char(&p->text, '\n');
}

static void add_words(struct picture *p, const struct profile_stats *stats)
{
	strbuf_clear(&p->cell);
	quality_title(stats, &p->cell);
	if (p->cell.len) {
		text_wrap(&p->text, "", p->cell.data, p->cell.len, p->columns);
		strbuf_clear(&p->cell);
	}
	quality_lines(stats, &p->cell);
	p->text.failed |= p->cell.failed;
	for (const char *line = p->cell.data, *end; line && (end = strchr(line, '\n')); line = end + 1)
		text_wrap(&p->text, "", line, (size_t)(end - line), p->columns);
}

static int write_flame(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	_cleanup_(picture_deinit) struct picture p = { 0 };
	int r;

	p.colours = find_colours(view->columns > 0);
	p.columns = find_columns(view);
	p.utf8 = find_utf8();
	r = tree_init(&p.tree, profile, view, TREE_FOR_PICTURE, err);
	if (!r)
		r = flame_init(&p.flame, &p.tree, stacks_total(profile->stacks) / p.columns / 2, err);
	if (r < 0)
		return r;
	if (p.flame.total[0]) {
		add_rows(&p);
		add_legend(&p);
	} else {
		strbuf_str(&p.text, "No stacks.\n");
	}
	add_words(&p, &profile->stats);
	r = write_text(out, &p.text, err);
	return r < 0 ? r : write_end(out, err);
}

static const char *const extensions[] = { NULL };

const struct format format_flame = {
	.name = "flame",
	.description = "flame graph in the terminal",
	.extensions = extensions,
	.write = write_flame,
};
