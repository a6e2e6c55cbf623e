/* --stats: one flat object; what is counted by a name is an object of its own. */
#include "base/cleanup.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/format.h"
#include "output/profile.h"
#include "output/text_priv.h"
#include "output/write_priv.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define NUM_OF(array) (sizeof(array) / sizeof((array)[0]))

struct key {
	const char *name;
	size_t offset; /* in struct profile_stats */
};

#define KEY(field) { #field, offsetof(struct profile_stats, field) }

static const struct key counts[] = {
	KEY(samples),        KEY(idle),            KEY(kernel_only),   KEY(complete),
	KEY(truncated),      KEY(lost),            KEY(throttled),     KEY(spliced), KEY(switched),
	KEY(user_stacks),    KEY(frames),          KEY(unknown_frames), KEY(jit_frames),
	KEY(jit_named),      KEY(kernel_frames),   KEY(distinct_stacks), KEY(no_method_starts),
	KEY(unwind_ns),      KEY(symbolize_ns),    KEY(peak_rss_kib),  KEY(side_lost),
	KEY(malformed),      KEY(unresolved_files), KEY(unresolved_samples),
};

static const struct key seconds[] = { KEY(wall_s), KEY(cpu_s) };
static const struct key numbers[] = { KEY(stack_bytes), KEY(freq) };
static const struct key texts[] = { KEY(event), KEY(targets) };

static const void *field(const struct profile_stats *stats, const struct key *key)
{
	return (const char *)stats + key->offset;
}

static void name_of(struct strbuf *ret, const char *name)
{
	strbuf_printf(ret, "  \"%s\": ", name);
}

static void text_value(struct strbuf *ret, const char *text)
{
	if (text)
		escape_json(ret, text, strlen(text));
	else
		strbuf_str(ret, "null");
}

static void plain_values(struct strbuf *ret, const struct profile_stats *stats)
{
	for (size_t i = 0; i < NUM_OF(counts); i++) {
		name_of(ret, counts[i].name);
		strbuf_printf(ret, "%" PRIu64 ",\n", *(const uint64_t *)field(stats, &counts[i]));
	}
	for (size_t i = 0; i < NUM_OF(seconds); i++) {
		name_of(ret, seconds[i].name);
		text_seconds(ret, *(const double *)field(stats, &seconds[i]));
		strbuf_str(ret, ",\n");
	}
	for (size_t i = 0; i < NUM_OF(numbers); i++) {
		name_of(ret, numbers[i].name);
		strbuf_printf(ret, "%" PRIu32 ",\n", *(const uint32_t *)field(stats, &numbers[i]));
	}
	for (size_t i = 0; i < NUM_OF(texts); i++) {
		name_of(ret, texts[i].name);
		text_value(ret, *(const char *const *)field(stats, &texts[i]));
		strbuf_str(ret, ",\n");
	}
}

static void member(struct strbuf *ret, bool *first, const char *name, uint64_t count)
{
	strbuf_str(ret, *first ? "\n    " : ",\n    ");
	escape_json(ret, name, strlen(name));
	strbuf_printf(ret, ": %" PRIu64, count);
	*first = false;
}

/* Reasons that have a name; `whole` is more where there were too many to list. */
static void named_counts(struct strbuf *ret, const char *name, const struct profile_count *list, size_t num,
			 uint64_t whole)
{
	uint64_t sum = 0;
	bool first = true;

	name_of(ret, name);
	strbuf_char(ret, '{');
	for (size_t i = 0; i < num && list[i].name; i++) {
		sum = count_add(sum, list[i].count);
		if (list[i].count)
			member(ret, &first, list[i].name, list[i].count);
	}
	if (whole > sum)
		member(ret, &first, "other", whole - sum);
	strbuf_str(ret, first ? "},\n" : "\n  },\n");
}

static void runtimes_value(struct strbuf *ret, const struct profile_stats *stats)
{
	size_t i = 0;

	name_of(ret, "runtimes");
	strbuf_char(ret, '{');
	for (; i < NUM_OF(stats->runtimes) && stats->runtimes[i].name; i++) {
		const struct profile_runtime *r = &stats->runtimes[i];

		strbuf_str(ret, i ? ",\n    " : "\n    ");
		escape_json(ret, r->name, strlen(r->name));
		strbuf_printf(ret,
			      ": {\"frames\": %" PRIu64 ", \"named\": %" PRIu64 ", \"reads\": %" PRIu64
			      ", \"read_ns\": %" PRIu64 ", \"precompiled\": %" PRIu64 ", \"by_frame_pointer\": %" PRIu64 "}",
			      r->frames, r->named, r->reads, r->read_ns, r->precompiled, r->by_frame_pointer);
	}
	strbuf_str(ret, i ? "\n  },\n" : "},\n");
}

static void notes_value(struct strbuf *ret, const struct profile_stats *stats)
{
	size_t i = 0;

	name_of(ret, "notes");
	strbuf_char(ret, '[');
	for (; i < NUM_OF(stats->notes) && stats->notes[i]; i++) {
		strbuf_str(ret, i ? ",\n    " : "\n    ");
		text_value(ret, stats->notes[i]);
	}
	strbuf_str(ret, i ? "\n  ]\n" : "]\n");
}

int stats_write_json(const struct profile *profile, FILE *out, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const struct profile_stats *stats = &profile->stats;
	int r;

	strbuf_str(&text, "{\n");
	plain_values(&text, stats);
	named_counts(&text, "broken", stats->broken_by, NUM_OF(stats->broken_by), stats->broken);
	named_counts(&text, "refused", stats->refused_by, NUM_OF(stats->refused_by), 0);
	runtimes_value(&text, stats);
	notes_value(&text, stats);
	strbuf_str(&text, "}\n");
	r = write_text(out, &text, err);
	return r < 0 ? r : write_end(out, err);
}
