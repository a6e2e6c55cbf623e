/*
 * Precompiled code of compressed single-file programs: the runtime unpacks their images into memory that no file is behind.
 * They are stepped through by what is read of that memory, once per place, and named by unpacking the part of the
 * bundle that they are a copy of, once for all places of it.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "runtimes/bundle.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/r2r_files_priv.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_REGIONS = 4096,     /* of one process */
	MAX_ASKED = 1 << 20,    /* places of one part */
	HEAD_BYTES = PE_HEADER_BYTES,
	NO_PART = UINT32_MAX,
	PAGE = 4096,
};

struct place {
	uint32_t rva;
	struct symbol symbol; /* name NULL = it has none */
};
HTAB(place_tab, struct place, uint32_t, hash_u64(key), slot->rva == key, hash_u64(slot->rva));

/* One of the images in a bundle. */
struct part {
	VEC(uint32_t) asked;            /* RVAs that were stepped through since it was last named */
	struct place_tab places;        /* named */
};

/* A compressed bundle. */
struct packed {
	struct known *known; /* borrowed until r2r_copies_file_gone */
	struct part *parts;  /* as known->heads; owned */
	size_t num;
};

/* Where the images' bytes are, while somebody asks. */
struct memory_of {
	const struct memory_reader *memory;
	const struct addrspace *space;
	uint64_t base;  /* of the image */
	bool not_now;
};

/* An executable mapping of a process: a copy of a part, or something else. */
struct region {
	uint64_t start;
	uint32_t part; /* NO_PART = something else */
	struct memory_of *memory; /* owned; what r2r reads from */
	struct r2r *r2r;          /* owned; NULL with NO_PART */
};

/* A generation that runs a compressed bundle. */
struct runner {
	uint32_t space_id;
	struct packed *packed;
	VEC(struct region) regions;
};
struct runner_slot {
	uint32_t space_id;
	struct runner *runner; /* owned */
};
HTAB(runner_tab, struct runner_slot, uint32_t, hash_u64(key), slot->space_id == key, hash_u64(slot->space_id));

struct copies {
	struct runner_tab runners;
	VEC(struct packed *) packed; /* owned */
};

/* ---- lifetime ---- */

static void region_deinit(struct region *region)
{
	r2r_free(region->r2r);
	free(region->memory);
}

static void runner_free(struct runner *runner)
{
	for (size_t i = 0; i < runner->regions.len; i++)
		region_deinit(&runner->regions.data[i]);
	vec_deinit(&runner->regions);
	free(runner);
}

static void packed_free(struct packed *p)
{
	for (size_t i = 0; i < p->num; i++) {
		vec_deinit(&p->parts[i].asked);
		place_tab_deinit(&p->parts[i].places);
	}
	free(p->parts);
	free(p);
}

void r2r_copies_free(struct copies *c)
{
	struct runner_slot *slot;
	size_t cursor = 0;

	if (!c)
		return;
	while ((slot = runner_tab_next(&c->runners, &cursor)))
		runner_free(slot->runner);
	runner_tab_deinit(&c->runners);
	for (size_t i = 0; i < c->packed.len; i++)
		packed_free(c->packed.data[i]);
	vec_deinit(&c->packed);
	free(c);
}

/* No process maps it any more: those that ran it are gone. */
void r2r_copies_file_gone(struct r2r_files *f, const struct known *k)
{
	struct copies *c = f->copies;

	for (size_t i = 0; c && i < c->packed.len; i++) {
		if (c->packed.data[i]->known != k)
			continue;
		packed_free(c->packed.data[i]);
		vec_remove(&c->packed, i, 1);
		return;
	}
}

/* ---- processes that run a compressed bundle ---- */

/* What tells the part's image from others; false: it is none. */
static bool look_at_part(struct known *k, const struct bundle_file *file, struct packed_head *ret)
{
	struct pe_bytes bytes = r2r_known_bytes(k), head;
	_cleanup_free_ void *loaded = NULL;
	struct pe_image pe;

	if (!file->packed_size || file->size < HEAD_BYTES)
		return false;
	loaded = bundle_load(&bytes, file, HEAD_BYTES);
	if (!loaded)
		return false;
	head = pe_bytes_of_memory(loaded, HEAD_BYTES);
	if (!pe_image_open(&head, 0, &pe) || !pe.image_size)
		return false;
	ret->timestamp = pe.timestamp;
	ret->image_size = pe.image_size;
	return true;
}

bool r2r_packed_heads(struct known *k, struct packed_heads *ret)
{
	const struct bundle_file *files;
	size_t num = r2r_known_bundle(k) ? bundle_files(k->bundle, &files) : 0;

	for (size_t i = 0; i < num && i < R2R_MAX_PARTS; i++) {
		struct packed_head head = { .part = (uint32_t)i };

		if (look_at_part(k, &files[i], &head) && !vec_push(&ret->v, head))
			return false;
	}
	return true;
}

static bool is_packed(struct r2r_files *f, struct known *k)
{
	if (!k->heads_tried) {
		k->heads_tried = true;
		if (!(f->opts.worker ? r2r_ask_heads(f, k, &k->heads) : r2r_packed_heads(k, &k->heads)))
			k->heads.v.len = 0;
	}
	return k->heads.v.len;
}

static struct packed *packed_of(struct copies *c, struct known *k)
{
	struct packed *p;

	for (size_t i = 0; i < c->packed.len; i++) {
		if (c->packed.data[i]->known == k)
			return c->packed.data[i];
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->known = k;
	p->num = k->heads.v.len;
	p->parts = calloc(p->num, sizeof(*p->parts));
	if (!p->parts || !vec_push(&c->packed, p)) {
		free(p->parts);
		free(p);
		return NULL;
	}
	return p;
}

/* The bundle is the program itself, and that is mapped first; libraries are not looked into for one. */
static struct known *bundle_of(struct r2r_files *f, const struct addrspace *space)
{
	mappings_for_each(m, &space->maps) {
		struct file *file = m->file;
		struct known *k;

		if (!file || file->kind != FILE_ELF || strstr(file->base, ".so"))
			continue;
		k = r2r_know(f, file);
		if (k && k->fd >= 0 && !k->aside && is_packed(f, k))
			return k;
	}
	return NULL;
}

bool r2r_copies_begin(struct r2r_files *f, const struct addrspace *space)
{
	struct known *k = bundle_of(f, space);
	struct runner_slot *slot;
	struct runner *runner;

	if (!k)
		return false;
	if (!f->copies)
		f->copies = calloc(1, sizeof(*f->copies));
	if (!f->copies || runner_tab_find(&f->copies->runners, space->id))
		return f->copies != NULL;
	runner = calloc(1, sizeof(*runner));
	if (!runner)
		return false;
	runner->space_id = space->id;
	runner->packed = packed_of(f->copies, k);
	slot = runner->packed ? runner_tab_add(&f->copies->runners, space->id, NULL) : NULL;
	if (!slot) {
		free(runner);
		return false;
	}
	*slot = (struct runner_slot){ space->id, runner };
	return true;
}

static struct runner *runner_of(const struct r2r_files *f, const struct addrspace *space)
{
	struct runner_slot *slot = f->copies ? runner_tab_find(&f->copies->runners, space->id) : NULL;

	return slot ? slot->runner : NULL;
}

static void gone(void *data, struct addrspace *space)
{
	struct r2r_files *f = data;
	struct runner *runner = runner_of(f, space);

	if (!runner)
		return;
	runner_free(runner);
	runner_tab_remove(&f->copies->runners, space->id);
}

/* ---- which part a region is a copy of ---- */

static int read_memory(void *data, void *buf, size_t size, uint64_t offset)
{
	struct memory_of *m = data;

	if (!m->memory)
		return -EIO;
	switch (m->memory->read(m->memory->data, m->space, m->base + offset, buf, size)) {
	case MEMORY_OK:
		return 0;
	case MEMORY_NOT_NOW:
		m->not_now = true;
		break;
	case MEMORY_NEVER:
		break;
	}
	return -EIO;
}

static uint32_t find_part(struct packed *p, const struct pe_image *pe)
{
	for (size_t i = 0; i < p->num; i++) {
		const struct packed_head *head = &p->known->heads.v.data[i];

		if (head->image_size == pe->image_size && head->timestamp == pe->timestamp)
			return (uint32_t)i;
	}
	return NO_PART;
}

/* Code begins 16 pages behind its image (their alignment is 64 KiB), before .NET 6 one. */
static bool open_region(struct runner *runner, struct region *region)
{
	static const uint64_t before[] = { 16 * PAGE, PAGE };
	const struct pe_bytes bytes = { read_memory, region->memory, INT64_MAX };

	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		if (region->start < before[i])
			continue;
		region->memory->base = region->start - before[i];
		if (r2r_open_loaded(&bytes, 0, &region->r2r) < 0) {
			region->r2r = NULL;
			continue;
		}
		region->part = find_part(runner->packed, r2r_pe(region->r2r));
		return true;
	}
	return false;
}

static struct region *find_region(struct runner *runner, uint64_t start)
{
	for (size_t i = 0; i < runner->regions.len; i++) {
		if (runner->regions.data[i].start == start)
			return &runner->regions.data[i];
	}
	return NULL;
}

/* NULL: it could not be looked at now. */
static struct region *get_region(struct runner *runner, const struct give_query *q)
{
	struct region region = { .start = q->mapping->start, .part = NO_PART };
	struct region *known = find_region(runner, region.start);

	if (known || runner->regions.len == MAX_REGIONS)
		return known;
	if (!vec_reserve(&runner->regions, runner->regions.len + 1))
		return NULL;
	region.memory = calloc(1, sizeof(*region.memory));
	if (!region.memory)
		return NULL;
	region.memory->memory = q->memory;
	region.memory->space = q->space;
	if (!open_region(runner, &region) && region.memory->not_now) {
		region_deinit(&region);
		return NULL;
	}
	region.memory->memory = NULL;
	vec_push(&runner->regions, region);
	return &runner->regions.data[runner->regions.len - 1];
}

/* ---- frames ---- */

static enum give give(void *data, const struct give_query *q, struct give_answer *ret)
{
	struct r2r_files *f = data;
	struct runner *runner = q->mapping && !q->mapping->file ? runner_of(f, q->space) : NULL;
	struct region *region;
	struct part *part;
	uint32_t rva;
	bool known;

	if (!runner)
		return GIVE_PASS;
	region = get_region(runner, q);
	if (!region || !region->r2r)
		return region ? GIVE_PASS : GIVE_LATER;
	rva = (uint32_t)(q->pc - region->memory->base);
	region->memory->memory = q->memory;
	region->memory->space = q->space;
	region->memory->not_now = false;
	known = r2r_rule(region->r2r, f->opts.arch, rva, q->activation, &ret->rule);
	region->memory->memory = NULL;
	if (!known && region->memory->not_now)
		return GIVE_LATER;
	if (!known)
		ret->rule = (struct rule){ .kind = RULE_FP };
	ret->life = GIVE_WITH_CODE;
	f->counts.rules++;
	part = region->part == NO_PART ? NULL : &runner->packed->parts[region->part];
	if (part && part->asked.len < MAX_ASKED)
		(void)vec_push(&part->asked, rva);
	return GIVE_RULE;
}

struct unwind_giver r2r_copies_giver(struct r2r_files *f)
{
	return (struct unwind_giver){ .name = "dotnet copies", .give = give, .data = f };
}

/* ---- names ---- */

static int compare_rvas(const void *left, const void *right)
{
	const uint32_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static size_t sort_unique(uint32_t *rvas, size_t num)
{
	size_t kept = 0;

	qsort(rvas, num, sizeof(*rvas), compare_rvas);
	for (size_t i = 0; i < num; i++) {
		if (!kept || rvas[i] != rvas[kept - 1])
			rvas[kept++] = rvas[i];
	}
	return kept;
}

static const char *part_assembly(struct r2r_files *f, const struct bundle_file *file)
{
	size_t len;
	const char *name = dotnet_assembly(file->name, strlen(file->name), &len);

	return intern_mem(f->opts.strings, name, len);
}

bool r2r_packed_names(struct r2r_files *f, struct known *k, uint32_t part, const uint32_t *rvas, size_t num,
		      struct symbol *ret)
{
	const struct bundle_file *files;
	size_t num_files = r2r_known_bundle(k) ? bundle_files(k->bundle, &files) : 0;
	struct pe_bytes bytes = r2r_known_bytes(k), unpacked;
	struct bundle_stream *stream = part < num_files ? bundle_stream_new(&bytes, &files[part]) : NULL;
	const char *own = stream ? part_assembly(f, &files[part]) : NULL;
	struct r2r *r = NULL;
	bool ok = own;

	if (ok) {
		unpacked = bundle_stream_bytes(stream);
		ok = !r2r_open(&unpacked, 0, &r) && r2r_name_places(f, k, r, own, rvas, num, ret);
	}
	r2r_free(r);
	bundle_stream_free(stream);
	return ok;
}

static bool names_of(struct r2r_files *f, struct known *k, uint32_t part, const uint32_t *rvas, size_t num, struct symbol *ret)
{
	return f->opts.worker ? r2r_ask_packed(f, k, part, rvas, num, ret) : r2r_packed_names(f, k, part, rvas, num, ret);
}

/* Names all of a part's places that were stepped through since the last time. */
static void name_part(struct r2r_files *f, struct packed *p, uint32_t index)
{
	struct part *part = &p->parts[index];
	size_t num = sort_unique(part->asked.data, part->asked.len);
	_cleanup_free_ struct symbol *symbols = calloc(num, sizeof(*symbols));
	uint64_t start = clock_monotonic_ns();

	if (!symbols || p->known->aside || r2r_known_changed(p->known) ||
	    !names_of(f, p->known, p->known->heads.v.data[index].part, part->asked.data, num, symbols))
		num = 0;
	for (size_t i = 0; i < num; i++) {
		uint32_t rva = part->asked.data[i];
		struct place *place = place_tab_add(&part->places, rva, NULL);

		if (place)
			*place = (struct place){ rva, symbols[i] };
	}
	part->asked.len = 0;
	f->counts.name_ns += clock_monotonic_ns() - start;
}

static bool find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct r2r_files *f = data;
	struct runner *runner = runner_of(f, space);
	const struct mapping *m = runner ? addrspace_find(space, addr) : NULL;
	const struct region *region = m ? find_region(runner, m->start) : NULL;
	const struct place *place;
	struct part *part;
	uint32_t rva;

	if (!region || region->part == NO_PART)
		return false;
	part = &runner->packed->parts[region->part];
	rva = (uint32_t)(addr - region->memory->base);
	place = place_tab_find(&part->places, rva);
	if (!place && part->asked.len) {
		name_part(f, runner->packed, region->part);
		place = place_tab_find(&part->places, rva);
	}
	if (!place || !place->symbol.name)
		return false;
	*ret = place->symbol;
	return true;
}

struct symbol_source r2r_copies_source(struct r2r_files *f)
{
	return (struct symbol_source){ .name = "dotnet copies", .find = find, .gone = gone, .data = f };
}
