/* Inlined calls at many places of a file at once; inline.h says what is known of each. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct file;
struct files;
struct inline_frame;
struct intern;

/*
 * Calls each(data, i, frames, num) for every place where a call was inlined: frames innermost first, the last being
 * the function that has the code. `strings` gets the names. The debug information, also of separate debug files,
 * is read once and not kept; where there is none nothing is called.
 */
void inlined_find(struct files *files, struct intern *strings, struct file *file, const uint64_t *vaddrs,
		  size_t num, void (*each)(void *data, size_t i, const struct inline_frame *frames, size_t num),
		  void *data);
