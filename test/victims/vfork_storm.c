/*
 * vfork again and again. Nearly every sample is taken inside the system call, where libc keeps the return
 * address in a register: the rows naive unwinders do not have.
 */
#include "victim.h"

#include <sys/wait.h>

void storm_once(void);
void storm(void);

KEEP void storm_once(void)
{
	pid_t pid = vfork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}

KEEP void storm(void)
{
	for (;;) {
		storm_once();
		STAY();
	}
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	storm();
	return 0;
}
