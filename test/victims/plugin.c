/* Built twice: PLUGIN is a or b, PADDING moves the functions of one of them and FRAME its CFA. */
#include "victim.h"

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define BURN JOIN(plugin_, PLUGIN, _burn)
#define RUN JOIN(plugin_, PLUGIN, _run)

void BURN(void);
void RUN(void);

__asm__(".text\n\t.skip " PADDING ", 0x90\n");

KEEP void BURN(void)
{
	spin(1500000);
}

KEEP void RUN(void)
{
	FRAME_BYTES(FRAME);

	BURN();
	STAY();
}
