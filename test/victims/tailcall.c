/* Two sibling calls: their callers are not on the stack, and nothing may invent them. */
#include "victim.h"

void burn(uint64_t n);
void tail_b(uint64_t n);
void tail_a(uint64_t n);
void outer(void);

KEEP void burn(uint64_t n)
{
	spin(n);
}

KEEP void tail_b(uint64_t n)
{
	volatile char frame[400];

	frame[0] = (char)n;
	burn(n + (uint64_t)frame[0]);
}

KEEP void tail_a(uint64_t n)
{
	tail_b(n + 1);
}

KEEP void outer(void)
{
	tail_a(1000000);
	STAY();
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	for (;;) {
		outer();
		STAY();
	}
}
