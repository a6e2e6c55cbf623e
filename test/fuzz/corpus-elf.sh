#!/bin/sh
# Makes test/fuzz/corpus/elf again: small ELF files with every section we read. Needs gcc, binutils, xz.
# usage: test/fuzz/corpus-elf.sh
set -eu
out=$(cd "$(dirname "$0")" && pwd)/corpus/elf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > a.c <<'END'
extern int puts(const char *);
static int resolver_target(int x) { return x; }
static void *resolve(void) { return resolver_target; }
int picked(int x) __attribute__((ifunc("resolve")));
static __attribute__((noinline)) int hidden(int x) { __asm__ volatile(""); return x * 3; }
void _start(void) { puts("x"); hidden(picked(2)); for (;;) ; }
END
# The header and two functions of a .gopclntab as Go 1.20 writes it (golang src/runtime/symtab.go).
cat > go.S <<'END'
.section .gopclntab,"a"
head: .long 0xfffffff1
.byte 0, 0, 1, 8
.quad 2, 0, code, names - head, 0, 0, 0, funcs - head
names: .string "runtime.goexit"
second: .string "main.main"
.balign 8
funcs: .long 0, f0 - funcs, 4, f1 - funcs, 8
f0: .long 0, 0
f1: .long 4, second - names
.section .note.go.buildid,"a",@note
.long 4, 4, 4
.string "Go\0"
.long 0x64636261
.text
code: nop
nop
nop
nop
nop
nop
nop
nop
.section .note.GNU-stack,"",@progbits
END
flags="-Os -fno-stack-protector -fcf-protection=none -nostdlib -shared -fPIC -Wl,--build-id=sha1 -Wl,--hash-style=gnu -Wl,-z,noseparate-code -Wl,-z,max-page-size=4096"
gcc $flags -o dynamic a.c
strip -o stripped dynamic
objcopy --only-keep-debug dynamic debug
xz -k --stdout debug > debug.xz
objcopy --add-section .gnu_debugdata=debug.xz stripped minidebug
objcopy --add-gnu-debuglink=debug stripped debuglink
gcc $flags -g -fno-asynchronous-unwind-tables -o debug_frame a.c
gcc $flags -g -fno-asynchronous-unwind-tables -gz=zlib -o debug_frame_z a.c
for file in debug_frame debug_frame_z; do
	objcopy -R .debug_info -R .debug_abbrev -R .debug_str -R .debug_line -R .debug_line_str -R .debug_aranges $file
done
gcc $flags -o go go.S
strip -o go_stripped go
gcc $flags -fcf-protection=full -Wl,-z,ibtplt -o ibt a.c
# Two sections and one symbol of 32 bits, without a 32-bit compiler: the assembler can.
printf '.text\n.globl f\n.type f,@function\nf: ret\n.size f,1\n' | as --32 -o bits32.o -
ld -m elf_i386 -shared -o bits32 bits32.o
mkdir -p "$out"
cp dynamic stripped debug minidebug debuglink debug_frame debug_frame_z go go_stripped ibt bits32 "$out"
ls -l "$out"
