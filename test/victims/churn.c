/* Calls and returns and little else: most samples hit a push, a pop or a ret. */
#include "victim.h"

uint64_t churn_c(uint64_t a, uint64_t b);
uint64_t churn_b(uint64_t a, uint64_t b);
uint64_t churn_a(uint64_t a, uint64_t b);
void churn_loop(void);

KEEP uint64_t churn_c(uint64_t a, uint64_t b)
{
	return a ^ b;
}

KEEP uint64_t churn_b(uint64_t a, uint64_t b)
{
	uint64_t x = churn_c(a, b), y = churn_c(x, a), z = churn_c(y, b);

	return x + y * z + churn_c(z, y);
}

KEEP uint64_t churn_a(uint64_t a, uint64_t b)
{
	uint64_t x = churn_b(a, b), y = churn_b(x, a);

	if (x == y)
		return churn_b(y, x) + a;
	return x + y + a * b;
}

KEEP void churn_loop(void)
{
	uint64_t x = 1;

	for (;;)
		x = churn_a(x, x + 1);
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	churn_loop();
	return 0;
}
