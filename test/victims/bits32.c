/* A 32-bit program without a library: its stacks are recognised and counted, not guessed at. */
void _start(void);

__attribute__((noinline)) static void burn(unsigned int n)
{
	for (unsigned int i = 0; i != n; i++)
		__asm__ volatile("" : "+r"(i));
}

void _start(void)
{
	for (;;)
		burn(1u << 30);
}
