/* Text a target controls, made safe to print. */
#pragma once

#include <stddef.h>

struct strbuf;

/*
 * One frame of a collapsed stack: ';' becomes ':', every control byte (< 0x20, 0x7f, C1 in UTF-8) and every
 * byte that is not part of valid UTF-8 becomes '?', line and paragraph separators (U+2028, U+2029) and
 * bidirectional controls (U+202A..202E, U+2066..2069) become '?'. Empty text becomes "[unknown]". Nothing can forge a
 * frame, a line or a terminal sequence.
 */
void escape_frame(struct strbuf *out, const char *text, size_t len);

/* The same for a line of a message or a table cell; ';' stays. Cut after `max` bytes with "...". */
void escape_line(struct strbuf *out, const char *text, size_t len, size_t max);

/*
 * A JSON string with its quotes; invalid UTF-8 becomes U+FFFD. "</", "<!" and "<s" do not occur in it, so it may
 * stand inside an HTML script element.
 */
void escape_json(struct strbuf *out, const char *text, size_t len);
