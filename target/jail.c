#include "target/jail.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/*
 * All that a recording and its naming need once everything is open. What is not here fails with EPERM rather than
 * ending the process: a library that tries something new costs a message, not the profile.
 */
static const int allowed[] = {
	/* descriptors that are open */
	SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(readv), SCMP_SYS(preadv), SCMP_SYS(write), SCMP_SYS(pwrite64),
	SCMP_SYS(writev), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(close),
	SCMP_SYS(close_range), SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(fstatfs), SCMP_SYS(fcntl),
	SCMP_SYS(fcntl64), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
	SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64), SCMP_SYS(getdents64), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg),
	SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(shutdown),
	/* waiting */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(signalfd4), SCMP_SYS(eventfd2),
	SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(futex), SCMP_SYS(restart_syscall),
	SCMP_SYS(wait4), SCMP_SYS(waitid), SCMP_SYS(pause), SCMP_SYS(membarrier), SCMP_SYS(sched_yield),
	/* memory; what may be executed is fixed, see below */
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mincore), SCMP_SYS(msync),
	/* signals to oneself, and how the process ends */
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(tgkill), SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* what tells of oneself or of the machine, and no more */
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(times),
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid), SCMP_SYS(getuid), SCMP_SYS(geteuid),
	SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getpgrp), SCMP_SYS(getrusage), SCMP_SYS(getrandom),
	SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getcpu), SCMP_SYS(sched_getaffinity), SCMP_SYS(umask),
	SCMP_SYS(prlimit64), SCMP_SYS(getrlimit), SCMP_SYS(capget), SCMP_SYS(rseq),
};

/*
 * All that parsing needs: what came as a descriptor is read, answers go back over a socket, memory grows as far as
 * jail_enter_parser lets it.
 */
static const int allowed_parser[] = {
	SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(close), SCMP_SYS(fstat),
	SCMP_SYS(fstat64), SCMP_SYS(fcntl), SCMP_SYS(fcntl64), SCMP_SYS(dup), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(restart_syscall), SCMP_SYS(futex), SCMP_SYS(brk), SCMP_SYS(munmap),
	SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(tgkill), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getrandom), SCMP_SYS(prlimit64), SCMP_SYS(getrlimit),
};

static const unsigned long allowed_ioctls[] = {
	TCGETS, TIOCGWINSZ, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ID,
	PERF_EVENT_IOC_PAUSE_OUTPUT, PERF_EVENT_IOC_SET_OUTPUT,
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t num)
{
	int r = 0;

	for (size_t i = 0; !r && i < num; i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
		if (r == -EDOM || r == -EINVAL) /* a call that this CPU does not have */
			r = 0;
	}
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* fstat, as glibc 2.33 and later spell it; a path would tell no more than stat of a file does. */
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
				     SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH, 0));
	if (!r) /* our own, and without capabilities only to less */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setpriority), 2,
				     SCMP_A0(SCMP_CMP_EQ, PRIO_PROCESS, 0), SCMP_A1(SCMP_CMP_EQ, 0, 0));
	return r;
}

static int allow_recorder(scmp_filter_ctx filter, pid_t child)
{
	int r = allow(filter, allowed, sizeof(allowed) / sizeof(allowed[0]));

	for (size_t i = 0; !r && i < sizeof(allowed_ioctls) / sizeof(allowed_ioctls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_EQ, allowed_ioctls[i], 0));
	if (!r && child > 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)child, 0));
	return r;
}

/* What nobody here needs, sanitizers or not. */
static int refuse_some(scmp_filter_ctx filter)
{
	static const int refused[] = { SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(connect), SCMP_SYS(bind),
				       SCMP_SYS(perf_event_open), SCMP_SYS(mount), SCMP_SYS(setuid) };
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(refused) / sizeof(refused[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
	return r;
}

static int load_filter(bool parser, pid_t child)
{
	scmp_filter_ctx filter = seccomp_init(JAIL_SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));
	int r = -ENOMEM;

	if (filter && JAIL_SANITIZED)
		r = refuse_some(filter);
	else if (filter && parser)
		r = allow(filter, allowed_parser, sizeof(allowed_parser) / sizeof(allowed_parser[0]));
	else if (filter)
		r = allow_recorder(filter, child);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

static int drop_capabilities(struct err *err)
{
	cap_t none = cap_init();
	int r = 0;

	/* Needs CAP_SETPCAP, which a plain user has not; no-new-privs does the same for exec. */
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++)
		cap_drop_bound(cap);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (!none || cap_set_proc(none) < 0)
		r = err_set(err, errno, "giving up capabilities: %s", strerror(errno));
	cap_free(none);
	return r;
}

/* What others' memory held must not end in a core file, nor be had by ptrace. */
static void leave_no_core(void)
{
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int enter(bool parser, pid_t child, struct err *err)
{
	int r = drop_capabilities(err);

	if (r < 0)
		return r;
	leave_no_core();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, errno, "no new privileges: %s", strerror(errno));
	r = load_filter(parser, child);
	return r < 0 ? err_set(err, -r, "the seccomp filter: %s", strerror(-r)) : 0;
}

int jail_enter(pid_t child, struct err *err)
{
	return enter(false, child, err);
}

int jail_enter_parser(struct err *err)
{
	/* Private memory that may be written (mm/mmap.c may_expand_vm); what the sanitizers reserve counts too. */
	const struct rlimit memory = { JAIL_PARSER_BYTES, JAIL_PARSER_BYTES };

	if (!JAIL_SANITIZED && setrlimit(RLIMIT_DATA, &memory) < 0)
		return err_set(err, errno, "limiting memory: %s", strerror(errno));
	return enter(true, 0, err);
}
