/*
 * Programs are built here and now by the compilers that are there, in every form of DWARF they know, and each
 * answer is held against addr2line's. GNU addr2line (2.40 to 2.45) reads no split DWARF, loses functions
 * in clang's DWARF 5 and with type units: there it is asked about a build with the same code in a form that
 * it reads. Where the innermost function has no linkage name (static, in C++) it puts the ELF symbol in its
 * place, so inline_victim.cpp has none; and it takes the file of another row at times, see row_says.
 */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/vec.h"
#include "symbols/elf_file.h"
#include "symbols/inline.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>

enum { MAX_FRAMES = 64, MAX_ADDRESSES = 900, MAX_LINE = 4096, MIN_INLINED = 100 };

struct answer {
	uint64_t vaddr;
	size_t num;
	struct inline_frame frames[MAX_FRAMES]; /* strings interned */
};

struct test {
	const char *sources; /* directory */
	const char *dir;     /* where things are built */
	struct intern *strings;
	const char *package; /* what ".dwp" opens; NULL = nothing */
	size_t opened;       /* files asked for and found */
	size_t built, skipped;
};

struct build {
	const char *name, *c, *cxx, *flags;
	const char *reference; /* build to ask addr2line about; NULL = this one */
	bool split;
};

static const struct build builds[] = {
	{ "gcc4", "gcc", "g++", "-gdwarf-4", NULL, false },
	{ "gcc5", "gcc", "g++", "-gdwarf-5", NULL, false },
	{ "gcc4-split", "gcc", "g++", "-gdwarf-4 -gsplit-dwarf", "gcc4", true },
	{ "gcc5-split", "gcc", "g++", "-gdwarf-5 -gsplit-dwarf", "gcc5", true },
	{ "gcc4-64", "gcc", "g++", "-gdwarf-4 -gdwarf64", NULL, false },
	{ "gcc5-64", "gcc", "g++", "-gdwarf-5 -gdwarf64", "gcc5", false },
	{ "gcc3", "gcc", "g++", "-gdwarf-3 -gstrict-dwarf", NULL, false },
	{ "gcc-types", "gcc", "g++", "-gdwarf-5 -fdebug-types-section", "gcc5", false },
	{ "gcc-packed", "gcc", "g++", "-gdwarf-5 -gz", NULL, false },
	{ "gcc-packed-old", "gcc", "g++", "-gdwarf-4 -gz=zlib-gnu", NULL, false },
	{ "gcc-sections", "gcc", "g++", "-g -ffunction-sections -Wl,--gc-sections", NULL, false },
	{ "gcc-lto", "gcc", "g++", "-g -flto", NULL, false },
	{ "gcc-nopie", "gcc", "g++", "-g -no-pie", NULL, false },
	{ "clang4", "clang", "clang++", "-gdwarf-4", NULL, false },
	{ "clang5", "clang", "clang++", "-gdwarf-5", "clang4", false },
	{ "clang4-split", "clang", "clang++", "-gdwarf-4 -gsplit-dwarf", "clang4", true },
	{ "clang5-split", "clang", "clang++", "-gdwarf-5 -gsplit-dwarf", "clang4", true },
	{ "clang-sections", "clang", "clang++", "-gdwarf-4 -ffunction-sections", NULL, false },
	{ "clang-lto", "clang", "clang++", "-gdwarf-4 -flto", NULL, false },
};

typedef VEC(struct answer) answers;

static bool installed(const char *tool)
{
	char command[256];

	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", tool);
	return !system(command);
}

/* `cd DIR && FORMAT`; true when it worked. */
static bool __attribute__((format(printf, 2, 3))) shell(const struct test *t, const char *fmt, ...)
{
	char tail[2048], command[MAX_LINE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(tail, sizeof(tail), fmt, args);
	va_end(args);
	snprintf(command, sizeof(command), "cd '%s' && %s", t->dir, tail);
	return !system(command);
}

static char *path_of(const struct test *t, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", t->dir, name) < 0)
		exit(1);
	return path;
}

static int open_file(void *data, const char *name, const uint8_t *build_id, size_t build_id_len)
{
	struct test *t = data;
	_cleanup_free_ char *path = NULL;
	int fd;

	if (!strcmp(name, ".dwp")) {
		if (!t->package)
			return -1;
		name = t->package;
	}
	if (*name != '/')
		name = path = path_of(t, name);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	t->opened += fd >= 0;
	return fd;
}

static struct inliner *open_inliner(struct test *t, const char *name, int expected)
{
	struct inline_files files = { open_file, t };
	_cleanup_free_ char *path = path_of(t, name);
	struct inliner *in = NULL;
	struct err err = { 0 };
	int r;

	r = inliner_open(open(path, O_RDONLY | O_CLOEXEC), &files, t->strings, &in, &err);
	CHECK_MSG(r == expected, "%s: %d, not %d: %s", name, r, expected, err.msg);
	return r < 0 ? NULL : in;
}

static bool same_code(const struct test *t, const char *a, const char *b)
{
	return shell(
		t,
		"for f in %s %s; do objcopy -O binary --only-section=.text $f $f.text; done && "
		"cmp -s %s.text %s.text",
		a, b, a, b);
}

/* --- addr2line's answers --- */

/* Places all over the code, not only where instructions begin. */
static void write_addresses(const struct test *t, const char *name)
{
	_cleanup_free_ char *path = path_of(t, name), *list = path_of(t, "addresses");
	_cleanup_(fclosep) FILE *out = fopen(list, "w");
	const struct elf_load *loads;
	struct elf_file *elf = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (!out || fd < 0 || fstat(fd, &st) < 0 ||
	    elf_file_open_fd(fd, (uint64_t)st.st_size, &elf, NULL) < 0) {
		CHECK_MSG(false, "%s", path);
		return;
	}
	for (size_t i = 0; i < elf_file_loads(elf, &loads); i++) {
		uint64_t step = loads[i].memsz / MAX_ADDRESSES + 1;

		for (uint64_t at = 0; loads[i].executable && at < loads[i].memsz; at += step)
			fprintf(out, "%" PRIx64 "\n", loads[i].vaddr + at);
	}
	elf_file_free(elf);
}

/* "PATH:LINE", perhaps with " (discriminator N)"; LINE may be '?'. */
static void parse_place(const struct test *t, char *line, struct inline_frame *ret)
{
	char *note = strstr(line, " (discriminator");
	char *colon;

	if (note)
		*note = 0;
	colon = strrchr(line, ':');
	if (!colon)
		return;
	*colon = 0;
	ret->file = strcmp(line, "??") != 0 ? intern_str(t->strings, line) : NULL;
	ret->line = (uint32_t)strtoul(colon + 1, NULL, 10);
}

static void ask_addr2line(const struct test *t, const char *name, answers *ret)
{
	char command[MAX_LINE];
	static char line[1 << 16];
	struct answer a = { 0 };
	bool place = false;
	FILE *in;

	snprintf(command, sizeof(command), "cd '%s' && addr2line -a -i -f -C -e %s <addresses",
		 t->dir, name);
	in = popen(command, "r");
	while (in && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = 0;
		if (!place && !strncmp(line, "0x", 2)) {
			if (a.num && !vec_push(ret, a))
				exit(1);
			a = (struct answer){ .vaddr = strtoull(line, NULL, 16) };
			continue;
		}
		if (a.num == MAX_FRAMES)
			exit(1);
		if (place)
			parse_place(t, line, &a.frames[a.num++]);
		else
			a.frames[a.num].name = intern_str(t->strings, line);
		place = !place;
	}
	if (a.num && !vec_push(ret, a))
		exit(1);
	CHECK(in && !pclose(in));
}

/* --- Comparing --- */

static const char *base_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path;
}

/* Interned strings; between two compilations (whole = false) only the last part of a path is the same. */
static bool same_frame(const struct inline_frame *a, const struct inline_frame *b, bool whole)
{
	if (a->name != b->name || a->line != b->line)
		return false;
	if (whole || !a->file || !b->file)
		return a->file == b->file;
	return !strcmp(base_name(a->file), base_name(b->file));
}

/*
 * Of several rows for one address addr2line gives the line of the last with the file of an earlier one.
 * readelf prints the rows as they are ("NAME LINE 0xADDRESS ..."): the last one that counts here must be ours.
 */
static bool row_says(const struct test *t, const char *name, uint64_t vaddr,
		     const struct inline_frame *frame)
{
	char command[MAX_LINE], text[MAX_LINE], file[MAX_LINE];
	uint64_t addr, best = 0;
	unsigned int line;
	bool ret = false;
	FILE *in;

	snprintf(command, sizeof(command),
		 "cd '%s' && readelf -W --debug-dump=decodedline %s 2>/dev/null", t->dir, name);
	in = popen(command, "r");
	while (in && fgets(text, sizeof(text), in)) {
		if (sscanf(text, "%4095s %u 0x%" SCNx64, file, &line, &addr) != 3 || addr > vaddr ||
		    addr < best)
			continue;
		best = addr;
		ret = line == frame->line && frame->file && !strcmp(file, base_name(frame->file));
	}
	return in && !pclose(in) && ret;
}

static bool same_answer(const struct test *t, const char *reference, const struct answer *a,
			const struct inline_frame *frames, size_t num, bool whole)
{
	if (num != (a->num > 1 ? a->num : 0))
		return false;
	for (size_t i = 0; i < num; i++) {
		if (!i && a->frames[0].name == frames[0].name &&
		    a->frames[0].line == frames[0].line && a->frames[0].file != frames[0].file &&
		    row_says(t, reference, a->vaddr, &frames[0]))
			continue;
		if (!same_frame(&a->frames[i], &frames[i], whole))
			return false;
	}
	return true;
}

static void print_frames(const char *who, const struct inline_frame *frames, size_t num)
{
	for (size_t i = 0; i < num; i++)
		fprintf(stderr, "  %s: %.200s %s:%u\n", who, frames[i].name,
			frames[i].file ? frames[i].file : "??", frames[i].line);
}

static void compare(const struct test *t, struct inliner *in, const char *name,
		    const char *reference, const answers *expected)
{
	bool whole = !strcmp(name, reference);
	size_t wrong = 0, inlined = 0;

	for (size_t i = 0; i < expected->len; i++) {
		const struct answer *a = &expected->data[i];
		struct inline_frame frames[MAX_FRAMES];
		size_t num = inliner_find(in, a->vaddr, frames, MAX_FRAMES);

		inlined += num > 0;
		if (same_answer(t, reference, a, frames, num, whole))
			continue;
		if (!wrong++) {
			fprintf(stderr, "%s, 0x%" PRIx64 ":\n", name, a->vaddr);
			print_frames("addr2line", a->frames, a->num);
			print_frames("inliner", frames, num);
		}
	}
	fprintf(stderr, "%s: %zu addresses, %zu with inlined calls, %zu wrong\n", name,
		expected->len, inlined, wrong);
	CHECK_MSG(!wrong, "%s", name);
	CHECK_MSG(inlined >= MIN_INLINED, "%s: only %zu", name, inlined);
}

/* --- Builds --- */

static void skip(struct test *t, const char *name, const char *why)
{
	fprintf(stderr, "SKIP %s: %s\n", name, why);
	t->skipped++;
}

static bool make(const struct test *t, const struct build *b)
{
	return shell(t,
		     "%s -O2 %s -c '%s/inline_victim_c.c' -o %s_c.o 2>/dev/null && "
		     "%s -O2 %s -c '%s/inline_victim.cpp' -o %s.o 2>/dev/null && "
		     "%s -O2 %s %s.o %s_c.o -o %s 2>/dev/null",
		     b->c, b->flags, t->sources, b->name, b->cxx, b->flags, t->sources, b->name,
		     b->cxx, b->flags, b->name, b->name, b->name);
}

static void check_build(struct test *t, const struct build *b, answers *expected)
{
	struct inliner *in = open_inliner(t, b->name, 0);

	t->opened = 0;
	if (in)
		compare(t, in, b->name, b->reference ? b->reference : b->name, expected);
	CHECK_MSG(t->opened == (b->split ? 2 : 0), "%s: %zu files", b->name, t->opened);
	inliner_free(in);
}

/* The same from a package, with the .dwo files out of the way. */
static void check_package(struct test *t, const struct build *b, const char *tool,
			  answers *expected)
{
	char package[64];
	struct inliner *in;

	/* llvm-dwp 14 loops for ever over gcc's version 5. */
	if (!installed(tool) ||
	    !shell(t, "timeout 3 %s -e %s -o %s.dwp 2>/dev/null", tool, b->name, b->name)) {
		skip(t, b->name, tool);
		return;
	}
	snprintf(package, sizeof(package), "%s.dwp", b->name);
	t->package = package;
	CHECK(shell(t, "mkdir away && mv *.dwo away"));
	in = open_inliner(t, b->name, 0);
	t->opened = 0;
	if (in)
		compare(t, in, package, b->reference, expected);
	CHECK(t->opened == 1);
	inliner_free(in);
	t->package = NULL;

	/* Without either there are no inlines but what clang may repeat in the skeleton: nothing, here. */
	in = open_inliner(t, b->name, 0);
	for (size_t i = 0; in && i < expected->len; i++) {
		struct inline_frame frames[MAX_FRAMES];
		size_t num = inliner_find(in, expected->data[i].vaddr, frames, MAX_FRAMES);

		CHECK(!num || !strncmp(b->name, "clang", 5));
	}
	inliner_free(in);
	CHECK(shell(t, "mv away/*.dwo . && rmdir away && rm %s", package));
}

static void test_build(struct test *t, const struct build *b)
{
	const char *reference = b->reference ? b->reference : b->name;
	answers expected = { 0 };

	if (!installed(b->cxx) || !make(t, b)) {
		skip(t, b->name, "the compiler is missing or cannot do this");
		return;
	}
	if (b->reference && !same_code(t, b->name, reference)) {
		skip(t, b->name, "its code is not the reference's");
		return;
	}
	t->built++;
	write_addresses(t, reference);
	ask_addr2line(t, reference, &expected);
	CHECK(expected.len > 300);
	check_build(t, b, &expected);
	if (b->split) {
		bool version_5 = strstr(b->flags, "-gdwarf-5");

		check_package(t, b, version_5 ? "llvm-dwp" : "dwp", &expected);
	}
	vec_deinit(&expected);
}

/* --- Supplementary files --- */

static void test_alt(struct test *t)
{
	static const char *const link = "gcc -nostdlib";
	struct inline_frame frames[4];
	struct inliner *in;
	uint64_t start = 0x10000;

	if (!shell(t,
		   "%s -shared -Wl,--build-id=0x0123456789abcdef '%s/inline_alt.s' -o inline_alt.debug "
		   "2>/dev/null && %s -static -Wl,-Ttext=0x%" PRIx64
		   " '%s/inline_alt_user.s' -o user 2>/dev/null",
		   link, t->sources, link, start, t->sources)) {
		skip(t, "alt", "no assembler for x86");
		return;
	}
	in = open_inliner(t, "user", 0);
	if (!in)
		return;
	CHECK(inliner_find(in, start, frames, 4) == 0);
	CHECK(inliner_find(in, start + 1, frames, 4) == 2);
	CHECK_STR(frames[0].name, "alt::inner(int)");
	CHECK_STR(frames[1].name, "outer");
	CHECK(!frames[0].file && frames[0].line == 0);
	CHECK(!frames[1].file &&
	      frames[1].line == 0); /* a line without a table of files says nothing */
	CHECK(inliner_find(in, start + 2, frames, 1) == 1);
	CHECK(inliner_find(in, start + 3, frames, 4) == 0);
	CHECK(inliner_find(in, start + 4, frames, 4) == 0);
	inliner_free(in);

	/* Another file of that name is not believed. */
	CHECK(shell(
		t,
		"%s -shared -Wl,--build-id=0xffff456789abcdef '%s/inline_alt.s' -o inline_alt.debug",
		link, t->sources));
	in = open_inliner(t, "user", 0);
	CHECK(in && inliner_find(in, start + 1, frames, 4) == 2);
	CHECK_STR(frames[0].name, "??");
	inliner_free(in);
}

/* --- Files that are not what they should be --- */

static void test_refused(struct test *t)
{
	CHECK(shell(t, "echo no ELF file >text && strip -o stripped gcc5"));
	CHECK(!open_inliner(t, "text", -ENOEXEC));
	CHECK(!open_inliner(t, "stripped", -ENODATA));
}

/* Cut anywhere, and with bytes changed: no crash, no hang, and never more than was asked for. */
static void test_damaged(struct test *t, const char *name)
{
	_cleanup_free_ char *path = path_of(t, name), *copy = path_of(t, "damaged");
	_cleanup_(fclosep) FILE *in = fopen(path, "rb");
	static uint8_t bytes[4 << 20];
	size_t size = in ? fread(bytes, 1, sizeof(bytes), in) : 0;

	CHECK(size && size < sizeof(bytes));
	for (uint32_t i = 1; size && i < 60; i++) {
		struct inline_files files = { open_file, t };
		struct inline_frame frames[2];
		struct inliner *inliner = NULL;
		FILE *out = fopen(copy, "wb");
		uint8_t *at = &bytes[(size_t)i * 2654435761u % size], old = *at;

		if (!out)
			exit(1);
		*at ^= 0x55;
		fwrite(bytes, 1, i % 3 ? size : size / 60 * i, out);
		fclose(out);
		*at = old;
		if (inliner_open(open(copy, O_RDONLY | O_CLOEXEC), &files, t->strings, &inliner,
				 NULL) < 0)
			continue;
		for (uint64_t vaddr = 0x1000; vaddr < 0x8000; vaddr += 101)
			CHECK(inliner_find(inliner, vaddr, frames, 2) <= 2);
		inliner_free(inliner);
	}
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/test_inline.XXXXXX";
	struct test t = { .sources = argv[1], .strings = intern_new() };

	if (argc != 2 || !t.strings)
		return 2;
	if (!installed("addr2line") || !installed("objcopy") || !installed("g++"))
		SKIP("addr2line, objcopy or g++ is not installed");
	t.dir = mkdtemp(dir);
	if (!t.dir)
		return 1;
	for (size_t i = 0; i < sizeof(builds) / sizeof(builds[0]); i++)
		test_build(&t, &builds[i]);
	CHECK(t.built >= 8);
	test_alt(&t);
	test_refused(&t);
	test_damaged(&t, "gcc5");
	test_damaged(&t, "gcc4-split");
	if (!installed("dwz"))
		fprintf(stderr, "SKIP dwz: not installed; inline_alt.s stands for what it makes\n");
	if (!getenv("TEST_KEEP"))
		CHECK(shell(&t, "rm -rf '%s'", t.dir));
	intern_free(t.strings);
	fprintf(stderr, "%zu builds, %zu skipped\n", t.built, t.skipped);
	return check_done();
}
