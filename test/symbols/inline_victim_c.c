/* The C half of inline_victim.cpp: a unit of its own, with names that are not mangled. */
unsigned int victim_mix(unsigned int a, unsigned int b);

static volatile unsigned int sink;

static inline unsigned int rotate(unsigned int x, unsigned int by)
{
	return x << (by & 31) | x >> (-by & 31);
}

static inline unsigned int round_of(unsigned int x, unsigned int key)
{
	sink = x;
	return rotate(x ^ key, 5) + rotate(key, x);
}

unsigned int victim_mix(unsigned int a, unsigned int b)
{
	for (int i = 0; i < 8; i++)
		a = round_of(a, b + (unsigned int)i);
	return a;
}
