/*
 * Typed growable array.
 *
 *	VEC(struct symbol) symbols = { 0 };
 *	if (!vec_push(&symbols, sym)) return err_oom(err);
 *	vec_deinit(&symbols);
 *
 * Open, because callers index v.data[i] directly. Growth doubles; nothing shrinks.
 */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VEC(type)        \
	struct {         \
		type *data;  \
		size_t len;  \
		size_t cap;  \
	}

/* Room for at least `want` elements in all; false when memory is out (the vector stays as it was). */
#define vec_reserve(v, want)                                                           \
	((want) <= (v)->cap ||                                                         \
	 vec_reserve_((void **)&(v)->data, &(v)->cap, (want), sizeof(*(v)->data)))

#define vec_push(v, value)                                                            \
	(vec_reserve((v), (v)->len + 1) ? ((v)->data[(v)->len++] = (value), true) : false)

/* Inserts before index `at` (at <= len). */
#define vec_insert(v, at, value)                                                      \
	(vec_reserve((v), (v)->len + 1)                                               \
		 ? (memmove(&(v)->data[(at) + 1], &(v)->data[(at)],                    \
			    ((v)->len - (at)) * sizeof(*(v)->data)),                   \
		    (v)->data[(at)] = (value), (v)->len++, true)                       \
		 : false)

/* Removes `count` elements from index `at`. */
#define vec_remove(v, at, count)                                                      \
	(memmove(&(v)->data[(at)], &(v)->data[(at) + (count)],                         \
		 ((v)->len - (at) - (count)) * sizeof(*(v)->data)),                    \
	 (v)->len -= (count))

#define vec_deinit(v) (free((v)->data), (v)->data = NULL, (v)->len = (v)->cap = 0)

bool vec_reserve_(void **data, size_t *cap, size_t want, size_t elem_size);
