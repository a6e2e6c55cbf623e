#include "symbols/elf_file.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "symbols/elf_file_priv.h"
#include "symbols/elf_remote_priv.h"
#include "target/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum {
	HEADER_BYTES = 1024, /* one read holds the file header and up to 17 program headers */
	PAGE_BYTES = 4096,   /* what the kernel maps at least */
	MAX_NOTE_RANGES = 32,
	MAX_DYNAMIC = 64 << 10,
	MAX_DEBUGLINK = 4096 + 8,
	CRC_CHUNK = 64 << 10,
};

static const uint64_t MAX_CRC_BYTES = (uint64_t)1 << 30;

int elf_file_read(const struct elf_file *f, void *buf, size_t size, uint64_t offset)
{
	if (offset > f->size || size > f->size - offset)
		return -EBADMSG;
	if (!size)
		return 0;
	if (f->bytes) {
		memcpy(buf, f->bytes + offset, size);
		return 0;
	}
	return door_pread(f->fd, buf, size, offset);
}

/* In new memory with a NUL behind it; NULL on any failure, and when size > cap. */
static void *load_bytes(const struct elf_file *f, uint64_t offset, uint64_t size, uint64_t cap)
{
	_cleanup_free_ uint8_t *bytes = NULL;

	if (size > cap || offset > f->size || size > f->size - offset)
		return NULL;
	bytes = malloc(size + 1);
	if (!bytes || elf_file_read(f, bytes, size, offset) < 0)
		return NULL;
	bytes[size] = 0;
	return steal_ptr(bytes);
}

/*
 * ctime is left out on purpose: deleting or renaming a file touches it, and a deleted binary must
 * keep its names. Writing to a file moves mtime.
 */
int elf_file_dup_fd(const struct elf_file *f, bool debug)
{
	const struct elf_file *which = debug ? f->debug : f;

	return which && which->fd >= 0 ? fcntl(which->fd, F_DUPFD_CLOEXEC, 3) : -1;
}

bool elf_file_changed(const struct elf_file *f)
{
	struct stat st;

	if (f->fd < 0)
		return false;
	if (fstat(f->fd, &st) < 0)
		return true;
	return (uint64_t)st.st_size != f->size_at_open ||
	       st.st_mtim.tv_sec != f->mtime_at_open.tv_sec ||
	       st.st_mtim.tv_nsec != f->mtime_at_open.tv_nsec;
}

/* --- The file header and the program headers (gABI, "ELF Header" and "Program Header") --- */

struct phdr_table {
	uint64_t offset;
	uint32_t num, entsize;
};

static int check_ident(const uint8_t *ident, struct err *err)
{
	const uint8_t host = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;

	if (memcmp(ident, ELFMAG, SELFMAG))
		return err_set(err, ENOEXEC, "not an ELF file");
	if (ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64)
		return err_set(err, ENOEXEC, "unknown ELF class %u", ident[EI_CLASS]);
	if (ident[EI_DATA] != host)
		return err_set(err, ENOEXEC, "ELF file of another byte order");
	if (ident[EI_VERSION] != EV_CURRENT)
		return err_set(err, ENOEXEC, "unknown ELF version %u", ident[EI_VERSION]);
	return 0;
}

static int parse_header(struct elf_file *f, const uint8_t *head, size_t len, struct phdr_table *ret,
			struct err *err)
{
	struct reader r = reader_init(head, len);
	const uint8_t *ident = reader_bytes(&r, EI_NIDENT);
	int ret_ident;

	if (!ident)
		return err_set(err, ENOEXEC, "too short for an ELF file");
	ret_ident = check_ident(ident, err);
	if (ret_ident < 0)
		return ret_ident;
	memcpy(f->ident, ident, EI_NIDENT);
	f->is_64 = ident[EI_CLASS] == ELFCLASS64;
	f->type = reader_u16(&r);
	f->machine = reader_u16(&r);
	reader_u32(&r); /* e_version */
	f->entry = elf_word(f, &r);
	ret->offset = elf_word(f, &r);
	f->shoff = elf_word(f, &r);
	f->flags = reader_u32(&r);
	reader_u16(&r); /* e_ehsize */
	ret->entsize = reader_u16(&r);
	ret->num = reader_u16(&r);
	f->shentsize = reader_u16(&r);
	f->shnum = reader_u16(&r);
	f->shstrndx = reader_u16(&r);
	if (r.failed)
		return err_set(err, ENOEXEC, "too short for an ELF file");
	if (ret->num > ELF_MAX_PHDRS)
		return err_set(err, EBADMSG, "ELF file with %u program headers", ret->num);
	if (ret->num && ret->entsize != (f->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return err_set(err, EBADMSG, "ELF program headers of %u bytes", ret->entsize);
	return 0;
}

bool elf_load_is_sane(const struct elf_load *load)
{
	uint64_t end;

	return load->filesz <= load->memsz && !__builtin_add_overflow(load->offset, load->filesz, &end) &&
	       !__builtin_add_overflow(load->vaddr, load->memsz, &end);
}

static bool add_load(struct elf_file *f, const struct elf_load *load, struct err *err)
{
	if (!elf_load_is_sane(load)) {
		err_set(err, EBADMSG, "ELF segment that wraps");
		return false;
	}
	if (!vec_push(&f->loads, *load)) {
		err_oom(err);
		return false;
	}
	return true;
}

static int parse_phdr(struct elf_file *f, struct reader *r, struct err *err)
{
	struct elf_range range = { 0 };
	struct elf_load load = { 0 };
	uint32_t type = reader_u32(r), flags = 0;
	struct err why = { 0 };

	if (f->is_64)
		flags = reader_u32(r);
	range.offset = elf_word(f, r);
	range.vaddr = elf_word(f, r);
	elf_word(f, r); /* p_paddr */
	range.size = elf_word(f, r);
	load.memsz = elf_word(f, r);
	if (!f->is_64)
		flags = reader_u32(r);
	range.align = elf_word(f, r);

	if (type == PT_LOAD) {
		load.offset = range.offset;
		load.vaddr = range.vaddr;
		load.filesz = range.size;
		load.executable = flags & PF_X;
		if (!add_load(f, &load, &why))
			return err_set(err, why.code, "%s", why.msg);
	} else if (type == PT_NOTE && f->notes.len < MAX_NOTE_RANGES) {
		if (!vec_push(&f->notes, range))
			return err_oom(err);
	} else if (type == PT_GNU_EH_FRAME) {
		f->eh_frame_hdr = range;
	} else if (type == PT_DYNAMIC) {
		f->dynamic = range;
	} else if (type == PT_INTERP) {
		f->has_interp = true;
	}
	return 0;
}

static int parse_phdrs(struct elf_file *f, const struct phdr_table *table, const uint8_t *head,
		       size_t head_len, struct err *err)
{
	size_t bytes = (size_t)table->num * table->entsize;
	_cleanup_free_ uint8_t *own = NULL;
	struct reader r;
	int ret;

	if (table->offset <= head_len && bytes <= head_len - table->offset) {
		r = reader_init(head + table->offset, bytes);
	} else {
		own = malloc(bytes);
		if (!own)
			return err_oom(err);
		ret = elf_file_read(f, own, bytes, table->offset);
		if (ret < 0)
			return err_set(err, -ret, "cannot read the ELF program headers: %s",
				       strerror(-ret));
		r = reader_init(own, bytes);
	}
	for (uint32_t i = 0; i < table->num; i++) {
		ret = parse_phdr(f, &r, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int parse_file(struct elf_file *f, struct err *err)
{
	uint8_t head[HEADER_BYTES];
	size_t len = f->size < sizeof(head) ? f->size : sizeof(head);
	struct phdr_table table = { 0 };
	int r;

	r = elf_file_read(f, head, len, 0);
	if (r < 0)
		return err_set(err, -r, "cannot read the ELF header: %s", strerror(-r));
	r = parse_header(f, head, len, &table, err);
	if (r < 0 || !table.num)
		return r;
	return parse_phdrs(f, &table, head, len, err);
}

static void elf_file_freep(struct elf_file **f)
{
	elf_file_free(*f);
}

int elf_file_open_fd(int fd, uint64_t size, struct elf_file **ret, struct err *err)
{
	_cleanup_(elf_file_freep) struct elf_file *f = NULL;
	_cleanup_close_ int guard = fd;
	struct stat st;
	int r;

	f = calloc(1, sizeof(*f));
	if (!f)
		return err_oom(err);
	f->fd = steal_fd(&guard);
	f->size = size;
	if (fstat(f->fd, &st) < 0)
		return err_set(err, errno, "fstat: %s", strerror(errno));
	f->size_at_open = (uint64_t)st.st_size;
	f->mtime_at_open = st.st_mtim;
	r = parse_file(f, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(f);
	return 0;
}

int elf_file_open_memory(const void *bytes, size_t size, struct elf_file **ret, struct err *err)
{
	_cleanup_(elf_file_freep) struct elf_file *f = NULL;
	int r;

	f = calloc(1, sizeof(*f));
	if (!f)
		return err_oom(err);
	f->fd = -1;
	f->bytes = bytes;
	f->size = bytes ? size : 0;
	r = parse_file(f, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(f);
	return 0;
}

void elf_file_free(struct elf_file *f)
{
	if (!f)
		return;
	elf_remote_free(f);
	elf_cfi_deinit(&f->eh_frame);
	elf_cfi_deinit(&f->debug_frame);
	elf_file_free(f->debug);
	vec_deinit(&f->go_roots);
	vec_deinit(&f->loads);
	vec_deinit(&f->notes);
	free(f->sections);
	free(f->section_names);
	free(f->debuglink);
	closep(&f->fd);
	free(f);
}

uint16_t elf_file_machine(const struct elf_file *f)
{
	return f->machine;
}

bool elf_file_is_64(const struct elf_file *f)
{
	return f->is_64;
}

/* Of a file that is parsed elsewhere: what is known of it comes with the first question. */
static void need_head(const struct elf_file *f)
{
	if (f->remote)
		elf_remote_head((struct elf_file *)f);
}

size_t elf_file_loads(const struct elf_file *f, const struct elf_load **ret)
{
	need_head(f);
	*ret = f->loads.data;
	return f->loads.len;
}

/* --- From offset to vaddr and back --- */

/*
 * The kernel maps whole pages, so the bytes around a segment in its first and last page are mapped
 * with it. Two segments may share a page of the file; callers ask for code, so an executable
 * segment comes first.
 */
enum fit { FIT_NONE, FIT_PAGE, FIT_BYTES, FIT_EXEC_PAGE, FIT_EXEC_BYTES };

static enum fit load_fit(const struct elf_load *load, uint64_t offset)
{
	uint64_t start = load->offset & ~(uint64_t)(PAGE_BYTES - 1);
	uint64_t page_end;

	if (offset >= load->offset && offset - load->offset < load->filesz)
		return load->executable ? FIT_EXEC_BYTES : FIT_BYTES;
	if (!load->filesz)
		return FIT_NONE;
	if (__builtin_add_overflow(load->offset + load->filesz, PAGE_BYTES - 1, &page_end))
		page_end = UINT64_MAX;
	page_end &= ~(uint64_t)(PAGE_BYTES - 1);
	if (offset < start || offset >= page_end)
		return FIT_NONE;
	return load->executable ? FIT_EXEC_PAGE : FIT_PAGE;
}

bool elf_file_vaddr(const struct elf_file *f, uint64_t offset, uint64_t *ret)
{
	const struct elf_load *best = NULL;
	enum fit best_fit = FIT_NONE;

	need_head(f);
	for (size_t i = 0; i < f->loads.len && best_fit < FIT_EXEC_BYTES; i++) {
		enum fit fit = load_fit(&f->loads.data[i], offset);

		if (fit > best_fit) {
			best_fit = fit;
			best = &f->loads.data[i];
		}
	}
	/* A segment at vaddr 0 has nothing before it. */
	if (!best || (offset < best->offset && best->offset - offset > best->vaddr))
		return false;
	*ret = offset - best->offset + best->vaddr;
	return true;
}

bool elf_file_offset(const struct elf_file *f, uint64_t vaddr, uint64_t *ret)
{
	bool found = false;

	need_head(f);
	for (size_t i = 0; i < f->loads.len; i++) {
		const struct elf_load *load = &f->loads.data[i];

		if (vaddr < load->vaddr || vaddr - load->vaddr >= load->filesz)
			continue;
		if (!found || load->executable)
			*ret = vaddr - load->vaddr + load->offset;
		found = true;
		if (load->executable)
			break;
	}
	return found;
}

bool elf_file_read_vaddr(struct elf_file *f, uint64_t vaddr, void *buf, size_t len)
{
	need_head(f);
	for (size_t i = 0; i < f->loads.len; i++) {
		const struct elf_load *load = &f->loads.data[i];
		uint64_t skip = vaddr - load->vaddr;

		if (vaddr >= load->vaddr && skip <= load->filesz && len <= load->filesz - skip)
			return elf_file_read(f, buf, len, load->offset + skip) == 0;
	}
	return false;
}

/* --- Section headers (gABI, "Sections") --- */

static void parse_section(const struct elf_file *f, struct reader *r, uint32_t *name,
			  struct elf_section *ret)
{
	*ret = (struct elf_section){ .name = "" };
	*name = reader_u32(r);
	ret->type = reader_u32(r);
	ret->flags = elf_word(f, r);
	ret->addr = elf_word(f, r);
	ret->offset = elf_word(f, r);
	ret->size = elf_word(f, r);
	ret->link = reader_u32(r);
	reader_u32(r);  /* sh_info */
	elf_word(f, r); /* sh_addralign */
	ret->entsize = elf_word(f, r);
}

/* Section 0 holds the counts that do not fit the file header. */
static bool wide_counts(const struct elf_file *f, uint32_t *num, uint32_t *names)
{
	uint8_t bytes[sizeof(Elf64_Shdr)];
	struct elf_section first;
	struct reader r;
	uint32_t name;

	if (elf_file_read(f, bytes, f->shentsize, f->shoff) < 0)
		return false;
	r = reader_init(bytes, f->shentsize);
	parse_section(f, &r, &name, &first);
	if (!f->shnum) {
		if (first.size > ELF_MAX_SECTIONS)
			return false;
		*num = (uint32_t)first.size;
	}
	if (f->shstrndx == SHN_XINDEX)
		*names = first.link;
	return true;
}

static void name_sections(struct elf_file *f, const uint32_t *names, uint32_t names_index)
{
	const struct elf_section *strings;

	if (names_index >= f->num_sections)
		return;
	strings = &f->sections[names_index];
	if (strings->type != SHT_STRTAB)
		return;
	f->section_names = load_bytes(f, strings->offset, strings->size, ELF_MAX_NAMES);
	if (!f->section_names)
		return;
	for (size_t i = 0; i < f->num_sections; i++) {
		if (names[i] < strings->size)
			f->sections[i].name = f->section_names + names[i];
	}
}

static void load_sections(struct elf_file *f)
{
	uint32_t num = f->shnum, names_index = f->shstrndx;
	_cleanup_free_ struct elf_section *sections = NULL;
	_cleanup_free_ uint32_t *names = NULL;
	_cleanup_free_ uint8_t *bytes = NULL;
	struct reader r;

	if (!f->shoff || f->shentsize != (f->is_64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr)))
		return;
	if ((!num || names_index == SHN_XINDEX) && !wide_counts(f, &num, &names_index))
		return;
	if (!num || num > ELF_MAX_SECTIONS)
		return;
	bytes = load_bytes(f, f->shoff, (uint64_t)num * f->shentsize, ELF_MAX_CONTENT);
	sections = calloc(num, sizeof(*sections));
	names = calloc(num, sizeof(*names));
	if (!bytes || !sections || !names || elf_file_changed(f))
		return;
	r = reader_init(bytes, (size_t)num * f->shentsize);
	for (uint32_t i = 0; i < num; i++)
		parse_section(f, &r, &names[i], &sections[i]);
	f->sections = steal_ptr(sections);
	f->num_sections = num;
	name_sections(f, names, names_index);
}

size_t elf_file_sections(struct elf_file *f, const struct elf_section **ret)
{
	if (!f->sections_tried) {
		f->sections_tried = true;
		load_sections(f);
	}
	*ret = f->sections;
	return f->num_sections;
}

const struct elf_section *elf_file_section(struct elf_file *f, const char *name)
{
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);

	for (size_t i = 1; i < num; i++) {
		if (sections[i].type != SHT_NULL && !strcmp(sections[i].name, name))
			return &sections[i];
	}
	return NULL;
}

const struct elf_section *elf_file_section_at(struct elf_file *f, uint32_t index, uint32_t type)
{
	const struct elf_section *sections;
	size_t num = elf_file_sections(f, &sections);

	return index && index < num && sections[index].type == type ? &sections[index] : NULL;
}

uint64_t elf_section_end(const struct elf_section *s)
{
	uint64_t end;

	if (!(s->flags & SHF_ALLOC) || __builtin_add_overflow(s->addr, s->size, &end))
		return 0;
	return end;
}

/* --- Notes (gABI, "Note Section") --- */

static uint64_t padding(uint64_t len, uint64_t align)
{
	return -len & (align - 1);
}

static void take_note(struct elf_file *f, const char *name, uint32_t name_len, uint32_t type,
		      const uint8_t *desc, uint32_t desc_len)
{
	/* include/elf.h of glibc; golang src/cmd/link/internal/ld/elf.go. */
	enum { NOTE_GO_BUILD_ID = 4 };

	if (type == NT_GNU_BUILD_ID && name_len == 4 && !memcmp(name, "GNU", 4)) {
		if (f->build_id_len || !desc_len || desc_len > ELF_MAX_BUILD_ID)
			return;
		memcpy(f->build_id, desc, desc_len);
		f->build_id_len = desc_len;
	} else if (type == NOTE_GO_BUILD_ID && name_len == 4 && !memcmp(name, "Go\0", 4)) {
		f->go_note = true;
	}
}

static void parse_notes(struct elf_file *f, uint64_t offset, uint64_t size, uint64_t align)
{
	_cleanup_free_ uint8_t *bytes = load_bytes(f, offset, size, ELF_MAX_NOTES);
	struct reader r;

	if (!bytes)
		return;
	r = reader_init(bytes, size);
	if (align != 8)
		align = 4;
	while (reader_left(&r) >= 12) {
		uint32_t name_len = reader_u32(&r);
		uint32_t desc_len = reader_u32(&r);
		uint32_t type = reader_u32(&r);
		const char *name = reader_bytes(&r, name_len);
		const uint8_t *desc;

		/* The header is 12 bytes, so a name ends on a multiple of 8 where 12 + len does. */
		reader_bytes(&r, padding(12 + (uint64_t)name_len, align));
		desc = reader_bytes(&r, desc_len);
		if (!name || !desc || r.failed)
			return;
		take_note(f, name, name_len, type, desc, desc_len);
		if (reader_left(&r) >= padding(desc_len, align))
			reader_bytes(&r, padding(desc_len, align));
	}
}

/* Separate debug files may have program headers that point nowhere, so sections are asked too. */
static void load_notes(struct elf_file *f)
{
	const struct elf_section *sections;
	unsigned int left = MAX_NOTE_RANGES;
	size_t num;

	if (f->notes_tried)
		return;
	f->notes_tried = true;
	for (size_t i = 0; i < f->notes.len; i++) {
		const struct elf_range *n = &f->notes.data[i];

		parse_notes(f, n->offset, n->size, n->align);
	}
	if (f->build_id_len || f->go_note)
		return;
	num = elf_file_sections(f, &sections);
	for (size_t i = 1; i < num && left; i++) {
		if (sections[i].type != SHT_NOTE)
			continue;
		parse_notes(f, sections[i].offset, sections[i].size, 4);
		left--;
	}
}

size_t elf_file_build_id(struct elf_file *f, const uint8_t **ret)
{
	need_head(f);
	load_notes(f);
	*ret = f->build_id;
	return f->build_id_len;
}

bool elf_file_is_go(struct elf_file *f)
{
	need_head(f);
	if (f->is_go == ELF_UNASKED) {
		bool go;

		load_notes(f);
		go = f->go_note || elf_file_section(f, ".go.buildinfo") ||
		     elf_file_section(f, ".gopclntab") ||
		     elf_file_section(f, ".data.rel.ro.gopclntab");
		f->is_go = go ? ELF_YES : ELF_NO;
	}
	return f->is_go == ELF_YES;
}

/* --- Roots --- */

static bool is_pie(const struct elf_file *f)
{
	_cleanup_free_ uint8_t *bytes =
		load_bytes(f, f->dynamic.offset, f->dynamic.size, MAX_DYNAMIC);
	struct reader r;

	if (!bytes)
		return false;
	r = reader_init(bytes, f->dynamic.size);
	while (reader_left(&r)) {
		uint64_t tag = elf_word(f, &r);
		uint64_t value = elf_word(f, &r);

		if (r.failed || tag == DT_NULL)
			break;
		if (tag == DT_FLAGS_1)
			return value & DF_1_PIE;
	}
	return false;
}

/*
 * Older linkers give a shared library the start of .text as its entry point, which nobody ever
 * enters. Real ones: a program's (fixed, with an interpreter, or a static PIE) and the dynamic
 * loader's own.
 */
static bool entry_is_real(struct elf_file *f)
{
	const struct elf_section *text;

	if (!f->entry || (f->type != ET_EXEC && f->type != ET_DYN))
		return false;
	if (f->type == ET_EXEC || f->has_interp || is_pie(f))
		return true;
	text = elf_file_section(f, ".text");
	return text && text->addr != f->entry;
}

static uint64_t find_entry_end(struct elf_file *f)
{
	uint64_t end;

	if (!entry_is_real(f) || f->entry > UINT64_MAX - ELF_ENTRY_MAX)
		return 0;
	/* Symbols say the same, where there are any, but must all be read for it. */
	end = elf_cfi_end_of(f, f->entry);
	if (!end)
		end = elf_symtab_end_of(f, f->entry);
	if (!end)
		return f->entry + ELF_ENTRY_BYTES;
	return end - f->entry < ELF_ENTRY_MAX ? end : f->entry + ELF_ENTRY_MAX;
}

bool elf_file_is_root(struct elf_file *f, uint64_t vaddr)
{
	uint64_t start;
	enum elf_root root = elf_file_root(f, vaddr, &start);

	return root > ELF_ROOT_NONE && root < ELF_ROOT_MARK;
}

enum elf_root elf_file_root(struct elf_file *f, uint64_t vaddr, uint64_t *start)
{
	need_head(f);
	if (vaddr >= f->entry && vaddr - f->entry < ELF_ENTRY_MAX) {
		if (!f->entry_tried) {
			f->entry_tried = true;
			f->entry_end = find_entry_end(f);
		}
		if (vaddr < f->entry_end) {
			*start = f->entry;
			return ELF_ROOT_FIRST;
		}
	}
	return elf_file_is_go(f) ? elf_go_root(f, vaddr, start) : ELF_ROOT_NONE;
}

/* --- Separate debug files --- */

bool elf_debuglink_is_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* .gnu_debuglink: name, NUL, padding to 4, CRC32 (GDB manual, "Separate Debug Files"). */
static void load_debuglink(struct elf_file *f)
{
	const struct elf_section *s = elf_file_section(f, ".gnu_debuglink");
	_cleanup_free_ char *bytes = NULL;
	struct reader r;
	size_t len;

	if (!s || s->type == SHT_NOBITS)
		return;
	bytes = load_bytes(f, s->offset, s->size, MAX_DEBUGLINK);
	if (!bytes)
		return;
	len = strlen(bytes);
	if (!elf_debuglink_is_name(bytes))
		return;
	r = reader_init(bytes, s->size);
	reader_bytes(&r, len + 1 + padding(len + 1, 4));
	f->debuglink_crc = reader_u32(&r);
	if (!r.failed)
		f->debuglink = steal_ptr(bytes);
}

const char *elf_file_debuglink(struct elf_file *f, uint32_t *ret_crc)
{
	need_head(f);
	if (!f->debuglink_tried) {
		f->debuglink_tried = true;
		load_debuglink(f);
	}
	if (f->debuglink)
		*ret_crc = f->debuglink_crc;
	return f->debuglink;
}

bool elf_file_matches_debug(struct elf_file *f, struct elf_file *debug)
{
	_cleanup_free_ uint8_t *chunk = NULL;
	const uint8_t *ours, *theirs;
	size_t len = elf_file_build_id(f, &ours);
	uint32_t want;
	uLong crc = crc32(0, NULL, 0);

	if (len)
		return elf_file_build_id(debug, &theirs) == len && !memcmp(ours, theirs, len);
	if (!elf_file_debuglink(f, &want) || debug->size > MAX_CRC_BYTES)
		return false;
	chunk = malloc(CRC_CHUNK);
	if (!chunk)
		return false;
	for (uint64_t offset = 0; offset < debug->size;) {
		uint64_t left = debug->size - offset;
		size_t part = left < CRC_CHUNK ? left : CRC_CHUNK;

		if (elf_file_read(debug, chunk, part, offset) < 0)
			return false;
		crc = crc32(crc, chunk, (uInt)part);
		offset += part;
	}
	return crc == want;
}
