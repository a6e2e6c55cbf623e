/* What one process has published of its JIT code, as it is read: shared by the live source and that of a recording. */
#pragma once

#include "symbols/symbols.h"
#include "target/door.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrspace;
struct intern;
struct jitdump;
struct perfmap;
struct worker;

enum {
	NAMES_MAX_DUMPS = 4,
	NAMES_CHUNK_BYTES = 256 << 10,
	NAMES_TAIL_BYTES = 64,
};

/* How far a file has been read that its writer appends to. */
struct growing {
	int fd;             /* -1 = none (yet) */
	uint64_t offset;    /* read so far */
	uint64_t size;      /* so much is known to be there, */
	uint64_t stamp_ns;  /* and was written by then: CLOCK_MONOTONIC */
	uint64_t looked_ns; /* when that was last looked for; 0 = never */
	uint64_t total;     /* bytes read, of all files that had the name */
	bool stalled;       /* what is left up to `size` is not whole yet */
};

struct names_dump {
	uint32_t file_id; /* in the table of files: the mapping that told of it; 0 = none */
	struct growing file;
	struct jitdump *parser;
};

/* In addrspace.names. */
struct names {
	struct worker *worker;
	bool aside;                     /* what it says ended the parser: nothing more of it is read */
	struct perfmap *map;
	struct growing text;
	bool inside;                    /* text.offset lies inside a line that is too long */
	uint8_t tail[NAMES_TAIL_BYTES]; /* the bytes before text.offset: a rewritten file has others there */
	size_t tail_len;
	struct names_dump dumps[NAMES_MAX_DUMPS];
	size_t num_dumps;
	const char *lost_dump;     /* path of one that could not be opened by its mapping; interned; NULL = none */
	uint32_t lost_id;          /* the file's id */
	uint64_t lost_ns;          /* when it was last tried */
	uint32_t maps_version;     /* of the mappings in which dumps were last looked for */
	bool maps_seen;
	uint64_t opened_ns;        /* when the map was last tried to open; 0 = never */
	uint64_t wait_ns;          /* how long after that it is tried again */
	struct door_place place;   /* where a map may be left at exit; dir_fd -1 = not held */
	enum door_refusal refused; /* of the map, the last time; DOOR_GONE = there is none */
	uint64_t reads, read_ns;
};

/* `worker` (borrowed) takes the bytes apart; NULL = that is done here. NULL when out of memory; names_gone frees it. */
struct names *names_new(struct worker *worker);

/* There is a map: it is read from its start. Takes the descriptor. */
void names_set_text(struct names *n, int fd);
void names_forget_text(struct names *n); /* what it said stays */
/*
 * Reads what was added to the map, at most `budget` bytes. False when the file is another one now: it became shorter, or
 * what was read before is not there any more. `recorded`: nothing has a time, what comes later counts for all.
 */
bool names_read_text(struct names *n, char *chunk, uint64_t budget, bool recorded);

/* One more jitdump. Takes the descriptor; false when it is not wanted. */
bool names_add_dump(struct names *n, uint32_t file_id, int fd);
/* Jitdumps that the process maps by now. */
void names_find_dumps(struct names *n, const struct addrspace *space);
void names_read_dumps(struct names *n, char *chunk, uint64_t budget);

/* What a struct symbol_source has of them; data is a struct intern. */
bool names_symbol(struct names *n, struct intern *strings, uint64_t addr, struct symbol *ret);
bool names_cfi(void *data, const struct addrspace *space, uint64_t addr, struct jit_cfi *ret);
void names_origin(void *data, const struct addrspace *space, struct symbol_origin *ret);
uint64_t names_next(void *data, const struct addrspace *space);
bool names_changes(void *data, struct addrspace *space, uint64_t time_ns, struct code_ranges *ret);
void names_apply(void *data, struct addrspace *space, uint64_t time_ns);
void names_gone(void *data, struct addrspace *space);
