/* Call-frame information in a room that is too small for it: the same rows, and no more bytes than allowed. */
#include "symbols/elf_cfi.h"
#include "symbols/elf_file_priv.h"
#include "test/check.h"

#include <elfutils/libdw.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

enum { MAX_FILES = 8, ROOM = 96 << 10, PIECES = 4 * 4096 };

/* A library of this program, with and without a room. */
struct twin {
	struct elf_file *roomy, *narrow;
	uint64_t start, end; /* of its code; vaddrs */
	size_t table;        /* bytes that stay: all but the pieces */
};

struct twins {
	struct twin all[MAX_FILES];
	size_t num;
	struct cfi_room room;
};

static struct elf_file *open_path(const char *path)
{
	struct elf_file *f = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0 && elf_file_open_fd(fd, (uint64_t)st.st_size, &f, NULL) == 0);
	return f;
}

static int add_library(struct dl_phdr_info *info, size_t size, void *data)
{
	struct twins *twins = data;
	struct twin *t = &twins->all[twins->num];

	if (*info->dlpi_name != '/' || twins->num == MAX_FILES)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && p->p_flags & PF_X)
			*t = (struct twin){ .start = p->p_vaddr, .end = p->p_vaddr + p->p_memsz };
	}
	t->roomy = open_path(info->dlpi_name);
	t->narrow = open_path(info->dlpi_name);
	elf_file_share_room(t->narrow, &twins->room);
	twins->num++;
	return 0;
}

/* What is between the fields is left as it was. */
static bool same_op(const Dwarf_Op *a, const Dwarf_Op *b)
{
	return a->atom == b->atom && a->number == b->number && a->number2 == b->number2 && a->offset == b->offset;
}

static void compare_row(const struct twin *t, uint64_t vaddr)
{
	struct elf_plain_row a = { 0 }, b = { 0 };
	Dwarf_CFI *cfi_a, *cfi_b;
	Dwarf_Frame *frame_a = NULL, *frame_b = NULL;
	bool plain = elf_file_plain_row(t->roomy, vaddr, &a);
	Dwarf_Op *ops_a = NULL, *ops_b = NULL;
	size_t num_a = 0, num_b = 0;
	enum elf_row row;

	CHECK(elf_file_plain_row(t->narrow, vaddr, &b) == plain);
	if (plain) {
		CHECK(a.start == b.start && a.end == b.end && a.ra == b.ra && a.cfa_reg == b.cfa_reg &&
		      a.cfa_off == b.cfa_off && a.saved == b.saved && a.undefined == b.undefined &&
		      !memcmp(a.at, b.at, sizeof(a.at)));
		return;
	}
	row = elf_file_row(t->roomy, vaddr, &cfi_a);
	CHECK(elf_file_row(t->narrow, vaddr, &cfi_b) == row);
	if (row != ELF_ROW_FINE)
		return;
	CHECK(dwarf_cfi_addrframe(cfi_a, vaddr, &frame_a) == 0);
	CHECK(dwarf_cfi_addrframe(cfi_b, vaddr, &frame_b) == 0);
	CHECK(frame_a && dwarf_frame_cfa(frame_a, &ops_a, &num_a) == 0);
	CHECK(frame_b && dwarf_frame_cfa(frame_b, &ops_b, &num_b) == 0);
	CHECK(num_a == num_b);
	for (size_t i = 0; i < num_a && i < num_b; i++)
		CHECK(same_op(&ops_a[i], &ops_b[i]));
	free(frame_a);
	free(frame_b);
}

static size_t held_by_all(const struct twins *twins)
{
	size_t held = 0;

	for (size_t i = 0; i < twins->num; i++)
		held += twins->all[i].narrow->eh_frame.held + twins->all[i].narrow->debug_frame.held;
	return held;
}

/* What a file may hold without its pieces: its table, or all of it where it is small. */
static size_t largest_rest(const struct twins *twins)
{
	size_t largest = 0;

	for (size_t i = 0; i < twins->num; i++) {
		struct elf_cfi *cfi = &twins->all[i].roomy->eh_frame;

		elf_cfi_drop(cfi);
		if (cfi->held > largest)
			largest = cfi->held;
	}
	return largest;
}

int main(void)
{
	enum { ROUNDS = 4000 };
	struct twins twins = { .room.max = ROOM };
	size_t large = 0, forgotten = 0, most = 0, rest;
	uint32_t seed = 1;

	dl_iterate_phdr(add_library, &twins);
	CHECK(twins.num >= 2);
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < twins.num; i++) {
			const struct twin *t = &twins.all[i];

			forgotten += round && !t->narrow->eh_frame.image;
			seed = seed * 1664525 + 1013904223;
			compare_row(t, t->start + (uint64_t)seed * (t->end - t->start) / ((uint64_t)UINT32_MAX + 1));
			CHECK(twins.room.held == held_by_all(&twins));
			large += t->narrow->eh_frame.have != NULL;
			if (twins.room.held > most)
				most = twins.room.held;
		}
	}
	CHECK(large >= 1); /* libc at least was read in pieces */
	CHECK(forgotten >= 1); /* and some other had to go for it */
	/* Before a question it is the room, or one that does not fit; a question adds a file, and pieces of it, at most. */
	rest = largest_rest(&twins);
	CHECK_MSG(most <= (rest > ROOM ? rest : ROOM) + rest + PIECES, "%zu bytes", most);
	cfi_room_clear(&twins.room);
	CHECK(!held_by_all(&twins) && !twins.room.held && !twins.room.oldest);
	for (size_t i = 0; i < twins.num; i++) {
		const struct twin *t = &twins.all[i];

		for (uint64_t part = 0; part < 100; part++)
			compare_row(t, t->start + part * (t->end - t->start) / 100);
	}
	CHECK(twins.room.held == held_by_all(&twins) && twins.room.held);
	for (size_t i = 0; i < twins.num; i++) {
		elf_file_free(twins.all[i].roomy);
		elf_file_free(twins.all[i].narrow);
	}
	CHECK(!twins.room.held && !twins.room.oldest && !twins.room.newest);
	return check_done();
}
