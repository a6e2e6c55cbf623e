/*
 * Tests are plain programs. CHECK prints the place and goes on; the program's exit status is
 * check_done(): 0, 1 when a check failed, 77 when SKIP was used (1 where TEST_NO_SKIP is set).
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;

#define CHECK(cond)                                                                   \
	do {                                                                          \
		if (!(cond)) {                                                        \
			fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #cond); \
			check_failures++;                                             \
		}                                                                     \
	} while (0)

#define CHECK_MSG(cond, fmt, ...)                                                     \
	do {                                                                          \
		if (!(cond)) {                                                        \
			fprintf(stderr, "%s:%d: CHECK(%s): " fmt "\n", __FILE__, __LINE__, \
				#cond, ##__VA_ARGS__);                                \
			check_failures++;                                             \
		}                                                                     \
	} while (0)

#define CHECK_STR(a, b)                                                               \
	do {                                                                          \
		const char *a_ = (a), *b_ = (b);                                      \
		if (!a_ || !b_ || strcmp(a_, b_)) {                                   \
			fprintf(stderr, "%s:%d: \"%s\" is not \"%s\"\n", __FILE__, __LINE__, \
				a_ ? a_ : "(null)", b_ ? b_ : "(null)");              \
			check_failures++;                                             \
		}                                                                     \
	} while (0)

/* Ends the program. */
#define SKIP(fmt, ...)                                                                \
	do {                                                                          \
		fprintf(stderr, "SKIP: " fmt "\n", ##__VA_ARGS__);                    \
		exit(getenv("TEST_NO_SKIP") ? 1 : 77);                                \
	} while (0)

static inline int check_done(void)
{
	if (check_failures)
		fprintf(stderr, "%d checks failed\n", check_failures);
	return check_failures ? 1 : 0;
}
