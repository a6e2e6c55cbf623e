/* What a person wants to see first, as text: where the time went and how far to believe it. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/count_priv.h"
#include "output/format.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/text_priv.h"
#include "output/tree_priv.h"
#include "output/write_priv.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_COLUMNS = 80, DEFAULT_COLUMNS = 100, MAX_COLUMNS = 200 };
enum { MAX_FUNCTIONS = 25, MAX_LABELS = 15 };
enum { PERCENT_COLUMNS = 7 };

/* One row of a table: a function or a label. */
struct row {
	const struct tree_frame *frame;
	uint64_t self;  /* samples that end in it */
	uint64_t total; /* samples it is part of, however often */
};

/* A node the walk is inside of. */
struct inside {
	uint32_t node;
	uint32_t next; /* index of the next child in kids */
};

struct report {
	struct tree tree;
	struct row *rows;   /* by frame of the tree */
	uint64_t *below;    /* by node: samples at or below it */
	uint32_t *depth;    /* by frame: how many times the walk is inside it */
	VEC(struct inside) path;
	uint64_t total;
	size_t columns;
	struct strbuf text, cell;
};

static void report_deinit(struct report *report)
{
	tree_deinit(&report->tree);
	free(report->rows);
	free(report->below);
	free(report->depth);
	vec_deinit(&report->path);
	strbuf_deinit(&report->text);
	strbuf_deinit(&report->cell);
}

static size_t columns(void)
{
	const char *env = getenv("COLUMNS");
	long value = env ? strtol(env, NULL, 10) : 0;

	if (value <= 0)
		return DEFAULT_COLUMNS;
	if (value < MIN_COLUMNS)
		return MIN_COLUMNS;
	return value > MAX_COLUMNS ? MAX_COLUMNS : (size_t)value;
}

/* Children come after their parents, so one pass from the end sums every subtree. */
static void sum_below(struct report *report)
{
	for (size_t i = stacks_num_nodes(report->tree.stacks); i > 0; i--) {
		const struct stacks_node *node = stacks_node(report->tree.stacks, (uint32_t)i);

		report->below[i] = count_add(report->below[i], node->self);
		report->below[node->parent] = count_add(report->below[node->parent], report->below[i]);
	}
}

static bool enter(struct report *report, uint32_t node)
{
	const struct stacks_node *entered = stacks_node(report->tree.stacks, node);
	struct row *row = &report->rows[entered->frame];
	struct inside inside = { .node = node, .next = report->tree.first[node] };

	row->self = count_add(row->self, entered->self);
	/* Inside itself a function has been counted by its outermost call. */
	if (node && !report->depth[entered->frame]++)
		row->total = count_add(row->total, report->below[node]);
	return vec_push(&report->path, inside);
}

/* Depth first without recursion: stacks are as deep as the target likes. */
static bool sum_functions(struct report *report)
{
	if (!enter(report, 0))
		return false;
	while (report->path.len) {
		struct inside *last = &report->path.data[report->path.len - 1];

		if (last->next < report->tree.first[last->node + 1]) {
			if (!enter(report, report->tree.kids[last->next++]))
				return false;
			continue;
		}
		if (last->node)
			report->depth[stacks_node(report->tree.stacks, last->node)->frame]--;
		report->path.len--;
	}
	return true;
}

static int report_init(struct report *report, const struct profile *profile,
		       const struct profile_view *view, struct err *err)
{
	size_t num_frames;
	int r;

	r = tree_init(&report->tree, profile, view, TREE_BY_FUNCTION, err);
	if (r < 0)
		return r;
	num_frames = report->tree.frames.len;
	report->rows = calloc(num_frames, sizeof(*report->rows));
	report->depth = calloc(num_frames, sizeof(*report->depth));
	report->below = calloc(stacks_num_nodes(report->tree.stacks) + 1, sizeof(*report->below));
	if (!report->rows || !report->depth || !report->below)
		return err_oom(err);
	for (size_t i = 0; i < num_frames; i++)
		report->rows[i].frame = &report->tree.frames.data[i];
	report->total = stacks_total(report->tree.stacks);
	report->columns = columns();
	sum_below(report);
	return sum_functions(report) ? 0 : err_oom(err);
}

static int by_text(const struct row *a, const struct row *b)
{
	int ret = strcmp(a->frame->text, b->frame->text);

	return ret ? ret : strcmp(a->frame->module, b->frame->module);
}

static int by_self(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->self != y->self ? (x->self < y->self ? 1 : -1) : by_text(x, y);
}

static int by_total(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->total != y->total ? (x->total < y->total ? 1 : -1) : by_text(x, y);
}

/* What was put into `cell`. Clearing it forgets that memory ran out, so the whole text remembers. */
static const char *cell_text(struct report *report)
{
	report->text.failed |= report->cell.failed;
	return report->cell.failed || !report->cell.len ? "" : report->cell.data;
}

static void right_count(struct report *report, uint64_t count, size_t width)
{
	strbuf_clear(&report->cell);
	text_count(&report->cell, count);
	text_right(&report->text, cell_text(report), width);
}

static void right_percent(struct report *report, uint64_t count)
{
	strbuf_clear(&report->cell);
	text_percent(&report->cell, count, report->total);
	text_right(&report->text, cell_text(report), PERCENT_COLUMNS);
}

/* Wide enough for every count there can be, and for its heading. */
static size_t count_columns(struct report *report)
{
	strbuf_clear(&report->cell);
	text_count(&report->cell, report->total);
	return strlen(cell_text(report)) > strlen("samples") ? report->cell.len : strlen("samples");
}

static bool is_function(const struct row *row)
{
	return row->frame->kind != FRAME_LABEL && row->frame->kind != FRAME_MARK;
}

static bool is_label(const struct row *row)
{
	return row->frame->kind == FRAME_LABEL;
}

struct table {
	struct row *rows;
	size_t num;
	size_t shown;
};

/* The rows of one kind in order. Frame 0 is no frame. */
static bool table_init(struct table *table, const struct report *report, size_t max,
		       bool (*wanted)(const struct row *row),
		       int (*order)(const void *a, const void *b), bool self)
{
	*table = (struct table){ .rows = calloc(report->tree.frames.len, sizeof(*table->rows)) };
	if (!table->rows)
		return false;
	for (size_t i = 1; i < report->tree.frames.len; i++) {
		const struct row *row = &report->rows[i];

		if (wanted(row) && (self ? row->self : row->total))
			table->rows[table->num++] = *row;
	}
	qsort(table->rows, table->num, sizeof(*table->rows), order);
	table->shown = table->num < max ? table->num : max;
	return true;
}

static void table_deinit(struct table *table)
{
	free(table->rows);
}

static void and_more(struct report *report, const struct table *table)
{
	if (table->num == table->shown)
		return;
	strbuf_str(&report->text, "  and ");
	text_count(&report->text, table->num - table->shown);
	strbuf_str(&report->text, " more\n");
}

static size_t module_columns(const struct report *report, const struct table *table)
{
	size_t max = report->columns / 4, ret = strlen("module");

	for (size_t i = 0; i < table->shown; i++) {
		size_t width = text_columns(table->rows[i].frame->module);

		if (width > ret)
			ret = width;
	}
	return ret < max ? ret : max;
}

static void function_row(struct report *report, const struct row *row, uint64_t count, size_t width,
			 size_t name_columns)
{
	size_t modules = report->columns - (2 + 2 * (PERCENT_COLUMNS + 2) + width + 2 + name_columns + 2);
	bool has_module = *row->frame->module;

	strbuf_str(&report->text, "  ");
	right_percent(report, row->self);
	strbuf_str(&report->text, "  ");
	right_percent(report, row->total);
	strbuf_str(&report->text, "  ");
	right_count(report, count, width);
	strbuf_str(&report->text, "  ");
	text_name(&report->text, row->frame->text, name_columns, has_module);
	if (has_module) {
		strbuf_str(&report->text, "  ");
		text_left(&report->text, row->frame->module, modules, false);
	}
	strbuf_char(&report->text, '\n');
}

static bool function_table(struct report *report, const char *title, bool self)
{
	_cleanup_(table_deinit) struct table table = { 0 };
	size_t width = count_columns(report);
	size_t fixed = 2 + 2 * (PERCENT_COLUMNS + 2) + width + 2 + 2;
	size_t name_columns;

	if (!table_init(&table, report, MAX_FUNCTIONS, is_function, self ? by_self : by_total, self))
		return false;
	if (!table.num)
		return true;
	name_columns = report->columns - fixed - module_columns(report, &table);
	strbuf_printf(&report->text, "\n%s\n  %*s  %*s  %*s  ", title, PERCENT_COLUMNS, "self",
		      PERCENT_COLUMNS, "total", (int)width, "samples");
	text_left(&report->text, "function", name_columns, true);
	strbuf_str(&report->text, "  module\n");
	for (size_t i = 0; i < table.shown; i++) {
		const struct row *row = &table.rows[i];

		function_row(report, row, self ? row->self : row->total, width, name_columns);
	}
	and_more(report, &table);
	return true;
}

/* Only the labels right below the root: a thread's label below them is a part of its process. */
static void keep_first_labels(struct report *report)
{
	for (size_t i = 1; i < report->tree.frames.len; i++)
		report->rows[i].total = 0;
	for (uint32_t i = report->tree.first[0]; i < report->tree.first[1]; i++) {
		uint32_t node = report->tree.kids[i];

		report->rows[stacks_node(report->tree.stacks, node)->frame].total = report->below[node];
	}
}

static bool label_table(struct report *report)
{
	_cleanup_(table_deinit) struct table table = { 0 };
	size_t width = count_columns(report);

	keep_first_labels(report);
	if (!table_init(&table, report, MAX_LABELS, is_label, by_total, false))
		return false;
	if (!table.num)
		return true;
	strbuf_printf(&report->text, "\nShare per process\n  %*s  %*s  process\n", PERCENT_COLUMNS, "share",
		      (int)width, "samples");
	for (size_t i = 0; i < table.shown; i++) {
		strbuf_str(&report->text, "  ");
		right_percent(report, table.rows[i].total);
		strbuf_str(&report->text, "  ");
		right_count(report, table.rows[i].total, width);
		strbuf_str(&report->text, "  ");
		text_left(&report->text, table.rows[i].frame->text,
			  report->columns - (2 + PERCENT_COLUMNS + 2 + width + 2), false);
		strbuf_char(&report->text, '\n');
	}
	and_more(report, &table);
	return true;
}

static void headline(struct report *report, const struct profile_stats *stats)
{
	const char *text;

	strbuf_clear(&report->cell);
	quality_title(stats, &report->cell);
	text = cell_text(report);
	text_wrap(&report->text, "", text, strlen(text), report->columns);
}

static bool quality(struct report *report, const struct profile_stats *stats)
{
	_cleanup_(strbuf_deinit) struct strbuf lines = { 0 };

	quality_lines(stats, &lines);
	if (lines.failed)
		return false;
	strbuf_str(&report->text, "\nQuality\n");
	for (const char *line = lines.data, *end; line && *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			break;
		text_wrap(&report->text, "  ", line, (size_t)(end - line), report->columns);
	}
	return true;
}

static int write_report(const struct profile *profile, const struct profile_view *view, FILE *out,
			struct err *err)
{
	_cleanup_(report_deinit) struct report report = { 0 };
	int r;

	r = report_init(&report, profile, view, err);
	if (r < 0)
		return r;
	headline(&report, &profile->stats);
	if (!report.total)
		strbuf_str(&report.text, "\nNo stacks.\n");
	if (!function_table(&report, "Hottest functions by self", true) ||
	    !function_table(&report, "Hottest functions by total", false) || !label_table(&report) ||
	    !quality(&report, &profile->stats))
		return err_oom(err);
	r = write_text(out, &report.text, err);
	return r < 0 ? r : write_end(out, err);
}

static const char *const extensions[] = { NULL };

const struct format format_report = {
	.name = "report",
	.description = "text: hottest functions, share per process, quality",
	.extensions = extensions,
	.write = write_report,
};
