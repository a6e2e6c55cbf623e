#include "app/doctor.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "collector/collector.h"
#include "collector/probe.h"
#include "target/door.h"
#include "target/door_probe.h"
#include "unwinder/arch.h"

#include <ctype.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* include/linux/proc_ns.h: the first namespaces of each kind. */
static const uint64_t init_user_ns = 0xeffffffd, init_pid_ns = 0xeffffffc;

#define COPY(field, ...) snprintf(field, sizeof(field), __VA_ARGS__)

const char *doctor_cap_name(enum doctor_need need)
{
	static const char *const names[NEED_NUM_CAPS] = {
		[NEED_PERFMON] = "PERFMON",
		[NEED_SYS_PTRACE] = "SYS_PTRACE",
		[NEED_SYSLOG] = "SYSLOG",
		[NEED_CHECKPOINT_RESTORE] = "CHECKPOINT_RESTORE",
		[NEED_DAC_READ_SEARCH] = "DAC_READ_SEARCH",
		[NEED_IPC_LOCK] = "IPC_LOCK",
	};

	return need < NEED_NUM_CAPS ? names[need] : NULL;
}

/* "--cap-add SYSLOG, or setcap cap_syslog+ep": containers and files have capabilities by these words. */
static void fix_by_capability(struct doctor_finding *f)
{
	const char *name = doctor_cap_name(f->need);
	char lower[32] = "";

	for (size_t i = 0; name[i] && i + 1 < sizeof(lower); i++)
		lower[i] = (char)tolower((unsigned char)name[i]);
	COPY(f->fix, "--cap-add %s, or setcap cap_%s+ep on the program", name, lower);
}

static void found(const struct doctor *d, struct doctor_finding *finding)
{
	if (finding->state != DOCTOR_INFO && doctor_cap_name(finding->need) && !finding->fix[0])
		fix_by_capability(finding);
	d->found(d->data, finding);
}

/* The first number of a host text; false when it cannot be read. */
static bool number(const struct doctor *d, enum door_text which, long long *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	if (door_read_text(d->door, which, &text, NULL) < 0 || text.failed || !text.data)
		return false;
	*ret = strtoll(text.data, NULL, 10);
	return true;
}

static void check_kernel(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "kernel", .state = DOCTOR_INFO };
	struct utsname name;
	long long paranoid;

	if (uname(&name) < 0)
		return;
	COPY(f.what, "Linux %s, %s", name.release, name.machine);
	if (number(d, DOOR_PERF_PARANOID, &paranoid)) {
		size_t len = strlen(f.what);

		snprintf(f.what + len, sizeof(f.what) - len, ", perf_event_paranoid %lld", paranoid);
	}
	found(d, &f);
}

/* --- events --- */

struct event_check {
	const char *topic;
	struct probe_case what;
	enum doctor_state without;
	const char *works, *cost;
};

static const struct event_check event_checks[] = {
	{ "own process", { .event = "cpu-clock", .cgroup = -1 }, DOCTOR_NO,
	  "cpu-clock opens on a process of this user", "nothing can be recorded" },
	{ "kernel frames", { .event = "cpu-clock", .kernel = true, .cgroup = -1 }, DOCTOR_LESS,
	  "samples reach into the kernel", "time in the kernel is not seen" },
	{ "every process", { .event = "cpu-clock", .all = true, .kernel = true, .cgroup = -1 }, DOCTOR_LESS,
	  "-a, -u and --container open on every CPU", "no -a, -u, -G, --container: only -p and -t of this user's processes" },
	{ "PMU", { .event = "cycles", .cgroup = -1 }, DOCTOR_LESS, "cycles count",
	  "cpu-clock is used instead: it does not sample where interrupts are off" },
	{ "tracepoints", { .event = "sched:sched_switch", .all = true, .kernel = true, .cgroup = -1 }, DOCTOR_LESS,
	  "sched:sched_switch opens", "no -e SUBSYS:TRACEPOINT" },
};

static bool has_perfmon(void)
{
	return door_probe_capability(CAP_PERFMON) || door_probe_capability(CAP_SYS_ADMIN);
}

static void explain_event(struct doctor_finding *f, const struct event_check *check, const struct err *err)
{
	bool denied = err->code == EACCES || err->code == EPERM;

	f->state = check->without;
	COPY(f->what, "%s", err->msg);
	COPY(f->cost, "%s", check->cost);
	if (denied && strstr(err->msg, "seccomp")) {
		f->need = NEED_SECCOMP;
		COPY(f->fix, "--security-opt seccomp=unconfined, or a profile that allows perf_event_open");
	} else if (denied && !has_perfmon()) {
		f->need = NEED_PERFMON;
		COPY(f->fix, "--cap-add PERFMON, or setcap cap_perfmon+ep, or sysctl kernel.perf_event_paranoid=%d",
		     check->what.all ? 0 : check->what.kernel ? 1 : 2);
	} else if (check->what.event[0] == 's') {
		f->need = NEED_TRACEFS;
		COPY(f->fix, "mount -t tracefs tracefs /sys/kernel/tracing");
	} else {
		f->need = NEED_HOST;
	}
}

static void check_events(const struct doctor *d)
{
	for (size_t i = 0; i < sizeof(event_checks) / sizeof(event_checks[0]); i++) {
		const struct event_check *check = &event_checks[i];
		struct doctor_finding f = { .state = DOCTOR_OK };
		struct err err = { 0 };

		COPY(f.topic, "%s", check->topic);
		COPY(f.what, "%s", check->works);
		if (collector_probe(d->door, &check->what, &err) < 0)
			explain_event(&f, check, &err);
		found(d, &f);
	}
}

/* As `ringfold record` opens them, and closed at once; for those who may, of every process. */
static void check_rings(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "rings", .state = DOCTOR_OK };
	pid_t self = getpid();
	struct collector_opts opts = {
		.target = TARGET_ALL,
		.user_regs = arch_host()->perf_regs,
		.door = d->door,
	};
	const struct collector_info *info;
	struct collector *c;
	struct err err = { 0 };

	if (!has_perfmon() && collector_probe(d->door, &event_checks[2].what, NULL) < 0) {
		opts.target = TARGET_PIDS;
		opts.pids = &self;
		opts.num_pids = 1;
	}
	if (collector_open(&opts, &c, &err) < 0) {
		f.state = DOCTOR_NO;
		COPY(f.what, "%s", err.msg);
		COPY(f.cost, "nothing can be recorded");
		f.need = strstr(err.msg, "IPC_LOCK") ? NEED_IPC_LOCK : NEED_HOST;
		found(d, &f);
		return;
	}
	info = collector_info(c);
	COPY(f.what, "%llu KiB a CPU on %u CPUs, %u bytes of stack in each sample at %u Hz",
	     (unsigned long long)(info->ring_bytes >> 10), info->num_cpus, info->stack_bytes, info->freq_hz);
	for (size_t i = 0; info->notes[i]; i++) {
		if (!strstr(info->notes[i], "mlock"))
			continue;
		f.state = DOCTOR_LESS;
		COPY(f.what, "%s", info->notes[i]);
		COPY(f.cost, "rings are smaller: samples may be lost at high rates");
		COPY(f.fix, "--cap-add IPC_LOCK, or ulimit -l unlimited, or sysctl kernel.perf_event_mlock_kb=16384");
		f.need = NEED_IPC_LOCK;
	}
	collector_close(c);
	found(d, &f);
}

static void check_loss(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "loss", .state = DOCTOR_OK,
				    .what = "the kernel counts what is lost, event by event" };

	if (!collector_probe_lost()) {
		f.state = DOCTOR_INFO;
		COPY(f.what, "this kernel (before 6.0) tells of lost samples only by records between them");
	}
	found(d, &f);
}

/* The hierarchies, in the order in which recordings take them. */
static void check_cgroup(const struct doctor *d)
{
	static const char *const works[] = { "v1 (perf_event), and the kernel counts by them",
					     "v2, and the kernel counts by them" };
	struct doctor_finding f = { .topic = "cgroups", .state = DOCTOR_OK };
	struct err err = { 0 };

	for (int unified = 1; unified >= 0; unified--) {
		struct probe_case what = { .event = "cpu-clock", .kernel = true };
		_cleanup_close_ int dir = door_open_cgroup(d->door, unified, "/", unified ? &err : NULL);

		what.cgroup = dir;
		if (dir < 0 || collector_probe(d->door, &what, &err) < 0)
			continue;
		COPY(f.what, "%s", works[unified]);
		found(d, &f);
		return;
	}
	f.state = DOCTOR_LESS;
	COPY(f.what, "%s", err.msg[0] ? err.msg : "no cgroup hierarchy that perf_event counts by");
	COPY(f.cost, "-G and --container record every process and pick out theirs");
	f.need = !has_perfmon() ? NEED_PERFMON : NEED_HOST;
	found(d, &f);
}

/* --- names --- */

/* Whether /proc/kallsyms shows addresses: the first field of its first line that is not absolute zero. */
static bool kallsyms_shown(const struct doctor *d)
{
	_cleanup_close_ int fd = door_open_text(d->door, DOOR_KALLSYMS, NULL);
	bool shown = false;
	char buf[4096];

	for (int i = 0; i < 4 && fd >= 0 && !shown; i++) {
		ssize_t len = door_read_piece(fd, buf, sizeof(buf) - 1);
		const char *line = buf;

		if (len <= 0)
			break;
		buf[len] = 0;
		/* The first piece of a line that was cut is skipped: a part of an address is no address. */
		if (i)
			line = strchr(line, '\n');
		while (line && !shown) {
			line += *line == '\n';
			/* Per-CPU offsets are small and never hidden: only kernel addresses count. */
			shown = strtoull(line, NULL, 16) >> 63;
			line = strchr(line, '\n');
		}
	}
	return shown;
}

static void check_kallsyms(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "kernel symbols", .state = DOCTOR_OK,
				    .what = "/proc/kallsyms shows addresses" };
	long long restrict_value = -1;

	if (!kallsyms_shown(d)) {
		number(d, DOOR_KPTR_RESTRICT, &restrict_value);
		f.state = DOCTOR_LESS;
		COPY(f.what, "/proc/kallsyms hides addresses: kptr_restrict is %lld%s", restrict_value,
		     door_probe_capability(CAP_SYSLOG) ? "" : " and CAP_SYSLOG is missing");
		COPY(f.cost, "kernel frames show as [kernel]");
		if (restrict_value >= 2)
			COPY(f.fix, "sysctl kernel.kptr_restrict=1");
		f.need = restrict_value >= 2 ? NEED_HOST : NEED_SYSLOG;
	}
	found(d, &f);
}

static void check_map_files(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "mapped files", .state = DOCTOR_OK,
				    .what = "/proc/PID/map_files opens: deleted and replaced programs are read" };
	int r = door_probe_map_files();

	if (r < 0) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "/proc/PID/map_files does not open (%s): CAP_CHECKPOINT_RESTORE is missing", strerror(-r));
		COPY(f.cost, "programs that were deleted or replaced while they run have neither names nor callers");
		f.need = NEED_CHECKPOINT_RESTORE;
	}
	found(d, &f);
}

static void check_others(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "other processes", .state = DOCTOR_OK };
	size_t all = 0, denied = 0;

	door_probe_processes(d->door, &all, &denied);
	if (denied && !door_probe_capability(CAP_SYS_PTRACE)) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "of %zu processes %zu may not be looked into: CAP_SYS_PTRACE is missing", all, denied);
		COPY(f.cost, "their programs are known only from what they map while recording");
		f.need = NEED_SYS_PTRACE;
	} else if (denied) {
		/* Of another user namespace, or guarded by a security module. */
		COPY(f.what, "%zu of %zu processes may be looked into, %zu protect themselves", all - denied, all, denied);
	} else {
		COPY(f.what, "all %zu processes may be looked into", all);
	}
	found(d, &f);
}

static void check_private_files(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "private files", .state = DOCTOR_OK,
				    .what = "files and directories of other users can be read" };

	if (door_probe_unreadable() < 0) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "what other users keep to themselves cannot be read: CAP_DAC_READ_SEARCH is missing");
		COPY(f.cost, "programs and perf maps in private directories have no names");
		f.need = NEED_DAC_READ_SEARCH;
	}
	found(d, &f);
}

/* --- surroundings --- */

static void check_namespaces(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "namespaces", .state = DOCTOR_OK,
				    .what = "the host's: every process is seen" };
	uint64_t pid_ns = 0, user_ns = 0;

	if (door_namespace(d->door, getpid(), "pid", &pid_ns) < 0 ||
	    door_namespace(d->door, getpid(), "user", &user_ns) < 0)
		return;
	if (user_ns != init_user_ns) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "a user namespace of its own: capabilities in it do not count for perf_event_open");
		COPY(f.cost, "only this user's processes can be recorded, as perf_event_paranoid lets them");
		COPY(f.fix, "run it outside the rootless container, as root of the host");
		f.need = NEED_HOST;
		found(d, &f);
	}
	if (pid_ns != init_pid_ns) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "a pid namespace of its own: processes outside it are not seen");
		COPY(f.cost, "what runs in other containers is neither recorded nor named");
		COPY(f.fix, "docker run --pid=host, or hostPID: true");
		f.need = NEED_HOST_PID;
	}
	if (user_ns == init_user_ns || pid_ns != init_pid_ns)
		found(d, &f);
}

static void check_lockdown(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "lockdown", .state = DOCTOR_OK, .what = "none" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const char *open, *close;

	if (door_read_text(d->door, DOOR_LOCKDOWN, &text, NULL) < 0 || text.failed || !text.data) {
		f.state = DOCTOR_INFO;
		COPY(f.what, "this kernel does not tell");
	} else if ((open = strchr(text.data, '[')) && (close = strchr(open, ']')) &&
		   strncmp(open, "[none]", 6)) {
		COPY(f.what, "%.*s", (int)(close - open - 1), open + 1);
		f.state = strstr(f.what, "confidentiality") ? DOCTOR_LESS : DOCTOR_OK;
		if (f.state == DOCTOR_LESS) {
			COPY(f.cost, "tracepoints and kernel addresses are forbidden");
			COPY(f.fix, "boot without lockdown=confidentiality");
			f.need = NEED_HOST;
		}
	}
	found(d, &f);
}

static void check_rate(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "sample rate", .state = DOCTOR_OK };
	long long rate;

	if (!number(d, DOOR_PERF_MAX_RATE, &rate))
		return;
	COPY(f.what, "up to %lld samples a second and CPU", rate);
	if (rate < 1000) {
		f.state = DOCTOR_LESS;
		COPY(f.cost, "-F above that is lowered");
		COPY(f.fix, "sysctl kernel.perf_event_max_sample_rate=100000");
		f.need = NEED_HOST;
	}
	found(d, &f);
}

struct call_check {
	const char *topic, *missing;
	int r;
};

static void check_calls(const struct doctor *d)
{
	const struct call_check calls[] = {
		{ "openat2", "paths in a target's root are walked link by link instead (Linux 5.6 has it)",
		  door_probe_openat2(d->door) },
		{ "pidfd_open", "the end of a target is seen by its events alone (Linux 5.3 has it)", door_probe_pidfd() },
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct doctor_finding f = { .state = DOCTOR_OK, .what = "works" };

		COPY(f.topic, "%s", calls[i].topic);
		if (calls[i].r < 0) {
			f.state = DOCTOR_INFO;
			COPY(f.what, "%s: %s", strerror(-calls[i].r), calls[i].missing);
		}
		found(d, &f);
	}
}

static void check_jail(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "jail", .state = DOCTOR_OK,
				    .what = "what reads the targets' files has no capability and a seccomp filter" };
	int r = door_probe_jail();

	if (r < 0) {
		f.state = DOCTOR_NO;
		COPY(f.what, "no seccomp filter can be set (%s): privileges cannot be given up before files of targets "
			     "are read", strerror(-r));
		COPY(f.cost, "nothing is recorded");
		COPY(f.fix, "a kernel with CONFIG_SECCOMP_FILTER=y");
		f.need = NEED_HOST;
	}
	found(d, &f);
}

static int count_log(void *data, const char *name)
{
	(*(size_t *)data)++;
	return 0;
}

static void check_pod_names(const struct doctor *d)
{
	struct doctor_finding f = { .topic = "pod names", .state = DOCTOR_INFO };
	size_t num = 0;

	door_each_container_log(d->door, count_log, &num);
	if (num)
		COPY(f.what, "/var/log/containers tells the names of %zu container%s", num, num == 1 ? "" : "s");
	else
		COPY(f.what, "no /var/log/containers here: --by pod shows ids (in a pod: mount it from the host)");
	f.need = num ? NEED_NOTHING : NEED_LOGS;
	found(d, &f);
}

void doctor_check_machine(const struct doctor *d)
{
	static void (*const checks[])(const struct doctor *d) = {
		check_kernel,     check_events,        check_rings,  check_loss,  check_cgroup,
		check_rate,       check_kallsyms,      check_others, check_map_files, check_private_files,
		check_namespaces, check_lockdown,      check_jail,   check_calls, check_pod_names,
	};

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](d);
}
