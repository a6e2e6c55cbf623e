/*
 * JIT code that keeps no frame pointer and uses rbp for something else: only what it tells in its jitdump
 * (JIT_CODE_UNWINDING_INFO; Linux tools/perf/Documentation/jitdump-specification.txt) leads to its callers. Each half second
 * the outermost function is compiled anew, at the same address and under the same name, with a frame of another size.
 *	jit_unwind SECONDS
 */
#include "jit_file.h"
#include "victim.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

void run_jit(void (*code)(void));

enum { SLOT = 64, JIT_CODE_LOAD = 0, JIT_CODE_UNWINDING_INFO = 4, HDR_BYTES = 20 };

struct bytes {
	uint8_t data[512];
	size_t len;
};

static void put(struct bytes *b, const void *bytes, size_t len)
{
	memcpy(b->data + b->len, bytes, len);
	b->len += len;
}

static void put_u32(struct bytes *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_u64(struct bytes *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

/* .eh_frame of one function (LSB Core, 10.6), as if it lay right behind its SLOT bytes, and a .eh_frame_hdr. */
static void eh_frame(struct bytes *b, const uint8_t *program, size_t len)
{
	static const uint8_t cie[] = { 20, 0, 0, 0,  0, 0, 0, 0,  1, 'z', 'R', 0,  1, 0x78, 16, 1,
				       0x1b,          /* pcrel | sdata4 */
				       0x0c, 7, 8,    /* DW_CFA_def_cfa rsp, 8 */
				       0x90, 1,       /* DW_CFA_offset ra, CFA - 8 */
				       0, 0 };
	static const uint8_t zeros[HDR_BYTES];
	size_t padding = (8 - (len + 1) % 8) % 8;

	put(b, cie, sizeof(cie));
	put_u32(b, (uint32_t)(12 + 1 + len + padding));
	put_u32(b, (uint32_t)b->len);
	put_u32(b, (uint32_t)-(int32_t)(SLOT + b->len));
	put_u32(b, SLOT);
	put(b, zeros, 1); /* augmentation data */
	put(b, program, len);
	put(b, zeros, padding);
	put(b, zeros, 4); /* the end */
	put(b, zeros, HDR_BYTES);
}

static int publish(const uint8_t *code, const char *name, const uint8_t *program, size_t len)
{
	struct bytes frame = { .len = 0 }, b = { .len = 0 };

	eh_frame(&frame, program, len);
	put_u32(&b, JIT_CODE_UNWINDING_INFO);
	put_u32(&b, (uint32_t)(16 + 24 + frame.len));
	put_u64(&b, now_ns());
	put_u64(&b, frame.len);
	put_u64(&b, HDR_BYTES);
	put_u64(&b, 0); /* mapped */
	put(&b, frame.data, frame.len);
	put_u32(&b, JIT_CODE_LOAD);
	put_u32(&b, (uint32_t)(16 + 40 + strlen(name) + 1 + SLOT));
	put_u64(&b, now_ns());
	put_u32(&b, (uint32_t)getpid());
	put_u32(&b, (uint32_t)syscall(SYS_gettid));
	put_u64(&b, (uintptr_t)code);
	put_u64(&b, (uintptr_t)code);
	put_u64(&b, SLOT);
	put_u64(&b, 0); /* index */
	put(&b, name, strlen(name) + 1);
	put(&b, code, SLOT);
	return write(out, b.data, b.len) == (ssize_t)b.len ? 0 : -1;
}

static void put_call(struct bytes *b, const uint8_t *at, const uint8_t *next)
{
	static const uint8_t call = 0xe8;

	put(b, &call, 1);
	put_u32(b, (uint32_t)(next - (at + b->len + 4)));
}

/* sub rsp, FRAME; call NEXT; add rsp, FRAME; ret */
static int emit_outer(uint8_t *at, uint32_t frame_bytes)
{
	static const uint8_t sub[] = { 0x48, 0x81, 0xec }, add[] = { 0x48, 0x81, 0xc4 }, ret = 0xc3;
	uint8_t program[] = { 0x47,       /* advance 7 */
			      0x0e, 0, 0, /* def_cfa_offset */
			      0x4c,       /* advance 12 */
			      0x0e, 8 };
	struct bytes b = { .len = 0 };

	program[2] = (uint8_t)((frame_bytes + 8) | 0x80);
	program[3] = (uint8_t)((frame_bytes + 8) >> 7);
	put(&b, sub, 3);
	put_u32(&b, frame_bytes);
	put_call(&b, at, at + SLOT);
	put(&b, add, 3);
	put_u32(&b, frame_bytes);
	put(&b, &ret, 1);
	memcpy(at, b.data, b.len);
	return publish(at, "jit_outer", program, sizeof(program));
}

/* push rbp; sub rsp, 32; mov ebp, 4711; call NEXT; add rsp, 32; pop rbp; ret */
static int emit_inner(uint8_t *at)
{
	static const uint8_t head[] = { 0x55, 0x48, 0x83, 0xec, 0x20, 0xbd, 0x67, 0x12, 0, 0 };
	static const uint8_t tail[] = { 0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3 };
	static const uint8_t program[] = { 0x41, 0x0e, 16, 0x86, 2, /* after 1: CFA 16, rbp at CFA - 16 */
					   0x44, 0x0e, 48,          /* after 5: CFA 48 */
					   0x4e, 0x0e, 16,          /* after 19: CFA 16 */
					   0x41, 0x0e, 8, 0xc6 };   /* after 20: CFA 8, rbp as it was */
	struct bytes b = { .len = 0 };

	put(&b, head, sizeof(head));
	put_call(&b, at, at + SLOT);
	put(&b, tail, sizeof(tail));
	memcpy(at, b.data, b.len);
	return publish(at, "jit_inner", program, sizeof(program));
}

/* mov ecx, N; again: dec ecx; jnz again; ret */
static int emit_leaf(uint8_t *at)
{
	static const uint8_t code[] = { 0xb9, 0x40, 0x42, 0x0f, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xc3 };

	memcpy(at, code, sizeof(code));
	return publish(at, "jit_leaf", NULL, 0);
}

KEEP void run_jit(void (*code)(void))
{
	uint64_t end_ns = now_ns() + 500000000;

	while (now_ns() < end_ns)
		code();
}

int main(int argc, char **argv)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED || dump_open())
		return 1;
	signal(SIGTERM, ends);
	signal(SIGALRM, ends);
	if (argc > 1)
		alarm((unsigned int)strtoul(argv[1], NULL, 10));
	if (emit_inner(code + SLOT) || emit_leaf(code + 2 * SLOT))
		return 1;
	for (uint32_t round = 0;; round++) {
		if (emit_outer(code, round % 2 ? 1032 : 136))
			return 1;
		run_jit((void (*)(void))(uintptr_t)code);
	}
}
