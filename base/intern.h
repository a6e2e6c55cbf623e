/* Strings stored once. A string lives as long as its table and keeps its address. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct intern;

struct intern *intern_new(void); /* NULL when out of memory */
void intern_free(struct intern *t); /* NULL is fine */

/* The stored copy, NUL-terminated (embedded NULs end the string); NULL only when out of memory. */
const char *intern_str(struct intern *t, const char *str);
const char *intern_mem(struct intern *t, const char *str, size_t len);

/* The same as dense numbers 0, 1, 2 …; UINT32_MAX when out of memory. */
uint32_t intern_id(struct intern *t, const char *str, size_t len);
const char *intern_get(const struct intern *t, uint32_t id);
size_t intern_count(const struct intern *t);
