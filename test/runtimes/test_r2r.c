/* Names and frames of precompiled code: test/data/dotnet/Shop.dll, which is made of Shop.cs beside it. */
#include "base/strbuf.h"
#include "runtimes/clr_metadata.h"
#include "runtimes/r2r.h"
#include "test/check.h"
#include "unwinder/arch.h"
#include "unwinder/rule.h"

#include <errno.h>

/* Where its functions are, as r2r_list tells and objdump -D confirms. */
enum {
	LEAF = 0x108b0,      /* push rbp; mov rbp,rsp */
	FRAMELESS = 0x108e0, /* push rax; call; inc rax; add rsp,8; ret */
	MANY = 0x108f0,
	SCRATCH = 0x109f0,
	LARGE = 0x10a70,
	CATCHES = 0x10b20,
	FILTER = 0x10b79,
	ADDER_BODY = 0x10e90,
	MOVE_NEXT = 0x10eb0,
	MOVE_NEXT_CATCH = 0x10f7f,
	PUT_PRICE = 0x10fd0,
	SHELF_INT = 0x11010,
	PUT_CANON = 0x11020,
	PICK_CANON = 0x110c0,
	STUBS = 0x11134,
};

static char *dll;
static size_t dll_size;

static void read_dll(const char *dir)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/Shop.dll", dir);
	file = fopen(path, "rb");
	if (!file)
		SKIP("%s is not there", path);
	dll = malloc(1 << 16);
	dll_size = dll ? fread(dll, 1, 1 << 16, file) : 0;
	fclose(file);
}

static struct r2r *open_dll(void)
{
	struct pe_bytes bytes = pe_bytes_of_memory(dll, dll_size);
	struct r2r *r = NULL;

	CHECK(r2r_open(&bytes, 0, &r) == 0);
	return r;
}

static void test_image(void)
{
	struct pe_bytes bytes = pe_bytes_of_memory(dll, dll_size);
	struct pe_image pe;
	struct r2r *r;
	uint32_t rva = 0;

	CHECK(pe_image_open(&bytes, 0, &pe));
	CHECK(pe.machine == PE_MACHINE_LINUX_X64);
	CHECK(pe.num_sections == 3);
	/* .text: 0x200 in the file is 0x10200 in memory. */
	CHECK(pe_image_rva(&pe, 0x200, &rva) && rva == 0x10200);
	CHECK(pe_image_rva(&pe, LEAF - 0x10000, &rva) && rva == LEAF);
	CHECK(!pe_image_rva(&pe, 0x1ff, &rva));
	CHECK(pe_image_section(&pe, LEAF)->executable);
	CHECK(!pe_image_section(&pe, 0x32400)->executable);
	CHECK(!pe_image_section(&pe, 0xffffffff));
	CHECK(pe_image_export(&pe, "RTR_HEADER") == 0);

	bytes = pe_bytes_of_memory("MZ", 2);
	CHECK(!pe_image_open(&bytes, 0, &pe));
	CHECK(r2r_open(&bytes, 0, &r) == -ENOEXEC);
	/* As it lies in a single-file bundle. */
	{
		char *bundle = calloc(1, dll_size + 0x70);

		memcpy(bundle + 0x70, dll, dll_size);
		bytes = pe_bytes_of_memory(bundle, dll_size + 0x70);
		CHECK(!pe_image_open(&bytes, 0, &pe));
		CHECK(pe_image_open(&bytes, 0x70, &pe));
		CHECK(pe_image_rva(&pe, 0x270, &rva) && rva == 0x10200);
		CHECK(r2r_open(&bytes, 0x70, &r) == 0);
		r2r_free(r);
		free(bundle);
	}
}

static void test_functions(struct r2r *r)
{
	struct r2r_function f;

	CHECK(r2r_function(r, LEAF, &f) && f.begin == LEAF && f.end == 0x108dd && f.index == 2);
	CHECK(r2r_function(r, 0x108dc, &f) && f.begin == LEAF);
	CHECK(!r2r_function(r, 0x108dd, &f)); /* int3 up to the next */
	CHECK(!r2r_function(r, 0x10000, &f));
	CHECK(!r2r_function(r, 0x20000, &f));
	CHECK(r2r_function_at(r, 28, &f) && f.begin == PICK_CANON);
	CHECK(!r2r_function_at(r, 29, &f));
}

/* ---- names ---- */

struct expected {
	uint32_t rva;
	const char *name; /* NULL = no method; "" = not asked back at all */
	uint32_t token;
	uint32_t begin;
};

struct got {
	const struct expected *expected;
	unsigned int calls;
};

static void take_name(void *data, size_t i, const struct r2r_name *name)
{
	struct got *got = data;
	const struct expected *e = &got->expected[i];
	struct strbuf text = { 0 };

	got->calls++;
	if (!e->name) {
		CHECK_MSG(!name, "%x", e->rva);
		return;
	}
	CHECK_MSG(name, "%x", e->rva);
	if (!name)
		return;
	strbuf_printf(&text, "%s::%s", name->type, name->method);
	CHECK_STR(text.data, e->name);
	CHECK_STR(name->assembly, "Shop");
	CHECK_MSG(name->token == e->token, "%x", name->token);
	CHECK_MSG(name->begin == e->begin, "%x", name->begin);
	strbuf_deinit(&text);
}

static void test_names(struct r2r *r)
{
	static const struct expected expected[] = {
		{ 0x10200, NULL, 0, 0 }, /* the CLR header: not code, but in the section of code */
		{ LEAF, "Shop.Till::Leaf", 0x6000005, LEAF },
		{ LEAF + 0x20, "Shop.Till::Leaf", 0x6000005, LEAF },
		{ 0x108de, NULL, 0, 0 },
		{ MANY + 0x50, "Shop.Till::Many", 0x6000007, MANY },
		{ CATCHES + 8, "Shop.Till::Catches", 0x600000b, CATCHES },
		{ FILTER + 4, "Shop.Till::Catches", 0x600000b, CATCHES }, /* a funclet */
		{ ADDER_BODY + 1, "Shop.Till+<>c__DisplayClass11_0::<Adder>b__0", 0x6000013, ADDER_BODY },
		{ MOVE_NEXT + 1, "Shop.Till+<TotalAsync>d__10::MoveNext", 0x6000014, MOVE_NEXT },
		{ MOVE_NEXT_CATCH + 1, "Shop.Till+<TotalAsync>d__10::MoveNext", 0x6000014, MOVE_NEXT },
		{ PUT_PRICE, "Shop.Box`1[Shop.Price]::Put", 0x6000002, PUT_PRICE },
		{ SHELF_INT, "Shop.Box`1+Shelf`1[Shop.Price,System.Int32]::Count", 0x6000010, SHELF_INT },
		{ PUT_CANON, "Shop.Box`1[System.__Canon]::Put", 0x6000002, PUT_CANON },
		{ PICK_CANON + 2, "Shop.Till::Pick", 0x600000e, PICK_CANON },
		{ STUBS, NULL, 0, 0 },
	};
	enum { NUM = sizeof(expected) / sizeof(expected[0]) };
	struct got got = { expected, 0 };
	uint32_t rvas[NUM + 1];

	for (size_t i = 0; i < NUM; i++)
		rvas[i] = expected[i].rva;
	rvas[NUM] = 0x32500; /* data */
	CHECK(r2r_names(r, rvas, NUM + 1, NULL, take_name, &got));
	CHECK_MSG(got.calls == NUM, "%u", got.calls);
	/* One at a time: nothing depends on what else is asked. */
	for (size_t i = 0; i < NUM; i++) {
		struct got one = { &expected[i], 0 };

		CHECK(r2r_names(r, &rvas[i], 1, NULL, take_name, &one));
		CHECK(one.calls == 1);
	}
}

/* ---- frames ---- */

enum { RBX = 3, RBP = 6, RSP = 7 }; /* DWARF numbers */

struct frame {
	uint32_t rva;
	bool exact;
	uint8_t reg;
	int off;                     /* CFA = reg + off */
	uint8_t rbp, rbx, r12, r13, r14, r15; /* slots */
};

static void test_frames(struct r2r *r)
{
	static const struct frame frames[] = {
		/* Each place of a prologue. */
		{ MANY, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		{ MANY + 1, true, RSP, 16, 2, 0, 0, 0, 0, 0 },
		{ MANY + 3, true, RSP, 24, 2, 0, 0, 0, 0, 3 },
		{ MANY + 5, true, RSP, 32, 2, 0, 0, 0, 4, 3 },
		{ MANY + 7, true, RSP, 40, 2, 0, 0, 5, 4, 3 },
		{ MANY + 9, true, RSP, 48, 2, 0, 6, 5, 4, 3 },
		{ MANY + 10, true, RSP, 56, 2, 7, 6, 5, 4, 3 },
		{ MANY + 14, true, RSP, 112, 2, 7, 6, 5, 4, 3 },
		{ MANY + 0x50, false, RSP, 112, 2, 7, 6, 5, 4, 3 },
		/* And of its epilogue, from add rsp,0x38 on. */
		{ 0x109de, true, RSP, 112, 2, 7, 6, 5, 4, 3 },
		{ 0x109e1, true, RSP, 112, 2, 7, 6, 5, 4, 3 },
		{ 0x109e5, true, RSP, 56, 2, 7, 6, 5, 4, 3 },
		{ 0x109e6, true, RSP, 48, 2, 0, 6, 5, 4, 3 },
		{ 0x109ee, true, RSP, 16, 2, 0, 0, 0, 0, 0 },
		{ 0x109ef, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		/* The caller that frame pointers lose: one word for alignment. */
		{ FRAMELESS, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		{ FRAMELESS + 6, false, RSP, 16, 0, 0, 0, 0, 0, 0 },
		{ FRAMELESS + 10, true, RSP, 16, 0, 0, 0, 0, 0, 0 },
		{ FRAMELESS + 14, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		/* stackalloc: rsp moves about in the body. */
		{ SCRATCH + 3, true, RSP, 32, 2, 3, 0, 0, 0, 0 },
		{ SCRATCH + 8, true, RBP, 16, 2, 3, 0, 0, 0, 0 },
		{ SCRATCH + 0x24, true, RBP, 16, 2, 3, 0, 0, 0, 0 },
		{ 0x10a64, true, RBP, 16, 2, 3, 0, 0, 0, 0 }, /* lea rsp,[rbp-8] */
		{ 0x10a68, true, RSP, 24, 2, 3, 0, 0, 0, 0 }, /* pop rbx */
		{ 0x10a6a, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		/* The stack is probed before it is taken. */
		{ LARGE + 13, false, RSP, 8, 0, 0, 0, 0, 0, 0 },
		{ LARGE + 17, true, RSP, 20032, 0, 0, 0, 0, 0, 0 },
		{ 0x10b06, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		/* A funclet has a frame of its own. */
		{ FILTER + 6, false, RSP, 16, 0, 0, 0, 0, 0, 0 },
		/* A thunk: xor eax,eax; push n; push [module]; jmp [helper]. */
		{ STUBS, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		{ STUBS + 2, true, RSP, 8, 0, 0, 0, 0, 0, 0 },
		{ STUBS + 4, true, RSP, 16, 0, 0, 0, 0, 0, 0 },
		{ STUBS + 10, true, RSP, 24, 0, 0, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		const struct frame *f = &frames[i];
		struct rule rule = { 0 };

		CHECK_MSG(r2r_rule(r, &arch_x86_64, f->rva, f->exact, &rule), "%x", f->rva);
		CHECK_MSG(rule.kind == RULE_CFA && rule.cfa_reg == f->reg && rule.cfa_off8 * 8 == f->off,
			  "%x: %u%+d", f->rva, rule.cfa_reg, rule.cfa_off8 * 8);
		CHECK_MSG(rule.slot[0] == 1 && rule.slot[1] == f->rbp && rule.slot[2] == f->rbx &&
				  rule.slot[3] == f->r12 && rule.slot[4] == f->r13 && rule.slot[5] == f->r14 &&
				  rule.slot[6] == f->r15,
			  "%x: %u %u %u %u %u %u", f->rva, rule.slot[1], rule.slot[2], rule.slot[3], rule.slot[4],
			  rule.slot[5], rule.slot[6]);
	}
}

static void test_no_frames(struct r2r *r)
{
	struct rule rule;

	CHECK(!r2r_rule(r, &arch_x86_64, 0x108dd, true, &rule));      /* between functions */
	CHECK(!r2r_rule(r, &arch_x86_64, STUBS + 10, false, &rule));  /* nobody calls from a thunk */
	CHECK(!r2r_rule(r, &arch_x86_64, 0x32500, true, &rule));      /* data */
	CHECK(!r2r_rule(r, &arch_aarch64, LEAF, true, &rule));
}

int main(int argc, char **argv)
{
	struct r2r *r;

	if (argc < 2)
		return 2;
	read_dll(argv[1]);
	test_image();
	r = open_dll();
	if (r) {
		test_functions(r);
		test_names(r);
		test_frames(r);
		test_no_frames(r);
	}
	r2r_free(r);
	free(dll);
	return check_done();
}
