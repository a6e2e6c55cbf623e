/* Side records: rows that do not fit a 16-byte rule. The many places of one PLT share a record. */
#include "unwinder/unwinder_priv.h"

static uint64_t hash_where(uint64_t h, const struct rule_where *w)
{
	h = hash_two(h, (uint64_t)w->how << 40 | (uint64_t)w->num_ops << 32 | w->first_op);
	return hash_two(h, (uint64_t)w->value);
}

static uint64_t hash_ext(const struct rule_ext *ext)
{
	uint64_t h = hash_two(ext->signal, ext->cfa_reg);

	h = hash_where(h, &ext->cfa);
	for (size_t i = 0; i < ARCH_MAX_REGS; i++)
		h = hash_where(h, &ext->reg[i]);
	for (size_t i = 0; i < ext->num_ops; i++) {
		h = hash_two(h, (uint64_t)ext->ops[i].atom << 56 ^ ext->ops[i].number);
		h = hash_two(h, ext->ops[i].number2 ^ ext->ops[i].offset << 48);
	}
	return h;
}

static bool same_where(const struct rule_where *a, const struct rule_where *b)
{
	return a->how == b->how && a->num_ops == b->num_ops && a->first_op == b->first_op &&
	       a->value == b->value;
}

static bool same_ext(const struct rule_ext *a, const struct rule_ext *b)
{
	if (a->signal != b->signal || a->cfa_reg != b->cfa_reg || !same_where(&a->cfa, &b->cfa) ||
	    a->num_ops != b->num_ops)
		return false;
	for (size_t i = 0; i < ARCH_MAX_REGS; i++) {
		if (!same_where(&a->reg[i], &b->reg[i]))
			return false;
	}
	for (size_t i = 0; i < a->num_ops; i++) {
		const struct rule_op *x = &a->ops[i], *y = &b->ops[i];

		if (x->atom != y->atom || x->number != y->number || x->number2 != y->number2 ||
		    x->offset != y->offset)
			return false;
	}
	return true;
}

void rule_ext_deinit(struct rule_ext *ext)
{
	free(ext->ops);
	ext->ops = NULL;
	ext->num_ops = 0;
}

/* An index for a new record, which is set there; UINT32_MAX when out of memory. */
static uint32_t place_record(struct rule_exts *exts, struct ext_record *record)
{
	uint32_t index;

	if (exts->free_indexes.len) {
		index = exts->free_indexes.data[--exts->free_indexes.len];
		exts->records.data[index] = record;
		return index;
	}
	if (exts->records.len >= UINT32_MAX - 1 || !vec_push(&exts->records, record))
		return UINT32_MAX;
	return (uint32_t)exts->records.len - 1;
}

uint32_t exts_add(struct rule_exts *exts, struct rule_ext *ext)
{
	uint64_t hash = hash_ext(ext);
	struct ext_slot *slot = ext_map_find(&exts->map, hash);
	struct ext_record *record;
	uint32_t index;
	bool added;

	if (slot && same_ext(&exts->records.data[slot->index]->ext, ext)) {
		rule_ext_deinit(ext);
		exts->records.data[slot->index]->refs++;
		return slot->index;
	}
	record = malloc(sizeof(*record));
	index = record ? place_record(exts, record) : UINT32_MAX;
	if (index == UINT32_MAX) {
		free(record);
		rule_ext_deinit(ext);
		return UINT32_MAX;
	}
	*record = (struct ext_record){ .ext = *ext, .hash = hash, .refs = 1 };
	ext->ops = NULL;
	ext->num_ops = 0;
	exts->len++;
	/* Without its slot, or with another's of the same hash, the record is just not shared. */
	slot = ext_map_add(&exts->map, hash, &added);
	if (slot && added) {
		*slot = (struct ext_slot){ .hash = hash, .index = index };
		record->indexed = true;
	}
	return index;
}

void exts_unref(struct rule_exts *exts, uint32_t index)
{
	struct ext_record *record = exts->records.data[index];

	if (--record->refs)
		return;
	if (record->indexed)
		ext_map_remove(&exts->map, record->hash);
	rule_ext_deinit(&record->ext);
	free(record);
	exts->records.data[index] = NULL;
	exts->len--;
	(void)vec_push(&exts->free_indexes, index);
}

void exts_deinit(struct rule_exts *exts)
{
	for (size_t i = 0; i < exts->records.len; i++) {
		if (!exts->records.data[i])
			continue;
		rule_ext_deinit(&exts->records.data[i]->ext);
		free(exts->records.data[i]);
	}
	vec_deinit(&exts->records);
	vec_deinit(&exts->free_indexes);
	ext_map_deinit(&exts->map);
}
