/* The parser's side of elf_remote.h: the files it was told of, and what it answers about them. */
#pragma once

#include "base/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct elf_file;
struct elf_serve;

/* Files it knows by number. */
struct elf_serve *elf_serve_new(void); /* NULL when out of memory */
void elf_serve_free(struct elf_serve *s); /* NULL is fine */

/* For struct worker_server: the services of elf_wire.h, whose state is a struct elf_serve. */
extern const struct worker_service elf_services[];
/* Memory that was not needed lately is given back; false: there is no more of it. `data` is a struct elf_serve. */
bool elf_serve_rest(void *data);

/* For services of other folders: the file whose number comes next in the request; NULL = it cannot be read. */
struct elf_file *elf_serve_file(struct elf_serve *s, struct reader *r);
