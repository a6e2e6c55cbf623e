#include "test/live/dwfl_walk.h"

#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_SPACES = 16, NUM_REGS = 17, VDSO_MAX = 16 << 10 };

/* One Dwfl for each state of an address space: it takes no mapping back. */
struct dwfl_space {
	Dwfl *dwfl;
	uint32_t id, version;
};

struct dwfl_walker {
	struct dwfl_space spaces[MAX_SPACES];
	unsigned int next;
	int vdso_fd;
	/* of the walk that runs */
	const struct dwfl_sample *sample;
	struct regs regs;
	uint64_t *addrs;
	size_t num, max;
};

static int no_find_elf(Dwfl_Module *mod, void **user, const char *name, Dwarf_Addr base, char **file,
		       Elf **elf)
{
	return -1;
}

static int no_find_debuginfo(Dwfl_Module *mod, void **user, const char *name, Dwarf_Addr base,
			     const char *file, const char *debuglink, GElf_Word crc, char **debug)
{
	return -1;
}

static const Dwfl_Callbacks callbacks = {
	.find_elf = no_find_elf,
	.find_debuginfo = no_find_debuginfo,
};

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	if (*thread_arg)
		return 0;
	*thread_arg = arg;
	return 1;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
	*thread_arg = arg;
	return true;
}

static bool memory_read(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *result, void *arg)
{
	const struct dwfl_walker *w = arg;
	const struct dwfl_sample *s = w->sample;
	uint64_t base = w->regs.v[arch_host()->sp];

	if (addr < base || addr - base > s->stack_bytes || s->stack_bytes - (addr - base) < 8)
		return false;
	memcpy(result, s->stack + (addr - base), 8);
	return true;
}

static bool set_initial_registers(Dwfl_Thread *thread, void *arg)
{
	const struct dwfl_walker *w = arg;
	Dwarf_Word words[NUM_REGS];

	for (int i = 0; i < NUM_REGS - 1; i++)
		words[i] = w->regs.v[i];
	words[NUM_REGS - 1] = w->regs.pc;
	return dwfl_thread_state_registers(thread, 0, NUM_REGS, words);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
	.next_thread = next_thread,
	.get_thread = get_thread,
	.memory_read = memory_read,
	.set_initial_registers = set_initial_registers,
};

static int each_frame(Dwfl_Frame *frame, void *arg)
{
	struct dwfl_walker *w = arg;
	Dwarf_Addr pc;
	bool activation;

	if (w->num >= w->max || !dwfl_frame_pc(frame, &pc, &activation))
		return DWARF_CB_ABORT;
	if (!activation && pc == 0)
		return DWARF_CB_ABORT;
	w->addrs[w->num++] = activation ? pc : pc - 1;
	return DWARF_CB_OK;
}

/* The vDSO has no path; all processes of a kernel have the same, so ours will do. -1 = it cannot be had. */
static int open_vdso(void)
{
	const uint8_t *vdso = (const uint8_t *)getauxval(AT_SYSINFO_EHDR); // NOLINT
	const Elf64_Ehdr *ehdr = (const void *)vdso;
	size_t bytes;
	int fd;

	if (!vdso)
		return -1;
	/* Its section headers are the last thing in it (arch/x86/entry/vdso/vdso-layout.lds.S). */
	bytes = ehdr->e_shoff + (size_t)ehdr->e_shnum * ehdr->e_shentsize;
	if (bytes > VDSO_MAX)
		return -1;
	fd = memfd_create("vdso", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, vdso, bytes) != (ssize_t)bytes) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int open_file(const struct dwfl_walker *w, const struct addrspace *space, const struct file *file)
{
	char path[4200];
	int fd;

	if (!strcmp(file->path, "[vdso]"))
		return w->vdso_fd < 0 ? -1 : dup(w->vdso_fd);
	if (file->path[0] != '/')
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/root%s", space->pid, file->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd >= 0 ? fd : open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* addr - vaddr by the program header that holds the beginning of the mapping; its own reading, not ours. */
static bool find_bias(int fd, const struct mapping *m, uint64_t *ret)
{
	Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	bool found = false;
	GElf_Phdr ph;

	for (int i = 0; elf && !found && gelf_getphdr(elf, i, &ph); i++) {
		uint64_t begin = ph.p_offset & ~(page - 1);

		found = ph.p_type == PT_LOAD && ph.p_flags & PF_X && m->pgoff >= begin && m->pgoff < ph.p_offset + ph.p_filesz;
		if (found)
			*ret = m->start - m->pgoff + ph.p_offset - ph.p_vaddr;
	}
	elf_end(elf);
	return found;
}

static void report(const struct dwfl_walker *w, Dwfl *dwfl, const struct addrspace *space, const struct mapping *m)
{
	uint64_t bias;
	int fd;

	if (!m->file)
		return;
	/*
	 * Once: where a program maps a part of itself again (V8 does, its built-in functions), the second module would
	 * overlap others as if all of the file were there, and libdwfl then drops the first.
	 */
	mappings_for_each(before, &space->maps) {
		if (before == m)
			break;
		if (before->file == m->file)
			return;
	}
	fd = open_file(w, space, m->file);
	if (fd < 0)
		return;
	if (!find_bias(fd, m, &bias) || !dwfl_report_elf(dwfl, m->file->path, m->file->path, fd, bias, true))
		close(fd);
}

static bool load(struct dwfl_walker *w, struct dwfl_space *d, const struct addrspace *space)
{
	if (d->dwfl && d->id == space->id && d->version == space->version)
		return true;
	dwfl_end(d->dwfl);
	d->dwfl = dwfl_begin(&callbacks);
	if (!d->dwfl)
		return false;
	dwfl_report_begin(d->dwfl);
	mappings_for_each(m, &space->maps)
		report(w, d->dwfl, space, m);
	dwfl_report_end(d->dwfl, NULL, NULL);
	d->id = space->id;
	d->version = space->version;
	return dwfl_attach_state(d->dwfl, NULL, 1, &thread_callbacks, w);
}

struct dwfl_walker *dwfl_walker_new(void)
{
	struct dwfl_walker *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	elf_version(EV_CURRENT);
	w->vdso_fd = open_vdso();
	return w;
}

void dwfl_walker_free(struct dwfl_walker *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < MAX_SPACES; i++)
		dwfl_end(w->spaces[i].dwfl);
	if (w->vdso_fd >= 0)
		close(w->vdso_fd);
	free(w);
}

size_t dwfl_walk(struct dwfl_walker *w, const struct dwfl_sample *sample, uint64_t *addrs, size_t max)
{
	struct dwfl_space *d = NULL;

	for (size_t i = 0; i < MAX_SPACES && !d; i++) {
		if (w->spaces[i].dwfl && w->spaces[i].id == sample->space->id)
			d = &w->spaces[i];
	}
	if (!d)
		d = &w->spaces[w->next++ % MAX_SPACES];
	arch_regs_from_perf(arch_host(), sample->perf_mask, sample->perf_regs,
			    (size_t)__builtin_popcountll(sample->perf_mask), &w->regs);
	w->sample = sample;
	w->addrs = addrs;
	w->num = 0;
	w->max = max;
	if (load(w, d, sample->space))
		dwfl_getthread_frames(d->dwfl, 1, each_frame, w);
	return w->num;
}
