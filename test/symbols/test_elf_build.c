/* What compilers, linkers and strip really write. */
#include "symbols/elf_file.h"
#include "symbols/elf_cfi.h"
#include "symbols/elf_file_priv.h"
#include "test/symbols/toolbox.h"

#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>

static const char program[] =
	"#include <stdio.h>\n"
	"__attribute__((noinline, used)) static int hidden(int x)\n"
	"{ __asm__ volatile(\"\"); return x * 3; }\n"
	"__attribute__((noinline)) int leaf(int x) { __asm__ volatile(\"\"); return x * 5; }\n"
	"int main(int argc, char **argv) { puts(argv[0]); return leaf(argc) + hidden(argc); }\n";

static const char labels[] = ".section .text.labels,\"ax\"\n"
			     ".globl asm_global\n"
			     "asm_global: nop\n nop\n"
			     "asm_local: nop\n nop\n"
			     ".type asm_static,@function\n"
			     "asm_static: nop\n nop\n"
			     ".size asm_static, . - asm_static\n"
			     "nop\n nop\n"
			     ".section .note.GNU-stack,\"\",@progbits\n";

/* The row of a function's first byte: CFA = rsp + 8 (x86-64 psABI; 7 is rsp). */
static bool has_row(struct elf_file *f, Dwarf_CFI *cfi, uint64_t vaddr)
{
	Dwarf_Frame *frame = NULL;
	Dwarf_Op *ops;
	size_t num;
	bool ok;

	if (!cfi || dwarf_cfi_addrframe(cfi, vaddr, &frame))
		return false;
	ok = elf_file_machine(f) != EM_X86_64 ||
	     (!dwarf_frame_cfa(frame, &ops, &num) && num == 1 && ops[0].atom == DW_OP_bregx &&
	      ops[0].number == 7 && ops[0].number2 == 8);
	free(frame);
	return ok;
}

static void test_symtab(void)
{
	struct elf_file *f = open_elf("prog"), *stripped;
	uint64_t leaf = nm_vaddr("prog", "leaf"), hidden = nm_vaddr("prog", "hidden");
	uint64_t global = nm_vaddr("prog", "asm_global"), local = nm_vaddr("prog", "asm_local");
	uint64_t plt = find_name(f, "puts@plt");

	CHECK_STR(name_of(f, leaf), "leaf");
	CHECK_STR(name_of(f, hidden), "hidden");
	CHECK_STR(name_of(f, nm_vaddr("prog", "main") + 1), "main");
	CHECK_STR(name_of(f, nm_vaddr("prog", "_start")), "_start");
	CHECK_STR(name_of(f, global), "asm_global");
	CHECK_STR(name_of(f, local),
		  "asm_global"); /* local, without a size: a place in what is before it */
	CHECK_STR(name_of(f, nm_vaddr("prog", "asm_static")), "asm_static");
	CHECK_STR(name_of(f, nm_vaddr("prog", "asm_static") + 2), "-");
	CHECK(plt);
	CHECK_STR(name_of(f, plt + 5), "puts@plt");

	stripped = open_elf("stripped");
	CHECK_STR(name_of(stripped, leaf), "-");
	CHECK_STR(name_of(stripped, hidden), "-");
	CHECK_STR(name_of(stripped, plt), "puts@plt");
	CHECK(has_row(stripped, elf_file_eh_frame(stripped), leaf));
	CHECK(!elf_file_debug_frame(stripped));
	elf_file_free(stripped);
	elf_file_free(f);
}

/* What no row is asked of is let go after a while, and comes back when one is. */
static void test_rest(void)
{
	struct elf_file *f = open_elf("prog");
	uint64_t leaf = nm_vaddr("prog", "leaf");
	Dwarf_CFI *cfi = NULL;

	CHECK(elf_file_row(f, leaf, &cfi) == ELF_ROW_FINE && has_row(f, cfi, leaf));
	elf_file_rest(f);
	CHECK(f->eh_frame.image); /* asked since the last time */
	elf_file_rest(f);
	CHECK(!f->eh_frame.image);
	CHECK(elf_file_row(f, leaf, &cfi) == ELF_ROW_FINE && has_row(f, cfi, leaf));
	CHECK(f->eh_frame.image);
	elf_file_free(f);
}

/* A label that nobody knows is a place in what is before it, but not where the program begins. */
static void test_entry_label(void)
{
	struct elf_file *f = open_elf("entry");

	CHECK_STR(name_of(f, nm_vaddr("entry", "asm_global") + 1), "asm_global");
	elf_file_free(f);
}

/* The start files' code has no call-frame information: its three places by hand. */
static void test_init(void)
{
	struct elf_file *f = open_elf("prog");
	uint64_t init = nm_vaddr("prog", "_init"), fini = nm_vaddr("prog", "_fini");
	struct elf_sp_frame frame = { 0 };

	if (elf_file_machine(f) == EM_X86_64) {
		CHECK(elf_init_frame(f, init, &frame) && frame.sp_below == 0 && frame.start == init);
		CHECK(elf_init_frame(f, frame.end, &frame) && frame.sp_below == 8);
		CHECK(elf_init_frame(f, frame.end, &frame) && frame.sp_below == 0);
		CHECK(frame.end - frame.start == 1); /* ret */
		CHECK(!elf_init_frame(f, frame.end, &frame));
		CHECK(elf_init_frame(f, fini, &frame) && frame.sp_below == 0);
	}
	CHECK(!elf_init_frame(f, nm_vaddr("prog", "leaf"), &frame));
	elf_file_free(f);
}

static void test_build_id(void)
{
	const uint8_t *a, *b;
	struct elf_file *f = open_elf("prog"), *debug = open_elf("prog.debug"),
			*none = open_elf("noid");

	CHECK(elf_file_build_id(f, &a) == 20);
	CHECK(elf_file_build_id(debug, &b) == 20 && !memcmp(a, b, 20));
	CHECK(elf_file_build_id(none, &b) == 0);
	elf_file_free(f);
	elf_file_free(debug);
	elf_file_free(none);
}

static void test_debug_by_id(void)
{
	struct elf_file *f = open_elf("stripped");
	uint64_t plt = find_name(f, "puts@plt"), hidden = nm_vaddr("prog", "hidden");
	struct err err = { 0 };

	CHECK(elf_file_add_debug(f, open_elf("noid"), &err) == -ESTALE);
	CHECK(elf_file_add_debug(f, open_elf("other"), &err) == -ESTALE);
	CHECK(elf_file_add_debug(f, open_elf("stripped"), &err) == -ENODATA);
	CHECK_STR(name_of(f, hidden), "-");
	CHECK(elf_file_add_debug(f, open_elf("prog.debug"), &err) == 0);
	CHECK_STR(name_of(f, hidden), "hidden");
	CHECK_STR(name_of(f, plt), "puts@plt");
	CHECK(elf_file_add_debug(f, open_elf("prog.debug"), &err) == -EALREADY);
	elf_file_free(f);
}

static void test_debuglink(void)
{
	struct elf_file *f = open_elf("linked");
	struct err err = { 0 };
	uint32_t crc = 0;

	CHECK_STR(elf_file_debuglink(f, &crc), "noid.debug");
	CHECK(crc != 0);
	CHECK(elf_file_add_debug(f, open_elf("noid.changed"), &err) == -ESTALE);
	CHECK(elf_file_add_debug(f, open_elf("noid.debug"), &err) == 0);
	CHECK_STR(name_of(f, nm_vaddr("noid", "hidden")), "hidden");
	CHECK(elf_file_add_debug(f, open_elf("noid.debug"), &err) == -EALREADY);
	elf_file_free(f);

	f = open_elf("prog");
	CHECK(!elf_file_debuglink(f, &crc));
	elf_file_free(f);
}

static void test_debugdata(void)
{
	struct elf_file *f;

	if (!have("xz")) {
		fprintf(stderr, "no xz: .gnu_debugdata is not tested\n");
		return;
	}
	CHECK(run("xz -k --stdout prog.debug > mini.xz && "
		  "objcopy --add-section .gnu_debugdata=mini.xz stripped mini && "
		  "head -c 200 mini.xz > cut.xz && "
		  "objcopy --add-section .gnu_debugdata=cut.xz stripped cut && "
		  "head -c 100000000 /dev/zero | xz > bomb.xz && "
		  "objcopy --add-section .gnu_debugdata=bomb.xz stripped bomb"));
	f = open_elf("mini");
	CHECK_STR(name_of(f, nm_vaddr("prog", "hidden")), "hidden");
	CHECK(find_name(f, "puts@plt") != 0);
	elf_file_free(f);
	f = open_elf("cut");
	CHECK_STR(name_of(f, nm_vaddr("prog", "hidden")), "-");
	CHECK(find_name(f, "puts@plt") != 0);
	elf_file_free(f);
	f = open_elf("bomb");
	CHECK_STR(name_of(f, nm_vaddr("prog", "hidden")), "-");
	elf_file_free(f);
}

static void test_debug_frame(void)
{
	static const char *const variants[][2] = {
		{ "plain", "" },
		{ "gabi", "-gz=zlib" },
		{ "gnu", "-gz=zlib-gnu" },
	};

	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		const char *name = variants[i][0];
		struct elf_file *f;
		uint64_t leaf;

		if (!run("cc -O1 -g -fno-asynchronous-unwind-tables -fno-unwind-tables %s "
			 "-o %s prog.c",
			 variants[i][1], name))
			continue;
		f = open_elf(name);
		leaf = nm_vaddr(name, "leaf");
		CHECK_MSG(has_row(f, elf_file_debug_frame(f), leaf), "%s", name);
		CHECK_MSG(has_row(f, elf_file_debug_frame(f), nm_vaddr(name, "main")), "%s", name);
		CHECK(!has_row(f, elf_file_eh_frame(f), leaf));
		CHECK(elf_file_debug_frame(f) == elf_file_debug_frame(f));
		elf_file_free(f);
	}
	CHECK(elf_unpack_allowed(100, 20000));
	CHECK(!elf_unpack_allowed(100, 20300));
	CHECK(!elf_unpack_allowed(1 << 30, (256 << 20) + 1));
	CHECK(!elf_unpack_allowed(100, 0));
}

/* Some packers and hardened builds leave no section headers: the program headers must do. */
static void test_no_sections(void)
{
	const size_t shoff = offsetof(Elf64_Ehdr, e_shoff), shnum = offsetof(Elf64_Ehdr, e_shnum);
	const uint64_t zero = 0;
	struct elf_file *f;
	const uint8_t *id;
	int fd;

	CHECK(run("cp prog bare"));
	fd = open("bare", O_WRONLY | O_CLOEXEC);
	CHECK(pwrite(fd, &zero, 8, (off_t)shoff) == 8 && pwrite(fd, &zero, 4, (off_t)shnum) == 4);
	close(fd);
	f = open_elf("bare");
	CHECK_STR(name_of(f, nm_vaddr("prog", "leaf")), "-");
	CHECK(!elf_file_debug_frame(f));
	CHECK(has_row(f, elf_file_eh_frame(f), nm_vaddr("prog", "leaf")));
	CHECK(elf_file_build_id(f, &id) == 20);
	/* The call-frame information tells where it ends; the next function begins within 64 bytes. */
	CHECK(elf_file_is_root(f, nm_vaddr("prog", "_start") + 33));
	CHECK(nm_vaddr("prog", "deregister_tm_clones") - nm_vaddr("prog", "_start") < 64);
	CHECK(!elf_file_is_root(f, nm_vaddr("prog", "deregister_tm_clones")));
	elf_file_free(f);
}

static void check_places(const char *path)
{
	struct elf_file *f = open_elf(path);
	uint64_t leaf = nm_vaddr(path, "leaf"), offset = 0, vaddr = 0;
	uint8_t here[8], there[8];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(elf_file_offset(f, leaf, &offset));
	CHECK(elf_file_vaddr(f, offset, &vaddr) && vaddr == leaf);
	CHECK(pread(fd, there, sizeof(there), (off_t)offset) == sizeof(there));
	CHECK(elf_file_read_vaddr(f, leaf, here, sizeof(here)) &&
	      !memcmp(here, there, sizeof(here)));
	CHECK_STR(name_of(f, leaf), "leaf");
	CHECK(has_row(f, elf_file_eh_frame(f), leaf));
	CHECK(elf_file_is_root(f, nm_vaddr(path, "_start")));
	CHECK(!elf_file_is_root(f, leaf));
	close(fd);
	elf_file_free(f);
}

static void test_layouts(void)
{
	struct elf_file *f;

	CHECK(run("cc -O1 -no-pie -Wl,-Ttext-segment=0x7000000 -o fixed prog.c"));
	check_places("fixed");
	CHECK(run("cc -O1 -Wl,-z,noseparate-code -o joined prog.c"));
	check_places("joined");
	CHECK(run("cc -O1 -no-pie -Wl,--section-start=.text=0x5551230 -o moved prog.c"));
	check_places("moved");
	if (!run("cc -O1 -static-pie -o static prog.c"))
		return;
	check_places("static");
	f = open_elf("static");
	/* Indirect functions are called through PLT entries that only know the resolver. */
	CHECK(find_name(f, "strlen@plt") || find_name(f, "memcpy@plt") ||
	      find_name(f, "strchr@plt"));
	elf_file_free(f);
}

/* Old linkers take the start of .text for the entry point of a library. */
static void test_false_entry(void)
{
	uint64_t entry;
	struct elf_file *f;

	write_text("first.c",
		   "int first(int x) { return x; }\nint second(int x) { return x + 1; }\n");
	CHECK(run("cc -O1 -fPIC -shared -nostdlib -Wl,-e,first -o libfirst.so first.c"));
	entry = nm_vaddr("libfirst.so", "first");
	f = open_elf("libfirst.so");
	CHECK(entry && !elf_file_is_root(f, entry));
	elf_file_free(f);
	if (!run("cc -O1 -static-pie -fPIE -nostdlib -Wl,-e,first -o first first.c"))
		return;
	entry = nm_vaddr("first", "first");
	f = open_elf("first");
	CHECK(elf_file_is_root(f, entry));
	CHECK(!elf_file_is_root(f, nm_vaddr("first", "second")));
	elf_file_free(f);
}

int main(void)
{
	char dir[] = "/tmp/test_elf_build.XXXXXX";

	if (!have("cc") || !have("objcopy") || !have("strip") || !have("nm") || !have("awk"))
		SKIP("no compiler and binutils here");
	toolbox_enter(dir);
	write_text("prog.c", program);
	write_text("labels.S", labels);
	CHECK(run("cc -O1 -g -Wl,--build-id=sha1 -Wl,-z,lazy -o prog prog.c labels.S && "
		  "cc -O1 -g -DOTHER=1 -Wl,--build-id=sha1 -o other prog.c && "
		  "cc -O1 -g -Wl,--build-id=none -o noid prog.c && "
		  "strip -o stripped prog && objcopy --only-keep-debug prog prog.debug && "
		  "cc -O1 -Wl,-e,asm_global -o entry prog.c labels.S && "
		  "objcopy --localize-symbol=asm_global entry && "
		  "objcopy --only-keep-debug noid noid.debug && strip -o linked noid && "
		  "objcopy --add-gnu-debuglink=noid.debug linked && "
		  "cp noid.debug noid.changed && printf x >> noid.changed"));
	if (!check_failures) {
		test_symtab();
		test_rest();
		test_entry_label();
		test_init();
		test_build_id();
		test_debug_by_id();
		test_debuglink();
		test_debugdata();
		test_debug_frame();
		test_no_sections();
		test_layouts();
		test_false_entry();
	}
	toolbox_leave(dir);
	return check_done();
}
