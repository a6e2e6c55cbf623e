/* Twenty calls down, a little work, and back with one longjmp. */
#include "victim.h"

#include <setjmp.h>

void burn(void);
void dive(int depth);
void jump_loop(void);

static jmp_buf back;

KEEP void burn(void)
{
	spin(100000);
}

KEEP void dive(int depth)
{
	FRAME_BYTES(64);

	if (depth > 1) {
		dive(depth - 1);
	} else {
		burn();
		longjmp(back, 1);
	}
	STAY();
}

KEEP void jump_loop(void)
{
	for (;;) {
		if (!setjmp(back))
			dive(20);
		STAY();
	}
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	jump_loop();
	return 0;
}
