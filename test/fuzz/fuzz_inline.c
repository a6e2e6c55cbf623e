/*
 * DWARF as a target may write it. The file is its own .dwo, package and supplementary file, so that those
 * are read as well. Whatever it says: frames have names, and no more of them than were asked for.
 */
#include "base/intern.h"
#include "symbols/inline.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_FRAMES = 32 };

struct input {
	const uint8_t *bytes;
	size_t size;
};

static int open_input(void *data, const char *name, const uint8_t *build_id, size_t build_id_len)
{
	const struct input *in = data;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || !name || write(fd, in->bytes, in->size) != (ssize_t)in->size)
		abort();
	return fd;
}

static void ask(struct inliner *in, uint64_t vaddr)
{
	struct inline_frame frames[MAX_FRAMES];
	size_t num = inliner_find(in, vaddr, frames, MAX_FRAMES);

	if (num > MAX_FRAMES)
		abort();
	for (size_t i = 0; i < num; i++) {
		if (!frames[i].name)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	struct inline_files files = { open_input, &input };
	struct intern *strings = intern_new();
	struct inliner *in = NULL;

	if (!strings)
		abort();
	if (inliner_open(open_input(&input, "", NULL, 0), &files, strings, &in, NULL) == 0) {
		/* Where the corpus' programs have their code. */
		for (uint64_t vaddr = 0x400000; vaddr < 0x400400; vaddr += 3)
			ask(in, vaddr);
		ask(in, 0);
		ask(in, UINT64_MAX);
	}
	inliner_free(in);
	intern_free(strings);
	return 0;
}
