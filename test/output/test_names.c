/*
 * 100,000 random names through every writer: what comes out has no control byte, and a reader of collapsed
 * stacks finds every frame and every count again.
 */
#include "base/intern.h"
#include "output/format.h"
#include "output/stacks.h"
#include "test/check.h"
#include "test/output/fixture.h"

enum { NUM_NAMES = 100000, MAX_DEPTH = 6 };

static uint64_t seed = 42;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

/* Pieces that mean something to somebody, and any byte. */
static const char *random_name(struct profile *p)
{
	static const char *const pieces[] = {
		";", "\n", " ", " 1", " 2.5", "\r", "\x1b[31m", "\xe2\x80\xae", "\xe2\x80\xa8", "\xc2\x9b",
		"\xff", "\xf0\x9f\x92\xa9", "caf\xc3\xa9", "\"", "\\", "<", "&", "a", "foo", "_[k]", "#", "[", "]",
		"/", "\t", "12", ".", "-", "\xc3", "\xed\xa0\x80",
	};
	char name[64] = "";
	size_t len = 0, num = rnd(7);

	for (size_t i = 0; i < num; i++) {
		const char *piece = pieces[rnd(sizeof(pieces) / sizeof(pieces[0]))];

		if (rnd(8) == 0) {
			name[len++] = (char)(1 + rnd(255));
			continue;
		}
		memcpy(name + len, piece, strlen(piece));
		len += strlen(piece);
	}
	return intern_mem(p->strings, name, len);
}

static struct profile *random_profile(uint64_t *weighted_depth)
{
	struct profile *p;

	CHECK(profile_new(&p, NULL) == 0);
	for (int i = 0; i < NUM_NAMES; i++) {
		struct profile_frame frame = { .kind = (enum frame_kind)rnd(FRAME_MARK + 1) };

		if (rnd(6))
			frame.name = random_name(p);
		if (rnd(3))
			frame.module = random_name(p);
		CHECK(vec_push(&p->frames, frame));
	}
	*weighted_depth = 0;
	for (uint32_t i = 1; i <= NUM_NAMES; i++) {
		uint32_t ids[MAX_DEPTH] = { i }, num = 1 + rnd(MAX_DEPTH);
		uint64_t count = 1 + rnd(1000);

		for (uint32_t k = 1; k < num; k++)
			ids[k] = 1 + rnd(NUM_NAMES);
		CHECK(stacks_add(p->stacks, ids, num, count));
		*weighted_depth += num * count;
	}
	return p;
}

/* As flamegraph.pl: /^(.*)\s+?(\d+(?:\.\d*)?)$/ must match once, not twice, and split(";") gives the frames. */
static bool ends_in_number(const char *line, const char *end, const char **ret)
{
	const char *at = end;

	while (at > line && at[-1] >= '0' && at[-1] <= '9')
		at--;
	if (at > line && at[-1] == '.') {
		const char *dot = at - 1;

		for (at = dot; at > line && at[-1] >= '0' && at[-1] <= '9';)
			at--;
		if (at == dot)
			return false;
	}
	if (at == end || at == line || at[-1] != ' ')
		return false;
	*ret = at;
	return true;
}

static void check_line(const char *line, const char *end, uint64_t *sum, uint64_t *weighted_depth)
{
	const char *count = NULL, *again;
	uint64_t frames = 1, value;

	CHECK_MSG(ends_in_number(line, end, &count), "%.*s", (int)(end - line), line);
	if (!count)
		return;
	CHECK_MSG(!ends_in_number(line, count - 1, &again), "%.*s", (int)(end - line), line);
	value = strtoull(count, NULL, 10);
	CHECK(line[0] != ';' && line[0] != ' ' && count[-2] != ';' && count[-2] != ' ');
	for (const char *at = line; at < count; at++) {
		frames += *at == ';';
		CHECK(*at != ';' || at[1] != ';');
	}
	*sum += value;
	*weighted_depth += frames * value;
}

static void check_bytes(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		CHECK((c >= 0x20 || c == '\n') && c != 0x7f);
		CHECK(c != 0xff && c != 0xfe);
		CHECK(c != 0xc2 || (unsigned char)text[i + 1] >= 0xa0); /* C1 */
	}
	CHECK(strlen(text) == len);
}

int main(void)
{
	uint64_t want, depth = 0, sum = 0;
	struct profile *p = random_profile(&want);
	const struct format *const *list;
	size_t num = format_list(&list), len;
	char *text;

	for (size_t i = 0; i < num; i++) {
		text = fixture_render(p, list[i], &(struct profile_view){ .annotate = true }, &len);
		if (!list[i]->binary)
			check_bytes(text, len);
		free(text);
	}
	text = fixture_render(p, format_find("collapsed"), &(struct profile_view){ 0 }, &len);
	check_bytes(text, len);
	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		check_line(line, end, &sum, &depth);
	CHECK(sum == stacks_total(p->stacks));
	CHECK(depth == want);
	free(text);
	profile_free(p);
	return check_done();
}
