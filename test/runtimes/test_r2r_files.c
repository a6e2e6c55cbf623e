/*
 * Precompiled code in files that are mapped, Shop.dll as it is and in single-file bundles, and copies of it in memory; by a
 * parser in another process as well as here.
 */
#include "base/intern.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/r2r_files.h"
#include "runtimes/r2r_serve.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"
#include "target/door.h"
#include "test/check.h"
#include "test/mappings_view.h"
#include "unwinder/rule.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <zlib.h>

/* Of Shop.dll, see test_r2r.c; .text is 0x10000 less in the file. */
enum { FRAMELESS = 0x8e0, MOVE_NEXT = 0xeb0, STUB = 0x1134, DATA = 0x2500 };

/* Becomes a bundle's marker in the copy: inverted, so that this program is none. Writable, as there. */
static volatile uint8_t marker[8 + 32] = {
	0,    0,    0,    0,    0,    0,    0,    1, /* this word is found, too */
	0x74, 0xed, 0xfd, 0x46, 0x95, 0x9e, 0xdf, 0xc7, 0x8d, 0x84, 0x6c, 0xfd, 0xeb, 0x28, 0x5f, 0xcd,
	0xec, 0x0a, 0x46, 0x19, 0x10, 0x51, 0xcc, 0xe7, 0x11, 0xc4, 0xd2, 0x31, 0xdb, 0x4c, 0x95, 0x51,
};

/* ---- the other process ---- */

enum parser_kind { HERE, PARSER, CRASHING, LYING };
struct parser {
	enum parser_kind kind;
	pid_t pid;
	unsigned int started, aside;
};

static int serve_crash(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* A name for a place that nobody asked for. */
static int serve_lie(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	static const uint8_t record[] = { 9, 0, 0, 0,  1, 0, 0, 0, 0, 0, 0, 0,  1, 0, 'x',  0, 0 };

	return worker_answer(call, record, sizeof(record)) ? 0 : -EPIPE;
}

static void serve(int sock, enum parser_kind kind)
{
	static const struct worker_service crashing[] = { { R2R_ASK_RULES, serve_crash }, { 0 } };
	static const struct worker_service lying[] = { { R2R_ASK_NAMES, serve_lie }, { 0 } };
	struct r2r_serve *r2r = r2r_serve_new();
	const struct worker_services services[] = {
		{ kind == CRASHING ? crashing : kind == LYING ? lying : r2r_services, r2r },
		{ r2r_services, r2r },
		{ 0 },
	};
	const struct worker_server server = { .services = services };

	worker_serve(sock, &server);
	r2r_serve_free(r2r);
}

static void end_parser(struct parser *p, int *status)
{
	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, status, 0);
	p->pid = 0;
}

static int start(void *data, struct worker_process *ret, struct err *err)
{
	struct parser *p = data;
	int sock[2], status = 0;

	end_parser(p, &status);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
	p->started++;
	p->pid = fork();
	if (!p->pid) {
		close(sock[0]);
		serve(sock[1], p->kind);
		_exit(0);
	}
	close(sock[1]);
	*ret = (struct worker_process){ .sock = sock[0], .pid = p->pid, .ended = status };
	return 0;
}

static void is_aside(void *data, struct file *file)
{
	((struct parser *)data)->aside++;
}

/* ---- this one ---- */

struct world {
	struct parser *parser;
	struct worker *worker;
	struct intern *strings;
	struct door *door;
	struct files *files;
	struct r2r_files *r2r;
	struct unwind_giver giver;
	struct file_source source;
};

static struct world world_new(enum parser_kind kind, bool tiers)
{
	struct world w = { .strings = intern_new() };
	struct files_opts files = { .strings = w.strings };
	struct r2r_files_opts opts = { .strings = w.strings, .arch = &arch_x86_64, .tiers = tiers };

	const struct worker_opts worker = { .start = start, .data = w.parser = calloc(1, sizeof(*w.parser)) };

	if (!w.parser || !w.strings || door_new(&w.door, NULL) < 0)
		abort();
	w.parser->kind = kind;
	if (kind != HERE)
		opts.worker = w.worker = worker_new(&worker);
	opts.aside = is_aside;
	opts.data = w.parser;
	files.door = w.door;
	if (files_new(&files, &w.files, NULL) < 0)
		abort();
	opts.files = w.files;
	if (r2r_files_new(&opts, &w.r2r, NULL) < 0)
		abort();
	w.giver = r2r_files_giver(w.r2r);
	w.source = r2r_files_source(w.r2r);
	return w;
}

static void world_free(struct world *w)
{
	r2r_files_free(w->r2r);
	worker_free(w->worker);
	end_parser(w->parser, NULL);
	free(w->parser);
	files_free(w->files);
	door_free(w->door);
	intern_free(w->strings);
}

/* Maps a page of the file executable, as a process would. */
static struct file *map_file(struct world *w, const char *path, uint64_t offset, struct mapping *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct door_mapping mapping = { .pid = getpid(), .path = path };
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	p = mmap(NULL, 0x3000, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)offset);
	if (p == MAP_FAILED)
		abort();
	close(fd);
	mapping.start = (uintptr_t)p;
	mapping.end = mapping.start + 0x3000;
	mapping.maj = major(st.st_dev);
	mapping.min = minor(st.st_dev);
	mapping.ino = st.st_ino;
	*ret = (struct mapping){ .start = mapping.start, .end = mapping.end, .pgoff = offset };
	ret->file = files_get(w->files, &mapping, 0, NULL, 0);
	munmap(p, 0x3000);
	return ret->file;
}

static enum give ask(struct world *w, const struct mapping *m, uint64_t offset, bool exact, struct give_answer *ret)
{
	struct give_query query = { .mapping = m, .pc = m->start + offset - m->pgoff, .activation = exact, .first = exact };

	*ret = (struct give_answer){ 0 };
	return w->giver.give(w->giver.data, &query, ret);
}

static void check_image(struct world *w, const struct mapping *m, uint64_t base)
{
	const uint64_t offsets[] = { base + 0x10, base + FRAMELESS + 6, base + MOVE_NEXT + 3, base + STUB, base + DATA };
	struct give_answer answer;
	struct symbol symbols[5];

	memset(symbols, 0, sizeof(symbols));
	CHECK(w->source.names(w->source.data, m->file, offsets, 5, symbols));
	CHECK(!symbols[0].name && !symbols[4].name);
	CHECK_STR(symbols[1].name, "Shop.Till::Frameless");
	CHECK_STR(symbols[1].module, "Shop");
	CHECK(symbols[1].offset == 6);
	CHECK_STR(symbols[2].name, "Shop.Till::TotalAsync"); /* as it was written, not as it was compiled */
	CHECK(symbols[2].offset == 3);
	CHECK_STR(symbols[3].name, dotnet_stub_name);
	CHECK_STR(symbols[3].module, "Shop");

	CHECK(ask(w, m, base + FRAMELESS + 6, false, &answer) == GIVE_RULE);
	CHECK(answer.life == GIVE_WITH_FILE);
	CHECK(answer.rule.kind == RULE_CFA && answer.rule.cfa_off8 == 2 && answer.rule.slot[0] == 1);
	CHECK(ask(w, m, base + FRAMELESS + 14, true, &answer) == GIVE_RULE && answer.rule.cfa_off8 == 1);
	/* Between functions: only the frame pointer may know, and that is remembered. */
	CHECK(ask(w, m, base + FRAMELESS + 15, false, &answer) == GIVE_RULE && answer.rule.kind == RULE_FP);
	CHECK(ask(w, m, base + 0x10, true, &answer) == GIVE_PASS);
}

static void test_dll(enum parser_kind kind, const char *dll)
{
	struct world w = world_new(kind, false);
	struct mapping m, none = { .start = 0x1000, .end = 0x2000, .pgoff = 0x1000 };
	struct give_answer answer;
	struct file *file = map_file(&w, dll, 0, &m);

	CHECK(file && file->kind == FILE_OTHER);
	check_image(&w, &m, 0);
	CHECK(r2r_files_counts(w.r2r).files == 1);
	CHECK(r2r_files_counts(w.r2r).named == 3);
	CHECK(w.giver.files_only);
	CHECK(ask(&w, &none, 0x1010, true, &answer) == GIVE_PASS);
	/* It left the table and came back: looked at anew. */
	r2r_files_gone(w.r2r, file->id);
	check_image(&w, &m, 0);
	CHECK(r2r_files_counts(w.r2r).files == 2);
	world_free(&w);
}

static void test_tiers(enum parser_kind kind, const char *dll)
{
	struct world w = world_new(kind, true);
	const uint64_t offset = FRAMELESS;
	struct symbol symbol = { 0 };
	struct mapping m;

	CHECK(w.source.names(w.source.data, map_file(&w, dll, 0, &m), &offset, 1, &symbol));
	CHECK_STR(symbol.name, "Shop.Till::Frameless[ReadyToRun]");
	world_free(&w);
}

/* ---- files of our own making ---- */

struct text {
	uint8_t *bytes;
	size_t size;
};

static struct text read_whole(const char *path)
{
	struct text t = { 0 };
	struct stat st;
	FILE *file = fopen(path, "rb");

	if (!file || fstat(fileno(file), &st) < 0)
		abort();
	t.bytes = malloc((size_t)st.st_size);
	if (!t.bytes || fread(t.bytes, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		abort();
	t.size = (size_t)st.st_size;
	fclose(file);
	return t;
}

static void put_u64(FILE *out, uint64_t value)
{
	fwrite(&value, sizeof(value), 1, out);
}

/* A manifest of version 6 with one file, as bundle/manifest.cpp reads it. */
static void put_manifest(FILE *out, uint64_t offset, uint64_t size, uint64_t packed_size)
{
	const uint32_t head[3] = { 6, 0, 1 };

	fwrite(head, sizeof(head), 1, out);
	fputc(4, out);
	fputs("abcd", out);
	for (unsigned int i = 0; i < 5; i++)
		put_u64(out, 0);
	put_u64(out, offset);
	put_u64(out, size);
	put_u64(out, packed_size);
	fputc(1, out);
	fputc(8, out);
	fputs("Shop.dll", out);
}

/*
 * This program with Shop.dll behind it; where that begins. `size` is of the DLL, of which `dll` may be the deflate
 * stream.
 */
static uint64_t write_bundle(const char *path, const struct text *dll, size_t size)
{
	struct text program = read_whole("/proc/self/exe");
	uint64_t at = (program.size + 0xfff) / 0x1000 * 0x1000 + 0x1070; /* no page begins there */
	uint64_t manifest = at + dll->size;
	FILE *out = fopen(path, "wb");
	uint8_t *found;

	found = memmem(program.bytes, program.size, (const void *)(uintptr_t)marker, sizeof(marker));
	if (!out || !found)
		abort();
	memcpy(found, &manifest, sizeof(manifest));
	for (size_t i = 8; i < sizeof(marker); i++)
		found[i] ^= 0xff;
	fwrite(program.bytes, program.size, 1, out);
	for (uint64_t i = program.size; i < at; i++)
		fputc(0, out);
	fwrite(dll->bytes, dll->size, 1, out);
	put_manifest(out, at, size, size == dll->size ? 0 : dll->size);
	for (unsigned int i = 0; i < 0x3000; i++)
		fputc(0, out); /* what is mapped is there */
	fclose(out);
	free(program.bytes);
	return at;
}

static void test_bundle(enum parser_kind kind, const char *dll, const char *dir)
{
	struct text text = read_whole(dll);
	struct world w = world_new(kind, false);
	struct give_answer answer;
	struct mapping m, native;
	char path[128];
	uint64_t at;

	snprintf(path, sizeof(path), "%s/program", dir);
	at = write_bundle(path, &text, text.size);
	CHECK(map_file(&w, path, at & ~(uint64_t)0xfff, &m)->kind == FILE_ELF);
	check_image(&w, &m, at);
	/* The program's own code has CFI and symbols. */
	map_file(&w, path, 0, &native);
	CHECK(ask(&w, &native, 0x40, true, &answer) == GIVE_PASS);
	/* Behind the last file. */
	CHECK(ask(&w, &m, at + text.size + 8, true, &answer) == GIVE_PASS);
	world_free(&w);
	unlink(path);
	free(text.bytes);
}

/* ---- copies ---- */

static struct text pack(const struct text *dll)
{
	struct text packed = { .bytes = malloc(dll->size), .size = dll->size };
	z_stream z = { .next_in = dll->bytes, .avail_in = (uInt)dll->size };

	if (!packed.bytes || deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	z.next_out = packed.bytes;
	z.avail_out = (uInt)packed.size;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	packed.size = z.total_out;
	deflateEnd(&z);
	return packed;
}

enum { LOADED_AT = 0x70000000, LOADED_BYTES = 0x60000 };

/* A process in which the image was laid out as the loader does: sections at their RVAs. */
struct process {
	uint8_t *bytes; /* at LOADED_AT */
	enum memory_answer says;
	unsigned int reads;
};

static struct process load(const struct text *dll)
{
	static const struct {
		uint32_t rva, offset, size;
	} sections[] = { { 0, 0, 0x200 }, { 0x10200, 0x200, 0x2200 }, { 0x32400, 0x2400, 0xc00 } };
	struct process p = { .bytes = calloc(1, LOADED_BYTES), .says = MEMORY_OK };

	if (!p.bytes)
		abort();
	for (size_t i = 0; i < 3; i++)
		memcpy(p.bytes + sections[i].rva, dll->bytes + sections[i].offset, sections[i].size);
	return p;
}

static enum memory_answer read_process(void *data, const struct addrspace *space, uint64_t addr, void *buf, size_t len)
{
	struct process *p = data;

	p->reads++;
	if (p->says != MEMORY_OK)
		return p->says;
	if (addr < LOADED_AT || addr - LOADED_AT > LOADED_BYTES || len > LOADED_BYTES - (addr - LOADED_AT))
		return MEMORY_NEVER;
	memcpy(buf, p->bytes + (addr - LOADED_AT), len);
	return MEMORY_OK;
}

static enum give ask_copy(struct world *w, const struct addrspace *space, struct process *p, const struct mapping *m,
			  uint32_t rva, bool exact, struct give_answer *ret)
{
	const struct unwind_giver giver = r2r_copies_giver(w->r2r);
	const struct memory_reader memory = { .read = read_process, .data = p };
	struct give_query query = {
		.space = space, .mapping = m, .pc = LOADED_AT + rva, .activation = exact, .memory = &memory
	};

	*ret = (struct give_answer){ 0 };
	return giver.give(giver.data, &query, ret);
}

static void check_copy(struct world *w, struct addrspace *space, struct process *p)
{
	const struct mapping *program = mappings_next(&space->maps, 0), *copy = mappings_next(&space->maps, program->end),
			     *other = mappings_next(&space->maps, copy->end);
	const struct symbol_source source = r2r_copies_source(w->r2r);
	struct give_answer answer;
	struct symbol symbol;
	unsigned int reads;

	/* Nothing can be read now: that is not remembered. */
	p->says = MEMORY_NOT_NOW;
	CHECK(ask_copy(w, space, p, copy, 0x108e6, false, &answer) == GIVE_LATER);
	p->says = MEMORY_OK;
	CHECK(ask_copy(w, space, p, copy, 0x108e6, false, &answer) == GIVE_RULE);
	CHECK(answer.life == GIVE_WITH_CODE && answer.rule.cfa_off8 == 2);
	CHECK(ask_copy(w, space, p, copy, 0x108ee, true, &answer) == GIVE_RULE && answer.rule.cfa_off8 == 1);
	CHECK(ask_copy(w, space, p, copy, 0x10eb3, false, &answer) == GIVE_RULE);
	/* Code that the runtime made: looked at once. */
	CHECK(ask_copy(w, space, p, other, 0x400000, true, &answer) == GIVE_PASS);
	reads = p->reads;
	CHECK(ask_copy(w, space, p, other, 0x400008, true, &answer) == GIVE_PASS && p->reads == reads);
	CHECK(ask_copy(w, space, p, program, 0, true, &answer) == GIVE_PASS);

	CHECK(source.find(source.data, space, LOADED_AT + 0x108e6, &symbol));
	CHECK_STR(symbol.name, "Shop.Till::Frameless");
	CHECK_STR(symbol.module, "Shop");
	CHECK(symbol.offset == 6);
	CHECK(source.find(source.data, space, LOADED_AT + 0x10eb3, &symbol));
	CHECK_STR(symbol.name, "Shop.Till::TotalAsync");
	CHECK(!source.find(source.data, space, LOADED_AT + 0x108f0, &symbol)); /* never stepped through */
	CHECK(!source.find(source.data, space, LOADED_AT + 0x400000, &symbol));
	source.gone(source.data, space);
	CHECK(!source.find(source.data, space, LOADED_AT + 0x108e6, &symbol));
	CHECK(ask_copy(w, space, p, copy, 0x108e6, false, &answer) == GIVE_PASS);
}

static void test_copies(enum parser_kind kind, const char *dll, const char *dir)
{
	struct text text = read_whole(dll), packed = pack(&text);
	struct process p = load(&text);
	struct mapping maps[3] = { 0 };
	struct map_run run;
	struct addrspace space = { .id = 7 }, plain = { .id = 8 };
	struct world w = world_new(kind, false);
	char path[128];

	snprintf(path, sizeof(path), "%s/packed", dir);
	write_bundle(path, &packed, text.size);
	CHECK(map_file(&w, path, 0, &maps[0])->kind == FILE_ELF);
	maps[0].start = 0x400000;
	maps[0].end = 0x500000;
	maps[1] = (struct mapping){ .start = LOADED_AT + 0x10000, .end = LOADED_AT + 0x13000 };
	maps[2] = (struct mapping){ .start = LOADED_AT + 0x400000, .end = LOADED_AT + 0x500000 };
	space.maps = mappings_view(&run, maps, 3);
	CHECK(!r2r_copies_begin(w.r2r, &plain));
	CHECK(r2r_copies_begin(w.r2r, &space));
	check_copy(&w, &space, &p);
	r2r_files_gone(w.r2r, maps[0].file->id);
	world_free(&w);
	unlink(path);
	free(p.bytes);
	free(packed.bytes);
	free(text.bytes);
}

/* Written over while it is mapped: what is read now is not what was sampled. */
static void test_changed(enum parser_kind kind, const char *dll, const char *dir)
{
	struct text text = read_whole(dll);
	struct world w = world_new(kind, false);
	const uint64_t offset = FRAMELESS;
	struct symbol symbol = { 0 };
	struct give_answer answer;
	struct mapping m;
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/Other.dll", dir);
	out = fopen(path, "wb");
	if (!out)
		abort();
	fwrite(text.bytes, text.size, 1, out);
	fflush(out);
	map_file(&w, path, 0, &m);
	CHECK(ask(&w, &m, FRAMELESS, true, &answer) == GIVE_RULE);
	fputc(0, out);
	fclose(out);
	CHECK(w.source.names(w.source.data, m.file, &offset, 1, &symbol));
	CHECK(!symbol.name);
	world_free(&w);
	unlink(path);
	free(text.bytes);
}

static void test_no_image(enum parser_kind kind, const char *dir)
{
	struct world w = world_new(kind, false);
	const uint64_t offset = 0x10;
	struct symbol symbol = { 0 };
	struct give_answer answer;
	struct mapping m;
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/text.dll", dir);
	out = fopen(path, "wb");
	if (!out)
		abort();
	fprintf(out, "%05000d", 0);
	fclose(out);
	CHECK(map_file(&w, path, 0, &m)->kind == FILE_OTHER);
	CHECK(ask(&w, &m, 0x10, true, &answer) == GIVE_PASS);
	CHECK(w.source.names(w.source.data, m.file, &offset, 1, &symbol) && !symbol.name);
	CHECK(r2r_files_counts(w.r2r).files == 0);
	world_free(&w);
	unlink(path);
}

/* A file that ends two parsers in a row is not asked about again, and others are. */
static void test_aside(const char *dll)
{
	struct world w = world_new(CRASHING, false);
	const uint64_t offset = FRAMELESS;
	struct symbol symbol = { 0 };
	struct give_answer answer;
	struct mapping m;

	map_file(&w, dll, 0, &m);
	CHECK(ask(&w, &m, FRAMELESS, true, &answer) == GIVE_PASS);
	CHECK(w.parser->aside == 1 && w.parser->started == 3 && r2r_files_counts(w.r2r).aside == 1);
	CHECK(ask(&w, &m, MOVE_NEXT, true, &answer) == GIVE_PASS);
	CHECK(w.source.names(w.source.data, m.file, &offset, 1, &symbol) && !symbol.name);
	CHECK(w.parser->aside == 1 && w.parser->started == 3);
	world_free(&w);
}

/* Somebody kills it: asked again, and the next one is told of the file. */
static void test_killed(const char *dll)
{
	struct world w = world_new(PARSER, false);
	struct give_answer answer;
	struct mapping m;

	map_file(&w, dll, 0, &m);
	for (unsigned int i = 0; i < 5; i++) {
		CHECK(ask(&w, &m, MOVE_NEXT + i, true, &answer) == GIVE_RULE);
		CHECK(w.parser->started == i + 1 && !w.parser->aside);
		kill(w.parser->pid, SIGKILL);
	}
	check_image(&w, &m, 0);
	world_free(&w);
}

static void test_lies(const char *dll)
{
	struct world w = world_new(LYING, false);
	const uint64_t offset = FRAMELESS;
	struct symbol symbol = { 0 };
	struct mapping m;

	map_file(&w, dll, 0, &m);
	CHECK(w.source.names(w.source.data, m.file, &offset, 1, &symbol) && !symbol.name);
	CHECK(w.parser->aside == 1);
	world_free(&w);
}

/* Two sessions share a parser, each with its own numbers of files. */
static void test_shared(const char *dll, const char *dir)
{
	struct world first = world_new(PARSER, false), second = world_new(HERE, false);
	struct r2r_files_opts opts = { .files = second.files, .strings = second.strings, .arch = &arch_x86_64,
				       .worker = first.worker };
	struct give_answer answer;
	struct mapping m, none;
	struct stat st;
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/none.dll", dir);
	out = fopen(path, "wb");
	if (!out || stat(dll, &st) < 0)
		abort();
	for (off_t i = 0; i < st.st_size; i++)
		fputc('x', out);
	fclose(out);
	r2r_files_free(second.r2r);
	if (r2r_files_new(&opts, &second.r2r, NULL) < 0)
		abort();
	second.giver = r2r_files_giver(second.r2r);
	map_file(&first, dll, 0, &m);
	map_file(&second, path, 0, &none);
	CHECK(m.file->id == none.file->id);
	CHECK(ask(&first, &m, FRAMELESS, true, &answer) == GIVE_RULE);
	CHECK(ask(&second, &none, FRAMELESS, true, &answer) == GIVE_PASS);
	CHECK(ask(&first, &m, MOVE_NEXT, true, &answer) == GIVE_RULE);
	world_free(&second);
	CHECK(ask(&first, &m, MOVE_NEXT + 1, true, &answer) == GIVE_RULE);
	world_free(&first);
	unlink(path);
}

/* More files than the parser keeps open: those it has forgotten are told again. */
static void test_many(const char *dll, const char *dir)
{
	enum { MANY = 80 };
	struct text text = read_whole(dll);
	struct world w = world_new(PARSER, false);
	struct give_answer answer;
	struct mapping m[MANY];
	char path[128];

	for (int i = 0; i < MANY; i++) {
		FILE *out;

		snprintf(path, sizeof(path), "%s/many%d.dll", dir, i);
		out = fopen(path, "wb");
		if (!out)
			abort();
		fwrite(text.bytes, text.size, 1, out);
		fclose(out);
		map_file(&w, path, 0, &m[i]);
		unlink(path);
		CHECK(ask(&w, &m[i], FRAMELESS, true, &answer) == GIVE_RULE);
	}
	for (int i = 0; i < MANY; i++)
		CHECK(ask(&w, &m[i], MOVE_NEXT, true, &answer) == GIVE_RULE);
	CHECK(w.parser->started == 1 && !w.parser->aside);
	world_free(&w);
	free(text.bytes);
}

int main(int argc, char **argv)
{
	char dll[4096], dir[] = "/var/tmp/ringfold-test-XXXXXX";

	if (argc < 2 || !mkdtemp(dir))
		return 2;
	snprintf(dll, sizeof(dll), "%s/Shop.dll", argv[1]);
	if (access(dll, R_OK) < 0)
		SKIP("%s is not there", dll);
	for (enum parser_kind kind = HERE; kind <= PARSER; kind++) {
		test_dll(kind, dll);
		test_tiers(kind, dll);
		test_bundle(kind, dll, dir);
		test_changed(kind, dll, dir);
		test_copies(kind, dll, dir);
		test_no_image(kind, dir);
	}
	test_aside(dll);
	test_killed(dll);
	test_lies(dll);
	test_many(dll, dir);
	test_shared(dll, dir);
	rmdir(dir);
	return check_done();
}
