/*
 * One ELF file, parsed from a descriptor the door opened (or from memory, for the vDSO). Nothing
 * here opens a file, and no file is ever mapped: a target could truncate it under us. Program
 * headers are read at once (one pread); libelf, CFI and symbols only when first asked for.
 *
 * Three kinds of number, never mixed: `addr` in a process, `vaddr` as the ELF file numbers it,
 * `offset` in the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct elf_file;
struct symtab;
typedef struct Elf Elf;
typedef struct Dwarf_CFI_s Dwarf_CFI;

/* One PT_LOAD segment. */
struct elf_load {
	uint64_t offset, vaddr, filesz, memsz;
	bool executable;
};

/*
 * Takes fd (closed on failure too). -ENOEXEC when it is no ELF file, -EBADMSG when it is malformed.
 */
int elf_file_open_fd(int fd, uint64_t size, struct elf_file **ret, struct err *err);
/* Copies nothing: `bytes` must outlive it. */
int elf_file_open_memory(const void *bytes, size_t size, struct elf_file **ret, struct err *err);
void elf_file_free(struct elf_file *f); /* NULL is fine */

uint16_t elf_file_machine(const struct elf_file *f); /* EM_* */
bool elf_file_is_64(const struct elf_file *f);
size_t elf_file_loads(const struct elf_file *f, const struct elf_load **ret);
/* Vaddr of a byte of the file as the loader places it; false when no PT_LOAD holds it. */
bool elf_file_vaddr(const struct elf_file *f, uint64_t offset, uint64_t *ret);
bool elf_file_offset(const struct elf_file *f, uint64_t vaddr, uint64_t *ret);
/*
 * The file's bytes for [vaddr, vaddr + len): false unless one PT_LOAD has all of them in the file.
 */
bool elf_file_read_vaddr(struct elf_file *f, uint64_t vaddr, void *buf, size_t len);

/* NT_GNU_BUILD_ID; length 0 when there is none. Borrowed. */
size_t elf_file_build_id(struct elf_file *f, const uint8_t **ret);

/*
 * Call-frame information, opened on first use; NULL when the file has none (or it is unusable).
 * libdw numbers by vaddr. .eh_frame (also by PT_GNU_EH_FRAME alone) and .debug_frame (also
 * compressed).
 */
Dwarf_CFI *elf_file_eh_frame(struct elf_file *f);
Dwarf_CFI *elf_file_debug_frame(struct elf_file *f);

/*
 * True when vaddr lies in a function that is the first of a process or thread by its nature: the
 * ELF entry point (to its symbol's end, at most 64 bytes without one), and in Go programs
 * runtime.goexit, clone, mstart, rt0_go, mcall, systemstack, asmcgocall, morestack (found by symbol or .gopclntab).
 */
bool elf_file_is_root(struct elf_file *f, uint64_t vaddr);
/* What comes behind such a function, by the nature of it. */
enum elf_root {
	ELF_ROOT_NONE,   /* it is none */
	ELF_ROOT_FIRST,  /* nothing */
	ELF_ROOT_THREAD, /* Go's mstart: the code of the thread, in C or not, that started it */
	ELF_ROOT_SWITCH, /* another stack, where the frame pointer leads: Go's systemstack, asmcgocall */
	ELF_ROOT_CUT,    /* another stack, to which nothing leads: Go's morestack */
	/* nothing, but in the thread that called it: Go's clone; nothing, but before it changes stacks: mcall */
	ELF_ROOT_CALLED,
	/* None, but a name for where a goroutine's stack goes on: systemstack_switch. Its first byte is put there as if it
	 * were a return address (golang src/runtime/asm_amd64.s, gosave_systemstack_switch, cgocallback). */
	ELF_ROOT_MARK,
	ELF_ROOT_CALLBACK, /* None either: cgocallback, which changes stacks and keeps its frame. */
	/* Nor these: time.now and others call the vDSO on a stack that has room for C, and the frame pointer stays behind
	 * on their own (golang src/runtime/time_linux_amd64.s, sys_linux_amd64.s). */
	ELF_ROOT_CLOCK,
	ELF_ROOT_NUM,
};
/* *start: of the function; untouched for ELF_ROOT_NONE. */
enum elf_root elf_file_root(struct elf_file *f, uint64_t vaddr, uint64_t *start);
/* Built by Go: frame pointers are kept everywhere, prefer them to missing CFI. */
bool elf_file_is_go(struct elf_file *f);

/* A frame that is told by its stack pointer alone, where there is no call-frame information. */
struct elf_sp_frame {
	uint64_t start, end; /* vaddrs between which it holds */
	int32_t sp_below;    /* bytes the stack pointer is below its value at the function's entry */
};
/* As .gopclntab has it, which stripping leaves. False: not Go code, or code that changes to another stack. */
bool elf_go_frame(struct elf_file *f, uint64_t vaddr, struct elf_sp_frame *ret);
/* In .init or .fini, as glibc's start files have made them since ever; false when they look otherwise. */
bool elf_init_frame(struct elf_file *f, uint64_t vaddr, struct elf_sp_frame *ret);

/*
 * The functions that hold `vaddrs` (ascending): .symtab, else .dynsym and .gnu_debugdata, in Go programs
 * .gopclntab; PLT entries as NAME@plt. Tables stream past and nothing of them is kept, so ask for many at once.
 * Caller's to free; ask symtab_answer. NULL only when out of memory.
 */
struct symtab *elf_file_resolve(struct elf_file *f, const uint64_t *vaddrs, size_t num);

/* .gnu_debuglink: file name (borrowed) and CRC32 of the file it means; NULL when there is none. */
const char *elf_file_debuglink(struct elf_file *f, uint32_t *ret_crc);
/*
 * Separate debug file for names: takes `debug`. Refused (-ESTALE) unless the build-ids are equal,
 * or, where there is none, its CRC32 is the debuglink's; -ENODATA when it names nothing; -EALREADY
 * the second time. It stays open, and names come from it alone from then on (but PLT entries).
 */
int elf_file_add_debug(struct elf_file *f, struct elf_file *debug, struct err *err);

/* Another descriptor of the file, or of its separate debug file: the caller's. -1: there is none. */
int elf_file_dup_fd(const struct elf_file *f, bool debug);

/*
 * The file changed since it was opened (size or mtime): nothing read later is believed. ctime is
 * not asked: deleting or renaming a file moves it too, and leaves the bytes alone.
 */
bool elf_file_changed(const struct elf_file *f);
