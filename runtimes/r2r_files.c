#include "runtimes/r2r_files.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/worker.h"
#include "runtimes/bundle.h"
#include "runtimes/clr_metadata.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/r2r_files_priv.h"
#include "symbols/addrspace.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "target/door.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_ASSEMBLIES = 512,  /* that places in one file lead to */
	COR_BYTES = 72,
};

/* ---- files ---- */

void r2r_known_free(struct known *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->images.len; i++)
		r2r_free(k->images.data[i].r2r);
	vec_deinit(&k->images);
	vec_deinit(&k->data);
	vec_deinit(&k->heads.v);
	r2r_said_tab_deinit(&k->said);
	bundle_free(k->bundle);
	if (k->own_fd)
		closep(&k->fd);
	free(k);
}

static int read_file(void *data, void *buf, size_t size, uint64_t offset)
{
	const int *fd = data;

	return door_pread(*fd, buf, size, offset);
}

struct pe_bytes r2r_known_bytes(struct known *k)
{
	return (struct pe_bytes){ read_file, &k->fd, (uint64_t)k->at_open.st_size };
}

/* The image that begins at `base`; NULL when there is none or memory is out. */
static struct r2r *image_at_base(struct r2r_files *f, struct known *k, uint64_t base)
{
	struct pe_bytes bytes = r2r_known_bytes(k);
	struct image image = { .base = base };

	for (size_t i = 0; i < k->images.len; i++) {
		if (k->images.data[i].base == base)
			return k->images.data[i].r2r;
	}
	if (!vec_reserve(&k->images, k->images.len + 1))
		return NULL;
	if (k->fd < 0 || r2r_open(&bytes, base, &image.r2r) < 0)
		image.r2r = NULL;
	f->counts.files += image.r2r != NULL;
	k->has_code |= image.r2r != NULL;
	vec_push(&k->images, image);
	return image.r2r;
}

struct bundle *r2r_known_bundle(struct known *k)
{
	struct pe_bytes bytes = r2r_known_bytes(k);

	if (k->bundle_tried || k->fd < 0)
		return k->bundle;
	k->bundle_tried = true;
	for (size_t i = 0; i < k->data.len && !k->bundle; i++)
		bundle_open(&bytes, k->data.data[i].from, k->data.data[i].to, &k->bundle);
	return k->bundle;
}

/* The marker is in the program's data. False when out of memory. */
static bool take_data(struct known *k)
{
	const struct elf_load *loads;
	size_t num = elf_file_loads(k->file->elf, &loads);

	for (size_t i = 0; i < num; i++) {
		struct span span = { loads[i].offset, loads[i].offset + loads[i].filesz };

		if (!loads[i].executable && !vec_push(&k->data, span))
			return false;
	}
	return true;
}

static void open_file(struct known *k)
{
	k->own_fd = k->file->kind == FILE_ELF;
	k->fd = k->own_fd ? elf_file_dup_fd(k->file->elf, false) : files_other_fd(k->file);
	if (k->fd < 0)
		return;
	if (fstat(k->fd, &k->at_open) < 0)
		k->at_open.st_size = 0;
	if (k->is_elf && !take_data(k))
		k->data.len = 0;
}

struct known *r2r_know(struct r2r_files *f, struct file *file)
{
	struct known_slot *slot = known_tab_find(&f->known, file->id);
	struct known *k;

	if (slot)
		return slot->known;
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->file = file;
	k->path = file->path;
	k->is_elf = file->kind == FILE_ELF;
	k->number = f->opts.worker ? worker_number(f->opts.worker) : 0;
	k->fd = -1;
	slot = known_tab_add(&f->known, file->id, NULL);
	if (!slot) {
		free(k);
		return NULL;
	}
	*slot = (struct known_slot){ file->id, k };
	open_file(k);
	return k;
}

void r2r_files_gone(struct r2r_files *f, uint32_t file_id)
{
	struct known_slot *slot = known_tab_find(&f->known, file_id);

	if (!slot)
		return;
	r2r_copies_file_gone(f, slot->known);
	r2r_ask_gone(f, slot->known);
	r2r_known_free(slot->known);
	known_tab_remove(&f->known, file_id);
}

/* Code of the file's own, which CFI and symbols tell of: not what is behind it in a bundle. */
static bool is_native(const struct file *file, uint64_t offset)
{
	uint64_t unused;

	return file->kind == FILE_MISSING ||
	       (file->kind == FILE_ELF && elf_file_vaddr(file->elf, offset, &unused));
}

bool r2r_may_have_image(struct known *k)
{
	return k->fd >= 0 && (k->is_elf ? r2r_known_bundle(k) != NULL : !k->images.len || k->images.data[0].r2r);
}

/* The image that holds a place, and where the place is in it. NULL: none does. */
static struct r2r *image_in(struct r2r_files *f, struct known *k, uint64_t offset, uint32_t *ret_rva)
{
	const struct bundle_file *part;
	struct r2r *r;

	if (k->is_elf && !r2r_known_bundle(k))
		return NULL;
	part = k->bundle ? bundle_at(k->bundle, offset) : NULL;
	if (k->bundle && (!part || part->packed_size))
		return NULL;
	r = image_at_base(f, k, part ? part->offset : 0);
	return r && pe_image_rva(r2r_pe(r), offset, ret_rva) ? r : NULL;
}

bool r2r_known_changed(const struct known *k)
{
	struct stat now;

	return fstat(k->fd, &now) < 0 || now.st_size != k->at_open.st_size ||
	       now.st_mtim.tv_sec != k->at_open.st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != k->at_open.st_mtim.tv_nsec;
}

/* ---- frames ---- */

bool r2r_rule_in(struct r2r_files *f, struct known *k, uint64_t offset, bool exact, struct rule *ret)
{
	uint32_t rva;
	struct r2r *r = image_in(f, k, offset, &rva);

	if (!r)
		return false;
	/* What is no method and no thunk may keep a frame pointer; nobody else knows better. */
	if (!r2r_rule(r, f->opts.arch, rva, exact, ret))
		*ret = (struct rule){ .kind = RULE_FP };
	return true;
}

static enum give give(void *data, const struct give_query *query, struct give_answer *ret)
{
	struct r2r_files *f = data;
	const struct mapping *m = query->mapping;
	uint64_t start, offset;
	struct known *k;
	bool ok;

	if (!m || !m->file)
		return GIVE_PASS;
	offset = query->pc - m->start + m->pgoff;
	if (is_native(m->file, offset))
		return GIVE_PASS;
	k = r2r_know(f, m->file);
	if (!k || k->nothing || k->aside)
		return GIVE_PASS;
	start = clock_monotonic_ns();
	ok = f->opts.worker ? r2r_ask_rule(f, k, query, &ret->rule)
			    : r2r_rule_in(f, k, offset, query->activation, &ret->rule);
	if (!ok)
		return GIVE_PASS;
	ret->life = GIVE_WITH_FILE;
	f->counts.rules++;
	f->counts.rule_ns += clock_monotonic_ns() - start;
	return GIVE_RULE;
}

struct unwind_giver r2r_files_giver(struct r2r_files *f)
{
	return (struct unwind_giver){ .name = "dotnet files", .files_only = true, .give = give, .data = f };
}

/* ---- assemblies that an image refers to ---- */

struct assembly {
	const char *name;  /* interned */
	void *bytes;       /* owned; NULL = it was not found */
	struct clr_metadata md;
};

/* Places of one image are being named. */
struct batch {
	struct r2r_files *files;
	struct known *at;
	const char *own;
	const uint32_t *rvas;
	struct symbol *symbols;
	VEC(struct assembly *) assemblies; /* owned */
	struct strbuf text;
	bool failed; /* out of memory */
};

static void batch_deinit(struct batch *b)
{
	for (size_t i = 0; i < b->assemblies.len; i++) {
		free(b->assemblies.data[i]->bytes);
		free(b->assemblies.data[i]);
	}
	vec_deinit(&b->assemblies);
	strbuf_deinit(&b->text);
}

static void *load_metadata(const struct pe_bytes *bytes, uint64_t base, struct clr_metadata *ret)
{
	uint8_t cor[COR_BYTES];
	struct pe_image pe;
	struct pe_dir dir;
	void *loaded;

	if (!pe_image_open(bytes, base, &pe) || !pe_image_read(&pe, pe.clr.rva, cor, sizeof(cor)))
		return NULL;
	memcpy(&dir, cor + 8, sizeof(dir)); /* ECMA-335 II.25.3.3 */
	loaded = pe_image_load(&pe, dir);
	if (loaded && !clr_metadata_open(loaded, dir.size, ret)) {
		free(loaded);
		return NULL;
	}
	return loaded;
}

static void *load_from_bundle(struct known *k, const char *name, struct clr_metadata *ret)
{
	const struct bundle_file *part = r2r_known_bundle(k) ? bundle_find(k->bundle, name) : NULL;
	struct pe_bytes bytes = r2r_known_bytes(k), unpacked;
	struct bundle_stream *stream;
	void *loaded = NULL;

	if (!part)
		return NULL;
	if (!part->packed_size)
		return load_metadata(&bytes, part->offset, ret);
	stream = bundle_stream_new(&bytes, part);
	if (stream) {
		unpacked = bundle_stream_bytes(stream);
		loaded = load_metadata(&unpacked, 0, ret);
	}
	bundle_stream_free(stream);
	return loaded;
}

static bool same_folder(const struct file *a, const struct file *b)
{
	size_t len = (size_t)(a->base - a->path);

	return len == (size_t)(b->base - b->path) && !memcmp(a->path, b->path, len);
}

/* A file in the `place`th of the other folders; NULL: there are not so many. */
static struct file *other_folder(struct r2r_files *f, const struct known *at, size_t place)
{
	const struct file *tried[R2R_MAX_FOLDERS] = { at->file };
	size_t num = 1, cursor = 0;
	struct known_slot *slot;

	while (num < R2R_MAX_FOLDERS && (slot = known_tab_next(&f->known, &cursor))) {
		struct file *file = slot->known->file;
		bool is_new = slot->known->has_code && !slot->known->is_elf;

		for (size_t i = 0; i < num && is_new; i++)
			is_new = !same_folder(file, tried[i]);
		if (is_new && num == place)
			return file;
		if (is_new)
			tried[num++] = file;
	}
	return NULL;
}

int r2r_open_near(struct r2r_files *f, const struct known *at, size_t place, const char *name)
{
	char path[R2R_MAX_ASSEMBLY + 8];
	struct file *file = place ? other_folder(f, at, place) : at->file;

	if (!file || strlen(name) > R2R_MAX_ASSEMBLY || strchr(name, '/') || !*name)
		return -1;
	snprintf(path, sizeof(path), "%s.dll", name);
	return files_open_named(f->opts.files, file, path);
}

static void *load_near(struct batch *b, size_t place, const char *name, struct clr_metadata *ret)
{
	struct r2r_files *f = b->files;
	_cleanup_close_ int fd = f->near ? f->near(f->near_data, place, name) : r2r_open_near(f, b->at, place, name);
	struct pe_bytes bytes;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	bytes = (struct pe_bytes){ read_file, &fd, (uint64_t)st.st_size };
	return load_metadata(&bytes, 0, ret);
}

static bool same_build(const struct clr_metadata *a, const struct clr_metadata *b)
{
	const uint8_t *left = clr_metadata_mvid(a), *right = clr_metadata_mvid(b);

	return left && right && !memcmp(left, right, 16);
}

/*
 * In the folders of other files that hold precompiled code: an application's is not the framework's. Where there are
 * several builds of it, of several frameworks, there is no telling which is meant: none is.
 */
static void *load_elsewhere(struct batch *b, const char *name, struct clr_metadata *ret)
{
	void *found = NULL;

	for (size_t place = 1; place < R2R_MAX_FOLDERS; place++) {
		struct clr_metadata md;
		void *bytes = load_near(b, place, name, &md);

		if (bytes && found && !same_build(&md, ret)) {
			free(bytes);
			free(found);
			return NULL;
		}
		if (!bytes || found) {
			free(bytes);
			continue;
		}
		found = bytes;
		*ret = md;
	}
	return found;
}

static void load_assembly(struct batch *b, struct assembly *a)
{
	a->bytes = load_from_bundle(b->at, a->name, &a->md);
	if (!a->bytes)
		a->bytes = load_near(b, 0, a->name, &a->md);
	if (!a->bytes)
		a->bytes = load_elsewhere(b, a->name, &a->md);
}

/* struct r2r_assemblies */
static const struct clr_metadata *find_assembly(void *data, const char *name)
{
	struct batch *b = data;
	struct assembly *a;

	name = intern_str(b->files->opts.strings, name);
	for (size_t i = 0; i < b->assemblies.len; i++) {
		a = b->assemblies.data[i];
		if (a->name == name)
			return a->bytes ? &a->md : NULL;
	}
	if (b->assemblies.len == MAX_ASSEMBLIES)
		return NULL;
	a = calloc(1, sizeof(*a));
	if (!name || !a || !vec_push(&b->assemblies, a)) {
		b->failed = true;
		free(a);
		return NULL;
	}
	a->name = name;
	load_assembly(b, a);
	return a->bytes ? &a->md : NULL;
}

/* ---- names ---- */

/* r2r_names: each */
static void take_name(void *data, size_t i, const struct r2r_name *name)
{
	struct batch *b = data;
	struct intern *strings = b->files->opts.strings;
	struct symbol *symbol = &b->symbols[i];

	strbuf_clear(&b->text);
	if (name)
		dotnet_name(&b->text, name->type, strlen(name->type), name->method, strlen(name->method));
	else
		strbuf_str(&b->text, dotnet_stub_name);
	if (name && b->files->opts.tiers)
		dotnet_name_tier(&b->text, DOTNET_TIER_READY_TO_RUN);
	if (!b->text.failed)
		symbol->name = intern_mem(strings, b->text.data, b->text.len);
	symbol->offset = name ? b->rvas[i] - name->begin : 0;
	symbol->module = name && name->assembly ? intern_str(strings, name->assembly) : b->own;
	b->failed |= !symbol->name || !symbol->module;
	b->files->counts.named++;
}

bool r2r_name_places(struct r2r_files *f, struct known *at, const struct r2r *r, const char *own, const uint32_t *rvas,
		     size_t num, struct symbol *ret)
{
	_cleanup_(batch_deinit) struct batch b = { .files = f, .at = at, .own = own, .rvas = rvas, .symbols = ret };
	const struct r2r_assemblies others = { find_assembly, &b };

	return r2r_names(r, rvas, num, &others, take_name, &b) && !b.failed;
}

/* The assembly that a place's file is, or in a bundle the part of it; NULL when out of memory. */
static const char *assembly_at(struct r2r_files *f, struct known *k, uint64_t offset)
{
	const struct bundle_file *part = r2r_known_bundle(k) ? bundle_at(k->bundle, offset) : NULL;
	const char *path = part ? part->name : k->path;
	size_t len;

	path = dotnet_assembly(path, strlen(path), &len);
	return intern_mem(f->opts.strings, path, len);
}

/* What one call of names() works with: as many of each as there are places. */
struct places {
	uint32_t *rvas;
	size_t *indexes;
	struct symbol *symbols;
};

static void places_deinit(struct places *p)
{
	free(p->rvas);
	free(p->indexes);
	free(p->symbols);
}

static bool places_init(struct places *p, size_t num)
{
	p->rvas = calloc(num, sizeof(*p->rvas));
	p->indexes = calloc(num, sizeof(*p->indexes));
	p->symbols = calloc(num, sizeof(*p->symbols));
	return p->rvas && p->indexes && p->symbols;
}

/* Those from `first` on that are in the same image; *ret_end: where the next begin. False when out of memory. */
static bool name_image(struct r2r_files *f, struct known *k, const uint64_t *offsets, size_t first, size_t num,
		       struct places *p, struct symbol *ret, size_t *ret_end)
{
	const char *own = assembly_at(f, k, offsets[first]);
	struct r2r *r = NULL;
	size_t end, found = 0;

	for (end = first; end < num; end++) {
		uint32_t rva;
		struct r2r *here = image_in(f, k, offsets[end], &rva);

		if (end > first && here != r)
			break;
		r = here;
		p->rvas[found] = rva;
		p->indexes[found++] = end;
	}
	*ret_end = end;
	if (!r)
		return true;
	memset(p->symbols, 0, found * sizeof(p->symbols[0]));
	if (!own || !r2r_name_places(f, k, r, own, p->rvas, found, p->symbols))
		return false;
	for (size_t i = 0; i < found; i++)
		ret[p->indexes[i]] = p->symbols[i];
	return true;
}

bool r2r_known_names(struct r2r_files *f, struct known *k, const uint64_t *offsets, size_t num, struct symbol *ret)
{
	_cleanup_(places_deinit) struct places places = { 0 };

	if (!places_init(&places, num))
		return false;
	for (size_t i = 0; i < num;) {
		if (!name_image(f, k, offsets, i, num, &places, ret, &i))
			return false;
	}
	return true;
}

/* Those of it that no ELF part of the file holds. */
static bool names(void *data, struct file *file, const uint64_t *offsets, size_t num, struct symbol *ret)
{
	struct r2r_files *f = data;
	uint64_t start = clock_monotonic_ns();
	struct known *k;
	bool ok;

	if (file->kind == FILE_MISSING || !num)
		return true;
	k = r2r_know(f, file);
	if (!k)
		return false;
	if (k->fd < 0 || k->nothing || k->aside || r2r_known_changed(k))
		return true;
	ok = f->opts.worker ? r2r_ask_names(f, k, offsets, num, ret) : r2r_known_names(f, k, offsets, num, ret);
	f->counts.places += num;
	f->counts.name_ns += clock_monotonic_ns() - start;
	return ok;
}

struct file_source r2r_files_source(struct r2r_files *f)
{
	return (struct file_source){ .names = names, .data = f };
}

struct r2r_files_counts r2r_files_counts(const struct r2r_files *f)
{
	return f->counts;
}

/* ---- lifetime ---- */

int r2r_files_new(const struct r2r_files_opts *opts, struct r2r_files **ret, struct err *err)
{
	struct r2r_files *f = calloc(1, sizeof(*f));

	if (!f)
		return err_oom(err);
	f->opts = *opts;
	*ret = f;
	return 0;
}

void r2r_files_free(struct r2r_files *f)
{
	struct known_slot *slot;
	size_t cursor = 0;

	if (!f)
		return;
	while ((slot = known_tab_next(&f->known, &cursor)))
		r2r_known_free(slot->known);
	r2r_copies_free(f->copies);
	known_tab_deinit(&f->known);
	free(f);
}
