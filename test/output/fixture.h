/*
 * Profiles as text, and the bytes a format makes of them.
 *
 * A fixture has one item per line, fields separated by tabs; '#' starts a comment line. In a field \xHH is a
 * byte, and "-" alone is NULL.
 *
 *	stat    KEY    VALUE                    a number or text of struct profile_stats
 *	broken  REASON COUNT
 *	refused REASON COUNT
 *	note    TEXT
 *	event   NAME
 *	place   NAME                            a container, numbered 0, 1, ...
 *	frame   KIND   NAME   MODULE   PATH   ADDR   OFFSET   PLACE   BUILD-ID   numbered 1, 2, ...; KIND as in
 *	                                        enum frame_kind, small letters; what is hexadecimal may be left out
 *	stack   COUNT  1 2 3                    frames from the root to the leaf
 *	sample  NS     PERIOD CPU PID TID EVENT COMM   1 2 3   PLACE   the same; counts one, and is kept by itself;
 *	                                        the number of its place may be left out
 *
 * Whatever is wrong in a fixture ends the program, naming the line.
 */
#pragma once

#include "output/profile.h"

#include <stddef.h>

struct format;

struct profile *fixture_load(const char *path);
/* What the format writes, NUL-terminated; the caller frees it. */
char *fixture_render(const struct profile *profile, const struct format *format,
		     const struct profile_view *view, size_t *ret_len);
char *fixture_stats(const struct profile *profile, size_t *ret_len);
