/*
 * Many children that start, burn 5 ms and are gone before anybody could read their /proc.
 *	short_lived SECONDS		starts itself with "child"
 */
#include "victim.h"

#include <string.h>
#include <sys/wait.h>

void short_burn(void);
void short_main(void);

KEEP void short_burn(void)
{
	spin(5000000);
}

KEEP void short_main(void)
{
	short_burn();
	STAY();
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[2], "child")) {
		short_main();
		return 0;
	}
	victim_lives(argc > 1 ? argv[1] : NULL);
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			execl(argv[0], argv[0], "0", "child", (char *)NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
}
