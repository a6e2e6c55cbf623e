/*
 * Stands in for libFuzzer in an ordinary test run: every file of the directories given goes through
 * the target whole, then cut short, then with a few bytes changed. The same bytes every time, so a
 * failure can be repeated; every input has its own exact allocation, so that the address sanitizer
 * sees the first byte read past it.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUTS = 64, MUTANTS = 256, MAX_CHANGES = 4 };

/* The files themselves always run; cuts and mutants only until this much time is used. */
static const uint64_t budget_ns = 4000000000u;

struct input {
	char *name;
	uint8_t *bytes;
	size_t size;
};

struct inputs {
	VEC(struct input) list;
	uint64_t until_ns; /* CLOCK_MONOTONIC */
	uint64_t runs;
};

static void inputs_deinit(struct inputs *in)
{
	for (size_t i = 0; i < in->list.len; i++) {
		free(in->list.data[i].name);
		free(in->list.data[i].bytes);
	}
	vec_deinit(&in->list);
}

static void run(struct inputs *in, const uint8_t *bytes, size_t size)
{
	/* malloc(0) may be NULL, which libFuzzer never passes. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	if (size)
		memcpy(copy, bytes, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	in->runs++;
}

static bool out_of_time(const struct inputs *in)
{
	return clock_monotonic_ns() > in->until_ns;
}

static void run_cuts(struct inputs *in, const struct input *input)
{
	size_t step = input->size / CUTS + 1;

	for (size_t size = 0; size < input->size && !out_of_time(in); size += step)
		run(in, input->bytes, size);
}

/* Values at which length and count fields tend to break. */
static uint8_t nasty_byte(uint64_t random, uint8_t old)
{
	static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff, '\n', ' ', '-' };

	if (random & 8)
		return old ^ (uint8_t)(1u << (random & 7));
	return values[random & 7];
}

static void run_mutant(struct inputs *in, const struct input *input, uint64_t seed)
{
	_cleanup_free_ uint8_t *bytes = malloc(input->size);
	uint64_t random = hash_two(seed, input->size);

	if (!bytes)
		exit(1);
	memcpy(bytes, input->bytes, input->size);
	for (uint64_t n = 1 + seed % MAX_CHANGES; n; n--) {
		size_t at;

		random = hash_two(random, n);
		at = (size_t)((random >> 8) % input->size);
		bytes[at] = nasty_byte(random, bytes[at]);
	}
	run(in, bytes, input->size);
}

static void run_all(struct inputs *in)
{
	const struct input *input;

	for (size_t i = 0; i < in->list.len; i++) {
		input = &in->list.data[i];
		fprintf(stderr, "%s\n",
			input->name); /* the last one printed is the one that failed */
		run(in, input->bytes, input->size);
	}
	for (size_t i = 0; i < in->list.len && !out_of_time(in); i++) {
		fprintf(stderr, "%s, cut\n", in->list.data[i].name);
		run_cuts(in, &in->list.data[i]);
	}
	/* Every file in turn, so that the time is shared. */
	for (uint64_t seed = 0; seed < MUTANTS && !out_of_time(in); seed++) {
		for (size_t i = 0; i < in->list.len && !out_of_time(in); i++) {
			if (in->list.data[i].size)
				run_mutant(in, &in->list.data[i], seed);
		}
	}
}

static bool read_file(struct inputs *in, const char *path)
{
	_cleanup_(fclosep) FILE *file = fopen(path, "rb");
	struct input input = { 0 };
	VEC(uint8_t) bytes = { 0 };
	size_t n;

	if (!file)
		return false;
	do {
		if (!vec_reserve(&bytes, bytes.len + 4096))
			exit(1);
		n = fread(bytes.data + bytes.len, 1, bytes.cap - bytes.len, file);
		bytes.len += n;
	} while (n);
	input = (struct input){ .name = strdup(path), .bytes = bytes.data, .size = bytes.len };
	if (ferror(file) || !input.name || !vec_push(&in->list, input))
		exit(1);
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct input *)a)->name, ((const struct input *)b)->name);
}

static bool read_directory(struct inputs *in, const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool ok = true;

	if (!dir)
		return false;
	while (ok && (entry = readdir(dir))) {
		_cleanup_free_ char *file = NULL;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&file, "%s/%s", path, entry->d_name) < 0)
			exit(1);
		ok = read_file(in, file);
	}
	closedir(dir);
	return ok;
}

int main(int argc, char **argv)
{
	_cleanup_(inputs_deinit) struct inputs in = { 0 };

	for (int i = 1; i < argc; i++) {
		if (!read_directory(&in, argv[i]) &&
		    !(errno == ENOTDIR && read_file(&in, argv[i]))) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			return 1;
		}
	}
	if (!in.list.len) {
		fprintf(stderr, "usage: %s CORPUS-DIRECTORY|FILE...: nothing to run\n", argv[0]);
		return 1;
	}
	qsort(in.list.data, in.list.len, sizeof(in.list.data[0]), by_name);
	in.until_ns = clock_monotonic_ns() + budget_ns;
	run_all(&in);
	fprintf(stderr, "%zu files, %llu runs\n", in.list.len, (unsigned long long)in.runs);
	return 0;
}
