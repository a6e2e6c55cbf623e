/* What takes the parser's answers; for elf_remote.c, elf_file.c, and who tests it with anything. */
#pragma once

#include "symbols/elf_remote.h"
#include "symbols/inline.h"

/* Asks for the head, once. */
void elf_remote_head(struct elf_file *f);
/* Before the rest of f is freed. */
void elf_remote_free(struct elf_file *f);

/* For worker_request.take; their data are */
bool elf_remote_take_head(void *data, struct reader *r);    /* struct elf_file */
bool elf_remote_take_names(void *data, struct reader *r);   /* struct elf_names_taken */
bool elf_remote_take_inlined(void *data, struct reader *r); /* struct elf_inlined_taken */
bool elf_remote_take_kernel(void *data, struct reader *r);  /* struct elf_remote_kernel */

struct elf_names_taken {
	struct intern *strings;
	const uint64_t *vaddrs; /* ascending */
	size_t num;
	struct symbol *symbols; /* num; set for what has an answer */
	bool no_memory;
};

struct elf_inlined_taken {
	struct intern *strings;
	size_t num;  /* of the questions */
	size_t base; /* number of the first of them for `each` */
	size_t next; /* places before it were told to `each` */
	void (*each)(void *data, size_t i, const struct inline_frame *frames, size_t num);
	int (*open_beside)(void *data, const char *name, const uint8_t *id, size_t id_len);
	void *data;
	size_t at; /* whose frames are coming */
	size_t num_frames;
	struct inline_frame frames[64];
};
