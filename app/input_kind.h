/* What a file that a person names is, by how it begins. */
#pragma once

#include <stddef.h>

struct err;

enum input_kind {
	INPUT_TEXT, /* or anything else */
	INPUT_RECORDING,
	INPUT_ZIP,
	INPUT_GZIP,
};

enum input_kind input_kind(const void *head, size_t len);

/*
 * `err` says that `path` is no recording: where it is something else that we know, what can be done with it is said instead. `command`
 * is who refused it.
 */
void input_advise(const char *path, const char *command, struct err *err);
