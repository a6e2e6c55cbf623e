#include "unwinder/unwinder.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "unwinder/unwinder_priv.h"

#include <errno.h>

enum {
	MAX_AHEAD = 16 << 10, /* bytes of stack that are looked at for addresses */
	/*
	 * sub $24,%rsp; mov %rbp,16(%rsp); lea 16(%rsp),%rbp: the longest in which functions of 16 bytes set up their
	 * frame.
	 */
	GO_PROLOGUE_BYTES = 14,
};

static const char *const reason_names[REASON_NUM] = {
	[REASON_NONE] = "none",
	[REASON_NO_REGS] = "no_regs",
	[REASON_COMPAT] = "compat",
	[REASON_NO_MAPPING] = "no_mapping",
	[REASON_NO_FILE] = "no_file",
	[REASON_NO_CFI] = "no_cfi",
	[REASON_NO_FP] = "no_fp",
	[REASON_BAD_CFI] = "bad_cfi",
	[REASON_UNKNOWN_REG] = "unknown_reg",
	[REASON_OUTSIDE] = "outside",
	[REASON_ALTSTACK] = "altstack",
	[REASON_NO_PROGRESS] = "no_progress",
	[REASON_TOO_DEEP] = "too_deep",
	[REASON_NOT_NOW] = "not_now",
	[REASON_GIVER] = "giver",
	[REASON_NO_CHAIN] = "no_chain",
};

const char *unwind_reason_name(enum unwind_reason reason)
{
	return (unsigned int)reason < REASON_NUM ? reason_names[reason] : "none";
}

static enum memory_answer read_never(void *data, const struct addrspace *space, uint64_t addr,
				     void *buf, size_t len)
{
	return MEMORY_NEVER;
}

static void unwinder_freep(struct unwinder **u)
{
	unwinder_free(*u);
}

int unwinder_new(const struct unwind_opts *opts, struct unwinder **ret, struct err *err)
{
	_cleanup_(unwinder_freep) struct unwinder *u = calloc(1, sizeof(*u));

	if (!u)
		return err_oom(err);
	u->arch = opts->arch;
	u->method = opts->method;
	u->memory = opts->memory;
	if (!u->memory.read)
		u->memory.read = read_never;
	u->max_frames = opts->max_frames ? opts->max_frames : DEFAULT_MAX_FRAMES;
	u->trace = calloc(u->max_frames, sizeof(*u->trace));
	if (!frames_init(&u->frames) || !u->trace)
		return err_oom(err);
	*ret = steal_ptr(u);
	return 0;
}

void unwinder_free(struct unwinder *u)
{
	if (!u)
		return;
	libunwind_free(u);
	frames_deinit(&u->frames);
	exts_deinit(&u->exts);
	vec_deinit(&u->givers);
	free(u->rows);
	free(u->code);
	known_deinit(&u->known);
	free(u->trace);
	free(u);
}

void unwinder_forget_rules(struct unwinder *u)
{
	frames_forget_files(&u->frames);
}

int unwinder_add_giver(struct unwinder *u, const struct unwind_giver *giver, struct err *err)
{
	if (!vec_push(&u->givers, *giver))
		return err_oom(err);
	u->num_jit_givers += !giver->files_only;
	return 0;
}

/* ---- rules of native code ---- */

static bool is_listed(const uint64_t *vaddrs, size_t num, uint64_t vaddr)
{
	for (size_t i = 0; i < num; i++) {
		if (vaddrs[i] == vaddr)
			return true;
	}
	return false;
}

/* No rule is known for the place. */
static bool is_new(const struct unwinder *u, const struct mapping *m, uint64_t pc, uint64_t vaddr)
{
	const struct frame_entry *e = frames_find_in_file(&u->frames, m->file->id, pc - m->start + m->pgoff);

	return (!e || e->rule.kind == RULE_UNSET) && !rows_find(u->rows, m->file->id, vaddr);
}

/*
 * What to ask about besides, as a question costs more than its answer: the words further up the copied stack that are
 * addresses in the same code. Most are return addresses of this walk or of the next. Their number in all.
 */
static size_t list_likely(const struct unwinder *u, const struct mapping *m, uint64_t bias, uint64_t *vaddrs)
{
	size_t words = (u->ahead_bytes < MAX_AHEAD ? u->ahead_bytes : MAX_AHEAD) / sizeof(uint64_t), num = 1;

	for (size_t i = 0; i < words && num < RULES_MANY; i++) {
		uint64_t pc, vaddr;

		memcpy(&pc, u->ahead + i * sizeof(pc), sizeof(pc));
		pc--;
		if (pc - m->start >= m->end - m->start)
			continue;
		vaddr = pc - bias;
		if (!is_listed(vaddrs, num, vaddr) && is_new(u, m, pc, vaddr))
			vaddrs[num++] = vaddr;
	}
	return num;
}

/* The row at vaddr, by the file's own call-frame information; see rule_from_cfi. */
static struct rule row_of(struct unwinder *u, const struct mapping *m, uint64_t vaddr, uint64_t *start, uint64_t *end,
			  struct rule_ext *ext)
{
	struct elf_file *elf = m->file->elf;
	uint64_t vaddrs[RULES_MANY];

	if (!elf_file_is_remote(elf))
		return rule_from_cfi(u->arch, elf, vaddr, start, end, ext);
	vaddrs[0] = vaddr;
	return rules_ask(u, m->file, vaddrs, list_likely(u, m, mapping_bias(m), vaddrs), start, end, ext);
}

/*
 * A stack made by hand may begin with the first byte of a function as return address: glibc's
 * makecontext does so with __start_context. True when the stack ends in that function, by its row
 * or by its very code, and no call can have left the address. Any other function is more likely to
 * be a pointer that lies on the stack.
 */
static bool is_first_of_stack(struct unwinder *u, const struct mapping *m, uint64_t ra)
{
	const struct arch *arch = u->arch;
	uint8_t before[ARCH_CALL_BYTES], first[ARCH_CONTEXT_BYTES];
	uint64_t vaddr = ra - mapping_bias(m), start, end;
	struct rule_ext ext;
	struct rule rule;

	if (ra >= m->end)
		return false;
	rule = row_of(u, m, vaddr, &start, &end, &ext);
	rule_ext_deinit(&ext);
	if (rule.kind == RULE_FP || start != vaddr)
		return false;
	if (rule.kind != RULE_END &&
	    (!elf_file_read_vaddr(m->file->elf, vaddr, first, arch->context_start_bytes) ||
	     memcmp(first, arch->context_start, arch->context_start_bytes) != 0))
		return false;
	return !elf_file_read_vaddr(m->file->elf, vaddr - sizeof(before), before, sizeof(before)) ||
	       !arch->ends_in_call(before);
}

bool unwinder_is_entered_from(struct unwinder *u, const struct mapping *m, uint64_t ra, bool *root)
{
	uint8_t before[ARCH_CALL_BYTES];
	struct elf_file *elf = m->file && m->file->kind == FILE_ELF ? m->file->elf : NULL;
	uint64_t bias;

	if (!elf || !u->arch->ends_in_call)
		return false;
	bias = mapping_bias(m);
	if (!unwinder_code(u, m->file, ra - bias - sizeof(before), before, sizeof(before)) ||
	    !u->arch->ends_in_call(before))
		return false;
	*root = elf_file_is_root(elf, ra - 1 - bias);
	return true;
}

/*
 * Go's and musl's ways back from a signal handler have no call-frame information that says so. The kernel made their frame,
 * so what lies where is known. vaddr is the byte before the code, as that of a return address, or an instruction of it, or
 * what follows it while the kernel does what it asked for.
 */
static bool returns_from_signal(struct unwinder *u, const struct mapping *m, uint64_t vaddr, struct rule_ext *ret)
{
	const struct arch *arch = u->arch;
	uint8_t code[2 * ARCH_SIGRETURN_BYTES + 1];
	const size_t len = arch->sigreturn_bytes;
	size_t at = 0;

	if (!arch->sigframe_at[arch->ra] ||
	    !elf_file_read_vaddr(m->file->elf, vaddr - len, code, 2 * len + 1))
		return false;
	while (at <= len + 1 && memcmp(code + at, arch->sigreturn, len) != 0)
		at++;
	if (at > len + 1)
		return false;
	*ret = (struct rule_ext){ .signal = true, .cfa.how = HOW_REGISTER, .cfa_reg = arch->sp };
	for (size_t reg = 0; reg < arch->num_regs; reg++)
		ret->reg[reg] = (struct rule_where){ .how = HOW_AT_CFA, .value = arch->sigframe_at[reg] };
	return true;
}

static struct rule compile(struct unwinder *u, const struct mapping *m, uint64_t pc)
{
	struct elf_file *elf = m->file->elf;
	uint64_t vaddr = pc - mapping_bias(m);
	uint64_t start, end;
	const struct rule *known;
	struct rule_ext ext, by_code;
	struct rule rule;
	enum elf_root root;

	if (elf_file_root(elf, vaddr + 1, &start) == ELF_ROOT_MARK && start == vaddr + 1)
		return (struct rule){ .kind = RULE_NEXT, .ext = 1 };
	root = elf_file_root(elf, vaddr, &start);
	if (root > ELF_ROOT_NONE && root < ELF_ROOT_MARK)
		return (struct rule){ .kind = RULE_ROOT, .ext = root == ELF_ROOT_FIRST ? 0 : root };
	if (root == ELF_ROOT_CLOCK && vaddr - start >= GO_PROLOGUE_BYTES)
		return (struct rule){ .kind = RULE_ROOT, .ext = root };
	known = rows_find(u->rows, m->file->id, vaddr);
	if (known)
		return *known;
	rule = row_of(u, m, vaddr, &start, &end, &ext);
	/* As a return address it stands for the byte before, which may be the end of another function. */
	if ((rule.kind == RULE_FP || end == vaddr + 1 || elf_file_is_go(elf)) && !(rule.flags & RULE_SIGNAL) &&
	    returns_from_signal(u, m, vaddr, &by_code)) {
		rule_ext_deinit(&ext);
		ext = by_code;
		rule = (struct rule){ .kind = RULE_EXT, .flags = RULE_SIGNAL };
	}
	rows_add(&u->rows, m->file->id, vaddr, end, &rule);
	if (rule.kind == RULE_FP && is_first_of_stack(u, m, pc + 1))
		rule.kind = RULE_NEXT;
	if (rule.kind != RULE_EXT)
		return rule;
	rule.ext = exts_add(&u->exts, &ext);
	if (rule.ext == UINT32_MAX)
		return (struct rule){ .kind = RULE_UNSET };
	return rule;
}

struct rule unwinder_native_rule_in(struct unwinder *u, const struct mapping *m, uint64_t pc)
{
	struct rule rule = { .kind = RULE_FP };
	struct frame_entry *e;

	if (!m->file)
		return rule;
	e = frames_in_file(&u->frames, &u->exts, m->file->id, pc - m->start + m->pgoff);
	if (!e)
		return (struct rule){ .kind = RULE_UNSET };
	if (e->rule.kind != RULE_UNSET)
		return e->rule;
	u->counts.rule_misses++;
	if (m->file->kind == FILE_ELF && m->file->elf)
		rule = compile(u, m, pc);
	frames_set_rule(&u->frames, u->arch, e, rule);
	u->counts.rules_cached += rule.kind != RULE_UNSET;
	return rule;
}

bool unwinder_ends_at(struct unwinder *u, const struct addrspace *space, uint64_t *pc, bool exact)
{
	const struct mapping *m = addrspace_find(space, *pc);
	struct rule rule;

	if (!m)
		return false;
	rule = unwinder_native_rule_in(u, m, *pc);
	if (rule.kind == RULE_NEXT && rule.ext)
		return false;
	if (rule.kind == RULE_NEXT && !exact)
		++*pc;
	return rule.kind == RULE_END || (rule.kind == RULE_ROOT && rule.ext != ELF_ROOT_CLOCK) ||
	       (rule.kind == RULE_NEXT && !exact);
}

/* ---- frames ---- */

uint32_t unwinder_intern(struct unwinder *u, const struct addrspace *space, uint64_t pc,
			 struct unwind_result *ret)
{
	const struct mapping *m = addrspace_find(space, pc);
	struct space_frames *own;
	const struct frame_entry *e;

	if (m && m->file) {
		e = frames_in_file(&u->frames, &u->exts, m->file->id, pc - m->start + m->pgoff);
		return e ? e->id : FRAME_ID_NONE;
	}
	own = frames_space(&u->frames, space->id);
	e = own ? frames_in_space(&u->frames, own, m ? FRAME_IN_JIT : FRAME_NOWHERE, pc) : NULL;
	if (!e)
		return FRAME_ID_NONE;
	ret->num_jit += m != NULL;
	ret->num_unknown += m == NULL;
	return e->id;
}

struct unwind_frame unwinder_frame(const struct unwinder *u, uint32_t id)
{
	const struct frame_entry *e = blocks_at(&u->frames.by_id, id < u->frames.by_id.len ? id : FRAME_ID_NONE);

	return (struct unwind_frame){ e->where, e->owner, e->place };
}

uint64_t unwinder_frame_addr(const struct unwinder *u, const struct addrspace *space, size_t num,
			     const struct unwind_frame *frame)
{
	size_t outer = u->last_outer && num >= u->last_inner ? num - u->last_inner + 1 : 0;
	uint64_t pc = outer && outer <= u->last_outer ? u->last_known->frames[u->last_outer - outer].pc : u->trace[num].pc;

	/* A caller's place lies inside its call. */
	for (uint64_t call = 0; call <= 1; call++) {
		uint64_t addr = pc - call;
		const struct mapping *m = addrspace_find(space, addr);

		if (m && m->file && m->file->id == frame->owner && addr - m->start + m->pgoff == frame->place)
			return addr;
	}
	return 0;
}

uint32_t unwinder_num_frames(const struct unwinder *u)
{
	return (uint32_t)u->frames.by_id.len;
}

uint32_t unwinder_kernel_frame(struct unwinder *u, uint64_t addr)
{
	return frames_global(&u->frames, FRAME_IN_KERNEL, 0, addr);
}

uint32_t unwinder_other_frame(struct unwinder *u, uint32_t number)
{
	return frames_global(&u->frames, FRAME_OTHER, number, 0);
}

static int compare_starts(const void *left, const void *right)
{
	const struct code_range *a = left, *b = right;

	return a->start < b->start ? -1 : a->start > b->start;
}

/* Sorted and without overlap. */
static void put_in_order(struct code_ranges *ranges)
{
	struct code_range *r = ranges->v.data;
	size_t len = 0;

	qsort(r, ranges->v.len, sizeof(*r), compare_starts);
	for (size_t i = 0; i < ranges->v.len; i++) {
		if (len && r[i].start <= r[len - 1].end)
			r[len - 1].end = r[i].end > r[len - 1].end ? r[i].end : r[len - 1].end;
		else
			r[len++] = r[i];
	}
	ranges->v.len = len;
}

void unwinder_drop_ranges(struct unwinder *u, const struct addrspace *space, struct code_ranges *ranges,
			  void (*each)(void *data, uint32_t id), void *data)
{
	if (!ranges->v.len)
		return;
	put_in_order(ranges);
	frames_drop_code(&u->frames, space->id, ranges->v.data, ranges->v.len, each, data);
}

void unwinder_space_gone(struct unwinder *u, const struct addrspace *space)
{
	frames_space_gone(&u->frames, space->id);
	libunwind_space_gone(u, space);
}

void unwinder_file_gone(struct unwinder *u, uint32_t file_id)
{
	frames_file_gone(&u->frames, file_id);
	libunwind_file_gone(u, file_id);
}

struct unwind_counts unwinder_counts(const struct unwinder *u)
{
	struct unwind_counts counts = u->counts;

	counts.ext_records = u->exts.len;
	return counts;
}

/* ---- one sample ---- */

void unwinder_walk(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
		   struct unwind_result *ret)
{
	*ret = (struct unwind_result){ .class = UNWIND_BROKEN };
	u->counts.walks++;
	u->last_outer = 0;
	if (in->compat) {
		ret->reason = REASON_COMPAT;
		return;
	}
	if (u->method == UNWIND_FP || !in->perf_mask) {
		unwind_by_chain(u, in, frames, ret);
	} else if (!in->perf_regs) {
		ret->reason = REASON_NO_REGS;
		return;
	} else if (u->method == UNWIND_LIBUNWIND) {
		if (in->fetch)
			in->fetch(in->fetch_data, in->stack_bytes);
		unwind_by_libunwind(u, in, frames, ret);
	} else {
		unwind_by_cfi(u, in, frames, ret);
	}
	u->counts.frames += ret->num_frames;
}
