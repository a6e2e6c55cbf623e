/*
 * Records that wait until a runtime has said what it had to say of their time. Its events come up to 100 ms late (the
 * runtime hands them on ten times a second), and a stack can only be walked and named when they are there. Copies, so that
 * the rings are emptied meanwhile: of a stack only what the kernel copied.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hold;
struct record;

struct hold *hold_new(void); /* NULL when out of memory */
void hold_free(struct hold *h); /* NULL is fine */

/* Takes a copy; false when there is no room (or memory): the caller goes on with the record itself. */
bool hold_add(struct hold *h, const struct record *rec);
/* The oldest, for as long as it is not dropped; NULL when there is none. */
const struct record *hold_first(const struct hold *h);
void hold_drop_first(struct hold *h);
