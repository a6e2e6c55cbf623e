/*
 * vfork again and again. Nearly every sample is taken inside the system call, where libc keeps the return
 * address in a register: the rows naive unwinders do not have. A parent waits for most of its life, so several
 * do it side by side, and many open files make each call long.
 */
#include "victim.h"

#include <sys/wait.h>

enum { PARENTS = 4, FILES = 200 };

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
	for (int i = 0; i < FILES; i++) {
		if (dup(0) < 0)
			break;
	}
	for (int i = 1; i < PARENTS; i++) {
		if (fork() == 0) {
			victim_child();
			break;
		}
	}
	storm();
	return 0;
}
