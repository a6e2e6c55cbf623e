#include "app/launch.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In the child: only async-signal-safe calls from here to the exec. */
static void child_main(char *const argv[], int go_fd, int fail_fd)
{
	sigset_t none;
	char byte;
	int code;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (read(go_fd, &byte, 1) != 1)
		_exit(0); /* the profiler gave up before it began */
	execvp(argv[0], argv);
	code = errno;
	if (write(fail_fd, &code, sizeof(code)) != sizeof(code))
		_exit(126);
	_exit(code == ENOENT ? 127 : 126);
}

int launch_prepare(char *const argv[], struct launch *ret, struct err *err)
{
	int go[2], fail[2];
	pid_t pid;

	if (pipe2(go, O_CLOEXEC) < 0)
		return err_set(err, errno, "pipe: %s", strerror(errno));
	if (pipe2(fail, O_CLOEXEC) < 0) {
		int code = errno;

		close(go[0]);
		close(go[1]);
		return err_set(err, code, "pipe: %s", strerror(code));
	}
	signal(SIGCHLD, SIG_DFL); /* whoever started us may ignore it: then there would be no status to pass on */
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		close(fail[0]);
		child_main(argv, go[0], fail[1]);
	}
	close(go[0]);
	close(fail[1]);
	if (pid < 0) {
		int code = errno;

		close(go[1]);
		close(fail[0]);
		return err_set(err, code, "fork: %s", strerror(code));
	}
	*ret = (struct launch){ .pid = pid, .go_fd = go[1], .fail_fd = fail[0] };
	return 0;
}

int launch_go(struct launch *l, const char *name, struct err *err)
{
	ssize_t got;
	int code = 0;

	if (write(l->go_fd, "", 1) != 1)
		return err_set(err, errno, "starting %s: %s", name, strerror(errno));
	closep(&l->go_fd);
	l->go_fd = -1;
	got = fd_read_some(l->fail_fd, &code, sizeof(code)); /* the exec closes the other end */
	closep(&l->fail_fd);
	l->fail_fd = -1;
	if (got != sizeof(code))
		return 0;
	l->exec_failed = true;
	l->status = (code == ENOENT ? 127 : 126) << 8; /* what the child's own exit will say */
	return err_set(err, code, "cannot run %s: %s", name, strerror(code));
}

bool launch_poll(struct launch *l)
{
	if (!l->pid || l->reaped)
		return l->reaped;
	if (waitpid(l->pid, &l->status, WNOHANG) == l->pid)
		l->reaped = true;
	return l->reaped;
}

/* Up to 2 s. */
static bool wait_reaped(struct launch *l)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	for (int i = 0; i < 400 && !launch_poll(l); i++)
		nanosleep(&pause, NULL);
	return l->reaped;
}

void launch_end(struct launch *l, bool ending)
{
	/* Its events hang up before its status can be had (do_exit, kernel/exit.c): a signal now would be ours. */
	if (!l->pid || launch_poll(l) || (ending && wait_reaped(l)))
		return;
	l->ended = true;
	kill(l->pid, SIGTERM);
	wait_reaped(l);
}

int launch_exit_status(const struct launch *l)
{
	if (!l->reaped && !l->exec_failed)
		return 0;
	if (WIFSIGNALED(l->status))
		return 128 + WTERMSIG(l->status);
	return WEXITSTATUS(l->status);
}

void launch_deinit(struct launch *l)
{
	if (!l->pid)
		return;
	closep(&l->go_fd);
	closep(&l->fail_fd);
	l->go_fd = l->fail_fd = -1;
	launch_poll(l);
}
