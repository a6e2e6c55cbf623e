/* Scope guards: a guarded variable is initialised where it is declared. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((__cleanup__(fn)))

/* Yields the pointer and leaves NULL behind, so that the guard does nothing. */
#define steal_ptr(p)                       \
	({                                 \
		typeof(p) steal_tmp_ = (p); \
		(p) = NULL;                \
		steal_tmp_;                \
	})

/* The same for descriptors: leaves -1 behind. */
static inline int steal_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

/* Closes *fd unless it is negative; errno survives. */
void closep(int *fd);

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
