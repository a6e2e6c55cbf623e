/* Writing that says why it failed. */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct err;
struct strbuf;

int write_bytes(FILE *out, const void *bytes, size_t len, struct err *err);
int write_text(FILE *out, const struct strbuf *text, struct err *err); /* -ENOMEM when it has failed */
/* Flushes, so that a full disk is seen now. The last call of every format. */
int write_end(FILE *out, struct err *err);
