/*
 * Every row of real libraries: what our compiled rule says of each register, against what
 * libdw's own row says, on made-up registers and a made-up stack. argv: the files; missing ones
 * are skipped.
 */
#include "test/check.h"
#include "unwinder/unwinder_priv.h"

#include "symbols/elf_file.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct arch *const x86 = &arch_x86_64;

enum { WORDS = 8192, MIDDLE = WORDS / 2 };
#define STACK_AT 0x7ffd00000000ull

/* The frame a row is applied to. Every word of the stack differs; registers point into it. */
struct frame {
	uint64_t stack[WORDS];
	struct regs regs;
};

static void make_frame(struct frame *f, uint64_t pc)
{
	for (size_t i = 0; i < WORDS; i++)
		f->stack[i] = STACK_AT + 8 * ((i * 2654435761u) % WORDS);
	memset(&f->regs, 0, sizeof(f->regs));
	for (unsigned int reg = 0; reg < 16; reg++)
		f->regs.v[reg] = STACK_AT + 8 * (MIDDLE + reg * 16);
	f->regs.valid = 0xffff;
	f->regs.pc = pc;
}

/* A register of the caller, or that it is not known. */
struct value {
	bool known;
	uint64_t v;
};

static struct value word(const struct frame *f, uint64_t addr)
{
	struct value ret = { 0 };

	ret.known = stack_word((const uint8_t *)f->stack, sizeof(f->stack), STACK_AT, addr, &ret.v);
	return ret;
}

/* ---- what libdw's operations mean, in the fewest words ---- */

static struct value run_ops(const struct frame *f, const Dwarf_Op *ops, size_t num, uint64_t cfa)
{
	uint64_t s[64];
	size_t n = 0;
	struct value w;

	for (size_t i = 0; i < num; i++) {
		unsigned int atom = ops[i].atom;

		if (n > 60)
			return (struct value){ 0 };
		if (atom >= DW_OP_breg0 && atom <= DW_OP_breg31)
			s[n++] = (atom == DW_OP_breg16 ? f->regs.pc
						       : f->regs.v[atom - DW_OP_breg0]) +
				 ops[i].number;
		else if (atom >= DW_OP_lit0 && atom <= DW_OP_lit31)
			s[n++] = atom - DW_OP_lit0;
		else if (atom == DW_OP_call_frame_cfa)
			s[n++] = cfa;
		else if (atom == DW_OP_bregx)
			s[n++] = f->regs.v[ops[i].number] + ops[i].number2;
		else if (atom == DW_OP_plus_uconst)
			s[n - 1] += ops[i].number;
		else if (atom == DW_OP_const1u || atom == DW_OP_const1s || atom == DW_OP_consts ||
			 atom == DW_OP_const4u || atom == DW_OP_constu || atom == DW_OP_const4s ||
			 atom == DW_OP_const2s || atom == DW_OP_const2u)
			s[n++] = ops[i].number;
		else if (atom == DW_OP_plus)
			n--, s[n - 1] += s[n];
		else if (atom == DW_OP_minus)
			n--, s[n - 1] -= s[n];
		else if (atom == DW_OP_mul)
			n--, s[n - 1] *= s[n];
		else if (atom == DW_OP_and)
			n--, s[n - 1] &= s[n];
		else if (atom == DW_OP_shl)
			n--, s[n - 1] <<= s[n];
		else if (atom == DW_OP_ge)
			n--, s[n - 1] = (int64_t)s[n - 1] >= (int64_t)s[n];
		else if (atom == DW_OP_deref) {
			w = word(f, s[n - 1]);
			if (!w.known)
				return w;
			s[n - 1] = w.v;
		} else {
			fprintf(stderr, "operation %#x is not in the test\n", atom);
			check_failures++;
			return (struct value){ 0 };
		}
	}
	return (struct value){ n > 0, n ? s[n - 1] : 0 };
}

static struct value libdw_cfa(const struct frame *f, Dwarf_Frame *row)
{
	Dwarf_Op *ops;
	size_t num;

	if (dwarf_frame_cfa(row, &ops, &num) != 0)
		return (struct value){ 0 };
	return run_ops(f, ops, num, 0);
}

static struct value libdw_reg(const struct frame *f, Dwarf_Frame *row, int reg, uint64_t cfa)
{
	Dwarf_Op mem[3];
	Dwarf_Op *ops;
	size_t num;
	struct value at;

	if (dwarf_frame_register(row, reg, mem, &ops, &num) != 0)
		return (struct value){ 0 };
	/* libdw's default for rbx is wrong (see arch_x86_64.c); explicit ones do not occur in
	 * these files. */
	if (!num && (ops != mem || reg == 3))
		return (struct value){ x86->callee_saved >> reg & 1, f->regs.v[reg] };
	if (!num)
		return (struct value){ 0 };
	if (num == 1 && ops[0].atom == DW_OP_regx)
		return (struct value){ true, f->regs.v[ops[0].number] };
	if (ops[num - 1].atom == DW_OP_stack_value)
		return run_ops(f, ops, num - 1, cfa);
	at = run_ops(f, ops, num, cfa);
	return at.known ? word(f, at.v) : at;
}

/* ---- what our rule means ---- */

static struct value our_cfa(const struct frame *f, struct expr_env *env, const struct rule *rule,
			    const struct rule_ext *ext)
{
	struct value ret = { true, 0 };

	if (rule->kind == RULE_CFA)
		ret.v = f->regs.v[rule->cfa_reg] + (uint64_t)(rule->cfa_off8 * 8);
	else if (ext->cfa.how == HOW_REGISTER)
		ret.v = f->regs.v[ext->cfa_reg] + (uint64_t)ext->cfa.value;
	else
		ret.known = expr_eval(env, &ext->ops[ext->cfa.first_op], ext->cfa.num_ops,
				      &ret.v) == EXPR_OK;
	return ret;
}

static struct value our_slot(const struct frame *f, const struct rule *rule, int reg, uint64_t cfa)
{
	for (size_t i = 0; i < x86->num_tracked; i++) {
		if (x86->tracked[i] != reg)
			continue;
		if (rule->slot[i] == SLOT_SAME)
			return (struct value){ true, f->regs.v[reg] };
		if (rule->slot[i] == SLOT_UNDEFINED)
			return (struct value){ 0 };
		return word(f, cfa - 8 * (uint64_t)rule->slot[i]);
	}
	return (struct value){ reg == x86->sp, cfa };
}

static struct value our_reg(const struct frame *f, struct expr_env *env, const struct rule *rule,
			    const struct rule_ext *ext, int reg)
{
	const struct rule_where *where = &ext->reg[reg];
	struct value v = { true, 0 };

	if (rule->kind == RULE_CFA)
		return our_slot(f, rule, reg, env->cfa);
	switch ((enum rule_how)where->how) {
	case HOW_SAME:
		return (struct value){ x86->callee_saved >> reg & 1, f->regs.v[reg] };
	case HOW_UNDEFINED:
		return (struct value){ 0 };
	case HOW_AT_CFA:
		return word(f, env->cfa + (uint64_t)where->value);
	case HOW_CFA_PLUS:
		return (struct value){ true, env->cfa + (uint64_t)where->value };
	case HOW_REGISTER:
		return (struct value){ true, f->regs.v[where->value] };
	case HOW_AT_EXPR:
	case HOW_EXPR:
		v.known =
			expr_eval(env, &ext->ops[where->first_op], where->num_ops, &v.v) == EXPR_OK;
		break;
	}
	return v.known && where->how == HOW_AT_EXPR ? word(f, v.v) : v;
}

/* ---- the comparison ---- */

struct seen {
	uint64_t vaddr, end;
	struct rule rule;
};

struct totals {
	VEC(struct seen) seen;
	size_t rows, plain, ext, end, differ;
};

static bool same_value(struct value a, struct value b)
{
	return a.known == b.known && (!a.known || a.v == b.v);
}

static void compare(const struct frame *f, Dwarf_Frame *row, const struct rule *rule,
		    const struct rule_ext *ext, uint64_t vaddr, struct totals *t)
{
	struct expr_env env = {
		.arch = x86,
		.regs = &f->regs,
		.stack = (const uint8_t *)f->stack,
		.stack_bytes = sizeof(f->stack),
		.stack_base = STACK_AT,
	};
	struct value theirs = libdw_cfa(f, row), ours = our_cfa(f, &env, rule, ext);

	if (!same_value(theirs, ours)) {
		t->differ++;
		fprintf(stderr, "%#llx: CFA differs\n", (unsigned long long)vaddr);
		return;
	}
	if (!theirs.known)
		return;
	env.cfa = ours.v;
	env.has_cfa = true;
	for (int reg = 0; reg < x86->num_regs; reg++) {
		theirs = libdw_reg(f, row, reg, ours.v);
		if (same_value(theirs, our_reg(f, &env, rule, ext, reg)))
			continue;
		t->differ++;
		fprintf(stderr, "%#llx: register %d differs\n", (unsigned long long)vaddr, reg);
	}
}

static void check_row(struct elf_file *elf, Dwarf_Frame *row, bool signal, uint64_t vaddr,
		      uint64_t row_end, struct frame *f, struct totals *t)
{
	struct rule_ext ext;
	uint64_t start, end;
	struct rule rule = rule_from_cfi(x86, elf, vaddr, &start, &end, &ext);
	Dwarf_Op mem[3];
	Dwarf_Op *ops;
	size_t num;

	t->rows++;
	CHECK(end == row_end);
	CHECK(vec_push(&t->seen, ((struct seen){ vaddr, end, rule })));
	f->regs.pc = vaddr;
	if (rule.kind == RULE_END) {
		t->end++;
		CHECK(dwarf_frame_register(row, x86->ra, mem, &ops, &num) == 0 && !num &&
		      ops == mem);
		return;
	}
	CHECK_MSG(rule.kind == RULE_CFA || rule.kind == RULE_EXT, "%#llx: kind %d",
		  (unsigned long long)vaddr, rule.kind);
	CHECK(signal == !!(rule.flags & RULE_SIGNAL));
	t->plain += rule.kind == RULE_CFA;
	t->ext += rule.kind == RULE_EXT;
	if (rule.kind == RULE_CFA || rule.kind == RULE_EXT)
		compare(f, row, &rule, &ext, vaddr, t);
	rule_ext_deinit(&ext);
}

/* All rows of [from, to), gaps without rows skipped. */
static void check_range(struct elf_file *elf, uint64_t from, uint64_t to, struct frame *f,
			struct totals *t)
{
	Dwarf_CFI *cfi = elf_file_eh_frame(elf);
	uint64_t vaddr = from;

	while (vaddr < to) {
		Dwarf_Frame *row;
		Dwarf_Addr start, end;
		bool signal;

		if (dwarf_cfi_addrframe(cfi, vaddr, &row) != 0) {
			vaddr++; /* padding between functions */
			continue;
		}
		if (dwarf_frame_info(row, &start, &end, &signal) >= 0 && vaddr >= start &&
		    vaddr < end) {
			check_row(elf, row, signal, vaddr, end, f, t);
			vaddr = end;
		} else {
			vaddr++;
		}
		free(row);
	}
}

/* Remembered rows, asked for in an order in which later code mostly comes first. */
static void check_remembered(const struct totals *t)
{
	struct rows *rows = NULL;
	size_t found = 0, wrong = 0;

	for (size_t n = t->seen.len; n-- > 0;) {
		const struct seen *s = &t->seen.data[n ^ (n % 8 == 3)];
		const uint64_t places[] = { s->vaddr, s->vaddr + (s->end - s->vaddr) / 2,
					    s->end - 1 };
		const struct rule *known;

		for (size_t i = 0; i < 3; i++) {
			known = rows_find(rows, 1, places[i]);
			found += known != NULL;
			wrong += known && memcmp(known, &s->rule, sizeof(*known)) != 0;
			rows_add(&rows, 1, places[i], s->end, &s->rule);
		}
	}
	free(rows);
	CHECK_MSG(found > t->seen.len / 2 && wrong == 0, "%zu found, %zu wrong", found, wrong);
}

static void check_file(const char *path)
{
	static struct frame frame;
	struct totals t = { 0 };
	const struct elf_load *loads;
	struct elf_file *elf;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "%s: not here\n", path);
		return;
	}
	if (elf_file_open_fd(fd, (uint64_t)st.st_size, &elf, NULL) < 0) {
		CHECK_MSG(false, "%s: refused", path);
		return;
	}
	CHECK(elf_file_eh_frame(elf) != NULL);
	make_frame(&frame, 0);
	for (size_t i = 0, num = elf_file_loads(elf, &loads); i < num && elf_file_eh_frame(elf);
	     i++) {
		if (loads[i].executable)
			check_range(elf, loads[i].vaddr, loads[i].vaddr + loads[i].filesz, &frame,
				    &t);
	}
	printf("%s: %zu rows, %zu in 16 bytes, %zu beside, %zu ends, %zu differences\n", path,
	       t.rows, t.plain, t.ext, t.end, t.differ);
	CHECK(t.rows > 0 && t.differ == 0);
	check_remembered(&t);
	vec_deinit(&t.seen);
	/* The promise of 16 bytes: all but a few rows. */
	CHECK(t.plain * 100 >= t.rows * 98);
	elf_file_free(elf);
}

int main(int argc, char **argv)
{
	static const char *const files[] = {
		"/lib/x86_64-linux-gnu/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	};

	for (size_t i = 0; argc < 2 && i < sizeof(files) / sizeof(files[0]); i++)
		check_file(files[i]);
	for (int i = 1; i < argc; i++)
		check_file(argv[i]);
	return check_done();
}
