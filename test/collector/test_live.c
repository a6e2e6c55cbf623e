/* Real rings: every kind of target, the accounting, loss, and each refusal that can be provoked. */
#include "collector/collector_priv.h"

#include "base/clock.h"
#include "base/err.h"
#include "target/door.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
static const double tolerance = 0.05;
#else
static const double tolerance = 0.01;
#endif

enum { HZ = 999, REGS = 0x1ff, NOBODY = 65534 };

static struct door *door;

/* --- targets --- */

static void *spin(void *unused)
{
	for (volatile uint64_t i = 0;; i++)
		;
	return NULL;
}

static pid_t start_busy(int cpu)
{
	pid_t pid = fork();

	if (!pid) {
		cpu_set_t set;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
		spin(NULL);
	}
	return pid;
}

static void *exit_at_once(void *unused)
{
	usleep(200);
	return NULL;
}

static void *sleep_for_ever(void *unused)
{
	for (;;)
		pause();
	return NULL;
}

static void *be_half_busy(void *unused)
{
	for (;;) {
		for (volatile int i = 0; i < 2000000; i++)
			;
		usleep(20000);
	}
	return NULL;
}

static void start_thread(void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, NULL) == 0)
		pthread_detach(thread);
}

/*
 * Busy threads, and short ones all the time. `grow` = first so many that sleep, which take long to attach to, and
 * then new ones all the while.
 */
static void be_threaded(int busy, int grow)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < busy; i++)
		start_thread(spin);
	for (int i = 0; i < grow; i++)
		start_thread(sleep_for_ever);
	for (int i = 0;; i++) {
		start_thread(i < grow ? be_half_busy : exit_at_once);
		usleep(i < grow ? 300 : 5000);
	}
}

static void become_nobody(void)
{
	cap_t none = cap_init();

	CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0);
	CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	CHECK(cap_set_proc(none) == 0);
	cap_free(none);
}

static pid_t start_threaded(int busy, int grow)
{
	pid_t pid = fork();

	if (!pid)
		be_threaded(busy, grow);
	return pid;
}

/* One that a plain user may stop; changing users forgets the parent's death signal, so that is asked for later. */
static pid_t start_as_nobody(void)
{
	pid_t pid = fork();

	if (!pid) {
		become_nobody();
		be_threaded(20, 0);
	}
	return pid;
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* --- recording --- */

struct seen {
	uint64_t samples, of_pid, of_tid, others, with_stack, with_chain;
	uint64_t last_ns, backwards, first_sample_ns;
	uint64_t forks, exits, comms, maps, lost;
	uint64_t exec_ns;
	pid_t pid, tid;
	char exec_comm[16];
};

static void see_sample(struct seen *s, const struct record *rec)
{
	const uint64_t *chain;

	s->samples++;
	if (!s->first_sample_ns)
		s->first_sample_ns = rec->time_ns;
	s->of_tid += rec->tid == s->tid;
	if (rec->pid != s->pid) {
		s->others++;
		return;
	}
	s->of_pid++;
	s->with_stack += rec->sample.stack_bytes >= 256 && rec->sample.num_regs == 9;
	s->with_chain += record_user_chain(&rec->sample, &chain) > 0;
}

static void see(void *data, const struct record *rec)
{
	struct seen *s = data;

	s->backwards += rec->time_ns < s->last_ns;
	s->last_ns = rec->time_ns;
	if (rec->type == RECORD_SAMPLE)
		see_sample(s, rec);
	s->forks += rec->type == RECORD_FORK;
	s->exits += rec->type == RECORD_EXIT;
	s->comms += rec->type == RECORD_COMM;
	s->maps += rec->type == RECORD_MMAP;
	s->lost += rec->type == RECORD_LOST;
	if (rec->type == RECORD_COMM && rec->comm.exec) {
		s->exec_ns = rec->time_ns;
		snprintf(s->exec_comm, sizeof(s->exec_comm), "%s", rec->comm.comm);
	}
}

static struct collector *open_one(const struct collector_opts *opts)
{
	struct collector *c = NULL;
	struct err err = { 0 };
	int r = collector_open(opts, &c, &err);

	if (r == -EACCES || r == -EPERM || r == -ENOSYS)
		SKIP("%s", err.msg);
	CHECK_MSG(r == 0, "%s", err.msg);
	if (r < 0)
		exit(1);
	for (size_t i = 0; collector_info(c)->notes[i]; i++)
		fprintf(stderr, "note: %s\n", collector_info(c)->notes[i]);
	return c;
}

static void drain(struct collector *c, struct seen *seen, bool all)
{
	struct collector_sink sink = { .record = see, .data = seen };
	struct err err = { 0 };

	CHECK_MSG(collector_drain(c, &sink, all, &err) == 0, "%s", err.msg);
}

/* Drains as it is woken, for so long; false when all targets ended before. */
static bool record_for(struct collector *c, struct seen *seen, uint64_t ms)
{
	uint64_t end = clock_monotonic_ns() + ms * 1000000;

	while (clock_monotonic_ns() < end) {
		struct err err = { 0 };
		int r = collector_wait(c, -1, &err);

		CHECK_MSG(r == 1 || r == 3, "%d %s", r, err.msg);
		if (r != 1)
			return false;
		drain(c, seen, false);
	}
	return true;
}

static void finish(struct collector *c, struct seen *seen)
{
	struct err err = { 0 };

	CHECK_MSG(collector_disable(c, &err) == 0, "%s", err.msg);
	drain(c, seen, true);
}

static void print_counts(const char *what, const struct collector_counts *n, const struct seen *s)
{
	fprintf(stderr,
		"%s: samples %llu lost %llu (records %llu) side_lost %llu throttled %llu malformed %llu duplicates %llu "
		"disorder %llu; forks %llu exits %llu comms %llu maps %llu\n",
		what, (unsigned long long)n->samples, (unsigned long long)n->lost,
		(unsigned long long)n->lost_records, (unsigned long long)n->side_lost,
		(unsigned long long)n->throttled, (unsigned long long)n->malformed,
		(unsigned long long)n->duplicates, (unsigned long long)n->disorder,
		(unsigned long long)s->forks, (unsigned long long)s->exits,
		(unsigned long long)s->comms, (unsigned long long)s->maps);
}

static int num_online(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* --- every process --- */

/* Of all CPUs since boot, and a clock tick more than that at most: "steal" in proc(5). */
static double stolen_seconds(void)
{
	unsigned long long steal = 0;
	FILE *file = fopen("/proc/stat", "re");

	if (file && fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &steal) != 1)
		steal = 0;
	if (file)
		fclose(file);
	return (double)steal / (double)sysconf(_SC_CLK_TCK);
}

/* Hz x CPUs x seconds = samples + lost. `stall_ms` without draining, into rings that are too small for it. */
static void check_identity(uint64_t stall_ms)
{
	struct collector_opts opts = { .target = TARGET_ALL,
				       .freq_hz = HZ,
				       .user_regs = REGS,
				       .event = "cpu-clock",
				       .door = door };
	int cpus = num_online();
	pid_t busy[64] = { 0 };
	struct collector_counts n;
	struct collector *c;
	struct seen seen = { 0 };
	uint64_t start_ns, took_ns;
	double want, got, stolen;

	for (int i = 0; i < cpus && i < 64; i++)
		busy[i] = start_busy(i);
	stolen = stolen_seconds();
	seen.pid = busy[0];
	c = open_one(&opts);
	CHECK(collector_info(c)->kernel && collector_info(c)->freq_hz == HZ &&
	      !collector_info(c)->filtered);
	CHECK(collector_info(c)->num_cpus == (uint32_t)cpus);
	setpriority(PRIO_PROCESS, 0, -20); /* as the program does: nothing may come between these two */
	start_ns = clock_monotonic_ns();
	CHECK(collector_enable(c, NULL) == 0);
	record_for(c, &seen, 500);
	if (stall_ms)
		usleep((useconds_t)stall_ms * 1000);
	record_for(c, &seen, 500);
	CHECK(collector_disable(c, NULL) == 0);
	took_ns = clock_monotonic_ns() - start_ns;
	setpriority(PRIO_PROCESS, 0, 0);
	drain(c, &seen, true);
	n = collector_counts(c);
	print_counts(stall_ms ? "all, stalled" : "all", &n, &seen);
	want = (double)HZ * cpus * (double)took_ns / 1e9;
	got = (double)(n.samples + n.lost);
	/* What the host took from this machine no timer of it can count. */
	stolen = (double)HZ * (stolen_seconds() - stolen);
	CHECK_MSG(got > want * (1 - tolerance) - stolen && got < want * (1 + tolerance),
		  "%.0f of %.0f, %.0f stolen", got, want, stolen);
	CHECK(n.samples == seen.samples && n.malformed == 0 && n.duplicates == 0);
	CHECK(seen.backwards == n.disorder && n.disorder <= n.samples / 1000);
	CHECK(seen.of_pid > 0 && seen.with_stack >= seen.of_pid * 99 / 100);
	/* Whatever the kernel said twice, it said alike. */
	CHECK(!n.lost_exact || n.lost == n.lost_records);
	CHECK((n.lost > 0) == (stall_ms > 0) && (seen.lost > 0) == (stall_ms > 0));
	collector_close(c);
	for (int i = 0; i < cpus && i < 64; i++)
		stop(busy[i]);
}

static void test_side_band(void)
{
	struct collector_opts opts = {
		.target = TARGET_ALL, .freq_hz = 99, .user_regs = REGS, .door = door
	};
	struct collector *c = open_one(&opts);
	struct seen seen = { 0 };
	pid_t pid;

	CHECK(collector_enable(c, NULL) == 0);
	pid = fork();
	if (!pid) {
		execl("/bin/true", "true-name", NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	record_for(c, &seen, 150);
	finish(c, &seen);
	CHECK(seen.forks >= 1 && seen.exits >= 1 && seen.maps >= 2 && seen.exec_ns);
	CHECK(collector_rescan_cpus(c, NULL) == 0);
	collector_close(c);
}

/* --- cgroups --- */

static void join(int dir, pid_t pid)
{
	int fd = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && dprintf(fd, "%d\n", (int)pid) > 0);
	close(fd);
}

/* Two cgroups, of which one holds another; a process in each, one outside, and one that comes later. */
static void test_cgroups(void)
{
	static const char *const names[] = { "ringfold-test-a", "ringfold-test-b", "ringfold-test-a/below" };
	struct collector_opts opts = { .target = TARGET_CGROUP, .freq_hz = HZ, .user_regs = REGS,
				       .event = "cpu-clock", .door = door, .num_cgroups = 2 };
	int root = door_open_cgroup(door, true, "/", NULL), dirs[3];
	struct seen seen = { 0 };
	struct collector_counts n;
	struct collector *c;
	pid_t pids[4];

	if (root < 0 || (mkdirat(root, names[0], 0755) < 0 && errno != EEXIST)) {
		fprintf(stderr, "not tried: cgroups, as v2 is not mounted or may not be written\n");
		close(root);
		return;
	}
	mkdirat(root, names[1], 0755);
	mkdirat(root, names[2], 0755);
	for (int i = 0; i < 3; i++)
		dirs[i] = openat(root, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 4; i++)
		pids[i] = start_busy(0);
	join(dirs[1], pids[0]);
	join(dirs[2], pids[1]);
	opts.cgroups = dirs;
	c = open_one(&opts);
	CHECK(!collector_info(c)->filtered);
	seen.pid = pids[0];
	seen.tid = pids[1];
	CHECK(collector_enable(c, NULL) == 0);
	/* The machine may have much other work. */
	for (int i = 0; i < 30 && (seen.of_pid <= 30 || seen.of_tid <= 30); i++)
		record_for(c, &seen, 200);
	CHECK(seen.of_pid > 30 && seen.of_tid > 30 && seen.with_stack >= seen.of_pid * 99 / 100);
	CHECK(seen.samples == seen.of_pid + seen.of_tid);
	seen = (struct seen){ .pid = pids[3], .last_ns = seen.last_ns };
	join(dirs[0], pids[3]);
	for (int i = 0; i < 30 && seen.of_pid <= 30; i++)
		record_for(c, &seen, 200);
	CHECK(seen.of_pid > 30);
	finish(c, &seen);
	n = collector_counts(c);
	print_counts("cgroups", &n, &seen);
	CHECK(n.lost == 0 && n.malformed == 0);
	collector_close(c);
	/* Any other directory is none that the kernel counts by. */
	opts.cgroups = &(int){ open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	opts.num_cgroups = 1;
	c = open_one(&opts);
	CHECK(collector_info(c)->filtered);
	collector_close(c);
	close(*opts.cgroups);
	for (int i = 0; i < 4; i++)
		stop(pids[i]);
	for (int i = 2; i >= 0; i--) {
		close(dirs[i]);
		CHECK(unlinkat(root, names[i], AT_REMOVEDIR) == 0);
	}
	close(root);
}

/* A CPU that came back: its old events are closed and counted, new ones take their place. It never really went. */
static void test_cpu_returns(void)
{
	struct collector_opts opts = {
		.target = TARGET_ALL, .freq_hz = 50, .event = "cpu-clock", .door = door
	};
	struct collector *c = open_one(&opts);
	struct seen seen = { 0 };
	size_t num_events = c->events.len;
	int cpu = c->slots.data[0].cpu, old_fd = c->slots.data[0].streams[STREAM_SAMPLES].owner_fd;
	pid_t busy = start_busy(cpu);

	CHECK(collector_enable(c, NULL) == 0);
	c->slots.data[0].gone = true;
	c->closed_lost[STREAM_SAMPLES] = 3;
	CHECK(ioctl(old_fd, PERF_EVENT_IOC_DISABLE, 0) == 0);
	for (int i = 0; i < 1000 && c->slots.data[0].gone; i++) {
		drain(c, &seen, true);
		CHECK(collector_rescan_cpus(c, NULL) == 0);
	}
	CHECK(!c->slots.data[0].gone && c->events.len == num_events &&
	      c->slots.data[0].barrier_fd >= 0);
	seen = (struct seen){ .pid = busy };
	for (int i = 0; i < 50 && seen.of_pid <= 2; i++) /* others may want the CPUs too */
		record_for(c, &seen, 400);
	CHECK(seen.of_pid > 2 && collector_counts(c).lost == 3);
	stop(busy);
	collector_close(c);
}

/* One that went and came back between two looks: nothing tells but that its events stand still. */
static void test_cpu_was_away(void)
{
	struct collector_opts opts = {
		.target = TARGET_ALL, .freq_hz = 50, .event = "cpu-clock", .door = door
	};
	struct collector *c = open_one(&opts);
	const struct slot *slot = &c->slots.data[0];
	const void *page = slot->streams[STREAM_SAMPLES].ring.page;
	int old_barrier = slot->barrier_fd;
	size_t num_events = c->events.len;
	struct seen seen = { 0 };

	CHECK(collector_enable(c, NULL) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(collector_rescan_cpus(c, NULL) == 0 && !slot->gone && slot->barrier_fd == old_barrier);
	for (size_t i = 0; i < num_events; i++) {
		if (c->events.data[i].slot == 0)
			CHECK(ioctl(c->events.data[i].fd, PERF_EVENT_IOC_DISABLE, 0) == 0);
	}
	drain(c, &seen, true);
	CHECK(collector_rescan_cpus(c, NULL) == 0); /* the look before this one was another time */
	for (int i = 0; i < 1000 && slot->barrier_fd == old_barrier; i++) {
		drain(c, &seen, true);
		CHECK(collector_rescan_cpus(c, NULL) == 0);
	}
	CHECK(!slot->gone && slot->barrier_fd != old_barrier && c->events.len == num_events);
	CHECK(slot->streams[STREAM_SAMPLES].ring.page == page && slot->enabled_ns == 0);
	seen = (struct seen){ .pid = start_busy(slot->cpu) };
	for (int i = 0; i < 50 && seen.of_pid <= 2; i++)
		record_for(c, &seen, 400);
	CHECK(seen.of_pid > 2);
	stop(seen.pid);
	collector_close(c);
}

/* A CPU that came back and may not be opened again: the others are recorded on. */
static void test_cpu_refused(void)
{
	struct collector_opts opts = {
		.target = TARGET_ALL, .freq_hz = 50, .event = "cpu-clock", .door = door
	};
	struct collector *c = open_one(&opts);
	int cpu = c->slots.data[0].cpu;
	struct seen seen = { 0 };
	const char *note;
	char want[64];
	pid_t busy;

	if (c->slots.len < 2) {
		fprintf(stderr, "not tried: one CPU\n");
		collector_close(c);
		return;
	}
	busy = start_busy(c->slots.data[1].cpu);
	CHECK(collector_enable(c, NULL) == 0);
	c->slots.data[0].gone = true;
	CHECK(ioctl(c->slots.data[0].streams[STREAM_SAMPLES].owner_fd, PERF_EVENT_IOC_DISABLE, 0) == 0);
	c->attrs[STREAM_SIDE].type = 4711; /* no kernel has such an event */
	for (int i = 0; i < 20; i++) {
		drain(c, &seen, true);
		CHECK(collector_rescan_cpus(c, NULL) == 0);
	}
	CHECK(c->slots.data[0].gone && c->slots.data[0].refused);
	note = c->num_notes ? c->info.notes[c->num_notes - 1] : "";
	snprintf(want, sizeof(want), "CPU %d came online and is not recorded: ", cpu);
	CHECK_MSG(!strncmp(note, want, strlen(want)), "%s", note);
	CHECK(c->num_notes < 2 || strncmp(c->info.notes[c->num_notes - 2], want, strlen(want)));
	seen = (struct seen){ .pid = busy };
	for (int i = 0; i < 50 && seen.of_pid < 3; i++)
		record_for(c, &seen, 100);
	finish(c, &seen);
	CHECK(seen.of_pid > 2);
	stop(busy);
	collector_close(c);
}

/* --- processes, threads, commands --- */

/* Threads that are born while we attach have their own events and inherited ones: each counts once. */
static uint64_t check_pids(int grow)
{
	pid_t pid = start_threaded(2, grow);
	struct collector_opts opts = { .target = TARGET_PIDS,
				       .pids = &pid,
				       .num_pids = 1,
				       .freq_hz = HZ,
				       .user_regs = REGS,
				       .stack_bytes = 4096,
				       .event = "cpu-clock",
				       .door = door };
	struct seen seen = { .pid = pid };
	struct collector_counts n;
	struct collector *c;
	uint64_t start_ns;
	clockid_t clock;
	double want;

	CHECK(clock_getcpuclockid(pid, &clock) == 0);
	usleep(3000);
	c = open_one(&opts);
	start_ns = clock_ns(clock);
	CHECK(collector_enable(c, NULL) == 0);
	CHECK(record_for(c, &seen, 500));
	CHECK(collector_disable(c, NULL) == 0);
	want = (double)HZ * (double)(clock_ns(clock) - start_ns) / 1e9;
	drain(c, &seen, true);
	n = collector_counts(c);
	print_counts(grow ? "growing process" : "process", &n, &seen);
	CHECK(seen.others == 0 && seen.of_pid > 0 && n.malformed == 0 && seen.forks > 10);
	/* The clock of each thread starts anew on each CPU: what a thread runs in less than a period is not seen. */
	CHECK_MSG((double)n.samples < want * 1.05, "%llu of %.0f", (unsigned long long)n.samples,
		  want);
	/* Hundreds of threads begin to count one by one, so that only the upper bound holds for them. */
	CHECK_MSG(grow || (double)(n.samples + n.lost) > want * 0.8, "%llu of %.0f",
		  (unsigned long long)n.samples, want);
	/* It ends, and so does the wait. */
	stop(pid);
	for (int i = 0; i < 200 && collector_wait(c, -1, NULL) != 3; i++)
		;
	CHECK(collector_wait(c, -1, NULL) == 3);
	collector_close(c);
	return n.duplicates;
}

/* The second thread: a busy one. */
static int take_second(void *data, pid_t tid)
{
	pid_t *ret = data;

	*ret = tid;
	return tid != ret[1];
}

static void test_tids(void)
{
	pid_t pid = start_threaded(2, 0);
	pid_t found[2] = { 0, pid }, tid;
	struct collector_opts opts = { .target = TARGET_TIDS,
				       .pids = &tid,
				       .num_pids = 1,
				       .freq_hz = HZ,
				       .user_regs = REGS,
				       .event = "cpu-clock",
				       .door = door };
	struct seen seen = { .pid = pid };
	struct collector *c;

	for (int i = 0; i < 1000 && door_each_task(door, pid, take_second, found, NULL) != 1; i++)
		usleep(1000);
	seen.tid = tid = found[0];
	CHECK(tid != pid);
	c = open_one(&opts);
	CHECK(collector_enable(c, NULL) == 0);
	for (int i = 0; i < 50 && (seen.samples <= 30 || seen.forks <= 10); i++)
		CHECK(record_for(c, &seen, 300));
	finish(c, &seen);
	CHECK(seen.samples > 30 && seen.of_tid == seen.samples && seen.with_stack == seen.samples);
	CHECK(seen.forks > 10); /* by other threads: the side-band is the process's */
	CHECK(collector_counts(c).duplicates == 0);
	stop(pid);
	for (int i = 0; i < 200 && collector_wait(c, -1, NULL) != 3; i++)
		;
	CHECK(collector_wait(c, -1, NULL) == 3);
	collector_close(c);
}

static void test_command(void)
{
	int go[2];
	pid_t pid;
	struct collector_opts opts = { .target = TARGET_COMMAND,
				       .pids = &pid,
				       .num_pids = 1,
				       .freq_hz = HZ,
				       .user_regs = REGS,
				       .event = "cpu-clock",
				       .door = door };
	struct seen seen = { 0 };
	struct collector *c;
	char byte;

	CHECK(pipe2(go, O_CLOEXEC) == 0);
	pid = fork();
	if (!pid) {
		close(go[1]);
		while (clock_cpu_ns() < 50000000) /* busy, but not the command yet */
			;
		if (read(go[0], &byte, 1) == 0)
			execl("/bin/sh", "sh", "-c",
			      "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", NULL);
		_exit(1);
	}
	close(go[0]);
	seen.pid = pid;
	c = open_one(&opts);
	CHECK(collector_enable(c, NULL) == 0);
	usleep(100000);
	close(go[1]);
	CHECK(!record_for(c, &seen, 20000));
	finish(c, &seen);
	CHECK(seen.samples > 10 && seen.of_pid == seen.samples && seen.maps > 2);
	CHECK_STR(seen.exec_comm, "sh");
	CHECK(seen.exec_ns && seen.first_sample_ns + 1000000 > seen.exec_ns);
	CHECK(collector_wait(c, -1, NULL) == 3);
	waitpid(pid, NULL, 0);
	collector_close(c);
}

static void test_wait(void)
{
	struct collector_opts opts = {
		.target = TARGET_ALL, .freq_hz = 1, .event = "cpu-clock", .door = door
	};
	struct collector *c = open_one(&opts);
	int wake = eventfd(1, EFD_CLOEXEC);
	uint64_t start_ns, took_ns = UINT64_MAX;

	CHECK(collector_info(c)->stack_bytes == 0);
	CHECK(collector_wait(c, wake, NULL) == 2);
	CHECK(collector_wait(c, -1, NULL) == 1); /* the timer: 100 ms */
	CHECK(collector_set_period(c, 1000000, NULL) == 0);
	for (int tries = 0; took_ns >= 1000000000 && tries < 10; tries++) { /* it may have to wait for a CPU */
		start_ns = clock_monotonic_ns();
		for (int i = 0; i < 20; i++)
			CHECK(collector_wait(c, -1, NULL) == 1);
		took_ns = clock_monotonic_ns() - start_ns;
	}
	CHECK(took_ns < 1000000000);
	CHECK(collector_set_period(c, 0, NULL) == -EINVAL);
	close(wake);
	collector_close(c);
}

/* --- refusals --- */

/* Runs it in a child, as what it does to itself cannot be undone. */
static void apart(const char *what, void (*run)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		check_failures = 0;
		run();
		fflush(NULL);
		_exit(check_failures ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", what);
}

static void expect_refusal(const struct collector_opts *opts, int code, const char *word,
			   const char *word2)
{
	struct collector *c = NULL;
	struct err err = { 0 };
	int r = collector_open(opts, &c, &err);

	fprintf(stderr, "%d: %s\n", r, err.msg);
	CHECK_MSG(r == -code, "%d instead of %d", r, -code);
	CHECK_MSG(strstr(err.msg, word) && strstr(err.msg, word2), "no \"%s\" or \"%s\"", word,
		  word2);
	CHECK(!c);
	collector_close(c);
}

static int read_int(const char *path)
{
	FILE *file = fopen(path, "re");
	int ret = 0;

	if (!file || fscanf(file, "%d", &ret) != 1)
		ret = -100;
	if (file)
		fclose(file);
	return ret;
}

static void refuse_all_to_nobody(void)
{
	struct collector_opts opts = { .target = TARGET_ALL, .door = door };

	become_nobody();
	if (read_int("/proc/sys/kernel/perf_event_paranoid") > 0)
		expect_refusal(&opts, EACCES, "sampling every process needs CAP_PERFMON",
			       "kernel.perf_event_paranoid=0");
}

static void refuse_without_capability(void)
{
	static const cap_value_t drop[] = { CAP_PERFMON, CAP_SYS_ADMIN };
	struct collector_opts opts = { .target = TARGET_ALL, .door = door };
	cap_t caps = cap_get_proc();

	CHECK(cap_set_flag(caps, CAP_EFFECTIVE, 2, drop, CAP_CLEAR) == 0);
	CHECK(cap_set_proc(caps) == 0);
	cap_free(caps);
	if (read_int("/proc/sys/kernel/perf_event_paranoid") > 0)
		expect_refusal(&opts, EACCES, "needs CAP_PERFMON", "setcap");
}

static void refuse_foreign_pid(void)
{
	pid_t parent = getppid();
	struct collector_opts opts = {
		.target = TARGET_PIDS, .pids = &parent, .num_pids = 1, .door = door
	};

	become_nobody();
	if (read_int("/proc/sys/kernel/perf_event_paranoid") <= 2)
		expect_refusal(&opts, EACCES, "may not be looked into", "cap_sys_ptrace");
}

static bool has_note(const struct collector *c, const char *word)
{
	const char *const *note = collector_info(c)->notes;

	for (; *note; note++) {
		fprintf(stderr, "note: %s\n", *note);
		if (strstr(*note, word))
			return true;
	}
	return false;
}

/* A plain user on its own process: less, and it says what. */
static void serve_nobody(void)
{
	pid_t self = getpid();
	struct collector_opts opts = { .target = TARGET_PIDS,
				       .pids = &self,
				       .num_pids = 1,
				       .freq_hz = HZ,
				       .user_regs = REGS,
				       .event = "cpu-clock",
				       .door = door };
	struct rlimit none = { 0, 0 };
	struct seen seen = { .pid = self };
	struct collector *c = NULL;
	struct err err = { 0 };
	uint64_t end;

	become_nobody();
	if (read_int("/proc/sys/kernel/perf_event_paranoid") != 2)
		return;
	setrlimit(RLIMIT_MEMLOCK, &none);
	CHECK_MSG(collector_open(&opts, &c, &err) == 0, "%s", err.msg);
	if (!c)
		return;
	CHECK(!collector_info(c)->kernel &&
	      has_note(c, "user mode only: perf_event_paranoid is 2"));
	CHECK(has_note(c, "perf_event_mlock_kb") && has_note(c, "stack copies of"));
	CHECK(collector_info(c)->ring_bytes >= 64 * 1024 &&
	      collector_info(c)->ring_bytes < 8 << 20);
	CHECK(collector_enable(c, NULL) == 0);
	for (int i = 0; i < 5; i++) {
		/* Mostly in user mode: reading this clock is a system call. */
		end = clock_cpu_ns() + 20000000;
		while (clock_cpu_ns() < end)
			for (volatile int k = 0; k < 100000; k++)
				;
		drain(c, &seen, false);
	}
	finish(c, &seen);
	CHECK_MSG(seen.samples > 20 && seen.of_pid == seen.samples, "%llu of %llu",
		  (unsigned long long)seen.of_pid, (unsigned long long)seen.samples);
	CHECK(seen.backwards == 0);
	collector_close(c);
}

/* perf_event_open answers `code`; everything else goes on. */
static void install_filter(int code)
{
	struct sock_filter code_of[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code_of) / sizeof(code_of[0]),
				      .filter = code_of };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void refuse_by_filter(int code, const char *name)
{
	struct collector_opts opts = { .target = TARGET_ALL, .door = door };

	install_filter(code);
	expect_refusal(&opts, code, "seccomp filter forbids perf_event_open", name);
}

static void refuse_by_eperm(void)
{
	refuse_by_filter(EPERM, "EPERM");
}

static void refuse_by_enosys(void)
{
	refuse_by_filter(ENOSYS, "ENOSYS");
}

static void refuse_by_eacces(void)
{
	refuse_by_filter(EACCES, "EACCES");
}

static void refuse_absent(void)
{
	uint8_t cpus[512] = { [511] = 0x80 };
	pid_t pid = fork();
	struct collector_opts opts = {
		.target = TARGET_PIDS, .pids = &pid, .num_pids = 1, .door = door
	};
	char words[64];

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	snprintf(words, sizeof(words), "no such process: %d", (int)pid);
	expect_refusal(&opts, ESRCH, words, "pid namespace");
	opts.target = TARGET_TIDS;
	expect_refusal(&opts, ESRCH, words, "pid namespace");
	opts = (struct collector_opts){
		.target = TARGET_ALL, .cpus = cpus, .num_cpu_bits = 4096, .door = door
	};
	expect_refusal(&opts, ENODEV, "CPU 4095 is offline",
		       "/sys/devices/system/cpu/cpu4095/online");
	opts = (struct collector_opts){ .target = TARGET_ALL,
					.event = "no-such-event",
					.door = door };
	expect_refusal(&opts, EINVAL, "no-such-event", "cpu-clock");
	if (access("/sys/bus/event_source/devices/cpu", F_OK) < 0) {
		opts.event = "cycles";
		expect_refusal(&opts, ENOENT, "'cycles'", "no PMU");
	}
	if (collector_open(&(struct collector_opts){ .target = TARGET_PIDS, .door = door }, NULL,
			   NULL) != -EINVAL)
		CHECK(!"no process was chosen");
}

static int count_one(void *data, pid_t id)
{
	(void)id;
	++*(int *)data;
	return 0;
}

static int count_tasks(pid_t pid)
{
	int num = 0;

	return door_each_task(door, pid, count_one, &num, NULL) ? 0 : num;
}

/* More threads than descriptors: everything is recorded and the caller filters; a plain user is refused. */
static void few_descriptors(bool nobody)
{
	enum { NUM_THREADS = 21 };
	struct rlimit few = { 100, 100 };
	pid_t pid = nobody ? start_as_nobody() : start_threaded(20, 0);
	struct collector_opts opts = { .target = TARGET_PIDS,
				       .pids = &pid,
				       .num_pids = 1,
				       .event = "cpu-clock",
				       .door = door };
	struct collector *c = NULL;
	struct err err = { 0 };

	for (int i = 0; i < 5000 && count_tasks(pid) < NUM_THREADS; i++)
		usleep(1000);
	setrlimit(RLIMIT_NOFILE, &few);
	if (nobody) {
		become_nobody();
		if (read_int("/proc/sys/kernel/perf_event_paranoid") > 0)
			expect_refusal(&opts, EMFILE, "too many open files", "ulimit -n");
		stop(pid);
		return;
	}
	CHECK_MSG(collector_open(&opts, &c, &err) == 0, "%s", err.msg);
	if (c)
		CHECK(collector_info(c)->filtered && has_note(c, "ulimit -n"));
	stop(pid);
	for (int i = 0; c && i < 50 && collector_wait(c, -1, NULL) != 3; i++)
		;
	CHECK(c && collector_wait(c, -1, NULL) == 3);
	collector_close(c);
}

static void few_for_root(void)
{
	few_descriptors(false);
}

static void few_for_nobody(void)
{
	few_descriptors(true);
}

static void too_fast(void)
{
	int max = read_int("/proc/sys/kernel/perf_event_max_sample_rate");
	struct collector_opts opts = { .target = TARGET_ALL,
				       .freq_hz = (uint32_t)max + 1,
				       .event = "cpu-clock",
				       .door = door };
	struct collector *c = open_one(&opts);

	CHECK(collector_info(c)->freq_hz == (uint32_t)max &&
	      has_note(c, "perf_event_max_sample_rate"));
	collector_close(c);
}

static void test_refusals(void)
{
	if (geteuid()) {
		fprintf(stderr, "not root: refusals are not provoked\n");
		return;
	}
	apart("-a as nobody", refuse_all_to_nobody);
	apart("-a without CAP_PERFMON", refuse_without_capability);
	apart("another user's process", refuse_foreign_pid);
	apart("own process as nobody", serve_nobody);
	apart("seccomp EPERM", refuse_by_eperm);
	apart("seccomp ENOSYS", refuse_by_enosys);
	apart("seccomp EACCES", refuse_by_eacces);
	apart("absent things", refuse_absent);
	apart("few descriptors", few_for_root);
	apart("few descriptors as nobody", few_for_nobody);
	apart("too fast", too_fast);
}

int main(void)
{
	struct err err = { 0 };
	uint64_t duplicates = 0;

	CHECK_MSG(door_new(&door, &err) == 0, "%s", err.msg);
	check_identity(0);
	check_identity(500);
	test_side_band();
	test_cgroups();
	test_cpu_returns();
	test_cpu_was_away();
	test_cpu_refused();
	check_pids(0);
	/* Whether any thread is born between two of our system calls is chance; test_drain.c leaves none to it. */
	for (int i = 0; i < 5 && !duplicates; i++)
		duplicates = check_pids(300);
	test_tids();
	test_command();
	test_wait();
	test_refusals();
	door_free(door);
	return check_done();
}
