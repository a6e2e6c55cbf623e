/* What a jailed process can do no more, tried one by one, each in a process of its own. */
#include "target/jail.h"

#include "base/err.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_shadow(void)
{
	return open("/etc/shadow", O_RDONLY | O_CLOEXEC);
}

static int open_legacy(void)
{
#ifdef SYS_open
	return (int)syscall(SYS_open, "/etc/passwd", O_RDONLY);
#else
	errno = EPERM;
	return -1;
#endif
}

static int make_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int run_program(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}

static int make_process(void)
{
	return fork();
}

static int open_perf_event(void)
{
	return (int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}

static int end_parent(void)
{
	return kill(getppid(), 0);
}

static int map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

static int make_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? 0 : mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int remove_file(void)
{
	return unlink("/nowhere/at/all");
}

static int much_memory(void)
{
	void *p = mmap(NULL, (size_t)JAIL_PARSER_BYTES + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED || errno != ENOMEM)
		return 0;
	errno = EPERM;
	return -1;
}

static int end_self(void)
{
	return kill(getpid(), 0);
}

static int make_poll(void)
{
	return (int)syscall(SYS_epoll_create1, 0);
}

static int enter_recorder(struct err *err)
{
	return jail_enter(0, err);
}

struct attempt {
	const char *what;
	int (*attempt)(void);
	bool always; /* else sanitizers need it: a plain build tries it */
};

static const struct attempt of_parser[] = {
	{ "much memory", much_memory, false },
	{ "kill, even itself", end_self, false },
	{ "epoll", make_poll, false },
};

static const struct attempt attempts[] = {
	{ "exec", run_program, true },
	{ "perf_event_open", open_perf_event, true },
	{ "open", open_shadow, false },
	{ "the old open", open_legacy, false },
	{ "socket", make_socket, false },
	{ "fork", make_process, false },
	{ "kill", end_parent, false },
	{ "executable memory", map_code, false },
	{ "made executable", make_code, false },
	{ "unlink", remove_file, false },
};

/* 0: refused with EPERM; 1: allowed; 2: the jail could not be entered. */
static int outcome(int (*enter)(struct err *err), int (*attempt)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		struct err err = { 0 };

		if (enter(&err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(2);
		}
		_exit(attempt() < 0 && errno == EPERM ? 0 : 1);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 3;
	return WEXITSTATUS(status);
}

/* "CapEff: 0000000000000000" and the like, from its own status; read before the jail closes the way. */
static int has_nothing(int (*enter)(struct err *err))
{
	char text[4096] = "";
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	struct err err = { 0 };

	if (fd < 0 || enter(&err) < 0 || pread(fd, text, sizeof(text) - 1, 0) <= 0)
		return 2;
	return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) > 0 ||
	       !(strstr(text, "CapEff:\t0000000000000000") && strstr(text, "CapPrm:\t0000000000000000") &&
		 strstr(text, "CapAmb:\t0000000000000000") && strstr(text, "NoNewPrivs:\t1") &&
		 strstr(text, "Seccomp:\t2"));
}

static void test_jail(int (*enter)(struct err *err), const struct attempt *list, size_t num)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		_exit(has_nothing(enter));
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	for (size_t i = 0; i < num; i++) {
		int got = JAIL_SANITIZED && !list[i].always ? 0 : outcome(enter, list[i].attempt);

		CHECK_MSG(got == 0, "%s: %s", list[i].what, got == 1 ? "not refused" : "no answer");
	}
}

int main(void)
{
	test_jail(enter_recorder, attempts, sizeof(attempts) / sizeof(attempts[0]));
	test_jail(jail_enter_parser, attempts, sizeof(attempts) / sizeof(attempts[0]));
	test_jail(jail_enter_parser, of_parser, sizeof(of_parser) / sizeof(of_parser[0]));
	return check_done();
}
