/* PE images of .NET, their metadata and precompiled code, and bundles of them. */
#include "runtimes/bundle.h"
#include "runtimes/clr_metadata.h"
#include "runtimes/r2r.h"
#include "unwinder/arch.h"
#include "unwinder/rule.h"

#include <stdlib.h>
#include <string.h>

struct self {
	void *bytes;
	struct clr_metadata md;
	bool open;
};

/* Whatever the image refers to is the image itself. */
static const struct clr_metadata *find(void *data, const char *assembly)
{
	struct self *self = data;

	return self->open && *assembly != '~' ? &self->md : NULL;
}

static void take_name(void *data, size_t i, const struct r2r_name *name)
{
	size_t *num = data;

	if (i >= *num || (name && (strlen(name->type) > R2R_MAX_NAME || !name->method)))
		abort();
}

static void ask_rules(const struct r2r *r, uint32_t rva)
{
	struct rule rule = { 0 };

	for (uint32_t i = 0; i < 24; i++) {
		if (r2r_rule(r, &arch_x86_64, rva + i, i & 1, &rule) &&
		    (rule.kind != RULE_CFA || rule.slot[0] != 1 || rule.cfa_reg > 15))
			abort();
	}
}

static int compare(const void *left, const void *right)
{
	const uint32_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* Forward and back again. */
static void read_packed(const struct pe_bytes *bytes, const struct bundle_file *file)
{
	struct bundle_stream *s = bundle_stream_new(bytes, file);
	uint8_t last, first;

	if (s && file->size < 1 << 20) {
		struct pe_bytes view = bundle_stream_bytes(s);

		if (view.read(view.data, &last, 1, view.size - 1) == 0 && view.read(view.data, &first, 1, 0) < 0)
			abort();
	}
	bundle_stream_free(s);
}

static void ask_bundle(const struct pe_bytes *bytes)
{
	const struct bundle_file *files;
	struct bundle *b;
	size_t num;

	if (bundle_open(bytes, 0, bytes->size, &b) < 0)
		return;
	num = bundle_files(b, &files);
	bundle_find(b, "Shop");
	for (size_t i = 0; i < num && i < 4; i++) {
		if (strlen(files[i].name) > 1024 ||
		    ((files[i].packed_size || files[i].size) && !bundle_at(b, files[i].offset)))
			abort();
		free(bundle_load(bytes, &files[i], 1 << 16));
		read_packed(bytes, &files[i]);
	}
	bundle_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pe_bytes bytes = pe_bytes_of_memory(data, size);
	struct self self = { 0 };
	const struct r2r_assemblies others = { find, &self };
	uint32_t rvas[64] = { 0 };
	size_t num = 8;
	struct r2r *r;
	struct r2r_function f;

	if (clr_metadata_open(data, size, &self.md) && clr_metadata_rows(&self.md, CLR_METHOD_DEF)) {
		struct clr_method method;

		clr_metadata_method(&self.md, 1, &method);
		clr_metadata_mvid(&self.md);
	}
	ask_bundle(&bytes);
	if (r2r_open(&bytes, 0, &r) < 0)
		return 0;
	/* Loaded as its own neighbour. */
	{
		uint8_t cor[72];
		struct pe_dir dir;

		if (pe_image_read(r2r_pe(r), r2r_pe(r)->clr.rva, cor, sizeof(cor))) {
			memcpy(&dir, cor + 8, sizeof(dir));
			self.bytes = pe_image_load(r2r_pe(r), dir);
			self.open = self.bytes && clr_metadata_open(self.bytes, dir.size, &self.md);
		}
	}
	for (size_t i = 1; i < 8; i++)
		rvas[i] = r2r_pe(r)->sections[0].rva + (uint32_t)i * 0x123;
	for (uint32_t i = 0; num < 64 && r2r_function_at(r, i, &f); i++)
		rvas[num++] = f.begin;
	qsort(rvas, num, sizeof(rvas[0]), compare);
	for (size_t i = 0; i < num; i++)
		ask_rules(r, rvas[i]);
	r2r_names(r, rvas, num, &others, take_name, &num);
	r2r_free(r);
	free(self.bytes);
	return 0;
}
