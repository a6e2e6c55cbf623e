#include "symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/kallsyms.h"
#include "symbols/symtab.h"
#include "target/door.h"

/* An address that the table does not know may be of a module or BPF program loaded since it was
 * read. */
static const uint64_t reload_ns = UINT64_C(10) * 1000 * 1000 * 1000;

struct symbols {
	struct symbols_opts opts;
	VEC(struct symbol_source) sources;
	struct kallsyms *kallsyms;
	bool kernel_loaded; /* tried, at least */
	uint64_t kernel_loaded_ns;
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
	kallsyms_free(s->kallsyms);
	free(s);
}

static bool find_in_file(struct file *file, uint64_t vaddr, struct symtab_entry *ret)
{
	const struct symtab *table = elf_file_symtab(file->elf);

	return table && symtab_find(table, vaddr, ret);
}

bool symbols_file(struct symbols *s, struct file *file, uint64_t vaddr, struct symbol *ret)
{
	struct symtab_entry entry;
	const char *name;

	if (!file->elf)
		return false;
	if (!find_in_file(file, vaddr, &entry)) {
		/* A stripped file names its exported functions only; the rest is in its debug file.
		 */
		if (file->debug_tried)
			return false;
		files_find_debug(s->opts.files, file);
		if (!find_in_file(file, vaddr, &entry))
			return false;
	}
	name = symbols_demangle(s->opts.strings, entry.name);
	if (!name)
		return false;
	*ret = (struct symbol){ name, vaddr - entry.start };
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

static void load_kernel(struct symbols *s)
{
	struct strbuf text = { 0 };
	struct kallsyms *table = NULL;

	s->kernel_loaded = true;
	s->kernel_loaded_ns = clock_monotonic_ns();
	if (s->opts.door && door_read_text(s->opts.door, DOOR_KALLSYMS, &text, NULL) == 0 &&
	    text.len)
		table = kallsyms_parse(text.data, text.len);
	strbuf_deinit(&text);
	if (!table) {
		if (!s->kallsyms)
			strcpy(s->kernel_note,
			       "kernel symbols cannot be read from /proc/kallsyms: run as "
			       "root, on a kernel with CONFIG_KALLSYMS");
		return;
	}
	kallsyms_free(s->kallsyms);
	s->kallsyms = table;
	s->kernel_note[0] = '\0';
	if (kallsyms_hidden(table))
		note_hidden(s);
}

static const char *find_kernel(struct symbols *s, uint64_t addr, uint64_t *start,
			       const char **module)
{
	return s->kallsyms ? kallsyms_find(s->kallsyms, addr, start, module) : NULL;
}

/* Seldom: most misses are addresses that nothing names. */
static bool should_reload(const struct symbols *s)
{
	if (!s->kallsyms || kallsyms_hidden(s->kallsyms))
		return false;
	return clock_monotonic_ns() - s->kernel_loaded_ns >= reload_ns;
}

bool symbols_kernel(struct symbols *s, uint64_t addr, struct symbol *ret, const char **module)
{
	const char *name, *owner = NULL;
	uint64_t start = 0;

	if (!s->kernel_loaded || (!find_kernel(s, addr, &start, &owner) && should_reload(s)))
		load_kernel(s);
	name = find_kernel(s, addr, &start, &owner);
	name = name ? symbols_demangle(s->opts.strings, name)
		    : NULL; /* Rust has come to the kernel */
	if (!name)
		return false;
	if (owner) {
		owner = intern_str(s->opts.strings, owner);
		if (!owner)
			return false;
	}
	*ret = (struct symbol){ name, addr - start };
	*module = owner;
	return true;
}

const char *symbols_kernel_note(struct symbols *s)
{
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

void symbols_jit_first_seen(struct symbols *s, struct addrspace *space)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].first_seen)
			s->sources.data[i].first_seen(s->sources.data[i].data, space);
	}
}

void symbols_space_gone(struct symbols *s, struct addrspace *space)
{
	for (size_t i = 0; i < s->sources.len; i++) {
		if (s->sources.data[i].gone)
			s->sources.data[i].gone(s->sources.data[i].data, space);
	}
}
