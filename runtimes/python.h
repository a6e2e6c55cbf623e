/*
 * CPython's trampolines (-X perf, 3.12 on): a few bytes of code per function, through which it is called, and which a perf
 * map names. They have no call-frame information, and where CPython was built without frame pointers (3.12, 3.13 as most
 * build them) no frame pointer leads through them:
 *
 *	sub rsp, 8 | push rbp; mov rbp, rsp
 *	call rcx
 *	add rsp, 8 | pop rbp
 *	ret
 *
 * (python/cpython Objects or Python/asm_trampoline.S). In both the return address is the second word of the frame.
 */
#pragma once

#include "unwinder/giver.h"

#include <stdbool.h>

struct addrspace;
struct symbols;

/* Whether the process has mapped CPython, alone or in another program. */
bool python_is_mapped(const struct addrspace *space);

/* Its giver; `symbols`, which is borrowed, tells code that has the name of something else. */
struct unwind_giver python_giver(struct symbols *symbols);
