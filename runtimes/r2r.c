#include "runtimes/r2r.h"

#include "base/cleanup.h"
#include "base/reader.h"
#include "runtimes/r2r_priv.h"

#include <errno.h>
#include <stdlib.h>

enum {
	MAGIC = 0x00525452, /* "RTR" */
	HEADER_BYTES = 8,   /* before the core header */
	COR_BYTES = 72,
	FUNCTION_BYTES_AMD64 = 12,
	FUNCTION_BYTES_OTHER = 8,
};

static void r2r_freep(struct r2r **r)
{
	r2r_free(*r);
}

void r2r_free(struct r2r *r)
{
	if (!r)
		return;
	free(r->index);
	free(r);
}

const struct pe_image *r2r_pe(const struct r2r *r)
{
	return &r->pe;
}

bool r2r_read_cor(const struct pe_image *pe, uint32_t rva, struct pe_dir *metadata, struct pe_dir *native)
{
	uint8_t bytes[COR_BYTES];

	if (!pe_image_read(pe, rva, bytes, sizeof(bytes)))
		return false;
	memcpy(metadata, bytes + 8, sizeof(*metadata));
	memcpy(native, bytes + 64, sizeof(*native));
	return true;
}

static void take_section(struct r2r_core *core, uint32_t type, struct pe_dir dir)
{
	switch (type) {
	case R2R_RUNTIME_FUNCTIONS:
		core->functions = dir;
		break;
	case R2R_METHOD_ENTRIES:
		core->methods = dir;
		break;
	case R2R_INSTANCE_ENTRIES:
		core->instances = dir;
		break;
	case R2R_MANIFEST:
		core->manifest = dir;
		break;
	case R2R_COMPONENTS:
		core->components = dir;
		break;
	default:
		break;
	}
}

bool r2r_read_core(const struct pe_image *pe, uint32_t rva, struct r2r_core *ret)
{
	uint8_t bytes[8 + 12 * R2R_MAX_SECTIONS];
	size_t got = pe_image_read_some(pe, rva, bytes, sizeof(bytes));
	struct reader r = reader_init(bytes, got);
	uint32_t num;

	*ret = (struct r2r_core){ 0 };
	reader_u32(&r); /* flags */
	num = reader_u32(&r);
	for (uint32_t i = 0; i < num && i < R2R_MAX_SECTIONS && !r.failed; i++) {
		uint32_t type = reader_u32(&r);
		struct pe_dir dir;

		dir.rva = reader_u32(&r);
		dir.size = reader_u32(&r);
		if (!r.failed)
			take_section(ret, type, dir);
	}
	return !r.failed;
}

/* Where the header is: the CLR header tells, or in composite images an export. */
static bool find_header(struct r2r *r, uint32_t *ret)
{
	struct pe_dir native = { 0 };

	if (r->pe.clr.size && r2r_read_cor(&r->pe, r->pe.clr.rva, &r->metadata, &native) && native.size) {
		*ret = native.rva;
		return true;
	}
	r->metadata = (struct pe_dir){ 0 };
	*ret = pe_image_export(&r->pe, "RTR_HEADER");
	return *ret;
}

static int read_header(struct r2r *r)
{
	uint32_t rva, words[HEADER_BYTES / 4];

	if (!find_header(r, &rva) || !pe_image_read(&r->pe, rva, words, sizeof(words)) || words[0] != MAGIC)
		return -ENOEXEC;
	r->major = (uint16_t)words[1];
	r->minor = (uint16_t)(words[1] >> 16);
	if (!r2r_read_core(&r->pe, rva + HEADER_BYTES, &r->core))
		return -EBADMSG;
	if (r->core.components.size)
		r->metadata.size = 0;
	r->function_bytes = r->pe.machine == PE_MACHINE_LINUX_X64 ? FUNCTION_BYTES_AMD64 : FUNCTION_BYTES_OTHER;
	r->num_functions = r->core.functions.size / r->function_bytes;
	return r->num_functions ? 0 : -ENOEXEC;
}

/* Also proves that they are sorted where we look first. */
static int read_index(struct r2r *r)
{
	uint32_t num = (r->num_functions + R2R_STRIDE - 1) / R2R_STRIDE;
	const struct pe_section *s = pe_image_section(&r->pe, r->core.functions.rva);

	if (r->num_functions > R2R_MAX_FUNCTIONS || !s ||
	    r->core.functions.size > s->size - (r->core.functions.rva - s->rva))
		return -EBADMSG;
	r->index = calloc(num, sizeof(*r->index));
	if (!r->index)
		return -ENOMEM;
	for (uint32_t i = 0; i < num; i++) {
		if (!pe_image_read(&r->pe, r->core.functions.rva + i * R2R_STRIDE * r->function_bytes, &r->index[i],
				   sizeof(r->index[i])) ||
		    (i && r->index[i] < r->index[i - 1]))
			return -EBADMSG;
	}
	return 0;
}

static int open_image(const struct pe_bytes *bytes, uint64_t base, bool loaded, struct r2r **ret)
{
	_cleanup_(r2r_freep) struct r2r *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	if (!(loaded ? pe_image_open_loaded : pe_image_open)(bytes, base, &r->pe))
		return -ENOEXEC;
	err = read_header(r);
	if (err == 0)
		err = read_index(r);
	if (err < 0)
		return err;
	*ret = steal_ptr(r);
	return 0;
}

int r2r_open(const struct pe_bytes *bytes, uint64_t base, struct r2r **ret)
{
	return open_image(bytes, base, false, ret);
}

int r2r_open_loaded(const struct pe_bytes *bytes, uint64_t base, struct r2r **ret)
{
	return open_image(bytes, base, true, ret);
}

static void take_function(const struct r2r *r, const uint8_t *entry, struct r2r_function *ret)
{
	uint32_t words[3];

	memcpy(words, entry, r->function_bytes);
	ret->begin = words[0];
	ret->end = r->function_bytes == FUNCTION_BYTES_AMD64 ? words[1] : UINT32_MAX;
	ret->unwind = words[r->function_bytes / 4 - 1];
}

/* The last entry of the index that begins at or before; false: none. */
static bool find_stride(const struct r2r *r, uint32_t rva, uint32_t *ret)
{
	uint32_t low = 0, high = (r->num_functions + R2R_STRIDE - 1) / R2R_STRIDE;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (r->index[mid] <= rva)
			low = mid + 1;
		else
			high = mid;
	}
	*ret = low - 1;
	return low;
}

bool r2r_function(const struct r2r *r, uint32_t rva, struct r2r_function *ret)
{
	/* One more than needed: where a function has no end of its own, the next one begins there. */
	uint8_t bytes[(R2R_STRIDE + 1) * FUNCTION_BYTES_AMD64];
	struct r2r_function f = { 0 }, next;
	uint32_t first, num, at;

	if (!find_stride(r, rva, &first))
		return false;
	first *= R2R_STRIDE;
	num = r->num_functions - first < R2R_STRIDE + 1 ? r->num_functions - first : R2R_STRIDE + 1;
	if (!pe_image_read(&r->pe, r->core.functions.rva + first * r->function_bytes, bytes,
			   (size_t)num * r->function_bytes))
		return false;
	for (at = 0; at < num; at++) {
		take_function(r, bytes + (size_t)at * r->function_bytes, &next);
		if (next.begin > rva)
			break;
		f = next;
		f.index = first + at;
	}
	if (!at)
		return false;
	if (f.end == UINT32_MAX && at < num)
		f.end = next.begin;
	if (f.end == UINT32_MAX || rva >= f.end)
		return false;
	*ret = f;
	return true;
}

bool r2r_function_at(const struct r2r *r, uint32_t index, struct r2r_function *ret)
{
	uint8_t bytes[2 * FUNCTION_BYTES_AMD64];
	struct r2r_function next;
	uint32_t num = index + 1 < r->num_functions ? 2 : 1;

	if (index >= r->num_functions ||
	    !pe_image_read(&r->pe, r->core.functions.rva + index * r->function_bytes, bytes,
			   (size_t)num * r->function_bytes))
		return false;
	take_function(r, bytes, ret);
	ret->index = index;
	if (num == 2 && ret->end == UINT32_MAX) {
		take_function(r, bytes + r->function_bytes, &next);
		ret->end = next.begin;
	}
	return true;
}
