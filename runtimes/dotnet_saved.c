/*
 * What runtimes said, kept with a recording: so that folding it comes to the same frames and names. Little-endian:
 *
 *	"RFDOTNET" u32 version 1, then one block per process that told something:
 *	u32 'P'  i32 pid  u32 bytes, then its items, as they came:
 *	u8 kind (enum item), and
 *	  method    u8 event, u64 time, id, module, start, u32 size, flags, u16 length, name (as it is shown)
 *	  module    u64 id, u16 length, path
 *	  complete  u64 time
 *	  code      u64 start, time of its load; u32 size, functions; u32 begin, end of each; bytes of code
 *
 * Generations of one pid follow each other in the order in which they ran.
 */
#include "base/err.h"
#include "base/intern.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "runtimes/dotnet_priv.h"
#include "runtimes/nettrace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = { 'R', 'F', 'D', 'O', 'T', 'N', 'E', 'T' };

enum {
	VERSION = 1,
	PROCESS_MARK = 'P',
	MAX_LOG = 32 << 20,   /* bytes of one process; what is more is not kept */
	MAX_SAVED = 60 << 20, /* of all: what fits into a perf.data's section */
	MAX_BLOCKS = 1 << 16,
};

enum item { ITEM_METHOD = 1, ITEM_MODULE, ITEM_COMPLETE, ITEM_CODE };

/* ---- writing ---- */

static void put_text(struct strbuf *b, const char *text)
{
	size_t len = strlen(text);
	uint16_t short_len = len < UINT16_MAX ? (uint16_t)len : UINT16_MAX;

	strbuf_add(b, &short_len, sizeof(short_len));
	strbuf_add(b, text, short_len);
}

static struct strbuf *log_of(struct dotnet_process *p, size_t more)
{
	struct strbuf *log = p->log;

	return p->owner->opts.keep && !p->restored && log && log->len + more < MAX_LOG ? log : NULL;
}

void dotnet_keep_change(struct dotnet_process *p, const struct dotnet_change *c)
{
	const char *name = c->method.name == UINT32_MAX ? "" : intern_get(p->owner->opts.strings, c->method.name);
	struct strbuf *log = log_of(p, strlen(name) + 64);

	if (!log)
		return;
	strbuf_u8(log, ITEM_METHOD);
	strbuf_u8(log, c->kind);
	strbuf_u64(log, c->time_ns);
	strbuf_u64(log, c->method.id);
	strbuf_u64(log, c->method.module);
	strbuf_u64(log, c->method.start);
	strbuf_u32(log, c->method.size);
	strbuf_u32(log, c->method.flags);
	put_text(log, name);
}

void dotnet_keep_module(struct dotnet_process *p, uint64_t id, const char *name)
{
	struct strbuf *log = log_of(p, strlen(name) + 16);

	if (!log)
		return;
	strbuf_u8(log, ITEM_MODULE);
	strbuf_u64(log, id);
	put_text(log, name);
}

void dotnet_keep_complete(struct dotnet_process *p, uint64_t time_ns)
{
	struct strbuf *log = log_of(p, 16);

	if (!log)
		return;
	strbuf_u8(log, ITEM_COMPLETE);
	strbuf_u64(log, time_ns);
}

void dotnet_keep_code(struct dotnet_process *p, const struct dotnet_method *m, const struct dotnet_part *parts,
		      uint32_t num_parts, const uint8_t *bytes)
{
	struct strbuf *log = log_of(p, m->size + num_parts * sizeof(*parts) + 32);

	if (!log)
		return;
	strbuf_u8(log, ITEM_CODE);
	strbuf_u64(log, m->start);
	strbuf_u64(log, m->since_ns);
	strbuf_u32(log, m->size);
	strbuf_u32(log, num_parts);
	for (uint32_t i = 0; i < num_parts; i++) {
		strbuf_u32(log, parts[i].begin);
		strbuf_u32(log, parts[i].end);
	}
	strbuf_add(log, bytes, m->size);
}

void dotnet_keep_ended(struct dotnet_process *p)
{
	struct strbuf *out = p->owner->ended;

	if (!p->log || !p->log->len || p->log->failed || out->len + p->log->len > MAX_SAVED)
		return;
	strbuf_u32(out, PROCESS_MARK);
	strbuf_u32(out, (uint32_t)p->pid);
	strbuf_u32(out, (uint32_t)p->log->len);
	strbuf_add(out, p->log->data, p->log->len);
}

bool dotnet_saved(const struct dotnet *d, struct strbuf *ret)
{
	const struct dotnet_slot *slot;
	size_t cursor = 0, before = d->ended->len;

	/* Those that are there still come after those that ended, and are taken off again. */
	while ((slot = dotnet_processes_next(&d->processes, &cursor)))
		dotnet_keep_ended(slot->process);
	if (d->ended->len) {
		strbuf_add(ret, magic, sizeof(magic));
		strbuf_u32(ret, VERSION);
		strbuf_add(ret, d->ended->data, d->ended->len);
	}
	if (before < d->ended->len)
		d->ended->len = before;
	return !ret->failed && !d->ended->failed;
}

/* ---- reading ---- */

static const char *take_text(struct reader *r, size_t *ret_len)
{
	*ret_len = reader_u16(r);
	return reader_bytes(r, *ret_len);
}

static bool take_method(struct dotnet_process *p, struct reader *r)
{
	struct dotnet_change c = { 0 };
	const char *name;
	uint64_t end;
	size_t len;

	/* One by one: the order in which an initialiser's parts are read is the compiler's. */
	c.kind = reader_u8(r);
	c.time_ns = reader_u64(r);
	c.method.id = reader_u64(r);
	c.method.module = reader_u64(r);
	c.method.start = reader_u64(r);
	c.method.size = reader_u32(r);
	c.method.flags = reader_u32(r);
	name = take_text(r, &len);
	if (r->failed || c.kind > NETTRACE_METHOD_EXISTS || !c.method.size || !c.method.start ||
	    __builtin_add_overflow(c.method.start, c.method.size, &end))
		return false;
	dotnet_take_change(p, &c, name, len);
	return true;
}

static bool take_code(struct dotnet_process *p, struct reader *r)
{
	struct dotnet_given given = { 0 };
	uint32_t end = 0;

	given.start = reader_u64(r);
	given.since_ns = reader_u64(r);
	given.size = reader_u32(r);
	given.num_parts = reader_u32(r);
	if (!given.num_parts || given.num_parts > DOTNET_MAX_PARTS)
		return false;
	for (uint32_t i = 0; i < given.num_parts; i++) {
		given.parts[i].begin = reader_u32(r);
		given.parts[i].end = reader_u32(r);
		if (given.parts[i].begin < end || given.parts[i].end <= given.parts[i].begin || given.parts[i].end > given.size)
			return false;
		end = given.parts[i].end;
	}
	given.bytes = reader_bytes(r, given.size);
	return !r->failed && vec_push(&p->given, given);
}

static bool take_item(struct dotnet_process *p, struct reader *r)
{
	const char *text;
	uint64_t id;
	size_t len;

	switch ((enum item)reader_u8(r)) {
	case ITEM_METHOD:
		return take_method(p, r);
	case ITEM_MODULE:
		id = reader_u64(r);
		text = take_text(r, &len);
		if (text)
			dotnet_take_module(p, id, text, len);
		return text;
	case ITEM_COMPLETE:
		dotnet_complete(p, reader_u64(r));
		return !r->failed;
	case ITEM_CODE:
		return take_code(p, r);
	}
	return false;
}

static int compare_given(const void *left, const void *right)
{
	const struct dotnet_given *a = left, *b = right;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return a->since_ns < b->since_ns ? -1 : a->since_ns > b->since_ns;
}

const struct dotnet_given *dotnet_given_code(const struct dotnet_process *p, const struct dotnet_method *m)
{
	const struct dotnet_given key = { .start = m->start, .since_ns = m->since_ns };
	const struct dotnet_given *found =
		p->given.len ? bsearch(&key, p->given.data, p->given.len, sizeof(key), compare_given) : NULL;

	return found && found->size == m->size ? found : NULL;
}

static void take_block(struct dotnet *d, const struct dotnet_block *block)
{
	struct dotnet_process *p = dotnet_process(d, block->pid);
	struct reader r = reader_init(block->bytes, block->size);

	if (!p)
		return;
	p->restored = true;
	while (reader_left(&r) && take_item(p, &r))
		;
	if (p->given.len)
		qsort(p->given.data, p->given.len, sizeof(p->given.data[0]), compare_given);
}

void dotnet_next_generation(struct dotnet *d, pid_t pid)
{
	for (size_t i = 0; i < d->waiting.len; i++) {
		const struct dotnet_block block = d->waiting.data[i];

		if (block.pid != pid)
			continue;
		vec_remove(&d->waiting, i, 1);
		take_block(d, &block);
		return;
	}
}

int dotnet_restore(struct dotnet *d, const void *bytes, size_t size, struct err *err)
{
	struct reader r = reader_init(bytes, size);
	const char *mark = reader_bytes(&r, sizeof(magic));

	if (!mark || memcmp(mark, magic, sizeof(magic)) != 0 || reader_u32(&r) != VERSION)
		return err_set(err, EBADMSG, "what .NET runtimes said is not of a form that is known here");
	while (reader_left(&r)) {
		uint32_t process = reader_u32(&r);
		struct dotnet_block block = { 0 };

		block.pid = (pid_t)reader_u32(&r);
		block.size = reader_u32(&r);
		block.bytes = reader_bytes(&r, block.size);
		if (process != PROCESS_MARK || !block.bytes || block.pid <= 0 || d->waiting.len > MAX_BLOCKS)
			return err_set(err, EBADMSG, "what .NET runtimes said is damaged");
		if (!dotnet_process_find(d, block.pid))
			take_block(d, &block);
		else if (!vec_push(&d->waiting, block))
			return err_oom(err);
	}
	return 0;
}
