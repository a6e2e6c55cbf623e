/*
 * A stack of the size that was asked for.
 *	recurse SECONDS KIBIBYTES	one frame holds 1 KiB
 */
#include "victim.h"

#include <string.h>

void burn(void);
uint64_t dive(unsigned long depth);

KEEP void burn(void)
{
	for (;;)
		spin(1000000);
}

KEEP uint64_t dive(unsigned long depth)
{
	volatile unsigned char frame[960];

	memset((void *)frame, (int)depth, sizeof(frame));
	if (depth > 1)
		dive(depth - 1);
	else
		burn();
	return frame[depth % sizeof(frame)];
}

int main(int argc, char **argv)
{
	unsigned long depth = argc > 2 ? strtoul(argv[2], NULL, 10) : 4;

	victim_lives(argc > 1 ? argv[1] : NULL);
	dive(depth > 4096 ? 4096 : depth);
	STAY();
	return 0;
}
