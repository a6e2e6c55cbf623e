#include "target/broker_wait.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "target/broker_events.h"
#include "target/broker_priv.h"
#include "target/broker_serve.h"
#include "target/proc_text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MANY_REPLACED = 100, /* of those that open: another then comes after a while only */
	PAUSE_MS = 100,
	OPENER_END_MS = 3000, /* for it to end what the program began in targets */
	MAX_DEPTH = 3,      /* of processes below the program */
	END_MS = 200,       /* in which a killed process must be gone; else it waits for a dead file server */
};

enum role { OPENER, PARSER, NUM_ROLES };

struct waiter {
	const struct broker_wait *opts;
	pid_t program;
	pid_t pid[NUM_ROLES];           /* 0 = none */
	int ended[NUM_ROLES];           /* how the last of them ended */
	uint64_t peak_kib[NUM_ROLES];   /* of those that ended */
	unsigned int replaced;
};

static void close_range_of(unsigned int first, unsigned int last)
{
	long max = sysconf(_SC_OPEN_MAX);

	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return;
	for (unsigned int fd = first; fd <= last && fd < (max > 65536 ? 65536 : max); fd++) /* before Linux 5.9 */
		close((int)fd);
}

static void close_all_but(int keep_a, int keep_b)
{
	unsigned int low = (unsigned int)(keep_a < keep_b ? keep_a : keep_b);
	unsigned int high = (unsigned int)(keep_a < keep_b ? keep_b : keep_a);

	close_range_of(3, low - 1);
	close_range_of(low + 1, high - 1);
	close_range_of(high + 1, ~0u);
}

static void nothing(int signal_number)
{
	(void)signal_number;
}

/* Nothing of it may keep a pipe or a terminal of the program open. */
static void detach(int sock, int control)
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGPIPE };
	const struct sigaction child = { .sa_handler = nothing };
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	close_all_but(sock, control);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigaction(SIGCHLD, &child, NULL); /* so that it interrupts poll() */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "ringfold-broker");
}

static pid_t fork_child(void)
{
	pid_t waiting = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != waiting)
		_exit(0);
	signal(SIGCHLD, SIG_DFL);
	return 0;
}

static void fork_opener(struct waiter *w)
{
	pid_t pid = fork_child();

	if (!pid) {
		/* Should the one that waits die, this one serves on, and ends with the program. */
		prctl(PR_SET_PDEATHSIG, 0);
		close(w->opts->control);
		broker_serve(w->opts->sock, w->opts->outputs, w->opts->num_outputs, w->opts->events);
		_exit(0);
	}
	w->pid[OPENER] = pid;
}

static bool reap(struct waiter *w, enum role role, int flags)
{
	struct rusage usage;
	pid_t pid;

	if (w->pid[role] <= 0)
		return false;
	do {
		pid = wait4(w->pid[role], &w->ended[role], flags, &usage);
	} while (pid < 0 && errno == EINTR);
	if (pid != w->pid[role])
		return false;
	w->pid[role] = 0;
	if ((uint64_t)usage.ru_maxrss > w->peak_kib[role])
		w->peak_kib[role] = (uint64_t)usage.ru_maxrss;
	return true;
}

static bool answer(const struct waiter *w, const struct broker_control *control, int fd)
{
	return broker_send(w->opts->control, control, sizeof(*control), fd) == 0;
}

/* Until a child has ended, or `ms` milliseconds. Without pidfds (before Linux 5.3) the time is cut in slices. */
static void wait_ended(pid_t pid, int ms)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	poll(&poll_fd, 1, fd >= 0 ? ms : 1);
}

/* Reading for ever from a dead file server cannot be ended; it is left to itself then. */
static void end_child(struct waiter *w, enum role role)
{
	uint64_t give_up_ns = clock_monotonic_ns() + END_MS * UINT64_C(1000000);

	if (w->pid[role] <= 0)
		return;
	kill(w->pid[role], SIGKILL);
	while (!reap(w, role, WNOHANG) && clock_monotonic_ns() < give_up_ns)
		wait_ended(w->pid[role], END_MS);
	w->pid[role] = 0;
}

/*
 * False: it is time to end. That one died is told before the next one can answer anything, so that whoever asks knows all
 * deaths before an answer by then.
 */
static bool replace_opener(struct waiter *w, enum broker_control_op why)
{
	const struct broker_control done = { .op = why };

	if (why == CONTROL_REPLACE)
		end_child(w, OPENER);
	else if (!answer(w, &done, -1))
		return false;
	if (++w->replaced > MANY_REPLACED)
		poll(NULL, 0, PAUSE_MS);
	fork_opener(w);
	return w->pid[OPENER] > 0 && (why != CONTROL_REPLACE || answer(w, &done, -1));
}

static int fork_parser(struct waiter *w)
{
	int sock[2];

	if (!w->opts->parser)
		return -ENOSYS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return -errno;
	w->ended[PARSER] = 0;
	w->pid[PARSER] = fork_child();
	if (!w->pid[PARSER]) {
		close(sock[0]);
		close(w->opts->control);
		close(w->opts->sock);
		broker_events_free(w->opts->events);
		prctl(PR_SET_NAME, "ringfold-parser");
		w->opts->parser(sock[1]);
		_exit(0);
	}
	close(sock[1]);
	if (w->pid[PARSER] > 0)
		return sock[0];
	w->pid[PARSER] = 0;
	close(sock[0]);
	return -EAGAIN;
}

static bool new_parser(struct waiter *w)
{
	struct broker_control done = { .op = CONTROL_PARSER };
	int fd;
	bool ok;

	end_child(w, PARSER);
	done.ended = w->ended[PARSER];
	fd = fork_parser(w);
	done.result = fd < 0 ? fd : 0;
	done.pid = w->pid[PARSER];
	ok = answer(w, &done, fd);
	closep(&fd);
	return ok;
}

/* A file of /proc/PID as text; false when it is not there. */
static bool read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, size - 1) : -1;
	closep(&fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static struct proc_status status_of(pid_t pid)
{
	struct proc_status status = { 0 };
	char text[4096];

	if (read_proc(pid, "status", text, sizeof(text)))
		proc_status_parse(text, strlen(text), &status);
	return status;
}

/* Of /proc/PID/stat, behind the name, which may hold anything: R, S, D, T (Documentation/filesystems/proc.rst). */
static bool is_ready(pid_t pid)
{
	char text[1024];
	const char *behind;

	behind = read_proc(pid, "stat", text, sizeof(text)) ? strrchr(text, ')') : NULL;
	return behind && behind[1] == ' ' && behind[2] == 'R';
}

/* On a CPU and waiting for one: the first two numbers of /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst). */
static uint64_t ready_ns_of(pid_t pid)
{
	char text[128], *behind;
	uint64_t ran;

	if (!read_proc(pid, "schedstat", text, sizeof(text)))
		return 0;
	ran = strtoull(text, &behind, 10);
	return ran + strtoull(behind, NULL, 10);
}

/* `pid` is one of ours, or nothing is told. */
static bool tell_state(struct waiter *w, pid_t pid)
{
	struct broker_control done = { .op = CONTROL_LOOK };

	pid = pid ? pid : w->pid[OPENER];
	if (pid > 0 && (pid == w->pid[OPENER] || pid == w->pid[PARSER])) {
		/* In this order: what it waited for until it was blocked is counted by then. */
		done.result = is_ready(pid);
		done.cpu_ns = ready_ns_of(pid);
	}
	return answer(w, &done, -1);
}

static uint64_t peak_of(pid_t pid)
{
	return status_of(pid).peak_kib;
}

/* The peak of a process that runs our program too: its pages of the program and of libraries are there already. */
static uint64_t own_peak_of(pid_t pid)
{
	struct proc_status status = status_of(pid);

	return status.peak_kib > status.file_kib ? status.peak_kib - status.file_kib : 0;
}

static uint64_t cpu_of(pid_t pid)
{
	clockid_t clock;

	return clock_getcpuclockid(pid, &clock) == 0 ? clock_ns(clock) : 0;
}

static uint64_t rusage_ns(const struct rusage *u)
{
	return ((uint64_t)u->ru_utime.tv_sec + (uint64_t)u->ru_stime.tv_sec) * 1000000000u +
	       ((uint64_t)u->ru_utime.tv_usec + (uint64_t)u->ru_stime.tv_usec) * 1000u;
}

static bool is_ours(pid_t pid)
{
	char comm[32];

	return read_proc(pid, "comm", comm, sizeof(comm)) && !strncmp(comm, "ringfold-", 9);
}

/*
 * What a process and those below it that have our names use. The program's command is no part of it, nor is the program's
 * CPU time, which it knows itself. Where the kernel lists no children (CONFIG_PROC_CHILDREN) the program stands alone.
 */
static void add_usage(pid_t pid, unsigned int depth, struct broker_control *sum)
{
	char name[48], text[1024];
	char *pos = text;

	sum->peak_kib += depth ? own_peak_of(pid) : peak_of(pid);
	if (depth)
		sum->cpu_ns += cpu_of(pid);
	snprintf(name, sizeof(name), "task/%d/children", (int)pid);
	if (depth == MAX_DEPTH || !read_proc(pid, name, text, sizeof(text)))
		return;
	for (long child; (child = strtol(pos, &pos, 10)) > 0;) {
		if (is_ours((pid_t)child))
			add_usage((pid_t)child, depth + 1, sum);
	}
}

static bool tell_usage(struct waiter *w)
{
	struct broker_control done = { .op = CONTROL_USAGE };
	struct rusage ended;

	add_usage(w->program, 0, &done);
	if (getrusage(RUSAGE_CHILDREN, &ended) == 0)
		done.cpu_ns += rusage_ns(&ended);
	for (int role = 0; role < NUM_ROLES; role++) {
		uint64_t now = w->pid[role] > 0 ? peak_of(w->pid[role]) : 0;

		if (w->peak_kib[role] > now)
			done.peak_kib += w->peak_kib[role] - now;
	}
	return answer(w, &done, -1);
}

/* False: it is time to end. */
static bool obey(struct waiter *w, const struct broker_control *asked)
{
	switch ((enum broker_control_op)asked->op) {
	case CONTROL_REPLACE:
		return replace_opener(w, CONTROL_REPLACE);
	case CONTROL_PARSER:
		return new_parser(w);
	case CONTROL_USAGE:
		return tell_usage(w);
	case CONTROL_LOOK:
		return tell_state(w, asked->pid);
	case CONTROL_DIED:
		break;
	}
	return false;
}

static void wait_and_obey(struct waiter *w)
{
	for (;;) {
		struct pollfd poll_fd = { .fd = w->opts->control, .events = POLLIN };
		struct broker_control asked;
		/* Half a second, in case a child died just before poll(). */
		bool told = poll(&poll_fd, 1, 500) > 0;
		int fd = -1;

		reap(w, PARSER, WNOHANG);
		if (told) {
			if (broker_receive(w->opts->control, &asked, sizeof(asked), &fd) != (int)sizeof(asked))
				return;
			closep(&fd);
			if (!obey(w, &asked))
				return;
		} else if (reap(w, OPENER, WNOHANG) && !replace_opener(w, CONTROL_DIED)) {
			return;
		}
	}
}

/* It sees that the program has ended, ends what that has begun in targets (target/diagnostics.h), and itself. */
static void end_opener(struct waiter *w)
{
	uint64_t give_up_ns = clock_monotonic_ns() + OPENER_END_MS * UINT64_C(1000000);

	close(w->opts->sock); /* the last one but its own */
	while (w->pid[OPENER] > 0 && clock_monotonic_ns() < give_up_ns) {
		if (reap(w, OPENER, WNOHANG))
			return;
		wait_ended(w->pid[OPENER], OPENER_END_MS);
	}
	if (w->pid[OPENER] > 0)
		kill(w->pid[OPENER], SIGKILL);
	reap(w, OPENER, 0); /* what it cost is part of what the program cost */
}

_Noreturn void broker_wait_for_end(const struct broker_wait *opts)
{
	struct waiter w = { .opts = opts, .program = getppid() };

	detach(opts->sock, opts->control);
	broker_limit_capabilities();
	fork_opener(&w);
	if (w.pid[OPENER] > 0)
		wait_and_obey(&w);
	if (w.pid[PARSER] > 0)
		kill(w.pid[PARSER], SIGKILL);
	end_opener(&w);
	end_child(&w, PARSER);
	_exit(0);
}
