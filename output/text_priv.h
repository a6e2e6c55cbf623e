/* Numbers and table cells for people; the same in every locale. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

void text_count(struct strbuf *ret, uint64_t count); /* "4,981" */
/*
 * "99.8 %", rounded, but "100.0 %" and "0.0 %" only where they are exact: else "99.9 %" and "<0.1 %".
 * 0 of 0 is "0.0 %".
 */
void text_percent(struct strbuf *ret, uint64_t part, uint64_t whole);
void text_seconds(struct strbuf *ret, double seconds); /* three decimals; "0.000" for what is no time */

/* `text` in at most `columns` terminal columns (at least 3), cut with "..."; padded with spaces if asked. */
void text_left(struct strbuf *ret, const char *text, size_t columns, bool pad);
/* The same for the name of a function, cut in its middle. */
void text_name(struct strbuf *ret, const char *text, size_t columns, bool pad);
void text_right(struct strbuf *ret, const char *text, size_t columns); /* padded in front, never cut */
size_t text_columns(const char *text);
/* Lines broken at spaces to fit `columns`: the first starts with `first`, the others two columns further in. */
void text_wrap(struct strbuf *ret, const char *first, const char *text, size_t len, size_t columns);
