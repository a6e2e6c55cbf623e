#include "runtimes/x64_code.h"

#include "base/reader.h"

enum { REX_W = 0x48, REX_B = 0x41 };

static uint8_t peek(const struct reader *r, size_t at)
{
	return at < reader_left(r) ? r->pos[at] : 0;
}

/* add rsp, n: the frame's locals. */
static uint32_t take_add_rsp(struct reader *r)
{
	if (peek(r, 0) != REX_W || peek(r, 2) != 0xc4 || (peek(r, 1) != 0x83 && peek(r, 1) != 0x81))
		return 0;
	reader_bytes(r, 3);
	return r->pos[-2] == 0x83 ? reader_u8(r) : reader_u32(r);
}

static void take_pops(struct reader *r, struct x64_leaving *ret)
{
	while (ret->num_pops < X64_MAX_POPS) {
		bool high = peek(r, 0) == REX_B;
		uint8_t op = peek(r, high);

		if ((op & 0xf8) != 0x58)
			break;
		reader_bytes(r, high ? 2 : 1);
		ret->pops[ret->num_pops++] =
			(struct x64_pop){ .reg = (uint8_t)((op & 7) + (high ? 8 : 0)), .at = ret->sp_above };
		ret->sp_above += 8;
	}
}

/* A jump that leaves: to another function, through memory, or with REX.W, as only tail calls have it. */
static bool is_leaving_jump(const struct reader *r, uint64_t at, uint64_t begin, uint64_t end)
{
	uint8_t op = peek(r, 0), modrm = peek(r, 1);
	uint64_t target;
	int32_t rel;

	if ((op == REX_W || op == (REX_W | REX_B)) && modrm == 0xff)
		return (peek(r, 2) >> 3 & 7) == 4;
	if (op == 0xff)
		return modrm == 0x25;
	if (op == 0xe9 && reader_left(r) >= 5) {
		memcpy(&rel, r->pos + 1, sizeof(rel));
		target = at + 5 + (uint64_t)(int64_t)rel;
	} else if (op == 0xeb && reader_left(r) >= 2) {
		target = at + 2 + (uint64_t)(int64_t)(int8_t)modrm;
	} else {
		return false;
	}
	return target < begin || target >= end;
}

static bool is_ret(const struct reader *r)
{
	return peek(r, 0) == 0xc3 || peek(r, 0) == 0xc2 || (peek(r, 0) == 0xf3 && peek(r, 1) == 0xc3);
}

bool x64_epilogue(const uint8_t *code, size_t size, uint64_t at, uint64_t begin, uint64_t end, struct x64_leaving *ret)
{
	struct reader r = reader_init(code, size);

	*ret = (struct x64_leaving){ .sp_above = take_add_rsp(&r) };
	if (r.failed || ret->sp_above % 8)
		return false;
	take_pops(&r, ret);
	if (peek(&r, 0) == 0xc5 && peek(&r, 1) == 0xf8 && peek(&r, 2) == 0x77) /* vzeroupper */
		reader_bytes(&r, 3);
	return !r.failed && (is_ret(&r) || is_leaving_jump(&r, at + (uint64_t)(r.pos - code), begin, end));
}

static void take_stub_start(struct reader *r)
{
	if (peek(r, 0) == 0x33 && peek(r, 1) == 0xc0)
		reader_bytes(r, 2);
	else if (peek(r, 0) == 0x49 && peek(r, 1) == 0x8b && peek(r, 2) == 0xc3)
		reader_bytes(r, 3);
	else if (peek(r, 0) == REX_W && peek(r, 1) == 0x8d && peek(r, 2) == 0x05)
		reader_bytes(r, 7);
}

bool x64_stub(const uint8_t *code, size_t size, size_t at, struct x64_leaving *ret)
{
	struct reader r = reader_init(code, size);
	bool number, module, pushed;

	pushed = at >= 6 && at <= size && code[at - 6] == 0xff && code[at - 5] == 0x35;
	if (!reader_bytes(&r, at))
		return false;
	if (!pushed)
		take_stub_start(&r);
	number = peek(&r, 0) == 0x6a || peek(&r, 0) == 0x68;
	if (number)
		reader_bytes(&r, peek(&r, 0) == 0x6a ? 2 : 5);
	module = peek(&r, 0) == 0xff && peek(&r, 1) == 0x35;
	if (module)
		reader_bytes(&r, 6);
	if (r.failed || number > module || reader_left(&r) < 6 || peek(&r, 0) != 0xff || peek(&r, 1) != 0x25)
		return false;
	*ret = (struct x64_leaving){ .sp_above = number ? 0 : module ? 8 : pushed ? 16 : 0 };
	return true;
}
