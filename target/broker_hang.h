/*
 * Whether the process that opens hangs in a request: that it was blocked for BROKER_WAIT_MS, which is the time that it neither
 * ran nor waited for a CPU. On a crowded machine a request may take much longer than that without anything being wrong.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	BROKER_WAIT_MS = 2000,
	BROKER_LOOK_MS = 500,   /* between two looks; what comes before the first counts as blocked up to here */
	BROKER_MOST_MS = 60000, /* of a request, whatever it does */
};

struct broker_hang {
	uint64_t start_ns;           /* of the request; the rest is 0 then */
	uint64_t looked_ns, ready_ns; /* the first look; 0 = none yet */
};

/* `running`: it runs or waits for a CPU now; `ready_ns`: how long it did so far, 0 where the kernel does not tell. */
bool broker_hang_look(struct broker_hang *h, uint64_t now_ns, bool running, uint64_t ready_ns);
