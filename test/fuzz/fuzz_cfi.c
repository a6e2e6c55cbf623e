/*
 * A small program with call-frame information of anybody's making, and a stack of the same: whatever they say,
 * rules are compiled and walks end soon, with an exact class.
 *
 *	byte 0     1 = .debug_frame, 2 = aarch64, 4 = the copy is full, 8 = the kernel's chain is there
 *	byte 1     offset of the sampled pc in its function, / 16 the function
 *	2..3       length of the call-frame information (little endian), which follows
 *	the rest   the stack, then repeated as registers
 */
#include "base/reader.h"
#include "test/unwinder/fixture.h"
#include "unwinder/unwinder_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STACK_WORDS = 128 };

struct fuzz {
	struct cfi_bytes cfi;
	struct program program;
	struct sample sample;
	uint64_t chain[STACK_WORDS];
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void take_cfi(struct reader *r, struct cfi_bytes *cfi)
{
	size_t len = reader_u16(r);
	const void *bytes;

	if (len > sizeof(cfi->data))
		len = sizeof(cfi->data);
	if (len > reader_left(r))
		len = reader_left(r);
	bytes = reader_bytes(r, len);
	if (bytes)
		memcpy(cfi->data, bytes, len);
	cfi->len = len;
}

/* Words of the input; small ones become addresses of the stack or of code, so that walks get somewhere. */
static uint64_t next_word(struct reader *r)
{
	uint64_t w = reader_left(r) >= 8 ? reader_u64(r) : reader_u8(r);

	if (w % 3 == 0 && w < 65536)
		return STACK_AT + w / 3 * 8 % (8 * STACK_WORDS);
	return w < 65536 ? LOADED_AT + TEXT + w % TEXT_SIZE : w;
}

static void make_sample(struct fuzz *f, const struct arch *arch, struct reader *r, uint8_t flags,
			uint8_t pc)
{
	sample_init(&f->sample, arch, &f->program, STACK_WORDS);
	for (int reg = 0; reg < arch->num_regs; reg++)
		sample_reg(&f->sample, arch, reg, STACK_AT + 8 * (uint64_t)(reg * 3));
	sample_reg(&f->sample, arch, arch->sp, STACK_AT);
	for (size_t i = 0; i < STACK_WORDS; i++)
		f->chain[i] = f->sample.stack[i] = next_word(r);
	sample_reg(&f->sample, arch, arch->fp, next_word(r));
	sample_pc(&f->sample, arch,
		  pc == 0xff ? JIT_AT : LOADED_AT + TEXT + 0x100u * (pc / 16) + pc % 16);
	f->sample.in.stack_full = flags & 4;
	if (flags & 8) {
		f->sample.in.chain = f->chain;
		f->sample.in.num_chain = STACK_WORDS;
	}
}

static void walk(struct fuzz *f, const struct arch *arch, enum unwind_method method)
{
	struct unwinder *u = new_unwinder(arch, method);
	const struct unwind_result *result = &f->sample.result;

	for (int again = 0; again < 2; again++) {
		sample_walk(u, &f->sample);
		check(result->class < UNWIND_NUM_CLASSES && result->reason < REASON_NUM);
		check((result->class == UNWIND_BROKEN) == (result->reason != REASON_NONE));
		check(result->num_frames <= 1024);
		check(result->num_jit + result->num_unknown <= result->num_frames);
		for (size_t i = 0; i < result->num_frames; i++)
			check(f->sample.frames[i] && f->sample.frames[i] < unwinder_num_frames(u));
	}
	unwinder_free(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = reader_init(data, size);
	uint8_t flags = reader_u8(&r), pc = reader_u8(&r);
	const struct arch *arch = flags & 2 ? &arch_aarch64 : &arch_x86_64;
	struct fuzz *f = calloc(1, sizeof(*f));

	check(f != NULL);
	f->cfi.debug_frame = flags & 1;
	take_cfi(&r, &f->cfi);
	program_init(&f->program, arch->elf_machine, &f->cfi);
	make_sample(f, arch, &r, flags, pc);
	for (uint64_t vaddr = TEXT; vaddr < TEXT + 0x1000; vaddr += 0x100) {
		struct rule_ext ext;
		uint64_t start, end;

		rule_from_cfi(arch, f->program.elf, vaddr, &start, &end, &ext);
		rule_ext_deinit(&ext);
	}
	walk(f, arch, UNWIND_CFI);
	walk(f, arch, UNWIND_FP);
	program_deinit(&f->program);
	free(f);
	return 0;
}
