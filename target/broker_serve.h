/* The side of the broker that opens; for broker.c. */
#pragma once

#include <stddef.h>

struct broker_events;

/* Answers requests until the other end of `sock` is closed. `outputs` are the only names that may be written. */
void broker_serve(int sock, const char *const *outputs, size_t num_outputs, const struct broker_events *events);
/* Leaves the process the capabilities that opening needs, and no more: now or by exec. */
void broker_limit_capabilities(void);
