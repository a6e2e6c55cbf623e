#include "runtimes/python.h"

#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/symbols.h"

#include <string.h>

enum { WORD = 8, FRAME_BYTES = 16 };

static bool is_python(const struct file *file)
{
	return file && file->kind == FILE_ELF &&
	       (!strncmp(file->base, "python", 6) || !strncmp(file->base, "libpython", 9));
}

bool python_is_mapped(const struct addrspace *space)
{
	mappings_for_each(m, &space->maps) {
		if (is_python(m->file))
			return true;
	}
	return false;
}

/* The word at addr is where a call of CPython's own code returns to. */
static bool returns_to_python(const struct give_query *q, uint64_t addr)
{
	uint8_t before[ARCH_CALL_BYTES];
	const struct mapping *m;
	uint64_t ra;

	if (!give_stack_word(q, addr, &ra) || !ra)
		return false;
	m = addrspace_find(q->space, ra - 1);
	return m && is_python(m->file) &&
	       elf_file_read_vaddr(m->file->elf, ra - mapping_bias(m) - sizeof(before), before, sizeof(before)) &&
	       arch_x86_64.ends_in_call(before);
}

/* What has a name of its own is numba's or another's. */
static bool is_somebody_elses(struct symbols *symbols, const struct give_query *q)
{
	struct symbol symbol = { 0 };

	return symbols_jit(symbols, (struct addrspace *)q->space, q->pc, &symbol) && strncmp(symbol.name, "py::", 4);
}

static enum give give(void *data, const struct give_query *q, struct give_answer *ret)
{
	const struct arch *arch = &arch_x86_64;
	uint64_t sp = q->regs->v[arch->sp], fp = q->regs->v[arch->fp];
	uint64_t frame = FRAME_BYTES;

	if (!q->mapping || q->mapping->file || !(q->regs->valid >> arch->sp & 1))
		return GIVE_PASS;
	/* At its first and last instruction nothing is pushed. */
	if (q->activation && returns_to_python(q, sp))
		frame = WORD;
	else if (!returns_to_python(q, sp + WORD))
		return GIVE_PASS;
	if (is_somebody_elses(data, q))
		return GIVE_PASS;
	ret->rule = (struct rule){ .kind = RULE_CFA, .cfa_reg = arch->sp, .cfa_off8 = (int16_t)(frame / WORD),
				   .slot = { 1 } };
	if (frame == FRAME_BYTES && (q->regs->valid >> arch->fp & 1) && fp == sp)
		ret->rule.slot[1] = 2; /* built with frame pointers */
	/* All trampolines of a process are alike, but where the sampled one stands they are not. */
	ret->life = q->activation ? GIVE_ONCE : GIVE_WITH_CODE;
	return GIVE_RULE;
}

struct unwind_giver python_giver(struct symbols *symbols)
{
	return (struct unwind_giver){ .name = "python", .give = give, .data = symbols };
}
