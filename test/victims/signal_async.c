/* A handler that a timer starts at any instruction of two small functions, also in their prologues. */
#include "victim.h"

#include <sys/time.h>

void burn(void);
void on_timer(int sig);
uint64_t small(uint64_t x);
void interrupted(void);

KEEP void burn(void)
{
	spin(3000000);
}

KEEP void on_timer(int sig)
{
	(void)sig;
	burn();
	STAY();
}

KEEP uint64_t small(uint64_t x)
{
	volatile uint64_t frame[20];

	frame[x & 15] = x;
	return frame[x & 15] + 1;
}

KEEP void interrupted(void)
{
	uint64_t x = 0;

	for (;;)
		x = small(x);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_timer };
	struct itimerval every = { { 0, 5000 }, { 0, 5000 } };

	/* SIGALRM ends the victim, so this timer counts CPU time. */
	victim_lives(argc > 1 ? argv[1] : NULL);
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_PROF, &every, NULL);
	interrupted();
	return 0;
}
