/*
 * Files that stacks go through and that could not be read, or that had to be believed: what was missing, and how many
 * samples it cost, in the profile's statistics and in its notes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct err;
struct file;
struct profile;

/*
 * files[i]: the file that frame i of the profile lies in; NULL = none. `recorded`: they are those of a recording, and
 * so were looked for by what it tells.
 */
int missing_note(struct profile *profile, const struct file *const *files, size_t num_files,
		 bool recorded, struct err *err);
