/* Collapsed stacks as input: what we write, and what stackcollapse-*.pl, inferno and others do. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

struct collapsed_frame {
	const char *name; /* borrowed from the text, not NUL-terminated, without a suffix */
	size_t len;
	char suffix;      /* 'k', 'j', 'i' of "_[k]" and so on, other letters as they are; 0 = none */
};

struct collapsed_stats {
	uint64_t lines, bad_lines; /* of them not in the shape; empty lines and comments are neither */
	uint64_t samples;
};

/*
 * For each line "root;...;leaf COUNT": the frames from the root on, borrowed until `each` returns. A count with decimals
 * is rounded; of two numbers (a comparison) the last counts. Stacks deeper than 65536 are bad lines. Stops when `each`
 * returns false (-ENOMEM). -EBADMSG when there are lines, and not one is in the shape.
 */
int collapsed_parse(const char *text, size_t len,
		    bool (*each)(void *data, const struct collapsed_frame *frames, size_t num, uint64_t count),
		    void *data, struct collapsed_stats *ret, struct err *err);
