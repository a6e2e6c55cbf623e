/* Places, ids and rules: the table grows, forgets and gives ids out again. */
#include "test/check.h"
#include "symbols/symbols.h"
#include "unwinder/unwinder_priv.h"

static void test_many_places(void)
{
	struct rule_exts exts = { 0 };
	struct frames f;
	struct frame_entry *e;

	CHECK(frames_init(&f));
	for (uint32_t i = 0; i < 20000; i++) {
		e = frames_in_file(&f, &exts, 1 + i % 7, i / 7 * 16);
		CHECK(e && e->id == i + 1 && e->rule.kind == RULE_UNSET);
		if (e)
			e->rule = (struct rule){ .kind = RULE_CFA, .cfa_off8 = (int16_t)i };
	}
	CHECK(f.files.len == 20000 && (f.files.mask + 1) >= 40000);
	for (uint32_t i = 0; i < 20000; i++) {
		e = frames_find_in_file(&f, 1 + i % 7, i / 7 * 16);
		CHECK(e && e->id == i + 1 && e->rule.cfa_off8 == (int16_t)i);
		CHECK(blocks_at(&f.by_id, i + 1)->owner == 1 + i % 7 &&
		      blocks_at(&f.by_id, i + 1)->place == i / 7 * 16);
	}
	CHECK(!frames_find_in_file(&f, 8, 0));
	CHECK(((uintptr_t)f.files.hot & 63) == 0);
	frames_deinit(&f);
	exts_deinit(&exts);
}

/* What the table has of an id for the fast way. */
static const struct frame_hot *hot_of(const struct frames *f, uint32_t id)
{
	const struct frame_hot *hot = f->files.hot;

	while (hot->id != id)
		hot++;
	return hot;
}

static void test_plain_frames(void)
{
	static const struct {
		struct rule rule;
		struct frame_hot hot;
	} cases[] = {
		{ { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = 4, .slot = { 1, 2 } },
		  { .kind = HOT_SP, .ra_off8 = 3, .ra_slot = 1, .fp_slot = 2 } },
		{ { .kind = RULE_CFA, .cfa_reg = 6, .cfa_off8 = 2, .slot = { 1, 0, 9 } },
		  { .kind = HOT_FP, .ra_off8 = 1, .ra_slot = 1 } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = INT16_MAX, .slot = { 63 } },
		  { .kind = HOT_SP, .ra_off8 = INT16_MAX - 63, .ra_slot = 63 } },
		/*
		 * Not plain: a return address far down, a leaf, registers lost, another register, a signal frame, no
		 * room.
		 */
		{ { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = 100, .slot = { 64 } }, { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .slot = { SLOT_SAME } }, { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .slot = { SLOT_UNDEFINED } },
		  { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .slot = { 1, SLOT_UNDEFINED } },
		  { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 3, .slot = { 1 } }, { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .flags = RULE_SIGNAL, .slot = { 1 } },
		  { .kind = HOT_NOT } },
		{ { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = INT16_MIN, .slot = { 1 } },
		  { .kind = HOT_NOT } },
		{ { .kind = RULE_FP }, { .kind = HOT_NOT } },
		{ { .kind = RULE_EXT }, { .kind = HOT_NOT } },
		{ { .kind = RULE_NEXT }, { .kind = HOT_NOT } },
		{ { .kind = RULE_END }, { .kind = HOT_END } },
		{ { .kind = RULE_ROOT }, { .kind = HOT_END } },
	};
	const size_t num = sizeof(cases) / sizeof(cases[0]);
	struct rule_exts exts = { 0 };
	struct frames f;

	CHECK(frames_init(&f));
	for (size_t i = 0; i < num; i++) {
		struct frame_entry *e = frames_in_file(&f, &exts, 1, i);

		CHECK(hot_of(&f, e->id)->kind == HOT_NOT);
		frames_set_rule(&f, &arch_x86_64, e, cases[i].rule);
		CHECK(!memcmp(&e->rule, &cases[i].rule, sizeof(e->rule)));
	}
	/* The same before and after the table grew. */
	for (uint32_t more = 0; more <= 1000; more += 1000) {
		for (uint32_t i = 0; i < more; i++)
			frames_in_file(&f, &exts, 2, i);
		for (size_t i = 0; i < num; i++) {
			const struct frame_hot *hot = hot_of(&f, (uint32_t)i + 1), *want = &cases[i].hot;

			CHECK_MSG(hot->kind == want->kind, "%zu", i);
			CHECK(hot->key == frame_key(1, i) && hot->id == i + 1);
			CHECK(want->kind == HOT_NOT || want->kind == HOT_END ||
			      (hot->ra_off8 == want->ra_off8 && hot->ra_slot == want->ra_slot &&
			       hot->fp_slot == want->fp_slot));
		}
	}
	frames_deinit(&f);
}

/* A place that shares its key with another's: it is never plain, so that it is not taken for that. */
static void test_far_place(void)
{
	const struct rule plain = { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = 2, .slot = { 1 } };
	struct rule_exts exts = { 0 };
	struct frame_entry *far, *near;
	struct frames f;

	CHECK(frame_has_key(1, (1ull << 40) - 1) && !frame_has_key(1, 1ull << 40));
	CHECK(frame_has_key((1 << 24) - 1, 0) && !frame_has_key(1 << 24, 0));
	CHECK(frame_key(1, 1ull << 40) == frame_key(2, 0));
	CHECK(frames_init(&f));
	far = frames_in_file(&f, &exts, 1, 1ull << 40);
	frames_set_rule(&f, &arch_x86_64, far, plain);
	near = frames_in_file(&f, &exts, 2, 0);
	frames_set_rule(&f, &arch_x86_64, near, plain);
	far = frames_find_in_file(&f, 1, 1ull << 40);
	near = frames_find_in_file(&f, 2, 0);
	CHECK(far && near && far != near && far->id == 1 && near->id == 2);
	CHECK(hot_of(&f, far->id)->kind == HOT_NOT);
	CHECK(hot_of(&f, near->id)->kind == HOT_SP);
	frames_deinit(&f);
	exts_deinit(&exts);
}

/* Walks that were remembered went by the old rule. */
static void test_rule_changes(void)
{
	struct rule_exts exts = { 0 };
	struct frame_entry *e;
	struct frames f;

	CHECK(frames_init(&f));
	e = frames_in_file(&f, &exts, 1, 0);
	frames_set_rule(&f, &arch_x86_64, e, (struct rule){ .kind = RULE_FP });
	CHECK(f.version == 0);
	frames_set_rule(&f, &arch_x86_64, e, (struct rule){ .kind = RULE_END });
	CHECK(f.version == 0);
	frames_set_rule(&f, &arch_x86_64, e, (struct rule){ .kind = RULE_FP });
	CHECK(f.version == 1);
	frames_deinit(&f);
	exts_deinit(&exts);
}

/* A side record with one operation. */
static uint32_t add_ext(struct rule_exts *exts, uint64_t number)
{
	struct rule_ext ext = { .cfa = { .how = HOW_EXPR, .num_ops = 1 }, .num_ops = 1 };

	ext.ops = calloc(1, sizeof(*ext.ops));
	if (!ext.ops)
		return UINT32_MAX;
	ext.ops[0].number = number;
	return exts_add(exts, &ext);
}

static void test_files_go(void)
{
	struct rule_exts exts = { 0 };
	struct frames f;
	struct frame_entry *e;
	uint32_t shared = add_ext(&exts, 1);

	CHECK(frames_init(&f));
	CHECK(add_ext(&exts, 1) == shared && exts.len == 1 && exts.records.data[shared]->refs == 2);
	e = frames_in_file(&f, &exts, 70, 1);
	e->rule = (struct rule){ .kind = RULE_EXT, .ext = add_ext(&exts, 2) };
	CHECK(exts.len == 2);
	e = frames_in_file(&f, &exts, 3, 1);
	e->rule = (struct rule){ .kind = RULE_EXT, .ext = shared };
	frames_file_gone(&f, 70);
	/* Gone with the next growth; the id means what it meant, the other file is untouched. */
	for (uint32_t i = 0; i < 100; i++)
		CHECK(frames_in_file(&f, &exts, 4, i));
	CHECK(!frames_find_in_file(&f, 70, 1));
	CHECK(frames_find_in_file(&f, 3, 1)->rule.ext == shared);
	CHECK(blocks_at(&f.by_id, 1)->owner == 70 && blocks_at(&f.by_id, 1)->place == 1);
	CHECK(exts.len == 1);
	/* The table does not grow with files that come and go. */
	for (uint32_t id = 100; id < 1100; id++) {
		for (uint32_t i = 0; i < 50; i++)
			CHECK(frames_in_file(&f, &exts, id, i));
		frames_file_gone(&f, id);
	}
	CHECK(f.files.mask < 2048);
	exts_unref(&exts, shared);
	CHECK(exts.len == 1);
	frames_deinit(&f);
	exts_deinit(&exts);
}

static void test_spaces(void)
{
	struct frames f;
	struct space_frames *a, *b;
	struct frame_entry *e;
	uint32_t first, dropped, again, top;

	CHECK(frames_init(&f));
	a = frames_space(&f, 5);
	b = frames_space(&f, 6);
	CHECK(a && b && a != b && frames_space(&f, 5) == a);
	first = frames_in_space(&f, a, FRAME_IN_JIT, 0x1000)->id;
	CHECK(frames_in_space(&f, b, FRAME_IN_JIT, 0x1000)->id != first);
	CHECK(frames_in_space(&f, a, FRAME_NOWHERE, 0x1000)->id != first);
	CHECK(blocks_at(&f.by_id, first)->where == FRAME_IN_JIT && blocks_at(&f.by_id, first)->owner == 5);
	for (uint64_t at = 0; at < 1000; at++)
		CHECK(frames_in_space(&f, a, FRAME_IN_JIT, 0x2000 + at));
	e = frame_table_find(&f, &a->table, FRAME_IN_JIT, 5, 0x2100);
	dropped = e->id;
	frames_drop_code(&f, 5, &(struct code_range){ 0x2100, 0x2200 }, 1, NULL, NULL);
	CHECK(a->table.len == 1002 - 0x100);
	for (uint64_t at = 0x2000; at < 0x2000 + 1000; at++)
		CHECK(!frame_table_find(&f, &a->table, FRAME_IN_JIT, 5, at) == (at >= 0x2100 && at < 0x2200));
	/* New code at the same address is another frame, and the old id still rests. */
	again = frames_in_space(&f, a, FRAME_IN_JIT, 0x2100)->id;
	CHECK(again != dropped && again == f.by_id.len - 1);
	top = (uint32_t)f.by_id.len;
	frames_space_gone(&f, 5);
	CHECK(f.free_ids.len == 1003);
	/* Its ids are used again before new ones are made. */
	for (uint64_t at = 0; at < 1003; at++)
		CHECK(frames_in_space(&f, b, FRAME_IN_JIT, 0x9000 + at)->id < top);
	CHECK(f.by_id.len == top);
	CHECK(frames_in_space(&f, b, FRAME_IN_JIT, 0x8000)->id == top);
	frames_space_gone(&f, 77);
	frames_drop_code(&f, 77, &(struct code_range){ 0, ~0ull }, 1, NULL, NULL);
	frames_deinit(&f);
}

static void test_global(void)
{
	struct frames f;
	uint32_t kernel, other;

	CHECK(frames_init(&f));
	kernel = frames_global(&f, FRAME_IN_KERNEL, 0, 7);
	other = frames_global(&f, FRAME_OTHER, 7, 0);
	CHECK(kernel == 1 && other == 2);
	CHECK(frames_global(&f, FRAME_IN_KERNEL, 0, 7) == kernel);
	CHECK(blocks_at(&f.by_id, kernel)->where == FRAME_IN_KERNEL && blocks_at(&f.by_id, kernel)->place == 7);
	CHECK(blocks_at(&f.by_id, other)->where == FRAME_OTHER && blocks_at(&f.by_id, other)->owner == 7);
	frames_deinit(&f);
}

int main(void)
{
	test_many_places();
	test_plain_frames();
	test_far_place();
	test_rule_changes();
	test_files_go();
	test_spaces();
	test_global();
	return check_done();
}
