/*
 * The tree, and two hash tables beside it:
 *
 *	known: hash of a whole stack -> its leaf node     the path of every stack seen before
 *	edges: (parent, frame) -> node                    children of nodes that have many
 *
 * Most nodes have a child or two, made soon after them: these are in a list, which is in cache when a hash table would
 * not be. A new stack mostly shares its outer frames with the one before, whose path is kept.
 * A hash alone proves nothing, so a hit in `known` is verified frame by frame from the leaf to the root. That
 * walk would be one dependent load per frame; as most nodes were made right after their parent, a node's run says
 * how far down the indices themselves are the chain, and within a run the loads do not wait for each other.
 */
#include "output/stacks.h"

#include "base/blocks.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/vec.h"
#include "output/count_priv.h"

/* Node numbers leave a bit free for those who sort or mark them. */
enum { MAX_NODES = INT32_MAX, MAX_EXPANSION = 128 };

/* Children that a node has in its list; those that come later are found by the hash of their edge. */
enum { MAX_LISTED = 8 };

/* All that a walk through the tree wants of a node lies in half a cache line. In the links 0 is none. */
struct node {
	struct stacks_node public;
	uint32_t run;  /* nodes i, i-1, ..., i-run are each the child of the next, and neighbours in memory */
	uint32_t kid;  /* the youngest of the listed children */
	uint32_t next; /* its parent's next in the list */
	uint32_t num_kids;
};
_Static_assert(sizeof(struct node) == 32, "two fill a cache line");

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
	BLOCKS(struct node) nodes; /* the first is the root */
	VEC(uint32_t) path; /* nodes of the last stack that was new, from the root's child on */
	struct known known;
	struct edges edges;
	size_t distinct;
	uint64_t total;
};

static bool stack_is(const struct known_key *key, uint32_t leaf)
{
	const uint32_t *ids = key->ids;
	size_t left = key->num;

	for (uint32_t index = leaf; index;) {
		const struct node *at = blocks_at(&key->stacks->nodes, index);
		size_t run = (size_t)at->run + 1;
		uint32_t differs = 0;

		if (run > left)
			return false;
		left -= run;
		for (size_t i = 0; i < run; i++)
			differs |= at[-(ptrdiff_t)i].public.frame ^ ids[i];
		if (differs)
			return false;
		ids += run;
		index = at[1 - (ptrdiff_t)run].public.parent;
	}
	return !left;
}

static bool edge_is(const struct edge_key *key, uint32_t node)
{
	const struct stacks_node *found = stacks_node(key->stacks, node);

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

	if (!s || !blocks_push(&s->nodes, (struct node){ 0 })) {
		stacks_free(s);
		return NULL;
	}
	return s;
}

void stacks_free(struct stacks *s)
{
	if (!s)
		return;
	blocks_deinit(&s->nodes);
	vec_deinit(&s->path);
	known_deinit(&s->known);
	edges_deinit(&s->edges);
	free(s);
}

/* Appends a node, of which there are s->nodes.len then; the list of its parent does not have it yet. Room has been made. */
static void add_node(struct stacks *s, uint32_t parent, uint32_t frame)
{
	size_t index = s->nodes.len++;
	struct node *above = blocks_at(&s->nodes, parent), *added = blocks_at(&s->nodes, index);

	*added = (struct node){
		.public = { .frame = frame, .parent = parent },
		.run = added == above + 1 && parent && index % BLOCK_LEN ? above->run + 1 : 0,
		.next = above->kid,
	};
	above->num_kids++;
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
	if (added) {
		*slot = (struct slot){ .node = (uint32_t)s->nodes.len, .hash = key.hash };
		add_node(s, parent, frame);
	}
	return slot->node;
}

static bool reserve_node(struct stacks *s)
{
	return s->nodes.len < MAX_NODES && blocks_reserve(&s->nodes);
}

/* The youngest of a list that has room for it, as there is for the node. */
static uint32_t add_listed(struct stacks *s, uint32_t parent, uint32_t frame)
{
	uint32_t kid = (uint32_t)s->nodes.len;

	add_node(s, parent, frame);
	blocks_at(&s->nodes, parent)->kid = kid;
	return kid;
}

/* The child of `parent` for `frame`, made if need be; 0 when out of memory. */
static uint32_t child_of(struct stacks *s, uint32_t parent, uint32_t frame)
{
	uint32_t next;

	for (uint32_t kid = blocks_at(&s->nodes, parent)->kid; kid; kid = next) {
		const struct node *listed = blocks_at(&s->nodes, kid);

		if (listed->public.frame == frame)
			return kid;
		next = listed->next;
	}
	/* Room first, so that a slot in the table never lacks its node. */
	if (!reserve_node(s))
		return 0;
	if (blocks_at(&s->nodes, parent)->num_kids >= MAX_LISTED)
		return child_by_hash(s, parent, frame);
	return add_listed(s, parent, frame);
}

static void count_node(struct stacks *s, uint32_t index, uint64_t count)
{
	struct stacks_node *node = &blocks_at(&s->nodes, index)->public;

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
	size_t shared = 0, before = s->nodes.len;
	uint32_t node = 0;

	while (shared < num && shared < s->path.len &&
	       stacks_node(s, s->path.data[shared])->frame == frame[-1 - (ptrdiff_t)shared])
		node = s->path.data[shared++];
	s->path.len = shared;
	if (!vec_reserve(&s->path, num))
		return 0;
	while (s->path.len < num && s->nodes.len == before) {
		node = child_of(s, node, frame[-1 - (ptrdiff_t)s->path.len]);
		if (!node)
			return 0;
		s->path.data[s->path.len++] = node;
	}
	/* Below a node that was just made there is none yet. */
	while (s->path.len < num) {
		if (!reserve_node(s))
			return 0;
		node = add_listed(s, node, frame[-1 - (ptrdiff_t)s->path.len]);
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
	size_t num = from->nodes.len;

	became[0] = 0;
	for (size_t i = 1; i < num; i++) {
		struct stacks_node node = blocks_at(&from->nodes, i)->public;
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

	for (size_t i = 1; i < s->nodes.len; i++) {
		struct stacks_node *node = &blocks_at(&s->nodes, i)->public;

		node->frame = map(data, node->frame);
	}
	/* A stack that comes again is found by its path. */
	s->path.len = 0;
	known_deinit(&s->known);
	s->edges = (struct edges){ 0 };
	while ((slot = edges_next(&old, &at))) {
		const struct stacks_node *node = stacks_node(s, slot->node);
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
	return &blocks_at(&s->nodes, index)->public;
}

size_t stacks_distinct(const struct stacks *s)
{
	return s->distinct;
}

uint64_t stacks_total(const struct stacks *s)
{
	return s->total;
}
