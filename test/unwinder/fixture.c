#include "fixture.h"

#include "base/err.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "fixture: %s\n", what);
	exit(1);
}

/* ---- call-frame information ---- */

static void put(struct cfi_bytes *b, const void *bytes, size_t len)
{
	if (len > sizeof(b->data) - b->len)
		die("too much CFI");
	if (len)
		memcpy(b->data + b->len, bytes, len);
	b->len += len;
}

void cfi_u8(struct cfi_bytes *b, uint8_t v)
{
	put(b, &v, sizeof(v));
}

void cfi_u32(struct cfi_bytes *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

void cfi_u64(struct cfi_bytes *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

void cfi_uleb(struct cfi_bytes *b, uint64_t v)
{
	while (v > 0x7f) {
		cfi_u8(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	cfi_u8(b, (uint8_t)v);
}

void cfi_sleb(struct cfi_bytes *b, int64_t v)
{
	while (v < -64 || v > 63) {
		cfi_u8(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	cfi_u8(b, (uint8_t)(v & 0x7f));
}

/* Pads the entry that began at `start` and fills in its length. */
static void finish_entry(struct cfi_bytes *b, size_t start)
{
	uint32_t length;

	while (b->len % 8)
		cfi_u8(b, DW_CFA_nop);
	length = (uint32_t)(b->len - start - 4);
	memcpy(b->data + start, &length, sizeof(length));
}

void cfi_cie(struct cfi_bytes *b, const char *augmentation, uint8_t ra, const void *init,
	     size_t len)
{
	b->cie = b->len;
	cfi_u32(b, 0);
	cfi_u32(b, b->debug_frame ? 0xffffffff : 0);
	cfi_u8(b, 1);
	put(b, augmentation, strlen(augmentation) + 1);
	cfi_uleb(b, 1);
	cfi_sleb(b, -8);
	cfi_uleb(b, ra);
	if (augmentation[0] == 'z')
		cfi_uleb(b, 0);
	put(b, init, len);
	finish_entry(b, b->cie);
}

void cfi_cie_x86(struct cfi_bytes *b, const char *augmentation)
{
	cfi_cie(b, augmentation, 16, CFI_PROGRAM(DW_CFA_def_cfa, 7, 8, DW_CFA_offset | 16, 1));
}

void cfi_fde(struct cfi_bytes *b, uint64_t start, uint64_t size, const void *program, size_t len)
{
	size_t at = b->len;

	cfi_u32(b, 0);
	cfi_u32(b, (uint32_t)(b->debug_frame ? b->cie : b->len - b->cie));
	cfi_u64(b, start);
	cfi_u64(b, size);
	if (b->data[b->cie + 9] == 'z')
		cfi_uleb(b, 0);
	put(b, program, len);
	finish_entry(b, at);
}

/* ---- a program ---- */

static const char names[] = "\0.shstrtab\0.eh_frame\0.debug_frame";

static void fill_sections(Elf64_Shdr *sections, const struct cfi_bytes *cfi, size_t cfi_at,
			  size_t names_at)
{
	sections[1] = (Elf64_Shdr){
		.sh_name = cfi->debug_frame ? 21 : 11,
		.sh_type = SHT_PROGBITS,
		.sh_flags = cfi->debug_frame ? 0 : SHF_ALLOC,
		.sh_addr = cfi->debug_frame ? 0 : cfi_at,
		.sh_offset = cfi_at,
		.sh_size = cfi->len,
		.sh_addralign = 8,
	};
	sections[2] = (Elf64_Shdr){
		.sh_name = 1,
		.sh_type = SHT_STRTAB,
		.sh_offset = names_at,
		.sh_size = sizeof(names),
		.sh_addralign = 1,
	};
}

static void make_image(struct program *p, uint16_t machine, const struct cfi_bytes *cfi)
{
	size_t cfi_at = TEXT + TEXT_SIZE, names_at = cfi_at + cfi->len;
	size_t sections_at = (names_at + sizeof(names) + 7) & ~(size_t)7;
	size_t size = sections_at + 3 * sizeof(Elf64_Shdr);
	Elf64_Shdr sections[3] = { 0 };
	Elf64_Phdr load = {
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_filesz = names_at,
		.p_memsz = names_at,
		.p_align = 4096,
	};
	Elf64_Ehdr ehdr = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_DYN,
		.e_machine = machine,
		.e_version = EV_CURRENT,
		.e_entry = ENTRY,
		.e_phoff = sizeof(ehdr),
		.e_shoff = sections_at,
		.e_ehsize = sizeof(ehdr),
		.e_phentsize = sizeof(load),
		.e_phnum = 1,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 2,
	};

	p->image = calloc(1, size);
	if (!p->image)
		die("out of memory");
	fill_sections(sections, cfi, cfi_at, names_at);
	memcpy(p->image, &ehdr, sizeof(ehdr));
	memcpy(p->image + sizeof(ehdr), &load, sizeof(load));
	memcpy(p->image + cfi_at, cfi->data, cfi->len);
	memcpy(p->image + names_at, names, sizeof(names));
	memcpy(p->image + sections_at, sections, sizeof(sections));
	if (elf_file_open_memory(p->image, size, &p->elf, NULL) < 0)
		die("the ELF image is not taken");
}

void program_init(struct program *p, uint16_t machine, const struct cfi_bytes *cfi)
{
	memset(p, 0, sizeof(*p));
	make_image(p, machine, cfi);
	p->file = (struct file){ .id = 1,
				 .refs = 1,
				 .kind = FILE_ELF,
				 .path = "/program",
				 .base = "program",
				 .elf = p->elf };
	p->maps[0] = (struct mapping){ LOADED_AT + TEXT, LOADED_AT + TEXT + TEXT_SIZE, TEXT,
				       &p->file, LOADED_AT, false };
	p->maps[1] = (struct mapping){ JIT_AT, JIT_AT + 0x10000, JIT_AT, NULL, 0, false };
	p->space.pid = 1;
	p->space.id = 1;
	p->space.maps = mappings_view(&p->run, p->maps, 2);
}

void program_deinit(struct program *p)
{
	elf_file_free(p->elf);
	free(p->image);
}

/* ---- a sample ---- */

static bool stacks_in_pieces;

void walk_in_pieces(void)
{
	stacks_in_pieces = true;
}

void sample_init(struct sample *s, const struct arch *arch, const struct program *p, size_t words)
{
	memset(s, 0, sizeof(*s));
	s->in_pieces = stacks_in_pieces;
	s->stack_bytes = words * 8;
	s->in = (struct unwind_input){
		.space = &p->space,
		.perf_regs = s->regs,
		.perf_mask = arch->perf_regs,
		.stack = (const uint8_t *)s->stack,
		.stack_bytes = words * 8,
	};
	sample_reg(s, arch, arch->sp, STACK_AT);
}

static void set_perf_reg(struct sample *s, const struct arch *arch, int dwarf, uint64_t value)
{
	size_t index = 0;

	for (size_t bit = 0; bit < arch->num_perf_regs; bit++) {
		if (!(arch->perf_regs >> bit & 1))
			continue;
		if (arch->to_dwarf[bit] == dwarf)
			s->regs[index] = value;
		index++;
	}
}

void sample_reg(struct sample *s, const struct arch *arch, int dwarf, uint64_t value)
{
	set_perf_reg(s, arch, dwarf, value);
}

void sample_pc(struct sample *s, const struct arch *arch, uint64_t pc)
{
	set_perf_reg(s, arch, -2, pc);
}

/* What of the copy the walk has not asked for yet is somewhere else. */
struct pieces {
	struct sample *s;
	uint64_t all[1024];
	size_t here;
};

static size_t fetch_piece(void *data, size_t bytes)
{
	struct pieces *p = data;

	if (bytes > p->s->in.stack_bytes)
		die("more is asked for than the copy has");
	if (bytes > p->here) {
		memcpy((uint8_t *)p->s->stack + p->here, (const uint8_t *)p->all + p->here, bytes - p->here);
		p->here = bytes;
	}
	return p->here;
}

void sample_walk(struct unwinder *u, struct sample *s)
{
	struct unwind_input in = s->in;
	struct pieces pieces;

	if (!s->in_pieces) {
		unwinder_walk(u, &in, s->frames, &s->result);
		return;
	}
	pieces.s = s;
	pieces.here = 0;
	memcpy(pieces.all, s->stack, sizeof(pieces.all));
	memset(s->stack, 0xa5, sizeof(s->stack));
	in.fetch = fetch_piece;
	in.fetch_data = &pieces;
	unwinder_walk(u, &in, s->frames, &s->result);
	memcpy(s->stack, pieces.all, sizeof(pieces.all));
}

uint64_t sample_place(const struct unwinder *u, const struct sample *s, size_t index)
{
	return index < s->result.num_frames ? unwinder_frame(u, s->frames[index]).place : ~0ull;
}

struct unwinder *new_unwinder(const struct arch *arch, enum unwind_method method)
{
	struct unwind_opts opts = { .arch = arch, .method = method };
	struct unwinder *u;

	if (unwinder_new(&opts, &u, NULL) < 0)
		die("unwinder_new");
	return u;
}

/* ---- this very process ---- */

static uint64_t bias_of(const struct elf_file *elf, uint64_t start, uint64_t pgoff)
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(elf, &loads);

	for (size_t i = 0; i < num; i++) {
		if (loads[i].executable && pgoff <= loads[i].offset + loads[i].filesz &&
		    pgoff + 4096 > loads[i].offset)
			return start - pgoff + loads[i].offset - loads[i].vaddr;
	}
	return start - pgoff;
}

static struct file *self_file(struct self *self, const char *path, uint64_t start)
{
	struct file *f = &self->files[self->num_files];
	struct stat st;
	int fd;

	for (size_t i = 0; i < self->num_files; i++) {
		if (!strcmp(self->files[i].path, path))
			return &self->files[i];
	}
	*f = (struct file){ .id = (uint32_t)self->num_files + 1,
			    .kind = FILE_ELF,
			    .path = strdup(path) };
	if (!strcmp(path, "[vdso]")) {
		if (elf_file_open_memory((const void *)start, 8192, &f->elf, NULL) < 0)
			die("vdso");
	} else {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 ||
		    elf_file_open_fd(fd, (uint64_t)st.st_size, &f->elf, NULL) < 0)
			die(path);
	}
	self->num_files++;
	return f;
}

static bool add_mapping(struct self *self, const char *line)
{
	unsigned long long start, end, pgoff;
	char perms[5], path[512] = "";
	struct mapping m = { 0 };

	if (sscanf(line, "%llx-%llx %4s %llx %*s %*s %511s", &start, &end, perms, &pgoff, path) < 4)
		return false;
	if (perms[2] != 'x' || !strcmp(path, "[vsyscall]"))
		return true;
	m = (struct mapping){ start, end, start, NULL, 0, false };
	if (path[0]) {
		m.file = self_file(self, path, start);
		m.pgoff = pgoff;
		m.bias = bias_of(m.file->elf, start, pgoff);
	}
	return vec_push(&self->maps, m);
}

void self_init(struct self *self)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[1024];

	memset(self, 0, sizeof(*self));
	self->files = calloc(1024, sizeof(*self->files));
	if (!f || !self->files)
		die("/proc/self/maps");
	while (fgets(line, sizeof(line), f)) {
		if (!add_mapping(self, line))
			die(line);
	}
	fclose(f);
	self->space.maps = mappings_view(&self->run, self->maps.data, self->maps.len);
	self->space.pid = getpid();
	self->space.id = 1;
}

void self_deinit(struct self *self)
{
	for (size_t i = 0; i < self->num_files; i++) {
		elf_file_free(self->files[i].elf);
		free((char *)self->files[i].path);
	}
	free(self->files);
	vec_deinit(&self->maps);
}
