/* The parser's side of elf_remote.h: the files it was told of, and what it answers about them. */
#pragma once

#include "base/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct elf_file;
struct elf_serve;

/*
 * Holds at most max_files open (0 = as many as the process may), and forgets the one that was not asked for the longest;
 * the recorder tells it again. NULL when out of memory.
 */
struct elf_serve *elf_serve_new(size_t max_files);
void elf_serve_free(struct elf_serve *s); /* NULL is fine */

/* For struct worker_server: the services of elf_wire.h, whose state is a struct elf_serve. */
extern const struct worker_service elf_services[];
/* Memory that was not needed lately is given back; false: there is no more of it. `data` is a struct elf_serve. */
bool elf_serve_rest(void *data);

/* For services of other folders: the file whose number comes next in the request; NULL = it cannot be read. */
struct elf_file *elf_serve_file(struct elf_serve *s, struct reader *r);
