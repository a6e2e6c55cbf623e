#include "app/flight.h"

#include "app/managed.h"
#include "app/recording.h"
#include "app/session.h"
#include "base/err.h"
#include "base/log.h"
#include "output/profile.h"
#include "output/window.h"

#include <stdlib.h>
#include <string.h>

enum { TURN_BYTES = 16 << 20 };
static const uint64_t pause_ns = 10000000000;

struct flight {
	struct recording *r;       /* r->session is the younger */
	struct session *old;       /* NULL: there is none */
	uint64_t old_until_ns;     /* it has no samples after that */
	uint64_t young_since_ns;
	uint64_t retry_ns;         /* no new session before that */
	uint64_t keep_ns, turn_ns;
	unsigned int turns;
};

int flight_new(struct recording *r, uint64_t keep_ns, uint64_t turn_ns, struct flight **ret, struct err *err)
{
	struct flight *f = calloc(1, sizeof(*f));

	if (!f)
		return err_oom(err);
	f->r = r;
	f->keep_ns = keep_ns;
	f->turn_ns = turn_ns;
	f->young_since_ns = r->start_ns;
	*ret = f;
	return 0;
}

void flight_free(struct flight *f)
{
	if (!f)
		return;
	session_free(f->old);
	free(f);
}

void flight_record(struct flight *f, const struct record *record)
{
	if (!f->r->managed || !managed_takes(f->r->managed, record))
		session_record(f->r->session, record);
}

/*
 * A new session knows what runs by /proc; records that are still on their way tell what it knows already. Where it cannot
 * be had, the one that is there goes on a while.
 */
static int take_turn(struct flight *f, uint64_t now_ns, struct err *err)
{
	struct session_opts opts = f->r->session_opts;
	struct session *young = NULL;
	struct err why = { 0 };
	int r;

	/* The two share what reads memory by these numbers; turns are so far apart that two ranges do. */
	opts.first_space = (f->turns + 1) % 2 << 31;
	r = session_new(&opts, &young, &why);
	if (!r)
		r = recording_scan(f->r, young, &why);
	if (r < 0) {
		log_debug("trap", "no new session yet: %s", why.msg);
		session_free(young);
		f->retry_ns = now_ns + pause_ns;
		return 0;
	}
	/* What waits for a runtime is of the time of the one that goes; the runtimes are asked anew for the other. */
	if (f->r->managed)
		managed_end(f->r->managed);
	managed_free(f->r->managed);
	f->r->managed = NULL;
	session_free(f->old);
	f->old = f->r->session;
	f->old_until_ns = now_ns;
	f->r->session = young;
	f->young_since_ns = now_ns;
	f->turns++;
	log_debug("trap", "a new session has taken over");
	return recording_ask_runtimes(f->r, false, err);
}

int flight_tick(struct flight *f, uint64_t now_ns, bool hold, struct err *err)
{
	session_tick(f->r->session);
	if (hold)
		return 0;
	if (f->old && now_ns > f->old_until_ns + f->keep_ns) {
		session_free(f->old);
		f->old = NULL;
	}
	if (now_ns > f->keep_ns)
		session_forget_samples(f->r->session, now_ns - f->keep_ns);
	if (!f->old && now_ns >= f->retry_ns &&
	    (now_ns > f->young_since_ns + f->turn_ns || session_bytes(f->r->session) > TURN_BYTES))
		return take_turn(f, now_ns, err);
	return 0;
}

/* What is not of single samples: of the time since the session began. */
static void tell_runtimes(struct profile_stats *into, const struct profile_stats *whole)
{
	for (struct profile_runtime *r = into->runtimes; r->name; r++) {
		for (const struct profile_runtime *of = whole->runtimes; of->name; of++) {
			if (strcmp(r->name, of->name) != 0)
				continue;
			r->advice = of->advice;
			r->reads += of->reads;
			r->read_ns += of->read_ns;
		}
	}
}

static int add_session(struct profile *into, struct session *s, uint64_t from_ns, uint64_t to_ns,
		       bool (*stop)(void *data), void *data, struct err *err)
{
	struct profile *whole;
	int r = session_profile(s, false, stop, data, &whole, err);

	if (r < 0)
		return r;
	r = profile_add_window(into, whole, from_ns, to_ns, err);
	tell_runtimes(&into->stats, &whole->stats);
	into->stats.unwind_ns += whole->stats.unwind_ns;
	into->stats.symbolize_ns += whole->stats.symbolize_ns;
	profile_free(whole);
	return r;
}

int flight_profile(struct flight *f, uint64_t from_ns, uint64_t to_ns, bool (*stop)(void *data), void *data,
		   struct profile **ret, struct err *err)
{
	struct profile *profile;
	int r = profile_new(&profile, err);

	if (!r && f->old && from_ns < f->old_until_ns)
		r = add_session(profile, f->old, from_ns, to_ns, stop, data, err);
	if (!r)
		r = add_session(profile, f->r->session, from_ns, to_ns, stop, data, err);
	if (r < 0) {
		profile_free(profile);
		return r;
	}
	*ret = profile;
	return 0;
}

unsigned int flight_turns(const struct flight *f)
{
	return f->turns;
}
