/*
 * What inliner_find costs, or what it says:
 *
 *	bench_inline [-p] FILE <ADDRESSES
 *
 * ADDRESSES is a vaddr in hex on each line. Prints the CPU time of opening the file and of asking for each
 * address once; with -p the frames too, as `addr2line -a -i -f -C` does, those without inlines left out.
 */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/vec.h"
#include "symbols/inline.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FRAMES = 512 };

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A package is FILE.dwp; anything else is taken at its word. */
static int open_file(void *data, const char *name, const uint8_t *build_id, size_t build_id_len)
{
	char path[4096];

	if (strcmp(name, ".dwp") != 0)
		return open(name, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s.dwp", (const char *)data);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void print_frames(uint64_t vaddr, const struct inline_frame *frames, size_t num)
{
	if (!num)
		return;
	printf("0x%016" PRIx64 "\n", vaddr);
	for (size_t i = 0; i < num; i++)
		printf("%s\n%s:%u\n", frames[i].name, frames[i].file ? frames[i].file : "??",
		       frames[i].line);
}

int main(int argc, char **argv)
{
	bool print = argc == 3 && !strcmp(argv[1], "-p");
	struct inline_files files = { open_file, argv[argc - 1] };
	struct inline_frame frames[MAX_FRAMES];
	struct intern *strings = intern_new();
	VEC(uint64_t) addrs = { 0 };
	struct inliner *in;
	uint64_t start, opened, vaddr;
	size_t inlined = 0, total = 0;
	struct err err = { 0 };

	if (argc < 2 || argc > 3 || !strings) {
		fprintf(stderr, "usage: bench_inline [-p] FILE <ADDRESSES\n");
		return 2;
	}
	while (scanf("%" SCNx64, &vaddr) == 1 && vec_push(&addrs, vaddr))
		;
	start = cpu_ns();
	if (inliner_open(open(argv[argc - 1], O_RDONLY | O_CLOEXEC), &files, strings, &in, &err) <
	    0) {
		fprintf(stderr, "%s: %s\n", argv[argc - 1], err.msg);
		return 1;
	}
	opened = cpu_ns();
	for (size_t i = 0; i < addrs.len; i++) {
		size_t num = inliner_find(in, addrs.data[i], frames, MAX_FRAMES);

		inlined += num > 0;
		total += num;
		if (print)
			print_frames(addrs.data[i], frames, num);
	}
	fprintf(stderr,
		"%zu addresses, %zu with inlines, %zu frames: open %.2f ms, find %.2f ms, %.0f ns each\n",
		addrs.len, inlined, total, (double)(opened - start) / 1e6,
		(double)(cpu_ns() - opened) / 1e6,
		addrs.len ? (double)(cpu_ns() - opened) / (double)addrs.len : 0.0);
	vec_deinit(&addrs);
	inliner_free(in);
	intern_free(strings);
	return 0;
}
