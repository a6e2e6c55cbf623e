/*
 * A PE image as .NET's compiler writes them: headers, sections, and bytes by RVA (the address from where the image
 * begins in memory). Microsoft, "PE Format". Only what is asked for is read; nothing is mapped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the bytes of a file are. */
struct pe_bytes {
	int (*read)(void *data, void *buf, size_t size, uint64_t offset); /* all of them, or -errno */
	void *data;    /* borrowed */
	uint64_t size; /* of the file */
};
/* Bytes in memory, which must outlive what reads them; `size` of them at `bytes`. */
struct pe_bytes pe_bytes_of_memory(const void *bytes, size_t size);

enum {
	PE_MAX_SECTIONS = 96,         /* the loader's own limit */
	PE_HEADER_BYTES = 4096,       /* the headers are in the first page */
	PE_MAX_LOAD = 64 << 20,       /* bytes of any one part that is loaded whole */
	PE_MACHINE_LINUX_X64 = 0xfd1d /* 0x8664 xor 0x7b79: dotnet/runtime, pedecoder.h */
};

struct pe_section {
	uint32_t rva, virtual_size; /* in memory */
	uint32_t offset, size;      /* in the image's file */
	bool executable;
};

struct pe_dir {
	uint32_t rva, size; /* size 0 = not there */
};

/* Plain data: copying it is fine. */
struct pe_image {
	struct pe_bytes bytes;
	uint64_t base;          /* where in the file the image begins: not at 0 in a single-file bundle */
	uint16_t machine;
	uint32_t timestamp;     /* of the COFF header: a hash of what was compiled */
	uint32_t image_size;    /* in memory */
	struct pe_dir exports, clr; /* directories 0 and 14 */
	uint32_t num_sections;
	struct pe_section sections[PE_MAX_SECTIONS];
};

/* False: no PE32+ image begins at `base`, or it is malformed. */
bool pe_image_open(const struct pe_bytes *bytes, uint64_t base, struct pe_image *ret);
/* The same of one that was loaded: its sections are where their RVAs say. */
bool pe_image_open_loaded(const struct pe_bytes *bytes, uint64_t base, struct pe_image *ret);
/* The RVA of a byte of the file; false when no section holds it. */
bool pe_image_rva(const struct pe_image *pe, uint64_t file_offset, uint32_t *ret);
/* The section that holds an RVA's bytes in the file; NULL when none does. */
const struct pe_section *pe_image_section(const struct pe_image *pe, uint32_t rva);
/* False unless one section has all of them in the file. */
bool pe_image_read(const struct pe_image *pe, uint32_t rva, void *buf, size_t size);
/* As many as there are, up to `size`: how many. */
size_t pe_image_read_some(const struct pe_image *pe, uint32_t rva, void *buf, size_t size);
/* In new memory; NULL when they are not there, more than PE_MAX_LOAD, or memory is out. */
void *pe_image_load(const struct pe_image *pe, struct pe_dir dir);
/* The RVA that the image exports under that name; 0 = none. */
uint32_t pe_image_export(const struct pe_image *pe, const char *name);
