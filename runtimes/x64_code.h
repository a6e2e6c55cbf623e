/*
 * The little of x86-64 machine code that a frame is told by where nothing else tells it: how methods leave, and the
 * runtime's stubs. Intel SDM volume 2. For exact places only: the first instruction that has not been executed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	X64_MAX_POPS = 8,
	X64_EPILOGUE_BYTES = 64, /* to be offered: seven pops of two bytes, what frees the frame, the jump */
};

/* How a frame is taken down from here on. */
struct x64_leaving {
	uint32_t sp_above;     /* the return address is so many bytes above the stack pointer */
	unsigned int num_pops;
	struct x64_pop {
		uint8_t reg;   /* the machine's number */
		uint32_t at;   /* its saved value is so many bytes above the stack pointer */
	} pops[X64_MAX_POPS];
};

/*
 * `code` is at address `at`, in a function from `begin` to `end`: true when it is the rest of an epilogue,
 * [add rsp, n] pop* [vzeroupper] ret, or a jump out of the function.
 */
bool x64_epilogue(const uint8_t *code, size_t size, uint64_t at, uint64_t begin, uint64_t end, struct x64_leaving *ret);

/*
 * A thunk of a ReadyToRun image, which goes to where a method is looked up (dotnet/runtime ILCompiler.ReadyToRun,
 * Target_X64/ImportThunk.cs): [xor eax,eax | mov rax,r11 | lea rax,[rip+n]] [push n] [push [rip+n]] jmp [rip+n].
 * The place is code[at], at >= 6 where there is code before it.
 */
bool x64_stub(const uint8_t *code, size_t size, size_t at, struct x64_leaving *ret);
