/* Names of JIT code, which change as time goes by: the same address may be one function now and another later. */
#include "app/session_priv.h"

#include "app/jit_runtimes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "output/stacks.h"
#include "runtimes/dotnet.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/jit_cfi.h"
#include "runtimes/python.h"
#include "runtimes/r2r_files.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PROCESSES = 4096, MAX_SENTENCES = 8 };

/* A perf map or jitdump of .NET spells methods in another way than the runtime's events do: one way for all. */
static void spell_dotnet(struct session *s, struct profile_frame *frame)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	enum dotnet_tier tier;
	const char *module;
	size_t len;

	if (!dotnet_name_from_map(&text, frame->name, strlen(frame->name), &module, &len, &tier) || text.failed)
		return;
	if (s->opts.dotnet_tiers && tier != DOTNET_TIER_UNKNOWN)
		dotnet_name_tier(&text, tier);
	if (len)
		frame->module = intern_mem(s->strings, module, len);
	frame->name = intern_str(s->strings, text.data);
}

/* Single-file programs have no library of the runtime's: what answers at its socket tells. */
static const struct jit_runtime *runtime_of(struct live *live)
{
	if (!live->runtime)
		live->runtime = jit_runtime_of_space(live->space);
	if (live->runtime == &jit_runtime_other && dotnet_process_find(live->session->dotnet, live->space->pid))
		live->runtime = jit_runtime_of_path("libcoreclr.so");
	return live->runtime;
}

bool session_runtime_is_silent(struct live *live)
{
	return runtime_of(live)->name == jit_runtime_dotnet &&
	       !dotnet_process_find(live->session->dotnet, live->space->pid);
}

struct profile_frame session_space_frame(struct session *s, struct addrspace *space, uint32_t id)
{
	const struct unwind_frame place = unwinder_frame(s->unwinder, id);
	struct live *live = space->user;
	const struct retired_slot *retired = live ? retired_tab_find(&live->retired, id) : NULL;
	struct profile_frame frame = { .kind = FRAME_UNKNOWN };
	struct symbol symbol = { 0 };

	if (retired)
		return retired->frame;
	if (s->opts.keep_addresses)
		frame.place = frame.addr = place.place;
	if (place.where == FRAME_NOWHERE)
		return frame;
	frame.kind = FRAME_JIT;
	frame.module = intern_str(s->strings, "[jit]");
	frame.runtime = live ? runtime_of(live)->name : NULL;
	if (!symbols_jit(s->symbols, space, place.place, &symbol))
		return frame;
	frame.name = symbol.name;
	if (symbol.module)
		frame.module = symbol.module;
	else if (frame.name && frame.runtime == jit_runtime_dotnet)
		spell_dotnet(s, &frame);
	if (s->opts.keep_addresses)
		frame.offset = symbol.offset;
	return frame;
}

/* True when somebody knows more of the process's code from now on. */
static bool copies_begin(struct live *live)
{
	struct session *s = live->session;
	struct unwind_giver giver = r2r_copies_giver(s->r2r_files);

	if (!r2r_copies_begin(s->r2r_files, live->space))
		return false;
	if (!s->r2r_copies_give)
		s->r2r_copies_give = !unwinder_add_giver(s->unwinder, &giver, NULL);
	return s->r2r_copies_give;
}

/* The process may have published call-frame information: true when that is used from now on. */
static bool cfi_begins(struct live *live)
{
	struct session *s = live->session;
	const struct jit_cfi_opts opts = { s->symbols, s->opts.worker, s->opts.arch ? s->opts.arch : arch_host() };
	struct jit_cfi_giver *cfi;
	struct unwind_giver giver;

	if (s->jit_cfi || !symbols_jit_has_cfi(s->symbols, live->space))
		return false;
	cfi = jit_cfi_new(&opts);
	if (!cfi)
		return false;
	giver = jit_cfi_giver(cfi);
	if (unwinder_add_giver(s->unwinder, &giver, NULL) < 0) {
		jit_cfi_free(cfi);
		return false;
	}
	s->jit_cfi = cfi;
	return true;
}

static bool python_begins(struct live *live)
{
	struct session *s = live->session;
	struct unwind_giver giver = python_giver(s->symbols);

	if (s->python_gives || (s->opts.arch ? s->opts.arch : arch_host()) != &arch_x86_64 ||
	    !python_is_mapped(live->space))
		return false;
	s->python_gives = !unwinder_add_giver(s->unwinder, &giver, NULL);
	return s->python_gives;
}

bool session_jit_begins(struct live *live)
{
	struct session *s = live->session;
	bool more;

	live->jit = true;
	if (!live->comm)
		live->comm = addrspaces_comm(s->spaces, live->space->pid, live->space->pid);
	symbols_jit_first_seen(s->symbols, live->space);
	/* Only where there is such a process: a giver is asked for much code that is not its own. */
	more = copies_begin(live);
	more |= cfi_begins(live);
	more |= python_begins(live);
	return more || s->jit_cfi;
}

/* The code at a frame's place is about to be another's. */
static void retire_frame(void *data, uint32_t id)
{
	struct live *live = data;
	struct profile_frame frame = session_space_frame(live->session, live->space, id);
	struct retired_slot *slot = retired_tab_add(&live->retired, id, NULL);

	if (slot)
		*slot = (struct retired_slot){ id, frame };
	else
		live->session->failed = true;
}

static void retire_ranges(void *data, struct code_ranges *ranges)
{
	struct live *live = data;

	unwinder_drop_ranges(live->session->unwinder, live->space, ranges, retire_frame, live);
}

/* Names of JIT code as of `time_ns`. */
static void advance(struct live *live, uint64_t time_ns)
{
	if (!symbols_jit_advance(live->session->symbols, live->space, time_ns, retire_ranges, live))
		live->session->failed = true;
}

/* Reads the last of what the process has published: its frames are about to be named. */
void session_settle_names(struct live *live)
{
	if (!live->jit)
		return;
	symbols_jit_poll(live->session->symbols, live->space, true);
	advance(live, UINT64_MAX);
}

/*
 * What was published before the sample was taken is there by now: looked for once for all samples that are older than the
 * look, so mostly once per drain.
 */
static void poll_names(struct live *live, uint64_t time_ns)
{
	if (live->session->opts.offline || time_ns < live->polled_ns)
		return;
	live->polled_ns = clock_monotonic_ns();
	symbols_jit_poll(live->session->symbols, live->space, false);
	cfi_begins(live);
}

void session_advance_names(struct live *live, uint64_t time_ns)
{
	poll_names(live, time_ns);
	if (time_ns >= live->space->names_next_ns)
		advance(live, time_ns);
}

/* ---- how much of it has names ---- */

/* Every occurrence counts, as in profile_stats.jit_frames. False when out of memory. */
static bool count_frames(struct live *live, struct jit_count *ret)
{
	struct session *s = live->session;
	size_t num = stacks_num_nodes(live->stacks);
	_cleanup_free_ uint64_t *total = calloc(num + 1, sizeof(*total));

	if (!total)
		return false;
	for (size_t i = num; i > 0; i--) { /* children come after their parents */
		const struct stacks_node *node = stacks_node(live->stacks, (uint32_t)i);

		total[i] += node->self;
		total[node->parent] += total[i];
		if (unwinder_frame(s->unwinder, node->frame).where != FRAME_IN_JIT)
			continue;
		ret->frames += total[i];
		if (session_space_frame(s, live->space, node->frame).name)
			ret->named += total[i];
	}
	return true;
}

static void add_count(struct jit_count *to, const struct jit_count *from)
{
	to->frames += from->frames;
	to->named += from->named;
	to->origin.reads += from->origin.reads;
	to->origin.read_ns += from->origin.read_ns;
}

static bool add_to_runtime(struct jit_counts *counts, const struct jit_count *count)
{
	struct jit_count first = { .runtime = count->runtime };

	for (size_t i = 0; i < counts->runtimes.len; i++) {
		if (counts->runtimes.data[i].runtime != count->runtime)
			continue;
		add_count(&counts->runtimes.data[i], count);
		return true;
	}
	add_count(&first, count);
	return vec_push(&counts->runtimes, first);
}

void session_count_jit(struct live *live, struct jit_counts *counts)
{
	struct session *s = live->session;
	struct jit_count count = { .pid = live->space->pid, .comm = live->comm };

	if (!live->jit)
		return;
	count.runtime = runtime_of(live);
	count.origin = symbols_jit_origin(s->symbols, live->space);
	if (!count_frames(live, &count)) {
		s->failed = true;
		return;
	}
	if (!count.frames) /* it has a runtime that was asked, and was not seen in its code */
		return;
	if (!add_to_runtime(counts, &count) ||
	    (counts->processes.len < MAX_PROCESSES && !vec_push(&counts->processes, count)))
		s->failed = true;
}

void session_jit_deinit(struct jit_counts *counts)
{
	vec_deinit(&counts->processes);
	vec_deinit(&counts->runtimes);
}

static int compare_frames(const void *left, const void *right)
{
	const struct jit_count *a = left, *b = right;

	if (a->frames != b->frames)
		return a->frames > b->frames ? -1 : 1;
	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

static void sentence(struct session *s, const struct jit_count *c, struct strbuf *ret)
{
	const char *comm = intern_get(s->strings, c->comm);
	/* "100.0 %" is only what is whole. */
	double share = c->frames ? 100.0 * (double)c->named / (double)c->frames : 0;

	strbuf_clear(ret);
	escape_line(ret, comm, strlen(comm), 40);
	strbuf_printf(ret, " %d (%s): ", (int)c->pid, c->runtime->name);
	if (!c->origin.from && !c->named)
		strbuf_printf(ret, "no names for %" PRIu64 " frames, nothing was published", c->frames);
	else
		strbuf_printf(ret, "%.1f %% of %" PRIu64 " frames named, by its %s",
			      share > 99.9 && c->named < c->frames ? 99.9 : share, c->frames,
			      c->origin.from ? c->origin.from : "runtime");
	if (c->origin.refused)
		strbuf_printf(ret, c->origin.from ? "; not all that was published is used (%s)"
						  : "; a perf map that was there is not used (%s)",
			      c->origin.refused);
}

/* Beside the files that were refused, which are counted where that is done: what was not, or not wholly, believed later. */
static void tell_refused(struct profile_stats *stats, const char *why)
{
	size_t i = 0;

	while (i + 1 < sizeof(stats->refused_by) / sizeof(stats->refused_by[0]) && stats->refused_by[i].name &&
	       strcmp(stats->refused_by[i].name, why))
		i++;
	stats->refused_by[i].name = why;
	stats->refused_by[i].count++;
}

static int compare_runtimes(const void *left, const void *right)
{
	const struct profile_runtime *a = left, *b = right;

	return a->frames > b->frames ? -1 : a->frames < b->frames;
}

/* What their frames, which are counted already, do not tell. */
static void tell_runtimes(struct session *s, const struct jit_counts *all, struct profile_stats *stats)
{
	size_t num = 0;

	while (stats->runtimes[num].name)
		num++;
	if (num)
		qsort(stats->runtimes, num, sizeof(stats->runtimes[0]), compare_runtimes);
	for (size_t i = 0; i < num; i++) {
		struct profile_runtime *r = &stats->runtimes[i];

		if (r->name == jit_runtime_dotnet)
			r->by_frame_pointer = dotnet_counts(s->dotnet).no_starts + s->not_told_frames;
		for (size_t k = 0; k < all->runtimes.len; k++) {
			const struct jit_count *c = &all->runtimes.data[k];

			if (strcmp(c->runtime->name, r->name) != 0)
				continue;
			r->advice = c->runtime->advice;
			r->reads = c->origin.reads;
			r->read_ns = c->origin.read_ns;
		}
	}
}

static bool tell(struct session *s, struct jit_counts *all, struct profile *profile)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct profile_stats *stats = &profile->stats;
	bool ok = true;

	tell_runtimes(s, all, stats);
	if (all->processes.len)
		qsort(all->processes.data, all->processes.len, sizeof(all->processes.data[0]), compare_frames);
	for (size_t i = 0; i < all->processes.len; i++) {
		const struct symbol_origin *origin = &all->processes.data[i].origin;

		if (origin->aside || (origin->refused && origin->from))
			tell_refused(stats, origin->refused);
	}
	for (size_t i = 0; i < all->processes.len && i < MAX_SENTENCES && ok; i++) {
		sentence(s, &all->processes.data[i], &text);
		stats->jit[i] = text.failed ? NULL : intern_str(profile->strings, text.data);
		ok = stats->jit[i];
	}
	if (ok && all->processes.len > MAX_SENTENCES) {
		strbuf_clear(&text);
		strbuf_printf(&text, "and %zu more processes", all->processes.len - MAX_SENTENCES);
		stats->jit[MAX_SENTENCES] = text.failed ? NULL : intern_str(profile->strings, text.data);
		ok = stats->jit[MAX_SENTENCES];
	}
	return ok;
}

bool session_tell_jit(struct session *s, struct profile *profile)
{
	struct jit_counts all = { 0 };
	bool ok = true;

	for (size_t i = 0; i < s->jit.processes.len && ok; i++)
		ok = vec_push(&all.processes, s->jit.processes.data[i]);
	for (size_t i = 0; i < s->jit.runtimes.len && ok; i++)
		ok = vec_push(&all.runtimes, s->jit.runtimes.data[i]);
	for (struct live *live = s->live; live && ok; live = live->next)
		session_count_jit(live, &all);
	ok = ok && !s->failed && tell(s, &all, profile);
	session_jit_deinit(&all);
	return ok;
}
