/* What is told of what was there before: of ourselves, and of the kernel where it may be seen. */
#include "collector/synth.h"

#include "base/err.h"
#include "target/door.h"
#include "test/check.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
	pid_t pid, tid; /* looked for */
	size_t num, comms, maps, others, forks, exits;
	bool thread, own_code, anon, data, stack, after_comm, init, given; /* its first thread's name was given */
};

static void *code; /* an executable page without a file */
static pid_t thread_tid;

static void look(void *data, const struct record *rec)
{
	struct seen *s = data;

	s->num++;
	CHECK(rec->time_ns == 0);
	s->init |= rec->pid == 1;
	if (rec->pid != s->pid) {
		s->others++;
		return;
	}
	if (rec->type == RECORD_FORK) {
		bool leader = rec->tid == s->pid;

		CHECK(s->forks++ == s->comms && !s->maps);
		CHECK(rec->raw_type == PERF_RECORD_FORK && rec->misc == PERF_RECORD_MISC_FORK_EXEC && rec->task.found);
		CHECK(rec->task.ppid == (leader ? getppid() : s->pid) && rec->task.ptid == rec->task.ppid);
		return;
	}
	if (rec->type == RECORD_EXIT) {
		CHECK(rec->raw_type == PERF_RECORD_EXIT && rec->tid == s->pid && rec->task.ppid == getppid());
		CHECK(!rec->task.found && s->comms == 1);
		s->exits++;
		return;
	}
	if (rec->type == RECORD_COMM) {
		s->comms++;
		CHECK(rec->raw_type == PERF_RECORD_COMM && !rec->comm.exec);
		/* What /proc adds is not part of it. */
		CHECK(rec->comm.comm[rec->comm.len] == (s->given ? 0 : '\n'));
		if (rec->tid != thread_tid)
			return;
		s->thread = true;
		CHECK(rec->comm.len == 9 && !memcmp(rec->comm.comm, "a\nthread;", 9));
		return;
	}
	CHECK(rec->type == RECORD_MMAP && rec->raw_type == PERF_RECORD_MMAP2 && rec->tid == s->pid);
	s->after_comm = s->comms > 1;
	s->maps++;
	if (rec->mmap.start <= (uintptr_t)look && (uintptr_t)look < rec->mmap.start + rec->mmap.len) {
		s->own_code = true;
		CHECK(rec->mmap.executable && rec->mmap.prot == (PROT_READ | PROT_EXEC));
		CHECK(rec->mmap.ino && rec->mmap.flags == MAP_PRIVATE && rec->misc == PERF_RECORD_MISC_USER);
		CHECK(strstr(rec->mmap.path, "test_collector_synth"));
		CHECK(strlen(rec->mmap.path) == rec->mmap.path_len);
	}
	if (rec->mmap.start == (uintptr_t)code) {
		s->anon = true;
		CHECK(rec->mmap.executable && rec->mmap.ino == 0);
		CHECK_STR(rec->mmap.path, "//anon");
	}
	if (!rec->mmap.executable) {
		s->data = true;
		CHECK(rec->mmap.path[0] == '/' && rec->misc & PERF_RECORD_MISC_MMAP_DATA);
	}
	s->stack |= !strcmp(rec->mmap.path, "[stack]");
}

static void look_kernel(void *data, const struct record *rec)
{
	struct seen *s = data;

	s->num++;
	CHECK(rec->type == RECORD_MMAP && rec->raw_type == PERF_RECORD_MMAP && rec->pid == -1);
	CHECK(rec->misc == PERF_RECORD_MISC_KERNEL && rec->mmap.len && rec->mmap.start);
	if (s->num > 1) {
		CHECK(rec->mmap.path[0] == '[');
		return;
	}
	CHECK(!strcmp(rec->mmap.path, "[kernel.kallsyms]_text") || !strcmp(rec->mmap.path, "[kernel.kallsyms]_stext"));
	CHECK(rec->mmap.pgoff == rec->mmap.start);
}

static pthread_barrier_t barrier;

static void *other(void *arg)
{
	thread_tid = (pid_t)syscall(SYS_gettid);
	prctl(PR_SET_NAME, "a\nthread;");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void read_own_maps(char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/maps", "r");

	CHECK(f && fread(ret, 1, size - 1, f) > 0);
	if (f)
		fclose(f);
}

static void *last_thread(void *arg)
{
	char byte;

	_exit(read(*(int *)arg, &byte, 1) != 0);
}

static bool has_ended(pid_t pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	CHECK(f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1);
	if (f)
		fclose(f);
	return state == 'Z';
}

/* What lies in a process whose first thread has ended. */
static void leaderless(struct door *door)
{
	struct seen seen = { 0 };
	struct collector_sink sink = { .record = look, .data = &seen };
	pthread_t thread;
	int go[2];

	CHECK(!pipe(go));
	seen.pid = fork();
	if (!seen.pid) {
		close(go[1]);
		if (pthread_create(&thread, NULL, last_thread, go))
			_exit(1);
		syscall(SYS_exit, 0);
	}
	for (int i = 0; i < 6000 && !has_ended(seen.pid); i++)
		usleep(10000);
	CHECK(synth_process(door, seen.pid, &sink, NULL) == 0);
	CHECK(seen.comms == 2 && seen.own_code && seen.others == 0);
	close(go[0]);
	close(go[1]);
	waitpid(seen.pid, NULL, 0);
}

int main(void)
{
	struct seen all = { .pid = getpid() }, one = { .pid = getpid() }, gone = { 0 }, kernel = { 0 };
	struct collector_sink sink = { .record = look };
	static char maps[1 << 20];
	struct door *door = NULL;
	struct err err = { 0 };
	pthread_t thread;

	code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(code != MAP_FAILED);
	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&thread, NULL, other, NULL));
	pthread_barrier_wait(&barrier);
	CHECK(door_new(&door, &err) == 0);

	sink.data = &one;
	CHECK(synth_process(door, getpid(), &sink, &err) == 0);
	CHECK(one.comms == 2 && one.thread && one.own_code && one.anon && one.data && one.after_comm);
	CHECK(!one.stack && one.others == 0);
	/* Of a thread's number, as of the process that it belongs to. */
	memset(&one, 0, sizeof(one));
	one.pid = getpid();
	CHECK(synth_process(door, thread_tid, &sink, &err) == 0);
	CHECK(one.comms == 2 && one.own_code && one.others == 0 && !one.forks);
	one = (struct seen){ .pid = getpid(), .given = true };
	read_own_maps(maps, sizeof(maps));
	synth_task(getpid(), getppid(), getpid(), "test_collector_", &sink);
	synth_task(getpid(), getppid(), thread_tid, "a\nthread;", &sink);
	synth_maps(getpid(), maps, strlen(maps), &sink);
	CHECK(one.forks == 2 && one.comms == 2 && one.own_code && one.others == 0 && one.thread);
	/* Its first thread has ended. */
	one = (struct seen){ .pid = getpid(), .given = true };
	synth_task(getpid(), getppid(), getpid(), "", &sink);
	CHECK(one.forks == 1 && one.comms == 0);
	synth_name(getpid(), getpid(), "test_collector_", &sink);
	CHECK(one.forks == 1 && one.comms == 1);
	one = (struct seen){ .pid = getpid(), .given = true };
	synth_end(getpid(), getppid(), "test_collector_", &sink);
	CHECK(one.forks == 1 && one.comms == 1 && one.exits == 1);
	leaderless(door);
	sink.data = &all;
	CHECK(synth_all(door, &sink, &err) == 0);
	CHECK(all.comms == 2 && all.thread && all.own_code && all.others > 0 && all.init);
	sink.data = &gone;
	CHECK(synth_process(door, 0x3fffffff, &sink, &err) == 0);
	CHECK(gone.num == 0);
	sink.record = look_kernel;
	sink.data = &kernel;
	CHECK(synth_kernel(door, &sink, &err) == 0);
	CHECK(kernel.num > 0 || getuid() != 0);

	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	door_free(door);
	return check_done();
}
