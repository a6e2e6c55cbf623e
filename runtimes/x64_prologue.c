#include "runtimes/x64_prologue.h"

#include "base/reader.h"

#include <string.h>

enum { RBP = 5, MAX_FRAME = 64 << 20 };

static uint8_t peek(const struct reader *r, size_t at)
{
	return at < reader_left(r) ? r->pos[at] : 0;
}

static bool starts(const struct reader *r, const char *bytes, size_t len)
{
	return reader_left(r) >= len && !memcmp(r->pos, bytes, len);
}

/* The value behind an opcode of `len` bytes: 8 or 32 bits. */
static int32_t value_behind(const struct reader *r, size_t len, bool wide)
{
	int32_t value = 0;

	if (!wide)
		return (int8_t)peek(r, len);
	if (reader_left(r) >= len + 4)
		memcpy(&value, r->pos + len, sizeof(value));
	return value;
}

struct state {
	struct x64_prologue *p;
	uint32_t probed; /* lea r11, [rsp - n]: what rsp will be once it was probed; 0 = none */
	bool failed;
};

static void grow(struct state *s, int64_t bytes)
{
	if (bytes < 0 || bytes > MAX_FRAME || s->p->depth + (uint64_t)bytes > MAX_FRAME)
		s->failed = true;
	else
		s->p->depth += (uint32_t)bytes;
}

static void push(struct state *s, uint8_t reg)
{
	grow(s, 8);
	if (!s->p->saved[reg])
		s->p->saved[reg] = s->p->depth + 8;
}

static void set_rbp(struct state *s, int64_t above_rsp)
{
	if (above_rsp < 0 || above_rsp > s->p->depth)
		s->failed = true;
	else
		*s->p = (typeof(*s->p)){ .depth = s->p->depth,
					 .by_rbp = true,
					 .rbp_to_cfa = s->p->depth + 8 - (uint32_t)above_rsp };
}

/* One instruction of a prologue: its length, 0 when it is none. */
static size_t step(struct state *s, const struct reader *r)
{
	uint8_t op = peek(r, 0);
	uint32_t saved[16];

	if ((op & 0xf8) == 0x50) {
		push(s, op & 7);
		return 1;
	}
	if (op == 0x41 && (peek(r, 1) & 0xf8) == 0x50) {
		push(s, (peek(r, 1) & 7) + 8);
		return 2;
	}
	if (starts(r, "\x48\x83\xec", 3) || starts(r, "\x48\x81\xec", 3)) { /* sub rsp, n */
		bool wide = peek(r, 1) == 0x81;

		grow(s, value_behind(r, 3, wide));
		return wide ? 7 : 4;
	}
	memcpy(saved, s->p->saved, sizeof(saved));
	if (starts(r, "\x48\x8d\x6c\x24", 4) || starts(r, "\x48\x8d\xac\x24", 4)) { /* lea rbp, [rsp + n] */
		bool wide = peek(r, 2) == 0xac;

		set_rbp(s, value_behind(r, 4, wide));
		memcpy(s->p->saved, saved, sizeof(saved));
		return wide ? 8 : 5;
	}
	if (starts(r, "\x48\x8b\xec", 3) || starts(r, "\x48\x89\xe5", 3)) { /* mov rbp, rsp */
		set_rbp(s, 0);
		memcpy(s->p->saved, saved, sizeof(saved));
		return 3;
	}
	if (starts(r, "\x4c\x8d\x9c\x24", 4)) { /* lea r11, [rsp - n], for the helper that probes the stack */
		s->probed = (uint32_t)-value_behind(r, 4, true);
		return 8;
	}
	if (s->probed && op == 0xe8)
		return 5;
	if (s->probed && op == 0xff && peek(r, 1) == 0x15)
		return 6;
	if (s->probed && (starts(r, "\x49\x8b\xe3", 3) || starts(r, "\x4c\x89\xdc", 3))) { /* mov rsp, r11 */
		grow(s, s->probed);
		s->probed = 0;
		return 3;
	}
	if (starts(r, "\x85\x04\x24", 3)) /* test [rsp], eax: a probe without the helper */
		return 3;
	if (starts(r, "\x85\x44\x24", 3))
		return 4;
	if (starts(r, "\x85\x84\x24", 3))
		return 7;
	if (starts(r, "\xc5\xf8\x77", 3)) /* vzeroupper */
		return 3;
	return 0;
}

bool x64_prologue(const uint8_t *code, size_t size, size_t upto, struct x64_prologue *ret)
{
	struct reader r = reader_init(code, size);
	struct state s = { .p = ret };

	*ret = (struct x64_prologue){ 0 };
	while (!s.failed && !ret->by_rbp) {
		size_t at = (size_t)(r.pos - code), len;
		struct x64_prologue before = *ret;

		if (at >= upto || !reader_left(&r))
			break;
		len = step(&s, &r);
		if (!len)
			break;
		if (at + len > upto) { /* the pc lies within: it is the next to be executed, nothing of it has been */
			*ret = before;
			break;
		}
		if (!reader_bytes(&r, len))
			return false;
	}
	ret->end = (uint32_t)(r.pos - code);
	return !s.failed && !r.failed;
}

/* mov [rsp + n], reg of a register that is the caller's: its length, 0 when it is none. */
static size_t osr_save(const struct reader *r, uint32_t saved[16])
{
	static const struct {
		uint8_t rex, modrm, reg;
	} stores[] = {
		{ 0x4c, 0x7c, 15 }, { 0x4c, 0x74, 14 }, { 0x4c, 0x6c, 13 }, { 0x4c, 0x64, 12 }, { 0x48, 0x5c, 3 },
	};

	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
		bool wide = peek(r, 2) == (stores[i].modrm ^ 0xc0);
		int32_t at = value_behind(r, 4, wide);

		if (peek(r, 0) != stores[i].rex || peek(r, 1) != 0x89 || peek(r, 3) != 0x24 ||
		    (!wide && peek(r, 2) != stores[i].modrm) || at <= 0 || at > MAX_FRAME)
			continue;
		saved[stores[i].reg] = (uint32_t)at;
		return wide ? 8 : 5;
	}
	return 0;
}

bool x64_prologue_osr(const uint8_t *code, size_t size, size_t upto, struct x64_prologue *ret)
{
	static const uint8_t get_rbp[] = { 0x48, 0x8b, 0x45, 0x00 }; /* mov rax, [rbp]: the caller's, which it pushes */
	struct x64_prologue own;
	struct reader r;
	size_t len;

	*ret = (struct x64_prologue){ 0 };
	if (size < sizeof(get_rbp) || memcmp(code, get_rbp, sizeof(get_rbp)) != 0)
		return false;
	if (upto <= sizeof(get_rbp))
		return true;
	if (!x64_prologue(code + sizeof(get_rbp), size - sizeof(get_rbp), upto - sizeof(get_rbp), &own))
		return false;
	ret->depth = own.depth;
	ret->end = own.end + (uint32_t)sizeof(get_rbp);
	if (ret->end > size)
		return false;
	r = reader_init(code + ret->end, size - ret->end);
	for (;;) {
		struct x64_prologue before = *ret;

		len = osr_save(&r, ret->saved);
		if (!len || ret->end + len > upto || !reader_bytes(&r, len)) {
			*ret = before;
			return true;
		}
		ret->end += (uint32_t)len;
	}
}
