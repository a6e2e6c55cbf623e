/* The helper that reads memory, and the guard that forks and ends helpers. Neither has a capability. */
#include "base/cleanup.h"
#include "target/broker_priv.h"
#include "target/jail.h"
#include "target/memory_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the helper ---- */

struct helper {
	int sock;
	int slots[MEMORY_SLOTS]; /* descriptors of /proc/PID/mem; -1 = none */
	struct memory_progress *progress;
	struct memory_ask ask;
	int32_t told[MEMORY_PIECES];
	uint8_t bytes[MEMORY_BYTES];
};

static int32_t read_piece(struct helper *h, const struct memory_want *want, uint8_t *to, size_t room)
{
	ssize_t n;

	if (want->slot >= MEMORY_SLOTS || h->slots[want->slot] < 0)
		return -EBADF;
	if (want->len > room || want->addr > INT64_MAX)
		return -EIO;
	atomic_store_explicit(&h->progress->slot, want->slot, memory_order_relaxed);
	n = pread(h->slots[want->slot], to, want->len, (off_t)want->addr);
	atomic_store_explicit(&h->progress->slot, MEMORY_NO_SLOT, memory_order_relaxed);
	return n < 0 ? -errno : (int32_t)n;
}

static bool answer_read(struct helper *h)
{
	struct iovec parts[] = { { h->told, 0 }, { h->bytes, 0 } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 2 };
	size_t used = 0;

	for (uint32_t i = 0; i < h->ask.num; i++) {
		h->told[i] = read_piece(h, &h->ask.wants[i], h->bytes + used, sizeof(h->bytes) - used);
		if (h->told[i] > 0)
			used += (size_t)h->told[i];
	}
	parts[0].iov_len = h->ask.num * sizeof(h->told[0]);
	parts[1].iov_len = used;
	return sendmsg(h->sock, &msg, MSG_NOSIGNAL) >= 0;
}

/* False: who asks has gone. */
static bool serve_one(struct helper *h)
{
	int with, n = broker_receive(h->sock, &h->ask, sizeof(h->ask), &with);

	if (n < (int)offsetof(struct memory_ask, wants) || h->ask.num > MEMORY_PIECES ||
	    (size_t)n < offsetof(struct memory_ask, wants) + h->ask.num * sizeof(h->ask.wants[0])) {
		closep(&with);
		return false;
	}
	if (h->ask.op == MEMORY_READ) {
		closep(&with);
		return answer_read(h);
	}
	if (h->ask.slot >= MEMORY_SLOTS) {
		closep(&with);
		return false;
	}
	closep(&h->slots[h->ask.slot]);
	h->slots[h->ask.slot] = with;
	return true;
}

static _Noreturn void serve(int sock, struct memory_progress *progress, scmp_filter_ctx filter)
{
	static struct helper h; /* of this process alone; too large for its stack */

	h.sock = sock;
	h.progress = progress;
	for (size_t i = 0; i < MEMORY_SLOTS; i++)
		h.slots[i] = -1;
	if (!filter || seccomp_load(filter) < 0)
		_exit(1);
	while (serve_one(&h))
		;
	_exit(0);
}

/* ---- the guard ---- */

static scmp_filter_ctx make_filter(void)
{
	static const int allowed[] = { SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(read), SCMP_SYS(write),
				       SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(close), SCMP_SYS(exit),
				       SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall) };
	scmp_filter_ctx filter = seccomp_init(JAIL_SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; !JAIL_SANITIZED && !r && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	/* The sanitizers do more than that when a process ends; what a helper never needs is refused all the same. */
	if (JAIL_SANITIZED && !r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execve), 0);
	if (!r)
		return filter;
	seccomp_release(filter);
	return NULL;
}

struct guard {
	int control;
	struct memory_progress *progress;
	scmp_filter_ctx filter;
	pid_t helper;                  /* -1 = none */
	pid_t stuck[MEMORY_MAX_STUCK]; /* killed, but not gone yet; 0 = none */
};

/* Whether it has, or waits for, a CPU; what waits for a page does not. */
static bool is_running(pid_t pid)
{
	char name[32], text[128];
	_cleanup_close_ int fd = -1;
	const char *paren;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	paren = strrchr(text, ')'); /* our own name has none */
	return paren && !strncmp(paren, ") R", 3);
}

static bool reap(pid_t pid)
{
	const struct timespec moment = { .tv_nsec = 150000 };

	/* A killed process is gone at once, unless the kernel cannot let go of it. */
	for (int i = 0; i < 4; i++) {
		pid_t got = waitpid(pid, NULL, WNOHANG);

		if (got == pid || (got < 0 && errno == ECHILD))
			return true;
		nanosleep(&moment, NULL);
	}
	return false;
}

/* False: too many cannot be ended. */
static bool end_helper(struct guard *g)
{
	pid_t *place = NULL;

	for (size_t i = 0; i < MEMORY_MAX_STUCK; i++) {
		if (g->stuck[i] && waitpid(g->stuck[i], NULL, WNOHANG) == g->stuck[i])
			g->stuck[i] = 0;
		if (!g->stuck[i])
			place = &g->stuck[i];
	}
	if (g->helper <= 0)
		return true;
	kill(g->helper, SIGKILL);
	if (!reap(g->helper) && place)
		*place = g->helper;
	g->helper = -1;
	return place;
}

/* The socket of a new helper; -1: none can be had. */
static int fork_helper(struct guard *g)
{
	pid_t guard = getpid();
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return -1;
	g->helper = fork();
	if (!g->helper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != guard)
			_exit(0);
		close(g->control);
		close(sock[0]);
		serve(sock[1], g->progress, g->filter);
	}
	close(sock[1]);
	if (g->helper > 0)
		return sock[0];
	close(sock[0]);
	return -1;
}

static void answer_control(struct guard *g, char asked)
{
	_cleanup_close_ int sock = -1;
	char answer = MEMORY_NO_MORE;

	if (asked == MEMORY_GIVE_UP && g->helper > 0 && is_running(g->helper)) {
		answer = MEMORY_BUSY;
	} else if (end_helper(g)) {
		sock = fork_helper(g);
		if (sock >= 0)
			answer = MEMORY_FRESH;
	}
	broker_send(g->control, &answer, 1, sock);
}

static void close_all_but(int keep)
{
#ifdef SYS_close_range
	if (!syscall(SYS_close_range, keep + 1, ~0u, 0) && (keep <= 3 || !syscall(SYS_close_range, 3, keep - 1, 0)))
		return;
#endif
	for (int fd = 3, max = (int)sysconf(_SC_OPEN_MAX); fd < (max > 65536 ? 65536 : max); fd++) {
		if (fd != keep)
			close(fd);
	}
}

/* Nothing that a terminal's owner or our own user could turn against what is read here. */
static void detach(int control)
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGPIPE };
	const struct rlimit no_core = { 0, 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	cap_t none = cap_init();
	sigset_t set;

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	close_all_but(control);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	prctl(PR_SET_NAME, "ringfold-memory");
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++)
		cap_drop_bound(cap);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (!none || cap_set_proc(none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(1);
	cap_free(none);
}

_Noreturn void memory_guard(int control, struct memory_progress *progress)
{
	struct guard g = { .control = control, .progress = progress, .helper = -1 };
	char asked;
	int with;

	detach(control);
	g.filter = make_filter();
	while (broker_receive(control, &asked, 1, &with) == 1) {
		closep(&with);
		answer_control(&g, asked);
	}
	end_helper(&g);
	_exit(0);
}
