/* Two coroutines on heap stacks, switched by swapcontext; their stacks end in libc's __start_context. */
#include "victim.h"

#include <ucontext.h>

void burn_a(void);
void burn_b(void);
void coroutine_a(void);
void coroutine_b(void);

enum { STACK = 64 * 1024 };
static ucontext_t context_a, context_b, context_main;

KEEP void burn_a(void)
{
	spin(200000);
}

KEEP void burn_b(void)
{
	spin(200000);
}

KEEP void coroutine_a(void)
{
	for (;;) {
		burn_a();
		swapcontext(&context_a, &context_b);
	}
}

KEEP void coroutine_b(void)
{
	for (;;) {
		burn_b();
		swapcontext(&context_b, &context_a);
	}
}

static int prepare(ucontext_t *context, void (*fn)(void))
{
	if (getcontext(context))
		return -1;
	context->uc_stack.ss_sp = malloc(STACK);
	context->uc_stack.ss_size = STACK;
	context->uc_link = NULL;
	if (!context->uc_stack.ss_sp)
		return -1;
	makecontext(context, fn, 0);
	return 0;
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	if (prepare(&context_a, coroutine_a) || prepare(&context_b, coroutine_b))
		return 1;
	return swapcontext(&context_main, &context_a);
}
