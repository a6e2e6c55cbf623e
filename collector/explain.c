#include "collector/explain_priv.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/door.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <unistd.h>

static bool has_cap(cap_t caps, cap_value_t cap)
{
	cap_flag_value_t value = CAP_CLEAR;

	return caps && !cap_get_flag(caps, cap, CAP_EFFECTIVE, &value) && value == CAP_SET;
}

static void gather_caps(struct explain_rights *ret)
{
	cap_t caps = cap_get_proc();

	ret->cap_perfmon = has_cap(caps, CAP_PERFMON) || has_cap(caps, CAP_SYS_ADMIN);
	ret->cap_ipc_lock = has_cap(caps, CAP_IPC_LOCK);
	if (caps)
		cap_free(caps);
}

static bool read_number(struct door *door, enum door_text text, long long *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	char *end;

	if (door_read_text(door, text, &buf, NULL) < 0 || buf.failed || !buf.data)
		return false;
	*ret = strtoll(buf.data, &end, 10);
	return end != buf.data;
}

/* "none [integrity] confidentiality": the word in brackets is in force. */
static void gather_lockdown(struct door *door, struct explain_rights *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	const char *open, *close;

	if (door_read_text(door, DOOR_LOCKDOWN, &buf, NULL) < 0 || buf.failed || !buf.data)
		return;
	open = strchr(buf.data, '[');
	close = open ? strchr(open, ']') : NULL;
	if (close && (size_t)(close - open) <= sizeof(ret->lockdown))
		snprintf(ret->lockdown, sizeof(ret->lockdown), "%.*s", (int)(close - open - 1),
			 open + 1);
}

static int own_seccomp(struct door *door)
{
	static const char key[] = "\nSeccomp:";
	_cleanup_(strbuf_deinit) struct strbuf buf = { 0 };
	const char *line;

	if (door_read_proc(door, getpid(), "status", 65536, &buf, NULL, NULL) < 0 || buf.failed ||
	    !buf.data)
		return -1;
	line = strstr(buf.data, key);
	return line ? atoi(line + sizeof(key) - 1) : -1;
}

void explain_gather(struct door *door, struct explain_rights *ret)
{
	struct rlimit limit = { 0 };
	long long number;

	*ret = (struct explain_rights){ .mlock_kb = -1 };
	gather_caps(ret);
	ret->seccomp = own_seccomp(door);
	gather_lockdown(door, ret);
	if (read_number(door, DOOR_PERF_PARANOID, &number)) {
		ret->paranoid = (int)number;
		ret->paranoid_known = true;
	}
	if (read_number(door, DOOR_PERF_MLOCK_KB, &number))
		ret->mlock_kb = number;
	if (read_number(door, DOOR_PERF_MAX_RATE, &number) && number > 0)
		ret->max_rate_hz = (uint32_t)number;
	if (!getrlimit(RLIMIT_MEMLOCK, &limit))
		ret->memlock_bytes = limit.rlim_cur;
}

/* As the manual pages spell them; musl has no strerrorname_np. */
static const char *code_name(int code)
{
	switch (code) {
	case EACCES:
		return "EACCES";
	case EPERM:
		return "EPERM";
	case ENOSYS:
		return "ENOSYS";
	case ENOENT:
		return "ENOENT";
	case ENODEV:
		return "ENODEV";
	case EOPNOTSUPP:
		return "EOPNOTSUPP";
	case EBADF:
		return "EBADF";
	case EINVAL:
		return "EINVAL";
	default:
		return strerror(code);
	}
}

/*
 * The highest perf_event_paranoid that allows the case without a capability (kernel/events/core.c: 0 lets
 * everybody see every process, 1 the kernel, 2 only the own user code; distributions add 3 and 4: nothing).
 */
static int paranoid_needed(const struct explain_case *c)
{
	if (c->all)
		return 0;
	return c->kernel ? 1 : 2;
}

static const char *wanted_words(const struct explain_case *c)
{
	if (c->all)
		return "sampling every process";
	return c->kernel ? "sampling the kernel" : "sampling a process";
}

static int explain_seccomp(const struct explain_case *c, struct err *err)
{
	return err_set(
		err, c->code,
		"a seccomp filter forbids perf_event_open (%s): allow that system call in the container's seccomp "
		"profile, or start the container with --security-opt seccomp=unconfined",
		code_name(c->code));
}

static int explain_lockdown(const struct explain_case *c, const struct explain_rights *r,
			    struct err *err)
{
	return err_set(
		err, c->code,
		"kernel lockdown (%s) forbids perf_event_open for '%s': boot without lockdown=%s, or with Secure "
		"Boot off",
		r->lockdown, c->event, r->lockdown);
}

static int explain_paranoid(const struct explain_case *c, const struct explain_rights *r,
			    struct err *err)
{
	return err_set(
		err, c->code,
		"%s needs CAP_PERFMON, as perf_event_paranoid is %d: run as root, or `setcap "
		"cap_perfmon,cap_sys_ptrace,cap_syslog+ep` the program, or `sysctl kernel.perf_event_paranoid=%d`",
		wanted_words(c), r->paranoid, paranoid_needed(c));
}

/* Capabilities of a user namespace other than the first do not count for perf (perfmon_capable). */
static int explain_outer(const struct explain_case *c, const struct explain_rights *r,
			 struct err *err)
{
	return err_set(
		err, c->code,
		"%s is refused though CAP_PERFMON is held (%s): in a user namespace it does not count, and SELinux "
		"may forbid it: run as root of the host, or `sysctl kernel.perf_event_paranoid=%d` there",
		wanted_words(c), code_name(c->code), paranoid_needed(c));
}

static int explain_denied(const struct explain_case *c, const struct explain_rights *r,
			  struct err *err)
{
	bool locked = r->lockdown[0] && strcmp(r->lockdown, "none");
	bool paranoid = r->paranoid_known && r->paranoid > paranoid_needed(c);

	/* The kernel's own check for permission says EACCES; filters and lockdown say EPERM unless told otherwise. */
	if (c->code == EPERM && r->seccomp == 2)
		return explain_seccomp(c, err);
	if (c->code == EPERM && locked)
		return explain_lockdown(c, r, err);
	if (paranoid && !r->cap_perfmon)
		return explain_paranoid(c, r, err);
	if (r->seccomp == 2)
		return explain_seccomp(c, err);
	if (paranoid)
		return explain_outer(c, r, err);
	if (c->pid > 0)
		return err_set(
			err, c->code,
			"process %d may not be looked into (%s), as it belongs to another user or is protected: run "
			"as its user or as root, or `setcap cap_perfmon,cap_sys_ptrace+ep` the program",
			(int)c->pid, code_name(c->code));
	return explain_outer(c, r, err);
}

static int explain_pinned(const struct explain_case *c, const struct explain_rights *r,
			  struct err *err)
{
	uint32_t cpus = c->num_cpus ? c->num_cpus : 1;
	uint64_t need_kib = (c->need_bytes + 1023) / 1024;

	return err_set(
		err, c->code,
		"the kernel refuses to pin %llu KiB for the rings: perf_event_mlock_kb %lld x %u CPUs and "
		"RLIMIT_MEMLOCK %llu KiB are used up: `sysctl kernel.perf_event_mlock_kb=%llu`, or raise `ulimit -l`, "
		"or grant CAP_IPC_LOCK",
		(unsigned long long)need_kib, (long long)r->mlock_kb, cpus,
		(unsigned long long)(r->memlock_bytes / 1024),
		(unsigned long long)((r->mlock_kb > 0 ? (uint64_t)r->mlock_kb : 0) +
				     need_kib / cpus + 1));
}

static int explain_missing(const struct explain_case *c, struct err *err)
{
	if (c->hardware)
		return err_set(
			err, c->code,
			"this machine has no event '%s' (%s): it has no PMU or hides it, as virtual machines do; use "
			"`-e cpu-clock`",
			c->event, code_name(c->code));
	return err_set(err, c->code,
		       "this kernel cannot sample the event '%s' (%s): use `-e cpu-clock`",
		       c->event, code_name(c->code));
}

static int explain_invalid(const struct explain_case *c, const struct explain_rights *r,
			   struct err *err)
{
	if (c->freq_hz && r->max_rate_hz && c->freq_hz > r->max_rate_hz)
		return err_set(
			err, c->code,
			"%u samples a second are more than perf_event_max_sample_rate allows: use `-F %u`, or `sysctl "
			"kernel.perf_event_max_sample_rate=%u`",
			c->freq_hz, r->max_rate_hz, c->freq_hz);
	return err_set(
		err, c->code,
		"this kernel does not know what is asked for with the event '%s' (EINVAL): Linux 4.3 or later is "
		"needed; try `-e cpu-clock`",
		c->event);
}

static int explain_cgroup(const struct explain_case *c, struct err *err)
{
	return err_set(
		err, c->code,
		"the kernel does not count by this cgroup (%s): it must be of cgroup v2, or of the v1 hierarchy with "
		"the controller perf_event, and the kernel needs CONFIG_CGROUP_PERF=y; record its processes with -p, "
		"or everything with -a --by container",
		code_name(c->code));
}

static int explain_open(const struct explain_case *c, const struct explain_rights *r,
			struct err *err)
{
	if (c->cgroup && (c->code == EBADF || c->code == EINVAL || c->code == ENOENT))
		return explain_cgroup(c, err);
	switch (c->code) {
	case EACCES:
	case EPERM:
		return explain_denied(c, r, err);
	case ENOSYS:
		if (r->seccomp == 2)
			return explain_seccomp(c, err);
		return err_set(err, ENOSYS,
			       "this kernel has no perf_event_open: it needs CONFIG_PERF_EVENTS=y");
	case ESRCH:
		return err_set(
			err, ESRCH,
			"no such process: %d; it may have ended, or its number is of another pid namespace",
			(int)c->pid);
	case EMFILE:
		return err_set(
			err, EMFILE,
			"too many open files: one per thread and CPU is needed, the limit is %llu: raise it with `ulimit "
			"-n`, or record with -a",
			(unsigned long long)c->nofile);
	case ENFILE:
		return err_set(err, ENFILE,
			       "the system has too many open files: raise `sysctl fs.file-max`");
	case ENOENT:
	case EOPNOTSUPP:
		return explain_missing(c, err);
	case ENODEV:
		/* ENODEV also means: a PMU that this CPU does not have. */
		if (c->hardware || c->cpu < 0)
			return explain_missing(c, err);
		return err_set(err, ENODEV,
			       "CPU %d is offline or absent: leave it out of -C, or `echo 1 > "
			       "/sys/devices/system/cpu/cpu%d/online`",
			       c->cpu, c->cpu);
	case EINVAL:
		return explain_invalid(c, r, err);
	case EBUSY:
		return err_set(
			err, EBUSY,
			"another profiler holds the PMU exclusively (EBUSY): stop it, or use `-e cpu-clock`");
	default:
		return err_set(err, c->code, "perf_event_open for '%s': %s", c->event,
			       strerror(c->code));
	}
}

int explain(const struct explain_case *c, const struct explain_rights *rights, struct err *err)
{
	if (c->step == EXPLAIN_OPEN)
		return explain_open(c, rights, err);
	if (c->code == EPERM)
		return explain_pinned(c, rights, err);
	if (c->code == ENOMEM)
		return err_set(
			err, ENOMEM,
			"no memory for rings of %llu KiB: use a smaller --stack-bytes or fewer CPUs (-C)",
			(unsigned long long)(c->need_bytes / 1024));
	return err_set(err, c->code, "mapping a perf ring: %s", strerror(c->code));
}
