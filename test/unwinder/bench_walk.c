/*
 * Unwinding alone, in nanoseconds per frame.
 *
 *	bench_walk [-s SECONDS] [-m cfi|libunwind|fp] [FILE[:STACKS]..]
 *
 * FILE is a perf.data of this boot of this machine. All its samples are read into memory, with what was mapped where
 * at the time of each; then all are walked, again and again. The first pass meets every pc for the first time; "warm" is
 * the median of the others, "best" the shortest. How much of the stacks stays in a cache from pass to pass depends on how
 * many there are, so whoever compares with another's figure must walk as many: STACKS are taken in a few runs of
 * successive ones from all over the file. The next sample's registers and the begin of its stack are asked of memory
 * before one is walked, as collector/ring.c does with records.
 *
 * Without a FILE the stacks are those of a made-up program, a few of different depth and pc, all of it in cache.
 */
#include "fixture.h"
#include "test/unwinder/corpus.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "collector/ring_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SAMPLES = 64, MAX_STACK = 32 * 1024, FUNCTIONS = 512 };

/*
 * A program of many functions with the rules that compilers make: returns are pushed, up to six
 * registers are saved below, some frames are found by rbp.
 */
struct bench {
	struct program program;
	struct unwinder *u;
	struct {
		uint64_t regs[ARCH_MAX_PERF_REGS];
		uint64_t stack[MAX_STACK / 8];
		struct unwind_input in;
	} samples[MAX_SAMPLES];
	uint64_t random;
};

static uint64_t next_random(struct bench *b)
{
	b->random = hash_u64(b->random + 0x9e3779b97f4a7c15u);
	return b->random;
}

/* Function i: saves i % 7 registers, 8 * (i % 5) bytes more; every eighth keeps rbp. */
static unsigned int saved(unsigned int i)
{
	return i % 7;
}

static unsigned int words(unsigned int i)
{
	return 1 + saved(i) + i % 5;
}

static void add_function(struct cfi_bytes *cfi, unsigned int i)
{
	static const uint8_t order[] = { 6, 3, 12, 13, 14, 15 };
	uint8_t program[32];
	size_t len = 0;

	program[len++] = DW_CFA_def_cfa_offset;
	program[len++] = (uint8_t)(8 * words(i));
	for (unsigned int k = 0; k < saved(i); k++) {
		program[len++] = (uint8_t)(DW_CFA_offset | order[k]);
		program[len++] = (uint8_t)(2 + k);
	}
	cfi_fde(cfi, TEXT + 64 * i, 64, program, len);
}

static void make_stack(struct bench *b, size_t index, size_t depth)
{
	uint64_t *stack = b->samples[index].stack;
	unsigned int function = 1 + (unsigned int)(next_random(b) % (FUNCTIONS - 1));
	size_t at = 0;

	b->samples[index].regs[8] = LOADED_AT + TEXT + 64 * function + 8; /* IP */
	b->samples[index].regs[7] = STACK_AT;
	for (size_t i = 0; i < depth; i++) {
		at += words(function);
		/* 20 functions are hot, as in real programs. */
		function = 1 + (unsigned int)(next_random(b) % (i % 3 ? 20 : FUNCTIONS - 1));
		if (i == depth - 1)
			function = 0;
		stack[at - 1] = LOADED_AT + TEXT + 64 * function + 16 + (next_random(b) & 3) * 8;
	}
	b->samples[index].in = (struct unwind_input){
		.space = &b->program.space,
		.perf_regs = b->samples[index].regs,
		.perf_mask = arch_x86_64.perf_regs,
		.stack = (const uint8_t *)stack,
		.stack_bytes = (at + 16) * 8,
	};
}

static void setup(struct bench *b)
{
	static struct cfi_bytes cfi;

	cfi_cie_x86(&cfi, "");
	cfi_fde(&cfi, TEXT, 64, CFI_PROGRAM(DW_CFA_undefined, 16));
	for (unsigned int i = 1; i < FUNCTIONS; i++)
		add_function(&cfi, i);
	program_init(&b->program, EM_X86_64, &cfi);
	b->u = new_unwinder(&arch_x86_64, UNWIND_CFI);
	for (size_t i = 0; i < MAX_SAMPLES; i++)
		make_stack(b, i, 20 + i % 41);
}

/* Walks all samples; the number of frames. */
static size_t round_of(struct bench *b)
{
	uint32_t frames[1024];
	struct unwind_result result;
	size_t num = 0;

	for (size_t i = 0; i < MAX_SAMPLES; i++) {
		for (size_t again = 0; again < 8; again++) {
			unwinder_walk(b->u, &b->samples[i].in, frames, &result);
			num += result.num_frames;
		}
		if (result.class != UNWIND_COMPLETE) {
			fprintf(stderr, "sample %zu: %s\n", i, unwind_reason_name(result.reason));
			exit(1);
		}
	}
	return num;
}

static void bench_made_up(uint64_t seconds)
{
	struct bench *b = calloc(1, sizeof(*b));
	uint64_t start, now, best = ~0ull;
	size_t frames;

	if (!b)
		exit(1);
	setup(b);
	frames = round_of(b);
	start = clock_monotonic_ns();
	do {
		uint64_t from = clock_monotonic_ns();

		round_of(b);
		now = clock_monotonic_ns();
		if (now - from < best)
			best = now - from;
	} while (now - start < seconds * 1000000000u);
	printf("%.2f ns per frame (%zu frames a round, %.1f per stack)\n",
	       (double)best / (double)frames, frames, (double)frames / (MAX_SAMPLES * 8));
	unwinder_free(b->u);
	program_deinit(&b->program);
	free(b);
}

/* ---- recordings ---- */

enum { MAX_PASSES = 20000, RUNS = 16 };

struct passes {
	size_t frames, complete;
	size_t num;
	uint64_t ns[MAX_PASSES];
};

/* Of this thread: other work on the machine counts only by what it does to the caches. */
static uint64_t thread_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Which of the corpus is number i of num. */
static size_t index_of(const struct corpus *c, size_t num, size_t i)
{
	size_t run_len = num / RUNS + 1, run = i / run_len;

	return num == corpus_len(c) ? i : run * (corpus_len(c) / RUNS) + i % run_len;
}

/* As ring_expect does: registers, then the stack. */
static void expect(const struct unwind_input *in)
{
	const uint8_t *at = (const uint8_t *)in->perf_regs;

	for (size_t i = 0; i < RING_EXPECT_BYTES; i += 64)
		__builtin_prefetch(at + i);
}

static void pass_of(struct unwinder *u, const struct corpus *c, size_t num, struct passes *p)
{
	uint32_t frames[1024];
	struct unwind_result result;
	const struct unwind_input *in = corpus_at(c, 0), *next;
	uint64_t from = thread_ns();

	p->frames = p->complete = 0;
	for (size_t i = 0; i < num; i++, in = next) {
		next = corpus_at(c, i + 1 < num ? index_of(c, num, i + 1) : 0);
		expect(next);
		unwinder_walk(u, in, frames, &result);
		p->frames += result.num_frames;
		p->complete += result.class == UNWIND_COMPLETE;
	}
	p->ns[p->num++] = thread_ns() - from;
}

static int compare_ns(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* path[:STACKS] */
static int bench_recording(char *path, enum unwind_method method, uint64_t seconds)
{
	char *colon = strrchr(path, ':');
	size_t num = colon ? strtoull(colon + 1, NULL, 10) : SIZE_MAX;
	struct unwinder *u = new_unwinder(arch_host(), method);
	static struct passes p;
	struct unwind_counts counts;
	struct corpus *c;
	struct err err;
	uint64_t start, first;
	double frames;

	p.num = 0;
	if (colon)
		*colon = '\0';
	if (corpus_read(path, &c, &err) < 0) {
		fprintf(stderr, "%s: %s\n", path, err.msg);
		return 1;
	}
	if (num > corpus_len(c) - RUNS)
		num = corpus_len(c);
	pass_of(u, c, num, &p);
	first = p.ns[0];
	p.num = 0;
	counts = unwinder_counts(u);
	start = clock_monotonic_ns();
	while (p.num < MAX_PASSES &&
	       (p.num < 3 || clock_monotonic_ns() - start < seconds * 1000000000u))
		pass_of(u, c, num, &p);
	qsort(p.ns, p.num, sizeof(p.ns[0]), compare_ns);
	frames = p.frames ? (double)p.frames : 1;
	printf("%-24s %6zu stacks %5.1f frames %5.1f %% complete  %6zu pcs  ns/frame: first %6.1f  warm %5.1f  "
	       "best %5.1f\n",
	       path, num, frames / (double)num, 100.0 * (double)p.complete / (double)num,
	       (size_t)counts.rule_misses, (double)first / frames, (double)p.ns[p.num / 2] / frames,
	       (double)p.ns[0] / frames);
	unwinder_free(u);
	corpus_free(c);
	return 0;
}

int main(int argc, char **argv)
{
	enum unwind_method method = UNWIND_CFI;
	uint64_t seconds = 1;
	int option, ret = 0;

	while ((option = getopt(argc, argv, "s:m:")) != -1) {
		if (option == 's')
			seconds = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			method = !strcmp(optarg, "fp")    ? UNWIND_FP
				 : !strcmp(optarg, "cfi") ? UNWIND_CFI
							  : UNWIND_LIBUNWIND;
		else
			return 2;
	}
	if (optind == argc)
		bench_made_up(seconds);
	for (; optind < argc; optind++)
		ret |= bench_recording(argv[optind], method, seconds);
	return ret;
}
