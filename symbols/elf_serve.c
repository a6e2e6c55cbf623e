#include "symbols/elf_serve.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/writer.h"
#include "symbols/elf_cfi.h"
#include "symbols/elf_file_priv.h"
#include "symbols/elf_wire.h"
#include "symbols/inline.h"
#include "symbols/kallsyms.h"
#include "symbols/symbols.h"
#include "symbols/symtab.h"
#include "target/door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	MAX_VDSO = 64 << 10,
	MAX_INLINED = 64,
	PIECE_BYTES = 64 << 10,
};

/* What was told of a file at the recorder's end. */
struct told {
	int fd; /* -1: none, or the ELF file has it */
	uint64_t size, size_at_open;
	struct timespec mtime_at_open;
};

struct known {
	uint32_t id;
	enum elf_role role;
	struct told file, debug;
	bool tried;
	uint64_t used; /* when it was last asked for, in questions */
	struct elf_file *elf;
};
HTAB(known_tab, struct known, uint32_t, hash_u64(key), slot->id == key, hash_u64(slot->id));

struct elf_serve {
	struct known_tab files;
	struct cfi_room cfi_room;
	size_t max_files;
	uint64_t questions;
};

/* Each may have a second descriptor, of its debug file, and work needs a few. */
static size_t files_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 256)
		return 64;
	return limit.rlim_cur > 1u << 30 ? 1u << 29 : (size_t)limit.rlim_cur / 2 - 64;
}

struct elf_serve *elf_serve_new(size_t max_files)
{
	struct elf_serve *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->max_files = max_files ? max_files : files_limit();
	s->cfi_room.max = CFI_ROOM_BYTES;
	return s;
}

static void known_deinit(struct known *k)
{
	elf_file_free(k->elf);
	closep(&k->file.fd);
	closep(&k->debug.fd);
}

void elf_serve_free(struct elf_serve *s)
{
	struct known *slot;
	size_t cursor = 0;

	if (!s)
		return;
	while ((slot = known_tab_next(&s->files, &cursor)))
		known_deinit(slot);
	known_tab_deinit(&s->files);
	free(s);
}

/* ---- what is told ---- */

static bool read_told(struct reader *r, struct told *ret)
{
	ret->size = reader_u64(r);
	ret->size_at_open = reader_u64(r);
	ret->mtime_at_open.tv_sec = (time_t)reader_u64(r);
	ret->mtime_at_open.tv_nsec = (long)reader_u64(r);
	ret->fd = -1;
	return !r->failed;
}

/* Room for one more; `kept` stays. */
static void make_room(struct elf_serve *s, uint32_t kept)
{
	struct known *k, *oldest = NULL;
	size_t cursor = 0;

	if (s->files.len <= s->max_files)
		return;
	while ((k = known_tab_next(&s->files, &cursor))) {
		if (k->id != kept && (!oldest || k->used < oldest->used))
			oldest = k;
	}
	if (!oldest)
		return;
	known_deinit(oldest);
	known_tab_remove(&s->files, oldest->id);
}

static int serve_tell_file(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_serve *s = state;
	uint32_t id = reader_u32(r);
	uint8_t role = reader_u8(r);
	struct told told;
	struct known *k;
	bool added;

	if (!read_told(r, &told) || role >= ELF_NUM_ROLES)
		return -EBADMSG;
	told.fd = steal_fd(fd);
	k = known_tab_add(&s->files, id, &added);
	if (!k) {
		closep(&told.fd);
		return -ENOMEM;
	}
	if (role == ELF_ROLE_DEBUG && !added) {
		closep(&k->debug.fd);
		k->debug = told;
		return 0;
	}
	if (!added)
		known_deinit(k);
	*k = (struct known){ .id = id, .role = role, .file = told, .debug.fd = -1, .used = ++s->questions };
	make_room(s, id);
	return 0;
}

static int serve_tell_forget(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_serve *s = state;
	uint32_t id = reader_u32(r);
	struct known *k = known_tab_find(&s->files, id);

	if (k) {
		known_deinit(k);
		known_tab_remove(&s->files, id);
	}
	return 0;
}

static int serve_tell_nice(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	return setpriority(PRIO_PROCESS, 0, (int)reader_u32(r));
}

/* ---- files ---- */

/* A file of a test's is known by its build-id. */
static void obey_test(struct elf_file *elf)
{
#ifndef NDEBUG
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint8_t *id;
	size_t len = elf_file_build_id(elf, &id);

	strbuf_hex(&text, id, len);
	if (len && !text.failed)
		worker_obey_test(text.data);
#endif
}

static struct elf_file *open_told(struct told *told, enum elf_role role)
{
	const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	struct elf_file *elf = NULL;

	if (role == ELF_ROLE_VDSO) {
		if (vdso && told->size <= MAX_VDSO)
			elf_file_open_memory(vdso, told->size, &elf, NULL);
		return elf;
	}
	if (told->fd < 0 || elf_file_open_fd(steal_fd(&told->fd), told->size, &elf, NULL) < 0)
		return NULL;
	/* It may have changed between the recorder's look and ours. */
	elf->size_at_open = told->size_at_open;
	elf->mtime_at_open = told->mtime_at_open;
	return elf;
}

static struct elf_file *open_debug(struct told *told)
{
	struct elf_file *elf = NULL;

	if (told->fd >= 0)
		elf_file_open_fd(steal_fd(&told->fd), told->size, &elf, NULL);
	return elf;
}

static struct known *find(struct elf_serve *s, struct reader *r)
{
	struct known *k = known_tab_find(&s->files, reader_u32(r));

	if (r->failed || !k)
		return NULL;
	k->used = ++s->questions;
	if (!k->tried) {
		k->tried = true;
		k->elf = open_told(&k->file, k->role);
		if (k->elf) {
			elf_file_share_room(k->elf, &s->cfi_room);
			obey_test(k->elf);
		}
	}
	return k->elf ? k : NULL;
}

/* 0, or why the debug file that was told is none. */
static int add_debug(struct known *k)
{
	struct elf_file *debug = open_debug(&k->debug);

	return debug ? elf_file_add_debug(k->elf, debug, NULL) : -EBADMSG;
}

struct elf_file *elf_serve_file(struct elf_serve *s, struct reader *r)
{
	struct known *k = find(s, r);

	return k ? k->elf : NULL;
}

/* With the separate debug file that the recorder knows to belong to it. */
static struct elf_file *file_with_debug(struct elf_serve *s, struct reader *r)
{
	struct known *k = find(s, r);

	if (k && k->debug.fd >= 0)
		add_debug(k);
	return k ? k->elf : NULL;
}

static int serve_debug(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct known *k = find(state, r);

	if (!k)
		return -ENOEXEC;
	return k->elf->debug ? -EALREADY : add_debug(k);
}

bool elf_serve_rest(void *data)
{
	struct elf_serve *s = data;
	struct known *k;
	size_t cursor = 0;
	bool more = false;

	while ((k = known_tab_next(&s->files, &cursor))) {
		if (!k->elf)
			continue;
		elf_file_rest(k->elf);
		more |= k->elf->eh_frame.image || k->elf->debug_frame.image;
	}
	return more;
}

/* ---- answers ---- */

/* A record being put together; texts are cut so that all of one fits. */
enum { RECORD_BYTES = ELF_TEXT_MAX + ELF_TEXT_MAX / 2 };

static void add_text(struct writer *rec, const void *text, size_t len, size_t max)
{
	uint16_t cut = (uint16_t)(len < max ? len : max);

	writer_add(rec, &cut, sizeof(cut));
	writer_add(rec, text, cut);
}

static bool answer(struct worker_call *call, struct writer *rec)
{
	bool ok = worker_answer(call, rec->start, rec->len);

	rec->len = 0;
	return ok;
}

static void answer_loads(struct worker_call *call, const struct elf_file *f, struct writer *rec)
{
	for (size_t i = 0; i < f->loads.len; i++) {
		const struct elf_load *load = &f->loads.data[i];

		writer_u8(rec, ELF_PART_LOAD);
		writer_u64(rec, load->offset);
		writer_u64(rec, load->vaddr);
		writer_u64(rec, load->filesz);
		writer_u64(rec, load->memsz);
		writer_u8(rec, load->executable);
		answer(call, rec);
	}
}

static void answer_roots(struct worker_call *call, struct elf_file *f, struct writer *rec)
{
	uint64_t start;

	writer_u8(rec, ELF_PART_BASICS);
	writer_u8(rec, elf_file_is_go(f));
	writer_u64(rec, f->entry);
	elf_file_is_root(f, f->entry); /* finds both kinds of root */
	writer_u64(rec, f->entry_end);
	answer(call, rec);
	if (elf_file_is_go(f))
		elf_go_root(f, 0, &start);
	for (size_t i = 0; i < f->go_roots.len; i++) {
		writer_u8(rec, ELF_PART_GO_ROOT);
		writer_u64(rec, f->go_roots.data[i].start);
		writer_u64(rec, f->go_roots.data[i].end);
		writer_u8(rec, f->go_roots.data[i].kind);
		answer(call, rec);
	}
}

static int serve_head(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_file *f = elf_serve_file(state, r);
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));
	const char *link;
	const uint8_t *id;
	uint32_t crc = 0;
	size_t len;

	if (!f)
		return -ENOEXEC;
	answer_loads(call, f, &rec);
	len = elf_file_build_id(f, &id);
	writer_u8(&rec, ELF_PART_BUILD_ID);
	add_text(&rec, id, len, ELF_MAX_BUILD_ID);
	answer(call, &rec);
	link = elf_file_debuglink(f, &crc);
	if (link) {
		writer_u8(&rec, ELF_PART_DEBUGLINK);
		writer_u32(&rec, crc);
		add_text(&rec, link, strlen(link), ELF_TEXT_MAX);
		answer(call, &rec);
	}
	answer_roots(call, f, &rec);
	return 0;
}

/* The rest of a request: addresses, ascending. NULL: they are not, or memory is out. */
static uint64_t *read_addrs(struct reader *r, size_t *ret_num)
{
	size_t num = reader_left(r) / sizeof(uint64_t);
	uint64_t *addrs = malloc(num * sizeof(*addrs) + 1);

	*ret_num = num;
	for (size_t i = 0; addrs && i < num; i++) {
		addrs[i] = reader_u64(r);
		if (!i || addrs[i] >= addrs[i - 1])
			continue;
		free(addrs);
		return NULL;
	}
	return addrs;
}

static void intern_freep(struct intern **t)
{
	intern_free(*t);
}

/* Questions from `first` on that have the answer of `first`: their number. */
static size_t same_answers(const struct symtab *t, size_t first, size_t num, const struct symtab_entry *entry)
{
	struct symtab_entry next;
	size_t i = first + 1;

	while (i < num && symtab_answer(t, i, &next) && next.start == entry->start && next.name == entry->name)
		i++;
	return i - first;
}

/* What an answer begins with: which questions it is to, and what starts where. False: memory is out. */
static bool put_name(struct writer *rec, struct intern *strings, size_t first, size_t num, uint64_t start, const char *raw)
{
	const char *name = symbols_demangle(strings, raw);

	if (!name)
		return false;
	writer_u32(rec, (uint32_t)first);
	writer_u32(rec, (uint32_t)num);
	writer_u64(rec, start);
	add_text(rec, name, strlen(name), ELF_TEXT_MAX);
	return true;
}

static int answer_names(struct worker_call *call, const struct symtab *t, size_t num)
{
	_cleanup_(intern_freep) struct intern *strings = intern_new();
	struct symtab_entry entry;
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));

	if (!strings)
		return -ENOMEM;
	for (size_t i = 0, same; i < num; i += same) {
		same = 1;
		if (!symtab_answer(t, i, &entry))
			continue;
		same = same_answers(t, i, num, &entry);
		if (!put_name(&rec, strings, i, same, entry.start, entry.name))
			return -ENOMEM;
		if (!answer(call, &rec))
			return -EPIPE;
	}
	return 0;
}

static int serve_names(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_file *f = file_with_debug(state, r);
	_cleanup_(symtab_freep) struct symtab *t = NULL;
	_cleanup_free_ uint64_t *vaddrs = NULL;
	size_t num;

	if (!f)
		return -ENOEXEC;
	vaddrs = read_addrs(r, &num);
	t = vaddrs ? elf_file_resolve(f, vaddrs, num) : NULL;
	return t ? answer_names(call, t, num) : -ENOMEM;
}

/* ---- the kernel ---- */

static void kallsyms_freep(struct kallsyms **k)
{
	kallsyms_free(*k);
}

/* *empty: there was no text. 0 or -errno. */
static int feed(struct kallsyms *k, int fd, bool *empty)
{
	_cleanup_free_ char *piece = malloc(PIECE_BYTES);
	ssize_t n;

	/* A parser before us may have read from it. */
	if (!piece || lseek(fd, 0, SEEK_SET) < 0)
		return piece ? -errno : -ENOMEM;
	while ((n = door_read_piece(fd, piece, PIECE_BYTES)) > 0) {
		*empty = false;
		if (!kallsyms_feed(k, piece, (size_t)n))
			break;
	}
	return n < 0 ? (int)n : kallsyms_finish(k) ? 0 : -ENOMEM;
}

static int answer_kernel(struct worker_call *call, const struct kallsyms *k, size_t num)
{
	_cleanup_(intern_freep) struct intern *strings = intern_new();
	struct kallsyms_entry entry, next;
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));

	if (!strings)
		return -ENOMEM;
	for (size_t i = 0, same; i < num; i += same) {
		same = 1;
		if (!kallsyms_answer(k, i, &entry))
			continue;
		while (i + same < num && kallsyms_answer(k, i + same, &next) && next.start == entry.start &&
		       next.name == entry.name)
			same++;
		if (!put_name(&rec, strings, i, same, entry.start, entry.name)) /* Rust has come to the kernel */
			return -ENOMEM;
		add_text(&rec, entry.module, entry.module ? strlen(entry.module) : 0, ELF_TEXT_MAX / 4);
		if (!answer(call, &rec))
			return -EPIPE;
	}
	return 0;
}

static int serve_kernel(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	_cleanup_(kallsyms_freep) struct kallsyms *k = NULL;
	_cleanup_free_ uint64_t *addrs = NULL;
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));
	bool empty = true;
	size_t num;
	int result;

	if (*fd < 0)
		return -EMFILE; /* it did not arrive */
	addrs = read_addrs(r, &num);
	k = addrs ? kallsyms_new(addrs, num) : NULL;
	result = k ? feed(k, *fd, &empty) : -ENOMEM;
	if (result < 0)
		return result;
	writer_u32(&rec, UINT32_MAX);
	writer_u8(&rec, (uint8_t)((kallsyms_hidden(k) ? ELF_KERNEL_HIDDEN : 0) | (empty ? ELF_KERNEL_EMPTY : 0)));
	answer(call, &rec);
	return answer_kernel(call, k, num);
}

/* ---- inlined functions ---- */

/* struct inline_files */
static int want_beside(void *data, const char *name, const uint8_t *id, size_t id_len)
{
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));

	add_text(&rec, name, strlen(name), ELF_TEXT_MAX);
	add_text(&rec, id, id ? id_len : 0, ELF_MAX_BUILD_ID);
	return worker_want(data, rec.start, rec.len);
}

static struct inliner *open_inliner(struct elf_file *f, bool debug, struct worker_call *call, struct intern *strings)
{
	const struct inline_files files = { want_beside, call };
	int fd = elf_file_dup_fd(f, debug);
	struct inliner *in;

	return fd >= 0 && inliner_open(fd, &files, strings, &in, NULL) == 0 ? in : NULL;
}

static bool answer_inlined(struct worker_call *call, uint32_t at, const struct inline_frame *frames, size_t num)
{
	uint8_t bytes[RECORD_BYTES];
	struct writer rec = writer_init(bytes, sizeof(bytes));
	bool ok = true;

	for (size_t i = 0; i < num && ok; i++) {
		const char *file = frames[i].file;

		writer_u32(&rec, at);
		writer_u8(&rec, (uint8_t)(num - 1 - i));
		add_text(&rec, frames[i].name, strlen(frames[i].name), ELF_TEXT_MAX);
		add_text(&rec, file, file ? strlen(file) : 0, ELF_TEXT_MAX / 4);
		writer_u32(&rec, frames[i].line);
		ok = answer(call, &rec);
	}
	return ok;
}

static int find_inlined(struct elf_file *f, struct worker_call *call, struct intern *strings, const uint64_t *vaddrs,
			size_t num)
{
	struct inline_frame frames[MAX_INLINED];
	struct inliner *in = open_inliner(f, false, call, strings);
	bool ok = true;

	if (!in)
		in = open_inliner(f, true, call, strings);
	if (!in)
		return -ENODATA;
	for (size_t i = 0; i < num && ok; i++) {
		size_t found = inliner_find(in, vaddrs[i], frames, MAX_INLINED);

		if (found > 1)
			ok = answer_inlined(call, (uint32_t)i, frames, found);
	}
	inliner_free(in);
	return 0;
}

static int serve_inlined(void *state, struct worker_call *call, struct reader *r, int *fd)
{
	struct elf_file *f = file_with_debug(state, r);
	_cleanup_(intern_freep) struct intern *strings = f ? intern_new() : NULL;
	_cleanup_free_ uint64_t *vaddrs = NULL;
	size_t num;

	if (!f)
		return -ENOEXEC;
	vaddrs = read_addrs(r, &num);
	return strings && vaddrs ? find_inlined(f, call, strings, vaddrs, num) : -ENOMEM;
}

const struct worker_service elf_services[] = {
	{ ELF_TELL_FILE, serve_tell_file },
	{ ELF_TELL_FORGET, serve_tell_forget },
	{ ELF_TELL_NICE, serve_tell_nice },
	{ ELF_ASK_HEAD, serve_head },
	{ ELF_ASK_NAMES, serve_names },
	{ ELF_ASK_DEBUG, serve_debug },
	{ ELF_ASK_KERNEL, serve_kernel },
	{ ELF_ASK_INLINED, serve_inlined },
	{ 0 },
};
