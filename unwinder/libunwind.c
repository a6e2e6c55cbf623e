/*
 * The second opinion: a whole walk by libunwind's remote interface over the same sample. It shares nothing
 * with our own rows: libunwind searches .eh_frame_hdr, reads .eh_frame and runs the expressions itself, we
 * only answer its reads out of the copied stack and the ELF file. Only whether a stack that ended is complete
 * is asked of our side.
 *
 * Its cache of rows stays off (UNW_CACHE_NONE): it is keyed by the pc alone, while the row of a sampled pc
 * and that of an equal return address (one byte before) may differ. What is kept are blocks of the files.
 */
#include "unwinder/unwinder_priv.h"

#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"

#include <dwarf.h>
#include <elf.h>
#include <libunwind.h>
#include <stdlib.h>

/* Exported by libunwind for debuggers but in no header of its own (src/dwarf/Gfind_proc_info-lsb.c). */
#define dwarf_search_unwind_table UNW_OBJ(dwarf_search_unwind_table)
extern int dwarf_search_unwind_table(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di,
				     unw_proc_info_t *pi, int need_unwind_info, void *arg);

enum {
	BLOCK_BYTES = 4096,
	NUM_BLOCKS = 128,     /* power of two; 512 KiB of files' bytes */
	MAX_PHDRS = 256,
	MAX_PARTS = 8,        /* read-only segments of one file */
	ENTRY_BYTES = 8,      /* of the search table: two sdata4 */
	WORD = sizeof(unw_word_t),
	/* How far above the copy a read still is a stack's: the main thread's default limit. */
	STACK_REACH = 8 << 20,
	/*
	 * Words that one walk may read: 1,024 frames take 150,000. libunwind runs expressions for as long as they have
	 * operations, which may be for ever, and keeps 300 bytes for each state that a row remembers; it reads a word
	 * for each byte of either, so this bounds its time (50 ms) and its memory.
	 */
	MAX_READS = 512 << 10,
};

/* A segment that the program cannot write: what the file says is what its memory holds. */
struct part {
	uint64_t vaddr, bytes;
};

/* The search table of one file, by vaddr. */
struct table {
	uint32_t file_id;
	uint8_t num_parts;
	bool usable;          /* there is a table of the one encoding libunwind searches */
	struct part parts[MAX_PARTS];
	uint64_t header;      /* start of .eh_frame_hdr: the table's values count from here */
	uint64_t entries;
	uint32_t num_entries;
};
HTAB(tables, struct table, uint32_t, hash_u64(key), slot->file_id == key, hash_u64(slot->file_id));

/* A piece of a read-only segment. */
struct block {
	uint32_t file_id; /* 0 = empty */
	uint32_t len;
	uint64_t vaddr;
	uint8_t bytes[BLOCK_BYTES];
};

struct libunwind_state {
	unw_addr_space_t as;
	struct tables tables;
	struct block *blocks; /* NUM_BLOCKS; owned */
};

/* One walk: what the accessors get as their argument. */
struct walk {
	struct unwinder *u;
	struct libunwind_state *state;
	const struct unwind_input *in;
	struct regs regs;
	uint64_t base;                 /* address of in->stack[0] */
	const struct mapping *current; /* whose table was searched last */
	bool searching;                /* find_proc_info runs */
	uint32_t reads;
	bool failed_read;              /* a read of the last step could not be answered: */
	uint64_t failed_addr;
};

/* ---- bytes of a file ---- */

static const struct part *part_find(const struct table *t, uint64_t vaddr)
{
	for (unsigned int i = 0; i < t->num_parts; i++) {
		if (vaddr - t->parts[i].vaddr < t->parts[i].bytes)
			return &t->parts[i];
	}
	return NULL;
}

static const struct block *block_get(struct libunwind_state *s, const struct file *file,
				     const struct part *part, uint64_t vaddr)
{
	uint64_t at = (vaddr - part->vaddr) / BLOCK_BYTES * BLOCK_BYTES;
	uint64_t left = part->bytes - at;
	struct block *b;

	at += part->vaddr;
	b = &s->blocks[hash_two(file->id, at) & (NUM_BLOCKS - 1)];
	if (b->file_id == file->id && b->vaddr == at)
		return b;
	b->file_id = 0;
	b->len = (uint32_t)(left < BLOCK_BYTES ? left : BLOCK_BYTES);
	if (!elf_file_read_vaddr(file->elf, at, b->bytes, b->len))
		return NULL;
	b->vaddr = at;
	b->file_id = file->id;
	return b;
}

/*
 * len <= WORD bytes at vaddr. libunwind reads aligned words, so the last one of a segment may reach beyond
 * its end: those bytes are zero, as they are in memory.
 */
static bool file_read(struct libunwind_state *s, const struct file *file, const struct table *t,
		      uint64_t vaddr, void *buf, size_t len)
{
	const struct part *part = part_find(t, vaddr);
	uint8_t *to = buf;

	if (!part)
		return false;
	memset(buf, 0, len);
	while (len && vaddr - part->vaddr < part->bytes) {
		const struct block *b = block_get(s, file, part, vaddr);
		size_t skip, num;

		if (!b)
			return false;
		skip = (size_t)(vaddr - b->vaddr);
		num = b->len - skip < len ? b->len - skip : len;
		memcpy(to, b->bytes + skip, num);
		to += num;
		vaddr += num;
		len -= num;
	}
	return true;
}

/* ---- the search table ---- */

static uint64_t get_le(const uint8_t *bytes, size_t num)
{
	uint64_t ret = 0;

	memcpy(&ret, bytes, num);
	return ret;
}

/*
 * Header of .eh_frame_hdr (Linux Standard Base, Core Generic 10.6.2): version, three encodings, the pointer
 * to .eh_frame, the number of entries. Every linker writes the encodings that are accepted here.
 */
static bool table_parse(struct table *t, struct elf_file *elf, uint64_t vaddr, uint64_t bytes)
{
	uint8_t head[12];
	uint64_t num;

	if (bytes < sizeof(head) || !elf_file_read_vaddr(elf, vaddr, head, sizeof(head)))
		return false;
	if (head[0] != 1 || (head[1] & 0x0f) != DW_EH_PE_sdata4 || head[2] != DW_EH_PE_udata4 ||
	    head[3] != (DW_EH_PE_datarel | DW_EH_PE_sdata4))
		return false;
	num = get_le(head + 8, 4);
	if (num > (bytes - sizeof(head)) / ENTRY_BYTES)
		return false;
	t->header = vaddr;
	t->entries = vaddr + sizeof(head);
	t->num_entries = (uint32_t)num;
	return num > 0;
}

/* Reads the program headers through the mapped part of the file, so that a vDSO works alike. */
static void table_load(struct table *t, struct elf_file *elf)
{
	uint64_t eh_vaddr = 0, eh_bytes = 0, start;
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;

	if (!elf_file_is_64(elf) || !elf_file_vaddr(elf, 0, &start) ||
	    !elf_file_read_vaddr(elf, start, &ehdr, sizeof(ehdr)))
		return;
	if (ehdr.e_phentsize != sizeof(phdr) || ehdr.e_phnum > MAX_PHDRS)
		return;
	for (unsigned int i = 0; i < ehdr.e_phnum; i++) {
		if (!elf_file_read_vaddr(elf, start + ehdr.e_phoff + i * sizeof(phdr), &phdr, sizeof(phdr)))
			return;
		if (phdr.p_type == PT_GNU_EH_FRAME) {
			eh_vaddr = phdr.p_vaddr;
			eh_bytes = phdr.p_filesz;
		}
		if (phdr.p_type == PT_LOAD && !(phdr.p_flags & PF_W) && t->num_parts < MAX_PARTS)
			t->parts[t->num_parts++] = (struct part){ phdr.p_vaddr, phdr.p_filesz };
	}
	t->usable = eh_bytes && table_parse(t, elf, eh_vaddr, eh_bytes);
}

/* NULL when the file is no ELF file or memory is out. Valid until the next call. */
static const struct table *table_get(struct libunwind_state *s, const struct file *file)
{
	struct table *t;
	bool added;

	if (!file || !file->elf)
		return NULL;
	t = tables_add(&s->tables, file->id, &added);
	if (t && added) {
		t->file_id = file->id;
		table_load(t, file->elf);
	}
	return t;
}

/* ---- accessors ---- */

static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *pi,
			  int need_unwind_info, void *arg)
{
	struct walk *w = arg;
	const struct mapping *m = addrspace_find(w->in->space, ip);
	const struct table *t = m ? table_get(w->state, m->file) : NULL;
	unw_dyn_info_t di = { 0 };
	int r;

	if (!t || !t->usable)
		return -UNW_ENOINFO;
	w->current = m;
	w->searching = true;
	di.format = UNW_INFO_FORMAT_REMOTE_TABLE;
	di.start_ip = m->start;
	di.end_ip = m->end;
	di.u.rti.segbase = mapping_bias(m) + t->header;
	di.u.rti.table_data = mapping_bias(m) + t->entries;
	di.u.rti.table_len = (unw_word_t)t->num_entries * ENTRY_BYTES / WORD;
	r = dwarf_search_unwind_table(as, ip, &di, pi, need_unwind_info, arg);
	w->searching = false;
	return r;
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *pi, void *arg)
{
}

static int get_dyn_info_list_addr(unw_addr_space_t as, unw_word_t *ret, void *arg)
{
	return -UNW_ENOINFO; /* nobody registers code with libunwind in a process we only look at */
}

static bool mapping_read(struct walk *w, const struct mapping *m, uint64_t addr, void *buf)
{
	const struct table *t = m ? table_get(w->state, m->file) : NULL;

	return t && file_read(w->state, m->file, t, addr - mapping_bias(m), buf, WORD);
}

/*
 * Memory outside of the stack: the read-only bytes of a mapped file. Only executable mappings are known, but
 * a file's other segments lie beside its code with the same bias. Code without a file is readable and
 * unknown.
 */
static bool image_read(struct walk *w, uint64_t addr, unw_word_t *ret)
{
	const struct addrspace *space = w->in->space;
	const struct mapping *m;

	if (mapping_read(w, w->current, addr, ret))
		return true;
	m = addrspace_find(space, addr);
	if (m && !m->file) {
		*ret = 0;
		return true;
	}
	return mapping_read(w, m ? m : mappings_before(&space->maps, addr), addr, ret) ||
	       mapping_read(w, mappings_next(&space->maps, m ? m->end : addr), addr, ret);
}

/*
 * A CIE may name its personality routine through a pointer in writable memory (DW_EH_PE_indirect), and
 * libunwind reads it though stepping never uses it. Any value serves.
 */
static bool is_personality(const struct walk *w, uint64_t addr)
{
	const struct mapping *m = w->current;
	const struct elf_load *loads;
	uint64_t vaddr;
	size_t num;

	if (!w->searching)
		return false;
	vaddr = addr - mapping_bias(m);
	num = elf_file_loads(m->file->elf, &loads);
	for (size_t i = 0; i < num; i++) {
		if (vaddr - loads[i].vaddr < loads[i].memsz)
			return true;
	}
	return false;
}

static int access_mem(unw_addr_space_t as, unw_word_t addr, unw_word_t *value, int write, void *arg)
{
	struct walk *w = arg;

	if (write || w->reads++ >= MAX_READS)
		return -UNW_EINVAL;
	if (stack_word(w->in->stack, w->in->stack_bytes, w->base, addr, value))
		return 0;
	if (image_read(w, addr, value))
		return 0;
	if (is_personality(w, addr)) {
		*value = 0;
		return 0;
	}
	w->failed_read = true;
	w->failed_addr = addr;
	return -UNW_EINVAL;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *value, int write, void *arg)
{
	const struct walk *w = arg;

	if (write)
		return -UNW_EREADONLYREG;
	if (reg == UNW_TDEP_IP) {
		*value = w->regs.pc;
		return 0;
	}
	/* Otherwise libunwind numbers as DWARF does, on every CPU we know. */
	if (reg < 0 || reg >= ARCH_MAX_REGS || !(w->regs.valid >> reg & 1))
		return -UNW_EBADREG;
	*value = w->regs.v[reg];
	return 0;
}

static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *value, int write,
			void *arg)
{
	return -UNW_EBADREG;
}

static int resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
	return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t as, unw_word_t addr, char *buf, size_t len,
			 unw_word_t *offset, void *arg)
{
	return -UNW_ENOINFO;
}

/* ---- state ---- */

static struct libunwind_state *state_get(struct unwinder *u)
{
	unw_accessors_t accessors = {
		.find_proc_info = find_proc_info,
		.put_unwind_info = put_unwind_info,
		.get_dyn_info_list_addr = get_dyn_info_list_addr,
		.access_mem = access_mem,
		.access_reg = access_reg,
		.access_fpreg = access_fpreg,
		.resume = resume,
		.get_proc_name = get_proc_name,
	};
	struct libunwind_state *s = u->libunwind;

	if (s)
		return s;
	s = u->libunwind = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->blocks = calloc(NUM_BLOCKS, sizeof(*s->blocks));
	s->as = unw_create_addr_space(&accessors, 0);
	if (!s->blocks || !s->as) {
		libunwind_free(u);
		return NULL;
	}
	unw_set_caching_policy(s->as, UNW_CACHE_NONE);
	return s;
}

void libunwind_free(struct unwinder *u)
{
	struct libunwind_state *s = u->libunwind;

	if (!s)
		return;
	if (s->as)
		unw_destroy_addr_space(s->as);
	tables_deinit(&s->tables);
	free(s->blocks);
	free(s);
	u->libunwind = NULL;
}

void libunwind_space_gone(struct unwinder *u, const struct addrspace *space)
{
	/* Nothing is kept per process. */
}

void libunwind_file_gone(struct unwinder *u, uint32_t file_id)
{
	/* Blocks need no care: a file's id is never given to another. */
	if (u->libunwind)
		tables_remove(&u->libunwind->tables, file_id);
}

/* ---- the walk ---- */

/*
 * The frame at pc was entered by a signal: the pc of the next one is exact. unw_is_signal_frame knows it only where
 * libunwind had no row for it.
 */
static bool is_signal_frame(struct walk *w, uint64_t pc)
{
	unw_word_t code[2];

	if (!image_read(w, pc, &code[0]) || !image_read(w, pc + WORD, &code[1]))
		return false;
	return !memcmp(code, w->u->arch->sigreturn, w->u->arch->sigreturn_bytes);
}

static bool in_copy(const struct walk *w, uint64_t addr)
{
	return addr - w->base < w->in->stack_bytes;
}

static void stop(struct unwind_result *ret, enum unwind_class class, enum unwind_reason reason)
{
	ret->class = class;
	ret->reason = reason;
}

/* A read failed. `crossed`: a signal frame lies inside of the last frame. */
static void stop_at_read(const struct walk *w, uint64_t sp, bool crossed, struct unwind_result *ret)
{
	uint64_t end = w->base + w->in->stack_bytes;

	if (crossed && !in_copy(w, sp) && sp != end)
		stop(ret, UNWIND_BROKEN, REASON_ALTSTACK);
	else if (w->in->stack_full && w->failed_addr > end - WORD &&
		 w->failed_addr - (end - WORD) < STACK_REACH)
		stop(ret, UNWIND_TRUNCATED, REASON_NONE);
	else
		stop(ret, UNWIND_BROKEN, REASON_OUTSIDE);
}

static enum unwind_reason reason_of(int error)
{
	switch (-error) {
	case UNW_EBADREG:
		return REASON_UNKNOWN_REG;
	case UNW_EBADFRAME:
		return REASON_NO_PROGRESS;
	case UNW_EINVALIDIP:
	case UNW_ENOINFO:
		return REASON_NO_CFI;
	default:
		return REASON_BAD_CFI;
	}
}

/*
 * libunwind found no caller: the stack's end if the row says so, or the known first function, or a chain
 * of frame pointers that ran out in the last page of the stack.
 */
static void stop_at_end(const struct walk *w, uint64_t lookup, bool exact, uint64_t sp,
			uint32_t *last, struct unwind_result *ret)
{
	uint64_t place = lookup;
	bool ends = unwinder_ends_at(w->u, w->in->space, &place, exact);
	const struct mapping *m = addrspace_find(w->in->space, lookup);
	uint64_t end = w->base + w->in->stack_bytes;

	if (place != lookup)
		*last = unwinder_intern(w->u, w->in->space, place, ret);
	if (ends)
		stop(ret, UNWIND_COMPLETE, REASON_NONE);
	else if (!w->in->stack_full && sp >= w->base && sp <= end &&
		 (end - sp <= STACK_PAGE || entry_stack_at(w->in->stack, w->in->stack_bytes, w->base, sp)))
		stop(ret, UNWIND_COMPLETE, REASON_NONE);
	else if (!m)
		stop(ret, UNWIND_BROKEN, REASON_NO_MAPPING);
	else if (!m->file)
		stop(ret, UNWIND_BROKEN, REASON_NO_FP);
	else
		stop(ret, UNWIND_BROKEN, REASON_NO_CFI);
}

/* Without a row libunwind tried its luck where the stack ends, see RULE_NEXT. */
static bool is_handmade(const struct walk *w, uint64_t lookup, bool exact)
{
	uint64_t place = lookup;

	return unwinder_ends_at(w->u, w->in->space, &place, exact) && place != lookup;
}

static void walk_frames(struct walk *w, unw_cursor_t *cursor, uint32_t *frames,
			struct unwind_result *ret)
{
	bool exact = true, crossed = false;
	unw_word_t pc, sp;

	for (;;) {
		bool was_exact = exact, mapped;
		uint64_t lookup;
		int r;

		if (unw_get_reg(cursor, UNW_REG_IP, &pc) < 0 || unw_get_reg(cursor, UNW_REG_SP, &sp) < 0)
			return stop(ret, UNWIND_BROKEN, REASON_UNKNOWN_REG);
		lookup = exact ? pc : pc - 1;
		if (ret->num_frames == w->u->max_frames)
			return stop(ret, UNWIND_BROKEN, REASON_TOO_DEEP);
		mapped = addrspace_find(w->in->space, lookup);
		exact = is_signal_frame(w, pc);
		/*
		 * Nobody called a signal trampoline. What is no code is a place to be interrupted at,
		 * but no caller.
		 */
		if (mapped || was_exact) {
			w->u->trace[ret->num_frames].pc = pc;
			frames[ret->num_frames++] =
				unwinder_intern(w->u, w->in->space, exact ? pc : lookup, ret);
		}
		if (!mapped)
			return stop(ret, UNWIND_BROKEN, REASON_NO_MAPPING);
		w->failed_read = false;
		r = unw_step(cursor);
		if (r > 0) {
			crossed |= exact;
			continue;
		}
		if ((r == 0 && !w->failed_read) || is_handmade(w, lookup, was_exact))
			return stop_at_end(w, lookup, was_exact, sp, &frames[ret->num_frames - 1],
					   ret);
		if (w->failed_read)
			return stop_at_read(w, sp, crossed, ret);
		return stop(ret, UNWIND_BROKEN, reason_of(r));
	}
}

void unwind_by_libunwind(struct unwinder *u, const struct unwind_input *in, uint32_t *frames,
			 struct unwind_result *ret)
{
	struct walk w = { .u = u, .in = in };
	unw_cursor_t cursor;

	memset(ret, 0, sizeof(*ret));
	if (in->compat)
		return stop(ret, UNWIND_BROKEN, REASON_COMPAT);
	if (!in->perf_regs)
		return stop(ret, UNWIND_BROKEN, REASON_NO_REGS);
	w.state = state_get(u);
	if (!w.state || u->arch != arch_host())
		return stop(ret, UNWIND_BROKEN, REASON_BAD_CFI);
	arch_regs_from_perf(u->arch, in->perf_mask, in->perf_regs,
			    (size_t)__builtin_popcountll(in->perf_mask), &w.regs);
	w.base = w.regs.v[u->arch->sp];
	if (unw_init_remote(&cursor, w.state->as, &w) < 0)
		return stop(ret, UNWIND_BROKEN, REASON_UNKNOWN_REG);
	walk_frames(&w, &cursor, frames, ret);
}
