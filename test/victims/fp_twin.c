/*
 * Built without optimisation and with a frame pointer in every function, so the kernel's own chain holds
 * every frame: the same sample is its own oracle.
 */
#include "victim.h"

#define LEVEL(name, next)                     \
	uint64_t name(uint64_t n);            \
	KEEP uint64_t name(uint64_t n)        \
	{                                     \
		uint64_t got = next(n + 1);   \
		STAY();                       \
		return got + 1;               \
	}

uint64_t burn(uint64_t n);

KEEP uint64_t burn(uint64_t n)
{
	for (;;) {
		for (uint64_t i = 0; i < 1000000; i++)
			n = n * 3 + i;
		STAY();
	}
}

LEVEL(level_8, burn)
LEVEL(level_7, level_8)
LEVEL(level_6, level_7)
LEVEL(level_5, level_6)
LEVEL(level_4, level_5)
LEVEL(level_3, level_4)
LEVEL(level_2, level_3)
LEVEL(level_1, level_2)

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	level_1((uint64_t)argc);
	STAY();
	return 0;
}
