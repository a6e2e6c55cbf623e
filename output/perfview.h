/* The perf.data.txt of a bundle: what TraceEvent, PerfView's parser, reads without a wrong name, weight or thread. */
#pragma once

#include <stdio.h>

struct err;
struct profile;
struct profile_view;

int perfview_write(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err);
