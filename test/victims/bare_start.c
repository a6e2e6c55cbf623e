/* A program whose main is called by code without call-frame information (bare_start_asm.S). */
#include "victim.h"

void burn(void);

KEEP void burn(void)
{
	for (;;)
		spin(1000000);
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	burn();
	STAY();
	return 0;
}
