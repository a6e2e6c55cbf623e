/* All samples of a recording that can be unwound, in memory, each with its process as it was at that time. */
#pragma once

#include "unwinder/unwinder.h"

#include <stddef.h>

struct corpus;
struct err;

/* A perf.data of this boot of this machine, whose files are still what they were. */
int corpus_read(const char *path, struct corpus **ret, struct err *err);
void corpus_free(struct corpus *c); /* NULL is fine */
size_t corpus_len(const struct corpus *c);
const struct unwind_input *corpus_at(const struct corpus *c, size_t index);
