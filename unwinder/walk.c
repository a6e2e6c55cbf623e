/* The walk: one sample's registers and stack bytes to frames, by remembered rules. */
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "unwinder/walk_priv.h"

/* A read further above the copy than this is no cut-off stack but a wrong address. */
static const uint64_t max_stack_bytes = 1ull << 30;
/* Room the kernel needs for a signal frame (AT_MINSIGSTKSZ; AMX state makes it 11 KiB) and then
 * some. */
static const uint64_t max_signal_bytes = 64 << 10;
/* What the code that calls main may have pushed, its return address included. */
static const uint64_t max_entry_bytes = 256;

/* The stack would have to be read at addr, which is not in the copy. */
static bool stop_outside(struct walk *w, uint64_t addr)
{
	if (w->altstack)
		return stop(w, REASON_ALTSTACK);
	if (!w->in->stack_full || addr < w->base ||
	    addr - w->base - w->stack_bytes + 8 > max_stack_bytes)
		return stop(w, REASON_OUTSIDE);
	w->ret->class = UNWIND_TRUNCATED;
	w->ret->reason = REASON_NONE;
	return false;
}

/* ---- steps: true when w stands at the caller ---- */

__attribute__((noinline)) void walk_fetch(struct walk *w, uint64_t bytes)
{
	if (bytes > w->stack_bytes)
		bytes = w->stack_bytes;
	w->here = w->in->fetch(w->in->fetch_data, bytes);
	/* What cannot be read is not in the copy. */
	if (w->here < bytes)
		w->stack_bytes = w->here;
}

static void need_all(struct walk *w)
{
	need(w, w->base + w->stack_bytes);
}

/*
 * The copy holds the stack's end and this frame is next to it, or there is only what the program was started with between
 * them: what ends here ends rightly.
 */
static bool at_stack_end(struct walk *w)
{
	uint64_t left = w->base + w->stack_bytes - w->sp;

	if (w->in->stack_full || left > w->stack_bytes)
		return false;
	if (left <= STACK_PAGE)
		return true;
	need_all(w);
	return entry_stack_at(w->stack, w->here, w->base, w->sp);
}

/*
 * A CFA must lie above the frame. Only at a frame's first or last instruction may it lie at its
 * sp: nothing is pushed there (aarch64 leaf functions; x86 when the return address is in a
 * register, as in vfork).
 */
static inline bool cfa_is_progress(const struct walk *w, uint64_t cfa)
{
	return cfa > w->sp || (cfa == w->sp && w->activation);
}

/*
 * Nobody called a signal trampoline: its pc is exact. Its rule is found one byte before all the same, as
 * CFI covers that byte for unwinders that do not know (glibc's __restore_rt), but there its name is not.
 */
static void place_trampoline(struct walk *w)
{
	size_t last = w->ret->num_frames - 1;
	uint64_t pc = w->u->trace[last].pc;
	const struct mapping *m = map_at(w, pc);
	const struct frame_entry *e = m ? entry_at(w, m, pc) : NULL;

	if (e)
		w->frames[last] = e->id;
}

/* Behind a signal frame lies what it interrupted: often another stack, which the copy does not
 * hold. */
static void enter_interrupted(struct walk *w)
{
	uint64_t at = w->sp - w->base;

	place_trampoline(w);
	if (at < w->stack_bytes)
		w->altstack = false;
	else if (!w->in->stack_full || w->sp < w->base || at - w->stack_bytes > max_signal_bytes)
		w->altstack = true;
}

/* The return address by slot; false when the walk ended. */
static inline bool slot_ra(struct walk *w, const struct rule *rule, uint64_t cfa, uint64_t *ret,
			   uint64_t *ret_at)
{
	const struct arch *arch = w->arch;
	uint64_t at = cfa - 8 * (uint64_t)rule->slot[0];

	if (__builtin_expect(rule->slot[0] == SLOT_SAME, 0)) {
		if (arch->call_pushes_ra)
			return stop(w, REASON_BAD_CFI);
		if (!(w->regs.valid >> arch->ra & 1))
			return stop(w, REASON_UNKNOWN_REG);
		*ret = w->regs.v[arch->ra];
		*ret_at = 0;
		return true;
	}
	if (at < w->sp && !(rule->flags & RULE_SIGNAL))
		return stop(w, REASON_BAD_CFI);
	if (!word_at(w, at, ret)) {
		w->wanted_at = at;
		return stop_outside(w, at);
	}
	*ret_at = at;
	return true;
}

/*
 * Registers that were saved. A slot below the stack pointer of an exact frame is one that an
 * epilogue popped already (or one in the red zone, if a signal came): where the copy does not
 * hold it, the register has its value back. Elsewhere such a slot belongs to the callee.
 */
static inline void load_slots(struct walk *w, const struct rule *rule, uint64_t cfa)
{
	const struct arch *arch = w->arch;
	uint64_t cfa_at = cfa - w->base;
	bool exact = w->activation || rule->flags & RULE_SIGNAL;
	uint64_t depth = exact || w->sp < w->base ? cfa_at : cfa - w->sp;
	uint64_t valid = w->regs.valid & arch->callee_saved;

	need(w, cfa);
	for (size_t i = 1; i < arch->num_tracked; i++) {
		uint64_t below = 8 * (uint64_t)rule->slot[i];
		unsigned int reg = arch->tracked[i];

		if (!below)
			continue;
		if (below <= depth && rule->slot[i] != SLOT_UNDEFINED &&
		    cfa_at - below + 8 <= w->stack_bytes) {
			memcpy(&w->regs.v[reg], w->stack + (cfa_at - below), 8);
			valid |= 1ull << reg;
		} else if (!exact || rule->slot[i] == SLOT_UNDEFINED ||
			   cfa_at - below < w->stack_bytes) {
			valid &= ~(1ull << reg);
		}
	}
	w->regs.valid = valid;
}

/*
 * The row counts from a register that a call may have changed. What it held is taken only where it leads to a
 * frame above this one whose return address, right below the CFA, is one of code.
 */
static bool likely_cfa(struct walk *w, const struct rule *rule)
{
	uint64_t cfa = w->regs.v[rule->cfa_reg] + (uint64_t)((int64_t)rule->cfa_off8 * 8);
	uint64_t ra;

	return (w->likely >> rule->cfa_reg & 1) && !(rule->flags & RULE_SIGNAL) &&
	       w->arch->call_pushes_ra && cfa > w->sp && cfa % 8 == 0 &&
	       rule->slot[0] == 1 && word_at(w, cfa - 8, &ra) && ra && map_at(w, ra - 1);
}

static inline bool step_cfa(struct walk *w, const struct rule *rule)
{
	bool signal = rule->flags & RULE_SIGNAL;
	uint64_t cfa, ra = 0, ra_at = 0;

	if (!(w->regs.valid >> rule->cfa_reg & 1) && !likely_cfa(w, rule))
		return stop(w, REASON_UNKNOWN_REG);
	cfa = w->regs.v[rule->cfa_reg] + (uint64_t)((int64_t)rule->cfa_off8 * 8);
	if (!signal && !cfa_is_progress(w, cfa))
		return stop(w, REASON_NO_PROGRESS);
	if (!slot_ra(w, rule, cfa, &ra, &ra_at))
		return false;
	load_slots(w, rule, cfa);
	enter_caller(w, ra, cfa, ra_at, signal);
	if (signal)
		enter_interrupted(w);
	return true;
}

static bool stop_expr(struct walk *w, const struct expr_env *env, enum expr_status status)
{
	switch (status) {
	case EXPR_UNKNOWN_REG:
		return stop(w, REASON_UNKNOWN_REG);
	case EXPR_OUTSIDE:
		return stop_outside(w, env->bad_addr);
	case EXPR_OK:
	case EXPR_BAD:
		break;
	}
	return stop(w, REASON_BAD_CFI);
}

/* What the row says of one register. On EXPR_OUTSIDE env->bad_addr tells where. *at: where it
 * was read, 0 = not from the stack. */
static enum expr_status where_value(struct walk *w, const struct rule_ext *ext,
				    const struct rule_where *where, unsigned int reg,
				    struct expr_env *env, uint64_t *ret, uint64_t *at)
{
	const struct rule_op *ops = ext->ops ? &ext->ops[where->first_op] : NULL;
	enum expr_status status = EXPR_OK;
	uint64_t from = reg;

	*at = 0;
	switch ((enum rule_how)where->how) {
	case HOW_UNDEFINED:
		return EXPR_UNKNOWN_REG;
	case HOW_REGISTER:
		from = (uint64_t)where->value;
		__attribute__((fallthrough));
	case HOW_SAME:
		if (!(w->regs.valid >> from & 1))
			return EXPR_UNKNOWN_REG;
		*ret = w->regs.v[from];
		return EXPR_OK;
	case HOW_CFA_PLUS:
		*ret = env->cfa + (uint64_t)where->value;
		return EXPR_OK;
	case HOW_EXPR:
		return expr_eval(env, ops, where->num_ops, ret);
	case HOW_AT_CFA:
		*at = env->cfa + (uint64_t)where->value;
		break;
	case HOW_AT_EXPR:
		status = expr_eval(env, ops, where->num_ops, at);
		break;
	}
	if (status == EXPR_OK && !word_at(w, *at, ret)) {
		env->bad_addr = *at;
		status = EXPR_OUTSIDE;
	}
	return status;
}

static bool ext_cfa(struct walk *w, const struct rule_ext *ext, struct expr_env *env)
{
	enum expr_status status;
	uint64_t cfa;

	if (ext->cfa.how == HOW_REGISTER) {
		if (!(w->regs.valid >> ext->cfa_reg & 1))
			return stop(w, REASON_UNKNOWN_REG);
		cfa = w->regs.v[ext->cfa_reg] + (uint64_t)ext->cfa.value;
	} else {
		status = expr_eval(env, &ext->ops[ext->cfa.first_op], ext->cfa.num_ops, &cfa);
		if (status != EXPR_OK)
			return stop_expr(w, env, status);
	}
	if (!ext->signal && !cfa_is_progress(w, cfa))
		return stop(w, REASON_NO_PROGRESS);
	env->cfa = cfa;
	env->has_cfa = true;
	return true;
}

/* True when a register that no rule mentions keeps its value. */
static bool is_kept(const struct walk *w, unsigned int reg)
{
	return w->arch->callee_saved >> reg & 1;
}

static void ext_regs(struct walk *w, const struct rule_ext *ext, struct expr_env *env,
		     struct regs *caller)
{
	for (unsigned int reg = 0; reg < w->arch->num_regs; reg++) {
		const struct rule_where *where = &ext->reg[reg];
		enum expr_status status;
		uint64_t value, at;

		if (reg == w->arch->sp || reg == w->arch->ra)
			continue;
		if (where->how == HOW_SAME && !is_kept(w, reg))
			continue;
		status = where_value(w, ext, where, reg, env, &value, &at);
		if (status == EXPR_OUTSIDE && w->activation && at && at < w->base &&
		    (w->regs.valid >> reg & 1)) {
			value = w->regs.v[reg]; /* popped already, see load_slots */
			status = EXPR_OK;
		}
		if (status != EXPR_OK)
			continue;
		caller->v[reg] = value;
		caller->valid |= 1ull << reg;
	}
}

/* The stack pointer of the caller: the CFA, unless the row says otherwise (signal frames do). */
static bool ext_sp(struct walk *w, const struct rule_ext *ext, struct expr_env *env, uint64_t *ret)
{
	const struct rule_where *where = &ext->reg[w->arch->sp];
	enum expr_status status;
	uint64_t at;

	*ret = env->cfa;
	if (where->how == HOW_SAME || where->how == HOW_UNDEFINED)
		return true;
	status = where_value(w, ext, where, w->arch->sp, env, ret, &at);
	if (status != EXPR_OK)
		return stop_expr(w, env, status);
	if (!ext->signal && !cfa_is_progress(w, *ret))
		return stop(w, REASON_NO_PROGRESS);
	return true;
}

static bool ext_ra(struct walk *w, const struct rule_ext *ext, struct expr_env *env, uint64_t *ret,
		   uint64_t *ret_at)
{
	const struct rule_where *where = &ext->reg[w->arch->ra];
	enum expr_status status;

	if (where->how == HOW_SAME && w->arch->call_pushes_ra)
		return stop(w, REASON_BAD_CFI);
	status = where_value(w, ext, where, w->arch->ra, env, ret, ret_at);
	if (status == EXPR_OK)
		return true;
	if (status == EXPR_OUTSIDE)
		w->wanted_at = *ret_at;
	return stop_expr(w, env, status);
}

static bool step_ext(struct walk *w, const struct rule_ext *ext)
{
	struct expr_env env = {
		.arch = w->arch,
		.regs = &w->regs,
		.stack = w->stack,
		.stack_base = w->base,
	};
	struct regs caller;
	uint64_t sp = 0, ra = 0, ra_at = 0;

	/* An expression may lead anywhere. */
	need_all(w);
	env.stack_bytes = w->stack_bytes;
	caller.valid = 0;
	if (!ext_cfa(w, ext, &env) || !ext_ra(w, ext, &env, &ra, &ra_at) ||
	    !ext_sp(w, ext, &env, &sp))
		return false;
	ext_regs(w, ext, &env, &caller);
	w->regs = caller;
	w->likely = ext->signal ? caller.valid & ~w->arch->callee_saved : 0;
	enter_caller(w, ra, sp, ra_at, ext->signal);
	if (ext->signal)
		enter_interrupted(w);
	return true;
}

bool walk_step_from_entry(struct walk *w, uint64_t keep)
{
	const struct arch *arch = w->arch;
	uint64_t ra, sp = w->sp, at = 0;

	if (arch->call_pushes_ra) {
		if (!word_at(w, sp, &ra))
			return false;
		at = sp;
		sp += 8;
	} else {
		if (!(w->regs.valid >> arch->ra & 1))
			return false;
		ra = w->regs.v[arch->ra];
	}
	ra &= arch->ra_mask;
	if (!ra || !map_at(w, ra - 1))
		return false;
	w->regs.valid &= keep;
	enter_caller(w, ra, sp, at, false);
	return true;
}

static enum unwind_reason no_fp_reason(const struct mapping *m)
{
	if (!m->file)
		return REASON_NO_FP;
	return m->file->kind == FILE_ELF ? REASON_NO_CFI : REASON_NO_FILE;
}

/* Who can be asked about code in that mapping. */
static inline size_t num_givers(const struct walk *w, const struct mapping *m)
{
	return m->file ? w->u->givers.len : w->u->num_jit_givers;
}

/*
 * True when the return address of a frame record is one. Where the saved frame pointer is none,
 * the caller must be code that does without: compiled C that called into JIT code keeps anything
 * in that register. Or a call must have left the address: V8's deoptimizer pops the frame of the function it replaces,
 * and calls on with a frame pointer that still points there, below the stack.
 */
static bool fp_leads_on(struct walk *w, const struct fp_frame *f)
{
	const struct mapping *m = map_at(w, f->ra - 1);
	bool root;

	if (!m)
		return false;
	if (f->fp_plausible)
		return true;
	/* Managed code as well, and it has its own givers. */
	if (!m->file || m->file->kind != FILE_ELF)
		return num_givers(w, m);
	return unwinder_native_rule_in(w->u, m, f->ra - 1).kind != RULE_FP || unwinder_is_entered_from(w->u, m, f->ra, &root);
}

/*
 * The C code that calls main may have neither call-frame information nor a frame pointer: musl's has not. Where the
 * next address on the stack that a call can have left is one of the program's entry point, nothing lies
 * between but the few words that such code pushed. Any other such address may be its caller or a remnant. Go's entry points
 * do not call its functions, so in its code one is a remnant.
 */
static bool step_to_entry(struct walk *w, const struct mapping *m)
{
	if (!w->arch->call_pushes_ra || !m->file || m->file->kind != FILE_ELF || elf_file_is_go(m->file->elf))
		return false;
	for (uint64_t at = w->sp; at < w->sp + max_entry_bytes; at += 8) {
		const struct mapping *above;
		bool root = false;
		uint64_t ra;

		if (!word_at(w, at, &ra))
			return false;
		above = map_at(w, ra - 1);
		if (!above || !unwinder_is_entered_from(w->u, above, ra, &root))
			continue;
		if (!root)
			return false;
		w->regs.valid = 0;
		enter_caller(w, ra, at + 8, at, false);
		return true;
	}
	return false;
}

uint64_t walk_named_by(struct walk *w, uint64_t end, uint8_t opcode)
{
	const struct mapping *m = map_at(w, end - 1);
	uint8_t code[REL32_BYTES];
	int32_t distance;

	if (!m || !m->file || m->file->kind != FILE_ELF || w->arch != &arch_x86_64 ||
	    !unwinder_code(w->u, m->file, end - mapping_bias(m) - sizeof(code), code, sizeof(code)) ||
	    code[0] != opcode)
		return 0;
	memcpy(&distance, code + 1, sizeof(distance));
	return end + (uint64_t)(int64_t)distance;
}

/*
 * Where the frame pointer is still, or again, the caller's, the instruction tells: push %rbp, the one behind it that sets the
 * new one, ret; or the call that led to this very instruction. Chromium is built so, and its functions' first instructions
 * wait for their pages.
 */
static bool step_by_code(struct walk *w, const struct mapping *m)
{
	static const uint8_t set_frame[] = { 0x48, 0x89, 0xe5 }; /* mov %rsp,%rbp */
	const uint8_t push = 0x55, ret = 0xc3;
	const struct mapping *caller;
	uint8_t code[1 + sizeof(set_frame)];
	uint64_t at = w->sp, ra;
	bool root;

	if (w->arch != &arch_x86_64 || !m->file || m->file->kind != FILE_ELF ||
	    !unwinder_code(w->u, m->file, w->regs.pc - mapping_bias(m) - 1, code, sizeof(code)))
		return false;
	if (code[0] == push && !memcmp(code + 1, set_frame, sizeof(set_frame)))
		at += 8;
	if (!word_at(w, at, &ra))
		return false;
	if (at == w->sp && code[1] != push && code[1] != ret && walk_named_by(w, ra, CALL_REL32) != w->regs.pc)
		return false;
	caller = map_at(w, ra - 1);
	if (!caller || !unwinder_is_entered_from(w->u, caller, ra, &root))
		return false;
	w->regs.valid &= w->arch->callee_saved;
	enter_caller(w, ra, at + 8, at, false);
	return true;
}

bool walk_step_fp(struct walk *w, const struct mapping *m)
{
	const struct arch *arch = w->arch;
	uint64_t fp_bit = 1ull << arch->fp;
	bool at_end = false;
	struct fp_frame f;

	if (w->activation && step_by_code(w, m))
		return true;
	need(w, w->regs.v[arch->fp] + 2 * sizeof(uint64_t));
	switch (fp_read(arch, &w->regs, w->sp, w->stack, w->stack_bytes, w->base, &f)) {
	case FP_OK:
		at_end = !f.ra && !f.fp;
		if (!f.ra || !fp_leads_on(w, &f))
			break;
		/* Such code saves the other registers wherever it likes. */
		w->regs.valid = fp_bit;
		w->likely = 0;
		w->regs.v[arch->fp] = f.fp;
		enter_caller(w, f.ra, f.sp, f.ra_at, false);
		/* Elsewhere the record need not end the frame: f.sp is only a bound. */
		if (!arch->call_pushes_ra)
			w->regs.valid = fp_bit;
		return true;
	case FP_OUTSIDE:
		if (!w->in->stack_full || w->altstack || f.ra_at - w->base > max_stack_bytes)
			break;
		w->wanted_at = f.ra_at;
		return stop_outside(w, f.ra_at);
	case FP_END:
		at_end = true;
		break;
	case FP_NOT:
		break;
	}
	/* At its entry an exact frame has not set up its frame pointer yet. */
	if (w->activation && walk_step_from_entry(w, fp_bit))
		return true;
	if (at_end && at_stack_end(w))
		return complete(w);
	if (!w->altstack && step_to_entry(w, m))
		return true;
	return stop(w, w->altstack ? REASON_ALTSTACK : no_fp_reason(m));
}

/* RULE_NEXT: the return address stands for the function that it is the first byte of. */
static bool step_next(struct walk *w, const struct mapping *m, bool goes_on)
{
	const struct frame_entry *e;

	if (w->activation)
		return walk_step_fp(w, m);
	e = entry_at(w, m, w->regs.pc);
	if (e)
		w->frames[w->ret->num_frames - 1] = e->id;
	if (!goes_on)
		return complete(w);
	return walk_step_from_entry(w, w->arch->callee_saved) || stop(w, REASON_NO_CFI);
}

static bool step_by_rule(struct walk *w, const struct mapping *m, const struct rule *rule)
{
	switch ((enum rule_kind)rule->kind) {
	case RULE_CFA:
		return step_cfa(w, rule);
	case RULE_EXT:
		return step_ext(w, &w->u->exts.records.data[rule->ext]->ext);
	case RULE_FP:
		return walk_step_fp(w, m);
	case RULE_NEXT:
		return step_next(w, m, rule->ext);
	case RULE_END:
		return complete(w);
	case RULE_ROOT:
		return walk_go_root(w, m, rule->ext);
	case RULE_BAD:
		return stop(w, (enum unwind_reason)rule->ext);
	case RULE_UNSET:
		break; /* memory is out */
	}
	return stop(w, REASON_NO_CFI);
}

/* ---- who gives the rule ---- */

/* A giver is our own code, but what it read to make the rule is not. */
static bool rule_is_sane(const struct arch *arch, const struct rule *rule)
{
	switch ((enum rule_kind)rule->kind) {
	case RULE_CFA:
		return rule->cfa_reg < arch->num_regs && rule->slot[0] != SLOT_UNDEFINED;
	case RULE_FP:
	case RULE_END:
		return true;
	case RULE_ROOT:
		return !rule->ext;
	case RULE_BAD:
		return rule->ext > REASON_NONE && rule->ext < REASON_NUM;
	case RULE_UNSET:
	case RULE_EXT:
	case RULE_NEXT:
		break;
	}
	return false;
}

/* The caller as a giver found it. */
static bool take_step(struct walk *w, const struct give_answer *answer)
{
	const struct arch *arch = w->arch;
	uint64_t sp = answer->regs.v[arch->sp];

	if (!(answer->regs.valid >> arch->sp & 1))
		return stop(w, REASON_UNKNOWN_REG);
	if (!answer->caller_activation && !cfa_is_progress(w, sp))
		return stop(w, REASON_NO_PROGRESS);
	w->regs = answer->regs;
	w->likely = answer->caller_activation ? answer->regs.valid & ~arch->callee_saved : 0;
	enter_caller(w, answer->regs.pc, sp, 0, answer->caller_activation);
	if (answer->caller_activation)
		enter_interrupted(w);
	return true;
}

/* A giver answered with a rule: remembers it as long as it said, and steps. */
static bool take_rule(struct walk *w, const struct mapping *m, uint64_t pc,
		      const struct give_answer *answer)
{
	struct rule rule = answer->rule;
	struct frame_entry *e;

	if (!rule_is_sane(w->arch, &rule))
		return stop(w, REASON_GIVER);
	rule.flags |= RULE_GIVEN;
	/* Rules that go with the code belong to one process, those that go with the file to all. */
	if (answer->life == (m->file ? GIVE_WITH_FILE : GIVE_WITH_CODE)) {
		e = entry_at(w, m, pc);
		if (e && e->rule.kind == RULE_UNSET)
			w->u->counts.rules_cached++;
		if (e && m->file)
			frames_set_rule(&w->u->frames, w->arch, e, rule);
		else if (e)
			e->rule = rule;
	}
	return step_by_rule(w, m, &rule);
}

enum asked { ASKED_NONE, ASKED_ON, ASKED_STOP };

static enum asked asked(bool on)
{
	return on ? ASKED_ON : ASKED_STOP;
}

static void need_for_giver(void *data, uint64_t addr)
{
	need(data, addr);
}

static enum asked ask_givers(struct walk *w, const struct mapping *m, uint64_t pc)
{
	struct give_query query = {
		.space = w->in->space,
		.mapping = m,
		.pc = pc,
		.activation = w->activation,
		.first = w->first,
		.regs = &w->regs,
		.stack = w->stack,
		.stack_bytes = w->stack_bytes,
		.stack_base = w->base,
		.need = need_for_giver,
		.need_data = w,
		.memory = &w->u->memory,
	};

	for (size_t i = 0; i < w->u->givers.len; i++) {
		const struct unwind_giver *giver = &w->u->givers.data[i];
		struct give_answer answer = { 0 };

		if (giver->files_only && !m->file)
			continue;
		switch (giver->give(giver->data, &query, &answer)) {
		case GIVE_PASS:
			break;
		case GIVE_RULE:
			return asked(take_rule(w, m, pc, &answer));
		case GIVE_STEP:
			return asked(take_step(w, &answer));
		case GIVE_STOP:
			return asked(stop(w, answer.reason && answer.reason < REASON_NUM
						     ? (enum unwind_reason)answer.reason
						     : REASON_GIVER));
		case GIVE_LATER:
			return asked(stop(w, REASON_NOT_NOW));
		}
	}
	return ASKED_NONE;
}

/* No remembered rule, or only that nobody knew better than the frame pointer: asks. */
static bool step_unknown(struct walk *w, const struct mapping *m, uint64_t pc)
{
	uint32_t *id = &w->frames[w->ret->num_frames - 1];
	struct frame_entry *e;
	struct rule rule;

	if (num_givers(w, m)) {
		enum asked answer = ask_givers(w, m, pc);

		/* While it looked, the giver may have dropped the code that was here: new code,
		 * new id. */
		e = entry_at(w, m, pc);
		if (e)
			*id = e->id;
		if (answer != ASKED_NONE)
			return answer == ASKED_ON;
	}
	if (m->file) {
		if (w->sp >= w->base && w->sp - w->base < w->here) {
			w->u->ahead = w->stack + (w->sp - w->base);
			w->u->ahead_bytes = w->here - (w->sp - w->base);
		}
		rule = unwinder_native_rule_in(w->u, m, pc);
		w->u->ahead_bytes = 0;
		return step_by_rule(w, m, &rule);
	}
	e = entry_at(w, m, pc);
	rule = (struct rule){ .kind = RULE_FP };
	if (e && e->rule.kind == RULE_UNSET) {
		w->u->counts.rule_misses++;
		w->u->counts.rules_cached++;
		e->rule = rule;
	}
	return step_by_rule(w, m, &rule);
}

/* ---- the walk ---- */

static void note_frame(struct walk *w, uint32_t id)
{
	w->u->trace[w->ret->num_frames] =
		(struct trace){ .pc = w->regs.pc, .ra_at = w->ra_at, .sp = w->sp };
	w->frames[w->ret->num_frames++] = id;
}

/* The pc is in no executable mapping. */
static bool step_nowhere(struct walk *w)
{
	const struct frame_entry *e;

	if (!w->activation) {
		if (!w->regs.pc && at_stack_end(w))
			return complete(w);
		return stop(w, REASON_NO_MAPPING);
	}
	e = own_entry(w, FRAME_NOWHERE, w->regs.pc);
	if (e) {
		note_frame(w, e->id);
		w->ret->num_unknown++;
	}
	/* A call through a bad pointer has pushed its return address and nothing else. */
	if (walk_step_from_entry(w, w->arch->callee_saved))
		return true;
	return stop(w, REASON_NO_MAPPING);
}

/* ---- the fast way ---- */

/*
 * Nearly all frames are in a file, their rule is known and counts from the stack or frame pointer.
 * For them only those two registers are loaded; what else such a frame saved is loaded by
 * load_stale, should any later frame turn out to need it. So the loop carries three registers, and
 * all it waits for are 16 bytes of the table (struct frame_hot) and one word of the stack.
 */
struct plain_map {
	uint64_t start, size;
	uint64_t to_key; /* + address = frame_key */
};

/* False when the address is not in a file, or in one whose places have no keys. */
static bool plain_map_set(struct walk *w, uint64_t addr, struct plain_map *ret)
{
	const struct mapping *m = map_at(w, addr);

	if (!m || !m->file || !frame_has_key(m->file->id, m->pgoff + (m->end - m->start)) ||
	    m->pgoff >> KEY_PLACE_BITS)
		return false;
	ret->start = m->start;
	ret->size = m->end - m->start;
	ret->to_key = frame_key(m->file->id, m->pgoff - m->start);
	return true;
}

/*
 * A stack is rarely in cache, and each word of it tells where the next one is. Frames are small and
 * lie in order, so the lines ahead are asked for before anything is known of them.
 */
enum { FETCH_FIRST = 1024, FETCH_AHEAD = 2048, FETCH_STEP = 512, CACHE_LINE = 64 };

static inline void fetch_lines(uint64_t *from, uint64_t to)
{
	for (; *from < to; *from += CACHE_LINE)
		__builtin_prefetch((const void *)(uintptr_t)*from);
}

/* Of the slot with that key, or an empty one. */
static inline const struct frame_hot *hot_find(const struct frame_hot *hots, const struct frame_table *t, uint64_t key)
{
	size_t i = frame_table_hash(key) >> t->shift;

	while (__builtin_expect(hots[i].key != key && hots[i].id, 0))
		i = (i + 1) & t->mask;
	return &hots[i];
}

/* So far the walk goes by itself: to where the frames that are known begin. */
static inline uint64_t known_at(const struct walk *w)
{
	return w->outer ? w->known->frames[w->outer - 1].sp - w->base + (uint64_t)(uintptr_t)w->stack : UINT64_MAX;
}

/*
 * Stands at or above the innermost of the outer frames that are known. True when it is one of them: w->outer are what
 * follows, itself among them; else they are those above. What they were is only looked at now: their words were asked
 * for when the walk began.
 */
static __attribute__((noinline)) bool meet_known(struct walk *w, uint64_t pc, uint64_t sp, uint64_t fp)
{
	const struct known_frame *f = w->known->frames;
	size_t num = w->outer;

	if (!w->outer_there) {
		num = known_outer(w->known, w->stack, w->here, w->base, w->arch->ra_mask);
		w->outer_there = true;
	}
	while (num && f[num - 1].sp < sp)
		num--;
	w->outer = num;
	if (!num || f[num - 1].sp != sp)
		return false;
	if (f[num - 1].pc == pc && (!f[num - 1].needs_fp || f[num - 1].fp == fp))
		return true;
	w->outer--;
	return false;
}

/* The end of the stack, behind the outer frames that are known; of those before them all from `from` on are plain. */
static bool complete_known(struct walk *w, size_t from, size_t num, size_t outer)
{
	struct unwinder *u = w->u;

	known_add(&u->known, &u->frames, w->in->space, w->known, outer, u->trace, w->frames, from, num);
	u->last_known = w->known;
	u->last_outer = outer;
	u->last_inner = num;
	for (size_t i = outer; i-- > 0;)
		w->frames[num++] = w->known->frames[i].id;
	w->ret->num_frames = num;
	return complete(w);
}

/* What a frame pointer is that is not known: so far from every stack that it leads into none. */
static const uint64_t no_fp = 1ull << 63;

/*
 * Goes through plain frames and stands at the first that is not, of which nothing is noted yet.
 * False when the stack ended there. Places on the stack are addresses of ours here.
 */
static bool walk_plain(struct walk *w)
{
	const struct frame_table *const table = &w->u->frames.files;
	const struct frame_hot *const hots = table->hot;
	const uint64_t here = (uint64_t)(uintptr_t)w->stack, to_here = here - w->base, end = here + w->here;
	const uint64_t ra_mask = w->arch->ra_mask;
	const uint8_t sp_reg = w->arch->sp, fp_reg = w->arch->fp;
	const size_t from_num = w->ret->num_frames;
	const uint32_t *const frames_end = w->frames + w->u->max_frames;
	uint32_t *frame = w->frames + from_num;
	struct trace *t = w->u->trace + from_num;
	const uint64_t call = !w->activation; /* a caller's place lies inside its call */
	uint64_t addr = w->regs.pc - call, sp = w->sp + to_here, ra_at = w->ra_at;
	uint64_t fp = w->regs.valid >> fp_reg & 1 ? w->regs.v[fp_reg] : no_fp;
	uint64_t fetched = w->fetched, known = known_at(w);
	/* The outer part was asked for already where it is known. */
	const uint64_t ahead = (w->outer ? FETCH_FIRST : FETCH_AHEAD) - FETCH_STEP;
	struct plain_map map = { 0 };

	/* What holds for exact frames in general is worth no time but for the sampled one. */
	if ((w->activation && !w->first) || !hots || !(w->regs.valid >> sp_reg & 1) || sp - here > w->here)
		return true;
	while (frame < frames_end) {
		const struct frame_hot *hot;
		uint64_t from, cfa, ra_from, fp_below, word;

		if (sp >= known) {
			size_t num = (size_t)(frame - w->frames);

			if ((call || num) && meet_known(w, addr + 1, sp - to_here, fp) &&
			    w->outer <= (size_t)(frames_end - frame)) {
				*t = (struct trace){ addr + 1, ra_at, sp - to_here, fp, NULL };
				return complete_known(w, from_num, num, w->outer);
			}
			known = known_at(w);
		}
		if (addr - map.start >= map.size && !plain_map_set(w, addr, &map))
			break;
		hot = hot_find(hots, table, addr + map.to_key);
		if (__builtin_expect(hot->kind == HOT_SP, 1)) {
			from = sp;
		} else if (hot->kind == HOT_FP) {
			from = fp + to_here;
		} else if (hot->kind == HOT_END) {
			*t = (struct trace){ addr + 1, ra_at, sp - to_here, fp, hot };
			*frame++ = hot->id;
			return complete_known(w, from_num, (size_t)(frame - w->frames), 0);
		} else {
			break;
		}
		/* The walk waits for this word alone; all else only tells whether it may go on. */
		ra_from = from + (uint64_t)((int64_t)hot->ra_off8 * 8);
		cfa = ra_from + 8 * (uint64_t)hot->ra_slot;
		/* Above the frame, in the copy, and the return address between the two. */
		if (ra_from - sp >= end - sp || cfa > end)
			break;
		fp_below = 8 * (uint64_t)hot->fp_slot;
		if (fp_below > cfa - sp)
			break;
		*t++ = (struct trace){ addr + 1, ra_at, sp - to_here, fp, hot };
		*frame++ = hot->id;
		/* Without a branch on whether the frame pointer was saved: nothing predicts
		 * that. */
		memcpy(&word, (const void *)(uintptr_t)(cfa - (fp_below ? fp_below : 8)), sizeof(word));
		fp = fp_below ? word : fp;
		if (cfa + ahead >= fetched && fetched < end)
			fetch_lines(&fetched, fetched + FETCH_STEP);
		ra_at = ra_from - to_here;
		memcpy(&word, (const void *)(uintptr_t)ra_from, sizeof(word));
		addr = (word & ra_mask) - 1;
		sp = cfa;
	}
	w->fetched = fetched;
	if (frame == w->frames + from_num)
		return true;
	w->u->trace[from_num].pc = w->regs.pc;
	w->stale = from_num;
	w->end_stale = w->ret->num_frames = (size_t)(frame - w->frames);
	w->regs.v[fp_reg] = fp;
	w->regs.valid = (w->regs.valid & w->arch->callee_saved & ~(1ull << fp_reg)) | (uint64_t)(fp != no_fp) << fp_reg;
	enter_caller(w, addr + 1, sp - to_here, ra_at, false);
	return true;
}

/*
 * Loads what plain frames saved beside the frame pointer. A slot that lies in the callee is lost;
 * one of the sampled frame has been popped, see load_slots.
 */
static void load_stale(struct walk *w)
{
	const struct trace *trace = w->u->trace;
	const struct arch *arch = w->arch;

	for (size_t n = w->stale; n < w->end_stale; n++) {
		const struct frame_entry *e = blocks_at(&w->u->frames.by_id, w->frames[n]);
		uint64_t cfa = n + 1 < w->end_stale ? trace[n + 1].sp : w->sp;

		for (size_t i = 2; i < arch->num_tracked; i++) {
			uint8_t slot = e->rule.slot[i];
			uint64_t below = 8 * (uint64_t)slot;
			uint64_t bit = 1ull << arch->tracked[i];

			if (!below || (n == 0 && slot != SLOT_UNDEFINED && below > cfa - trace[n].sp))
				continue;
			w->regs.valid &= ~bit;
			if (slot == SLOT_UNDEFINED || below > cfa - trace[n].sp)
				continue;
			memcpy(&w->regs.v[arch->tracked[i]], w->stack + (cfa - below - w->base), 8);
			w->regs.valid |= bit;
		}
	}
	w->stale = w->end_stale = 0;
}

/* ---- the general way ---- */

/* Most walks want only the stack and the frame pointer. */
static void take_regs(struct walk *w)
{
	const uint64_t sp = w->regs.v[w->arch->sp], fp = w->regs.v[w->arch->fp];

	if (w->regs_taken)
		return;
	w->regs_taken = true;
	arch_regs_take(&w->u->layout, w->in->perf_regs, &w->regs);
	w->regs.v[w->arch->sp] = sp;
	w->regs.v[w->arch->fp] = fp;
}

/* Any frame. */
static bool walk_frame(struct walk *w)
{
	uint64_t pc = w->regs.pc - !w->activation;
	const struct mapping *m;
	struct frame_entry *e;
	struct rule rule;

	if (w->ret->num_frames == w->u->max_frames)
		return stop(w, REASON_TOO_DEEP);
	take_regs(w);
	m = map_at(w, pc);
	if (!m)
		return step_nowhere(w);
	e = entry_at(w, m, pc);
	if (!e)
		return stop(w, REASON_NO_CFI); /* memory is out */
	note_frame(w, e->id);
	w->ret->num_jit += !m->file;
	rule = e->rule;
	if (rule.kind == RULE_END || (rule.kind == RULE_ROOT && !rule.ext))
		return complete(w); /* mostly right behind plain frames, whose registers nobody wants then */
	load_stale(w);
	if (__builtin_expect(rule.kind == RULE_CFA, 1))
		return step_cfa(w, &rule);
	if (rule.kind == RULE_UNSET ||
	    (rule.kind == RULE_FP && !(rule.flags & RULE_GIVEN) && num_givers(w, m)))
		return step_unknown(w, m, pc);
	return step_by_rule(w, m, &rule);
}

/* The copy was too small: the rest by the kernel's chain, where that is proved to continue ours. */
static void splice(struct walk *w, uint64_t fp)
{
	struct unwind_result *ret = w->ret;
	size_t first;

	need_all(w);
	if (w->here < w->in->stack_bytes)
		return;
	first = splice_find(w->in, w->base, fp, w->u->trace, ret->num_frames, w->wanted_at, w->arch->ra_mask);
	if (!first)
		return;
	ret->spliced = true;
	chain_append(w->u, w->in, first, w->frames, ret);
	if (ret->class == UNWIND_COMPLETE)
		return;
	ret->class = UNWIND_TRUNCATED;
	ret->reason = REASON_NONE;
}

/* What this stack may have begun as. One access to each of its words, of which none is waited for yet. */
static void find_known(struct walk *w)
{
	const uint64_t here = (uint64_t)(uintptr_t)w->stack;
	struct known_stack *known = known_find(&w->u->known, &w->u->frames, w->in->space, w->base);

	w->known = known;
	w->outer = 0;
	w->outer_there = false;
	if (!known || known->frames[0].sp - w->base > w->stack_bytes) {
		fetch_lines(&w->fetched, here + FETCH_AHEAD);
		return;
	}
	need(w, known->frames[0].sp);
	w->outer = known->num;
	for (size_t i = 0; i < known->num; i++) {
		uint64_t at = known->frames[i].ra_at - w->base;

		if (at <= FETCH_FIRST || at >= w->stack_bytes) /* the stack has come back from there, or it lies nowhere */
			break;
		__builtin_prefetch(w->stack + at);
	}
}

void unwind_by_cfi(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		   struct unwind_result *ret)
{
	static const struct mapping nowhere;
	const struct arch *arch = u->arch;
	struct walk w;
	uint64_t fp;

	w.u = u;
	w.arch = arch;
	w.in = in;
	w.stack = in->stack;
	w.stack_bytes = in->stack ? in->stack_bytes : 0;
	w.here = in->stack && in->fetch ? in->stack_here : w.stack_bytes;
	w.fetched = (uint64_t)(uintptr_t)in->stack;
	/* One access each to where registers and stack are, before all those that only may be needed. */
	__builtin_prefetch(in->perf_regs);
	__builtin_prefetch(in->perf_regs + 8);
	__builtin_prefetch(in->perf_regs + 16);
	fetch_lines(&w.fetched, w.fetched + FETCH_FIRST);
	w.ra_at = w.wanted_at = 0;
	w.map = w.map2 = &nowhere;
	w.own = NULL;
	w.stale = w.end_stale = 0;
	w.activation = w.first = true;
	w.altstack = false;
	w.frames = frames;
	w.ret = ret;
	if (__builtin_expect(u->layout.mask != in->perf_mask, 0))
		arch_layout_init(&u->layout, arch, in->perf_mask);
	w.regs_taken = false;
	arch_regs_take_main(&u->layout, arch, in->perf_regs, &w.regs);
	if (!(w.regs.valid >> arch->sp & 1)) {
		stop(&w, REASON_NO_REGS);
		return;
	}
	w.likely = w.regs.valid & ~arch->callee_saved;
	w.base = w.sp = w.regs.v[arch->sp];
	fp = w.sampled_fp = w.regs.valid >> arch->fp & 1 ? w.regs.v[arch->fp] : 0;
	w.root_at = 0;
	find_known(&w);
	while (walk_plain(&w) && walk_frame(&w))
		;
	if (w.root_at && ret->class != UNWIND_COMPLETE) {
		ret->num_frames = w.root_at;
		complete(&w);
	}
	if (ret->class == UNWIND_TRUNCATED)
		splice(&w, fp);
	else if (__builtin_expect(ret->class == UNWIND_BROKEN && ret->reason == REASON_ALTSTACK, 0))
		walk_go_behind_signal(&w);
}
