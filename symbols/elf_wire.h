/*
 * What the recorder asks the parser about files (base/worker.h has the frame around it). Numbers are in host byte order,
 * a text is a u16 length and its bytes without a NUL. Files are known by the number the recorder gave them.
 *
 *	TELL_FILE    u32 id, u8 role, u64 size, u64 size at open, i64 s, i64 ns of its mtime then    + descriptor
 *	TELL_FORGET  u32 id
 *	TELL_NICE    i32
 *	ASK_HEAD     u32 id                     -> records of enum elf_head_part
 *	ASK_NAMES    u32 id, u64 vaddr..        -> u32 first, u32 num, u64 start, text name
 *	ASK_DEBUG    u32 id                     -> 0: the separate file that was told belongs to it; -errno
 *	ASK_KERNEL   u64 addr..  + descriptor   -> u32 first, u32 num, u64 start, text name, text module; or u32 ~0, u8 flags
 *	ASK_INLINED  u32 id, u64 vaddr..        -> u32 at, u8 left, text name, text file, u32 line; innermost first, `left` follow
 *	                                        <- want: text name, text build-id
 *
 * Addresses ascend. `first` and `num` are those of the questions that have this answer, in their order.
 */
#pragma once

#include "base/worker.h"

enum {
	ELF_TELL_FILE = WORKER_KIND(WORKER_SYMBOLS, 1),
	ELF_TELL_FORGET = WORKER_KIND(WORKER_SYMBOLS, 2),
	ELF_TELL_NICE = WORKER_KIND(WORKER_SYMBOLS, 3),
	ELF_ASK_HEAD = WORKER_KIND(WORKER_SYMBOLS, 4),
	ELF_ASK_NAMES = WORKER_KIND(WORKER_SYMBOLS, 5),
	ELF_ASK_DEBUG = WORKER_KIND(WORKER_SYMBOLS, 6),
	ELF_ASK_KERNEL = WORKER_KIND(WORKER_SYMBOLS, 7),
	ELF_ASK_INLINED = WORKER_KIND(WORKER_SYMBOLS, 8),
};

enum elf_role {
	ELF_ROLE_FILE,
	ELF_ROLE_DEBUG, /* of the file with this number */
	ELF_ROLE_VDSO,  /* our own, which the parser has at the same address; no descriptor */
	ELF_NUM_ROLES,
};

enum elf_head_part {
	ELF_PART_BASICS,    /* u8 is_go, u64 entry, u64 entry_end (0 = the entry is no root) */
	ELF_PART_LOAD,      /* u64 offset, vaddr, filesz, memsz, u8 executable */
	ELF_PART_BUILD_ID,  /* text */
	ELF_PART_DEBUGLINK, /* u32 crc, text */
	ELF_PART_GO_ROOT,   /* u64 start, end; u8 enum elf_root */
};

enum {
	ELF_KERNEL_HIDDEN = 1, /* flags: all symbols are at address 0 */
	ELF_KERNEL_EMPTY = 2,  /* there was no text */
	ELF_TEXT_MAX = 20 << 10, /* bytes of a name; symbols_demangle makes none that is longer, raw ones are cut */
};
