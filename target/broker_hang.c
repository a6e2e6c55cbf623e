#include "target/broker_hang.h"

static const uint64_t ns_per_ms = 1000000;

bool broker_hang_look(struct broker_hang *h, uint64_t now_ns, bool running, uint64_t ready_ns)
{
	uint64_t before, since, ready;

	if (now_ns - h->start_ns >= BROKER_MOST_MS * ns_per_ms)
		return true;
	if (!h->looked_ns) {
		h->looked_ns = now_ns;
		h->ready_ns = ready_ns;
	}
	before = h->looked_ns - h->start_ns;
	if (before > BROKER_LOOK_MS * ns_per_ms)
		before = BROKER_LOOK_MS * ns_per_ms;
	since = now_ns - h->looked_ns;
	ready = ready_ns > h->ready_ns ? ready_ns - h->ready_ns : 0;
	return !running && before + (since > ready ? since - ready : 0) >= BROKER_WAIT_MS * ns_per_ms;
}
