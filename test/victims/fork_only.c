/* A child without exec: it has its parent's maps, and no record of its own tells them. */
#include "victim.h"

#include <sys/wait.h>

void child_burn(void);
void child_main(void);
void parent_main(void);

KEEP void child_burn(void)
{
	for (;;)
		spin(1000000);
}

KEEP void child_main(void)
{
	victim_child();
	prctl(PR_SET_NAME, "forked-child");
	child_burn();
	STAY();
}

KEEP void parent_main(void)
{
	pid_t pid = fork();

	if (pid == 0)
		child_main();
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	parent_main();
	STAY();
	return 0;
}
