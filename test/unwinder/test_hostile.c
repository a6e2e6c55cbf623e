/* Call-frame information that libdw must never see, and its neighbours that it must. */
#include "test/check.h"
#include "test/unwinder/fixture.h"

#include "symbols/cfi_index.h"
#include "unwinder/unwinder_priv.h"

#include <string.h>

static const struct arch *const x86 = &arch_x86_64;

enum { RSP = 7, RIP = 16, WHERE = TEXT + 0x100 };

/* The rule of the one FDE, whose instructions these are. */
static struct rule rule_of(struct cfi_bytes *cfi, const struct arch *arch)
{
	struct program program;
	struct rule_ext ext;
	uint64_t start, end;
	struct rule rule;

	program_init(&program, arch->elf_machine, cfi);
	rule = rule_from_cfi(arch, program.elf, WHERE + 4, &start, &end, &ext);
	rule_ext_deinit(&ext);
	program_deinit(&program);
	return rule;
}

static enum rule_kind fde_kind(const void *instructions, size_t len, bool debug_frame)
{
	struct cfi_bytes cfi = { .debug_frame = debug_frame };
	struct rule rule;

	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, WHERE, 0x100, instructions, len);
	rule = rule_of(&cfi, x86);
	CHECK(rule.kind != RULE_BAD || rule.ext == REASON_BAD_CFI);
	return rule.kind;
}

static enum rule_kind cie_kind(const char *augmentation, const void *instructions, size_t len)
{
	struct cfi_bytes cfi = { 0 };

	cfi_cie(&cfi, augmentation, RIP, instructions, len);
	cfi_fde(&cfi, WHERE, 0x100, CFI_PROGRAM(DW_CFA_def_cfa, RSP, 16, DW_CFA_offset | RIP, 1));
	return rule_of(&cfi, x86).kind;
}

/* In either section. */
#define FDE_IS(want, ...)                                                   \
	do {                                                                \
		CHECK(fde_kind(CFI_PROGRAM(__VA_ARGS__), false) == (want)); \
		CHECK(fde_kind(CFI_PROGRAM(__VA_ARGS__), true) == (want));  \
	} while (0)
#define CIE_IS(want, augmentation, ...) \
	CHECK(cie_kind(augmentation, CFI_PROGRAM(__VA_ARGS__)) == (want))

static void test_registers(void)
{
	FDE_IS(RULE_CFA, DW_CFA_def_cfa_offset, 16);
	FDE_IS(RULE_CFA, DW_CFA_undefined, 0xff, 0x01);
	FDE_IS(RULE_BAD, DW_CFA_undefined, 0x80, 0x02);
	FDE_IS(RULE_BAD, DW_CFA_offset_extended, 0xff, 0xff, 0xff, 0x7f, 1);
	FDE_IS(RULE_BAD, DW_CFA_offset_extended_sf, 0xff, 0xff, 0xff, 0x7f, 1);
	FDE_IS(RULE_BAD, DW_CFA_restore_extended, 0xff, 0xff, 0xff, 0x7f);
	FDE_IS(RULE_BAD, DW_CFA_same_value, 0xff, 0xff, 0xff, 0x7f);
	FDE_IS(RULE_BAD, DW_CFA_register, 0xff, 0xff, 0xff, 0x7f, 1);
	FDE_IS(RULE_BAD, DW_CFA_register, 1, 0xff, 0xff, 0xff, 0x7f);
	FDE_IS(RULE_BAD, DW_CFA_val_offset, 0xff, 0xff, 0xff, 0x7f, 1);
	FDE_IS(RULE_BAD, DW_CFA_val_offset_sf, 0xff, 0xff, 0xff, 0x7f, 1);
	FDE_IS(RULE_BAD, DW_CFA_expression, 0xff, 0xff, 0xff, 0x7f, 1, DW_OP_lit0);
	FDE_IS(RULE_BAD, DW_CFA_val_expression, 0xff, 0xff, 0xff, 0x7f, 1, DW_OP_lit0);
	FDE_IS(RULE_BAD, DW_CFA_def_cfa_register, 0xff, 0xff, 0xff, 0x7f);
	FDE_IS(RULE_BAD, DW_CFA_GNU_negative_offset_extended, 0xff, 0xff, 0xff, 0x7f, 1);
	/* Behind the row asked for: libdw is not asked, so it matters to the rows there only. */
	CHECK(fde_kind(CFI_PROGRAM(DW_CFA_advance_loc | 0x3f, DW_CFA_undefined, 0xff, 0xff, 0xff, 0x7f),
		       false) == RULE_CFA);
	CHECK(fde_kind(CFI_PROGRAM(DW_CFA_remember_state, DW_CFA_remember_state, DW_CFA_remember_state,
				   DW_CFA_advance_loc | 0x3f, DW_CFA_undefined, 0xff, 0xff, 0xff, 0x7f),
		       false) == RULE_BAD);
}

static void test_remembered(void)
{
	uint8_t program[48];

	for (unsigned int depth = 1; depth <= 24; depth++) {
		memset(program, DW_CFA_remember_state, depth);
		memset(program + depth, DW_CFA_restore_state, depth);
		CHECK_MSG(fde_kind(program, 2 * depth, false) ==
				  (depth <= CFI_MAX_REMEMBERED ? RULE_CFA : RULE_BAD),
			  "%u", depth);
	}
	/* One after the other, as compilers do it. */
	for (unsigned int i = 0; i < sizeof(program); i++)
		program[i] = i % 2 ? DW_CFA_restore_state : DW_CFA_remember_state;
	CHECK(fde_kind(program, sizeof(program), true) == RULE_CFA);
	FDE_IS(RULE_BAD, DW_CFA_restore_state);
}

static void test_bounds(void)
{
	uint8_t program[8 + CFI_MAX_EXPR] = { DW_CFA_val_expression, 3, 0x80, 0x02 };

	/* An operand behind the end of the entry. */
	FDE_IS(RULE_BAD, 0, 0, 0, 0, 0, 0, 0, DW_CFA_advance_loc1);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, 0, 0, 0, DW_CFA_set_loc);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, DW_CFA_advance_loc4, 1, 0, 0);
	FDE_IS(RULE_CFA, 0, 0, 0, DW_CFA_advance_loc4, 1, 0, 0, 0);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, 0, 0, DW_CFA_advance_loc2, 1);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 0x80);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, DW_CFA_expression, 3, 2, DW_OP_lit0);
	FDE_IS(RULE_BAD, 0, 0, 0, 0, 0, DW_CFA_def_cfa_expression, 2, DW_OP_lit0);
	/* A number that readers disagree about. */
	FDE_IS(RULE_CFA, DW_CFA_def_cfa_offset, 0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
	       0x80, 0);
	FDE_IS(RULE_BAD, DW_CFA_def_cfa_offset, 0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
	       0x80, 0x80, 0);
	/* Nobody's instructions. */
	FDE_IS(RULE_BAD, 0x3f);
	FDE_IS(RULE_BAD, DW_CFA_high_user - 1);
	FDE_IS(RULE_BAD, 0x2d); /* aarch64's */
	/* The longest expression, and one more. */
	memset(program + 4, DW_OP_lit0, CFI_MAX_EXPR);
	CHECK(fde_kind(program, 4 + CFI_MAX_EXPR, false) != RULE_CFA);
	program[2] = 0x81;
	CHECK(fde_kind(program, 5 + CFI_MAX_EXPR, false) == RULE_BAD);
}

static void test_cies(void)
{
	CIE_IS(RULE_CFA, "", DW_CFA_def_cfa, RSP, 8);
	CIE_IS(RULE_CFA, "z", DW_CFA_def_cfa, RSP, 8);
	CIE_IS(RULE_BAD, "", DW_CFA_undefined, 0xff, 0xff, 0xff, 0x7f);
	CIE_IS(RULE_BAD, "", DW_CFA_advance_loc | 1);
	CIE_IS(RULE_BAD, "", DW_CFA_advance_loc4, 0, 0, 0, 0);
	CIE_IS(RULE_BAD, "", DW_CFA_restore | 3);
	CIE_IS(RULE_BAD, "", DW_CFA_restore_extended, 3);
	CIE_IS(RULE_BAD, "", DW_CFA_restore_state);
	/* What cannot be read is not there. */
	CIE_IS(RULE_FP, "x", DW_CFA_nop);
	CIE_IS(RULE_FP, "zx", DW_CFA_nop);
	CIE_IS(RULE_FP, "zR", DW_CFA_nop); /* the fixture gives it no data */
	CIE_IS(RULE_FP, "eh", DW_CFA_nop);
}

/* A walk says why. */
static void test_walk(void)
{
	struct cfi_bytes cfi = { 0 };
	struct unwinder *u = new_unwinder(x86, UNWIND_CFI);
	struct program program;
	struct sample sample;

	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, WHERE, 0x100, CFI_PROGRAM(DW_CFA_undefined, 0xff, 0xff, 0xff, 0x7f));
	program_init(&program, EM_X86_64, &cfi);
	sample_init(&sample, x86, &program, 16);
	sample_pc(&sample, x86, LOADED_AT + WHERE);
	sample.stack[0] = LOADED_AT + WHERE + 8;
	for (int i = 0; i < 2; i++) {
		sample_walk(u, &sample);
		CHECK(sample.result.class == UNWIND_BROKEN &&
		      sample.result.reason == REASON_BAD_CFI && sample.result.num_frames == 1);
	}
	unwinder_free(u);
	program_deinit(&program);
}

/* The return address is signed: libdw 0.188 would believe in SPARC's register windows. */
static void test_pointer_authentication(void)
{
	struct cfi_bytes cfi = { 0 };
	struct rule rule;

	cfi_cie(&cfi, "zB", 30, CFI_PROGRAM(DW_CFA_def_cfa, 31, 0));
	cfi_fde(&cfi, WHERE, 0x100,
		CFI_PROGRAM(DW_CFA_advance_loc | 4, 0x2d, DW_CFA_def_cfa_offset, 32,
			    DW_CFA_offset | 29, 4, DW_CFA_offset | 30, 3));
	rule = rule_of(&cfi, &arch_aarch64);
	CHECK(rule.kind == RULE_CFA && rule.cfa_reg == 31 && rule.cfa_off8 == 4);
	CHECK(rule.slot[0] == 3 && rule.slot[1] == 4 && rule.slot[2] == SLOT_SAME);
}

/* ---- the table ---- */

static struct cfi_index index_of(struct cfi_bytes *cfi)
{
	return (struct cfi_index){ .bytes = cfi->data, .size = cfi->len, .vaddr = 0x9000 };
}

static void test_table(void)
{
	static const int32_t sorted[] = { -5, 0, 3, 1, 3, 2, 9, 0 }, not_sorted[] = { 1, 0, 0, 0 };
	struct cfi_bytes cfi = { 0 };
	struct cfi_index x;
	uint8_t *table;

	CHECK(cfi_table_is_sorted((const uint8_t *)sorted, 4));
	CHECK(!cfi_table_is_sorted((const uint8_t *)not_sorted, 2));
	CHECK(cfi_table_is_sorted(NULL, 0));

	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, 0x3000, 0x100, NULL, 0);
	cfi_fde(&cfi, 0x1000, 0x100, NULL, 0);
	cfi_fde(&cfi, 0, 0x100, NULL, 0);      /* of code that is not there */
	cfi_fde(&cfi, 0x5000, 0, NULL, 0);     /* no code */
	cfi_fde(&cfi, 0x6000, ~0ull, NULL, 0); /* all code, and more */
	cfi_fde(&cfi, 0x2000, 0x100, CFI_PROGRAM(0x3f));
	cfi_fde(&cfi, 0x200000000, 0x100, NULL, 0); /* too far away for a table */
	x = index_of(&cfi);
	table = cfi_table_build(&x, false);
	CHECK(table && x.table == table && x.num == 3 && x.base == 0x9000);
	CHECK(cfi_table_is_sorted(table, x.num));
	CHECK(cfi_index_row(&x, 0xfff) == ELF_ROW_NONE);
	CHECK(cfi_index_row(&x, 0x1000) == ELF_ROW_FINE);
	CHECK(cfi_index_row(&x, 0x10ff) == ELF_ROW_FINE);
	CHECK(cfi_index_row(&x, 0x1100) == ELF_ROW_NONE);
	CHECK(cfi_index_row(&x, 0x2000) == ELF_ROW_BAD);
	CHECK(cfi_index_row(&x, 0x2100) == ELF_ROW_NONE);
	CHECK(cfi_index_row(&x, 0x30ff) == ELF_ROW_FINE);
	CHECK(cfi_index_row(&x, UINT64_MAX) == ELF_ROW_NONE);
	free(table);
	/* The vaddr of a .debug_frame is chosen by its code. */
	x = index_of(&cfi);
	table = cfi_table_build(&x, true);
	CHECK(table && x.num == 3 && x.base == 0x1000 && x.vaddr == 0x1000);
	CHECK(cfi_index_row(&x, 0x3000) == ELF_ROW_FINE);
	free(table);
	/* An entry that leads out of the section, and one that is cut. */
	x = index_of(&cfi);
	x.table = (const uint8_t *)sorted;
	x.num = 4;
	x.base = 0x1000;
	CHECK(cfi_index_row(&x, 0x1010) == ELF_ROW_NONE);
	x.size = 30;
	x.vaddr = 0x1002;
	CHECK(cfi_index_row(&x, 0x1003) == ELF_ROW_NONE);
	x.size = 0;
	CHECK(cfi_index_row(&x, 0x1003) == ELF_ROW_NONE);
	CHECK(!cfi_table_build(&x, false));
}

/* Longer than any that a compiler made. */
static void test_long_program(void)
{
	const uint32_t cie = 16, fde = 24 - 4 + CFI_MAX_PROGRAM;
	const uint8_t head[] = { 0, 0, 0, 0, 1, 0, 1, 0x78, 16, DW_CFA_def_cfa, RSP, 8 };
	const uint64_t range[] = { 0x1000, 0x100 };
	const size_t size = 4 + cie + 4 + fde + 8;
	uint8_t *bytes = calloc(1, size), *table;
	struct cfi_index x = { .bytes = bytes, .size = size };

	memcpy(bytes, &cie, 4);
	memcpy(bytes + 4, head, sizeof(head));
	memcpy(bytes + 20, &fde, 4);
	bytes[24] = 24; /* back to the CIE */
	memcpy(bytes + 28, range, sizeof(range));
	table = cfi_table_build(&x, false);
	CHECK(table && x.num == 1 && cfi_index_row(&x, 0x1010) == ELF_ROW_FINE);
	free(table);
	bytes[20]++;
	table = cfi_table_build(&x, false);
	CHECK(table && x.num == 1 && cfi_index_row(&x, 0x1010) == ELF_ROW_BAD);
	free(table);
	free(bytes);
}

static void test_debug_frame(void)
{
	struct cfi_bytes cfi = { .debug_frame = true };
	struct cfi_index x;
	uint32_t id;
	size_t fde;

	cfi_cie_x86(&cfi, "");
	fde = cfi.len;
	cfi_fde(&cfi, WHERE, 0x100, NULL, 0);
	cfi.cie = 0x1000; /* a CIE that only follows */
	cfi_fde(&cfi, WHERE + 0x100, 0x100, NULL, 0);
	cfi_from_debug_frame(cfi.data, cfi.len);
	memcpy(&id, cfi.data + 4, sizeof(id));
	CHECK(id == 0);
	memcpy(&id, cfi.data + fde + 4, sizeof(id));
	CHECK(id == fde + 4);
	x = index_of(&cfi);
	free(cfi_table_build(&x, true));
	CHECK(x.num == 1);
}

int main(void)
{
	test_registers();
	test_remembered();
	test_bounds();
	test_cies();
	test_walk();
	test_pointer_authentication();
	test_table();
	test_long_program();
	test_debug_frame();
	return check_done();
}
