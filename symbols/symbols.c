#include "symbols/symbols.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "symbols/kallsyms.h"
#include "symbols/ksymbols.h"
#include "symbols/recorded_kernel.h"
#include "symbols/symtab.h"
#include "target/door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 64 << 10 };

struct symbols {
	struct symbols_opts opts;
	VEC(struct symbol_source) sources;
	VEC(struct file_source) file_sources;
	struct ksymbols *ksymbols;
	char kernel_note[200]; /* "" = all is well */
};

int symbols_new(const struct symbols_opts *opts, struct symbols **ret, struct err *err)
{
	struct symbols *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(err);
	s->opts = *opts;
	*ret = s;
	return 0;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].free)
			s->sources.data[i].free(s->sources.data[i].data);
	}
	vec_deinit(&s->sources);
	vec_deinit(&s->file_sources);
	ksymbols_free(s->ksymbols);
	free(s);
}

/* Names that a function's places share are demangled once: they follow each other. */
struct memo {
	const char *raw, *name;
};

static bool set_symbol(struct symbols *s, struct memo *memo, const char *raw, uint64_t offset,
		       struct symbol *ret)
{
	if (!memo->raw || strcmp(raw, memo->raw)) {
		memo->raw = raw;
		memo->name = symbols_demangle(s->opts.strings, raw);
	}
	*ret = (struct symbol){ .name = memo->name, .offset = offset };
	return memo->name;
}

/* False when out of memory. */
static bool name_places(struct symbols *s, const struct symtab *t, const uint64_t *vaddrs,
			size_t num, struct symbol *ret)
{
	struct memo memo = { 0 };

	for (size_t i = 0; i < num; i++) {
		struct symtab_entry entry;

		if (symtab_answer(t, i, &entry) &&
		    !set_symbol(s, &memo, entry.name, vaddrs[i] - entry.start, &ret[i]))
			return false;
	}
	return true;
}

static bool all_known(const struct symtab *t, size_t num)
{
	struct symtab_entry entry;

	for (size_t i = 0; i < num; i++) {
		if (!symtab_answer(t, i, &entry))
			return false;
	}
	return true;
}

/* The same of a file that is parsed elsewhere. */
static bool name_remote(struct symbols *s, struct file *file, const uint64_t *vaddrs, size_t num, struct symbol *ret)
{
	bool known = true;

	if (!elf_remote_names(file->elf, s->opts.strings, vaddrs, num, ret))
		return false;
	for (size_t i = 0; i < num; i++)
		known &= ret[i].name != NULL;
	if (known || file->debug_tried || !files_find_debug(s->opts.files, file))
		return true;
	return elf_remote_names(file->elf, s->opts.strings, vaddrs, num, ret);
}

bool symbols_file_batch(struct symbols *s, struct file *file, const uint64_t *vaddrs, size_t num,
			struct symbol *ret)
{
	_cleanup_(symtab_freep) struct symtab *own = NULL, *debug = NULL;

	for (size_t i = 0; i < num; i++)
		ret[i] = (struct symbol){ 0 };
	if (!file->elf || !num)
		return true;
	if (elf_file_is_remote(file->elf))
		return name_remote(s, file, vaddrs, num, ret);
	own = elf_file_resolve(file->elf, vaddrs, num);
	if (!own)
		return false;
	if (file->debug_tried || all_known(own, num))
		return name_places(s, own, vaddrs, num, ret);
	/* A stripped file names its exported functions only; the rest is in its debug file. */
	if (!files_find_debug(s->opts.files, file))
		return name_places(s, own, vaddrs, num, ret);
	symtab_free(own);
	own = NULL;
	debug = elf_file_resolve(file->elf, vaddrs, num);
	return debug && name_places(s, debug, vaddrs, num, ret);
}

int symbols_add_file_source(struct symbols *s, const struct file_source *source, struct err *err)
{
	return vec_push(&s->file_sources, *source) ? 0 : err_oom(err);
}

bool symbols_offset_batch(struct symbols *s, struct file *file, const uint64_t *offsets, size_t num,
			  struct symbol *ret)
{
	for (size_t i = 0; i < num; i++)
		ret[i] = (struct symbol){ 0 };
	for (size_t i = 0; num && i < s->file_sources.len; i++) {
		const struct file_source *source = &s->file_sources.data[i];

		if (!source->names(source->data, file, offsets, num, ret))
			return false;
	}
	return true;
}

/* kernel/ksyms_common.c kallsyms_show_value: who may see addresses. */
static void note_hidden(struct symbols *s)
{
	struct strbuf text = { 0 };
	char level = '?';

	if (s->opts.door && door_read_text(s->opts.door, DOOR_KPTR_RESTRICT, &text, NULL) == 0 &&
	    text.len)
		level = text.data[0];
	strbuf_deinit(&text);
	if (level == '2')
		strcpy(s->kernel_note,
		       "kernel symbols are hidden from everyone (kernel.kptr_restrict is 2): "
		       "set it to 1 with sysctl and run as root");
	else
		strcpy(s->kernel_note,
		       "kernel symbols are hidden (kernel.kptr_restrict): run as root or with "
		       "CAP_SYSLOG");
}

static void kallsyms_freep(struct kallsyms **k)
{
	kallsyms_free(*k);
}

/* 0, or -errno: the text could not be read, or was empty. */
static int read_kernel(struct symbols *s, struct kallsyms *k)
{
	_cleanup_close_ int fd =
		s->opts.door ? door_open_text(s->opts.door, DOOR_KALLSYMS, NULL) : -ENOENT;
	_cleanup_free_ char *piece = malloc(PIECE_BYTES);
	size_t got = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (!piece)
		return -ENOMEM;
	while ((n = door_read_piece(fd, piece, PIECE_BYTES)) > 0) {
		got += (size_t)n;
		if (!kallsyms_feed(k, piece, (size_t)n))
			break;
	}
	if (!kallsyms_finish(k))
		return -ENOMEM;
	return n < 0 ? (int)n : got ? 0 : -ENODATA;
}

/* False when out of memory. */
static bool name_kernel(struct symbols *s, const struct kallsyms *k, const uint64_t *addrs,
			size_t num, struct symbol *ret, const char **modules)
{
	struct memo memo = { 0 }; /* Rust has come to the kernel */

	for (size_t i = 0; i < num; i++) {
		struct kallsyms_entry entry;

		if (!kallsyms_answer(k, i, &entry))
			continue;
		if (!set_symbol(s, &memo, entry.name, addrs[i] - entry.start, &ret[i]))
			return false;
		if (!entry.module)
			continue;
		modules[i] = intern_str(s->opts.strings, entry.module);
		if (!modules[i])
			return false;
	}
	return true;
}

/* 0, or -errno: the text could not be read, or was empty. */
static int ask_local(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret, const char **modules,
		     bool *hidden)
{
	_cleanup_(kallsyms_freep) struct kallsyms *k = kallsyms_new(addrs, num);
	int r = k ? read_kernel(s, k) : -ENOMEM;

	if (r < 0)
		return r;
	*hidden = kallsyms_hidden(k);
	return name_kernel(s, k, addrs, num, ret, modules) ? 0 : -ENOMEM;
}

/* The same by the worker. */
static int ask_remote(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret, const char **modules,
		      bool *hidden)
{
	_cleanup_close_ int fd = s->opts.door ? door_open_text(s->opts.door, DOOR_KALLSYMS, NULL) : -ENOENT;
	struct elf_remote_kernel k = { s->opts.strings, addrs, num, ret, modules, false, false };
	int r = fd < 0 ? fd : elf_remote_kernel(s->opts.worker, fd, &k);

	*hidden = k.hidden;
	return r < 0 ? r : k.empty ? -ENODATA : 0;
}

bool symbols_kernel_code(struct symbols *s, uint64_t start, uint64_t len, const char *name, size_t name_len, bool bpf)
{
	struct ksymbol symbol = { .start = start, .bpf = bpf };

	if (__builtin_add_overflow(start, len, &symbol.end) || !len || !name_len)
		return true;
	symbol.name = intern_mem(s->opts.strings, name, name_len);
	return symbol.name && ksymbols_add(&s->ksymbols, &symbol);
}

/* What records told of is named by them alone. */
static bool name_ksymbols(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret, const char **modules)
{
	for (size_t i = 0; i < num; i++) {
		const struct ksymbol *k = ksymbols_find(s->ksymbols, addrs[i]);

		if (!k)
			continue;
		ret[i] = (struct symbol){ .name = k->name, .offset = k->name ? addrs[i] - k->start : 0 };
		modules[i] = k->bpf ? intern_str(s->opts.strings, "bpf") : NULL;
		if (k->bpf && !modules[i])
			return false;
	}
	return true;
}

static bool ask_for_names(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret, const char **modules)
{
	bool hidden = false;
	int r;

	if (s->opts.kernel)
		return recorded_kernel_batch(s->opts.kernel, addrs, num, ret, modules);
	for (size_t i = 0; i < num; i++) {
		ret[i] = (struct symbol){ 0 };
		modules[i] = NULL;
	}
	if (!num)
		return true;
	r = s->opts.worker ? ask_remote(s, addrs, num, ret, modules, &hidden)
			   : ask_local(s, addrs, num, ret, modules, &hidden);
	if (r == -ENOMEM)
		return false;
	s->kernel_note[0] = '\0';
	if (r < 0)
		strcpy(s->kernel_note,
		       "kernel symbols cannot be read from /proc/kallsyms: run as root, on a "
		       "kernel with CONFIG_KALLSYMS");
	else if (hidden)
		note_hidden(s);
	return true;
}

bool symbols_kernel_batch(struct symbols *s, const uint64_t *addrs, size_t num, struct symbol *ret,
			  const char **modules)
{
	return ask_for_names(s, addrs, num, ret, modules) && name_ksymbols(s, addrs, num, ret, modules);
}

const char *symbols_kernel_note(struct symbols *s)
{
	if (s->opts.kernel)
		return recorded_kernel_note(s->opts.kernel);
	return s->kernel_note[0] ? s->kernel_note : NULL;
}

int symbols_add_source(struct symbols *s, const struct symbol_source *source, struct err *err)
{
	return vec_push(&s->sources, *source) ? 0 : err_oom(err);
}

bool symbols_jit(struct symbols *s, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		const struct symbol_source *source = &s->sources.data[i];

		if (source->find(source->data, space, addr, ret))
			return true;
	}
	return false;
}

bool symbols_jit_cfi(const struct symbols *s, const struct addrspace *space, uint64_t addr, struct jit_cfi *ret)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		const struct symbol_source *source = &s->sources.data[i];

		if (source->cfi && source->cfi(source->data, space, addr, ret))
			return true;
	}
	return false;
}

bool symbols_jit_has_cfi(const struct symbols *s, const struct addrspace *space)
{
	return symbols_jit_cfi(s, space, 0, NULL);
}

void symbols_jit_first_seen(struct symbols *s, struct addrspace *space)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].first_seen)
			s->sources.data[i].first_seen(s->sources.data[i].data, space);
	}
}

void symbols_jit_poll(struct symbols *s, struct addrspace *space, bool last)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].poll)
			s->sources.data[i].poll(s->sources.data[i].data, space, last);
	}
	space->names_next_ns = 0; /* to be asked for */
}

bool symbols_jit_advance(struct symbols *s, struct addrspace *space, uint64_t time_ns,
			 void (*changed)(void *data, struct code_ranges *ranges), void *data)
{
	struct code_ranges ranges = { 0 };
	uint64_t next_ns = UINT64_MAX;
	bool ok = true;

	for (size_t i = 0; i < s->sources.len; i++) {
		const struct symbol_source *source = &s->sources.data[i];

		if (source->next && source->next(source->data, space) <= time_ns)
			ok &= source->changes(source->data, space, time_ns, &ranges);
	}
	if (ranges.v.len)
		changed(data, &ranges);
	vec_deinit(&ranges.v);
	for (size_t i = 0; i < s->sources.len; i++) {
		const struct symbol_source *source = &s->sources.data[i];
		uint64_t source_ns;

		if (!source->next)
			continue;
		source->apply(source->data, space, time_ns);
		source_ns = source->next(source->data, space);
		next_ns = source_ns < next_ns ? source_ns : next_ns;
	}
	space->names_next_ns = next_ns;
	return ok;
}

struct symbol_origin symbols_jit_origin(const struct symbols *s, const struct addrspace *space)
{
	struct symbol_origin ret = { 0 };

	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].origin)
			s->sources.data[i].origin(s->sources.data[i].data, space, &ret);
	}
	return ret;
}

void symbols_space_gone(struct symbols *s, struct addrspace *space)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].gone)
			s->sources.data[i].gone(s->sources.data[i].data, space);
	}
}
