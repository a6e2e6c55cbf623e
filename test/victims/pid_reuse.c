/*
 * One pid, given out again and again to two different programs. Runs (with the profiler) in a PID namespace
 * of its own, where it sets ns_last_pid so that the next child gets the same number.
 *	pid_reuse SECONDS ALPHA BETA
 */
#include "victim.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

enum { BURN_MS = 25 };

static bool next_pid_is(const char *last)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, last, strlen(last)) == (ssize_t)strlen(last);
	close(fd);
	return ok;
}

static void run(const char *program)
{
	pid_t pid;

	if (!next_pid_is("20000"))
		_exit(1);
	pid = fork();
	if (pid == 0) {
		victim_child();
		execl(program, program, (char *)NULL);
		_exit(1);
	}
	if (pid != 20001)
		_exit(1);
	usleep(BURN_MS * 1000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	victim_lives(argv[1]);
	for (;;) {
		run(argv[2]);
		run(argv[3]);
	}
}
