/* Go programs: stripped or not, their functions have names and their stacks have ends. */
#include "symbols/elf_cfi.h"
#include "symbols/elf_file.h"
#include "test/symbols/toolbox.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

static const char program[] =
	"package main\n"
	"//go:noinline\n"
	"func work(n int) int { s := 0; for i := 0; i < n; i++ { s += i }; return s }\n"
	"func main() { println(work(10)) }\n";

static bool build(const char *flags, const char *out)
{
	return run("GOCACHE=$PWD/cache HOME=$PWD GO111MODULE=off GOFLAGS= CGO_ENABLED=0 "
		   "go build %s -o %s hello.go",
		   flags, out);
}

static void check_roots(struct elf_file *f, uint64_t goexit, uint64_t main_main)
{
	CHECK(elf_file_is_go(f));
	CHECK(goexit && main_main);
	CHECK(elf_file_is_root(f, goexit + 1));
	CHECK(!elf_file_is_root(f, main_main));
	CHECK(!elf_file_is_root(f, goexit - 1));
}

/* find_code: how often a function begins. */
static bool count_functions(void *data, uint64_t vaddr, const struct symtab_entry *e)
{
	*(uint64_t *)data += vaddr == e->start;
	return false;
}

static void test_stripped(void)
{
	struct elf_file *whole = open_elf("whole"), *stripped = open_elf("stripped");
	uint64_t work = nm_vaddr("whole", "main.work"),
		 goexit = nm_vaddr("whole", "runtime.goexit.abi0");
	uint64_t start = 0, stripped_start = 1, num_names = 0;

	CHECK_STR(name_of(whole, work), "main.work");
	CHECK_STR(name_of(whole, goexit), "runtime.goexit.abi0");
	check_roots(whole, goexit, nm_vaddr("whole", "main.main"));

	find_code(stripped, &num_names, count_functions);
	CHECK(num_names > 500);
	CHECK_STR(name_of(stripped, work), "main.work");
	CHECK_STR(name_of(stripped, goexit), "runtime.goexit");
	check_roots(stripped, goexit, nm_vaddr("whole", "main.main"));
	name_and_start(whole, work + 4, &start);
	name_and_start(stripped, work + 4, &stripped_start);
	CHECK(start == work && stripped_start == work);
	elf_file_free(whole);
	elf_file_free(stripped);
}

/* Position-independent and stripped: the code's address is behind a relocation. */
static void test_pie(void)
{
	struct elf_file *whole = open_elf("whole"), *pie = open_elf("pie");
	uint64_t work = find_name(pie, "main.work");
	uint8_t ours[16], theirs[16];

	check_roots(pie, find_name(pie, "runtime.goexit"), find_name(pie, "main.main"));
	CHECK(work);
	CHECK(elf_file_read_vaddr(pie, work, ours, sizeof(ours)) &&
	      elf_file_read_vaddr(whole, nm_vaddr("whole", "main.work"), theirs, sizeof(theirs)));
	CHECK(!memcmp(ours, theirs, sizeof(ours)));
	elf_file_free(whole);
	elf_file_free(pie);
}

static void test_no_build_id(void)
{
	struct elf_file *f = open_elf("noid");

	CHECK(elf_file_is_go(f));
	elf_file_free(f);
}

/* CFA - sp as the row of .debug_frame tells it; -1: there is none, or it goes by another register. */
static int64_t cfa_above_sp(struct elf_file *f, uint64_t vaddr)
{
	int64_t ret = -1;
	Dwarf_Frame *frame;
	Dwarf_CFI *cfi;
	Dwarf_Op *ops;
	size_t num;

	if (elf_file_row(f, vaddr, &cfi) != ELF_ROW_FINE ||
	    dwarf_cfi_addrframe(cfi, vaddr, &frame) != 0)
		return -1;
	if (dwarf_frame_cfa(frame, &ops, &num) == 0 && num == 1 && ops[0].atom == DW_OP_bregx &&
	    ops[0].number == 7)
		ret = (int64_t)ops[0].number2;
	free(frame);
	return ret;
}

/* The same compiler wrote both: every place must say the same, and what is stripped keeps one of them. */
static void test_frames(void)
{
	struct elf_file *whole = open_elf("whole"), *stripped = open_elf("stripped");
	const struct elf_load *loads;
	size_t num = elf_file_loads(whole, &loads), compared = 0, other = 0, silent = 0;
	struct elf_sp_frame frame;

	for (size_t i = 0; i < num; i++) {
		uint64_t end = loads[i].vaddr + (loads[i].executable ? loads[i].filesz : 0);

		for (uint64_t at = loads[i].vaddr; at < end; at += 37) {
			int64_t want = cfa_above_sp(whole, at);

			if (want < 0)
				continue;
			if (!elf_go_frame(stripped, at, &frame)) {
				silent++;
				continue;
			}
			compared++;
			other += frame.sp_below + 8 != want || at < frame.start || at >= frame.end;
		}
	}
	fprintf(stderr, "%zu places compared, %zu silent\n", compared, silent);
	CHECK(compared > 5000);
	CHECK_MSG(!other, "%zu of %zu differ", other, compared);
	CHECK(silent < compared / 100); /* those that change the stack pointer at will */
	CHECK(!elf_go_frame(stripped, 0, &frame));
	CHECK(!elf_go_frame(stripped, UINT64_MAX, &frame));
	elf_file_free(whole);
	elf_file_free(stripped);
}

int main(void)
{
	char dir[] = "/tmp/test_elf_go.XXXXXX";

	if (!have("go") || !have("nm"))
		SKIP("no Go here");
	toolbox_enter(dir);
	write_text("hello.go", program);
	CHECK(build("", "whole") && build("-ldflags='-s -w'", "stripped") &&
	      build("-buildmode=pie -ldflags='-s -w'", "pie") &&
	      build("-ldflags=-buildid=", "noid"));
	if (!check_failures) {
		test_stripped();
		test_pie();
		test_frames();
		test_no_build_id();
	}
	toolbox_leave(dir);
	return check_done();
}
