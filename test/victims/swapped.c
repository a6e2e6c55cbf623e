/* Built twice, as alpha and beta: the runner puts beta in the place of the running alpha. */
#include "victim.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define BURN JOIN(SIDE, _burn)
#define OUTER JOIN(SIDE, _outer)

void BURN(void);
void OUTER(void);

__asm__(".text\n\t.skip " PADDING ", 0x90\n");

KEEP void BURN(void)
{
	for (;;)
		spin(1000000);
}

KEEP void OUTER(void)
{
	FRAME_BYTES(FRAME);

	BURN();
	STAY();
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	OUTER();
	STAY();
	return 0;
}
