/* Trampolines with and without frame pointers, where they stand, and what only looks like one. */
#include "runtimes/python.h"

#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "test/check.h"
#include "test/mappings_view.h"

#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

enum { JIT = 0x700000, STACK = 0x10000, WORDS = 8 };

struct world {
	struct file file;
	struct mapping maps[2];
	struct map_run run; /* of the space */
	struct addrspace space;
	struct symbols *symbols;
	uint64_t stack[WORDS];
	struct regs regs;
	const char *name; /* of the code at JIT */
};

static int find_first(struct dl_phdr_info *info, size_t size, void *data)
{
	*(uint64_t *)data = info->dlpi_addr;
	return 1;
}

static bool find_name(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	*ret = (struct symbol){ .name = ((struct world *)data)->name };
	return ret->name;
}

/* An address that a call returns to. */
__attribute__((noinline)) static uint64_t after_call(void)
{
	return (uint64_t)(uintptr_t)__builtin_return_address(0);
}

static void world_init(struct world *w)
{
	const struct symbols_opts opts = { 0 };
	const struct symbol_source source = { .name = "test", .find = find_name, .data = w };
	uint64_t bias = 0, here = (uint64_t)(uintptr_t)&world_init;
	struct stat st;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	*w = (struct world){ .file = { .id = 1, .kind = FILE_ELF, .path = "/usr/bin/python3.13",
				       .base = "python3.13" } };
	dl_iterate_phdr(find_first, &bias);
	if (fd < 0 || fstat(fd, &st) < 0 || elf_file_open_fd(fd, (uint64_t)st.st_size, &w->file.elf, NULL) < 0 ||
	    symbols_new(&opts, &w->symbols, NULL) < 0 || symbols_add_source(w->symbols, &source, NULL) < 0)
		abort();
	w->maps[0] = (struct mapping){ .start = JIT, .end = JIT + 0x1000, .pgoff = JIT };
	w->maps[1] = (struct mapping){ .start = (here & ~0xfffull) - 0x100000, .end = (here & ~0xfffull) + 0x100000, .file = &w->file,
				       .bias = bias };
	w->space.maps = mappings_view(&w->run, w->maps, 2);
	w->regs.v[arch_x86_64.sp] = STACK;
	w->regs.v[arch_x86_64.fp] = 0x1234567;
	w->regs.valid = 1ull << arch_x86_64.sp | 1ull << arch_x86_64.fp;
}

static enum give ask(struct world *w, bool activation, struct give_answer *ret)
{
	struct unwind_giver giver = python_giver(w->symbols);
	struct give_query q = { .space = &w->space, .mapping = &w->maps[0], .pc = JIT + 5, .activation = activation,
				.first = activation, .regs = &w->regs, .stack = (const uint8_t *)w->stack,
				.stack_bytes = sizeof(w->stack), .stack_base = STACK };

	*ret = (struct give_answer){ 0 };
	return giver.give(giver.data, &q, ret);
}

int main(void)
{
	uint64_t ra = after_call();
	struct give_answer answer;
	struct world w;

	world_init(&w);
	CHECK(python_is_mapped(&w.space));
	CHECK(ask(&w, false, &answer) == GIVE_PASS); /* no return address there */
	w.stack[1] = ra;
	CHECK(ask(&w, false, &answer) == GIVE_RULE);
	CHECK(answer.rule.kind == RULE_CFA && answer.rule.cfa_reg == arch_x86_64.sp && answer.rule.cfa_off8 == 2);
	CHECK(answer.rule.slot[0] == 1 && answer.rule.slot[1] == SLOT_SAME && answer.life == GIVE_WITH_CODE);
	w.name = "py::f:/x.py";
	CHECK(ask(&w, false, &answer) == GIVE_RULE);
	w.name = "numba.f";
	CHECK(ask(&w, false, &answer) == GIVE_PASS);
	w.name = NULL;
	/* With frame pointers: what was saved is the caller's. */
	w.regs.v[arch_x86_64.fp] = STACK;
	CHECK(ask(&w, false, &answer) == GIVE_RULE && answer.rule.slot[1] == 2);
	w.regs.v[arch_x86_64.fp] = 0;
	/* Sampled in it: before the push or after it. */
	CHECK(ask(&w, true, &answer) == GIVE_RULE && answer.rule.cfa_off8 == 2 && answer.life == GIVE_ONCE);
	w.stack[0] = ra;
	CHECK(ask(&w, true, &answer) == GIVE_RULE && answer.rule.cfa_off8 == 1 && answer.rule.slot[0] == 1);
	w.stack[0] = 0;
	/* A pointer into the code that no call left there. */
	w.stack[1] = (uint64_t)(uintptr_t)&world_init + 1;
	CHECK(ask(&w, false, &answer) == GIVE_PASS);
	w.stack[1] = ra;
	w.file.base = "libnumba.so";
	CHECK(ask(&w, false, &answer) == GIVE_PASS);
	CHECK(!python_is_mapped(&w.space));
	w.file.base = "libpython3.12.so.1.0";
	CHECK(ask(&w, false, &answer) == GIVE_RULE);
	w.regs.v[arch_x86_64.sp] = STACK + sizeof(w.stack) - 8; /* the end of the copy */
	CHECK(ask(&w, false, &answer) == GIVE_PASS);
	w.regs.valid = 0;
	CHECK(ask(&w, false, &answer) == GIVE_PASS);
	elf_file_free(w.file.elf);
	symbols_free(w.symbols);
	return check_done();
}
