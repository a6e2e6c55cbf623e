/*
 * Stepping out of code that the JIT made. A method's code is read once, when it is first sampled, and remembered with the
 * method; each rule is then remembered by the unwinder until the code goes away.
 *
 * Before its code each method has a pointer to a header that lists its functions (itself, and those that handle its
 * exceptions), each with its own prologue (dotnet/runtime src/coreclr/vm/codeman.h, _hpCodeHdr and _hpRealCodeHdr). It
 * is used where it is consistent; where not, a method is one function.
 */
#include "base/clock.h"
#include "base/intern.h"
#include "runtimes/dotnet_priv.h"
#include "runtimes/nettrace.h"
#include "runtimes/x64_code.h"
#include "runtimes/x64_prologue.h"
#include "symbols/addrspace.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_CODE = 256 << 10, /* bytes of one method */
	HEADER_BYTES = 256, /* of what the pointer before the code leads to, as much as is looked at */
	PART_BYTES = 12,    /* T_RUNTIME_FUNCTION on amd64 Unix: begin, end, unwind info */
	TIER_QUICK = 3,
	TIER_OSR = 5,
	TIER_INSTRUMENTED = 6,
};

struct dotnet_code {
	uint32_t size, num_parts;
	struct dotnet_part parts[DOTNET_MAX_PARTS]; /* sorted; [0] is the method itself */
	bool unreadable;              /* for good */
	bool kept;                    /* with the recording */
	uint8_t all[];                /* the 8 bytes before it, and its code */
};

enum { BEFORE = 8 }; /* bytes of the pointer to the header */

void dotnet_code_free(struct dotnet_code *code)
{
	free(code);
}

/* ---- reading ---- */

static enum memory_answer read_memory(struct dotnet_process *p, const struct dotnet_memory *from, uint64_t addr,
				      void *buf, size_t len)
{
	uint64_t start = clock_monotonic_ns();
	enum memory_answer answer = from->reader->read(from->reader->data, from->space, addr, buf, len);

	p->reads++;
	p->read_ns += clock_monotonic_ns() - start;
	p->owner->counts.reads++;
	return answer;
}

static uint32_t u32_at(const uint8_t *bytes, size_t at)
{
	uint32_t value;

	memcpy(&value, bytes + at, sizeof(value));
	return value;
}

/* Function i of a list whose first begins where the method does. */
static bool take_part(const uint8_t *list, size_t i, uint32_t size, struct dotnet_part *ret)
{
	uint32_t origin = u32_at(list, 0);

	ret->begin = u32_at(list, i * PART_BYTES) - origin;
	ret->end = u32_at(list, i * PART_BYTES + 4) - origin;
	return ret->begin < ret->end && ret->end <= size;
}

/*
 * The functions in a header: a count and the list behind it, wherever this version of the runtime has them. The first
 * begins where the method does, each other where the one before it ends.
 */
static bool take_parts(struct dotnet_code *code, const uint8_t *header, size_t size)
{
	for (size_t at = 16; at + 4 + PART_BYTES <= size; at += 4) {
		uint32_t num = u32_at(header, at), i;
		uint32_t end = 0;

		if (!num || num > DOTNET_MAX_PARTS || num > (size - at - 4) / PART_BYTES)
			continue;
		for (i = 0; i < num; i++) {
			if (!take_part(header + at + 4, i, code->size, &code->parts[i]) || code->parts[i].begin < end)
				break;
			end = code->parts[i].end;
		}
		if (i == num && !code->parts[0].begin && end + 16 >= code->size) {
			code->num_parts = num;
			return true;
		}
	}
	return false;
}

/*
 * False: the header is not this method's, though this runtime's others were. Then neither is the code: it was freed, and
 * its place is used again.
 */
static bool read_parts(struct dotnet_process *p, const struct dotnet_memory *from, struct dotnet_code *code,
		       uint64_t header_addr)
{
	uint8_t header[HEADER_BYTES];
	bool found = false;

	if (header_addr && header_addr % 8 == 0 && header_addr < INT64_MAX &&
	    read_memory(p, from, header_addr, header, sizeof(header)) == MEMORY_OK)
		found = take_parts(code, header, sizeof(header));
	if (!found) {
		code->num_parts = 1;
		code->parts[0] = (struct dotnet_part){ 0, code->size };
	}
	p->owner->counts.by_unwind_info += found;
	p->owner->counts.by_prologue += !found;
	p->knows_headers |= found;
	return found || !p->knows_headers;
}

static struct dotnet_code *code_new(uint32_t size)
{
	struct dotnet_code *code = calloc(1, sizeof(*code) + BEFORE + size);

	if (code)
		code->size = size;
	return code;
}

/* Out of a recording: what was read then, or nothing. */
static enum memory_answer given_code(const struct dotnet_process *p, struct dotnet_method *m)
{
	const struct dotnet_given *given = dotnet_given_code(p, m);

	m->code = code_new(given && given->size <= MAX_CODE ? given->size : 0);
	if (!m->code)
		return MEMORY_NEVER;
	m->code->unreadable = !given || given->size > MAX_CODE;
	if (m->code->unreadable)
		return MEMORY_NEVER;
	m->code->num_parts = given->num_parts;
	memcpy(m->code->parts, given->parts, given->num_parts * sizeof(given->parts[0]));
	memcpy(m->code->all + BEFORE, given->bytes, given->size);
	return MEMORY_OK;
}

enum memory_answer dotnet_read_code(struct dotnet_process *p, const struct dotnet_memory *from,
				    struct dotnet_method *m)
{
	const bool jitted = m->flags & NETTRACE_JITTED;
	const size_t before = jitted ? BEFORE : 0;
	enum memory_answer answer;
	uint64_t header;

	if (m->code)
		return m->code->unreadable ? MEMORY_NEVER : MEMORY_OK;
	if (p->restored)
		return given_code(p, m);
	m->code = m->size <= MAX_CODE ? code_new(m->size) : code_new(0);
	if (!m->code)
		return MEMORY_NEVER;
	m->code->unreadable = m->size > MAX_CODE;
	if (m->code->unreadable)
		return MEMORY_NEVER;
	answer = read_memory(p, from, m->start - before, m->code->all + BEFORE - before, m->size + before);
	if (answer == MEMORY_NOT_NOW) {
		dotnet_code_free(m->code);
		m->code = NULL;
		return answer;
	}
	m->code->unreadable = answer != MEMORY_OK;
	if (answer != MEMORY_OK)
		return answer;
	if (!jitted) { /* precompiled, in memory that no file is mapped to: it has no header */
		m->code->num_parts = 1;
		m->code->parts[0] = (struct dotnet_part){ 0, m->size };
		return MEMORY_OK;
	}
	memcpy(&header, m->code->all, sizeof(header));
	m->code->unreadable = !read_parts(p, from, m->code, header);
	return m->code->unreadable ? MEMORY_NEVER : MEMORY_OK;
}

/* ---- rules ---- */

static uint8_t dwarf_of(unsigned int reg)
{
	static const uint8_t dwarf[16] = { 0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15 };

	return dwarf[reg & 15];
}

static bool set_cfa(struct rule *rule, uint8_t reg, uint64_t off)
{
	if (off % 8 || off / 8 > INT16_MAX)
		return false;
	*rule = (struct rule){ .kind = RULE_CFA, .cfa_reg = reg, .cfa_off8 = (int16_t)(off / 8) };
	rule->slot[0] = 1;
	return true;
}

/* A register saved `below` bytes below the CFA. One that is too far away for a slot is given up, except rbp. */
static bool set_saved(const struct arch *arch, struct rule *rule, unsigned int reg, uint64_t below)
{
	for (size_t i = 1; i < arch->num_tracked; i++) {
		if (arch->tracked[i] != dwarf_of(reg))
			continue;
		if (below % 8 || below / 8 > SLOT_MAX) {
			rule->slot[i] = SLOT_UNDEFINED;
			return i != 1;
		}
		rule->slot[i] = (uint8_t)(below / 8);
	}
	return true;
}

static bool rule_of_leaving(const struct arch *arch, const struct x64_leaving *leaving, struct rule *ret)
{
	uint64_t cfa = leaving->sp_above + 8;

	if (!set_cfa(ret, arch->sp, cfa))
		return false;
	for (unsigned int i = 0; i < leaving->num_pops; i++) {
		if (!set_saved(arch, ret, leaving->pops[i].reg, cfa - leaving->pops[i].at))
			return false;
	}
	return true;
}

static bool rule_of_prologue(const struct arch *arch, const struct x64_prologue *p, struct rule *ret)
{
	if (!(p->by_rbp ? set_cfa(ret, arch->fp, p->rbp_to_cfa) : set_cfa(ret, arch->sp, p->depth + 8)))
		return false;
	for (unsigned int reg = 0; reg < 16; reg++) {
		if (p->saved[reg] && !set_saved(arch, ret, reg, p->saved[reg]))
			return false;
	}
	return true;
}

static const struct dotnet_part *part_at(const struct dotnet_code *code, uint32_t offset)
{
	for (uint32_t i = 0; i < code->num_parts; i++) {
		if (offset >= code->parts[i].begin && offset < code->parts[i].end)
			return &code->parts[i];
	}
	return NULL;
}

/* With the recording, when it is first used. */
static void keep(struct dotnet_process *p, const struct dotnet_method *m)
{
	if (m->code->kept)
		return;
	m->code->kept = true;
	dotnet_keep_code(p, m, m->code->parts, m->code->num_parts, m->code->all + BEFORE);
}

static unsigned int tier_of(const struct dotnet_method *m)
{
	return m->flags & NETTRACE_JITTED ? m->flags >> NETTRACE_TIER_SHIFT & NETTRACE_TIER_MASK : 0;
}

/* How far into its code it has got; callers are all through with their prologue. */
static uint32_t into_method(const struct dotnet_method *m, const struct give_query *q)
{
	return q->activation ? (uint32_t)(q->pc - m->start) : m->size;
}

/*
 * The frame that on-stack replacement goes on in: the method which is never returned to lies where the prologue's depth
 * leads. MEMORY_NEVER: it cannot be told.
 */
static enum memory_answer find_replaced(struct dotnet_process *p, const struct dotnet_memory *from,
					const struct give_query *q, const struct dotnet_method *m, struct x64_prologue *ret)
{
	uint64_t at = q->regs->v[p->owner->opts.arch->sp] - q->stack_base, return_to;
	enum memory_answer answer;
	struct dotnet_method *old;
	struct x64_prologue own;

	if (!x64_prologue_osr(m->code->all + BEFORE, m->size, into_method(m, q), &own))
		return MEMORY_NEVER;
	at += own.depth;
	if (q->stack_bytes < 8 || at > q->stack_bytes - 8)
		return MEMORY_NEVER;
	memcpy(&return_to, q->stack + at, sizeof(return_to));
	old = dotnet_method_at(p, return_to - 1);
	if (!old || (tier_of(old) != TIER_QUICK && tier_of(old) != TIER_INSTRUMENTED))
		return MEMORY_NEVER;
	answer = dotnet_read_code(p, from, old);
	if (answer != MEMORY_OK)
		return answer;
	keep(p, old);
	return x64_prologue(old->code->all + BEFORE, old->size, old->size, ret) && ret->by_rbp ? MEMORY_OK : MEMORY_NEVER;
}

/* The caller is that of the frame below: what both have saved of its registers. */
static bool rule_of_osr(const struct arch *arch, const struct x64_prologue *own, const struct x64_prologue *replaced,
			struct rule *ret)
{
	uint64_t cfa = (uint64_t)own->depth + 8 + replaced->depth + 8;

	if (!set_cfa(ret, arch->sp, cfa))
		return false;
	for (unsigned int reg = 0; reg < 16; reg++) {
		uint64_t below = own->saved[reg] ? cfa - own->saved[reg] : replaced->saved[reg];

		if ((own->saved[reg] && own->saved[reg] >= cfa) || (below && !set_saved(arch, ret, reg, below)))
			return false;
	}
	return true;
}

/* `replaced`: of a method that goes on in another's frame; else NULL. */
static bool rule_at(const struct arch *arch, const struct dotnet_method *m, uint64_t pc, bool exact,
		    const struct x64_prologue *replaced, struct rule *ret)
{
	const struct dotnet_code *code = m->code;
	uint32_t offset = (uint32_t)(pc - m->start);
	const struct dotnet_part *part = part_at(code, offset);
	struct x64_prologue prologue;
	struct x64_leaving leaving;
	uint32_t into;

	if (!part)
		return false;
	if (exact && x64_epilogue(code->all + BEFORE + offset, part->end - offset, pc, m->start + part->begin,
				  m->start + part->end, &leaving))
		return rule_of_leaving(arch, &leaving, ret);
	into = exact ? offset - part->begin : part->end - part->begin;
	if (tier_of(m) == TIER_OSR && part == &code->parts[0])
		return replaced && x64_prologue_osr(code->all + BEFORE, part->end, into, &prologue) &&
		       rule_of_osr(arch, &prologue, replaced, ret);
	if (!x64_prologue(code->all + BEFORE + part->begin, part->end - part->begin, into, &prologue))
		return false;
	return rule_of_prologue(arch, &prologue, ret);
}

/* ---- giving ---- */

/* A return address: behind it lies code that somebody runs. */
static bool stack_has_return(const struct give_query *q, uint64_t sp)
{
	uint64_t ra;

	return give_stack_word(q, sp, &ra) && ra && addrspace_find(q->space, ra - 1) != NULL;
}

/* The runtime's stubs jump on, with the return address on top of the stack and rbp as it was. */
static enum give give_stub(struct dotnet *d, const struct give_query *q, struct give_answer *ret)
{
	const struct arch *arch = d->opts.arch;

	if (!q->first || !stack_has_return(q, q->regs->v[arch->sp]))
		return GIVE_PASS;
	d->counts.stubs++;
	ret->life = GIVE_ONCE;
	return set_cfa(&ret->rule, arch->sp, 8) ? GIVE_RULE : GIVE_PASS;
}

static bool is_runtime_memory(const struct give_query *q)
{
	return q->mapping && !q->mapping->file;
}

enum give dotnet_give(void *data, const struct give_query *q, struct give_answer *ret)
{
	const struct dotnet_memory from = { q->memory, q->space };
	struct dotnet *d = data;
	struct x64_prologue replaced;
	struct dotnet_process *p;
	struct dotnet_method *m;
	bool goes_on = false;

	if (!is_runtime_memory(q) || d->opts.arch->elf_machine != EM_X86_64)
		return GIVE_PASS;
	p = dotnet_process_find(d, q->space->pid);
	if (!p)
		return GIVE_PASS;
	m = dotnet_method_at(p, q->pc);
	if (!m && p->complete)
		return give_stub(d, q, ret);
	if (!m) {
		d->counts.no_starts++;
		return GIVE_PASS;
	}
	switch (!p->restored && dotnet_is_leaving(p, m) ? MEMORY_NEVER : dotnet_read_code(p, &from, m)) {
	case MEMORY_OK:
		break;
	case MEMORY_NOT_NOW:
		return GIVE_LATER;
	case MEMORY_NEVER:
		d->counts.no_starts++;
		return GIVE_PASS;
	}
	keep(p, m);
	if (tier_of(m) == TIER_OSR) {
		enum memory_answer answer = find_replaced(p, &from, q, m, &replaced);

		if (answer == MEMORY_NOT_NOW)
			return GIVE_LATER;
		goes_on = answer == MEMORY_OK;
	}
	if (!rule_at(d->opts.arch, m, q->pc, q->activation, goes_on ? &replaced : NULL, &ret->rule)) {
		d->counts.no_starts++;
		return GIVE_PASS;
	}
	/* The same place may be exact in one sample and a call's in another: callers are looked up inside their call. */
	ret->life = GIVE_WITH_CODE;
	return GIVE_RULE;
}
