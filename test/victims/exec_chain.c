/*
 * Replaces itself every 60 ms, each time at other addresses; step_0 .. step_3 tell which life it is.
 *	exec_chain SECONDS [STEP]
 */
#include "victim.h"

#include <stdio.h>

void burn(void);
void step_0(void);
void step_1(void);
void step_2(void);
void step_3(void);

KEEP void burn(void)
{
	spin(60000000);
}

KEEP void step_0(void)
{
	burn();
	STAY();
}

KEEP void step_1(void)
{
	burn();
	STAY();
}

KEEP void step_2(void)
{
	burn();
	STAY();
}

KEEP void step_3(void)
{
	burn();
	STAY();
}

int main(int argc, char **argv)
{
	static void (*const steps[])(void) = { step_0, step_1, step_2, step_3 };
	unsigned long step = argc > 2 ? strtoul(argv[2], NULL, 10) % 4 : 0;
	char next[8];

	/* The first life sets the alarm, which survives exec; its handler does not. */
	if (argc > 1 && argc < 3)
		alarm((unsigned int)strtoul(argv[1], NULL, 10));
	steps[step]();
	snprintf(next, sizeof(next), "%lu", step + 1);
	execl(argv[0], argv[0], argc > 1 ? argv[1] : "0", next, (char *)NULL);
	return 1;
}
