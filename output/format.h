/* Output formats. To add one: write format_NAME.c and add NAME to output/meson.build. Nothing else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct err;
struct profile;
struct profile_view;

struct format {
	const char *name;
	const char *description;
	const char *const *extensions; /* ".folded", ... NULL ends */
	bool needs_samples;   /* profile->samples: 32 bytes for each while recording, so only where it is said */
	bool needs_addresses; /* profile_frame.addr: stacks then differ by process where programs are moved about */
	bool needs_places;    /* profile_sample.place: the container of each process is then looked for */
	bool tells_event;     /* of each sample: samples of several events may then stand side by side */
	bool binary;          /* not for a terminal */
	int (*write)(const struct profile *profile, const struct profile_view *view, FILE *out,
		     struct err *err);
};

const struct format *format_find(const char *name);     /* NULL when there is none */
const struct format *format_for_path(const char *path); /* by the longest fitting extension; NULL */
size_t format_list(const struct format *const **ret);

/* The --stats JSON. */
int stats_write_json(const struct profile *profile, FILE *out, struct err *err);
