/*
 * The tree, and two hash tables beside it:
 *
 *	known: hash of a whole stack -> its leaf node     the path of every stack seen before
 *	edges: (parent, frame) -> node                    children of nodes that have many
 *
 * Most nodes have a child or two, made soon after them: these are in a list, which is in cache when a hash table would
 * not be. A new stack mostly shares its outer frames with the one before, whose path is kept.
 * A hash alone proves nothing, so a hit in `known` is verified frame by frame from the leaf to the root. That
 * walk would be one dependent load per frame; as most nodes were made right after their parent, runs[] says
 * how far down the indices themselves are the chain, and within a run the loads do not wait for each other.
 */
#include "output/stacks.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "output/count_priv.h"

/* Node numbers leave a bit free for those who sort or mark them. */
enum { MAX_NODES = INT32_MAX, MAX_EXPANSION = 128 };

/* Children that a node has in its list; those that come later are found by the hash of their edge. */
enum { MAX_LISTED = 8 };

/* 0 = none. */
struct links {
	uint32_t kid;  /* the youngest of the listed children */
	uint32_t next; /* its parent's next in the list */
	uint32_t num_kids;
};

struct slot {
	uint32_t node;
	uint32_t hash;
};

struct known_key {
	const struct stacks *stacks;
	const uint32_t *ids;
	size_t num;
	uint32_t hash;
};

struct edge_key {
	const struct stacks *stacks;
	uint32_t parent;
	uint32_t frame;
	uint32_t hash;
};

static bool stack_is(const struct known_key *key, uint32_t leaf);
static bool edge_is(const struct edge_key *key, uint32_t node);

HTAB(known, struct slot, const struct known_key *, key->hash,
     slot->hash == key->hash && stack_is(key, slot->node), slot->hash);
HTAB(edges, struct slot, const struct edge_key *, key->hash,
     slot->hash == key->hash && edge_is(key, slot->node), slot->hash);

struct stacks {
	VEC(struct stacks_node) nodes; /* nodes.data[0] is the root */
	VEC(uint32_t) runs; /* nodes i, i-1, ..., i-runs[i] are each the child of the next */
	VEC(struct links) links; /* by node */
	VEC(uint32_t) path; /* nodes of the last stack that was new, from the root's child on */
	struct known known;
	struct edges edges;
	size_t distinct;
	uint64_t total;
};

static bool stack_is(const struct known_key *key, uint32_t leaf)
{
	const struct stacks_node *nodes = key->stacks->nodes.data;
	const uint32_t *runs = key->stacks->runs.data;
	const uint32_t *ids = key->ids;
	size_t left = key->num;

	for (uint32_t node = leaf; node; node = nodes[node].parent) {
		const struct stacks_node *at = &nodes[node];
		size_t run = (size_t)runs[node] + 1;
		uint32_t differs = 0;

		if (run > left)
			return false;
		left -= run;
		node -= (uint32_t)(run - 1);
		for (const uint32_t *end = ids + run; ids < end; ids++, at--)
			differs |= at->frame ^ *ids;
		if (differs)
			return false;
	}
	return !left;
}

static bool edge_is(const struct edge_key *key, uint32_t node)
{
	const struct stacks_node *found = &key->stacks->nodes.data[node];

	return found->parent == key->parent && found->frame == key->frame;
}

/*
 * A sum of products of pairs, each shifted by keys of its place (the NH of UMAC, Black et al. 1999): no product
 * waits for another one. The keys are multiples of 2^32 divided by the golden ratio.
 */
static uint32_t hash_ids(const uint32_t *ids, size_t num)
{
	uint64_t sum = num;
	uint32_t key = 0x9e3779b9u;
	size_t i = 0;

	for (; i + 2 <= num; i += 2) {
		sum += (uint64_t)(ids[i] + key) * (ids[i + 1] + (key ^ 0x5bd1e995u));
		key += 0x9e3779b9u;
	}
	if (i < num)
		sum += (uint64_t)(ids[i] + key) * (key ^ 0x5bd1e995u);
	return (uint32_t)hash_u64(sum);
}

struct stacks *stacks_new(void)
{
	struct stacks *s = calloc(1, sizeof(*s));

	if (!s || !vec_push(&s->nodes, (struct stacks_node){ 0 }) || !vec_push(&s->runs, 0u) ||
	    !vec_push(&s->links, (struct links){ 0 })) {
		stacks_free(s);
		return NULL;
	}
	return s;
}

void stacks_free(struct stacks *s)
{
	if (!s)
		return;
	vec_deinit(&s->nodes);
	vec_deinit(&s->runs);
	vec_deinit(&s->links);
	vec_deinit(&s->path);
	known_deinit(&s->known);
	edges_deinit(&s->edges);
	free(s);
}

/* Appends a node; its parent does not know it yet. Room has been made. */
static uint32_t add_node(struct stacks *s, uint32_t parent, uint32_t frame)
{
	uint32_t index = (uint32_t)s->nodes.len;

	s->nodes.data[s->nodes.len++] = (struct stacks_node){ .frame = frame, .parent = parent };
	s->runs.data[s->runs.len++] = parent && parent == index - 1 ? s->runs.data[parent] + 1 : 0;
	s->links.data[s->links.len++] = (struct links){ 0 };
	s->links.data[parent].num_kids++;
	return index;
}

static uint32_t edge_hash(uint32_t parent, uint32_t frame)
{
	return (uint32_t)hash_u64((uint64_t)parent << 32 | frame);
}

/* One of more children than a list should have; 0 when out of memory. */
static uint32_t child_by_hash(struct stacks *s, uint32_t parent, uint32_t frame)
{
	struct edge_key key = { s, parent, frame, edge_hash(parent, frame) };
	struct slot *slot;
	bool added;

	slot = edges_add(&s->edges, &key, &added);
	if (!slot)
		return 0;
	if (added)
		*slot = (struct slot){ .node = add_node(s, parent, frame), .hash = key.hash };
	return slot->node;
}

/* The child of `parent` for `frame`, made if need be; 0 when out of memory. */
static uint32_t child_of(struct stacks *s, uint32_t parent, uint32_t frame)
{
	uint32_t kid;

	for (kid = s->links.data[parent].kid; kid; kid = s->links.data[kid].next) {
		if (s->nodes.data[kid].frame == frame)
			return kid;
	}
	/* Room first, so that a slot in the table never lacks its node. */
	if (s->nodes.len == MAX_NODES || !vec_reserve(&s->nodes, s->nodes.len + 1) ||
	    !vec_reserve(&s->runs, s->runs.len + 1) || !vec_reserve(&s->links, s->links.len + 1))
		return 0;
	if (s->links.data[parent].num_kids >= MAX_LISTED)
		return child_by_hash(s, parent, frame);
	kid = add_node(s, parent, frame);
	s->links.data[kid].next = s->links.data[parent].kid;
	s->links.data[parent].kid = kid;
	return kid;
}

static void count_node(struct stacks *s, uint32_t index, uint64_t count)
{
	struct stacks_node *node = &s->nodes.data[index];

	s->distinct += !node->self;
	node->self = count_add(node->self, count);
	s->total = count_add(s->total, count);
}

bool stacks_add(struct stacks *s, const uint32_t *leaf_first, size_t num, uint64_t count)
{
	uint32_t node;

	return stacks_add_node(s, leaf_first, num, count, &node);
}

/* The node of a stack that is new, and all on the way to it; 0 when out of memory. */
static uint32_t make_path(struct stacks *s, const uint32_t *leaf_first, size_t num)
{
	const uint32_t *frame = leaf_first + num;
	size_t shared = 0;
	uint32_t node = 0;

	while (shared < num && shared < s->path.len &&
	       s->nodes.data[s->path.data[shared]].frame == frame[-1 - (ptrdiff_t)shared])
		node = s->path.data[shared++];
	s->path.len = shared;
	if (!vec_reserve(&s->path, num))
		return 0;
	for (size_t i = shared; i < num; i++) {
		node = child_of(s, node, frame[-1 - (ptrdiff_t)i]);
		if (!node)
			return 0;
		s->path.data[s->path.len++] = node;
	}
	return node;
}

bool stacks_add_node(struct stacks *s, const uint32_t *leaf_first, size_t num, uint64_t count,
		     uint32_t *ret_node)
{
	struct known_key key;
	struct slot *slot;
	uint32_t node;

	*ret_node = 0;
	if (!num || !count)
		return true;
	key = (struct known_key){ s, leaf_first, num, hash_ids(leaf_first, num) };
	slot = known_find(&s->known, &key);
	if (slot) {
		*ret_node = slot->node;
		count_node(s, slot->node, count);
		return true;
	}
	node = make_path(s, leaf_first, num);
	if (!node)
		return false;
	slot = known_add(&s->known, &key, NULL);
	if (!slot)
		return false;
	*slot = (struct slot){ .node = node, .hash = key.hash };
	count_node(s, node, count);
	*ret_node = node;
	return true;
}

bool stacks_merge(struct stacks *into, const struct stacks *from,
		  uint32_t (*map)(void *data, uint32_t frame), void *data)
{
	_cleanup_free_ uint32_t *became = calloc(from->nodes.len, sizeof(*became));

	return became && stacks_merge_nodes(into, from, map, data, became);
}

/* A frame below what it lies in, outermost first; at most a few levels deep. 0 when out of memory. */
static uint32_t add_expanded(struct stacks *into, uint32_t parent, uint32_t frame,
			     const struct stacks_expansion *x)
{
	uint32_t frames[MAX_EXPANSION];
	size_t num = 0;

	for (; frame && num < MAX_EXPANSION; frame = x->around(x->data, frame))
		frames[num++] = frame;
	for (; num; num--) {
		parent = child_of(into, parent, frames[num - 1]);
		if (!parent)
			return 0;
	}
	return parent;
}

/* As parents come first, each node is mapped once, below what its parent became. */
bool stacks_merge_expanded(struct stacks *into, const struct stacks *from,
			   const struct stacks_expansion *x, uint32_t *became)
{
	size_t num = from->nodes.len, room = into->nodes.len + num;

	became[0] = 0;
	/* Mostly none of them is there yet: their room in one go, rather than moved each time it doubles. */
	if (room > MAX_NODES || !vec_reserve(&into->nodes, room) || !vec_reserve(&into->runs, room) ||
	    !vec_reserve(&into->links, room))
		return false;
	for (size_t i = 1; i < num; i++) {
		struct stacks_node node = from->nodes.data[i];
		uint32_t frame = x->expand(x->data, node.frame);

		became[i] = became[node.parent];
		if (frame) {
			became[i] = x->around ? add_expanded(into, became[i], frame, x)
					      : child_of(into, became[i], frame);
			if (!became[i])
				return false;
		}
		if (node.self && became[i])
			count_node(into, became[i], node.self);
	}
	return true;
}

/* A frame that becomes one at most. */
struct one_to_one {
	uint32_t (*map)(void *data, uint32_t frame);
	void *data;
};

static uint32_t map_one(void *data, uint32_t frame)
{
	struct one_to_one *one = data;

	return one->map(one->data, frame);
}

bool stacks_merge_nodes(struct stacks *into, const struct stacks *from,
			uint32_t (*map)(void *data, uint32_t frame), void *data, uint32_t *became)
{
	struct one_to_one one = { map, data };
	const struct stacks_expansion expansion = { map_one, NULL, &one };

	return stacks_merge_expanded(into, from, &expansion, became);
}

bool stacks_relabel(struct stacks *s, uint32_t (*map)(void *data, uint32_t frame), void *data)
{
	struct edges old = s->edges;
	struct slot *slot, *added;
	size_t at = 0;

	for (size_t i = 1; i < s->nodes.len; i++)
		s->nodes.data[i].frame = map(data, s->nodes.data[i].frame);
	/* A stack that comes again is found by its path. */
	s->path.len = 0;
	known_deinit(&s->known);
	s->edges = (struct edges){ 0 };
	while ((slot = edges_next(&old, &at))) {
		const struct stacks_node *node = &s->nodes.data[slot->node];
		struct edge_key key = { s, node->parent, node->frame, edge_hash(node->parent, node->frame) };

		added = edges_add(&s->edges, &key, NULL);
		if (!added)
			break;
		*added = (struct slot){ .node = slot->node, .hash = key.hash };
	}
	edges_deinit(&old);
	return !slot;
}

size_t stacks_num_nodes(const struct stacks *s)
{
	return s->nodes.len - 1;
}

const struct stacks_node *stacks_node(const struct stacks *s, uint32_t index)
{
	return &s->nodes.data[index];
}

size_t stacks_distinct(const struct stacks *s)
{
	return s->distinct;
}

uint64_t stacks_total(const struct stacks *s)
{
	return s->total;
}
