/* Names of places: in this program, in libc, in a stripped copy with a debug file, in the kernel,
 * in JIT code. */
#include "symbols/symbols.h"

#include "base/intern.h"
#include "base/strbuf.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "target/door.h"
#include "test/check.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct intern *strings;
	struct door *door;
	struct files *files;
	struct addrspaces *spaces;
	struct symbols *symbols;
};

static void world_init(struct world *w)
{
	struct files_opts files_opts = { 0 };
	struct addrspaces_opts spaces_opts = { 0 };
	struct symbols_opts opts = { 0 };

	w->strings = intern_new();
	if (!w->strings || door_new(&w->door, NULL) < 0)
		abort();
	files_opts.strings = spaces_opts.strings = opts.strings = w->strings;
	files_opts.door = spaces_opts.door = opts.door = w->door;
	if (files_new(&files_opts, &w->files, NULL) < 0)
		abort();
	spaces_opts.files = opts.files = w->files;
	if (addrspaces_new(&spaces_opts, &w->spaces, NULL) < 0 ||
	    symbols_new(&opts, &w->symbols, NULL) < 0)
		abort();
}

static void world_deinit(struct world *w)
{
	addrspaces_free(w->spaces);
	symbols_free(w->symbols);
	files_free(w->files);
	door_free(w->door);
	intern_free(w->strings);
}

__attribute__((noinline)) static int a_local_function(int x)
{
	return x * 3 + (int)getpid();
}

static bool symbol_at(struct world *w, struct file *file, uint64_t vaddr, struct symbol *ret)
{
	CHECK(symbols_file_batch(w->symbols, file, &vaddr, 1, ret));
	return ret->name;
}

/* The name of an address of this process, or "-". */
static const char *name_of(struct world *w, const void *place, uint64_t *ret_offset)
{
	struct addrspace *space = addrspaces_get(w->spaces, getpid());
	const struct mapping *m = addrspace_find(space, (uintptr_t)place);
	struct symbol symbol = { 0 };

	if (!m || !m->file ||
	    !symbol_at(w, m->file, (uintptr_t)place - m->bias, &symbol))
		return "-";
	*ret_offset = symbol.offset;
	return symbol.name;
}

static void test_own(struct world *w)
{
	uint64_t offset = 99;

	CHECK_STR(name_of(w, (const void *)&a_local_function, &offset), "a_local_function");
	CHECK(offset == 0);
	CHECK_STR(name_of(w, (const char *)&a_local_function + 3, &offset), "a_local_function");
	CHECK(offset == 3);
	CHECK_STR(name_of(w, (const void *)&name_of, &offset), "name_of");
}

static void test_libc(struct world *w)
{
	void *place = dlsym(RTLD_DEFAULT, "a64l");
	uint64_t offset = 99;

	if (place) {
		CHECK_STR(name_of(w, place, &offset), "a64l");
		CHECK(offset == 0);
	}
}

static void test_vdso(struct world *w)
{
	struct file *vdso = files_vdso(w->files, &(struct door_mapping){ .path = "[vdso]" });
	struct symbol symbol;
	const struct elf_load *loads;
	size_t found = 0, num = elf_file_loads(vdso->elf, &loads);

	for (uint64_t vaddr = 0; num && vaddr < loads[0].memsz; vaddr += 4) {
		if (symbol_at(w, vdso, loads[0].vaddr + vaddr, &symbol))
			found += strstr(symbol.name, "clock_gettime") != NULL;
	}
	CHECK(found > 0);
}

static void run(const char *command)
{
	CHECK_MSG(system(command) == 0, "%s", command);
}

/* Is only_in_debug found in the file that the process, which is about to exec, maps under this path? */
static bool finds_in_debug(struct world *w, pid_t pid, const char *path)
{
	bool mapped = false, found = false;

	/* Its exec is done when its maps show it. */
	for (int i = 0; i < 3000 && !mapped; i++) {
		struct addrspaces_opts opts = { .files = w->files,
						.door = w->door,
						.strings = w->strings };
		const struct addrspace *space;
		struct addrspaces *spaces;

		usleep(10000);
		if (addrspaces_new(&opts, &spaces, NULL) < 0)
			abort();
		space = addrspaces_get(spaces, pid);
		mappings_for_each(m, &space->maps) {
			struct symbol symbol;

			if (!m->file || strcmp(m->file->path, path))
				continue;
			mapped = true;
			for (uint64_t addr = m->start; addr < m->end && !found; addr++)
				found = symbol_at(w, m->file, addr - m->bias, &symbol) &&
					!strcmp(symbol.name, "only_in_debug");
			CHECK(m->file->debug_tried);
		}
		addrspaces_free(spaces);
	}
	return found;
}

/* Stripped to nothing, with the rest beside it: found by its debuglink, in the root of who maps it.
 */
static void test_debuglink(struct world *w)
{
	char dir[] = "/var/tmp/ringfold-test-XXXXXX", command[600], path[64];
	int pipes[2];
	pid_t pid;
	char byte;

	if (system("command -v objcopy >/dev/null && command -v cc >/dev/null") != 0)
		return; /* without binutils there is nothing to test with */
	if (!mkdtemp(dir) || pipe(pipes) < 0)
		abort();
	snprintf(command, sizeof(command),
		 "cd %s && echo 'static int only_in_debug(int x) { return x + 1; }"
		 "int main(int c, char **v) { return only_in_debug(c) + getchar(); }' >x.c && "
		 "cc -w -O0 -include stdio.h -Wl,--build-id=none -o x x.c && mkdir .debug && "
		 "objcopy --only-keep-debug x .debug/x.debug && strip x && "
		 "objcopy --add-gnu-debuglink=.debug/x.debug x",
		 dir);
	run(command);
	snprintf(path, sizeof(path), "%s/x", dir);
	pid = fork();
	if (!pid) {
		dup2(pipes[0], 0);
		close(pipes[1]);
		execl(path, path, (char *)NULL);
		_exit(1);
	}
	close(pipes[0]);
	CHECK(finds_in_debug(w, pid, path));
	byte = '\n';
	CHECK(write(pipes[1], &byte, 1) == 1);
	close(pipes[1]);
	waitpid(pid, NULL, 0);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	run(command);
}

/* A container's file, whose debug file only the host has: under its build-id, and not for another one. */
static void test_debug_of_host(void)
{
	char dir[] = "/var/tmp/ringfold-test-XXXXXX", command[700];
	struct world w;
	int pipes[2];
	pid_t pid;

	if (geteuid() || system("command -v objcopy >/dev/null && command -v cc >/dev/null") != 0)
		return;
	/* For this process alone. */
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/usr/lib/debug", "tmpfs", 0, NULL)) {
		fprintf(stderr, "no mount of its own at /usr/lib/debug: left out\n");
		return;
	}
	if (!mkdtemp(dir))
		abort();
	world_init(&w);
	for (int same = 0; same < 2; same++) {
		snprintf(command, sizeof(command),
			 "cd %s && echo 'static int only_in_debug(int x) { return x + 1; }"
			 "int main(int c, char **v) { return only_in_debug(c) + getchar(); }' >x.c && "
			 "cc -w -O0 -include stdio.h -static -Wl,--build-id=0xabcdef012%d -o x%d x.c && "
			 "mkdir -p /usr/lib/debug/.build-id/ab && "
			 "objcopy --only-keep-debug x%d /usr/lib/debug/.build-id/ab/cdef0121.debug && strip x%d",
			 dir, same, same, same, same);
		run(command);
		if (pipe(pipes) < 0)
			abort();
		pid = fork();
		if (!pid) {
			char path[] = { '/', 'x', (char)('0' + same), '\0' };

			dup2(pipes[0], 0);
			close(pipes[1]);
			/* Its paths are those of its own mounts then. */
			if (!unshare(CLONE_NEWNS) && !mount(dir, dir, NULL, MS_BIND, NULL) && !chdir(dir) &&
			    !syscall(SYS_pivot_root, ".", ".") && !umount2(".", MNT_DETACH))
				execl(path, path, (char *)NULL);
			_exit(1);
		}
		close(pipes[0]);
		CHECK(finds_in_debug(&w, pid, same ? "/x1" : "/x0") == same);
		close(pipes[1]);
		waitpid(pid, NULL, 0);
	}
	world_deinit(&w);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	run(command);
}

/* Address of a function that every kernel has; 0 when addresses are hidden here. */
static uint64_t kernel_address(struct world *w)
{
	struct strbuf text = { 0 };
	uint64_t addr = 0;
	const char *at;

	if (door_read_text(w->door, DOOR_KALLSYMS, &text, NULL) == 0 && text.len) {
		at = strstr(text.data, " T vfs_read\n");
		if (at && at - text.data >= 16)
			addr = strtoull(at - 16, NULL, 16);
	}
	strbuf_deinit(&text);
	return addr;
}

static void test_kernel(struct world *w)
{
	uint64_t addr = kernel_address(w);
	const uint64_t addrs[] = { UINT64_C(0xffff800000000000), addr + 4 };
	const char *modules[2] = { "x", "x" };
	struct symbol symbols[2];

	CHECK(!symbols_kernel_note(w->symbols)); /* nobody has asked yet */
	CHECK(symbols_kernel_batch(w->symbols, addrs, 1, symbols, modules));
	CHECK(!symbols[0].name && !modules[0]);
	CHECK((symbols_kernel_note(w->symbols) == NULL) == (addr != 0));
	if (!addr) {
		CHECK(strstr(symbols_kernel_note(w->symbols), "root"));
		return;
	}
	CHECK(symbols_kernel_batch(w->symbols, addrs, 2, symbols, modules));
	CHECK(!symbols[0].name);
	CHECK_STR(symbols[1].name, "vfs_read");
	CHECK(symbols[1].offset == 4 && !modules[1]);
	/* What records told of has their name, also where the list of symbols has another or none. */
	CHECK(symbols_kernel_code(w->symbols, addrs[0] - 8, 16, "bpf_prog_1", 10, true));
	CHECK(symbols_kernel_code(w->symbols, UINT64_MAX - 4, 16, "beyond", 6, true));
	CHECK(symbols_kernel_batch(w->symbols, addrs, 2, symbols, modules));
	CHECK_STR(symbols[0].name, "bpf_prog_1");
	CHECK_STR(modules[0], "bpf");
	CHECK(symbols[0].offset == 8 && !strcmp(symbols[1].name, "vfs_read"));
	CHECK(symbols_kernel_code(w->symbols, addr, 8, "trampoline", 10, false));
	CHECK(symbols_kernel_batch(w->symbols, addrs, 2, symbols, modules));
	CHECK_STR(symbols[1].name, "trampoline");
	CHECK(symbols[1].offset == 4 && !modules[1]);
	CHECK(symbols_kernel_code(w->symbols, addr, 8, "another", 7, false));
	CHECK(symbols_kernel_batch(w->symbols, addrs, 2, symbols, modules));
	CHECK(!symbols[1].name && !modules[1]);
}

struct fake {
	uint64_t start;
	const char *name;
	int seen, gone, freed;
};

static bool fake_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct fake *fake = data;

	if (addr < fake->start || addr >= fake->start + 0x100)
		return false;
	*ret = (struct symbol){ .name = fake->name, .offset = addr - fake->start };
	return true;
}

static void fake_seen(void *data, struct addrspace *space)
{
	((struct fake *)data)->seen++;
}

static void fake_gone(void *data, struct addrspace *space)
{
	((struct fake *)data)->gone++;
}

static void fake_free(void *data)
{
	((struct fake *)data)->freed++;
}

static void test_sources(void)
{
	struct fake first = { 0x1000, "first", 0, 0, 0 }, second = { 0x1080, "second", 0, 0, 0 };
	struct symbol_source source = {
		.name = "fake", .find = fake_find, .first_seen = fake_seen, .gone = fake_gone,
		.free = fake_free, .data = &first,
	};
	struct symbol_source bare = { .name = "bare", .find = fake_find, .data = &second };
	struct symbols_opts opts = { 0 };
	struct addrspace space = { 0 };
	struct symbols *symbols;
	struct symbol symbol;

	CHECK(symbols_new(&opts, &symbols, NULL) == 0);
	CHECK(!symbols_jit(symbols, &space, 0x1000, &symbol));
	CHECK(symbols_add_source(symbols, &source, NULL) == 0);
	CHECK(symbols_add_source(symbols, &bare, NULL) == 0);
	CHECK(symbols_jit(symbols, &space, 0x1090, &symbol));
	CHECK_STR(symbol.name, "first");
	CHECK(symbols_jit(symbols, &space, 0x1110, &symbol) && symbol.offset == 0x90);
	CHECK_STR(symbol.name, "second");
	CHECK(!symbols_jit(symbols, &space, 0x2000, &symbol));
	symbols_jit_first_seen(symbols, &space);
	symbols_space_gone(symbols, &space);
	symbols_free(symbols);
	CHECK(first.seen == 1 && first.gone == 1 && first.freed == 1);
	CHECK(second.seen == 0 && second.gone == 0 && second.freed == 0);
}

/* A source in which one address is another function from a time on. */
struct changing {
	uint64_t at_ns; /* UINT64_MAX = it has happened */
	const char *now;
	struct symbols *symbols;
	struct addrspace *space;
	const char *told; /* the name while it was told of the change */
};

static bool changing_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	*ret = (struct symbol){ .name = ((struct changing *)data)->now };
	return true;
}

static uint64_t changing_next(void *data, const struct addrspace *space)
{
	return ((struct changing *)data)->at_ns;
}

static bool changing_changes(void *data, struct addrspace *space, uint64_t time_ns, struct code_ranges *ret)
{
	return vec_push(&ret->v, ((struct code_range){ 0x1000, 0x1100 }));
}

static void changing_apply(void *data, struct addrspace *space, uint64_t time_ns)
{
	struct changing *c = data;

	if (time_ns < c->at_ns)
		return;
	c->now = "new";
	c->at_ns = UINT64_MAX;
}

static void on_changed(void *data, struct code_ranges *ranges)
{
	struct changing *c = data;
	struct symbol symbol = { 0 };

	CHECK(ranges->v.len == 1 && ranges->v.data[0].start == 0x1000 && ranges->v.data[0].end == 0x1100);
	CHECK(symbols_jit(c->symbols, c->space, 0x1000, &symbol));
	c->told = symbol.name;
}

static void test_advance(void)
{
	struct addrspace space = { 0 };
	struct changing c = { .at_ns = 50, .now = "old", .space = &space };
	struct symbol_source source = { .name = "changing", .find = changing_find, .next = changing_next,
					.changes = changing_changes, .apply = changing_apply, .data = &c };
	struct symbols_opts opts = { 0 };

	CHECK(symbols_new(&opts, &c.symbols, NULL) == 0);
	CHECK(symbols_add_source(c.symbols, &source, NULL) == 0);
	CHECK(symbols_jit_advance(c.symbols, &space, 49, on_changed, &c));
	CHECK(!c.told);
	CHECK(space.names_next_ns == 50);
	CHECK(symbols_jit_advance(c.symbols, &space, 50, on_changed, &c));
	CHECK(c.told);
	CHECK_STR(c.told, "old");
	CHECK_STR(c.now, "new");
	CHECK(space.names_next_ns == UINT64_MAX);
	symbols_jit_poll(c.symbols, &space, false);
	CHECK(space.names_next_ns == 0); /* it must be asked */
	symbols_free(c.symbols);
}

int main(void)
{
	struct world w;

	CHECK(a_local_function(0) == getpid());
	world_init(&w);
	test_own(&w);
	test_libc(&w);
	test_vdso(&w);
	test_debuglink(&w);
	test_kernel(&w);
	world_deinit(&w);
	test_sources();
	test_advance();
	test_debug_of_host();
	return check_done();
}
