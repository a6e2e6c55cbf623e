#include "app/places.h"

#include "base/cleanup.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "target/containers.h"

static const uint64_t trusted_ns = 1000000000;

static void take(struct place_seen *seen, const struct container_place *place)
{
	seen->place = place->place;
	seen->wanted = place->wanted;
}

/* In the roots of all cgroups: the host's, or what cgroup v1 shows of a process that is ending. */
static bool may_be_ending(const struct container_place *place)
{
	return place->place == PLACE_HOST && place->at_root;
}

bool places_look(struct containers *c, pid_t pid, uint64_t now_ns, struct place_seen *seen)
{
	struct container_place place;
	bool first = !seen->look_ns;

	if (!first && now_ns < seen->look_ns + trusted_ns)
		return true;
	seen->look_ns = now_ns ? now_ns : 1;
	place = containers_look(c, pid);
	if (place.place == PLACE_UNKNOWN || may_be_ending(&place)) {
		if (first)
			take(seen, &place);
		return !first; /* else it is where it was when it lived */
	}
	take(seen, &place);
	return true;
}

bool places_inherit(struct containers *c, pid_t above, const struct place_seen *above_seen,
		    struct place_seen *seen)
{
	struct container_place place;

	if (above_seen && above_seen->look_ns) {
		place = (struct container_place){ .place = above_seen->place,
						  .wanted = above_seen->wanted };
	} else {
		place = containers_look(c, above);
	}
	if (place.place == PLACE_UNKNOWN)
		return false;
	take(seen, &place);
	return true;
}

enum { MAX_ENDED = sizeof(((struct places_ended *)0)->ring) / sizeof(struct place_ended) };

void places_ended_add(struct places_ended *e, const struct place_ended *one)
{
	e->ring[e->next] = *one;
	e->next = (e->next + 1) % MAX_ENDED;
}

const struct place_ended *places_ended_find(const struct places_ended *e, pid_t pid)
{
	for (size_t i = 1; i <= MAX_ENDED; i++) {
		const struct place_ended *one = &e->ring[(e->next + MAX_ENDED - i) % MAX_ENDED];

		if (one->pid == pid)
			return one;
	}
	return NULL;
}

const char *places_name(struct containers *c, uint32_t place, bool by_pod, struct intern *strings)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	containers_label(c, place, by_pod, &text);
	return text.failed ? NULL : intern_mem(strings, text.data, text.len);
}
