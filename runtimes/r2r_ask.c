/* The recorder's side of r2r_serve.h. */
#include "runtimes/r2r_serve.h"

#include "base/cleanup.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "runtimes/r2r_files_priv.h"
#include "symbols/addrspace.h"
#include "symbols/symbols.h"
#include "target/door.h"
#include "unwinder/giver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RULES_CPU_MS = 1000, /* a sample waits for it */
	RULES_WALL_MS = 2000,
	HEADS_CPU_MS = 2000, /* the beginnings of 200 images are unpacked in 20 ms */
	HEADS_WALL_MS = 4000,
	NAMES_CPU_MS = 20000,
	NAMES_WALL_MS = 60000,
	MANY_RULES = 32,
	MANY_NAMES = 1 << 20,
	MAX_AHEAD = 16 << 10, /* bytes of stack that are looked at for addresses */
	MAX_SAID = 1 << 16,   /* places of one file, remembered until they are asked for */
	MAX_WANTS = 4096,     /* of one request */
	MAX_MODULE = 1024,
};

struct asking {
	struct r2r_files *files;
	struct known *known;
	/* rules */
	const uint64_t *places;
	struct r2r_said said[MANY_RULES];
	bool nothing;
	/* names */
	struct symbol *symbols;
	size_t wants;
	bool no_memory;
	/* both */
	size_t num, next;
	/* compressed bundles */
	struct packed_heads *heads;
};

/* ---- telling ---- */

static void put(struct strbuf *b, const void *value, size_t size)
{
	strbuf_add(b, value, size);
}

/* struct worker_request. What cannot be told now fails the request, which then is repeated. */
static bool prepare(void *data, struct worker *w)
{
	struct known *k = ((struct asking *)data)->known;
	_cleanup_(strbuf_deinit) struct strbuf body = { 0 };
	const size_t path_bytes = strlen(k->path) < UINT16_MAX ? strlen(k->path) : UINT16_MAX;
	const uint16_t len = (uint16_t)path_bytes;
	const uint8_t is_elf = k->is_elf;

	if (k->told == worker_generation(w))
		return true;
	put(&body, &k->number, 4);
	put(&body, &is_elf, 1);
	put(&body, &len, 2);
	put(&body, k->path, len);
	for (size_t i = 0; i < k->data.len; i++) {
		put(&body, &k->data.data[i].from, 8);
		put(&body, &k->data.data[i].to, 8);
	}
	if (body.failed)
		return false;
	k->told = worker_generation(w);
	worker_tell(w, R2R_TELL_FILE, body.data, body.len, k->fd);
	return true;
}

void r2r_ask_gone(struct r2r_files *f, const struct known *k)
{
	if (f->opts.worker && k->told && k->told == worker_generation(f->opts.worker))
		worker_tell(f->opts.worker, R2R_TELL_FORGET, &k->number, 4, -1);
}

static void set_aside(struct r2r_files *f, struct known *k)
{
	k->aside = true;
	f->counts.aside++;
	if (f->opts.aside)
		f->opts.aside(f->opts.data, k->file);
}

/* False: there is no answer. */
static bool ask(struct asking *asking, struct worker_request *q)
{
	struct r2r_files *f = asking->files;
	struct known *k = asking->known;

	q->fd = -1;
	q->prepare = prepare;
	q->data = asking;
	for (int i = 0; i < 2; i++) {
		enum worker_status status = worker_ask(f->opts.worker, q);

		if (status == WORKER_REFUSED)
			set_aside(f, k);
		if (status != WORKER_DONE)
			return false;
		if (q->result != -ESTALE)
			break;
		k->told = 0;
		q->restart(asking);
	}
	return !q->result;
}

/* ---- rules ---- */

static void forget_rules(void *data)
{
	struct asking *asking = data;

	asking->next = 0;
	asking->nothing = false;
}

static bool take_rule(void *data, struct reader *r)
{
	struct asking *asking = data;
	uint8_t place = reader_u8(r);
	const void *bytes = reader_bytes(r, sizeof(struct rule));
	struct r2r_said *said = &asking->said[asking->next % MANY_RULES];

	if (!bytes || asking->next == asking->num || place > R2R_NOWHERE)
		return false;
	*said = (struct r2r_said){ .key = asking->places[asking->next], .is_code = place == R2R_INSIDE };
	memcpy(&said->rule, bytes, sizeof(said->rule));
	/* Kind and registers are the walk's to check, for all givers. */
	said->rule.flags &= RULE_SIGNAL;
	asking->nothing |= !asking->next && place == R2R_NOWHERE;
	asking->next++;
	return true;
}

static bool is_listed(const uint64_t *places, size_t num, uint64_t place)
{
	for (size_t i = 0; i < num; i++) {
		if (places[i] == place)
			return true;
	}
	return false;
}

/* Return addresses further up the copied stack that lie in the same mapping: a question costs more than its answer. */
static size_t list_likely(struct known *k, const struct give_query *q, uint64_t *places)
{
	const struct mapping *m = q->mapping;
	const uint8_t sp = arch_host()->sp;
	uint64_t ra, place;
	size_t num = 1;

	if (!q->regs || !(q->regs->valid >> sp & 1))
		return num;
	for (uint64_t at = 0; at < MAX_AHEAD && num < MANY_RULES; at += sizeof(ra)) {
		if (!give_stack_word(q, q->regs->v[sp] + at, &ra))
			break;
		ra--;
		if (ra - m->start >= m->end - m->start)
			continue;
		place = (ra - m->start + m->pgoff) << 1;
		if (!is_listed(places, num, place) && !r2r_said_tab_find(&k->said, place))
			places[num++] = place;
	}
	return num;
}

static void remember(struct known *k, const struct r2r_said *said)
{
	struct r2r_said *slot;

	if (k->said.len >= MAX_SAID)
		r2r_said_tab_deinit(&k->said);
	slot = r2r_said_tab_add(&k->said, said->key, NULL);
	if (slot)
		*slot = *said;
}

bool r2r_ask_rule(struct r2r_files *f, struct known *k, const struct give_query *query, struct rule *ret)
{
	const struct mapping *m = query->mapping;
	uint64_t places[MANY_RULES] = { (query->pc - m->start + m->pgoff) << 1 | query->activation };
	struct r2r_said *known = r2r_said_tab_find(&k->said, places[0]);
	uint8_t body[4 + sizeof(places)];
	struct asking asking = { .files = f, .known = k, .places = places };
	struct worker_request request = {
		.kind = R2R_ASK_RULES,
		.body = body,
		.cpu_ms = RULES_CPU_MS,
		.wall_ms = RULES_WALL_MS,
		.take = take_rule,
		.restart = forget_rules,
	};

	if (known) {
		*ret = known->rule;
		return known->is_code;
	}
	asking.num = list_likely(k, query, places);
	memcpy(body, &k->number, 4);
	memcpy(body + 4, places, asking.num * sizeof(places[0]));
	request.size = 4 + asking.num * sizeof(places[0]);
	if (k->fd < 0 || !ask(&asking, &request) || asking.next != asking.num)
		return false;
	for (size_t i = 0; i < asking.num; i++)
		remember(k, &asking.said[i]);
	k->nothing = asking.nothing;
	f->counts.files += asking.said[0].is_code && !k->has_code;
	k->has_code |= asking.said[0].is_code;
	*ret = asking.said[0].rule;
	return asking.said[0].is_code;
}

/* ---- names ---- */

static void forget_names(void *data)
{
	struct asking *asking = data;

	memset(asking->symbols, 0, asking->num * sizeof(*asking->symbols));
	asking->next = 0;
	asking->wants = 0;
}

/* A length and that many bytes, interned; NULL: malformed, or no memory. */
static const char *take_text(struct asking *asking, struct reader *r, size_t max, bool *ret_empty)
{
	size_t len = reader_u16(r);
	const char *bytes = len <= max ? reader_bytes(r, len) : NULL, *text;

	*ret_empty = !len;
	if (!bytes || !len || memchr(bytes, '\0', len))
		return NULL;
	text = intern_mem(asking->files->opts.strings, bytes, len);
	asking->no_memory |= !text;
	return text;
}

static bool take_name(void *data, struct reader *r)
{
	struct asking *asking = data;
	uint32_t index = reader_u32(r);
	struct symbol symbol = { .offset = reader_u64(r) };
	bool empty, no_module;

	symbol.name = take_text(asking, r, R2R_MAX_NAME, &empty);
	symbol.module = take_text(asking, r, MAX_MODULE, &no_module);
	if (r->failed || index < asking->next || index >= asking->num || (!asking->no_memory && !symbol.name) ||
	    (!asking->no_memory && !symbol.module && !no_module))
		return false;
	asking->symbols[index] = symbol;
	asking->next = (size_t)index + 1;
	return true;
}

/* The name is the parser's word: what it gets is a PE file beside those that processes map, or nothing. */
static int want_assembly(void *data, struct reader *r)
{
	struct asking *asking = data;
	size_t place = reader_u8(r), len = reader_left(r);
	const char *bytes = reader_bytes(r, len);
	char name[R2R_MAX_ASSEMBLY + 1], head[2];
	int fd;

	if (r->failed || !len || len > R2R_MAX_ASSEMBLY || place >= R2R_MAX_FOLDERS || asking->wants++ >= MAX_WANTS)
		return -1;
	memcpy(name, bytes, len);
	name[len] = '\0';
	fd = r2r_open_near(asking->files, asking->known, place, name);
	if (fd >= 0 && (door_pread(fd, head, 2, 0) < 0 || memcmp(head, "MZ", 2)))
		close(steal_fd(&fd));
	return fd;
}

/* `rest`: behind the file and whether with tiers. */
static bool ask_some(struct r2r_files *f, struct known *k, uint16_t kind, const void *rest, size_t rest_bytes, size_t num,
		     struct symbol *ret)
{
	const uint8_t tiers = f->opts.tiers;
	uint8_t *body = malloc(4 + 1 + rest_bytes);
	struct asking asking = { .files = f, .known = k, .symbols = ret, .num = num };
	struct worker_request request = {
		.kind = kind,
		.body = body,
		.size = 4 + 1 + rest_bytes,
		.cpu_ms = NAMES_CPU_MS,
		.wall_ms = NAMES_WALL_MS,
		.take = take_name,
		.want = want_assembly,
		.restart = forget_names,
	};

	if (!body)
		return false;
	memcpy(body, &k->number, 4);
	memcpy(body + 4, &tiers, 1);
	memcpy(body + 5, rest, rest_bytes);
	if (!ask(&asking, &request))
		forget_names(&asking);
	free(body);
	for (size_t i = 0; i < num; i++)
		f->counts.named += ret[i].name != NULL;
	return !asking.no_memory;
}

bool r2r_ask_names(struct r2r_files *f, struct known *k, const uint64_t *offsets, size_t num, struct symbol *ret)
{
	for (size_t at = 0; at < num; at += MANY_NAMES) {
		size_t part = num - at < MANY_NAMES ? num - at : MANY_NAMES;

		if (!ask_some(f, k, R2R_ASK_NAMES, offsets + at, part * sizeof(*offsets), part, ret + at))
			return false;
	}
	return true;
}

/* ---- compressed bundles ---- */

bool r2r_ask_packed(struct r2r_files *f, struct known *k, uint32_t part, const uint32_t *rvas, size_t num,
		    struct symbol *ret)
{
	_cleanup_free_ uint32_t *rest = num < MANY_NAMES ? malloc((num + 1) * sizeof(*rest)) : NULL;

	if (!rest)
		return false;
	rest[0] = part;
	memcpy(rest + 1, rvas, num * sizeof(*rvas));
	return ask_some(f, k, R2R_ASK_PACKED, rest, (num + 1) * sizeof(*rest), num, ret);
}

static void forget_heads(void *data)
{
	((struct asking *)data)->heads->v.len = 0;
}

static bool take_head(void *data, struct reader *r)
{
	struct packed_heads *heads = ((struct asking *)data)->heads;
	struct packed_head head;

	head.part = reader_u32(r);
	head.timestamp = reader_u32(r);
	head.image_size = reader_u32(r);
	return !r->failed && head.image_size && head.part < R2R_MAX_PARTS &&
	       (!heads->v.len || head.part > heads->v.data[heads->v.len - 1].part) && vec_push(&heads->v, head);
}

bool r2r_ask_heads(struct r2r_files *f, struct known *k, struct packed_heads *ret)
{
	struct asking asking = { .files = f, .known = k, .heads = ret };
	struct worker_request request = {
		.kind = R2R_ASK_HEADS,
		.body = &k->number,
		.size = 4,
		.cpu_ms = HEADS_CPU_MS,
		.wall_ms = HEADS_WALL_MS,
		.take = take_head,
		.restart = forget_heads,
	};

	return ask(&asking, &request);
}
