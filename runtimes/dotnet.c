#include "runtimes/dotnet.h"

#include "base/err.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "runtimes/dotnet_name.h"
#include "runtimes/dotnet_priv.h"
#include "runtimes/nettrace.h"
#include "symbols/addrspace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_CHANGES = 1 << 20,      /* that wait, of one process */
	MAX_MODULES = 1 << 16,
	MAX_READ_AHEAD = 200,       /* methods at a time */
	NO_NAME = UINT32_MAX,
};

static const uint64_t max_name_bytes = 128 << 20; /* of one process */

int dotnet_new(const struct dotnet_opts *opts, struct dotnet **ret, struct err *err)
{
	struct dotnet *d = calloc(1, sizeof(*d));

	if (!d)
		return err_oom(err);
	d->scratch = calloc(1, sizeof(*d->scratch));
	d->ended = calloc(1, sizeof(*d->ended));
	if (!d->scratch || !d->ended) {
		dotnet_free(d);
		return err_oom(err);
	}
	d->opts = *opts;
	*ret = d;
	return 0;
}

static void free_methods(struct dotnet_method *methods, size_t num)
{
	for (size_t i = 0; i < num; i++)
		dotnet_code_free(methods[i].code);
}

static void drop_code(struct dotnet_change *c)
{
	dotnet_code_free(c->method.code);
	c->method.code = NULL;
}

static void process_free(struct dotnet_process *p)
{
	free_methods(p->methods.data, p->methods.len);
	free_methods(p->recent.data, p->recent.len);
	vec_deinit(&p->methods);
	vec_deinit(&p->recent);
	for (size_t i = p->next_change; i < p->changes.len; i++)
		drop_code(&p->changes.data[i]);
	vec_deinit(&p->changes);
	dotnet_modules_deinit(&p->modules);
	vec_deinit(&p->given);
	strbuf_deinit(p->log);
	free(p->log);
	free(p);
}

void dotnet_free(struct dotnet *d)
{
	struct dotnet_slot *slot;
	size_t cursor = 0;

	if (!d)
		return;
	while ((slot = dotnet_processes_next(&d->processes, &cursor)))
		process_free(slot->process);
	dotnet_processes_deinit(&d->processes);
	strbuf_deinit(d->scratch);
	strbuf_deinit(d->ended);
	free(d->scratch);
	free(d->ended);
	vec_deinit(&d->waiting);
	free(d);
}

struct dotnet_process *dotnet_process_find(const struct dotnet *d, pid_t pid)
{
	const struct dotnet_slot *slot = dotnet_processes_find(&d->processes, pid);

	return slot ? slot->process : NULL;
}

struct dotnet_process *dotnet_process(struct dotnet *d, pid_t pid)
{
	struct dotnet_process *p = dotnet_process_find(d, pid);
	struct dotnet_slot *slot;

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	slot = p ? dotnet_processes_add(&d->processes, pid, NULL) : NULL;
	if (!slot) {
		free(p);
		return NULL;
	}
	p->owner = d;
	p->log = d->opts.keep ? calloc(1, sizeof(*p->log)) : NULL; /* without memory nothing is kept */
	p->pid = pid;
	*slot = (struct dotnet_slot){ pid, p };
	d->last = NULL;
	return p;
}

/* ---- names ---- */

static uint32_t intern_text(struct dotnet_process *p, const char *text, size_t len)
{
	p->name_bytes += len;
	return p->name_bytes > max_name_bytes ? NO_NAME : intern_id(p->owner->opts.strings, text, len);
}

static void method_name(const struct dotnet_process *p, const struct nettrace_method *m, struct strbuf *ret)
{
	dotnet_name(ret, m->type, strlen(m->type), m->name, strlen(m->name));
	if (p->owner->opts.tiers)
		dotnet_name_tier(ret, !(m->flags & NETTRACE_JITTED) ? DOTNET_TIER_READY_TO_RUN :
				       (enum dotnet_tier)(m->flags >> NETTRACE_TIER_SHIFT & NETTRACE_TIER_MASK));
}

void dotnet_take_module(struct dotnet_process *p, uint64_t id, const char *name, size_t len)
{
	struct dotnet_module_slot *slot;

	if (!len || p->modules.len >= MAX_MODULES)
		return;
	slot = dotnet_modules_add(&p->modules, id, NULL);
	if (slot)
		*slot = (struct dotnet_module_slot){ id, intern_text(p, name, len) };
	if (slot && slot->name != NO_NAME)
		dotnet_keep_module(p, id, intern_get(p->owner->opts.strings, slot->name));
}

static void say_module(struct dotnet_process *p, const struct nettrace_module *m)
{
	const char *path = *m->path ? m->path : m->native_path, *name;
	size_t len;

	name = dotnet_assembly(path, strlen(path), &len);
	dotnet_take_module(p, m->id, name, len);
}

/* ---- what is to come ---- */

static int compare_changes(const void *left, const void *right)
{
	const struct dotnet_change *a = left, *b = right;

	if (a->time_ns != b->time_ns)
		return a->time_ns < b->time_ns ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static void sort_changes(struct dotnet_process *p)
{
	if (!p->unsorted)
		return;
	qsort(p->changes.data + p->next_change, p->changes.len - p->next_change, sizeof(p->changes.data[0]),
	      compare_changes);
	p->unsorted = false;
}

static void forget_done(struct dotnet_process *p)
{
	if (p->next_change < 1024 || p->next_change < p->changes.len / 2)
		return;
	vec_remove(&p->changes, 0, p->next_change);
	p->next_change = 0;
}

static void add_change(struct dotnet_process *p, struct dotnet_change *change)
{
	forget_done(p);
	if (p->changes.len - p->next_change >= MAX_CHANGES)
		return;
	change->order = p->order++;
	change->method.since_ns = change->time_ns;
	if (p->changes.len > p->next_change && compare_changes(&p->changes.data[p->changes.len - 1], change) > 0)
		p->unsorted = true;
	(void)vec_push(&p->changes, *change); /* out of memory: a method without a name */
}

void dotnet_take_change(struct dotnet_process *p, const struct dotnet_change *told, const char *name, size_t len)
{
	struct dotnet_change change = *told;

	change.method.name = len ? intern_text(p, name, len) : NO_NAME;
	p->owner->counts.methods += change.kind != NETTRACE_METHOD_UNLOAD;
	add_change(p, &change);
	dotnet_keep_change(p, &change);
}

static void say_method(struct dotnet_process *p, const struct nettrace_event *event)
{
	const struct nettrace_method *m = &event->method;
	struct strbuf *name = p->owner->scratch;
	const struct dotnet_change change = {
		.time_ns = event->time_ns,
		.kind = (uint8_t)event->kind,
		.method = { .start = m->start, .size = m->size, .id = m->id, .flags = m->flags, .module = m->module_id },
	};

	strbuf_clear(name);
	if (event->kind != NETTRACE_METHOD_UNLOAD)
		method_name(p, m, name);
	dotnet_take_change(p, &change, name->data, name->failed ? 0 : name->len);
}

void dotnet_complete(struct dotnet_process *p, uint64_t time_ns)
{
	struct dotnet_change change = { .kind = NETTRACE_RUNDOWN_END, .time_ns = time_ns };

	add_change(p, &change);
	dotnet_keep_complete(p, time_ns);
}

void dotnet_say(struct dotnet *d, struct dotnet_process *p, const struct nettrace_event *event)
{
	switch (event->kind) {
	case NETTRACE_METHOD_LOAD:
	case NETTRACE_METHOD_UNLOAD:
	case NETTRACE_METHOD_EXISTS:
		say_method(p, event);
		break;
	case NETTRACE_MODULE:
		say_module(p, &event->module);
		break;
	case NETTRACE_MODULE_UNLOAD:
	case NETTRACE_ASSEMBLY:
	case NETTRACE_RUNDOWN_END:
		break;
	}
}

/* ---- what is there ---- */

/* How many of them begin at or below addr. */
static size_t upto(const struct dotnet_method *methods, size_t num, uint64_t addr)
{
	size_t low = 0, high = num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (methods[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct dotnet_method *find_in(struct dotnet_method *methods, size_t num, uint64_t addr)
{
	size_t at = upto(methods, num, addr);

	return at && addr - methods[at - 1].start < methods[at - 1].size ? &methods[at - 1] : NULL;
}

struct dotnet_method *dotnet_method_at(const struct dotnet_process *p, uint64_t addr)
{
	struct dotnet_method *m = find_in(p->recent.data, p->recent.len, addr);

	return m ? m : find_in(p->methods.data, p->methods.len, addr);
}

/* Each method that has a part in [start, end). */
static void each_overlap(struct dotnet_method *methods, size_t num, uint64_t start, uint64_t end,
			 void (*each)(void *data, struct dotnet_method *m), void *data)
{
	size_t at = upto(methods, num, start);

	if (at && start - methods[at - 1].start < methods[at - 1].size)
		at--;
	for (; at < num && methods[at].start < end; at++) {
		if (methods[at].size)
			each(data, &methods[at]);
	}
}

static void end_method(void *data, struct dotnet_method *m)
{
	dotnet_code_free(m->code);
	m->code = NULL;
	m->size = 0;
}

static int compare_methods(const void *left, const void *right)
{
	const struct dotnet_method *a = left, *b = right;

	return a->start < b->start ? -1 : a->start > b->start;
}

/* How many are left. */
static size_t drop_ended(struct dotnet_method *methods, size_t num)
{
	size_t len = 0;

	for (size_t i = 0; i < num; i++) {
		if (methods[i].size)
			methods[len++] = methods[i];
	}
	return len;
}

/* Recent ones join the others; none of them overlap any more. */
static bool merge_recent(struct dotnet_process *p)
{
	p->methods.len = drop_ended(p->methods.data, p->methods.len);
	if (!vec_reserve(&p->methods, p->methods.len + p->recent.len))
		return false;
	for (size_t i = 0; i < p->recent.len; i++)
		p->methods.data[p->methods.len++] = p->recent.data[i];
	p->recent.len = 0;
	qsort(p->methods.data, p->methods.len, sizeof(p->methods.data[0]), compare_methods);
	return true;
}

static bool add_method(struct dotnet_process *p, const struct dotnet_method *m)
{
	size_t at;

	if (p->recent.len >= DOTNET_MAX_RECENT && (!merge_recent(p) || p->methods.len >= DOTNET_MAX_METHODS))
		return false;
	at = upto(p->recent.data, p->recent.len, m->start);
	return vec_insert(&p->recent, at, *m);
}

/* The very code that is there already? Rundowns tell again what was told when it was loaded. */
static bool is_known(const struct dotnet_process *p, const struct dotnet_method *m)
{
	const struct dotnet_method *known = dotnet_method_at(p, m->start);

	return known && known->start == m->start && known->size == m->size && known->id == m->id &&
	       known->name == m->name;
}

static void each_affected(const struct dotnet_process *p, const struct dotnet_change *c,
			  void (*each)(void *data, struct dotnet_method *m), void *data)
{
	uint64_t start = c->method.start, end = start + c->method.size;

	if (c->kind != NETTRACE_METHOD_UNLOAD && is_known(p, &c->method))
		return;
	each_overlap(p->recent.data, p->recent.len, start, end, each, data);
	each_overlap(p->methods.data, p->methods.len, start, end, each, data);
}

static void apply_change(struct dotnet_process *p, struct dotnet_change *c)
{
	if (c->kind == NETTRACE_RUNDOWN_END) {
		p->complete = true;
		return;
	}
	if (c->kind != NETTRACE_METHOD_UNLOAD && is_known(p, &c->method)) {
		drop_code(c);
		return;
	}
	each_affected(p, c, end_method, NULL);
	p->recent.len = drop_ended(p->recent.data, p->recent.len); /* what ended must not hide what it lies in */
	if (c->kind == NETTRACE_METHOD_UNLOAD)
		return;
	if (!add_method(p, &c->method))
		drop_code(c);
	c->method.code = NULL; /* the table's now */
}

bool dotnet_is_leaving(struct dotnet_process *p, const struct dotnet_method *m)
{
	sort_changes(p);
	for (size_t i = p->next_change; i < p->changes.len && !m->code; i++) {
		const struct dotnet_change *c = &p->changes.data[i];

		if (c->method.start < m->start + m->size && m->start < c->method.start + c->method.size)
			return true;
	}
	return false;
}

void dotnet_read_ahead(struct dotnet_process *p, const struct memory_reader *memory, const struct addrspace *space)
{
	const struct dotnet_memory from = { memory, space };
	size_t left = MAX_READ_AHEAD;

	sort_changes(p);
	for (size_t i = p->changes.len; i > p->next_change && left && memory->read; i--) {
		struct dotnet_change *c = &p->changes.data[i - 1];

		if (c->kind != NETTRACE_METHOD_LOAD || !(c->method.flags & NETTRACE_DYNAMIC) || c->method.code)
			continue;
		dotnet_read_code(p, &from, &c->method);
		left--;
	}
}

/* ---- as a source of names ---- */

static struct dotnet_process *process_of(struct dotnet *d, const struct addrspace *space)
{
	if (!d->last || d->last_pid != space->pid) {
		d->last = dotnet_process_find(d, space->pid);
		d->last_pid = space->pid;
	}
	return d->last;
}

static uint64_t source_next(void *data, const struct addrspace *space)
{
	struct dotnet_process *p = process_of(data, space);

	if (!p || p->next_change >= p->changes.len)
		return UINT64_MAX;
	sort_changes(p);
	return p->changes.data[p->next_change].time_ns;
}

struct affected {
	struct code_ranges *ranges;
	bool failed;
};

static void note_range(void *data, struct dotnet_method *m)
{
	struct affected *affected = data;
	struct code_range range = { m->start, m->start + m->size };

	affected->failed |= !vec_push(&affected->ranges->v, range);
}

static bool source_changes(void *data, struct addrspace *space, uint64_t time_ns, struct code_ranges *ret)
{
	struct dotnet_process *p = process_of(data, space);
	struct affected affected = { .ranges = ret };

	if (!p)
		return true;
	sort_changes(p);
	for (size_t i = p->next_change; i < p->changes.len && p->changes.data[i].time_ns <= time_ns; i++) {
		struct dotnet_change *c = &p->changes.data[i];

		/*
		 * What goes is named now, also where it came so late that it is not in the table: source_find looks
		 * ahead.
		 */
		if (c->kind == NETTRACE_RUNDOWN_END)
			continue;
		if (c->kind == NETTRACE_METHOD_UNLOAD)
			note_range(&affected, &c->method);
		else
			each_affected(p, c, note_range, &affected);
	}
	return !affected.failed;
}

static void source_apply(void *data, struct addrspace *space, uint64_t time_ns)
{
	struct dotnet_process *p = process_of(data, space);

	if (!p)
		return;
	sort_changes(p);
	for (; p->next_change < p->changes.len && p->changes.data[p->next_change].time_ns <= time_ns; p->next_change++)
		apply_change(p, &p->changes.data[p->next_change]);
}

/* Code runs a moment before the runtime says so; and what a late rundown found was there before. */
static const struct dotnet_change *find_to_come(struct dotnet_process *p, uint64_t addr)
{
	sort_changes(p);
	for (size_t i = p->next_change; i < p->changes.len; i++) {
		const struct dotnet_change *c = &p->changes.data[i];

		if (c->kind != NETTRACE_METHOD_UNLOAD && addr - c->method.start < c->method.size)
			return c;
	}
	return NULL;
}

static const char *module_text(const struct dotnet_process *p, uint64_t id)
{
	const struct dotnet_module_slot *slot = dotnet_modules_find(&p->modules, id);

	return slot && slot->name != NO_NAME ? intern_get(p->owner->opts.strings, slot->name) : NULL;
}

static bool source_find(void *data, struct addrspace *space, uint64_t addr, struct symbol *ret)
{
	struct dotnet *d = data;
	struct dotnet_process *p = process_of(d, space);
	const struct dotnet_method *m = p ? dotnet_method_at(p, addr) : NULL;
	const struct dotnet_change *coming = NULL;

	if (!p)
		return false;
	if (!m) {
		coming = find_to_come(p, addr);
		m = coming ? &coming->method : NULL;
	}
	if (m && m->name != NO_NAME) {
		*ret = (struct symbol){ .name = intern_get(d->opts.strings, m->name),
					.offset = addr - m->start,
					.module = module_text(p, m->module) };
		return true;
	}
	if (m || !p->complete)
		return false;
	*ret = (struct symbol){ .name = intern_str(d->opts.strings, dotnet_stub_name) };
	return ret->name != NULL;
}

static void source_first_seen(void *data, struct addrspace *space)
{
	struct dotnet *d = data;

	if (d->opts.first_seen && !process_of(d, space))
		d->opts.first_seen(d->opts.data, space->pid);
}

static void source_origin(void *data, const struct addrspace *space, struct symbol_origin *ret)
{
	const struct dotnet *d = data;
	const struct dotnet_process *p = dotnet_process_find(d, space->pid);

	if (!p || !p->methods.len + p->recent.len)
		return;
	ret->from = "runtime";
	ret->reads += p->reads;
	ret->read_ns += p->read_ns;
}

static void source_gone(void *data, struct addrspace *space)
{
	struct dotnet *d = data;
	struct dotnet_process *p = dotnet_process_find(d, space->pid);

	if (!p)
		return;
	dotnet_keep_ended(p);
	dotnet_processes_remove(&d->processes, space->pid);
	process_free(p);
	d->last = NULL;
	dotnet_next_generation(d, space->pid);
}

struct symbol_source dotnet_symbol_source(struct dotnet *d)
{
	return (struct symbol_source){
		.name = ".NET",
		.find = source_find,
		.first_seen = source_first_seen,
		.next = source_next,
		.changes = source_changes,
		.apply = source_apply,
		.origin = source_origin,
		.gone = source_gone,
		.data = d,
	};
}

struct unwind_giver dotnet_giver(struct dotnet *d)
{
	return (struct unwind_giver){ .name = ".NET", .give = dotnet_give, .data = d };
}

uint64_t dotnet_no_starts(const struct dotnet *d)
{
	return d->counts.no_starts;
}

struct dotnet_counts dotnet_counts(const struct dotnet *d)
{
	return d->counts;
}
