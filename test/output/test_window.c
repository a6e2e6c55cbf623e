#include "output/window.h"

#include "base/err.h"
#include "base/intern.h"
#include "output/profile.h"
#include "output/stacks.h"
#include "test/check.h"

static uint32_t add_frame(struct profile *p, const char *name, enum frame_kind kind)
{
	CHECK(vec_push(&p->frames, ((struct profile_frame){ .name = name ? intern_str(p->strings, name) : NULL, .kind = kind })));
	return (uint32_t)(p->frames.len - 1);
}

static void add(struct profile *p, uint64_t time_ns, const uint32_t *leaf_first, size_t num, enum sample_class class,
		const char *reason)
{
	struct profile_sample sample = { .time_ns = time_ns, .period = 1, .pid = 7, .tid = 8, .class = class, .reason = reason };

	CHECK(stacks_add_node(p->stacks, leaf_first, num, 1, &sample.node));
	CHECK(vec_push(&p->samples, sample));
}

/* prog;main;work, prog;main, and one in JIT code without a name; at 1, 2, ... */
static struct profile *make(const char *leaf)
{
	struct profile *p;
	uint32_t prog, main_, work, jit;

	CHECK(profile_new(&p, NULL) == 0);
	prog = add_frame(p, "prog", FRAME_LABEL);
	main_ = add_frame(p, "main", FRAME_NATIVE);
	work = add_frame(p, leaf, FRAME_NATIVE);
	jit = add_frame(p, NULL, FRAME_JIT);
	CHECK(vec_push(&p->comms, intern_str(p->strings, "prog")));
	add(p, 1, (uint32_t[]){ work, main_, prog }, 3, SAMPLE_COMPLETE, NULL);
	add(p, 2, (uint32_t[]){ main_, prog }, 2, SAMPLE_TRUNCATED, NULL);
	add(p, 3, (uint32_t[]){ jit, main_, prog }, 3, SAMPLE_BROKEN, "no_fp");
	add(p, 4, (uint32_t[]){ work, main_, prog }, 3, SAMPLE_COMPLETE, NULL);
	add(p, 5, (uint32_t[]){ prog }, 1, SAMPLE_KERNEL_ONLY, NULL);
	return p;
}

static uint64_t self_of(const struct profile *p, const char *name)
{
	uint64_t num = 0;

	for (uint32_t i = 1; i <= stacks_num_nodes(p->stacks); i++) {
		const struct stacks_node *node = stacks_node(p->stacks, i);
		const char *frame = p->frames.data[node->frame].name;

		if (frame && !strcmp(frame, name))
			num += node->self;
	}
	return num;
}

static void test_part(void)
{
	struct profile *whole = make("work"), *part;
	const struct profile_stats *s;

	CHECK(profile_new(&part, NULL) == 0);
	CHECK(profile_add_window(part, whole, 2, 5, NULL) == 0);
	s = &part->stats;
	CHECK(s->samples == 3 && s->complete == 1 && s->truncated == 1 && s->broken == 1 && s->kernel_only == 0);
	CHECK(s->user_stacks == 3 && s->frames == 2 + 1 + 2 && s->jit_frames == 1 && s->jit_named == 0);
	CHECK_STR(s->broken_by[0].name, "no_fp");
	CHECK(s->broken_by[0].count == 1 && s->broken_by[1].name == NULL);
	CHECK(part->samples.len == 3 && part->samples.data[0].time_ns == 2);
	CHECK(stacks_total(part->stacks) == 3 && self_of(part, "work") == 1 && self_of(part, "main") == 1);
	CHECK(part->comms.len == 1);
	CHECK_STR(part->comms.data[0], "prog");
	profile_free(whole);
	/* Its names are its own. */
	CHECK_STR(part->frames.data[part->stats.samples ? 1 : 0].name ? "named" : "", "named");
	profile_free(part);
}

static void test_two(void)
{
	struct profile *old = make("work"), *young = make("rest"), *both;

	CHECK(profile_new(&both, NULL) == 0);
	CHECK(profile_add_window(both, old, 4, 6, NULL) == 0);
	CHECK(profile_add_window(both, young, 1, 2, NULL) == 0);
	profile_free(old);
	profile_free(young);
	CHECK(both->stats.samples == 3 && both->stats.kernel_only == 1 && both->stats.complete == 2);
	CHECK(self_of(both, "work") == 1 && self_of(both, "rest") == 1 && self_of(both, "prog") == 1);
	/* What both have is one: prog, main, work, rest and frame 0. */
	CHECK(both->frames.len == 5 && both->comms.len == 1);
	CHECK(both->stats.distinct_stacks == 3);
	profile_free(both);
}

static void test_nothing(void)
{
	struct profile *whole = make("work"), *none;

	CHECK(profile_new(&none, NULL) == 0);
	CHECK(profile_add_window(none, whole, 6, 100, NULL) == 0);
	CHECK(none->stats.samples == 0 && none->samples.len == 0 && none->frames.len == 1);
	profile_free(whole);
	profile_free(none);
}

int main(void)
{
	test_part();
	test_two();
	test_nothing();
	return check_done();
}
