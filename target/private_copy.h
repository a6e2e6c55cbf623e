/* Copies of a target's files for the person who asked for them. Bytes are copied, not looked into. */
#pragma once

#include <stdbool.h>

struct door_file;
struct err;

/*
 * The directory where copies go, made if it is not there (*made). Not /tmp of this machine: there, others would take the copied map of one process for
 * that of another.
 */
int private_copy_dir(const char *dir, int *ret, bool *made, struct err *err);

/*
 * A copy of mode 0600 that appears whole under `name` in it, and replaces what had that name. Of a text that may be
 * growing only whole lines are taken.
 */
int private_copy(int dir, const char *name, const struct door_file *file, bool text, struct err *err);
