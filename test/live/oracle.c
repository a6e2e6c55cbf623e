/*
 * Holds our stacks against three others on the very same samples: the kernel's frame-pointer chain, libunwind
 * and libdwfl.
 *
 *	oracle [--fp] [--freq HZ] [--seconds S] [--stack-bytes N] (-a | -p PID | -- COMMAND ARG..)
 *
 * Prints one line per oracle: samples compared, equal, the other one shorter (a prefix of ours), ours
 * shorter, different. Exit 1 when ours was shorter or different beyond what --tolerate N (samples in 1000)
 * allows; each kind of difference is shown once with the place where it begins. --fp compares the kernel's
 * chain too: only programs built with frame pointers throughout can pass.
 */
#include "app/follow.h"
#include "app/launch.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/vec.h"
#include "collector/collector.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "test/live/dwfl_walk.h"
#include "unwinder/unwinder.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_FRAMES = 1024, MAX_SHOWN = 12 };

/* A frame as every oracle can express it. */
struct place {
	uint64_t pc;        /* look-up address in the process */
	uint32_t file;      /* id, 0 = none */
	uint64_t offset;    /* in the file */
};

struct tally {
	const char *name;
	uint64_t compared, equal, other_shorter, ours_shorter, different, leaf_caller;
	uint64_t frames; /* that both have */
	unsigned int shown;
};

struct oracle {
	struct door *door;
	struct intern *strings;
	struct files *files;
	struct addrspaces *spaces;
	struct symbols *symbols;
	struct unwinder *ours, *libunwind;
	struct dwfl_walker *dwfl;
	uint64_t regs_mask;
	bool fp;
	uint64_t samples, complete, truncated, broken, no_user;
	uint64_t broken_by[REASON_NUM];
	struct tally by_fp, by_libunwind, by_dwfl;
	uint32_t *ids;
	struct place *mine, *other;
	uint64_t addrs[MAX_FRAMES];
};

static struct place place_of(const struct addrspace *space, uint64_t pc)
{
	const struct mapping *m = addrspace_find(space, pc);
	struct place p = { .pc = pc };

	if (m && m->file) {
		p.file = m->file->id;
		p.offset = pc - m->start + m->pgoff;
	} else {
		p.offset = pc;
	}
	return p;
}

static bool same_place(const struct place *a, const struct place *b)
{
	return a->file == b->file && a->offset == b->offset;
}

static void show_frame(struct oracle *o, const struct place *p)
{
	struct file *file = p->file ? files_by_id(o->files, p->file) : NULL;
	struct symbol symbol = { 0 };
	uint64_t vaddr = 0;

	if (file && file->kind == FILE_ELF && elf_file_vaddr(file->elf, p->offset, &vaddr))
		symbols_file_batch(o->symbols, file, &vaddr, 1, &symbol);
	fprintf(stderr, "%s+0x%" PRIx64 " (%s vaddr 0x%" PRIx64 ")", symbol.name ? symbol.name : "?",
		symbol.offset, file ? file->base : "no file", vaddr);
}

static void show(struct oracle *o, struct tally *t, const char *what, size_t at, size_t num_mine,
		 size_t num_other)
{
	if (t->shown++ >= MAX_SHOWN)
		return;
	fprintf(stderr, "  %s: %s at frame %zu (ours %zu, theirs %zu): ", t->name, what, at, num_mine,
		num_other);
	if (num_mine > 0) {
		fprintf(stderr, "sampled at ");
		show_frame(o, &o->mine[0]);
	}
	if (at > 1) {
		fprintf(stderr, " after ");
		show_frame(o, &o->mine[at - 1]);
	}
	if (at < num_mine) {
		fprintf(stderr, " ours ");
		show_frame(o, &o->mine[at]);
	}
	if (at < num_other) {
		fprintf(stderr, " theirs ");
		show_frame(o, &o->other[at]);
	}
	fputc('\n', stderr);
}

/* True when both agree, or the other stops early. `skip_second`: ours with frame 1 left out counts too. */
static void compare(struct oracle *o, struct tally *t, size_t num_mine, size_t num_other,
		    bool skip_second)
{
	size_t at = 0;

	t->compared++;
	while (at < num_mine && at < num_other && same_place(&o->mine[at], &o->other[at]))
		at++;
	t->frames += at;
	if (at == num_mine && at == num_other) {
		t->equal++;
		return;
	}
	if (skip_second && at == 1 && num_mine == num_other + 1) {
		size_t i = 1;

		while (i < num_other && same_place(&o->mine[i + 1], &o->other[i]))
			i++;
		if (i == num_other) {
			t->leaf_caller++;
			return;
		}
	}
	if (at == num_other) {
		t->other_shorter++;
		if (getenv("ORACLE_VERBOSE"))
			show(o, t, "theirs shorter", at, num_mine, num_other);
	} else if (at == num_mine) {
		t->ours_shorter++;
		show(o, t, "ours shorter", at, num_mine, num_other);
	} else {
		t->different++;
		show(o, t, "different", at, num_mine, num_other);
	}
}

static size_t walk(struct oracle *o, struct unwinder *u, const struct unwind_input *in,
		   struct place *places, struct unwind_result *result)
{
	unwinder_walk(u, in, o->ids, result);
	for (size_t i = 0; i < result->num_frames; i++) {
		struct unwind_frame f = unwinder_frame(u, o->ids[i]);

		places[i] = (struct place){ .pc = f.place, .offset = f.place,
					    .file = f.where == FRAME_IN_FILE ? f.owner : 0 };
	}
	return result->num_frames;
}

static void compare_dwfl(struct oracle *o, const struct unwind_input *in, size_t num_mine)
{
	struct dwfl_sample sample = { .space = in->space, .perf_regs = in->perf_regs, .perf_mask = in->perf_mask,
				      .stack = in->stack, .stack_bytes = in->stack_bytes };
	size_t num = dwfl_walk(o->dwfl, &sample, o->addrs, MAX_FRAMES);

	for (size_t i = 0; i < num; i++)
		o->other[i] = place_of(in->space, o->addrs[i]);
	compare(o, &o->by_dwfl, num_mine, num, false);
}

static void compare_chain(struct oracle *o, const struct unwind_input *in, size_t num_mine)
{
	size_t num = 0;

	for (size_t i = 0; i < in->num_chain && num < MAX_FRAMES; i++)
		o->other[num++] = place_of(in->space, i ? in->chain[i] - 1 : in->chain[i]);
	compare(o, &o->by_fp, num_mine, num, true);
}

static void take_sample(struct oracle *o, const struct record *rec)
{
	const struct record_sample *s = &rec->sample;
	struct addrspace *space = addrspaces_get(o->spaces, rec->pid);
	struct unwind_input in = {
		.space = space, .perf_regs = s->regs, .perf_mask = o->regs_mask, .stack = s->stack,
		.compat = s->regs_abi == 1, .stack_bytes = s->stack_bytes,
		.stack_full = s->stack_bytes == s->stack_size,
	};
	struct unwind_result result, other;
	size_t num;

	o->samples++;
	if (rec->pid == 0 || s->regs_abi == 0 || s->stack_bytes == 0 || !space || space->maps.num == 0) {
		o->no_user++;
		return;
	}
	num = walk(o, o->ours, &in, o->mine, &result);
	o->complete += result.class == UNWIND_COMPLETE;
	o->truncated += result.class == UNWIND_TRUNCATED;
	o->broken += result.class == UNWIND_BROKEN;
	o->broken_by[result.reason] += result.class == UNWIND_BROKEN;
	if (result.class == UNWIND_BROKEN && getenv("ORACLE_BROKEN")) {
		fprintf(stderr, "broken %s after %zu frames at ", unwind_reason_name(result.reason), num);
		if (num)
			show_frame(o, &o->mine[num - 1]);
		fputc('\n', stderr);
	}
	compare(o, &o->by_libunwind, num, walk(o, o->libunwind, &in, o->other, &other), false);
	compare_dwfl(o, &in, num);
	in.num_chain = record_user_chain(s, &in.chain);
	if (o->fp)
		compare_chain(o, &in, num);
}

static void take_record(void *data, const struct record *rec)
{
	struct oracle *o = data;

	if (rec->type == RECORD_SAMPLE)
		take_sample(o, rec);
	else
		follow_record(o->spaces, rec);
}

static void space_gone(void *data, struct addrspace *space)
{
	struct oracle *o = data;

	unwinder_space_gone(o->ours, space);
	unwinder_space_gone(o->libunwind, space);
}

static int print_tally(const struct tally *t, unsigned int tolerate)
{
	uint64_t bad = t->ours_shorter + t->different;

	if (!t->compared)
		return 0;
	printf("%-10s compared %6" PRIu64 "  equal %6" PRIu64 "  theirs shorter %6" PRIu64
	       "  leaf's caller only ours %6" PRIu64 "  ours shorter %4" PRIu64 "  different %4" PRIu64
	       "  common frames %.1f\n", t->name, t->compared, t->equal, t->other_shorter, t->leaf_caller,
	       t->ours_shorter, t->different, (double)t->frames / (double)t->compared);
	/* An oracle that gives up at once agrees with everything. */
	return bad * 1000 > t->compared * tolerate || t->frames < 3 * t->compared;
}

static void must(int r, const struct err *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "oracle: %s\n", err->msg);
	exit(err->code == EPERM || err->code == EACCES ? 77 : 2);
}

static void open_parts(struct oracle *o, struct err *err)
{
	struct files_opts files = { 0 };
	struct addrspaces_opts spaces = { .space_gone = space_gone, .data = o };
	struct symbols_opts symbols = { 0 };
	struct unwind_opts unwind = { .arch = arch_host(), .method = UNWIND_CFI, .max_frames = MAX_FRAMES };

	must(door_new(&o->door, err), err);
	o->strings = intern_new();
	files.door = spaces.door = symbols.door = o->door;
	files.strings = spaces.strings = symbols.strings = o->strings;
	must(unwinder_new(&unwind, &o->ours, err), err);
	unwind.method = UNWIND_LIBUNWIND;
	must(unwinder_new(&unwind, &o->libunwind, err), err);
	must(files_new(&files, &o->files, err), err);
	symbols.files = spaces.files = o->files;
	must(symbols_new(&symbols, &o->symbols, err), err);
	must(addrspaces_new(&spaces, &o->spaces, err), err);
	o->dwfl = dwfl_walker_new();
	o->ids = calloc(MAX_FRAMES, sizeof(*o->ids));
	o->mine = calloc(MAX_FRAMES, sizeof(*o->mine));
	o->other = calloc(MAX_FRAMES, sizeof(*o->other));
	o->by_fp.name = "kernel fp";
	o->by_libunwind.name = "libunwind";
	o->by_dwfl.name = "libdwfl";
}

int main(int argc, char **argv)
{
	static const struct option long_opts[] = {
		{ "fp", 0, 0, 'f' }, { "freq", 1, 0, 'F' }, { "seconds", 1, 0, 'd' },
		{ "stack-bytes", 1, 0, 's' }, { "tolerate", 1, 0, 't' }, { "pid", 1, 0, 'p' },
		{ "all", 0, 0, 'a' }, { 0 },
	};
	struct oracle o = { .regs_mask = arch_host()->perf_regs };
	struct collector_opts opts = { .target = TARGET_COMMAND, .freq_hz = 499, .user_regs = o.regs_mask,
				       .no_kernel = false };
	struct launch launch = { .go_fd = -1, .fail_fd = -1 };
	unsigned int tolerate = 0;
	struct collector *c;
	struct err err = { 0 };
	double seconds = 3;
	uint64_t end_ns;
	pid_t pid = 0;
	int opt, bad = 0;

	while ((opt = getopt_long(argc, argv, "+ap:F:d:", long_opts, NULL)) >= 0) {
		switch (opt) {
		case 'f': o.fp = true; break;
		case 'F': opts.freq_hz = (uint32_t)atoi(optarg); break;
		case 'd': seconds = atof(optarg); break;
		case 's': opts.stack_bytes = (uint32_t)atoi(optarg); break;
		case 't': tolerate = (unsigned int)atoi(optarg); break;
		case 'a': opts.target = TARGET_ALL; break;
		case 'p': opts.target = TARGET_PIDS; pid = atoi(optarg); break;
		default: return 2;
		}
	}
	open_parts(&o, &err);
	if (optind < argc) {
		must(launch_prepare(argv + optind, &launch, &err), &err);
		pid = launch.pid;
	}
	opts.pids = &pid;
	opts.num_pids = 1;
	opts.door = o.door;
	must(collector_open(&opts, &c, &err), &err);
	if (opts.target == TARGET_ALL)
		must(addrspaces_scan(o.spaces, &err), &err);
	must(collector_enable(c, &err), &err);
	if (launch.pid)
		must(launch_go(&launch, argv[optind], &err), &err);
	end_ns = clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
	for (int what = 1; what != 3 && clock_monotonic_ns() < end_ns && !launch_poll(&launch);) {
		struct collector_sink sink = { .record = take_record, .data = &o };

		what = collector_wait(c, -1, &err);
		must(what, &err);
		must(collector_drain(c, &sink, false, &err), &err);
	}
	must(collector_disable(c, &err), &err);
	must(collector_drain(c, &(struct collector_sink){ .record = take_record, .data = &o }, true, &err),
	     &err);
	printf("samples %" PRIu64 "  without user side %" PRIu64 "  complete %" PRIu64 "  truncated %" PRIu64
	       "  broken %" PRIu64 "  lost %" PRIu64 "\n", o.samples, o.no_user, o.complete, o.truncated,
	       o.broken, collector_counts(c).lost);
	for (int i = 0; i < REASON_NUM; i++)
		if (o.broken_by[i])
			printf("  broken: %s %" PRIu64 "\n", unwind_reason_name(i), o.broken_by[i]);
	bad |= print_tally(&o.by_fp, tolerate);
	bad |= print_tally(&o.by_libunwind, tolerate);
	bad |= print_tally(&o.by_dwfl, tolerate);
	launch_end(&launch, false);
	collector_close(c);
	addrspaces_free(o.spaces);
	symbols_free(o.symbols);
	files_free(o.files);
	unwinder_free(o.ours);
	unwinder_free(o.libunwind);
	intern_free(o.strings);
	door_free(o.door);
	dwfl_walker_free(o.dwfl);
	free(o.ids);
	free(o.mine);
	free(o.other);
	return o.samples == o.no_user ? 3 : bad;
}
