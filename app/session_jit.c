/* Names of JIT code, which change as time goes by: the same address may be one function now and another later. */
#include "app/session_priv.h"

#include "base/clock.h"
#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"

struct profile_frame session_space_frame(struct session *s, struct addrspace *space, uint32_t id)
{
	const struct unwind_frame place = unwinder_frame(s->unwinder, id);
	const struct live *live = space->user;
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
	if (!symbols_jit(s->symbols, space, place.place, &symbol))
		return frame;
	frame.name = symbol.name;
	if (symbol.module)
		frame.module = symbol.module;
	if (s->opts.keep_addresses)
		frame.offset = symbol.offset;
	return frame;
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
}

void session_advance_names(struct live *live, uint64_t time_ns)
{
	poll_names(live, time_ns);
	if (time_ns >= live->space->names_next_ns)
		advance(live, time_ns);
}
