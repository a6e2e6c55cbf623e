/* Prologues that RyuJIT wrote, and what each of their instructions does to the frame. */
#include "runtimes/x64_prologue.h"

#include "test/check.h"

enum { RBX = 3, RBP = 5, R15 = 15 };

static struct x64_prologue at(const char *code, size_t size, size_t upto)
{
	struct x64_prologue p;

	CHECK(x64_prologue((const uint8_t *)code, size, upto, &p));
	return p;
}

static void test_rbp_frame(void)
{
	/* push rbp; push r15; push rbx; sub rsp, 0x10; lea rbp, [rsp+0x20]; xor eax, eax */
	static const char code[] = "\x55\x41\x57\x53\x48\x83\xec\x10\x48\x8d\x6c\x24\x20\x33\xc0";
	struct x64_prologue p = at(code, 15, 15);

	CHECK(p.by_rbp && p.rbp_to_cfa == 0x10 && p.depth == 0x28 && p.end == 13);
	CHECK(p.saved[RBP] == 0x10 && p.saved[R15] == 0x18 && p.saved[RBX] == 0x20);
	p = at(code, 15, 0);
	CHECK(!p.by_rbp && p.depth == 0 && !p.saved[RBP]);
	p = at(code, 15, 1);
	CHECK(p.depth == 8 && p.saved[RBP] == 0x10 && !p.saved[R15]);
	p = at(code, 15, 4);
	CHECK(p.depth == 0x18 && p.saved[RBX] == 0x20);
	p = at(code, 15, 8);
	CHECK(!p.by_rbp && p.depth == 0x28);
}

static void test_without_rbp(void)
{
	/* push rbx; sub rsp, 0x1000 (long form); mov rbx, rdi; push rax comes too late to count */
	struct x64_prologue p = at("\x53\x48\x81\xec\x00\x10\x00\x00\x48\x8b\xdf\x50", 12, 12);

	CHECK(!p.by_rbp && p.depth == 0x1008 && p.saved[RBX] == 0x10 && p.end == 8);
	p = at("\xc3", 1, 1);
	CHECK(!p.depth && !p.end);
	/* push rax makes room for a local. */
	p = at("\x50\xe8\0\0\0\0", 6, 6);
	CHECK(p.depth == 8 && p.saved[0] == 0x10);
}

static void test_probed(void)
{
	/* push rbp; lea r11, [rsp-0x4000]; call probe; mov rsp, r11; lea rbp, [rsp+0x4000] */
	static const char code[] = "\x55\x4c\x8d\x9c\x24\x00\xc0\xff\xff\xe8\0\0\0\0\x49\x8b\xe3\x48\x8d\xac\x24\x00\x40\x00\x00";
	struct x64_prologue p = at(code, 25, 25);

	CHECK(p.by_rbp && p.depth == 0x4008 && p.rbp_to_cfa == 0x10);
	p = at(code, 25, 9);
	CHECK(p.depth == 8);
	p = at(code, 25, 14);
	CHECK(p.depth == 8);
}

static void test_lies(void)
{
	struct x64_prologue p;

	CHECK(!x64_prologue((const uint8_t *)"\x48\x81\xec\xff\xff\xff\xff", 7, 7, &p)); /* takes less than nothing */
	CHECK(!x64_prologue((const uint8_t *)"\x48\x8d\x6c\x24\x7f", 5, 5, &p));         /* rbp above its own frame */
	CHECK(!x64_prologue((const uint8_t *)"\x48\x81\xec", 3, 99, &p));                /* cut */
	CHECK(x64_prologue((const uint8_t *)"", 0, 9, &p) && p.depth == 0);
}

/* System V amd64, .NET 10.0.12: a loop with five registers of its caller's, by on-stack replacement. */
static void test_osr(void)
{
	static const uint8_t code[] = {
		0x48, 0x8b, 0x45, 0x00,                         /* mov rax, [rbp] */
		0x50,                                           /* push rax */
		0x48, 0x83, 0xec, 0x30,                         /* sub rsp, 0x30 */
		0x4c, 0x89, 0xbc, 0x24, 0xd8, 0x00, 0x00, 0x00, /* mov [rsp + 0xd8], r15 */
		0x4c, 0x89, 0x74, 0x24, 0x78,                   /* mov [rsp + 0x78], r14 */
		0x4c, 0x89, 0xac, 0x24, 0xc8, 0x00, 0x00, 0x00, /* mov [rsp + 0xc8], r13 */
		0x4c, 0x89, 0x64, 0x24, 0x70,                   /* mov [rsp + 0x70], r12 */
		0x48, 0x89, 0x9c, 0x24, 0xb8, 0x00, 0x00, 0x00, /* mov [rsp + 0xb8], rbx */
		0xc5, 0xf8, 0x77,                               /* vzeroupper */
		0x48, 0x8d, 0x6c, 0x24, 0x30,                   /* lea rbp, [rsp + 0x30] */
	};
	struct x64_prologue p;

	CHECK(x64_prologue_osr(code, sizeof(code), sizeof(code), &p));
	CHECK(p.depth == 0x38);
	CHECK(p.saved[15] == 0xd8 && p.saved[14] == 0x78 && p.saved[13] == 0xc8 && p.saved[12] == 0x70 && p.saved[3] == 0xb8);
	CHECK(!p.saved[5]); /* the other version has it */
	CHECK(x64_prologue_osr(code, sizeof(code), 0, &p) && !p.depth);
	CHECK(x64_prologue_osr(code, sizeof(code), 4, &p) && !p.depth);
	CHECK(x64_prologue_osr(code, sizeof(code), 5, &p) && p.depth == 8);
	CHECK(x64_prologue_osr(code, sizeof(code), 9, &p) && p.depth == 0x38 && !p.saved[15]);
	CHECK(x64_prologue_osr(code, sizeof(code), 16, &p) && !p.saved[15]); /* the pc lies within */
	CHECK(x64_prologue_osr(code, sizeof(code), 17, &p) && p.saved[15] == 0xd8 && !p.saved[14]);
	for (size_t size = 4; size < sizeof(code); size++)
		CHECK(x64_prologue_osr(code, size, size, &p));
	CHECK(!x64_prologue_osr(code + 4, sizeof(code) - 4, sizeof(code), &p));
	CHECK(!x64_prologue_osr(code, 3, 3, &p));
}

int main(void)
{
	test_rbp_frame();
	test_without_rbp();
	test_probed();
	test_lies();
	test_osr();
	return check_done();
}
