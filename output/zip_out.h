/* A zip file written into a stream that can be sought in (libminizip), entry after entry, deflated. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <time.h>

struct err;
struct zip_out;

/* `out` is borrowed; -ESPIPE for a pipe. `when`: the date of every entry. */
int zip_out_open(FILE *out, time_t when, struct zip_out **ret, struct err *err);
/* Each entry is a stream of its own: give it to zip_out_end_entry, not to fclose. */
FILE *zip_out_entry(struct zip_out *z, const char *name, struct err *err); /* NULL: err says why */
int zip_out_end_entry(struct zip_out *z, FILE *entry, struct err *err);
/* Writes the directory. Frees z, also when that fails. */
int zip_out_close(struct zip_out *z, struct err *err);
