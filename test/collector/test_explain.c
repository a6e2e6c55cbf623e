#include "collector/explain_priv.h"

#include "base/err.h"
#include "test/check.h"

#include <errno.h>

/* A plain user on an ordinary machine. */
static const struct explain_rights plain = {
	.paranoid = 2,
	.paranoid_known = true,
	.lockdown = "none",
	.mlock_kb = 516,
	.memlock_bytes = 65536,
	.max_rate_hz = 100000,
};

static struct explain_case one(int code)
{
	return (struct explain_case){
		.code = code, .event = "cpu-clock", .cpu = -1, .pid = -1, .kernel = true
	};
}

static int num_sentences;
static char sentences[64][400];

/* The sentence names each word; no two cases may be told alike. */
static void expect(const struct explain_case *c, const struct explain_rights *r,
		   const char *const *words)
{
	struct err err = { 0 };

	CHECK(explain(c, r, &err) == -c->code && err.code == c->code);
	for (; *words; words++)
		CHECK_MSG(strstr(err.msg, *words), "no \"%s\" in: %s", *words, err.msg);
	CHECK_MSG(strlen(err.msg) < sizeof(err.msg) - 1, "cut: %s", err.msg);
	CHECK(!strchr(err.msg, '\n') && err.msg[strlen(err.msg) - 1] != '.');
	for (int i = 0; i < num_sentences; i++)
		CHECK_MSG(strcmp(sentences[i], err.msg), "twice: %s", err.msg);
	snprintf(sentences[num_sentences++], sizeof(sentences[0]), "%s", err.msg);
}

#define EXPECT(c, r, ...) expect(c, r, (const char *const[]){ __VA_ARGS__, NULL })

static void test_paranoid(void)
{
	struct explain_case c = one(EACCES);
	struct explain_rights r = plain;

	EXPECT(&c, &r, "sampling the kernel", "perf_event_paranoid is 2", "CAP_PERFMON",
	       "kernel.perf_event_paranoid=1");
	c.all = true;
	EXPECT(&c, &r, "every process", "perf_event_paranoid is 2", "setcap",
	       "kernel.perf_event_paranoid=0");
	c.all = c.kernel = false;
	r.paranoid = 4;
	EXPECT(&c, &r, "sampling a process", "perf_event_paranoid is 4",
	       "kernel.perf_event_paranoid=2");
	c.code = EPERM; /* Debian's patched kernel */
	r.paranoid = 3;
	EXPECT(&c, &r, "perf_event_paranoid is 3");
}

static void test_capability(void)
{
	struct explain_case c = one(EACCES);
	struct explain_rights r = plain;

	r.cap_perfmon = true;
	EXPECT(&c, &r, "though CAP_PERFMON is held", "user namespace", "SELinux");
	r = plain;
	c.kernel = false;
	c.pid = 4321; /* paranoid 2 allows user code of own processes: this one is not ours */
	EXPECT(&c, &r, "process 4321", "another user", "cap_sys_ptrace");
}

static void test_seccomp(void)
{
	struct explain_case c = one(EPERM);
	struct explain_rights r = plain;

	r.seccomp = 2;
	EXPECT(&c, &r, "seccomp", "EPERM", "seccomp=unconfined");
	c.code = ENOSYS;
	EXPECT(&c, &r, "seccomp", "ENOSYS");
	c.code = EACCES;
	r.cap_perfmon = true;
	EXPECT(&c, &r, "seccomp", "EACCES");
	r.seccomp = 0;
	c.code = ENOSYS;
	EXPECT(&c, &r, "CONFIG_PERF_EVENTS");
}

static void test_lockdown(void)
{
	struct explain_case c = one(EPERM);
	struct explain_rights r = plain;

	r.cap_perfmon = true;
	snprintf(r.lockdown, sizeof(r.lockdown), "integrity");
	EXPECT(&c, &r, "lockdown (integrity)", "Secure Boot");
	snprintf(r.lockdown, sizeof(r.lockdown), "confidentiality");
	EXPECT(&c, &r, "lockdown (confidentiality)");
}

static void test_mlock(void)
{
	struct explain_case c = one(EPERM);

	c.step = EXPLAIN_MMAP;
	c.num_cpus = 2;
	c.need_bytes = 2048 * 1024;
	EXPECT(&c, &plain, "pin 2048 KiB", "perf_event_mlock_kb 516 x 2 CPUs",
	       "RLIMIT_MEMLOCK 64 KiB", "kernel.perf_event_mlock_kb=1541", "CAP_IPC_LOCK");
	c.code = ENOMEM;
	EXPECT(&c, &plain, "no memory", "2048 KiB");
}

static void test_rest(void)
{
	struct explain_case c = one(ESRCH);

	c.pid = 999;
	EXPECT(&c, &plain, "no such process: 999");
	c = one(EBADF);
	c.cgroup = true;
	EXPECT(&c, &plain, "does not count by this cgroup (EBADF)", "cgroup v2", "perf_event", "--by container");
	c.code = ENOENT; /* a hierarchy of v1 without perf_event, or no cgroup any more */
	EXPECT(&c, &plain, "does not count by this cgroup (ENOENT)");
	c = one(EMFILE);
	c.nofile = 1024;
	EXPECT(&c, &plain, "the limit is 1024", "ulimit -n");
	c = one(ENFILE);
	EXPECT(&c, &plain, "fs.file-max");
	c = one(ENOENT);
	c.event = "cycles";
	c.hardware = true;
	EXPECT(&c, &plain, "'cycles'", "no PMU", "-e cpu-clock");
	c.code = EOPNOTSUPP;
	EXPECT(&c, &plain, "EOPNOTSUPP", "no PMU");
	c = one(EOPNOTSUPP);
	c.event = "dummy";
	EXPECT(&c, &plain, "cannot sample the event 'dummy'");
	c = one(EINVAL);
	c.freq_hz = 200000;
	EXPECT(&c, &plain, "200000 samples a second", "-F 100000",
	       "perf_event_max_sample_rate=200000");
	c.freq_hz = 99;
	EXPECT(&c, &plain, "EINVAL", "Linux");
	c = one(ENODEV);
	c.cpu = 7;
	EXPECT(&c, &plain, "CPU 7 is offline", "/sys/devices/system/cpu/cpu7/online");
	c = one(EBUSY);
	EXPECT(&c, &plain, "another profiler");
	c = one(E2BIG);
	EXPECT(&c, &plain, "Argument list too long");
}

int main(void)
{
	test_paranoid();
	test_capability();
	test_seccomp();
	test_lockdown();
	test_mlock();
	test_rest();
	return check_done();
}
