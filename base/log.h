/*
 * Words for people, on stderr, a line each: "ringfold: folder: text". Text from targets must be passed
 * through escape.h first. At most 10 warnings a second reach the terminal; what was held back is counted
 * and said with the next line.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_QUIET, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level); /* default LOG_INFO; -q = LOG_QUIET, -v = LOG_DEBUG */
enum log_level log_get_level(void);

/* `folder` may be NULL: the line starts with "ringfold: ". */
void log_warn(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_info(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_debug(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One refreshing line on a terminal (wiped before any other line is printed); NULL wipes it. */
void log_status(const char *text);
