#include "unwinder/unwinder_priv.h"

#include <elf.h>

enum {
	ENTRY_WORDS = 16, /* what the program's first function may have put below them before its first call */
	MAX_TYPE = 64,    /* linux/auxvec.h comes to 51 */
};

/* The upper end of a stack, read upwards word by word. */
struct words {
	const uint8_t *stack;
	size_t bytes;
	uint64_t base, at, end;
};

static bool next_word(struct words *s, uint64_t *ret)
{
	bool ok = stack_word(s->stack, s->bytes, s->base, s->at, ret);

	s->at += sizeof(*ret);
	return ok;
}

/* Strings lie above all that points to them. */
static bool is_string(const struct words *s, uint64_t addr)
{
	return addr >= s->at && addr < s->end;
}

static bool skip_arguments(struct words *s)
{
	uint64_t num, word;

	if (!next_word(s, &num) || !num || num > s->bytes / sizeof(word))
		return false;
	for (; num; num--) {
		if (!next_word(s, &word) || !is_string(s, word))
			return false;
	}
	return next_word(s, &word) && !word;
}

static bool skip_environment(struct words *s)
{
	uint64_t word;

	for (;;) {
		if (!next_word(s, &word) || (word && !is_string(s, word)))
			return false;
		if (!word)
			return true;
	}
}

static bool has_auxiliary_vector(struct words *s)
{
	const uint64_t wanted = 1u << AT_PHDR | 1u << AT_PAGESZ | 1u << AT_ENTRY;
	uint64_t type, value, seen = 0;

	while (next_word(s, &type) && next_word(s, &value) && type < MAX_TYPE) {
		if (type == AT_NULL)
			return (seen & wanted) == wanted;
		seen |= UINT64_C(1) << type;
	}
	return false;
}

bool entry_stack_at(const uint8_t *stack, size_t bytes, uint64_t base, uint64_t sp)
{
	for (size_t i = 0; i < ENTRY_WORDS; i++) {
		struct words s = { stack, bytes, base, sp + i * sizeof(uint64_t), base + bytes };

		if (skip_arguments(&s) && skip_environment(&s) && has_auxiliary_vector(&s))
			return true;
	}
	return false;
}
