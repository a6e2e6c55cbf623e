#include "output/stacks.h"
#include "test/check.h"

#include <stdint.h>

static uint64_t seed = 1;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

static void test_empty(void)
{
	struct stacks *s = stacks_new();
	uint32_t frame = 7;

	CHECK(stacks_num_nodes(s) == 0);
	CHECK(stacks_distinct(s) == 0);
	CHECK(stacks_total(s) == 0);
	CHECK(stacks_add(s, NULL, 0, 5));
	CHECK(stacks_add(s, &frame, 1, 0));
	CHECK(stacks_num_nodes(s) == 0);
	CHECK(stacks_total(s) == 0);
	stacks_free(s);
	stacks_free(NULL);
}

/* The tree as the header promises it, node by node. */
static void test_nodes(void)
{
	static const uint32_t abc[] = { 3, 2, 1 }, ab[] = { 2, 1 }, abd[] = { 4, 2, 1 };
	struct stacks *s = stacks_new();
	static const struct stacks_node want[] = {
		{ 1, 0, 0 }, { 2, 1, 5 }, { 3, 2, 11 }, { 4, 2, 1 },
	};

	CHECK(stacks_add(s, abc, 3, 10));
	CHECK(stacks_add(s, ab, 2, 5));
	CHECK(stacks_add(s, abd, 3, 1));
	CHECK(stacks_add(s, abc, 3, 1));
	CHECK(stacks_num_nodes(s) == 4);
	CHECK(stacks_distinct(s) == 3);
	CHECK(stacks_total(s) == 17);
	for (uint32_t i = 0; i < 4; i++) {
		const struct stacks_node *node = stacks_node(s, i + 1);

		CHECK(node->frame == want[i].frame);
		CHECK(node->parent == want[i].parent);
		CHECK(node->self == want[i].self);
	}
	stacks_free(s);
}

static void test_saturation(void)
{
	static const uint32_t a[] = { 1 }, b[] = { 2 };
	struct stacks *s = stacks_new();

	CHECK(stacks_add(s, a, 1, UINT64_MAX - 1));
	CHECK(stacks_add(s, a, 1, 5));
	CHECK(stacks_add(s, b, 1, 5));
	CHECK(stacks_node(s, 1)->self == UINT64_MAX);
	CHECK(stacks_total(s) == UINT64_MAX);
	stacks_free(s);
}

/* A stack a million frames deep costs no recursion. */
static void test_deep(void)
{
	enum { DEPTH = 1000000 };
	uint32_t *ids = calloc(DEPTH, sizeof(*ids));
	struct stacks *s = stacks_new();

	for (uint32_t i = 0; i < DEPTH; i++)
		ids[i] = i % 7 + 1;
	CHECK(stacks_add(s, ids, DEPTH, 1));
	CHECK(stacks_add(s, ids, DEPTH, 2));
	CHECK(stacks_num_nodes(s) == DEPTH);
	CHECK(stacks_node(s, DEPTH)->self == 3);
	free(ids);
	stacks_free(s);
}

/* The naive model: a list of stacks with counts. */
enum { MAX_DEPTH = 12, MAX_STACKS = 6000 };

struct naive_stack {
	uint32_t ids[MAX_DEPTH]; /* leaf first */
	size_t num;
	uint64_t count;
};

struct naive {
	struct naive_stack stacks[MAX_STACKS];
	size_t num;
};

static void naive_add(struct naive *model, const uint32_t *ids, size_t num, uint64_t count)
{
	struct naive_stack *stack;

	if (!num)
		return;
	for (size_t i = 0; i < model->num; i++) {
		stack = &model->stacks[i];
		if (stack->num == num && !memcmp(stack->ids, ids, num * sizeof(*ids))) {
			stack->count += count;
			return;
		}
	}
	stack = &model->stacks[model->num++];
	memcpy(stack->ids, ids, num * sizeof(*ids));
	stack->num = num;
	stack->count = count;
}

/* Every node with samples is one stack of the model, and there are as many. */
static void hold_against(const struct stacks *s, const struct naive *model)
{
	uint64_t total = 0;
	size_t found = 0;

	for (uint32_t i = 1; i <= stacks_num_nodes(s); i++) {
		struct naive one = { .num = 0 };
		struct naive_stack *stack = &one.stacks[0];

		CHECK(stacks_node(s, i)->parent < i);
		if (!stacks_node(s, i)->self)
			continue;
		for (uint32_t at = i; at; at = stacks_node(s, at)->parent)
			stack->ids[stack->num++] = stacks_node(s, at)->frame;
		for (size_t k = 0; k < model->num; k++) {
			const struct naive_stack *want = &model->stacks[k];

			if (want->num != stack->num ||
			    memcmp(want->ids, stack->ids, stack->num * sizeof(uint32_t)))
				continue;
			CHECK(want->count == stacks_node(s, i)->self);
			total += want->count;
			found++;
			break;
		}
	}
	CHECK(found == model->num);
	CHECK(stacks_distinct(s) == model->num);
	CHECK(stacks_total(s) == total);
}

static size_t random_stack(uint32_t *ids)
{
	size_t num = 1 + rnd(MAX_DEPTH - 1);

	for (size_t i = 0; i < num; i++)
		ids[i] = 1 + rnd(4);
	return num;
}

/* 1 -> left out, 2 and 3 -> one, 4 -> 40 */
static uint32_t map(void *data, uint32_t frame)
{
	static const uint32_t to[] = { 0, 0, 20, 20, 40 };

	++*(size_t *)data;
	return to[frame];
}

static void test_model(void)
{
	struct naive *model = calloc(1, sizeof(*model)), *mapped = calloc(1, sizeof(*mapped));
	struct stacks *s = stacks_new(), *into = stacks_new();
	uint32_t ids[MAX_DEPTH], before[] = { 40, 20 };
	size_t asked = 0;

	for (int i = 0; i < 6000; i++) {
		size_t num = random_stack(ids);
		uint64_t count = 1 + rnd(3);

		CHECK(stacks_add(s, ids, num, count));
		naive_add(model, ids, num, count);
	}
	hold_against(s, model);

	CHECK(stacks_add(into, before, 2, 9));
	naive_add(mapped, before, 2, 9);
	for (size_t i = 0; i < model->num; i++) {
		const struct naive_stack *stack = &model->stacks[i];
		size_t num = 0, ignored = 0;

		for (size_t k = 0; k < stack->num; k++) {
			ids[num] = map(&ignored, stack->ids[k]);
			num += ids[num] != 0;
		}
		naive_add(mapped, ids, num, stack->count);
	}
	CHECK(stacks_merge(into, s, map, &asked));
	CHECK(asked == stacks_num_nodes(s));
	hold_against(into, mapped);
	/* What came by merging is found again by adding. */
	CHECK(stacks_add(into, mapped->stacks[5].ids, mapped->stacks[5].num, 3));
	mapped->stacks[5].count += 3;
	hold_against(into, mapped);
	stacks_free(s);
	stacks_free(into);
	free(model);
	free(mapped);
}

/* One to one; not in the order of the frames. */
static uint32_t relabel(void *data, uint32_t frame)
{
	++*(size_t *)data;
	return 1000 - frame * 7;
}

/* Nodes of many children are among them, which are found by their hash. */
static void test_relabel(void)
{
	struct naive *model = calloc(1, sizeof(*model));
	struct stacks *s = stacks_new();
	uint32_t ids[3];
	size_t asked = 0, nodes;

	for (int i = 0; i < 3000; i++) {
		size_t num = 1 + rnd(3);

		for (size_t k = 0; k < num; k++)
			ids[k] = 1 + rnd(40);
		CHECK(stacks_add(s, ids, num, 1));
		naive_add(model, ids, num, 1);
	}
	nodes = stacks_num_nodes(s);
	CHECK(stacks_relabel(s, relabel, &asked));
	CHECK(asked == nodes && stacks_num_nodes(s) == nodes);
	for (size_t i = 0; i < model->num; i++) {
		for (size_t k = 0; k < model->stacks[i].num; k++)
			model->stacks[i].ids[k] = 1000 - model->stacks[i].ids[k] * 7;
	}
	hold_against(s, model);
	/* None of them is made a second time. */
	for (size_t i = 0; i < model->num; i++) {
		CHECK(stacks_add(s, model->stacks[i].ids, model->stacks[i].num, 2));
		model->stacks[i].count += 2;
	}
	CHECK(stacks_num_nodes(s) == nodes);
	hold_against(s, model);
	stacks_free(s);
	free(model);
}

/* Frame 2 was inlined into 20 and that into 10; the others stay what they are. */
static uint32_t expand_two(void *data, uint32_t frame)
{
	return frame == 9 ? 0 : frame;
}

static uint32_t around_two(void *data, uint32_t frame)
{
	return frame == 2 ? 20 : frame == 20 ? 10 : 0;
}

static void test_expanded(void)
{
	const struct stacks_expansion expansion = { expand_two, around_two, NULL };
	const uint32_t first[] = { 3, 2, 1 }, second[] = { 2, 1 }, third[] = { 4, 9, 2, 1 };
	struct stacks *from = stacks_new(), *into = stacks_new();
	uint32_t became[16], at;
	static const uint32_t path[] = { 3, 2, 20, 10, 1 };

	if (!from || !into)
		abort();
	CHECK(stacks_add(from, first, 3, 5) && stacks_add(from, second, 2, 7) &&
	      stacks_add(from, third, 4, 1));
	CHECK(stacks_merge_expanded(into, from, &expansion, became));
	CHECK(stacks_num_nodes(into) == 6 && stacks_total(into) == 13 && stacks_distinct(into) == 3);
	at = became[3]; /* 1, 2, 3 were made in this order */
	CHECK(stacks_node(into, at)->self == 5);
	for (size_t i = 0; i < 5; i++, at = stacks_node(into, at)->parent)
		CHECK(stacks_node(into, at)->frame == path[i]);
	CHECK(!at);
	CHECK(stacks_node(into, became[2])->self == 7 && stacks_node(into, became[2])->frame == 2);
	stacks_free(from);
	stacks_free(into);
}

int main(void)
{
	test_empty();
	test_nodes();
	test_saturation();
	test_deep();
	test_model();
	test_relabel();
	test_expanded();
	return check_done();
}
