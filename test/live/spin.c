/* usage: spin SECONDS. Burns CPU under main, outer, middle and leaf, whatever it is linked with. */
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;

NOINLINE static int leaf(unsigned long n)
{
	unsigned long sum = 1;

	for (unsigned long i = 0; i < n; i++) {
		sum = sum * 6364136223846793005ul + i;
		sink = sum;
	}
	return (int)(sum & 1);
}

NOINLINE static int middle(unsigned long n)
{
	int ret = leaf(n);

	sink += 1; /* no tail call */
	return ret + (int)(sink & 1);
}

NOINLINE static int outer(time_t end)
{
	int ret = 0;

	while (time(NULL) < end)
		ret += middle(200000);
	return ret;
}

int main(int argc, char **argv)
{
	int ret = outer(time(NULL) + (argc > 1 ? atoi(argv[1]) : 10));

	sink += 1;
	return ret == 42;
}
