/* ELF files made by hand, and those this very program runs on. */
#include "symbols/elf_file.h"

#include "base/err.h"
#include "test/check.h"
#include "test/symbols/names.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

struct image {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdrs[6];
	uint8_t rest[0x100];
};

static struct image image_of(const Elf64_Phdr *phdrs, uint16_t num)
{
	struct image im = { 0 };

	memcpy(im.ehdr.e_ident, ELFMAG, SELFMAG);
	im.ehdr.e_ident[EI_CLASS] = ELFCLASS64;
	im.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	im.ehdr.e_ident[EI_VERSION] = EV_CURRENT;
	im.ehdr.e_type = ET_DYN;
	im.ehdr.e_machine = EM_X86_64;
	im.ehdr.e_phoff = offsetof(struct image, phdrs);
	im.ehdr.e_phentsize = sizeof(Elf64_Phdr);
	im.ehdr.e_phnum = num;
	memcpy(im.phdrs, phdrs, num * sizeof(*phdrs));
	return im;
}

static int try_open(const void *bytes, size_t size)
{
	struct elf_file *f = NULL;
	struct err err = { 0 };
	int r = elf_file_open_memory(bytes, size, &f, &err);

	CHECK((r == 0) == (f != NULL));
	CHECK(r == 0 || (err.msg[0] && err.code == -r));
	elf_file_free(f);
	return r;
}

static void test_refusals(void)
{
	static const Elf64_Phdr load = { .p_type = PT_LOAD, .p_filesz = 0x100, .p_memsz = 0x100 };
	struct image im = image_of(&load, 1);

	CHECK(try_open(&im, sizeof(im)) == 0);
	CHECK(try_open(NULL, 0) == -ENOEXEC);
	CHECK(try_open("#!/bin/sh\n", 10) == -ENOEXEC);
	for (size_t size = 0; size < sizeof(Elf64_Ehdr); size++)
		CHECK(try_open(&im, size) == -ENOEXEC);
	CHECK(try_open(&im, sizeof(Elf64_Ehdr)) == -EBADMSG); /* the program headers are gone */

	im.ehdr.e_ident[EI_DATA] = ELFDATA2MSB;
	CHECK(try_open(&im, sizeof(im)) == -ENOEXEC);
	im = image_of(&load, 1);
	im.ehdr.e_ident[EI_CLASS] = 3;
	CHECK(try_open(&im, sizeof(im)) == -ENOEXEC);
	im = image_of(&load, 1);
	im.ehdr.e_phentsize = 55;
	CHECK(try_open(&im, sizeof(im)) == -EBADMSG);
	im = image_of(&load, 1);
	im.ehdr.e_phnum = 0xffff;
	CHECK(try_open(&im, sizeof(im)) == -EBADMSG);
	im = image_of(&load, 1);
	im.ehdr.e_phoff = UINT64_MAX - 8;
	CHECK(try_open(&im, sizeof(im)) == -EBADMSG);
	im = image_of(&load, 1);
	im.phdrs[0].p_offset = UINT64_MAX - 8;
	CHECK(try_open(&im, sizeof(im)) == -EBADMSG);
	im = image_of(&load, 1);
	im.phdrs[0].p_vaddr = UINT64_MAX - 8;
	CHECK(try_open(&im, sizeof(im)) == -EBADMSG);
}

static void test_32_bit(void)
{
	struct {
		Elf32_Ehdr ehdr;
		Elf32_Phdr phdr;
	} im = { 0 };
	struct elf_file *f = NULL;
	uint64_t vaddr = 0;

	memcpy(im.ehdr.e_ident, ELFMAG, SELFMAG);
	im.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
	im.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	im.ehdr.e_ident[EI_VERSION] = EV_CURRENT;
	im.ehdr.e_type = ET_EXEC;
	im.ehdr.e_machine = EM_386;
	im.ehdr.e_phoff = sizeof(im.ehdr);
	im.ehdr.e_phentsize = sizeof(im.phdr);
	im.ehdr.e_phnum = 1;
	im.phdr = (Elf32_Phdr){ .p_type = PT_LOAD,
				.p_offset = 0x1000,
				.p_vaddr = 0x8049000,
				.p_filesz = 0x500,
				.p_memsz = 0x500,
				.p_flags = PF_R | PF_X };
	CHECK(elf_file_open_memory(&im, sizeof(im), &f, NULL) == 0);
	CHECK(!elf_file_is_64(f));
	CHECK(elf_file_machine(f) == EM_386);
	CHECK(elf_file_vaddr(f, 0x1234, &vaddr) && vaddr == 0x8049234);
	CHECK(!elf_file_eh_frame(f));
	CHECK(!elf_file_debug_frame(f));
	CHECK_STR(name_of(f, 0x8049234), "-");
	elf_file_free(f);
}

static uint64_t vaddr_of(const struct elf_file *f, uint64_t offset)
{
	uint64_t vaddr = 0;

	return elf_file_vaddr(f, offset, &vaddr) ? vaddr : UINT64_MAX;
}

static void test_vaddr(void)
{
	/*
	 * As linked by lld (libLLVM) or GNU ld without -z separate-code: offset and vaddr differ,
	 * pages of the file are shared.
	 */
	static const Elf64_Phdr phdrs[] = {
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R,
		  .p_offset = 0,
		  .p_vaddr = 0,
		  .p_filesz = 0x1340,
		  .p_memsz = 0x1340 },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_offset = 0x1340,
		  .p_vaddr = 0x2340,
		  .p_filesz = 0x2000,
		  .p_memsz = 0x2000 },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_W,
		  .p_offset = 0x3340,
		  .p_vaddr = 0x5340,
		  .p_filesz = 0x100,
		  .p_memsz = 0x9000 },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_W,
		  .p_offset = 0x9000,
		  .p_vaddr = 0xf000,
		  .p_filesz = 0,
		  .p_memsz = 0x1000 },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_offset = 0x8010,
		  .p_vaddr = 0x8,
		  .p_filesz = 0x10,
		  .p_memsz = 0x10 },
	};
	struct image im = image_of(phdrs, 5);
	const struct elf_load *loads;
	struct elf_file *f = NULL;
	uint64_t offset = 0;
	uint8_t bytes[4];

	CHECK(elf_file_open_memory(&im, sizeof(im), &f, NULL) == 0);
	CHECK(elf_file_is_64(f));
	CHECK(elf_file_machine(f) == EM_X86_64);
	CHECK(elf_file_loads(f, &loads) == 5);
	CHECK(loads[1].offset == 0x1340 && loads[1].vaddr == 0x2340 && loads[1].filesz == 0x2000 &&
	      loads[1].memsz == 0x2000 && loads[1].executable && !loads[0].executable);

	CHECK(vaddr_of(f, 0) == 0);
	CHECK(vaddr_of(f, 0xfff) == 0xfff);
	CHECK(vaddr_of(f, 0x1000) == 0x2000); /* shared page: code first */
	CHECK(vaddr_of(f, 0x1340) == 0x2340);
	CHECK(vaddr_of(f, 0x333f) == 0x433f);
	CHECK(vaddr_of(f, 0x3400) == 0x4400); /* the rest of the last page of code */
	CHECK(vaddr_of(f, 0x3fff) == 0x4fff);
	CHECK(vaddr_of(f, 0x4000) == UINT64_MAX);
	CHECK(vaddr_of(f, 0x9000) == UINT64_MAX); /* nothing of it is in the file */
	CHECK(vaddr_of(f, 0x8010) == 8);
	CHECK(vaddr_of(f, 0x8008) == 0);
	CHECK(vaddr_of(f, 0x8007) == UINT64_MAX); /* before vaddr 0 */
	CHECK(vaddr_of(f, UINT64_MAX) == UINT64_MAX);

	CHECK(elf_file_offset(f, 0x2340, &offset) && offset == 0x1340);
	CHECK(elf_file_offset(f, 0x5341, &offset) && offset == 0x3341);
	CHECK(!elf_file_offset(f, 0x5440, &offset)); /* .bss */
	CHECK(elf_file_read_vaddr(f, 0, bytes, 4) && !memcmp(bytes, ELFMAG, 4));
	CHECK(!elf_file_read_vaddr(f, 0x133e, bytes, 4)); /* leaves the segment */
	CHECK(!elf_file_read_vaddr(f, 0x1000, bytes,
				   4)); /* the segment lies behind the file's end */
	elf_file_free(f);
}

static struct elf_file *open_path(const char *path)
{
	struct elf_file *f = NULL;
	struct err err = { 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK_MSG(fd >= 0 && fstat(fd, &st) == 0, "%s: %s", path, strerror(errno));
	CHECK_MSG(elf_file_open_fd(fd, (uint64_t)st.st_size, &f, &err) == 0, "%s: %s", path,
		  err.msg);
	return f;
}

struct library {
	const char *part; /* of its path */
	char path[4096];
	uint64_t bias;
};

static int find_library(struct dl_phdr_info *info, size_t size, void *data)
{
	struct library *lib = data;

	if (!strstr(info->dlpi_name, lib->part))
		return 0;
	snprintf(lib->path, sizeof(lib->path), "%s", info->dlpi_name);
	lib->bias = info->dlpi_addr;
	return 1;
}

struct count {
	size_t functions, plts, indirect_plts;
};

/* find_code */
static bool count_function(void *data, uint64_t vaddr, const struct symtab_entry *e)
{
	size_t len = strlen(e->name);
	struct count *count = data;

	if (e->start != vaddr)
		return false;
	count->functions++;
	count->plts += len > 4 && !strcmp(e->name + len - 4, "@plt");
	count->indirect_plts += !strcmp(e->name, "memcpy@plt") || !strcmp(e->name, "strlen@plt");
	return false;
}

static void test_libc(void)
{
	static const char *const names[] = { "qsort", "printf", "malloc", "getaddrinfo", "fclose" };
	struct library lib = { .part = "/libc.so.6" };
	struct count count = { 0 };
	const uint8_t *id;
	struct elf_file *f;
	void *libc;

	if (!dl_iterate_phdr(find_library, &lib)) {
		fprintf(stderr, "not glibc: its symbols are not compared\n");
		return;
	}
	f = open_path(lib.path);
	find_code(f, &count, count_function);
	CHECK(count.functions > 1000);
	/* The sanitizers put their own functions in front of libc's, so not RTLD_DEFAULT. */
	libc = dlopen(lib.path, RTLD_NOW | RTLD_NOLOAD);
	CHECK(libc);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t vaddr = (uint64_t)(uintptr_t)dlsym(libc, names[i]) - lib.bias, start = 0;
		const char *name = name_and_start(f, vaddr, &start);

		CHECK(start == vaddr);
		CHECK_MSG(strstr(name, names[i]), "%s is called %s", names[i], name);
		CHECK_STR(name_and_start(f, vaddr + 1, &start), name);
		CHECK(start == vaddr);
	}
	/* An address far from any function has no name, whatever comes before it. */
	CHECK_STR(name_of(f, 0x40), "-");
	CHECK(count.plts > 5);
	CHECK(count.indirect_plts > 0);
	CHECK(elf_file_build_id(f, &id) >= 8);
	CHECK(elf_file_eh_frame(f) && elf_file_eh_frame(f) == elf_file_eh_frame(f));
	CHECK(!elf_file_debug_frame(f));
	CHECK(!elf_file_is_go(f));
	CHECK(!elf_file_changed(f));
	dlclose(libc);
	elf_file_free(f);
}

static void test_entry(void)
{
	struct elf_file *self = open_path("/proc/self/exe");
	struct library lib = { .part = "/ld-linux" };
	const struct elf_load *loads;
	uint64_t entry, base, start = 0, end;

	/* The first segment holds the program headers, whose address the kernel told. */
	CHECK(elf_file_loads(self, &loads) > 0);
	base = (uint64_t)getauxval(AT_PHDR) - sizeof(Elf64_Ehdr) - loads[0].vaddr;
	entry = (uint64_t)getauxval(AT_ENTRY) - base;
	CHECK(elf_file_is_root(self, entry));
	CHECK(elf_file_is_root(self, entry + 16));
	CHECK(!elf_file_is_root(self, entry - 1));
	CHECK_STR(name_and_start(self, entry, &start), "_start");
	CHECK(start == entry);
	for (end = entry; end < entry + 256 && !strcmp(name_of(self, end), "_start"); end++)
		;
	CHECK(elf_file_is_root(self, end - 1));
	CHECK(!elf_file_is_root(self, end));
	CHECK(!elf_file_is_root(self, (uint64_t)(uintptr_t)test_entry - base));
	elf_file_free(self);

	/* The loader's own entry has no sized symbol: its first 64 bytes. */
	if (dl_iterate_phdr(find_library, &lib)) {
		Elf64_Ehdr ehdr;
		int fd = open(lib.path, O_RDONLY | O_CLOEXEC);
		struct elf_file *ld;

		CHECK(pread(fd, &ehdr, sizeof(ehdr), 0) == sizeof(ehdr));
		close(fd);
		ld = open_path(lib.path);
		CHECK(elf_file_is_root(ld, ehdr.e_entry + 0x30));
		CHECK(!elf_file_is_root(ld, ehdr.e_entry + 4096));
		elf_file_free(ld);
	}
}

static void test_vdso(void)
{
	const uint8_t *vdso = (const uint8_t *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	struct count count = { 0 };
	struct elf_file *f = NULL;
	const uint8_t *id;

	if (!vdso) {
		fprintf(stderr, "no vDSO here\n");
		return;
	}
	CHECK(elf_file_open_memory(vdso, 2 * 4096, &f, NULL) == 0);
	find_code(f, &count, count_function);
	CHECK(count.functions > 2);
	CHECK(elf_file_eh_frame(f));
	CHECK(elf_file_build_id(f, &id) == 20);
	CHECK(!elf_file_is_root(f, 0));
	elf_file_free(f);
}

static void test_changed(void)
{
	char path[] = "/tmp/test_elf_file.XXXXXX", moved[64];
	static const Elf64_Phdr load = { .p_type = PT_LOAD, .p_filesz = 0x100, .p_memsz = 0x100 };
	struct image im = image_of(&load, 1);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000 } };
	int fd = mkstemp(path);
	struct elf_file *f;

	CHECK(fd >= 0 && write(fd, &im, sizeof(im)) == sizeof(im));
	f = open_path(path);
	CHECK(!elf_file_changed(f));
	snprintf(moved, sizeof(moved), "%s.moved", path);
	CHECK(rename(path, moved) == 0);
	CHECK(!elf_file_changed(f));
	CHECK(unlink(moved) == 0);
	CHECK(!elf_file_changed(f)); /* deleting is no change */
	CHECK(futimens(fd, times) == 0);
	CHECK(elf_file_changed(f));
	elf_file_free(f);
	close(fd);

	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0 && write(fd, &im, sizeof(im)) == sizeof(im));
	f = open_path(path);
	CHECK(ftruncate(fd, 100) == 0);
	CHECK(elf_file_changed(f));
	CHECK(!elf_file_eh_frame(f));
	CHECK_STR(name_of(f, 0), "-");
	elf_file_free(f);
	close(fd);
	unlink(path);
}

static void test_no_elf_closes(void)
{
	struct elf_file *f = NULL;
	struct err err = { 0 };
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	CHECK(elf_file_open_fd(fd, 16, &f, &err) == -ENOEXEC && !f);
	CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
	elf_file_free(NULL);
}

int main(void)
{
	test_refusals();
	test_32_bit();
	test_vaddr();
	test_libc();
	test_entry();
	test_vdso();
	test_changed();
	test_no_elf_closes();
	return check_done();
}
