#include "test/output/fixture.h"

#include "base/err.h"
#include "base/intern.h"
#include "output/format.h"
#include "output/stacks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = 10, MAX_DEPTH = 64 };

struct line {
	const char *path;
	unsigned int number;
	char *fields[MAX_FIELDS];
	size_t num;
};

static _Noreturn void bad(const struct line *line, const char *what)
{
	fprintf(stderr, "%s:%u: %s\n", line->path, line->number, what);
	exit(1);
}

static uint64_t number(const struct line *line, const char *text)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (end == text || *end)
		bad(line, "not a number");
	return value;
}

/* \xHH in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned int byte;

		if (from[0] == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
			*to = (char)byte;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static void split(struct line *line, char *text)
{
	line->num = 0;
	text[strcspn(text, "\n")] = '\0';
	while (text) {
		if (line->num == MAX_FIELDS)
			bad(line, "too many fields");
		line->fields[line->num++] = strsep(&text, "\t");
	}
	for (size_t i = 0; i < line->num; i++)
		unescape(line->fields[i]);
}

static const char *text_field(const struct line *line, struct profile *p, size_t i)
{
	const char *ret;

	if (i >= line->num || !strcmp(line->fields[i], "-"))
		return NULL;
	ret = intern_str(p->strings, line->fields[i]);
	if (!ret)
		bad(line, "out of memory");
	return ret;
}

static void add_frame(const struct line *line, struct profile *p)
{
	static const char *const kinds[] = {
		[FRAME_LABEL] = "label",     [FRAME_NATIVE] = "native",   [FRAME_KERNEL] = "kernel",
		[FRAME_JIT] = "jit",         [FRAME_INLINED] = "inlined", [FRAME_UNKNOWN] = "unknown",
		[FRAME_MARK] = "mark",
	};
	struct profile_frame frame = {
		.name = text_field(line, p, 2),
		.module = text_field(line, p, 3),
		.path = text_field(line, p, 4),
	};
	size_t kind = 0;

	while (kind < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[kind], line->fields[1]))
		kind++;
	if (kind == sizeof(kinds) / sizeof(kinds[0]))
		bad(line, "unknown kind of frame");
	frame.kind = (enum frame_kind)kind;
	frame.addr = line->num > 5 ? strtoull(line->fields[5], NULL, 16) : 0;
	frame.offset = line->num > 6 ? strtoull(line->fields[6], NULL, 16) : 0;
	frame.place = line->num > 7 ? strtoull(line->fields[7], NULL, 16) : 0;
	frame.build_id = text_field(line, p, 8);
	if (!vec_push(&p->frames, frame))
		bad(line, "out of memory");
}

/* The node where it ends. */
static uint32_t add_frames(const struct line *line, struct profile *p, char *ids, uint64_t count)
{
	uint32_t root_first[MAX_DEPTH], leaf_first[MAX_DEPTH], node;
	size_t num = 0;
	char *id;

	while ((id = strsep(&ids, " "))) {
		if (num == MAX_DEPTH)
			bad(line, "too deep");
		root_first[num] = (uint32_t)number(line, id);
		if (!root_first[num] || root_first[num] >= p->frames.len)
			bad(line, "no such frame");
		num++;
	}
	for (size_t i = 0; i < num; i++)
		leaf_first[i] = root_first[num - 1 - i];
	if (!stacks_add_node(p->stacks, leaf_first, num, count, &node))
		bad(line, "out of memory");
	return node;
}

/* Texts are interned, so equal ones are the same. */
static uint32_t comm_index(const struct line *line, struct profile *p)
{
	const char *comm = text_field(line, p, 7);

	for (size_t i = 0; i < p->comms.len; i++) {
		if (p->comms.data[i] == comm)
			return (uint32_t)i;
	}
	if (!vec_push(&p->comms, comm))
		bad(line, "out of memory");
	return (uint32_t)p->comms.len - 1;
}

static void add_sample(const struct line *line, struct profile *p)
{
	struct profile_sample sample = { .place = UINT32_MAX };

	if (line->num < 9)
		bad(line, "too few fields");
	sample.time_ns = number(line, line->fields[1]);
	sample.period = number(line, line->fields[2]);
	sample.cpu = strcmp(line->fields[3], "-") ? (uint32_t)number(line, line->fields[3]) : UINT32_MAX;
	sample.pid = (pid_t)strtol(line->fields[4], NULL, 10);
	sample.tid = (pid_t)strtol(line->fields[5], NULL, 10);
	sample.event = (uint32_t)number(line, line->fields[6]);
	if (line->num > 9)
		sample.place = (uint32_t)number(line, line->fields[9]);
	sample.node = add_frames(line, p, line->fields[8], 1);
	sample.comm = comm_index(line, p);
	if (!vec_push(&p->samples, sample))
		bad(line, "out of memory");
}

#define COUNT(field) { #field, offsetof(struct profile_stats, field) }

static void set_stat(const struct line *line, struct profile *p)
{
	static const struct {
		const char *name;
		size_t offset;
	} counts[] = {
		COUNT(samples), COUNT(idle), COUNT(kernel_only), COUNT(complete), COUNT(truncated),
		COUNT(broken), COUNT(lost), COUNT(throttled), COUNT(spliced), COUNT(no_method_starts),
		COUNT(user_stacks), COUNT(frames), COUNT(unknown_frames), COUNT(jit_frames),
		COUNT(jit_named), COUNT(kernel_frames), COUNT(distinct_stacks), COUNT(unwind_ns),
		COUNT(symbolize_ns), COUNT(peak_rss_kib), COUNT(side_lost), COUNT(malformed),
		COUNT(unresolved_files), COUNT(start_ns),
	};
	const char *key = line->fields[1];
	struct profile_stats *s = &p->stats;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (strcmp(counts[i].name, key))
			continue;
		*(uint64_t *)((char *)s + counts[i].offset) = number(line, line->fields[2]);
		return;
	}
	if (!strcmp(key, "wall_s"))
		s->wall_s = strtod(line->fields[2], NULL);
	else if (!strcmp(key, "cpu_s"))
		s->cpu_s = strtod(line->fields[2], NULL);
	else if (!strcmp(key, "stack_bytes"))
		s->stack_bytes = (uint32_t)number(line, line->fields[2]);
	else if (!strcmp(key, "freq"))
		s->freq = (uint32_t)number(line, line->fields[2]);
	else if (!strcmp(key, "event"))
		s->event = text_field(line, p, 2);
	else if (!strcmp(key, "targets"))
		s->targets = text_field(line, p, 2);
	else
		bad(line, "unknown stat");
}

static void add_count(const struct line *line, struct profile *p, struct profile_count *list, size_t max)
{
	size_t i = 0;

	while (i < max && list[i].name)
		i++;
	if (i == max)
		bad(line, "too many");
	list[i].name = text_field(line, p, 1);
	list[i].count = number(line, line->fields[2]);
}

static void add_note(const struct line *line, struct profile *p)
{
	size_t i = 0;

	while (i < 16 && p->stats.notes[i])
		i++;
	if (i == 16)
		bad(line, "too many");
	p->stats.notes[i] = text_field(line, p, 1);
}

static void take(const struct line *line, struct profile *p)
{
	const char *what = line->fields[0];

	if (line->num < (strcmp(what, "note") && strcmp(what, "event") && strcmp(what, "place") ? 3 : 2))
		bad(line, "too few fields");
	if (!strcmp(what, "stat"))
		set_stat(line, p);
	else if (!strcmp(what, "broken"))
		add_count(line, p, p->stats.broken_by, 24);
	else if (!strcmp(what, "refused"))
		add_count(line, p, p->stats.refused_by, 16);
	else if (!strcmp(what, "note"))
		add_note(line, p);
	else if (!strcmp(what, "frame"))
		add_frame(line, p);
	else if (!strcmp(what, "stack"))
		add_frames(line, p, line->fields[2], number(line, line->fields[1]));
	else if (!strcmp(what, "sample"))
		add_sample(line, p);
	else if (!strcmp(what, "place") && vec_push(&p->places, text_field(line, p, 1)))
		return;
	else if (!strcmp(what, "event") && vec_push(&p->events, text_field(line, p, 1)))
		return;
	else
		bad(line, "unknown item");
}

struct profile *fixture_load(const char *path)
{
	struct line line = { .path = path };
	struct profile *p = NULL;
	FILE *in = fopen(path, "r");
	char *text = NULL;
	size_t cap = 0;

	if (!in || profile_new(&p, NULL) < 0)
		bad(&line, "cannot open");
	while (getline(&text, &cap, in) >= 0) {
		line.number++;
		if (*text == '#' || *text == '\n')
			continue;
		split(&line, text);
		take(&line, p);
	}
	free(text);
	fclose(in);
	return p;
}

typedef int write_fn(const struct profile *profile, const struct profile_view *view, FILE *out,
		     struct err *err);

static int write_stats(const struct profile *profile, const struct profile_view *view, FILE *out,
		       struct err *err)
{
	return stats_write_json(profile, out, err);
}

static char *render(const struct profile *profile, write_fn *write, const struct profile_view *view,
		    size_t *ret_len)
{
	struct err err = { 0 };
	char *ret = NULL;
	FILE *out = open_memstream(&ret, ret_len);

	if (!out || write(profile, view, out, &err) < 0) {
		fprintf(stderr, "cannot render: %s\n", err.msg);
		exit(1);
	}
	fclose(out);
	return ret;
}

char *fixture_render(const struct profile *profile, const struct format *format,
		     const struct profile_view *view, size_t *ret_len)
{
	return render(profile, format->write, view, ret_len);
}

char *fixture_stats(const struct profile *profile, size_t *ret_len)
{
	return render(profile, write_stats, NULL, ret_len);
}
