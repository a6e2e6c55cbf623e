/* What grew and what shrank, for people and for flamegraph.pl. */
#include "output/diff_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "output/text_priv.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 20, DEFAULT_COLUMNS = 100, MIN_COLUMNS = 80, MAX_COLUMNS = 200, MAX_NAME = 1024, PERCENT = 7 };

struct table {
	const struct diff *diff;
	bool self;      /* of the samples that end in a function; else of all that it is part of */
	bool grew;
	size_t columns, count_columns;
	struct strbuf *text;
	struct strbuf cell;
	uint32_t *rows; /* frames of the tree */
	size_t num;
};

static const uint64_t *pair_of(const struct table *t, uint32_t frame)
{
	const struct diff_count *count = &t->diff->functions[frame];

	return t->self ? count->self : count->total;
}

static bool changed(const struct table *t, uint32_t frame)
{
	const struct diff_count *count = &t->diff->functions[frame];

	return t->self ? count->self_changed : count->total_changed;
}

static int by_points(const void *a, const void *b, void *data)
{
	const struct table *t = data;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	double p = diff_points(t->diff, pair_of(t, x)), q = diff_points(t->diff, pair_of(t, y));

	if (p != q)
		return (p < q) == t->grew ? 1 : -1;
	return strcmp(t->diff->tree.frames.data[x].text, t->diff->tree.frames.data[y].text);
}

static bool collect(struct table *t)
{
	const struct tree *tree = &t->diff->tree;

	t->rows = calloc(tree->frames.len + 1, sizeof(*t->rows));
	if (!t->rows)
		return false;
	for (uint32_t i = 1; i < tree->frames.len; i++) {
		double points = diff_points(t->diff, pair_of(t, i));

		/* The share of a process is what its functions add up to: told by total alone. */
		if (t->self && tree->frames.data[i].kind == FRAME_LABEL)
			continue;
		if (t->grew ? points > 0 : points < 0)
			t->rows[t->num++] = i;
	}
	qsort_r(t->rows, t->num, sizeof(*t->rows), by_points, t);
	return true;
}

static void flush_cell(struct table *t, size_t width)
{
	strbuf_str(t->text, "  ");
	t->text->failed |= t->cell.failed;
	text_right(t->text, t->cell.len ? t->cell.data : "", width);
	strbuf_clear(&t->cell);
}

/* "+1.23": points to hundredths, the same in every locale. */
static void add_points(struct strbuf *out, double points, bool is_changed)
{
	double size = points < 0 ? -points : points;
	uint64_t hundredths = (uint64_t)(size * 100 + 0.5);

	strbuf_printf(out, "%s%c%" PRIu64 ".%02u", is_changed ? "" : "~", points < 0 ? '-' : '+', hundredths / 100,
		      (unsigned int)(hundredths % 100));
}

static void add_row(struct table *t, uint32_t frame)
{
	const uint64_t *pair = pair_of(t, frame);
	size_t used = 2 + 8 + 2 * (2 + PERCENT) + 2 * (2 + t->count_columns) + 2;

	add_points(&t->cell, diff_points(t->diff, pair), changed(t, frame));
	flush_cell(t, 8);
	for (int side = 0; side < 2; side++) {
		text_percent(&t->cell, pair[side], t->diff->samples[side]);
		flush_cell(t, PERCENT);
	}
	for (int side = 0; side < 2; side++) {
		text_count(&t->cell, pair[side]);
		flush_cell(t, t->count_columns);
	}
	strbuf_str(t->text, "  ");
	text_name(t->text, t->diff->tree.frames.data[frame].text, t->columns - used, false);
	strbuf_char(t->text, '\n');
}

static bool add_table(const struct diff *diff, bool self, bool grew, size_t columns, struct strbuf *text)
{
	struct table t = { .diff = diff, .self = self, .grew = grew, .columns = columns, .text = text };
	uint64_t most = diff->samples[0] > diff->samples[1] ? diff->samples[0] : diff->samples[1];
	bool ok = collect(&t);

	text_count(&t.cell, most);
	t.count_columns = t.cell.len > 6 ? t.cell.len : 6;
	text->failed |= t.cell.failed;
	strbuf_clear(&t.cell);
	if (ok && t.num) {
		strbuf_printf(text, "\n%s by %s\n  %8s  %*s  %*s  %*s  %*s  function\n", grew ? "Grew" : "Shrank",
			      self ? "self" : "total", "points", PERCENT, "before", PERCENT, "after",
			      (int)t.count_columns, "before", (int)t.count_columns, "after");
		for (size_t i = 0; i < t.num && i < MAX_ROWS; i++)
			add_row(&t, t.rows[i]);
		if (t.num > MAX_ROWS) {
			strbuf_str(text, "  and ");
			text_count(text, t.num - MAX_ROWS);
			strbuf_str(text, " more\n");
		}
	}
	strbuf_deinit(&t.cell);
	free(t.rows);
	return ok;
}

static void add_side(const struct diff *diff, enum diff_side side, struct strbuf *text)
{
	const char *name = diff->names[side] ? diff->names[side] : "-";

	strbuf_str(text, side == DIFF_BEFORE ? "before  " : "after   ");
	escape_line(text, name, strlen(name), MAX_NAME);
	strbuf_str(text, ": ");
	text_count(text, diff->samples[side]);
	strbuf_str(text, diff->samples[side] == 1 ? " sample" : " samples");
	if (diff->bad_lines[side]) {
		strbuf_str(text, ", ");
		text_count(text, diff->bad_lines[side]);
		strbuf_str(text, diff->bad_lines[side] == 1 ? " line" : " lines");
		strbuf_str(text, " not understood");
	}
	strbuf_char(text, '\n');
}

void diff_summary(const struct diff *diff, struct strbuf *text)
{
	uint64_t grew = 0, shrank = 0, chance = 0;

	for (size_t i = 1; i < diff->tree.frames.len; i++) {
		double points = diff_points(diff, diff->functions[i].self);

		grew += diff->functions[i].self_changed && points > 0;
		shrank += diff->functions[i].self_changed && points < 0;
		chance += !diff->functions[i].self_changed && points != 0;
	}
	strbuf_printf(text, "%" PRIu64 " function%s grew and %" PRIu64 " shrank by more than the chance of sampling explains; %" PRIu64
		      " changed within it (~)",
		      grew, grew == 1 ? "" : "s", shrank, chance);
}

static size_t find_columns(unsigned int terminal)
{
	const char *env = getenv("COLUMNS");
	long value = terminal ? (long)terminal : env ? strtol(env, NULL, 10) : 0;

	if (value <= 0)
		return DEFAULT_COLUMNS;
	return value < MIN_COLUMNS ? MIN_COLUMNS : value > MAX_COLUMNS ? MAX_COLUMNS : (size_t)value;
}

static int write_text_format(const struct diff *diff, unsigned int terminal, FILE *out, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 }, line = { 0 };
	size_t columns = find_columns(terminal);
	int r;

	add_side(diff, DIFF_BEFORE, &text);
	add_side(diff, DIFF_AFTER, &text);
	diff_summary(diff, &line);
	if (line.failed)
		return err_oom(err);
	text_wrap(&text, "", line.data, line.len, columns);
	for (int i = 0; i < 4; i++) {
		if (!add_table(diff, i < 2, i % 2 == 0, columns, &text))
			return err_oom(err);
	}
	r = write_text(out, &text, err);
	return r < 0 ? r : write_end(out, err);
}

/* "stack BEFORE AFTER" */

struct lines {
	VEC(char *) list;
};

static void lines_deinit(struct lines *lines)
{
	for (size_t i = 0; i < lines->list.len; i++)
		free(lines->list.data[i]);
	vec_deinit(&lines->list);
}

/* What was counted before, in samples of the second profile: flamegraph.pl colours by the difference. */
static uint64_t normalised(const struct diff *diff, uint64_t before)
{
	if (!diff->samples[DIFF_BEFORE])
		return before;
	return (uint64_t)((double)before * (double)diff->samples[DIFF_AFTER] / (double)diff->samples[DIFF_BEFORE] + 0.5);
}

static bool add_line(const struct diff *diff, uint32_t leaf, struct lines *lines)
{
	static const struct profile_view view = { 0 };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const struct diff_count *count = &diff->nodes[leaf];
	VEC(uint32_t) path = { 0 };
	char *copy;
	bool ok = true;

	for (uint32_t node = leaf; ok && node; node = stacks_node(diff->tree.stacks, node)->parent)
		ok = vec_push(&path, node);
	for (size_t i = path.len; ok && i > 0; i--) {
		const struct tree_frame *frame = tree_frame(&diff->tree, path.data[i - 1]);
		const struct profile_frame plain = { .name = frame->text, .kind = frame->kind };

		profile_frame_text(&plain, &view, &text);
		strbuf_str(&text, i > 1 ? ";" : "");
	}
	vec_deinit(&path);
	strbuf_printf(&text, " %" PRIu64 " %" PRIu64 "\n", normalised(diff, count->self[DIFF_BEFORE]),
		      count->self[DIFF_AFTER]);
	copy = ok && !text.failed ? strdup(text.data) : NULL;
	if (!copy || !vec_push(&lines->list, copy)) {
		free(copy);
		return false;
	}
	return true;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int write_collapsed_format(const struct diff *diff, unsigned int terminal, FILE *out, struct err *err)
{
	_cleanup_(lines_deinit) struct lines lines = { 0 };
	int r = 0;

	for (uint32_t i = 1; i <= stacks_num_nodes(diff->tree.stacks); i++) {
		const struct diff_count *count = &diff->nodes[i];

		if ((count->self[DIFF_BEFORE] || count->self[DIFF_AFTER]) && !add_line(diff, i, &lines))
			return err_oom(err);
	}
	if (lines.list.len)
		qsort(lines.list.data, lines.list.len, sizeof(lines.list.data[0]), by_bytes);
	for (size_t i = 0; i < lines.list.len && r == 0; i++)
		r = write_bytes(out, lines.list.data[i], strlen(lines.list.data[i]), err);
	return r < 0 ? r : write_end(out, err);
}

static const char *const no_extensions[] = { NULL };
static const char *const collapsed_extensions[] = { ".folded", ".collapsed", ".txt", NULL };

const struct diff_format diff_format_text = { "text", no_extensions, write_text_format };
const struct diff_format diff_format_collapsed = { "collapsed", collapsed_extensions, write_collapsed_format };
