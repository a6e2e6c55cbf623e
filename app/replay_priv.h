/* For replay.c and replay_tell.c. */
#pragma once

#include "app/replay.h"

#include "base/err.h"
#include "base/vec.h"
#include "collector/perfdata.h"
#include "target/offline.h"

struct door;

enum { MAX_TOLD_EVENTS = 4 }; /* names in one sentence */

/* One event of the recording, by its index there. */
struct event_state {
	bool decided, wanted;
	uint64_t samples; /* delivered, wanted or not */
};

struct replay {
	struct replay_opts opts;
	struct door *door;
	struct offline *offline;
	struct session *session; /* NULL until the first record: a pipe tells only then what it holds */
	struct perfdata **inputs; /* [0] is the main file */
	size_t num_inputs;
	int64_t end_ns; /* of the recording, CLOCK_REALTIME; 0 = it may be of any age */
	VEC(struct event_state) events;
	const char *event;      /* the one chosen by us; NULL = the first that is no dummy */
	uint64_t from_ns, to_ns; /* --time */
	uint64_t first_ns, last_ns; /* of the samples that count */
	uint64_t regs_mask;     /* the session's now */
	bool no_user_side;      /* likewise: of samples that were recorded with the kernel's side alone */
	uint64_t samples;
	uint64_t start_ns;      /* when we began */
	struct err failure;     /* while records come */
	struct err damage;      /* why the recording could not be read to its end */
};

static inline const struct perfdata_info *replay_info(const struct replay *r)
{
	return perfdata_info(r->inputs[0]);
}

/* Whether samples of this event of the recording count. */
bool replay_wants_event(const struct replay *r, size_t index);
/* The one chosen by us, or the first that is no dummy; a recording without any must not be asked. */
const struct perfdata_event *replay_default_event(const struct replay *r);
/* *ret_clock_ns: CLOCK_REALTIME minus the clock of its records. */
enum offline_origin replay_origin(const struct replay *r, int64_t *ret_clock_ns);

/* Into the profile; false when out of memory. */
bool replay_tell(const struct replay *r, struct profile *p);
