/*
 * How a method that the JIT made begins (dotnet/runtime src/coreclr/jit/codegenxarch.cpp, genFnProlog): what it pushes,
 * how much of the stack it takes, and whether rbp is its frame register. Intel SDM volume 2.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct x64_prologue {
	uint32_t depth;      /* bytes between the stack pointer and the return address */
	bool by_rbp;         /* rbp was set: CFA = rbp + rbp_to_cfa */
	uint32_t rbp_to_cfa;
	uint32_t saved[16];  /* by the machine's number: bytes below the CFA; 0 = not saved */
	uint32_t end;        /* offset of the first instruction that is no part of it */
};

/*
 * What the instructions of the prologue before `upto` bytes have done. Stops at the first one that a prologue does not have.
 * False for one that cannot be followed.
 */
bool x64_prologue(const uint8_t *code, size_t size, size_t upto, struct x64_prologue *ret);

/*
 * The same of a method that goes on in the frame of another version of it (on-stack replacement; docs/design/features/
 * OsrDetailsAndDebugging.md there). It is entered as if that had called it, with rbp as that had it; what it saves of its
 * caller's registers lies in that frame. `depth` leads to the return address of this pretended call, which is never
 * used: the other version's frame begins above it. saved[] is from the stack pointer upwards, other than above.
 */
bool x64_prologue_osr(const uint8_t *code, size_t size, size_t upto, struct x64_prologue *ret);
