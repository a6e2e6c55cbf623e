#include "output/packed_priv.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put(struct packed *p)
{
	uint32_t bits = (uint32_t)p->rest[0] << 16 | (uint32_t)p->rest[1] << 8 | p->rest[2];
	char text[4] = { digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63], digits[bits & 63] };

	if (p->num_rest < 3)
		text[3] = '=';
	if (p->num_rest < 2)
		text[2] = '=';
	strbuf_add(p->out, text, sizeof(text));
	p->rest[0] = p->rest[1] = p->rest[2] = 0;
	p->num_rest = 0;
}

static void add_byte(struct packed *p, uint8_t byte)
{
	p->rest[p->num_rest++] = byte;
	if (p->num_rest == 3)
		put(p);
}

void packed_add(struct packed *p, uint64_t value)
{
	while (value >= 0x80) {
		add_byte(p, (uint8_t)(value | 0x80));
		value >>= 7;
	}
	add_byte(p, (uint8_t)value);
}

void packed_end(struct packed *p)
{
	if (p->num_rest)
		put(p);
}
