/* Files parsed in another process: the same answers as here, lies refused, and files that end it set aside. */
#include "base/intern.h"
#include "base/worker.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/elf_remote_priv.h"
#include "symbols/elf_serve.h"
#include "symbols/elf_wire.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "symbols/symtab.h"
#include "test/check.h"
#include "unwinder/rules_serve.h"
#include "unwinder/rules_wire.h"
#include "unwinder/unwinder_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the other process ---- */

struct process {
	pid_t pid;
	bool crashes; /* at every question about heads */
	const struct worker_service *services; /* asked first; NULL = none */
	unsigned int started;
};

static int serve_crash(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

static const struct worker_service crashing[] = { { ELF_ASK_HEAD, serve_crash }, { 0 } };

static void serve(int sock, bool crashes, const struct worker_service *own)
{
	struct elf_serve *files = elf_serve_new(2);
	const struct worker_services services[] = {
		{ own ? own : crashes ? crashing : elf_services, files },
		{ elf_services, files },
		{ rules_services, files },
		{ 0 },
	};
	const struct worker_server server = { .services = services, .idle = elf_serve_rest, .idle_ms = 20, .data = files };

	worker_serve(sock, &server);
	elf_serve_free(files);
}

static int start(void *data, struct worker_process *ret, struct err *err)
{
	struct process *p = data;
	int sock[2], status = 0;

	if (p->pid) {
		kill(p->pid, SIGKILL);
		waitpid(p->pid, &status, 0);
	}
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
	p->started++;
	p->pid = fork();
	if (!p->pid) {
		close(sock[0]);
		serve(sock[1], p->crashes, p->services);
		_exit(0);
	}
	close(sock[1]);
	*ret = (struct worker_process){ .sock = sock[0], .pid = p->pid, .ended = status };
	return 0;
}

static void end(struct process *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

/* ---- the same answers ---- */

struct pair {
	struct elf_file *here, *there;
};

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static bool open_pair(const char *path, struct worker *w, struct pair *ret)
{
	const struct elf_remote_opts opts = { .worker = w };
	int fd = open(path, O_RDONLY | O_CLOEXEC), again = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && elf_file_open_fd(fd, size_of(fd), &ret->here, NULL) == 0 &&
	       elf_remote_open(again, size_of(again), &opts, &ret->there, NULL) == 0;
}

static void close_pair(struct pair *p)
{
	elf_file_free(p->here);
	elf_file_free(p->there);
}

static void test_heads(const struct pair *p, const char *path)
{
	const struct elf_load *here, *there;
	size_t num = elf_file_loads(p->here, &here), len;
	const uint8_t *id, *other;
	uint32_t crc = 1, other_crc = 1;
	const char *link, *other_link;

	CHECK_MSG(num && elf_file_loads(p->there, &there) == num, "%s", path);
	for (size_t i = 0; i < num; i++)
		CHECK(here[i].offset == there[i].offset && here[i].vaddr == there[i].vaddr &&
		      here[i].filesz == there[i].filesz && here[i].memsz == there[i].memsz &&
		      here[i].executable == there[i].executable);
	len = elf_file_build_id(p->here, &id);
	CHECK(elf_file_build_id(p->there, &other) == len && !memcmp(id, other, len));
	link = elf_file_debuglink(p->here, &crc);
	other_link = elf_file_debuglink(p->there, &other_crc);
	CHECK(!link == !other_link && crc == other_crc && (!link || !strcmp(link, other_link)));
	CHECK(elf_file_is_go(p->here) == elf_file_is_go(p->there));
	CHECK(elf_file_machine(p->here) == elf_file_machine(p->there));
}

enum { STEP = 61, MAX_ASKED = 20000 };

/* Places all over the executable segments. */
static size_t list_vaddrs(const struct elf_file *f, uint64_t *ret)
{
	const struct elf_load *loads;
	size_t num_loads = elf_file_loads(f, &loads), num = 0;

	for (size_t i = 0; i < num_loads; i++) {
		for (uint64_t at = 0; loads[i].executable && at < loads[i].filesz && num < MAX_ASKED; at += STEP)
			ret[num++] = loads[i].vaddr + at;
	}
	return num;
}

static void test_names(const struct pair *p, const uint64_t *vaddrs, size_t num, const char *path)
{
	struct intern *strings = intern_new();
	struct symbol *there = calloc(num + 1, sizeof(*there));
	struct symtab *here = elf_file_resolve(p->here, vaddrs, num);
	size_t named = 0, wrong = 0;

	CHECK(elf_remote_names(p->there, strings, vaddrs, num, there));
	for (size_t i = 0; i < num; i++) {
		struct symtab_entry entry;
		bool found = symtab_answer(here, i, &entry);

		named += found;
		wrong += found ? !there[i].name || there[i].name != symbols_demangle(strings, entry.name) ||
					 there[i].offset != vaddrs[i] - entry.start
			       : there[i].name != NULL;
		wrong += elf_file_is_root(p->here, vaddrs[i]) != elf_file_is_root(p->there, vaddrs[i]);
	}
	CHECK_MSG(named > 10 && !wrong, "%s: %zu of %zu named, %zu of them otherwise", path, named, num, wrong);
	symtab_free(here);
	free(there);
	intern_free(strings);
}

static bool same_where(const struct rule_where *a, const struct rule_where *b)
{
	return a->how == b->how && a->num_ops == b->num_ops && a->first_op == b->first_op && a->value == b->value;
}

static bool same_ext(const struct rule_ext *a, const struct rule_ext *b)
{
	for (size_t i = 0; i < ARCH_MAX_REGS; i++) {
		if (!same_where(&a->reg[i], &b->reg[i]))
			return false;
	}
	if (a->signal != b->signal || a->cfa_reg != b->cfa_reg || a->num_ops != b->num_ops || !same_where(&a->cfa, &b->cfa))
		return false;
	for (size_t i = 0; i < a->num_ops; i++) {
		const struct rule_op *x = &a->ops[i], *y = &b->ops[i];

		if (x->atom != y->atom || x->number != y->number || x->number2 != y->number2 || x->offset != y->offset)
			return false;
	}
	return true;
}

static void test_rules(struct unwinder *u, const struct pair *p, const uint64_t *vaddrs, size_t num, const char *path)
{
	const struct file file = { .id = 1, .kind = FILE_ELF, .elf = p->there };
	size_t wrong = 0, exts = 0, rows = 0;

	for (size_t i = 0; i < num; i += 7) {
		size_t many = num - i < RULES_MANY ? num - i : RULES_MANY;
		uint64_t start, stop, other_start, other_stop;
		struct rule_ext ext, other;
		struct rule rule = rule_from_cfi(u->arch, p->here, vaddrs[i], &start, &stop, &ext);
		struct rule there = rules_ask(u, &file, vaddrs + i, many, &other_start, &other_stop, &other);

		wrong += memcmp(&rule, &there, sizeof(rule)) || start != other_start || stop != other_stop;
		if (rule.kind == RULE_EXT)
			wrong += !same_ext(&ext, &other);
		exts += rule.kind == RULE_EXT;
		rows += rule.kind == RULE_CFA;
		rule_ext_deinit(&ext);
		rule_ext_deinit(&other);
	}
	CHECK_MSG(rows > 10 && exts > 0 && !wrong, "%s: %zu rows, %zu large ones, %zu otherwise", path, rows, exts, wrong);
}

static int take_path(struct dl_phdr_info *info, size_t size, void *data)
{
	const char **ret = data;

	if (strstr(info->dlpi_name, "/libc.so"))
		*ret = info->dlpi_name;
	return 0;
}

static void test_same(void)
{
	struct process process = { 0 };
	const struct worker_opts opts = { .start = start, .data = &process };
	const struct unwind_opts unwind = { .arch = arch_host(), .max_frames = 8 };
	const char *paths[] = { "/proc/self/exe", NULL };
	uint64_t *vaddrs = calloc(MAX_ASKED, sizeof(*vaddrs));
	struct worker *w = worker_new(&opts);
	struct unwinder *u;

	CHECK(w && vaddrs && unwinder_new(&unwind, &u, NULL) == 0);
	dl_iterate_phdr(take_path, &paths[1]);
	for (size_t i = 0; i < 2 && paths[i]; i++) {
		struct pair p = { 0 };
		size_t num;

		CHECK(open_pair(paths[i], w, &p));
		test_heads(&p, paths[i]);
		num = list_vaddrs(p.here, vaddrs);
		test_names(&p, vaddrs, num, paths[i]);
		test_rules(u, &p, vaddrs, num, paths[i]);
		end(&process); /* a fresh one is told of the file */
		test_rules(u, &p, vaddrs, num / 20, paths[i]);
		close_pair(&p);
		unwinder_file_gone(u, 1);
	}
	CHECK(process.started == 3 || !paths[1]);
	unwinder_free(u);
	worker_free(w);
	end(&process);
	free(vaddrs);
}

/* A separate debug file is believed where it belongs, and told again to a fresh process. */
static void test_not_debug(void)
{
	struct process process = { 0 };
	const struct worker_opts opts = { .start = start, .data = &process };
	struct worker *w = worker_new(&opts);
	struct pair p = { 0 };
	const struct elf_load *loads;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	CHECK(open_pair("/proc/self/exe", w, &p) && fd >= 0);
	/* The file itself has its build-id and symbols, so it fits. */
	CHECK(elf_remote_add_debug(p.there, fd, size_of(fd)) == 0);
	CHECK(elf_remote_add_debug(p.there, dup(0), 0) == -EALREADY);
	end(&process);
	CHECK(elf_file_loads(p.there, &loads) > 0);
	close_pair(&p);
	CHECK(open_pair("/proc/self/exe", w, &p));
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	CHECK(elf_remote_add_debug(p.there, fd, size_of(fd)) == -EBADMSG);
	close_pair(&p);
	worker_free(w);
	end(&process);
}

/* The other process knows two files at most, and is told of the others again. */
static void test_many(void)
{
	struct process process = { 0 };
	const struct worker_opts opts = { .start = start, .data = &process };
	const struct unwind_opts unwind = { .arch = arch_host(), .max_frames = 8 };
	struct worker *w = worker_new(&opts);
	struct pair p[5] = { 0 };
	struct unwinder *u;
	uint64_t vaddrs[64];
	size_t num = 0;

	CHECK(unwinder_new(&unwind, &u, NULL) == 0);
	for (size_t i = 0; i < 5; i++) {
		CHECK(open_pair("/proc/self/exe", w, &p[i]));
		test_heads(&p[i], "one of many");
	}
	for (uint64_t *all = calloc(MAX_ASKED, sizeof(*all)); all; free(all), all = NULL) {
		for (size_t at = list_vaddrs(p[0].here, all) / 2; num < 64; num++)
			vaddrs[num] = all[at + num];
	}
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 5; i++) {
			const struct file file = { .id = (uint32_t)i + 1, .kind = FILE_ELF, .elf = p[i].there };
			uint64_t begin, stop, other_begin, other_stop;
			struct rule_ext ext, other;
			struct rule here = rule_from_cfi(u->arch, p[i].here, vaddrs[20 * round], &begin, &stop, &ext);
			struct rule there = rules_ask(u, &file, vaddrs + 20 * round, 1, &other_begin, &other_stop, &other);

			CHECK(here.kind == there.kind && begin == other_begin && stop == other_stop);
			rule_ext_deinit(&ext);
			rule_ext_deinit(&other);
		}
	}
	CHECK(process.started == 1);
	for (size_t i = 0; i < 5; i++)
		close_pair(&p[i]);
	unwinder_free(u);
	worker_free(w);
	end(&process);
}

static void test_vdso(void)
{
	const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
	struct process process = { 0 };
	const struct worker_opts opts = { .start = start, .data = &process };
	struct worker *w = worker_new(&opts);
	const struct elf_remote_opts remote = { .worker = w };
	const struct elf_load *loads;
	struct elf_file *f;

	if (ehdr) {
		size_t size = ehdr->e_shoff + (size_t)ehdr->e_shnum * ehdr->e_shentsize;

		CHECK(elf_remote_open_vdso(ehdr, size, &remote, &f, NULL) == 0);
		CHECK(elf_file_loads(f, &loads) == 1 && loads->executable);
		elf_file_free(f);
		end(&process);
	}
	worker_free(w);
}

static void count(void *data)
{
	++*(unsigned int *)data;
}

static void test_aside(void)
{
	struct process process = { .crashes = true };
	const struct worker_opts opts = { .start = start, .data = &process };
	struct worker *w = worker_new(&opts);
	unsigned int aside = 0;
	const struct elf_remote_opts remote = { .worker = w, .aside = count, .data = &aside };
	const struct elf_load *loads;
	const uint8_t *id;
	struct elf_file *f;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	CHECK(elf_remote_open(fd, size_of(fd), &remote, &f, NULL) == 0);
	CHECK_MSG(elf_file_loads(f, &loads) == 0 && aside == 1 && process.started == 3, "%u aside, %u started", aside,
		  process.started);
	CHECK(elf_file_build_id(f, &id) == 0 && aside == 1 && process.started == 3);
	elf_file_free(f);
	worker_free(w);
	end(&process);
}

/* ---- lies ---- */

struct bytes {
	size_t len;
	uint8_t data[512];
};

static void put(struct bytes *b, uint64_t value, size_t size)
{
	memcpy(b->data + b->len, &value, size);
	b->len += size;
}

static bool head_takes(const struct bytes *b)
{
	struct process process = { 0 };
	const struct worker_opts opts = { .start = start, .data = &process };
	struct worker *w = worker_new(&opts);
	const struct elf_remote_opts remote = { .worker = w };
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct reader r = reader_init(b->data, b->len);
	struct elf_file *f;
	bool ret;

	CHECK(elf_remote_open(fd, size_of(fd), &remote, &f, NULL) == 0);
	ret = elf_remote_take_head(f, &r) && !r.failed;
	elf_file_free(f);
	worker_free(w);
	return ret;
}

static void test_head_lies(void)
{
	static const struct {
		uint64_t offset, vaddr, filesz, memsz;
		bool sane;
	} loads[] = {
		{ 0x1000, 0x2000, 0x100, 0x100, true },
		{ 0x1000, 0x2000, 0x101, 0x100, false },
		{ UINT64_MAX, 0x2000, 2, 2, false },
		{ 0, UINT64_MAX, 0, 2, false },
	};
	static const struct {
		const char *name;
		bool sane;
	} links[] = { { "a.debug", true }, { "a/b", false }, { "..", false }, { "", false } };

	for (size_t i = 0; i < 4; i++) {
		struct bytes b = { 0 };

		put(&b, ELF_PART_LOAD, 1);
		put(&b, loads[i].offset, 8);
		put(&b, loads[i].vaddr, 8);
		put(&b, loads[i].filesz, 8);
		put(&b, loads[i].memsz, 8);
		put(&b, 1, 1);
		CHECK(head_takes(&b) == loads[i].sane);
		b.len--;
		CHECK(!head_takes(&b));
		b = (struct bytes){ 0 };
		put(&b, ELF_PART_DEBUGLINK, 1);
		put(&b, 0, 4);
		put(&b, strlen(links[i].name), 2);
		memcpy(b.data + b.len, links[i].name, strlen(links[i].name));
		b.len += strlen(links[i].name);
		CHECK(head_takes(&b) == links[i].sane);
		b = (struct bytes){ 0 };
		put(&b, ELF_PART_BASICS, 1);
		put(&b, 0, 1);
		put(&b, 0x1000, 8);
		put(&b, 0x1000 + (i < 2 ? 64 * i : 5000 * i), 8);
		CHECK(head_takes(&b) == (i == 1));
		b = (struct bytes){ 0 };
		put(&b, ELF_PART_GO_ROOT, 1);
		put(&b, 0x1000, 8);
		put(&b, 0x1000 + i, 8);
		put(&b, ELF_ROOT_NONE + i, 1);
		CHECK(head_takes(&b) == (i > 0 && ELF_ROOT_NONE + i < ELF_ROOT_NUM));
	}
}

static bool names_take(uint32_t first, uint32_t num, uint64_t start_at, size_t len)
{
	static const uint64_t vaddrs[] = { 100, 200, 300 };
	struct symbol symbols[3] = { 0 };
	struct intern *strings = intern_new();
	struct elf_names_taken taken = { strings, vaddrs, 3, symbols, false };
	struct bytes b = { 0 };
	struct reader r;
	bool ret;

	put(&b, first, 4);
	put(&b, num, 4);
	put(&b, start_at, 8);
	put(&b, len, 2);
	put(&b, 0x616161, 3);
	r = reader_init(b.data, b.len);
	ret = elf_remote_take_names(&taken, &r) && !r.failed;
	CHECK(!ret || (symbols[first].name && symbols[first].offset == vaddrs[first] - start_at));
	intern_free(strings);
	return ret;
}

static void test_name_lies(void)
{
	CHECK(names_take(0, 3, 100, 3) && names_take(2, 1, 0, 3));
	CHECK(!names_take(3, 1, 0, 3) && !names_take(0, 4, 0, 3) && !names_take(1, UINT32_MAX, 0, 3));
	CHECK(!names_take(0, 0, 0, 3) && !names_take(0, 1, 101, 3) && !names_take(0, 1, 0, 4));
	CHECK(!names_take(0, 1, 0, 65535));
}

static bool rule_takes(const struct rules_answer *a)
{
	uint8_t bytes[RULES_MAX_RECORD];
	struct reader r = reader_init(bytes, rules_encode(a, bytes));
	struct rules_answer got;
	bool ret = rules_decode(arch_host(), &r, &got) && !r.failed && !reader_left(&r);

	if (ret) {
		CHECK(!memcmp(&got.rule, &a->rule, sizeof(got.rule)));
		rule_ext_deinit(&got.ext);
	}
	return ret;
}

static void test_rule_lies(void)
{
	const uint8_t regs = arch_host()->num_regs;
	struct rule_op ops[2] = { { .atom = 0x70 }, { .atom = 0x22 } };
	struct rules_answer a = { .vaddr = 5, .start = 4, .end = 6, .rule.kind = RULE_CFA };

	CHECK(rule_takes(&a));
	a.vaddr = 6;
	CHECK(!rule_takes(&a));
	a.vaddr = 3;
	CHECK(!rule_takes(&a));
	a.vaddr = 5;
	a.rule.cfa_reg = regs;
	CHECK(!rule_takes(&a));
	a.rule.cfa_reg = 0;
	a.rule.slot[0] = 0xff;
	CHECK(!rule_takes(&a));
	a.rule.slot[0] = SLOT_UNDEFINED;
	CHECK(rule_takes(&a));
	a.rule.flags = RULE_GIVEN;
	CHECK(!rule_takes(&a));
	for (int kind = 0; kind < 16; kind++) {
		a.rule = (struct rule){ .kind = (uint8_t)(kind & 15), .ext = REASON_BAD_CFI };
		if (kind == RULE_EXT || kind == RULE_CFA)
			continue;
		CHECK_MSG(rule_takes(&a) == (kind == RULE_FP || kind == RULE_END || kind == RULE_BAD), "kind %d", kind);
	}
	a.rule = (struct rule){ .kind = RULE_BAD, .ext = REASON_NUM };
	CHECK(!rule_takes(&a));
	a.rule = (struct rule){ .kind = RULE_EXT };
	CHECK(!rule_takes(&a)); /* its CFA comes from nowhere */
	a.ext = (struct rule_ext){ .cfa.how = HOW_EXPR, .cfa.num_ops = 2, .ops = ops, .num_ops = 2 };
	CHECK(rule_takes(&a));
	a.ext.cfa.first_op = 1;
	CHECK(!rule_takes(&a));
	a.ext.cfa.first_op = UINT32_MAX;
	CHECK(!rule_takes(&a));
	a.ext.cfa = (struct rule_where){ .how = HOW_REGISTER };
	a.ext.reg[3] = (struct rule_where){ .how = HOW_REGISTER, .value = regs };
	CHECK(!rule_takes(&a));
	a.ext.reg[3] = (struct rule_where){ .how = HOW_REGISTER, .value = -1 };
	CHECK(!rule_takes(&a));
	a.ext.reg[3] = (struct rule_where){ .how = 99 };
	CHECK(!rule_takes(&a));
	a.ext.reg[3] = (struct rule_where){ .how = HOW_AT_EXPR };
	CHECK(!rule_takes(&a)); /* without operations */
	a.ext.reg[3] = (struct rule_where){ .how = HOW_AT_EXPR, .num_ops = 1, .first_op = 1 };
	CHECK(rule_takes(&a));
	a.ext.cfa_reg = regs;
	CHECK(!rule_takes(&a));
}

/* ---- code that is in no file ---- */

/* push rbp; sub rsp, 32; ..; ret; as a compiler tells of its 64 bytes. */
static const uint8_t jit_frame[] = { 20, 0, 0, 0,  0, 0, 0, 0,  1, 'z', 'R', 0,  1, 0x78, 16, 1,  0x1b, 0x0c, 7, 8,
				     0x90, 1, 0, 0,  28, 0, 0, 0,  28, 0, 0, 0,  0xa0, 0xff, 0xff, 0xff,  64, 0, 0, 0,
				     0, 0x41, 0x0e, 16, 0x86, 2, 0x44, 0x0e, 48, 0x4e, 0x0e, 16, 0x41, 0x0e, 8, 0xc6 };

static void test_jit(void)
{
	struct process p = { 0 };
	const struct worker_opts opts = { .start = start, .data = &p };
	struct worker *w = worker_new(&opts);
	const struct jit_cfi cfi = { jit_frame, sizeof(jit_frame), 0x7f0000001040 };
	struct rule here = { 0 }, there = { 0 };
	bool aside;

	for (uint64_t at = 0x7f0000000ff0; at < 0x7f0000001050; at++) {
		bool known = rule_from_jit(&arch_x86_64, &cfi, at, &here);

		CHECK(rule_from_jit_by(w, &arch_x86_64, &cfi, at, &there, &aside) == known && !aside);
		CHECK(known == (at >= 0x7f0000001000 && at < 0x7f0000001040));
		CHECK(!known || !memcmp(&here, &there, sizeof(here)));
	}
	CHECK(rule_from_jit_by(w, &arch_x86_64, &cfi, 0x7f0000001005, &there, &aside));
	CHECK(there.kind == RULE_CFA && there.cfa_reg == 7 && there.cfa_off8 == 6 && there.slot[0] == 1 &&
	      there.slot[1] == 2 && there.slot[2] == SLOT_SAME);
	CHECK(!rule_from_jit(&arch_aarch64, &cfi, 0x7f0000001005, &here));
	end(&p);
	worker_free(w);
}

static int serve_odd_jit(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct rules_answer answer = { .rule = { .kind = RULE_CFA, .cfa_reg = 7, .cfa_off8 = 1, .slot = { 1 } } };
	uint8_t record[RULES_MAX_RECORD];

	answer.vaddr = reader_u64(r) + 1; /* nobody asked for that */
	return worker_answer(call, record, rules_encode(&answer, record)) ? 0 : -EPIPE;
}

static void test_jit_lies(void)
{
	static const struct worker_service odd[] = { { RULES_JIT, serve_odd_jit }, { 0 } };
	struct process p = { .services = odd };
	const struct worker_opts opts = { .start = start, .data = &p };
	struct worker *w = worker_new(&opts);
	const struct jit_cfi cfi = { jit_frame, sizeof(jit_frame), 0x1040 };
	struct rule rule;
	bool aside = false;

	CHECK(!rule_from_jit_by(w, &arch_x86_64, &cfi, 0x1005, &rule, &aside));
	CHECK(aside && p.started == 3);
	end(&p);
	worker_free(w);
}

int main(void)
{
	test_same();
	test_not_debug();
	test_many();
	test_vdso();
	test_aside();
	test_head_lies();
	test_name_lies();
	test_rule_lies();
	test_jit();
	test_jit_lies();
	return check_done();
}
