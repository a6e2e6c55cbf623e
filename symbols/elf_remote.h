/*
 * ELF files that a parser in a process of its own reads (elf_serve.h). The recorder holds the descriptor, and of the file's
 * contents only what the parser answered, every number of it checked: a parser that a hostile file took over can name
 * frames wrongly, and no more.
 *
 * An elf_file opened here is asked through elf_file.h as any other; its head (segments, build-id, roots) comes with the
 * first question that needs it. What elf_cfi.h gives, elf_file_resolve and elf_file_add_debug are not for such files:
 * elf_remote_names, elf_remote_add_debug and elf_remote_ask are.
 *
 * A file that ended two parsers in a row, or kept them busy for too long, is set aside: it has no symbols and no
 * call-frame information from then on.
 */
#pragma once

#include "base/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;
struct err;
struct inline_frame;
struct intern;
struct symbol;

struct elf_remote_opts {
	struct worker *worker; /* borrowed */
	void (*aside)(void *data); /* it is set aside, told once; may be NULL */
	void (*known)(void *data); /* its head is here, told once; may be NULL */
	void *data;
};

/* As elf_file_open_fd; only the 20 bytes that make it an ELF file are looked at. */
int elf_remote_open(int fd, uint64_t size, const struct elf_remote_opts *opts, struct elf_file **ret, struct err *err);
/* Our own vDSO, which the parser has at the same address. */
int elf_remote_open_vdso(const void *bytes, size_t size, const struct elf_remote_opts *opts, struct elf_file **ret,
			 struct err *err);
bool elf_file_is_remote(const struct elf_file *f);

/*
 * A question about a file: body is its number and then `vaddrs`. Records go to take(data, r), which restart(data) says
 * to forget. The result is the service's, or -EIO when there is no answer to be had (the file was set aside, the
 * worker is gone, memory is out).
 */
struct elf_remote_question {
	uint16_t kind;
	const uint64_t *vaddrs;
	size_t num; /* at most ELF_REMOTE_MANY */
	uint32_t cpu_ms, wall_ms; /* struct worker_request */
	bool (*take)(void *data, struct reader *r);
	int (*want)(void *data, struct reader *r);
	void (*restart)(void *data);
	void *data;
};
enum { ELF_REMOTE_MANY = 1 << 20 };
int elf_remote_ask(struct elf_file *f, const struct elf_remote_question *question);

/* As symbols_file_batch, of the tables that are there. False when out of memory. */
bool elf_remote_names(struct elf_file *f, struct intern *strings, const uint64_t *vaddrs, size_t num, struct symbol *ret);
/* Takes fd. As elf_file_add_debug. */
int elf_remote_add_debug(struct elf_file *f, int fd, uint64_t size);

/*
 * As inlined_find. open_beside as in struct inline_files. -ENODATA: neither the file nor its separate debug file has
 * debug information.
 */
struct elf_remote_inlined {
	struct intern *strings;
	const uint64_t *vaddrs;
	size_t num;
	void (*each)(void *data, size_t i, const struct inline_frame *frames, size_t num);
	int (*open_beside)(void *data, const char *name, const uint8_t *id, size_t id_len);
	void *data;
};
int elf_remote_find_inlined(struct elf_file *f, const struct elf_remote_inlined *in);

/* Kernel symbols of a text behind fd (which stays ours), as symbols_kernel_batch. */
struct elf_remote_kernel {
	struct intern *strings;
	const uint64_t *addrs;
	size_t num;
	struct symbol *symbols;
	const char **modules;
	bool hidden, empty; /* out: struct kallsyms says so; there was no text */
};
/* 0 or -errno (-EIO: no answer to be had). */
int elf_remote_kernel(struct worker *w, int fd, struct elf_remote_kernel *k);

/* From now on the worker has no hurry: its priority becomes `nice`. */
void elf_remote_relax(struct worker *w, int nice);
