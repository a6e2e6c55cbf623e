#include "runtimes/r2r.h"

#include "base/cleanup.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "runtimes/clr_metadata.h"
#include "runtimes/r2r_native.h"
#include "runtimes/r2r_priv.h"

#include <stdlib.h>

enum {
	MAX_DEPTH = 24,      /* types in types */
	MAX_ARGUMENTS = 256, /* of a type or method */
	MAX_PIECES = 1 << 16, /* types that one signature is made of */
	NO_FUNCTION = UINT32_MAX,
};

/* readytorun.h, enum ReadyToRunMethodSigFlags */
enum {
	METHOD_INSTANTIATION = 0x04,
	METHOD_SLOT = 0x08,
	METHOD_MEMBER_REF = 0x10,
	METHOD_CONSTRAINED = 0x20,
	METHOD_OWNER_TYPE = 0x40,
	METHOD_MODULE = 0x80,
};

/* ECMA-335 II.23.1.16, and the runtime's own (inc/corhdr.h, CorElementTypeZapSig) */
enum {
	TYPE_PTR = 0x0f,
	TYPE_BYREF = 0x10,
	TYPE_VALUE = 0x11,
	TYPE_CLASS = 0x12,
	TYPE_VAR = 0x13,
	TYPE_ARRAY = 0x14,
	TYPE_GENERIC = 0x15,
	TYPE_FUNCTION = 0x1b,
	TYPE_VECTOR = 0x1d,
	TYPE_METHOD_VAR = 0x1e,
	TYPE_REQUIRED = 0x1f,
	TYPE_OPTIONAL = 0x20,
	TYPE_NATIVE_VALUE = 0x3d,
	TYPE_CANON = 0x3e,
	TYPE_MODULE = 0x3f,
	TYPE_SENTINEL = 0x41,
	TYPE_PINNED = 0x45,
};

/* What a type signature names outermost: who has its methods. */
struct type_head {
	const struct clr_metadata *md;
	clr_token token;
};

/* A function that was asked for, and the method's entry with the greatest index up to its own. */
struct question {
	uint32_t function;
	uint32_t entry; /* NO_FUNCTION = none */
	uint32_t module; /* the component whose method it is */
	uint32_t place;  /* MethodDef row, or where the signature is */
	bool instance;
};

struct component {
	struct pe_dir methods;
	const char *assembly;           /* NULL = the image's own */
	const struct clr_metadata *md;  /* NULL until wanted, or not to be had */
	struct clr_metadata own_md;     /* where the image holds it */
	struct pe_dir own_metadata;
	void *own_bytes;                /* owned */
	bool tried;
};

struct names {
	const struct r2r *r;
	const struct r2r_assemblies *others;
	struct component *components;   /* the one module, or those of a composite image */
	uint32_t num_components;
	bool composite;
	struct clr_metadata manifest;
	void *manifest_bytes;
	void *instance_bytes;
	struct native instances;
	struct question *questions;     /* by function, ascending */
	size_t num_questions;
	bool failed;                    /* out of memory */
};

static void names_deinit(struct names *n)
{
	for (uint32_t i = 0; i < n->num_components; i++)
		free(n->components[i].own_bytes);
	free(n->components);
	free(n->manifest_bytes);
	free(n->instance_bytes);
	free(n->questions);
}

/* ---- modules ---- */

static void *load_metadata(const struct names *n, struct pe_dir dir, struct clr_metadata *ret)
{
	void *bytes = pe_image_load(&n->r->pe, dir);

	if (bytes && !clr_metadata_open(bytes, dir.size, ret)) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

static const struct clr_metadata *other(const struct names *n, const char *assembly)
{
	return assembly && n->others ? n->others->find(n->others->data, assembly) : NULL;
}

static const struct clr_metadata *component_metadata(const struct names *n, uint32_t i)
{
	struct component *c = i < n->num_components ? &n->components[i] : NULL;

	if (!c || c->tried)
		return c ? c->md : NULL;
	c->tried = true;
	if (c->own_metadata.size)
		c->own_bytes = load_metadata(n, c->own_metadata, &c->own_md);
	c->md = c->own_bytes ? &c->own_md : other(n, c->assembly);
	return c->md;
}

/*
 * Indexes of modules in signatures: 0 is the module itself, then the assemblies it refers to, then the manifest, then what
 * that refers to ("The index is...", readytorun-format.md). Before 6.3 the manifest itself had none.
 */
static const struct clr_metadata *module_at(const struct names *n, uint32_t index)
{
	const struct clr_metadata *own = n->composite ? NULL : component_metadata(n, 0);
	uint32_t refs = own ? clr_metadata_rows(own, CLR_ASSEMBLY_REF) : 0;
	bool manifest_counts = n->r->major > 6 || (n->r->major == 6 && n->r->minor >= 3);

	if (!index)
		return own;
	if (index <= refs)
		return other(n, clr_metadata_assembly_ref(own, index));
	index -= refs + manifest_counts;
	if (!index)
		return &n->manifest;
	if (n->composite && index <= n->num_components)
		return component_metadata(n, index - 1);
	return other(n, clr_metadata_assembly_ref(&n->manifest, index));
}

/* Who defines the types that signatures have a byte for. */
static const struct clr_metadata *core_library(const struct names *n)
{
	static const char name[] = "System.Private.CoreLib";
	const struct clr_metadata *own = n->composite ? NULL : component_metadata(n, 0);
	const char *assembly = own ? clr_metadata_assembly(own) : NULL;

	return assembly && !strcmp(assembly, name) ? own : other(n, name);
}

/* Who defines a type: for references the module that they refer to. */
static const struct clr_metadata *home_of(const struct names *n, const struct type_head *head)
{
	clr_token scope;

	if (!head->md || clr_token_table(head->token) != CLR_TYPE_REF)
		return head->md;
	if (!clr_metadata_type_home(head->md, clr_token_row(head->token), &scope) ||
	    clr_token_table(scope) != CLR_ASSEMBLY_REF)
		return NULL;
	return other(n, clr_metadata_assembly_ref(head->md, clr_token_row(scope)));
}

/* ---- signatures ---- */

/*
 * One signature. Without `out` it is only passed over, which entries of the table of instances need to be, as what
 * follows a signature begins where that ends.
 */
struct sig {
	const struct names *n;
	struct reader r;
	struct strbuf *out;
	uint32_t pieces; /* that it may still have */
};

static void put(struct sig *s, const char *text)
{
	if (s->out && s->out->len + strlen(text) > R2R_MAX_NAME)
		s->r.failed = true;
	else if (s->out)
		strbuf_str(s->out, text);
}

/* II.23.2 */
static uint32_t compressed(struct reader *r)
{
	uint32_t value = reader_u8(r);

	if (!(value & 0x80))
		return value;
	if (!(value & 0x40))
		return (value & 0x3f) << 8 | reader_u8(r);
	value = (value & 0x1f) << 24 | (uint32_t)reader_u8(r) << 16;
	value |= (uint32_t)reader_u8(r) << 8;
	return value | reader_u8(r);
}

/* TypeDefOrRefOrSpecEncoded, II.23.2.8 */
static clr_token type_token(struct reader *r)
{
	static const uint8_t tables[4] = { CLR_TYPE_DEF, CLR_TYPE_REF, CLR_TYPE_SPEC, 0 };
	uint32_t value = compressed(r);

	return tables[value & 3] && value >> 2 ? clr_token_of(tables[value & 3], value >> 2 & 0xffffff) : 0;
}

static const char *simple_type(uint8_t type)
{
	static const char *const names[] = {
		[0x01] = "System.Void",   [0x02] = "System.Boolean", [0x03] = "System.Char",   [0x04] = "System.SByte",
		[0x05] = "System.Byte",   [0x06] = "System.Int16",   [0x07] = "System.UInt16", [0x08] = "System.Int32",
		[0x09] = "System.UInt32", [0x0a] = "System.Int64",   [0x0b] = "System.UInt64", [0x0c] = "System.Single",
		[0x0d] = "System.Double", [0x0e] = "System.String",  [0x16] = "System.TypedReference",
		[0x18] = "System.IntPtr", [0x19] = "System.UIntPtr", [0x1c] = "System.Object",
		[TYPE_CANON] = "System.__Canon",
	};

	return type < sizeof(names) / sizeof(names[0]) ? names[type] : NULL;
}

static bool put_type(struct sig *s, const struct clr_metadata *md, unsigned int depth, struct type_head *head);

static void put_spec(struct sig *s, const struct clr_metadata *md, uint32_t row, unsigned int depth,
		     struct type_head *head)
{
	struct reader outer = s->r;
	struct clr_heap blob;

	if (!clr_metadata_type_spec(md, row, &blob)) {
		s->r.failed = true;
		return;
	}
	s->r = reader_init(blob.bytes, blob.size);
	put_type(s, md, depth + 1, head);
	outer.failed |= s->r.failed;
	s->r = outer;
}

static void put_named(struct sig *s, const struct clr_metadata *md, unsigned int depth, struct type_head *head)
{
	clr_token token = type_token(&s->r);

	if (!s->out)
		return;
	if (head)
		*head = (struct type_head){ md, token };
	if (!md || !token || s->out->len > R2R_MAX_NAME)
		s->r.failed = true;
	else if (clr_token_table(token) == CLR_TYPE_SPEC)
		put_spec(s, md, clr_token_row(token), depth, head);
	else if (!clr_metadata_type_name(md, token, s->out))
		s->r.failed = true;
}

/* "[A,B]" */
static void put_arguments(struct sig *s, const struct clr_metadata *md, unsigned int depth)
{
	uint32_t num = compressed(&s->r);

	if (num > MAX_ARGUMENTS)
		s->r.failed = true;
	put(s, "[");
	for (uint32_t i = 0; i < num && !s->r.failed; i++) {
		if (i)
			put(s, ",");
		put_type(s, md, depth + 1, NULL);
	}
	put(s, "]");
}

/* Rank, sizes and lower bounds; only the rank is in the name. */
static void put_rank(struct sig *s)
{
	uint32_t rank = compressed(&s->r), num;

	put(s, "[");
	if (rank == 1)
		put(s, "*");
	for (uint32_t i = 1; i < rank && i < 32; i++)
		put(s, ",");
	put(s, "]");
	for (unsigned int part = 0; part < 2; part++) {
		num = compressed(&s->r);
		for (uint32_t i = 0; i < num && !s->r.failed; i++)
			compressed(&s->r);
	}
}

/* "System.Int32 (System.String, System.Object)" */
static void put_function(struct sig *s, const struct clr_metadata *md, unsigned int depth)
{
	uint8_t convention = reader_u8(&s->r);
	uint32_t num;

	if (convention & 0x10)
		compressed(&s->r); /* how many type parameters it has */
	num = compressed(&s->r);
	if (num > MAX_ARGUMENTS)
		s->r.failed = true;
	put_type(s, md, depth + 1, NULL);
	put(s, " (");
	for (uint32_t i = 0; i < num && !s->r.failed; i++) {
		if (i)
			put(s, ", ");
		put_type(s, md, depth + 1, NULL);
	}
	put(s, ")");
}

static void put_number(struct sig *s, const char *prefix, uint32_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%s%u", prefix, number);
	put(s, text);
}

/* As put_type, of a type that begins with `type`. */
static void put_composed(struct sig *s, const struct clr_metadata *md, uint8_t type, unsigned int depth,
			 struct type_head *head)
{
	switch (type) {
	case TYPE_PTR:
		put_type(s, md, depth + 1, NULL);
		put(s, "*");
		break;
	case TYPE_BYREF:
		put_type(s, md, depth + 1, NULL);
		put(s, "&");
		break;
	case TYPE_VECTOR:
		put_type(s, md, depth + 1, NULL);
		put(s, "[]");
		break;
	case TYPE_ARRAY:
		put_type(s, md, depth + 1, NULL);
		put_rank(s);
		break;
	case TYPE_VALUE:
	case TYPE_CLASS:
		put_named(s, md, depth, head);
		break;
	case TYPE_VAR:
		put_number(s, "!", compressed(&s->r));
		break;
	case TYPE_METHOD_VAR:
		put_number(s, "!!", compressed(&s->r));
		break;
	case TYPE_GENERIC:
		put_type(s, md, depth + 1, head);
		put_arguments(s, md, depth);
		break;
	case TYPE_FUNCTION:
		put_function(s, md, depth);
		break;
	case TYPE_REQUIRED:
	case TYPE_OPTIONAL:
		type_token(&s->r);
		put_type(s, md, depth + 1, head);
		break;
	case TYPE_NATIVE_VALUE:
	case TYPE_SENTINEL:
	case TYPE_PINNED:
		put_type(s, md, depth + 1, head);
		break;
	case TYPE_MODULE: {
		uint32_t index = compressed(&s->r);

		put_type(s, s->out ? module_at(s->n, index) : NULL, depth + 1, head);
		break;
	}
	default:
		s->r.failed = true;
		break;
	}
}

/* Appends a type; its tokens are of `md`. *head: the outermost type that is named. False when it cannot be read. */
static bool put_type(struct sig *s, const struct clr_metadata *md, unsigned int depth, struct type_head *head)
{
	uint8_t type = reader_u8(&s->r);
	const char *simple = simple_type(type);

	if (depth > MAX_DEPTH || !s->pieces)
		s->r.failed = true;
	if (s->r.failed)
		return false;
	s->pieces--;
	if (simple && head && s->out)
		*head = (struct type_head){ core_library(s->n), 0 };
	if (simple)
		put(s, simple);
	else
		put_composed(s, md, type, depth, head);
	return !s->r.failed;
}

/* The method of a signature: its name, and what type it is of unless the signature tells. */
static bool find_method(struct sig *s, const struct clr_metadata *md, uint32_t flags, uint32_t row, bool has_owner,
			const struct type_head *owner, struct r2r_name *ret)
{
	struct clr_method method;
	clr_token parent;

	if (flags & METHOD_SLOT)
		return false; /* a virtual call's: no code */
	if (flags & METHOD_MEMBER_REF) {
		if (!md || !clr_metadata_member(md, row, &ret->method, &parent))
			return false;
		ret->token = clr_token_of(CLR_MEMBER_REF, row);
		if (has_owner || !parent)
			return true;
		if (clr_token_table(parent) == CLR_TYPE_SPEC)
			put_spec(s, md, clr_token_row(parent), 0, NULL);
		else if (clr_token_table(parent) != CLR_TYPE_DEF && clr_token_table(parent) != CLR_TYPE_REF)
			return true;
		else
			return clr_metadata_type_name(md, parent, s->out);
		return !s->r.failed;
	}
	if (has_owner)
		md = home_of(s->n, owner);
	if (!md || !clr_metadata_method(md, row, &method))
		return false;
	ret->method = method.name;
	ret->token = clr_token_of(CLR_METHOD_DEF, row);
	ret->assembly = clr_metadata_assembly(md);
	return has_owner || !method.type ||
	       clr_metadata_type_name(md, clr_token_of(CLR_TYPE_DEF, method.type), s->out);
}

/*
 * A method's signature. With s->out its type's name goes there and the rest to *ret; false when it cannot be told.
 */
static bool read_method(struct sig *s, struct r2r_name *ret)
{
	uint32_t flags = compressed(&s->r), row, num;
	const struct clr_metadata *md = NULL;
	struct type_head owner = { 0 };
	bool found = true;

	if (flags & METHOD_MODULE) {
		uint32_t index = compressed(&s->r);

		md = s->out ? module_at(s->n, index) : NULL;
	} else if (s->out) {
		md = module_at(s->n, 0);
	}
	if (flags & METHOD_OWNER_TYPE)
		put_type(s, md, 0, &owner);
	row = compressed(&s->r);
	if (s->out)
		return !s->r.failed &&
		       find_method(s, md, flags, row, flags & METHOD_OWNER_TYPE, &owner, ret);
	if (flags & METHOD_INSTANTIATION) {
		num = compressed(&s->r);
		for (uint32_t i = 0; i < num && found; i++)
			found = put_type(s, NULL, 0, NULL);
	}
	if (flags & METHOD_CONSTRAINED)
		put_type(s, NULL, 0, NULL);
	return !s->r.failed;
}

/* ---- which entry ---- */

static int compare_questions(const void *left, const void *right)
{
	const struct question *a = left, *b = right;

	return a->function < b->function ? -1 : a->function > b->function;
}

/* A method begins at function `entry`: perhaps the one that holds a function which was asked for. */
static void offer(struct names *n, uint32_t entry, uint32_t module, uint32_t place, bool instance)
{
	size_t low = 0, high = n->num_questions;
	struct question *q;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (n->questions[mid].function < entry)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == n->num_questions)
		return;
	q = &n->questions[low];
	if (q->entry != NO_FUNCTION && q->entry >= entry)
		return;
	q->entry = entry;
	q->module = module;
	q->place = place;
	q->instance = instance;
}

/* What follows a method's entry: fixups, if its low bit says so. */
static uint32_t entry_function(uint32_t id)
{
	return id & 1 ? id >> 2 : id >> 1;
}

static void offer_methods(struct names *n, uint32_t module)
{
	struct pe_dir dir = n->components[module].methods;
	_cleanup_free_ void *bytes = pe_image_load(&n->r->pe, dir);
	const struct native in = { bytes, dir.size };
	struct native_array array;

	if (!bytes || !native_array_open(&in, &array))
		return;
	/* Cells are there for 16 elements each: no more elements than bytes tell of. */
	if (array.num / 16 > dir.size)
		return;
	for (uint32_t i = 0; i < array.num; i++) {
		uint32_t at, id;

		if (native_array_at(&array, i, &at) && native_unsigned(&in, &at, &id))
			offer(n, entry_function(id), module, i + 1, false);
	}
}

static void offer_instances(struct names *n)
{
	struct native_table table;
	uint32_t at, pieces;

	n->instance_bytes = pe_image_load(&n->r->pe, n->r->core.instances);
	n->instances = (struct native){ n->instance_bytes, n->r->core.instances.size };
	if (!n->instance_bytes || !native_table_open(&n->instances, &table))
		return;
	/* Hostile entries may all lead to one long signature. In a true table each byte is of one, or none. */
	pieces = 2 * n->instances.size;
	while (native_table_next(&table, &at)) {
		struct sig s = { .n = n, .pieces = pieces };
		uint32_t end, id;

		if (at >= n->instances.size)
			continue;
		s.r = reader_init(n->instances.bytes + at, n->instances.size - at);
		if (!read_method(&s, NULL))
			continue;
		pieces = s.pieces;
		end = (uint32_t)(s.r.pos - n->instances.bytes);
		if (native_unsigned(&n->instances, &end, &id))
			offer(n, entry_function(id), 0, at, true);
	}
}

/* A funclet's method is the one whose entry was offered to the last function before it that was asked for. */
static void carry_on(struct names *n)
{
	for (size_t i = 1; i < n->num_questions; i++) {
		struct question *q = &n->questions[i], *before = q - 1;

		if (q->entry == NO_FUNCTION && before->entry != NO_FUNCTION) {
			uint32_t function = q->function;

			*q = *before;
			q->function = function;
		}
	}
}

/* ---- the image ---- */

static bool add_components(struct names *n)
{
	const struct r2r *r = n->r;
	_cleanup_free_ uint32_t *words = NULL;
	uint32_t num = r->core.components.size / 16;

	n->composite = num;
	n->num_components = 0;
	if (num > R2R_MAX_COMPONENTS)
		return true;
	if (num) {
		words = pe_image_load(&r->pe, r->core.components);
		if (!words)
			return true;
	}
	n->components = calloc(num ? num : 1, sizeof(*n->components));
	if (!n->components)
		return false;
	n->num_components = num ? num : 1;
	if (!num) {
		n->components[0].methods = r->core.methods;
		n->components[0].own_metadata = r->metadata;
	}
	for (uint32_t i = 0; i < num; i++) {
		struct component *c = &n->components[i];
		struct pe_dir unused;
		struct r2r_core core;

		c->assembly = n->manifest_bytes ? clr_metadata_assembly_ref(&n->manifest, i + 1) : NULL;
		if (words[4 * i + 1])
			r2r_read_cor(&r->pe, words[4 * i], &c->own_metadata, &unused);
		if (r2r_read_core(&r->pe, words[4 * i + 2], &core))
			c->methods = core.methods;
	}
	return true;
}

/* The functions that hold the places; answers those that are in none. */
static bool ask(struct names *n, const uint32_t *rvas, size_t num,
		void (*each)(void *data, size_t i, const struct r2r_name *name), void *data)
{
	n->questions = calloc(num, sizeof(*n->questions));
	if (!n->questions)
		return false;
	for (size_t i = 0; i < num; i++) {
		struct r2r_function f;

		if (r2r_function(n->r, rvas[i], &f)) {
			n->questions[n->num_questions++] =
				(struct question){ .function = f.index, .entry = NO_FUNCTION };
		} else {
			const struct pe_section *s = pe_image_section(&n->r->pe, rvas[i]);

			if (s && s->executable)
				each(data, i, NULL);
		}
	}
	if (n->num_questions)
		qsort(n->questions, n->num_questions, sizeof(*n->questions), compare_questions);
	return true;
}

static uint32_t begin_of(const struct r2r *r, uint32_t function)
{
	uint32_t begin = 0;

	pe_image_read(&r->pe, r->core.functions.rva + function * r->function_bytes, &begin, sizeof(begin));
	return begin;
}

static bool answer(struct names *n, const struct question *q, struct strbuf *type, struct r2r_name *ret)
{
	*ret = (struct r2r_name){ 0 };
	strbuf_clear(type);
	if (q->instance) {
		struct sig s = { .n = n, .out = type, .pieces = MAX_PIECES };

		s.r = reader_init(n->instances.bytes + q->place, n->instances.size - q->place);
		if (!read_method(&s, ret))
			return false;
	} else {
		const struct clr_metadata *md = component_metadata(n, q->module);
		struct clr_method method;

		if (!md || !clr_metadata_method(md, q->place, &method))
			return false;
		if (method.type && !clr_metadata_type_name(md, clr_token_of(CLR_TYPE_DEF, method.type), type))
			return false;
		ret->method = method.name;
		ret->token = clr_token_of(CLR_METHOD_DEF, q->place);
		ret->assembly = clr_metadata_assembly(md);
	}
	n->failed |= type->failed;
	ret->type = type->len && !type->failed ? type->data : "";
	ret->begin = begin_of(n->r, q->entry);
	return !type->failed && type->len <= R2R_MAX_NAME;
}

static const struct question *find_question(const struct names *n, uint32_t function)
{
	struct question key = { .function = function };

	return bsearch(&key, n->questions, n->num_questions, sizeof(key), compare_questions);
}

/* Places in one method follow each other: its name is made once. */
static bool answer_all(struct names *n, const uint32_t *rvas, size_t num,
		       void (*each)(void *data, size_t i, const struct r2r_name *name), void *data)
{
	_cleanup_(strbuf_deinit) struct strbuf type = { 0 };
	uint32_t last = NO_FUNCTION;
	struct r2r_name name;
	bool known = false;

	for (size_t i = 0; i < num; i++) {
		const struct question *q;
		struct r2r_function f;

		if (!r2r_function(n->r, rvas[i], &f))
			continue;
		q = find_question(n, f.index);
		if (!q || q->entry == NO_FUNCTION)
			continue;
		if (q->entry != last) {
			last = q->entry;
			known = answer(n, q, &type, &name);
		}
		if (known)
			each(data, i, &name);
	}
	return !n->failed;
}

bool r2r_names(const struct r2r *r, const uint32_t *rvas, size_t num, const struct r2r_assemblies *others,
	       void (*each)(void *data, size_t i, const struct r2r_name *name), void *data)
{
	_cleanup_(names_deinit) struct names n = { .r = r, .others = others };

	if (!num)
		return true;
	if (!ask(&n, rvas, num, each, data))
		return false;
	if (!n.num_questions)
		return true;
	n.manifest_bytes = load_metadata(&n, r->core.manifest, &n.manifest);
	if (!add_components(&n))
		return false;
	for (uint32_t i = 0; i < n.num_components; i++)
		offer_methods(&n, i);
	offer_instances(&n);
	carry_on(&n);
	return answer_all(&n, rvas, num, each, data);
}
