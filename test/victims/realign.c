/*
 * Realigned stacks. main keeps 64-byte aligned locals; with_drap also takes arguments from the stack, so the
 * compiler keeps their address in r10 and the CFA is an expression that reads memory.
 */
#include "victim.h"

#include <stdalign.h>

void burn(volatile uint64_t *where);
uint64_t with_drap(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
		   uint64_t h);

KEEP void burn(volatile uint64_t *where)
{
	for (;;) {
		spin(1000000);
		where[0]++;
	}
}

KEEP uint64_t with_drap(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
			uint64_t g, uint64_t h)
{
	alignas(128) volatile uint64_t wide[16];

	wide[0] = a + b + c + d + e + f;
	burn(wide);
	return wide[0] + g + h;
}

int main(int argc, char **argv)
{
	alignas(64) volatile uint64_t wide[8] = { 0 };

	victim_lives(argc > 1 ? argv[1] : NULL);
	wide[0] = with_drap(1, 2, 3, 4, 5, 6, 7, (uint64_t)argc);
	return (int)wide[0];
}
