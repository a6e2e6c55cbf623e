/* Assembly without any call-frame information that keeps a frame pointer (no_cfi_asm.S). */
#include "victim.h"

void bare_outer(void);
void burn(void);
void call_bare(void);

KEEP void burn(void)
{
	for (;;)
		spin(1000000);
}

KEEP void call_bare(void)
{
	FRAME_BYTES(96);

	bare_outer();
	STAY();
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	call_bare();
	STAY();
	return 0;
}
