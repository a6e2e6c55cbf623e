/* The child of vfork spins on the parent's stack, in the parent's memory, under its own pid. */
#include "victim.h"

#include <sys/wait.h>

void child_burn(const char *seconds);
void spawn(const char *seconds);

KEEP void child_burn(const char *seconds)
{
	/* The default action of SIGALRM: the parent would not run a handler before we are gone. */
	victim_child();
	alarm(seconds ? (unsigned int)strtoul(seconds, NULL, 10) : 0);
	for (;;)
		spin(1000000);
}

KEEP void spawn(const char *seconds)
{
	pid_t pid = vfork();

	if (pid == 0) {
		child_burn(seconds);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	spawn(argc > 1 ? argv[1] : NULL);
	STAY();
	return 0;
}
