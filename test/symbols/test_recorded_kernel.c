/* Which names the addresses of a recorded kernel are given, and which not. */
#include "symbols/recorded_kernel.h"

#include "base/err.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "symbols/addrspace.h"
#include "symbols/kallsyms.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "test/check.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static char dir[] = "/tmp/ringfold-kernel-XXXXXX";

/* A list as the kernel writes it, with its text at `base` and module `mod` at `module`. */
static const char *write_list(const char *name, uint64_t base, uint64_t module)
{
	static char path[256];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	out = fopen(path, "w");
	CHECK(out != NULL);
	if (!out)
		exit(1);
	fprintf(out, "0000000000000000 A fixed_percpu_data\n%016llx T _stext\n%016llx T _text\n",
		(unsigned long long)base, (unsigned long long)base);
	fprintf(out, "%016llx T first\n%016llx t second\n%016llx T _etext\n",
		(unsigned long long)base + 0x100, (unsigned long long)base + 0x200,
		(unsigned long long)base + 0x1000);
	fprintf(out, "%016llx t mod_init\t[mod]\n%016llx t mod_work\t[mod]\n", (unsigned long long)module,
		(unsigned long long)module + 0x80);
	fclose(out);
	return path;
}

struct world {
	struct door *door;
	struct offline *offline;
	struct intern *strings;
	struct recorded_kernel *kernel;
};

static const uint64_t TEXT = 0xffffffff81000000, MODULE = 0xffffffffc0000000;

static struct world world_new(const char *kallsyms, const char *vmlinux, uint64_t text)
{
	struct world w = { .strings = intern_new() };
	struct offline_opts offline = { .end_ns = INT64_MAX };
	struct recorded_kernel_opts opts = { .kallsyms = kallsyms, .vmlinux = vmlinux };
	struct mmap_record m = { .pid = -1, .start = text, .len = 0x1000, .pgoff = text,
				 .path = "[kernel.kallsyms]_text", .path_len = 22 };
	struct mmap_record module = { .pid = -1, .start = MODULE, .len = 0x1000,
				      .path = "/lib/modules/6.1/kernel/mod.ko.zst", .path_len = 34 };
	struct err err = { 0 };

	CHECK_MSG(door_new(&w.door, &err) == 0, "%s", err.msg);
	offline.door = w.door;
	CHECK_MSG(offline_new(&offline, &w.offline, &err) == 0, "%s", err.msg);
	opts.door = w.door;
	opts.offline = w.offline;
	opts.strings = w.strings;
	CHECK(recorded_kernel_new(&opts, &w.kernel, &err) == 0);
	if (text) {
		CHECK(recorded_kernel_mmap(w.kernel, &m));
		CHECK(recorded_kernel_mmap(w.kernel, &module));
	}
	return w;
}

static void world_free(struct world *w)
{
	recorded_kernel_free(w->kernel);
	offline_free(w->offline);
	door_free(w->door);
	intern_free(w->strings);
}

struct answers {
	struct symbol symbol[8];
	const char *module[8];
};

static struct answers ask(struct world *w, const uint64_t *addrs, size_t num)
{
	struct answers ret = { 0 };

	CHECK(recorded_kernel_batch(w->kernel, addrs, num, ret.symbol, ret.module));
	return ret;
}

static void test_given_list(void)
{
	const uint64_t then = TEXT + 0x4000000;
	const uint64_t addrs[] = { then + 0x10, then + 0x110, then + 0x2ff, MODULE + 0x90, MODULE + 0x5000 };
	struct world w;
	struct answers a;

	/* The same boot: everything lies where it lay, and no module that was not recorded has a name. */
	w = world_new(write_list("same", then, MODULE), NULL, then);
	a = ask(&w, addrs, 5);
	CHECK_STR(a.symbol[0].name, "_stext");
	CHECK_STR(a.symbol[1].name, "first");
	CHECK(a.symbol[1].offset == 0x10);
	CHECK_STR(a.symbol[2].name, "second");
	CHECK_STR(a.symbol[3].name, "mod_work");
	CHECK_STR(a.module[3], "mod");
	CHECK(!a.module[1] && recorded_kernel_note(w.kernel) == NULL);
	world_free(&w);

	/* Another boot: the kernel's text is moved, modules only keep their own name. */
	w = world_new(write_list("moved", TEXT, MODULE), NULL, then);
	a = ask(&w, addrs, 5);
	CHECK_STR(a.symbol[1].name, "first");
	CHECK(a.symbol[1].offset == 0x10);
	CHECK_STR(a.symbol[2].name, "second");
	CHECK(!a.symbol[3].name && !a.symbol[4].name);
	CHECK_STR(a.module[3], "mod");
	CHECK(!a.module[4]);
	world_free(&w);

	/* The module was loaded again, elsewhere. */
	w = world_new(write_list("other", then, MODULE - 0x4000), NULL, then);
	a = ask(&w, addrs, 4);
	CHECK_STR(a.symbol[1].name, "first");
	CHECK(!a.symbol[3].name);
	CHECK_STR(a.module[3], "mod");
	world_free(&w);

	/* What is no list, or is another kernel's, does not pass for one without a word. */
	w = world_new("/etc/passwd", NULL, then);
	a = ask(&w, addrs, 2);
	CHECK(!a.symbol[0].name && strstr(recorded_kernel_note(w.kernel), "/etc/passwd names none of the 2 addresses"));
	world_free(&w);
	w = world_new(NULL, "/etc/passwd", then);
	a = ask(&w, addrs, 2);
	CHECK(!a.symbol[0].name && strstr(recorded_kernel_note(w.kernel), "/etc/passwd: "));
	world_free(&w);

	w = world_new("/nowhere/kallsyms", NULL, then);
	a = ask(&w, addrs, 2);
	CHECK(!a.symbol[0].name && strstr(recorded_kernel_note(w.kernel), "/nowhere/kallsyms"));
	world_free(&w);
}

/* Long enough to be read in parts: aliases, constants, data between functions, addresses without a symbol. */
static void write_long(struct strbuf *ret)
{
	strbuf_printf(ret, "%016llx T _text\n", (unsigned long long)TEXT);
	for (unsigned int i = 0; i < 0x1000; i++) {
		unsigned long long at = TEXT + i;

		if (i % 3 == 2)
			continue;
		if (i % 11 == 0)
			strbuf_printf(ret, "%016llx A constant_%u\n", at, i);
		strbuf_printf(ret, "%016llx %c symbol_of_a_name_that_is_rather_long_as_some_in_the_kernel_are_%u\n", at,
			      i % 5 ? 't' : 'd', i);
		if (i % 7 == 0)
			strbuf_printf(ret, "%016llx T alias_%u\n", at, i);
		if (i % 13 == 0)
			strbuf_printf(ret, "%016llx T __alias_%u\n", at, i);
		if (i % 4 == 0)
			strbuf_printf(ret, "%016llx t __local_%u\n", at, i);
	}
	strbuf_printf(ret, "%016llx T _etext\n", (unsigned long long)TEXT + 0x1000);
	for (unsigned int i = 0; i < 1000; i++)
		strbuf_printf(ret, "%016llx D data_%u\n", (unsigned long long)TEXT + 0x2000 + i * 8, i);
	strbuf_printf(ret, "%016llx t mod_init\t[mod]\n", (unsigned long long)MODULE);
}

/* The parts that are read say what the whole says. */
static void test_long_list(void)
{
	const uint64_t moved = 0x6000000; /* another boot: then modules, which are in no order, are out of the question */
	static uint64_t addrs[0xfff], then[0xfff];
	static struct symbol got[0xfff];
	static const char *modules[0xfff];
	struct strbuf text = { 0 };
	struct kallsyms *list;
	struct kallsyms_entry entry;
	struct world w;
	size_t num = 0, named = 0;
	char path[256];
	FILE *out;

	write_long(&text);
	CHECK(!text.failed && text.len > 256 << 10);
	snprintf(path, sizeof(path), "%s/long", dir);
	out = fopen(path, "w");
	CHECK(out && fwrite(text.data, 1, text.len, out) == text.len && !fclose(out));
	for (unsigned int step = 1; step < 300; step = step * 3 + 1) {
		num = 0;
		for (unsigned int i = step / 2; i < 0xfff; i += step) {
			addrs[num] = TEXT + i;
			then[num++] = TEXT + i + moved;
		}
		list = kallsyms_new(addrs, num);
		CHECK(list != NULL);
		kallsyms_feed(list, text.data, text.len);
		CHECK(kallsyms_finish(list));
		w = world_new(path, NULL, TEXT + moved);
		CHECK(recorded_kernel_batch(w.kernel, then, num, got, modules));
		for (size_t i = 0; i < num; i++) {
			bool any = kallsyms_answer(list, i, &entry);

			CHECK_MSG(any == (got[i].name != NULL), "step %u at %zu", step, i);
			if (!any || !got[i].name)
				continue;
			CHECK_STR(got[i].name, entry.name);
			CHECK(got[i].offset == addrs[i] - entry.start);
			named++;
		}
		kallsyms_free(list);
		world_free(&w);
	}
	CHECK(named > 1000);
	strbuf_deinit(&text);
}

static void test_hidden(void)
{
	const uint64_t addrs[] = { TEXT + 0x110 };
	struct world w = world_new(write_list("hidden", 0, 0), NULL, TEXT);
	struct answers a = ask(&w, addrs, 1);

	CHECK(!a.symbol[0].name);
	CHECK(recorded_kernel_note(w.kernel) != NULL);
	world_free(&w);
}

/* By build-id where it is recorded, else by release and machine. */
static void test_ours(void)
{
	static const uint8_t other[20] = { 1 };
	const uint64_t addrs[] = { TEXT + 0x110 };
	struct world w = world_new(NULL, NULL, 0);
	struct utsname own;
	struct answers a;

	CHECK(uname(&own) == 0);
	CHECK(!recorded_kernel_is_ours(w.kernel)); /* nothing told */
	recorded_kernel_origin(w.kernel, own.release, OFFLINE_THIS_MACHINE);
	CHECK(recorded_kernel_is_ours(w.kernel));
	recorded_kernel_origin(w.kernel, own.release, OFFLINE_ELSEWHERE);
	CHECK(!recorded_kernel_is_ours(w.kernel));
	recorded_kernel_origin(w.kernel, "2.6.32-custom", OFFLINE_THIS_BOOT);
	CHECK(!recorded_kernel_is_ours(w.kernel));
	recorded_kernel_origin(w.kernel, own.release, OFFLINE_THIS_BOOT);
	recorded_kernel_build_id(w.kernel, other, sizeof(other));
	CHECK(!recorded_kernel_is_ours(w.kernel));
	a = ask(&w, addrs, 1);
	CHECK(!a.symbol[0].name);
	CHECK(strstr(recorded_kernel_note(w.kernel), own.release) != NULL);
	CHECK(strstr(recorded_kernel_note(w.kernel), "--vmlinux") != NULL);
	world_free(&w);
}

static uint64_t own_symbol(struct door *door, const char *name)
{
	struct strbuf text = { 0 };
	char want[32];
	const char *at;
	uint64_t ret = 0;

	snprintf(want, sizeof(want), " T %s\n", name);
	CHECK(door_read_text(door, DOOR_KALLSYMS, &text, NULL) == 0);
	at = text.data ? strstr(text.data, want) : NULL;
	while (at && at > text.data && at[-1] != '\n')
		at--;
	ret = at ? strtoull(at, NULL, 16) : 0;
	strbuf_deinit(&text);
	return ret;
}

/* A recording that was not finished tells nothing but where the kernel's text was. */
static void test_unfinished(void)
{
	struct mmap_record m = { .pid = -1, .path = "[kernel.kallsyms]_text", .path_len = 22 };
	struct world w = world_new(NULL, NULL, 0);
	uint64_t text = own_symbol(w.door, "_text"), end = own_symbol(w.door, "_etext");

	if (!text || !end) {
		fprintf(stderr, "kernel symbols are hidden: not tried\n");
		world_free(&w);
		return;
	}
	m.start = m.pgoff = text;
	m.len = end - text;
	CHECK(recorded_kernel_mmap(w.kernel, &m));
	CHECK(recorded_kernel_is_ours(w.kernel));
	world_free(&w);
	w = world_new(NULL, NULL, 0);
	m.len -= 8; /* another build */
	CHECK(recorded_kernel_mmap(w.kernel, &m));
	CHECK(!recorded_kernel_is_ours(w.kernel));
	world_free(&w);
}

/* A vmlinux of one segment and two functions; with the build-id it is to have. */
static const char *write_vmlinux(const uint8_t id[20])
{
	static char path[256];
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr[2];
		Elf64_Shdr shdr[4];
		Elf64_Sym sym[3];
		char names[16];
		struct {
			Elf64_Nhdr head;
			char name[4];
			uint8_t id[20];
		} note;
	} f = { 0 };
	FILE *out;

	memcpy(f.ehdr.e_ident, ELFMAG, SELFMAG);
	f.ehdr.e_ident[EI_CLASS] = ELFCLASS64;
	f.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	f.ehdr.e_ident[EI_VERSION] = EV_CURRENT;
	f.ehdr.e_type = ET_EXEC;
	f.ehdr.e_machine = EM_X86_64;
	f.ehdr.e_version = EV_CURRENT;
	f.ehdr.e_ehsize = sizeof(f.ehdr);
	f.ehdr.e_phoff = offsetof(typeof(f), phdr);
	f.ehdr.e_phentsize = sizeof(f.phdr[0]);
	f.ehdr.e_phnum = 2;
	f.ehdr.e_shoff = offsetof(typeof(f), shdr);
	f.ehdr.e_shentsize = sizeof(f.shdr[0]);
	f.ehdr.e_shnum = 4;
	f.phdr[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = TEXT,
				  .p_filesz = sizeof(f), .p_memsz = 0x1000 };
	f.phdr[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = offsetof(typeof(f), note),
				  .p_filesz = sizeof(f.note), .p_align = 4 };
	f.shdr[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = offsetof(typeof(f), sym),
				  .sh_size = sizeof(f.sym), .sh_entsize = sizeof(f.sym[0]), .sh_link = 2 };
	f.shdr[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = offsetof(typeof(f), names),
				  .sh_size = sizeof(f.names) };
	f.shdr[3] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				  .sh_addr = TEXT, .sh_size = 0x1000 };
	memcpy(f.names, "\0first\0second", 14);
	f.sym[1] = (Elf64_Sym){ .st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 3,
				.st_value = TEXT + 0x100, .st_size = 0x80 };
	f.sym[2] = (Elf64_Sym){ .st_name = 7, .st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC), .st_shndx = 3,
				.st_value = TEXT + 0x200, .st_size = 0x80 };
	f.note.head = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID };
	memcpy(f.note.name, "GNU", 4);
	memcpy(f.note.id, id, 20);
	snprintf(path, sizeof(path), "%s/vmlinux", dir);
	out = fopen(path, "w");
	CHECK(out && fwrite(&f, sizeof(f), 1, out) == 1);
	if (out)
		fclose(out);
	return path;
}

static void test_vmlinux(void)
{
	static const uint8_t id[20] = { 7, 7, 7 }, other[20] = { 8 };
	const uint64_t then = TEXT + 0x2000000;
	const uint64_t addrs[] = { then + 0x110, then + 0x190, then + 0x27f };
	struct world w = world_new(NULL, write_vmlinux(id), then);
	struct answers a;

	recorded_kernel_build_id(w.kernel, id, sizeof(id));
	a = ask(&w, addrs, 3);
	CHECK_STR(a.symbol[0].name, "first");
	CHECK(a.symbol[0].offset == 0x10 && !a.symbol[1].name);
	CHECK_STR(a.symbol[2].name, "second");
	recorded_kernel_build_id(w.kernel, other, sizeof(other));
	a = ask(&w, addrs, 3);
	CHECK(!a.symbol[0].name && strstr(recorded_kernel_note(w.kernel), "its build-id is another"));
	world_free(&w);
}

/* perf keeps a list for each kernel it recorded. */
static void test_cache(void)
{
	static const uint8_t id[20] = { 0xfe, 0xed };
	const uint64_t then = TEXT + 0x6000000, addrs[] = { then + 0x110 };
	struct world w;
	struct answers a;
	char command[512];

	setenv("HOME", dir, 1);
	snprintf(command, sizeof(command), "d=%s/.debug/.build-id/fe/ed%036d; mkdir -p $d && cp %s $d/kallsyms",
		 dir, 0, write_list("list", TEXT, MODULE));
	CHECK(system(command) == 0);
	w = world_new(NULL, NULL, then);
	recorded_kernel_build_id(w.kernel, id, sizeof(id));
	a = ask(&w, addrs, 1);
	CHECK_STR(a.symbol[0].name, "first");
	world_free(&w);
}

int main(void)
{
	char command[64];

	unsetenv("DEBUGINFOD_URLS");
	CHECK(mkdtemp(dir) != NULL);
	setenv("HOME", "/nonexistent", 1);
	test_given_list();
	test_long_list();
	test_hidden();
	test_ours();
	test_unfinished();
	test_vmlinux();
	test_cache();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	CHECK(system(command) == 0);
	return check_done();
}
