#include "symbols/recorded_kernel.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/kallsyms.h"
#include "symbols/symbols.h"
#include "symbols/symtab.h"
#include "target/door.h"
#include "target/given.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

enum {
	PIECE_BYTES = 64 << 10,
	REF_BYTES = 1 << 20, /* the kernel's own text begins near the start of its list */
	MAX_MODULES = 1 << 14,
	MAX_ID_BYTES = 20,
	STRIDE_BYTES = 16 << 10,
	LINE_BYTES = 1024, /* names are shorter than 512 (KSYM_NAME_LEN, include/linux/kallsyms.h) */
	MIN_SEEK_BYTES = 256 << 10,
};

/* tools/perf/util/machine.c machine__mmap_name, kernel.kallsyms + name of the reference symbol. */
static const char kernel_path[] = "[kernel.kallsyms]";

struct module {
	uint64_t start, end;
	const char *name; /* interned */
};

struct recorded_kernel {
	struct recorded_kernel_opts opts;
	char release[65];
	enum offline_origin origin;
	uint8_t id[MAX_ID_BYTES];
	size_t id_len;
	/* Of the kernel's own text, and a symbol in it whose address was recorded; 0 = not told. */
	uint64_t start, end, ref_addr;
	char ref[32];
	VEC(struct module) modules;
	uint8_t own_id[MAX_ID_BYTES];
	size_t own_id_len;
	bool bounds_tried, bounds_equal; /* of its text and of our kernel's */
	char note[300];
};

/* ELF notes: three words (length of name and of description, type), then both, padded to words. */
static void read_own_id(struct recorded_kernel *k)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct reader r;

	if (door_read_text(k->opts.door, DOOR_KERNEL_NOTES, &text, NULL) < 0)
		return;
	r = reader_init(text.data, text.len);
	while (reader_left(&r)) {
		uint32_t name_len = reader_u32(&r), len = reader_u32(&r), type = reader_u32(&r);
		const char *name = reader_bytes(&r, ((size_t)name_len + 3) & ~(size_t)3);
		const uint8_t *id = reader_bytes(&r, ((size_t)len + 3) & ~(size_t)3);

		if (!name || !id)
			return;
		if (type == NT_GNU_BUILD_ID && name_len == sizeof(ELF_NOTE_GNU) &&
		    !memcmp(name, ELF_NOTE_GNU, name_len) && len && len <= MAX_ID_BYTES) {
			memcpy(k->own_id, id, len);
			k->own_id_len = len;
			return;
		}
	}
}

int recorded_kernel_new(const struct recorded_kernel_opts *opts, struct recorded_kernel **ret,
			struct err *err)
{
	struct recorded_kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return err_oom(err);
	k->opts = *opts;
	k->origin = OFFLINE_THIS_MACHINE;
	read_own_id(k);
	*ret = k;
	return 0;
}

void recorded_kernel_free(struct recorded_kernel *k)
{
	if (!k)
		return;
	vec_deinit(&k->modules);
	free(k);
}

void recorded_kernel_origin(struct recorded_kernel *k, const char *release, enum offline_origin origin)
{
	snprintf(k->release, sizeof(k->release), "%s", release ? release : "");
	k->origin = origin;
}

void recorded_kernel_build_id(struct recorded_kernel *k, const uint8_t *id, size_t len)
{
	if (!len || len > MAX_ID_BYTES)
		return;
	memcpy(k->id, id, len);
	k->id_len = len;
}

/* "/lib/modules/.../btrfs.ko.zst" and "[btrfs]" are both btrfs; the kernel turns '-' into '_'. */
static const char *module_name(struct recorded_kernel *k, const char *path, size_t len)
{
	const char *slash = memrchr(path, '/', len), *name = slash ? slash + 1 : path, *dot;
	char text[64];
	size_t num = len - (size_t)(name - path);

	if (num > 2 && name[0] == '[' && name[num - 1] == ']') {
		name++;
		num -= 2;
	}
	dot = memmem(name, num, ".ko", 3);
	num = dot ? (size_t)(dot - name) : num;
	if (!num || num >= sizeof(text))
		return NULL;
	for (size_t i = 0; i < num; i++)
		text[i] = name[i] == '-' ? '_' : name[i];
	return intern_mem(k->opts.strings, text, num);
}

bool recorded_kernel_mmap(struct recorded_kernel *k, const struct mmap_record *m)
{
	const size_t prefix = sizeof(kernel_path) - 1;
	struct module module = { .start = m->start };

	if (__builtin_add_overflow(m->start, m->len, &module.end) || !m->path_len)
		return true;
	if (m->path_len >= prefix && !memcmp(m->path, kernel_path, prefix)) {
		k->start = m->start;
		k->end = module.end;
		k->ref_addr = m->pgoff;
		snprintf(k->ref, sizeof(k->ref), "%s", m->path + prefix);
		recorded_kernel_build_id(k, m->build_id, m->build_id_len);
		return true;
	}
	if (k->modules.len >= MAX_MODULES)
		return true;
	module.name = module_name(k, m->path, m->path_len);
	return !module.name || vec_push(&k->modules, module);
}

bool recorded_kernel_lay_here(const struct recorded_kernel *k)
{
	return !k->id_len && !*k->release && k->bounds_equal;
}

/* ---- one batch ---- */

/* Where names come from, and how addresses of the recording become its own. */
struct list {
	int fd;               /* of a text; -1 = none */
	struct elf_file *elf; /* of a vmlinux; NULL = none */
	uint64_t shift;       /* added to addresses of the kernel's own text */
	bool modules;         /* it knows the modules where they were */
	struct strbuf begin;  /* of the text: what was read of it already */
};

static void list_deinit(struct list *l)
{
	closep(&l->fd);
	elf_file_free(l->elf);
	strbuf_deinit(&l->begin);
}

static bool in_own_text(const struct recorded_kernel *k, uint64_t addr)
{
	return k->end ? addr >= k->start && addr < k->end : true;
}

/* Address of a symbol in the whole lines of a text; 0 = not there (yet). */
static uint64_t symbol_addr(const struct strbuf *text, const char *name)
{
	const char *last = text->len ? memrchr(text->data, '\n', text->len) : NULL;
	struct reader r = reader_init(text->data, last ? (size_t)(last - text->data) : 0);
	size_t want = strlen(name), len;
	const char *line;

	while (reader_line(&r, &line, &len)) {
		if (len > want + 4 && !memcmp(line + len - want, name, want) &&
		    line[len - want - 1] == ' ')
			return strtoull(line, NULL, 16);
	}
	return 0;
}

/* Addresses of two symbols in the list of our own kernel; 0 = not there, or hidden. */
static void find_own(struct recorded_kernel *k, const char *const names[2], uint64_t addrs[2])
{
	_cleanup_close_ int fd = door_open_text(k->opts.door, DOOR_KALLSYMS, NULL);
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	addrs[0] = addrs[1] = 0;
	while (fd >= 0 && !(addrs[0] && addrs[1]) && strbuf_reserve(&text, PIECE_BYTES)) {
		ssize_t n = door_read_piece(fd, text.data + text.len, PIECE_BYTES);
		const char *last;

		if (n <= 0)
			return;
		text.len += (size_t)n;
		text.data[text.len] = '\0';
		for (size_t i = 0; i < 2; i++)
			addrs[i] = addrs[i] ? addrs[i] : symbol_addr(&text, names[i]);
		/* A line that is not whole yet is looked at again. */
		last = memrchr(text.data, '\n', text.len);
		if (last) {
			text.len -= (size_t)(last + 1 - text.data);
			memmove(text.data, last + 1, text.len + 1);
		}
	}
}

static bool has_own_bounds(struct recorded_kernel *k)
{
	const char *const names[] = { k->ref, "_etext" };
	uint64_t addrs[2];

	if (k->bounds_tried || !k->ref_addr || !*k->ref)
		return k->bounds_equal;
	k->bounds_tried = true;
	find_own(k, names, addrs);
	k->bounds_equal = addrs[0] == k->ref_addr && addrs[1] == k->end;
	return k->bounds_equal;
}

bool recorded_kernel_is_ours(struct recorded_kernel *k)
{
	struct utsname own;

	if (k->id_len)
		return k->own_id_len == k->id_len && !memcmp(k->own_id, k->id, k->id_len);
	if (k->origin == OFFLINE_ELSEWHERE)
		return false;
	if (!*k->release)
		return has_own_bounds(k);
	return uname(&own) == 0 && !strcmp(own.release, k->release);
}

/* Reads until the reference symbol was found: its address in the list, or 0. */
static uint64_t find_ref(const struct recorded_kernel *k, struct list *l)
{
	uint64_t ret = 0;
	ssize_t n;

	while (!ret && l->begin.len < REF_BYTES) {
		if (!strbuf_reserve(&l->begin, PIECE_BYTES))
			return 0;
		n = door_read_piece(l->fd, l->begin.data + l->begin.len, PIECE_BYTES);
		if (n <= 0)
			return 0;
		l->begin.len += (size_t)n;
		l->begin.data[l->begin.len] = '\0';
		ret = *k->ref ? symbol_addr(&l->begin, k->ref) : 1;
	}
	return *k->ref ? ret : 0;
}

static bool text_is_hidden(const struct list *l)
{
	return !strncmp(l->begin.data ? l->begin.data : "", "0000000000000000 ", 17) &&
	       !symbol_addr(&l->begin, "_text") && !symbol_addr(&l->begin, "_stext");
}

/* Takes the descriptor. `at_boot`: the list is that of the boot that was recorded, if that is this one. */
static bool use_text(struct recorded_kernel *k, struct list *l, int fd, bool at_boot)
{
	uint64_t ref;

	l->fd = fd;
	ref = find_ref(k, l);
	if (text_is_hidden(l)) {
		snprintf(k->note, sizeof(k->note),
			 "kernel symbols are hidden (kernel.kptr_restrict): run as root or with "
			 "CAP_SYSLOG");
		return false;
	}
	if (k->ref_addr && ref) {
		l->shift = ref - k->ref_addr;
		l->modules = at_boot && !l->shift;
		return true;
	}
	/* Nothing tells where the kernel lay then. */
	l->modules = at_boot;
	return at_boot;
}

static bool same_id(const struct recorded_kernel *k, struct elf_file *elf)
{
	const uint8_t *id;
	size_t len = elf_file_build_id(elf, &id);

	return len == k->id_len && !memcmp(id, k->id, len);
}

/* _text is where the first executable segment begins (arch/x86/kernel/vmlinux.lds.S, and others alike). */
static bool use_vmlinux(struct recorded_kernel *k, struct list *l, struct elf_file *elf)
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(elf, &loads);

	l->elf = elf;
	for (size_t i = 0; i < num; i++) {
		if (!loads[i].executable)
			continue;
		l->shift = k->ref_addr ? loads[i].vaddr - k->ref_addr : 0;
		return true;
	}
	return false;
}

static bool use_given_vmlinux(struct recorded_kernel *k, struct list *l)
{
	struct err err = { 0 };
	struct elf_file *elf;
	off_t size;
	int fd;

	if (given_open(k->opts.vmlinux, &fd, &err) < 0)
		goto fail;
	size = lseek(fd, 0, SEEK_END);
	if (elf_file_open_fd(fd, size > 0 ? (uint64_t)size : 0, &elf, &err) < 0) {
		err_prefix(&err, "%s", k->opts.vmlinux);
		goto fail;
	}
	if (k->id_len && !same_id(k, elf)) {
		elf_file_free(elf);
		err_set(&err, ESTALE, "%s is not the kernel that was recorded: its build-id is another",
			k->opts.vmlinux);
		goto fail;
	}
	return use_vmlinux(k, l, elf);
fail:
	snprintf(k->note, sizeof(k->note), "no kernel symbols: %.240s", err.msg);
	return false;
}

static bool use_given_text(struct recorded_kernel *k, struct list *l)
{
	struct err err = { 0 };
	int fd;

	if (given_open(k->opts.kallsyms, &fd, &err) < 0) {
		snprintf(k->note, sizeof(k->note), "no kernel symbols: %.240s", err.msg);
		return false;
	}
	return use_text(k, l, fd, true);
}

static bool use_own(struct recorded_kernel *k, struct list *l)
{
	int fd;

	if (!recorded_kernel_is_ours(k))
		return false;
	fd = door_open_text(k->opts.door, DOOR_KALLSYMS, NULL);
	return fd >= 0 && use_text(k, l, fd, k->origin == OFFLINE_THIS_BOOT);
}

static bool use_cached(struct recorded_kernel *k, struct list *l)
{
	struct offline_wish wish = { .path = kernel_path, .build_id = k->id,
				     .build_id_len = k->id_len };
	enum door_refusal refusal;
	struct door_file file;

	return k->id_len &&
	       offline_find(k->opts.offline, OFFLINE_KALLSYMS, &wish, 0, &refusal, &file) &&
	       refusal == DOOR_OK && use_text(k, l, file.fd, false);
}

static bool use_found(struct recorded_kernel *k, struct list *l, const char *path, size_t place)
{
	struct offline_wish wish = { .path = path, .build_id = k->id, .build_id_len = k->id_len };
	enum door_refusal refusal;
	struct door_file file;
	struct elf_file *elf;

	if (!offline_find(k->opts.offline, OFFLINE_ELF, &wish, place, &refusal, &file) ||
	    refusal != DOOR_OK || elf_file_open_fd(file.fd, file.size, &elf, NULL) < 0)
		return false;
	if (same_id(k, elf) && use_vmlinux(k, l, elf))
		return true;
	elf_file_free(elf);
	l->elf = NULL;
	return false;
}

/* Where distributions put it, then by build-id alone. */
static bool use_installed(struct recorded_kernel *k, struct list *l)
{
	static const struct {
		const char *before, *behind; /* the release */
	} paths[] = {
		{ "/usr/lib/debug/boot/vmlinux-", "" },
		{ "/usr/lib/debug/lib/modules/", "/vmlinux" },
		{ "/lib/modules/", "/build/vmlinux" },
		{ "/boot/vmlinux-", "" },
	};
	enum { LAST_PLACE = 6 }; /* of offline_find; place 0 is the path */
	char path[160];

	if (!k->id_len || strchr(k->release, '/'))
		return false;
	for (size_t i = 0; *k->release && i < sizeof(paths) / sizeof(paths[0]); i++) {
		snprintf(path, sizeof(path), "%s%s%s", paths[i].before, k->release,
			 paths[i].behind);
		if (use_found(k, l, path, 0))
			return true;
	}
	for (size_t place = 1; place <= LAST_PLACE; place++) {
		if (use_found(k, l, "vmlinux", place))
			return true;
	}
	return false;
}

/* The kernel takes 25 ms to write its list, and a file with the same is read in 3; but only it knows its modules. */
static bool choose(struct recorded_kernel *k, struct list *l, bool own_text_only)
{
	bool (*const ways[])(struct recorded_kernel *k, struct list *l) = {
		own_text_only ? use_cached : use_own,
		own_text_only ? use_own : use_cached,
		use_installed,
	};

	if (k->opts.kallsyms)
		return use_given_text(k, l);
	if (k->opts.vmlinux)
		return use_given_vmlinux(k, l);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (ways[i](k, l))
			return true;
		list_deinit(l);
		*l = (struct list){ .fd = -1 };
	}
	if (*k->note)
		return false;
	snprintf(k->note, sizeof(k->note),
		 "no kernel symbols: this machine does not run the kernel that was recorded%s%.64s%s; "
		 "--kallsyms or --vmlinux FILE names its own",
		 *k->release ? " (" : "", k->release, *k->release ? ")" : "");
	return false;
}

static const struct module *module_at(const struct recorded_kernel *k, uint64_t addr)
{
	for (size_t i = 0; i < k->modules.len; i++) {
		const struct module *m = &k->modules.data[i];

		if (addr >= m->start && addr < m->end)
			return m;
	}
	return NULL;
}

/* The addresses that a list can be asked for, as it numbers them. */
struct asked {
	uint64_t *addrs;
	size_t *index; /* in the batch */
	size_t num;
};

static void asked_deinit(struct asked *a)
{
	free(a->addrs);
	free(a->index);
}

static bool ask(const struct recorded_kernel *k, const struct list *l, const uint64_t *addrs,
		size_t num, struct asked *ret)
{
	ret->addrs = calloc(num, sizeof(*ret->addrs));
	ret->index = calloc(num, sizeof(*ret->index));
	if (!ret->addrs || !ret->index)
		return false;
	for (size_t i = 0; i < num; i++) {
		bool own = in_own_text(k, addrs[i]);

		if (!own && !l->modules)
			continue;
		ret->addrs[ret->num] = own ? addrs[i] + l->shift : addrs[i];
		ret->index[ret->num++] = i;
	}
	return true;
}

static bool set_name(struct recorded_kernel *k, const char *raw, uint64_t offset,
		     struct symbol *ret)
{
	*ret = (struct symbol){ .name = symbols_demangle(k->opts.strings, raw), .offset = offset };
	return ret->name;
}

/* Modules come and go: an address that was another module's then, or of one that lay elsewhere, has no name now. */
static bool fits(const struct recorded_kernel *k, uint64_t addr, const struct kallsyms_entry *answer)
{
	const struct module *m = module_at(k, addr);

	if (k->end && in_own_text(k, addr))
		return !answer->module;
	return !m || (answer->module && !strcmp(m->name, answer->module) &&
		      answer->start >= m->start);
}

/*
 * A list in a file is in order as far as the kernel's own text goes, so most of it can be passed over. Where pieces
 * of it begin, each at the start of a line.
 */
struct stride {
	uint64_t offset; /* in the file */
	uint64_t addr;   /* of that line's symbol */
};

struct strides {
	VEC(struct stride) list;
	uint64_t size; /* of the file */
};

/* What a line begins with: its address, and whether it is a constant, which no code is called. */
static bool look_at(const char *line, uint64_t *ret_addr, bool *ret_absolute)
{
	const char *end = kallsyms_address(line, line + LINE_BYTES, ret_addr); /* or up to the NUL behind all */

	*ret_absolute = end && *end == ' ' && (end[1] == 'a' || end[1] == 'A');
	return end && *end == ' ';
}

/* The first line that begins behind `offset`, or at 0. False: none in the next bytes, or it is malformed. */
static bool line_at(int fd, uint64_t size, uint64_t offset, struct stride *ret)
{
	char text[LINE_BYTES + 1], *line = text;
	size_t len = size - offset < LINE_BYTES ? (size_t)(size - offset) : LINE_BYTES;
	bool absolute;

	if (door_pread(fd, text, len, offset) < 0)
		return false;
	text[len] = '\0';
	if (offset) {
		line = memchr(text, '\n', len);
		line = line ? line + 1 : text + len;
	}
	ret->offset = offset + (uint64_t)(line - text);
	return look_at(line, &ret->addr, &absolute);
}

/* True when the file's lines ascend beyond `last`. */
static bool find_strides(int fd, uint64_t last, struct strides *ret)
{
	for (uint64_t at = 0; at < ret->size; at += STRIDE_BYTES) {
		struct stride stride;

		if (!line_at(fd, ret->size, at, &stride))
			return false;
		if (ret->list.len && stride.addr < ret->list.data[ret->list.len - 1].addr)
			return false;
		if (!vec_push(&ret->list, stride))
			return false;
		if (stride.addr > last)
			return true;
	}
	return false;
}

static const char *line_of(const char *text, const char *at)
{
	const char *eol = memrchr(text, '\n', (size_t)(at - text));

	return eol ? eol + 1 : text;
}

static const char *next_line(const char *line, const char *end)
{
	const char *eol = memchr(line, '\n', (size_t)(end - line));

	return eol ? eol + 1 : end;
}

/* The first line of a symbol behind `addr`, or the end; NULL where one is malformed. */
static const char *first_behind(const char *text, const char *end, uint64_t addr)
{
	const char *low = text, *high = end;

	while (low < high) {
		const char *line = line_of(low, low + (high - low) / 2);
		bool absolute;
		uint64_t at;

		if (!look_at(line, &at, &absolute))
			return NULL;
		if (at > addr)
			high = line;
		else
			low = next_line(line, high);
	}
	return low;
}

/* Where the lines of the symbol before `behind` begin: it may have several names, and constants are none. */
static const char *first_of_last(const char *text, const char *behind)
{
	const char *ret = behind;
	bool absolute, any = false;
	uint64_t addr = 0, at;

	while (ret > text) {
		const char *line = line_of(text, ret - 1);

		if (!look_at(line, &at, &absolute))
			return NULL;
		if (!absolute && any && at != addr)
			break;
		addr = absolute ? addr : at;
		any |= !absolute;
		ret = line;
	}
	return ret;
}

/* Where the line of the first symbol from `behind` on ends. */
static const char *end_of_next(const char *behind, const char *end)
{
	bool absolute = true;
	uint64_t addr;

	while (absolute && behind < end) {
		if (!look_at(behind, &addr, &absolute))
			return NULL;
		behind = next_line(behind, end);
	}
	return behind;
}

/* Of lines in order, those that tell what lies at the addresses; false: not all are as they should be. */
static bool feed_answers(const char *text, const char *end, const uint64_t *addrs, size_t num,
			 struct kallsyms *list)
{
	const char *fed = text;

	for (size_t i = 0; i < num; i++) {
		const char *behind = first_behind(text, end, addrs[i]);
		const char *from = behind ? first_of_last(text, behind) : NULL;
		const char *to = behind ? end_of_next(behind, end) : NULL;

		if (!from || !to)
			return false;
		if (from < fed)
			from = fed;
		if (from >= to)
			continue;
		kallsyms_feed(list, from, (size_t)(to - from));
		fed = to;
	}
	return true;
}

/* Of the lines from one stride to the first of the next. */
static bool feed_stride(int fd, uint64_t size, const struct stride *stride, const uint64_t *addrs, size_t num,
			struct kallsyms *list)
{
	uint64_t from = stride[0].offset, to = stride[1].offset;
	size_t len = (size_t)(size - from < to - from + LINE_BYTES ? size - from : to - from + LINE_BYTES);
	_cleanup_free_ char *text = malloc(len + 1);
	const char *end;

	if (!text || door_pread(fd, text, len, from) < 0)
		return false;
	text[len] = '\0';
	end = memchr(text + (to - from), '\n', len - (size_t)(to - from));
	if (!end)
		return false;
	if (!feed_answers(text, end + 1, addrs, num, list))
		kallsyms_feed(list, text, (size_t)(end - text) + 1);
	return true;
}

/* Only what lies around the addresses; false: all of it must be read. */
static bool feed_around(const struct list *l, const struct asked *asked, struct kallsyms *list)
{
	struct strides strides = { 0 };
	struct stat st;
	bool ok;

	if (fstat(l->fd, &st) < 0 || st.st_size < MIN_SEEK_BYTES || l->modules)
		return false;
	strides.size = (uint64_t)st.st_size;
	ok = find_strides(l->fd, asked->addrs[asked->num - 1], &strides);
	for (size_t i = 0, at = 0; ok && i + 1 < strides.list.len; i++) {
		const struct stride *stride = &strides.list.data[i];
		size_t first;

		while (at < asked->num && asked->addrs[at] < stride[0].addr)
			at++;
		for (first = at; at < asked->num && asked->addrs[at] < stride[1].addr;)
			at++;
		if (at > first)
			ok = feed_stride(l->fd, strides.size, stride, asked->addrs + first, at - first, list);
	}
	vec_deinit(&strides.list);
	return ok;
}

static bool feed_all(struct list *l, struct kallsyms *list)
{
	_cleanup_free_ char *piece = malloc(PIECE_BYTES);
	bool more = piece && kallsyms_feed(list, l->begin.data, l->begin.len);
	ssize_t n;

	while (more && (n = door_read_piece(l->fd, piece, PIECE_BYTES)) > 0)
		more = kallsyms_feed(list, piece, (size_t)n);
	return piece;
}

static bool name_by_text(struct recorded_kernel *k, struct list *l, const struct asked *asked,
			 const uint64_t *addrs, struct symbol *ret, const char **modules)
{
	struct kallsyms *list = kallsyms_new(asked->addrs, asked->num);
	bool ok = list && (feed_around(l, asked, list) || feed_all(l, list)) && kallsyms_finish(list);

	for (size_t i = 0; ok && i < asked->num; i++) {
		size_t at = asked->index[i];
		struct kallsyms_entry entry;

		if (!kallsyms_answer(list, i, &entry) || !fits(k, addrs[at], &entry))
			continue;
		ok = set_name(k, entry.name, asked->addrs[i] - entry.start, &ret[at]);
		if (entry.module)
			modules[at] = intern_str(k->opts.strings, entry.module);
	}
	kallsyms_free(list);
	return ok;
}

static bool name_by_elf(struct recorded_kernel *k, struct list *l, const struct asked *asked,
			struct symbol *ret)
{
	struct symtab *table = elf_file_resolve(l->elf, asked->addrs, asked->num);
	bool ok = table;

	for (size_t i = 0; ok && i < asked->num; i++) {
		struct symtab_entry entry;

		if (symtab_answer(table, i, &entry))
			ok = set_name(k, entry.name, asked->addrs[i] - entry.start,
				      &ret[asked->index[i]]);
	}
	symtab_free(table);
	return ok;
}

/* A list that was given by mistake names nothing. */
static void note_useless_list(struct recorded_kernel *k, const struct symbol *symbols, const struct asked *asked)
{
	for (size_t i = 0; i < asked->num; i++) {
		if (symbols[asked->index[i]].name)
			return;
	}
	snprintf(k->note, sizeof(k->note), "no kernel symbols: %.200s names none of the %zu addresses in the kernel",
		 k->opts.kallsyms, asked->num);
}

bool recorded_kernel_batch(struct recorded_kernel *k, const uint64_t *addrs, size_t num,
			   struct symbol *ret, const char **modules)
{
	_cleanup_(list_deinit) struct list list = { .fd = -1 };
	_cleanup_(asked_deinit) struct asked asked = { 0 };
	bool own_text_only = k->end != 0;

	for (size_t i = 0; i < num; i++) {
		const struct module *m = module_at(k, addrs[i]);

		own_text_only &= in_own_text(k, addrs[i]);
		ret[i] = (struct symbol){ 0 };
		modules[i] = m ? m->name : NULL;
	}
	k->note[0] = '\0';
	if (!num || !choose(k, &list, own_text_only))
		return true;
	k->note[0] = '\0';
	if (!ask(k, &list, addrs, num, &asked))
		return false;
	/* Without bounds a shift may carry some past the end of the address space. */
	for (size_t i = 1; i < asked.num; i++) {
		if (asked.addrs[i - 1] > asked.addrs[i])
			return true;
	}
	if (!asked.num)
		return true;
	if (list.elf)
		return name_by_elf(k, &list, &asked, ret);
	if (!name_by_text(k, &list, &asked, addrs, ret, modules))
		return false;
	if (k->opts.kallsyms)
		note_useless_list(k, ret, &asked);
	return true;
}

const char *recorded_kernel_note(const struct recorded_kernel *k)
{
	return k->note[0] ? k->note : NULL;
}
