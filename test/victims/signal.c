/*
 * A handler that never returns, entered from the first instruction of a function (signal_trap.S). The frame
 * below the handler must be looked up at its exact pc: one byte before lies another function with another row.
 *	signal SECONDS		on the interrupted stack
 *	signal SECONDS alt	on the alternate stack
 */
#include "victim.h"

void trap_here(void);
void burn(void);
void on_signal(int sig);
void outer(void);

KEEP void burn(void)
{
	for (;;)
		spin(1000000);
}

KEEP void on_signal(int sig)
{
	(void)sig;
	burn();
	STAY();
}

KEEP void outer(void)
{
	FRAME_BYTES(160);

	trap_here();
	STAY();
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	stack_t alt = { .ss_size = 64 * 1024 };

	victim_lives(argc > 1 ? argv[1] : NULL);
	if (argc > 2) {
		alt.ss_sp = malloc(alt.ss_size);
		if (!alt.ss_sp || sigaltstack(&alt, NULL))
			return 1;
		action.sa_flags = SA_ONSTACK;
	}
	sigaction(SIGILL, &action, NULL);
	outer();
	STAY();
	return 0;
}
