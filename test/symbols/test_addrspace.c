/* Records in, maps out; without /proc, so every answer is exact. Then real processes against /proc.
 */
#include "symbols/addrspace.h"

#include "base/clock.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "symbols/elf_file.h"
#include "symbols/file.h"
#include "target/door.h"
#include "target/proc_text.h"
#include "test/check.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct intern *strings;
	struct door *door;
	struct files *files;
	struct addrspaces *spaces;
	uint32_t gone[100000];
	size_t num_gone, num_learned, num_names;
	bool put_down, same, ended;
	char learned[100000], thread[64];
	char seen[600];
};

static void space_gone(void *data, struct addrspace *space)
{
	struct world *w = data;

	CHECK(space->dead);
	if (w->num_gone < sizeof(w->gone) / sizeof(w->gone[0]))
		w->gone[w->num_gone++] = space->id;
}

static bool learned(void *data, const struct addrspaces_learned *learned)
{
	struct world *w = data;

	w->num_learned += learned->pid > 0 && !learned->tid;
	w->same = learned->same;
	w->ended = learned->ended;
	w->num_names += learned->tid > 0;
	snprintf(w->learned, sizeof(w->learned), "%s %zu %s", learned->comm, learned->maps_bytes, learned->maps ? learned->maps : "");
	if (learned->num_threads)
		snprintf(w->thread, sizeof(w->thread), "%s", learned->threads[0].comm);
	return w->put_down;
}

static struct world *world_new(bool with_door)
{
	struct world *w = calloc(1, sizeof(*w));
	struct files_opts files_opts = { 0 };
	struct addrspaces_opts opts = { .space_gone = space_gone, .learned = learned, .all_names = true, .data = w };

	if (!w)
		abort();
	w->strings = intern_new();
	if (with_door && door_new(&w->door, NULL) < 0)
		abort();
	files_opts.door = opts.door = w->door;
	files_opts.strings = opts.strings = w->strings;
	if (files_new(&files_opts, &w->files, NULL) < 0)
		abort();
	opts.files = w->files;
	if (addrspaces_new(&opts, &w->spaces, NULL) < 0)
		abort();
	return w;
}

static void world_free(struct world *w)
{
	addrspaces_free(w->spaces);
	files_free(w->files);
	door_free(w->door);
	intern_free(w->strings);
	free(w);
}

static void map_at(struct world *w, pid_t pid, uint64_t start, uint64_t end, uint64_t pgoff,
		   const char *path, uint64_t time_ns)
{
	struct mmap_record m = {
		.pid = pid,
		.tid = pid,
		.start = start,
		.len = end - start,
		.pgoff = pgoff,
		.executable = path != NULL,
		.path = path ? path : "",
		.path_len = path ? strlen(path) : 0,
	};

	addrspaces_mmap(w->spaces, &m, time_ns);
}

static const struct mapping *nth(const struct addrspace *space, size_t n)
{
	const struct mapping *m = mappings_next(&space->maps, 0);

	while (m && n--)
		m = mappings_next(&space->maps, m->end);
	return m;
}

/* "1000-2000 a+0; 2000-3000 jit": what the process has, in one line. */
static const char *maps_of(struct world *w, pid_t pid)
{
	struct addrspace *space = addrspaces_peek(w->spaces, pid);
	size_t len = 0;

	w->seen[0] = '\0';
	if (!space)
		return "none";
	mappings_for_each(m, &space->maps) {
		len += (size_t)snprintf(w->seen + len, sizeof(w->seen) - len,
					"%s%" PRIx64 "-%" PRIx64 " ", len ? "; " : "", m->start,
					m->end);
		if (m->file)
			len += (size_t)snprintf(w->seen + len, sizeof(w->seen) - len, "%s+%" PRIx64,
						m->file->base, m->pgoff);
		else
			len += (size_t)snprintf(w->seen + len, sizeof(w->seen) - len, "jit");
		CHECK(m->file || m->pgoff == m->start);
	}
	return w->seen;
}

static const char *comm_of(struct world *w, pid_t pid, pid_t tid)
{
	return intern_get(w->strings, addrspaces_comm(w->spaces, pid, tid));
}

/* All that ended is gone. */
static void later(struct world *w)
{
	addrspaces_advance(w->spaces, UINT64_MAX);
}

static void set_comm(struct world *w, pid_t pid, pid_t tid, const char *comm, bool exec,
		     uint64_t time_ns)
{
	addrspaces_comm_changed(w->spaces, pid, tid, comm, strlen(comm), exec, time_ns);
}

static void test_overlaps(void)
{
	struct world *w = world_new(false);

	map_at(w, 7, 0x1000, 0x9000, 0x4000, "/lib/a", 1);
	CHECK_STR(maps_of(w, 7), "1000-9000 a+4000");
	map_at(w, 7, 0x3000, 0x4000, 0, "/lib/b", 2); /* splits */
	CHECK_STR(maps_of(w, 7), "1000-3000 a+4000; 3000-4000 b+0; 4000-9000 a+7000");
	map_at(w, 7, 0x2000, 0x5000, 0x1000, "/lib/c",
	       3); /* cuts both sides, replaces the middle */
	CHECK_STR(maps_of(w, 7), "1000-2000 a+4000; 2000-5000 c+1000; 5000-9000 a+8000");
	map_at(w, 7, 0x8000, 0xa000, 0, "/lib/b", 4); /* over an end */
	CHECK_STR(maps_of(w, 7),
		  "1000-2000 a+4000; 2000-5000 c+1000; 5000-8000 a+8000; 8000-a000 b+0");
	map_at(w, 7, 0x0, 0x1000, 0, "//anon", 5);
	map_at(w, 7, 0x3000, 0x6000, 0, NULL, 6); /* no code: it only cuts */
	CHECK_STR(maps_of(w, 7),
		  "0-1000 jit; 1000-2000 a+4000; 2000-3000 c+1000; 6000-8000 a+9000; "
		  "8000-a000 b+0");
	map_at(w, 7, 0x0, 0x10000, 0, "[anon:code]", 7); /* replaces all */
	CHECK_STR(maps_of(w, 7), "0-10000 jit");
	map_at(w, 7, 0x4000, 0x5000, 0, NULL, 8);
	CHECK_STR(maps_of(w, 7), "0-4000 jit; 5000-10000 jit");
	map_at(w, 7, 0x4000, 0x5000, 0, "/memfd:doublemapper (deleted)", 9); /* neighbours join */
	CHECK_STR(maps_of(w, 7), "0-10000 jit");
	CHECK(addrspaces_count(w->spaces) == 1);
	world_free(w);
}

static void test_find(void)
{
	struct world *w = world_new(false);
	struct addrspace *space;
	uint32_t version;

	map_at(w, 7, 0x1000, 0x2000, 0, "/lib/a", 1);
	map_at(w, 7, 0x3000, 0x4000, 0, "/lib/b", 1);
	space = addrspaces_peek(w->spaces, 7);
	CHECK(!addrspace_find(space, 0xfff));
	CHECK(addrspace_find(space, 0x1000) == nth(space, 0));
	CHECK(addrspace_find(space, 0x1fff) == nth(space, 0));
	CHECK(!addrspace_find(space, 0x2000));
	CHECK(addrspace_find(space, 0x3fff) == nth(space, 1));
	CHECK(!addrspace_find(space, 0x4000));
	CHECK(!addrspace_find(space, UINT64_MAX));
	CHECK(nth(space, 0)->file->refs == 1);

	version = space->version;
	map_at(w, 7, 0x1000, 0x2000, 0, "/lib/a", 2); /* nothing new */
	CHECK(space->version == version);
	CHECK(nth(space, 0)->file->refs == 1);
	map_at(w, 7, 0x1000, 0x2000, 0x1000, "/lib/a", 2);
	CHECK(space->version > version);

	version = space->version;
	map_at(w, 7, UINT64_MAX - 0xfff, 0xfff, 0, "/lib/a", 3); /* wraps */
	map_at(w, 7, UINT64_C(0xffffffff81000000), UINT64_C(0xffffffff82000000), 0, "/lib/a", 3);
	map_at(w, 7, 0x5000, 0x5000, 0, "/lib/a", 3);
	map_at(w, -1, 0x5000, 0x6000, 0, "/lib/a", 3);
	CHECK(space->version == version);
	CHECK_STR(maps_of(w, 7), "1000-2000 a+1000; 3000-4000 b+0");
	world_free(w);
}

static void test_jit_names(void)
{
	static const char *const jit[] = {
		"",
		"//anon",
		"[anon:v8]",
		"[anon_shmem:x]",
		"[heap]",
		"[stack]",
		"[stack:7]",
		"/memfd:doublemapper (deleted)",
		"/dev/zero",
		"/dev/zero (deleted)",
		"/SYSV00000000 (deleted)",
		"anon_inode:[x]",
		"/anon_hugepage (deleted)",
	};
	static const char *const not_jit[] = { "/usr/lib/libc.so.6", "/dev/zero2",   "[vdso]",
					       "[uprobes]",          "/home/[heap]", "relative" };
	struct world *w = world_new(false);

	for (size_t i = 0; i < sizeof(jit) / sizeof(jit[0]); i++) {
		map_at(w, 7, 0x1000, 0x2000, 0x77000, jit[i], i);
		CHECK_STR(maps_of(w, 7), "1000-2000 jit");
		map_at(w, 7, 0x1000, 0x2000, 0, NULL, i);
	}
	for (size_t i = 0; i < sizeof(not_jit) / sizeof(not_jit[0]); i++) {
		map_at(w, 7, 0x1000, 0x2000, 0, not_jit[i], i);
		CHECK(nth(addrspaces_peek(w->spaces, 7), 0)->file != NULL);
	}
	CHECK_STR(maps_of(w, 7), "1000-2000 relative+0");
	world_free(w);
}

static void test_fork(void)
{
	struct world *w = world_new(false);
	struct addrspace *parent, *child;
	struct file *file;

	map_at(w, 7, 0x1000, 0x2000, 0, "/bin/p", 1);
	set_comm(w, 7, 7, "parent", false, 1);
	set_comm(w, 7, 8, "worker", false, 1);
	parent = addrspaces_peek(w->spaces, 7);
	parent->uid = 1234;
	parent->compat = true;
	parent->user = w;
	file = nth(parent, 0)->file;
	addrspaces_fork(w->spaces, 20, 7, 20, 8, 2);
	child = addrspaces_peek(w->spaces, 20);
	CHECK_STR(maps_of(w, 20), "1000-2000 p+0");
	CHECK(child->uid == 1234 && child->ppid == 7 && child->compat && !child->user);
	CHECK(child->id != parent->id);
	CHECK_STR(comm_of(w, 20, 20), "worker");
	CHECK(file->refs == 2);

	/* Each goes its own way. */
	map_at(w, 20, 0x1000, 0x2000, 0, NULL, 3);
	map_at(w, 7, 0x5000, 0x6000, 0, "/lib/q", 3);
	CHECK_STR(maps_of(w, 7), "1000-2000 p+0; 5000-6000 q+0");
	CHECK_STR(maps_of(w, 20), "");
	CHECK(file->refs == 1);

	/* perf tells of those that it finds by FORK too: they have nothing of their parent's. */
	addrspaces_found(w->spaces, 30, 7, 30, 4);
	CHECK_STR(maps_of(w, 30), "");
	CHECK(addrspaces_peek(w->spaces, 30)->ppid == 7 && addrspaces_peek(w->spaces, 30)->uid == (uid_t)-1);
	addrspaces_found(w->spaces, 30, 30, 31, 4);
	set_comm(w, 30, 31, "found", false, 4);
	CHECK_STR(comm_of(w, 30, 31), "found");
	addrspaces_exit(w->spaces, 30, 31, 4);
	addrspaces_exit(w->spaces, 30, 30, 4);
	later(w);

	/* A thread: the same space, its creator's comm. */
	addrspaces_fork(w->spaces, 7, 7, 9, 8, 4);
	CHECK(addrspaces_count(w->spaces) == 2);
	CHECK_STR(comm_of(w, 7, 9), "worker");
	set_comm(w, 7, 9, "renamed", false, 5);
	CHECK_STR(comm_of(w, 7, 9), "renamed");
	CHECK_STR(comm_of(w, 7, 8), "worker");
	CHECK_STR(comm_of(w, 7, 7), "parent");
	CHECK_STR(comm_of(w, 0, 0), "swapper");
	/* A thread that nobody told of. */
	CHECK_STR(comm_of(w, 7, 4444), "parent");
	CHECK_STR(comm_of(w, 5555, 5556), "[unknown]");
	world_free(w);
}

static void test_exec(void)
{
	struct world *w = world_new(false);
	struct addrspace *space;
	uint32_t old;

	map_at(w, 7, 0x1000, 0x2000, 0, "/bin/sh", 1);
	set_comm(w, 7, 7, "sh", false, 1);
	set_comm(w, 7, 8, "thread", false, 1);
	space = addrspaces_peek(w->spaces, 7);
	space->uid = 5;
	old = space->id;
	set_comm(w, 7, 7, "ls", true, 2);
	space = addrspaces_peek(w->spaces, 7);
	CHECK(w->num_gone == 1 && w->gone[0] == old);
	CHECK(space->id != old && space->maps.num == 0 && space->uid == 5 && space->exec_ns == 2);
	CHECK_STR(comm_of(w, 7, 7), "ls");
	map_at(w, 7, 0x1000, 0x2000, 0, "/bin/ls", 3);
	CHECK_STR(maps_of(w, 7), "1000-2000 ls+0");
	/* The other thread ended with the exec: one EXIT ends the process. */
	addrspaces_exit(w->spaces, 7, 7, 4);
	later(w);
	CHECK(w->num_gone == 2);
	CHECK(!addrspaces_peek(w->spaces, 7));
	world_free(w);
}

static void test_exit(void)
{
	struct world *w = world_new(false);

	addrspaces_fork(w->spaces, 7, 1, 7, 1, 1);
	addrspaces_fork(w->spaces, 7, 7, 8, 7, 2);
	addrspaces_fork(w->spaces, 7, 7, 9, 7, 2);
	set_comm(w, 7, 9, "last", false, 2);
	w->num_gone = 0;
	addrspaces_exit(w->spaces, 7, 8, 3);
	addrspaces_exit(w->spaces, 7, 7, 4); /* the leader goes before its thread */
	CHECK(addrspaces_peek(w->spaces, 7) && w->num_gone == 0);
	CHECK_STR(comm_of(w, 7, 9), "last");
	addrspaces_exit(w->spaces, 7, 9, 5);
	CHECK(addrspaces_peek(w->spaces, 7)->left && w->num_gone == 0);
	later(w);
	CHECK(!addrspaces_peek(w->spaces, 7) && w->num_gone == 1);
	/* A sample that comes late still has its thread's name. */
	CHECK_STR(comm_of(w, 7, 9), "last");
	addrspaces_exit(w->spaces, 7, 9, 6);
	addrspaces_exit(w->spaces, 4711, 4711, 6);
	CHECK(w->num_gone == 1);
	world_free(w);
}

/* Since Linux 6.16 a process still has its memory when its EXIT is told. */
static void test_behind_exit(void)
{
	const uint64_t ms = 1000000, at = 1000 * ms;
	struct world *w = world_new(false);
	uint32_t id;

	for (pid_t pid = 7; pid < 14; pid++) {
		addrspaces_fork(w->spaces, pid, 1, pid, 1, at);
		set_comm(w, pid, pid, "program", true, at);
		map_at(w, pid, 0x1000, 0x2000, 0, "/bin/p", at);
		if (pid == 8) /* ends with its last thread */
			addrspaces_fork(w->spaces, 8, 8, 80, 8, at);
		addrspaces_exit(w->spaces, pid, pid, at + ms);
	}
	addrspaces_exit(w->spaces, 8, 80, at + 2 * ms);
	w->num_gone = 0;

	/* What lay there and what it was called is known for 10 ms. */
	addrspaces_advance(w->spaces, at + 11 * ms - 1);
	id = addrspaces_peek(w->spaces, 7)->id;
	CHECK(addrspaces_get(w->spaces, 7)->id == id && addrspaces_get(w->spaces, 7)->dead);
	CHECK_STR(maps_of(w, 7), "1000-2000 p+0");
	CHECK_STR(comm_of(w, 7, 7), "program");
	CHECK(w->num_gone == 0);

	/* Whatever tells of another process of that number ends that at once; as a parent too. */
	addrspaces_fork(w->spaces, 9, 1, 9, 1, at + 5 * ms);
	CHECK_STR(maps_of(w, 9), "");
	set_comm(w, 10, 10, "other", true, at + 5 * ms);
	CHECK_STR(maps_of(w, 10), "");
	CHECK_STR(comm_of(w, 10, 10), "other");
	set_comm(w, 11, 11, "other", false, at + 5 * ms);
	CHECK_STR(maps_of(w, 11), "");
	map_at(w, 12, 0x7000, 0x8000, 0, "/bin/q", at + 5 * ms);
	CHECK_STR(maps_of(w, 12), "7000-8000 q+0");
	addrspaces_fork(w->spaces, 20, 13, 20, 13, at + 5 * ms);
	CHECK_STR(maps_of(w, 20), "");
	CHECK(!addrspaces_peek(w->spaces, 9)->left && !addrspaces_peek(w->spaces, 12)->dead);
	w->num_gone = 0;

	/* The others when their time has come, each once. The new ones stay. */
	addrspaces_advance(w->spaces, at + 11 * ms);
	CHECK(w->num_gone == 1 && w->gone[0] == id);
	CHECK_STR(maps_of(w, 7), "none");
	CHECK_STR(maps_of(w, 8), "1000-2000 p+0");
	addrspaces_exit(w->spaces, 4711, 4711, at + 12 * ms); /* a record does it as well */
	CHECK_STR(maps_of(w, 8), "none");
	later(w);
	CHECK(w->num_gone == 2);
	for (pid_t pid = 9; pid < 13; pid++)
		CHECK(addrspaces_peek(w->spaces, pid));

	/* However many end at one time. */
	w->num_gone = 0;
	for (pid_t pid = 1000; pid < 6000; pid++) {
		addrspaces_fork(w->spaces, pid, 12, pid, 12, at + 20 * ms);
		addrspaces_exit(w->spaces, pid, pid, at + 20 * ms);
	}
	CHECK(w->num_gone > 3000 && w->num_gone < 5000);
	CHECK_STR(maps_of(w, 5999), "7000-8000 q+0");
	/* What has no time ends when it is told. */
	addrspaces_exit(w->spaces, 12, 12, 0);
	CHECK_STR(maps_of(w, 12), "none");
	world_free(w);
}

/* Names nobody asks for are not kept. */
static void test_renames(void)
{
	struct world *w = world_new(false);
	char name[32];
	size_t before;

	set_comm(w, 7, 7, "first", false, 1);
	set_comm(w, 7, 8, "second", false, 1);
	before = intern_count(w->strings);
	for (uint64_t i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "name %d", (int)i);
		set_comm(w, 7, 8, name, false, 2 + i);
	}
	CHECK(intern_count(w->strings) == before);
	CHECK_STR(comm_of(w, 7, 8), "name 9999");
	CHECK_STR(comm_of(w, 7, 7), "first");
	set_comm(w, 7, 8, "fifteen letters", false, 20000);
	CHECK_STR(comm_of(w, 7, 8), "fifteen letters");
	set_comm(w, 7, 8, "kworker/u8:0-events_unbound", false, 20000);
	CHECK_STR(comm_of(w, 7, 8), "kworker/u8:0-events_unbound");
	addrspaces_exit(w->spaces, 7, 8, 20001);
	CHECK_STR(comm_of(w, 7, 8), "kworker/u8:0-events_unbound");
	world_free(w);
}

static void test_pid_reuse(void)
{
	struct world *w = world_new(false);
	uint32_t old;

	map_at(w, 1, 0x1000, 0x2000, 0, "/bin/init", 1);
	map_at(w, 7, 0x1000, 0x2000, 0, "/bin/old", 1);
	old = addrspaces_peek(w->spaces, 7)->id;
	/* The EXIT was lost; the fork alone tells. */
	addrspaces_fork(w->spaces, 7, 1, 7, 1, 2);
	CHECK(w->num_gone == 1 && w->gone[0] == old);
	CHECK_STR(maps_of(w, 7), "1000-2000 init+0");
	addrspaces_exit(w->spaces, 7, 7, 3);
	addrspaces_fork(w->spaces, 7, 1, 7, 1, 4);
	CHECK_STR(maps_of(w, 7), "1000-2000 init+0");
	CHECK(addrspaces_peek(w->spaces, 7)->id > old);
	world_free(w);
}

/* Memory follows the living, not the dead. */
static void test_churn(void)
{
	struct world *w = world_new(true);
	size_t before;

	map_at(w, getpid(), 0x1000, 0x2000, 0, "/bin/init", clock_monotonic_ns());
	before = addrspaces_count(w->spaces);
	for (int i = 0; i < 20000; i++) {
		pid_t pid = 4500000 + i; /* beyond PID_MAX_LIMIT: never a real process */
		uint64_t now_ns = clock_monotonic_ns();

		addrspaces_fork(w->spaces, pid, getpid(), pid, getpid(), now_ns);
		set_comm(w, pid, pid, "child", true, now_ns);
		map_at(w, pid, 0x1000, 0x2000, 0, "/nonexistent/child", now_ns);
		if (i % 10 == 0)
			CHECK_STR(maps_of(w, pid), "1000-2000 child+0");
		addrspaces_exit(w->spaces, pid, pid, now_ns);
		addrspaces_get(w->spaces, pid); /* a late sample */
		CHECK(addrspaces_peek(w->spaces, pid)->dead);
	}
	later(w);
	CHECK(addrspaces_count(w->spaces) <= before + 64);
	CHECK(files_count(w->files) < 100);
	CHECK(intern_count(w->strings) < 200);
	for (int i = 0; i < 20000; i++)
		addrspaces_comm(w->spaces, 4600000 + i, 4600000 + i);
	CHECK(intern_count(w->strings) < 200);
	world_free(w);
}

struct expect {
	struct world *w;
	const struct addrspace *space;
	size_t num;
};

static int expect_map(void *data, const struct proc_map *map)
{
	struct expect *e = data;
	const struct mapping *m;

	if (!map->executable || map->start >> 63)
		return 0;
	e->num++;
	m = addrspace_find(e->space, map->start);
	CHECK_MSG(m, "%s", map->path);
	if (!m)
		return 0;
	CHECK(m->start <= map->start && m->end >= map->end);
	if (*map->path == '/' && strncmp(map->path, "/memfd:", 7)) {
		CHECK(m->start == map->start && m->end == map->end && m->pgoff == map->pgoff);
		CHECK_STR(m->file->path, map->path);
		CHECK(m->file->kind == FILE_ELF);
	} else if (!strcmp(map->path, "[vdso]")) {
		CHECK(m->file == files_vdso(e->w->files, &(struct door_mapping){ .path = "[vdso]" }));
	} else {
		CHECK(!m->file);
	}
	return 0;
}

/* Ourselves, read from /proc: mappings, bias, uid, comm of threads. */
static void test_self(void)
{
	struct world *w = world_new(true);
	void *anon = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct addrspace *space = addrspaces_get(w->spaces, getpid());
	struct expect expect = { w, space, 0 };
	struct strbuf text = { 0 };
	const struct mapping *m;
	uint32_t version;
	size_t num;

	CHECK(space->uid == getuid() && space->ppid == getppid() && !space->dead);
	CHECK(space->compat == (sizeof(void *) == 4));
	CHECK(door_read_proc(w->door, getpid(), "maps", 1 << 20, &text, NULL, NULL) == 0);
	proc_maps_parse(text.data, text.len, expect_map, &expect, NULL);
	CHECK(expect.num >= 4);
	strbuf_deinit(&text);
	m = addrspace_find(space, (uintptr_t)anon);
	CHECK(m && !m->file && m->pgoff == m->start);

	/* bias turns our own address into one that the file knows. */
	m = addrspace_find(space, (uintptr_t)&test_self);
	if (m && m->file && m->file->elf) {
		const struct elf_load *loads;
		uint64_t vaddr = (uintptr_t)&test_self - m->bias;
		uint8_t bytes[16];

		num = elf_file_loads(m->file->elf, &loads);
		CHECK(num > 0);
		CHECK(elf_file_read_vaddr(m->file->elf, vaddr, bytes, sizeof(bytes)));
		CHECK(!memcmp(bytes, (const void *)(uintptr_t)&test_self, sizeof(bytes)));
	}
	CHECK(strcmp(comm_of(w, getpid(), getpid()), "[unknown]"));

	/* What happened before the reading is in it already; what comes after counts. */
	version = space->version;
	map_at(w, getpid(), 0x1000, 0x2000, 0, "/lib/a", clock_monotonic_ns() - 60000000000u);
	CHECK(space->version == version);
	set_comm(w, getpid(), getpid(), "older", true, 1);
	CHECK(addrspaces_peek(w->spaces, getpid()) == space);
	addrspaces_fork(w->spaces, getpid(), 1, getpid(), 1, 1);
	addrspaces_exit(w->spaces, getpid(), getpid(), 1);
	CHECK(addrspaces_peek(w->spaces, getpid()) == space && w->num_gone == 0);
	map_at(w, getpid(), 0x1000, 0x2000, 0, "/lib/a", clock_monotonic_ns());
	CHECK(space->version > version);
	munmap(anon, 8192);
	world_free(w);
}

static void *thread_main(void *data)
{
	pthread_barrier_t *barrier = data;

	pthread_setname_np(pthread_self(), "a thread");
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return (void *)(intptr_t)gettid();
}

static void test_threads(void)
{
	struct world *w = world_new(true);
	pthread_barrier_t barrier;
	pthread_t thread;
	void *tid;

	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(pthread_create(&thread, NULL, thread_main, &barrier) == 0);
	pthread_barrier_wait(&barrier);
	addrspaces_get(w->spaces, getpid());
	pthread_barrier_wait(&barrier);
	pthread_join(thread, &tid);
	/* It was found with the process, so the leader's EXIT does not end it. */
	addrspaces_exit(w->spaces, getpid(), getpid(), clock_monotonic_ns());
	CHECK(addrspaces_peek(w->spaces, getpid()));
	addrspaces_exit(w->spaces, getpid(), (pid_t)(intptr_t)tid, clock_monotonic_ns());
	later(w);
	CHECK(!addrspaces_peek(w->spaces, getpid()));
	pthread_barrier_destroy(&barrier);
	world_free(w);
}

/* A zombie has no memory, and no EXIT record will follow: it must not stay. */
static void test_zombie(void)
{
	struct world *w = world_new(true);
	siginfo_t info;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
	CHECK(addrspaces_get(w->spaces, pid)->maps.num == 0);
	for (int i = 0; i < 64; i++)
		addrspaces_get(w->spaces, 4500000 + i);
	CHECK(!addrspaces_peek(w->spaces, pid));
	waitpid(pid, NULL, 0);
	world_free(w);
}

static void test_scan(void)
{
	struct world *w = world_new(true);
	struct err *none = NULL;

	CHECK(addrspaces_scan(w->spaces, none) == 0);
	CHECK(addrspaces_count(w->spaces) >= 2);
	CHECK(addrspaces_peek(w->spaces, getpid()));
	CHECK(addrspaces_peek(w->spaces, getppid()));
	CHECK(addrspaces_uid(w->spaces, addrspaces_peek(w->spaces, getpid()), 0) == getuid());
	world_free(w);
}

static int keep_other(void *data, pid_t tid)
{
	if (tid != getpid())
		*(pid_t *)data = tid;
	return 0;
}

/* The one thread besides the first; 0 = none. */
static pid_t other_thread(void)
{
	struct world *w = world_new(true);
	pid_t ret = 0;

	CHECK(door_each_task(w->door, getpid(), keep_other, &ret, NULL) == 0);
	world_free(w);
	return ret;
}

static void *sleep_named(void *data)
{
	int *pipe = data;
	char byte;

	prctl(PR_SET_NAME, "sleeper");
	(void)!write(pipe[3], "n", 1);
	(void)!read(pipe[0], &byte, 1);
	return NULL;
}

/* By the number of any thread its process is found; threads found there have a name even if nobody asked in time. */
static void test_scan_tasks(void)
{
	struct world *w = world_new(true);
	pid_t tids[] = { 0, 4500000 };
	pthread_t thread;
	int pipes[4];
	char byte, name[17] = "";

	prctl(PR_GET_NAME, name);
	CHECK(!pipe(pipes) && !pipe(pipes + 2));
	CHECK(!pthread_create(&thread, NULL, sleep_named, pipes));
	CHECK(read(pipes[2], &byte, 1) == 1);
	tids[0] = other_thread();
	CHECK(tids[0] > 0);
	CHECK(addrspaces_scan_tasks(w->spaces, tids, 2, NULL) == 0);
	CHECK(addrspaces_count(w->spaces) == 1);
	CHECK(addrspaces_peek(w->spaces, getpid())->maps.num > 3);
	CHECK(write(pipes[1], "", 1) == 1);
	pthread_join(thread, NULL);
	while (other_thread()) /* the kernel is a moment behind */
		usleep(1000);
	addrspaces_exit(w->spaces, getpid(), tids[0], clock_monotonic_ns());
	CHECK_STR(comm_of(w, getpid(), tids[0]), name);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
	world_free(w);
}

static bool has_state(struct world *w, pid_t pid, char state)
{
	char want[] = "\nState:\t?";
	struct strbuf text = { 0 };
	bool ret;

	want[sizeof(want) - 2] = state;
	ret = !door_read_proc(w->door, pid, "status", 65536, &text, NULL, NULL) && strstr(text.data, want);
	strbuf_deinit(&text);
	return ret;
}

static void *outlive_leader(void *data)
{
	const int *pipe = data;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	char byte;

	(void)!write(pipe[3], &tid, sizeof(tid));
	(void)!read(pipe[0], &byte, 1);
	_exit(0);
}

/* Its first thread has ended, and with it what /proc/PID tells of the memory. */
static void test_leaderless(void)
{
	struct world *w = world_new(true);
	struct addrspace *space;
	const struct mapping *m;
	int go[4], status;
	pid_t pid, tid = 0;

	CHECK(!pipe(go) && !pipe(go + 2));
	pid = fork();
	if (!pid) {
		pthread_t thread;

		close(go[1]);
		if (pthread_create(&thread, NULL, outlive_leader, go))
			_exit(1);
		syscall(SYS_exit, 0);
	}
	for (int i = 0; i < 1000 && !has_state(w, pid, 'Z'); i++)
		usleep(10000);
	CHECK(has_state(w, pid, 'Z') && read(go[2], &tid, sizeof(tid)) == sizeof(tid));
	addrspaces_get(w->spaces, pid);
	space = addrspaces_peek(w->spaces, pid);
	m = addrspace_find(space, (uintptr_t)&test_leaderless);
	CHECK(m && m->file && m->file->kind == FILE_ELF && space->uid == getuid());
	CHECK(w->num_learned == 1 && w->learned[0] == ' ' && strstr(w->learned, "test_symbols"));
	close(go[1]);
	waitpid(pid, &status, 0);
	/* Only the thread's EXIT is to come. */
	w->num_gone = 0;
	addrspaces_exit(w->spaces, pid, tid, clock_monotonic_ns());
	later(w);
	CHECK(w->num_gone == 1);
	for (int i = 0; i < 4; i++) {
		if (i != 1)
			close(go[i]);
	}
	world_free(w);
}

/* A worker that gives up root's rights without an exec is its new user's from then on. */
static void test_uid(void)
{
	struct world *w = world_new(true);
	struct addrspace *space;
	int go[2], done[2];
	uint64_t now_ns = clock_monotonic_ns();
	pid_t pid;
	char byte;

	CHECK(!pipe(go) && !pipe(done));
	addrspaces_get(w->spaces, getpid());
	pid = fork();
	if (!pid) {
		close(go[1]);
		(void)!read(go[0], &byte, 1);
		if (setuid(4321))
			_exit(1);
		(void)!write(done[1], "", 1);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	addrspaces_fork(w->spaces, pid, getpid(), pid, getpid(), clock_monotonic_ns());
	space = addrspaces_peek(w->spaces, pid);
	CHECK(addrspaces_uid(w->spaces, space, clock_monotonic_ns()) == getuid());
	if (!geteuid()) {
		CHECK(write(go[1], "", 1) == 1 && read(done[0], &byte, 1) == 1);
		now_ns = clock_monotonic_ns();
		CHECK(addrspaces_uid(w->spaces, space, now_ns) == 0);
		CHECK(addrspaces_uid(w->spaces, space, now_ns + 1000000000) == 4321);
	}
	close(go[1]);
	waitpid(pid, NULL, 0);
	/* Nobody can be asked any more. */
	CHECK(addrspaces_uid(w->spaces, space, now_ns + 2000000000) == (geteuid() ? getuid() : 4321));
	for (int i = 0; i < 2; i++)
		close(done[i]);
	close(go[0]);
	world_free(w);
}

/* A child that ends when the pipe's other end, go[1], is closed. */
static pid_t fork_waiting(int go[2])
{
	char byte;
	pid_t pid;

	CHECK(!pipe(go));
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 0);
	}
	return pid;
}

/* A process of which some records were lost is read again, and what is true of it remains. */
static void test_after_loss(void)
{
	struct world *w = world_new(true);
	uint64_t own = (uintptr_t)&test_after_loss;
	struct addrspace *space;
	uint32_t id, version;
	void *code;
	int go[2];
	pid_t pid;

	pid = fork_waiting(go);
	/* A fork and an exec without what it mapped; a fork without its exec. Ourselves to compare. */
	addrspaces_fork(w->spaces, pid, 1, pid, 1, clock_monotonic_ns());
	set_comm(w, pid, pid, "new", true, clock_monotonic_ns());
	CHECK(addrspaces_get(w->spaces, pid)->maps.num == 0 && w->num_learned == 1);
	id = addrspaces_get(w->spaces, pid)->id;
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	space = addrspaces_get(w->spaces, pid);
	CHECK(space->id == id && addrspace_find(space, own) && space->exec_ns && w->num_learned == 2 && w->same);
	set_comm(w, pid, pid, "other", true, clock_monotonic_ns());
	map_at(w, pid, 0x1000, 0x2000, 0, "/lib/a", clock_monotonic_ns());
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	id = addrspaces_peek(w->spaces, pid)->id;
	space = addrspaces_get(w->spaces, pid);
	CHECK(space->id > id && addrspace_find(space, own) && !addrspace_find(space, 0x1000) && w->num_learned == 3 && !w->same);
	CHECK(w->gone[w->num_gone - 1] == id);
	CHECK(!strncmp(comm_of(w, pid, pid), "test_symbols", 12));

	/* What is as it was remains: generation, version, names of what did not change. */
	id = space->id;
	version = space->version;
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	w->put_down = true;
	space = addrspaces_get(w->spaces, pid);
	CHECK(space->id == id && space->version == version && w->num_learned == 4);
	addrspaces_get(w->spaces, pid);
	addrspaces_lost(w->spaces, 1000); /* long before it was read */
	addrspaces_get(w->spaces, pid);
	CHECK(w->num_learned == 4);
	/* It was put down as it is now: an older record must not come behind that. */
	set_comm(w, pid, pid, "old", true, 1);
	addrspaces_fork(w->spaces, pid, 1, pid, 1, 1);
	addrspaces_exit(w->spaces, pid, pid, 1);
	CHECK(addrspaces_overtook(w->spaces, pid, 1) && addrspaces_peek(w->spaces, pid)->id == id);
	set_comm(w, pid, pid, "young", false, clock_monotonic_ns());
	CHECK(!addrspaces_overtook(w->spaces, pid, clock_monotonic_ns()) && !addrspaces_overtook(w->spaces, getpid(), 1));
	CHECK_STR(comm_of(w, pid, pid), "young");

	/* Gone: what was known of it is all that there is. */
	close(go[1]);
	close(go[0]);
	waitpid(pid, NULL, 0);
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	CHECK(addrspaces_get(w->spaces, pid)->id == id && addrspace_find(addrspaces_get(w->spaces, pid), own));

	/* New code and a new name, of a process that was known. */
	w->put_down = false;
	id = addrspaces_get(w->spaces, getpid())->id;
	code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	prctl(PR_SET_NAME, "renamed");
	CHECK(!addrspace_find(addrspaces_get(w->spaces, getpid()), (uintptr_t)code));
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	space = addrspaces_get(w->spaces, getpid());
	CHECK(space->id == id && addrspace_find(space, (uintptr_t)code));
	CHECK_STR(comm_of(w, getpid(), getpid()), "renamed");
	munmap(code, 4096);
	world_free(w);
}

static void *wait_named(void *arg)
{
	const int *fds = arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	char byte;

	(void)!write(fds[1], &tid, sizeof(tid));
	(void)!read(fds[0], &byte, 1);
	return NULL;
}

/* Of a thread that ended before its process was read again, what records told of its name is all that there is. */
static void test_names_after_loss(void)
{
	struct world *w = world_new(true);
	int go[2], said[2], fds[2];
	pthread_t thread;
	pid_t tid;

	CHECK(!pipe(go) && !pipe(said));
	fds[0] = go[0];
	fds[1] = said[1];
	prctl(PR_SET_NAME, "renamed");
	addrspaces_get(w->spaces, getpid());
	CHECK(!pthread_create(&thread, NULL, wait_named, fds));
	CHECK(read(said[0], &tid, sizeof(tid)) == sizeof(tid));
	addrspaces_fork(w->spaces, getpid(), getpid(), tid, getpid(), clock_monotonic_ns());
	set_comm(w, getpid(), tid, "told", false, clock_monotonic_ns());
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	addrspaces_get(w->spaces, getpid());
	w->num_names = 0;
	/* /proc knows better, and who puts records down has to know it as well. */
	CHECK_STR(w->thread, "renamed");
	CHECK_STR(comm_of(w, getpid(), tid), "renamed");
	CHECK(w->num_names == 0);

	set_comm(w, getpid(), tid, "told", false, clock_monotonic_ns());
	close(go[1]);
	pthread_join(thread, NULL);
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	addrspaces_get(w->spaces, getpid());
	CHECK_STR(comm_of(w, getpid(), tid), "told");
	CHECK(w->num_names == 0);
	/* Its EXIT comes late. */
	addrspaces_exit(w->spaces, getpid(), tid, 1);
	CHECK_STR(comm_of(w, getpid(), tid), "told");
	close(go[0]);
	close(said[0]);
	close(said[1]);
	world_free(w);

	/* The same in a recording, which tells of it again as it was found. */
	w = world_new(false);
	addrspaces_fork(w->spaces, 7, 1, 7, 1, 1);
	addrspaces_fork(w->spaces, 7, 7, 8, 7, 2);
	set_comm(w, 7, 8, "told", false, 3);
	addrspaces_found(w->spaces, 7, 1, 7, 4);
	set_comm(w, 7, 7, "first", false, 4);
	CHECK_STR(comm_of(w, 7, 8), "told");
	CHECK_STR(comm_of(w, 7, 9), "first");
	/* The number is another process's by now. */
	set_comm(w, 10, 10, "another", false, 5);
	CHECK_STR(comm_of(w, 10, 8), "another");
	world_free(w);
}

/* What a child did before its parent was read may be missing of the child all the same. */
static void test_fork_before_look(void)
{
	struct world *w = world_new(true);
	uint64_t forked_ns = clock_monotonic_ns(), lost_ns;
	int go[2];
	pid_t pid;

	pid = fork_waiting(go);
	lost_ns = clock_monotonic_ns();
	addrspaces_get(w->spaces, getpid());
	w->num_learned = 0;
	addrspaces_fork(w->spaces, pid, getpid(), pid, getpid(), forked_ns);
	addrspaces_lost(w->spaces, lost_ns);
	addrspaces_get(w->spaces, getpid());
	CHECK(w->num_learned == 0);
	addrspaces_get(w->spaces, pid);
	CHECK(w->num_learned == 1);
	/* Nothing is lost in what is still to come, whatever a record says. */
	addrspaces_lost(w->spaces, UINT64_MAX);
	addrspaces_get(w->spaces, pid);
	addrspaces_get(w->spaces, pid);
	CHECK(w->num_learned == 2);
	close(go[0]);
	close(go[1]);
	waitpid(pid, NULL, 0);
	world_free(w);
}

/* Ended, and no EXIT tells of it. */
static void test_sweep(void)
{
	struct world *w = world_new(true);
	uint64_t end_ns = clock_monotonic_ns() + UINT64_C(60000000000);
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	addrspaces_get(w->spaces, getpid());
	addrspaces_fork(w->spaces, pid, getpid(), pid, getpid(), clock_monotonic_ns());
	set_comm(w, pid, pid, "over", false, clock_monotonic_ns());
	addrspaces_sweep(w->spaces);
	CHECK(addrspaces_peek(w->spaces, pid)); /* it will come */
	addrspaces_lost(w->spaces, clock_monotonic_ns());
	w->num_learned = 0;
	addrspaces_sweep(w->spaces);
	CHECK(addrspaces_peek(w->spaces, pid)); /* records may */
	while (addrspaces_peek(w->spaces, pid) && clock_monotonic_ns() < end_ns) {
		usleep(100000);
		addrspaces_sweep(w->spaces);
	}
	CHECK(!addrspaces_peek(w->spaces, pid) && addrspaces_peek(w->spaces, getpid()) && w->num_gone == 1);
	CHECK(w->num_learned == 1 && w->ended);
	CHECK_STR(comm_of(w, pid, pid), "over");
	world_free(w);
}

enum { LIVING = 3, NUMBERS = 12, RANDOM_RECORDS = 20000 };

struct random_world {
	struct world *w;
	pid_t pids[NUMBERS]; /* the first are processes; some of the others are gone */
	uint32_t seed;
};

static uint32_t next_random(struct random_world *r, uint32_t below)
{
	r->seed = r->seed * 1664525 + 1013904223;
	return (r->seed >> 8) % below;
}

static void random_record(struct random_world *r)
{
	static const char *const paths[] = { "/bin/sh", "//anon", "/memfd:x (deleted)", "/no/such/file", NULL };
	struct addrspaces *a = r->w->spaces;
	pid_t pid = r->pids[next_random(r, NUMBERS)], other = r->pids[next_random(r, NUMBERS)];
	/* Before and after what is read now. */
	uint64_t time_ns = clock_monotonic_ns() - next_random(r, 4) * UINT64_C(3000000) + next_random(r, 2) * 500000;
	uint64_t start = 0x10000 * (1 + next_random(r, 8));

	switch (next_random(r, 10)) {
	case 0:
		addrspaces_fork(a, pid, other, pid, other, time_ns);
		break;
	case 1:
		addrspaces_fork(a, pid, pid, other, pid, time_ns);
		break;
	case 2:
		set_comm(r->w, pid, other, "random", false, time_ns);
		break;
	case 3:
		set_comm(r->w, pid, pid, "exec", true, time_ns);
		break;
	case 4:
		addrspaces_exit(a, pid, next_random(r, 2) ? pid : other, time_ns);
		break;
	case 5:
		map_at(r->w, pid, start, start + 0x10000 * (1 + next_random(r, 3)), 0, paths[next_random(r, 5)], time_ns);
		break;
	case 6:
		addrspaces_found(a, pid, other, next_random(r, 2) ? pid : other, time_ns);
		break;
	case 7:
		addrspaces_lost(a, time_ns);
		break;
	case 8:
		CHECK(addrspaces_get(a, pid)->pid == pid);
		addrspaces_advance(a, time_ns);
		addrspaces_comm(a, pid, other);
		break;
	case 9:
		r->w->put_down = next_random(r, 2);
		addrspaces_overtook(a, pid, time_ns);
		addrspaces_sweep(a);
		break;
	}
}

/* Records in any order, of processes that are there and that are not, with losses between: in the end /proc tells. */
static void test_random_loss(void)
{
	struct random_world r = { .w = world_new(true), .seed = 1 };
	uint64_t own = (uintptr_t)&test_random_loss;
	int go[2];
	char byte;

	CHECK(!pipe(go));
	for (size_t i = 0; i < NUMBERS; i++) {
		r.pids[i] = i < LIVING ? fork() : 0x3ffffff0 + (pid_t)i;
		if (!r.pids[i]) {
			close(go[1]);
			_exit(read(go[0], &byte, 1) != 0);
		}
	}
	for (int i = 0; i < RANDOM_RECORDS; i++)
		random_record(&r);
	later(r.w);
	for (size_t i = 0; i < LIVING; i++) {
		uint64_t end_ns = clock_monotonic_ns() + UINT64_C(20000000000);
		struct addrspace *space;

		do { /* time for looking may be used up */
			addrspaces_lost(r.w->spaces, clock_monotonic_ns());
			space = addrspaces_get(r.w->spaces, r.pids[i]);
		} while (!addrspace_find(space, own) && clock_monotonic_ns() < end_ns);
		CHECK(addrspace_find(space, own) && !addrspace_find(space, 0x10000));
		CHECK_STR(comm_of(r.w, r.pids[i], r.pids[i]), "renamed");
	}
	close(go[0]);
	close(go[1]);
	for (size_t i = 0; i < LIVING; i++)
		waitpid(r.pids[i], NULL, 0);
	world_free(r.w);
}

/* A process that was gone when a record first told of it: samples come behind its EXIT as well. */
static void test_ghost_leaves(void)
{
	struct world *w = world_new(true);
	uint64_t now_ns = clock_monotonic_ns();

	for (pid_t pid = 0x3fffff00; pid < 0x3fffff00 + 200; pid++) {
		addrspaces_get(w->spaces, pid);
		addrspaces_exit(w->spaces, pid, pid, now_ns);
		CHECK(addrspaces_peek(w->spaces, pid)->left);
	}
	CHECK(addrspaces_count(w->spaces) == 200);
	later(w);
	CHECK(addrspaces_count(w->spaces) == 0);
	world_free(w);
}

/* Who loses records all the time is not to read /proc all the time. */
static void test_constant_loss(void)
{
	struct world *w = world_new(true);
	uint64_t end_ns;
	size_t asked = 0;

	addrspaces_get(w->spaces, getpid());
	end_ns = clock_monotonic_ns() + 1000000000;
	for (; clock_monotonic_ns() < end_ns; asked++) {
		addrspaces_lost(w->spaces, clock_monotonic_ns());
		addrspaces_get(w->spaces, getpid());
	}
	CHECK(w->num_learned > 1 && w->num_learned < asked / 4);
	world_free(w);
}

/*
 * A program that ended before its records were read, and so did who started it: the shell of its container is
 * still there.
 */
static void test_grandparent(void)
{
	const pid_t middle = 4500001, leaf = 4500002; /* beyond PID_MAX_LIMIT: nobody has these */
	char dir[] = "/var/tmp/ringfold-test-XXXXXX", command[200], path[64];
	struct world *w = world_new(true);
	struct mmap_record m = { .pid = leaf, .tid = leaf, .start = 0x400000, .len = 0x1000,
				 .executable = true, .path = "/only_here", .path_len = 10 };
	struct addrspace *space;
	struct stat st;
	int pipes[2];
	char byte;
	pid_t shell;

	if (geteuid()) {
		fprintf(stderr, "SKIP: chroot needs root\n");
		world_free(w);
		return;
	}
	CHECK(mkdtemp(dir) && pipe(pipes) == 0);
	snprintf(command, sizeof(command), "cp /proc/%d/exe %s/only_here", getpid(), dir);
	CHECK(system(command) == 0);
	snprintf(path, sizeof(path), "%s/only_here", dir);
	CHECK(stat(path, &st) == 0);
	shell = fork();
	if (!shell) {
		close(pipes[1]);
		if (chroot(dir) < 0)
			_exit(1);
		_exit(read(pipes[0], &byte, 1) != 0);
	}
	for (int i = 0; i < 5000; i++) { /* until it is in its root */
		char link[64], text[64];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/%d/root", shell);
		n = readlink(link, text, sizeof(text));
		if (n == (ssize_t)strlen(dir) && !memcmp(text, dir, (size_t)n))
			break;
		usleep(1000);
	}
	addrspaces_fork(w->spaces, middle, shell, middle, shell, 10);
	addrspaces_fork(w->spaces, leaf, middle, leaf, middle, 11);
	m.maj = major(st.st_dev);
	m.min = minor(st.st_dev);
	m.ino = st.st_ino;
	addrspaces_mmap(w->spaces, &m, 12);
	space = addrspaces_peek(w->spaces, leaf);
	CHECK(space);
	if (space) {
		const struct mapping *map = addrspace_find(space, 0x400000);

		CHECK(map && map->file && map->file->kind == FILE_ELF);
	}
	close(pipes[0]);
	close(pipes[1]);
	waitpid(shell, NULL, 0);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	CHECK(system(command) == 0);
	world_free(w);
}

int main(void)
{
	test_overlaps();
	test_find();
	test_jit_names();
	test_fork();
	test_exec();
	test_exit();
	test_behind_exit();
	test_renames();
	test_pid_reuse();
	test_churn();
	test_self();
	test_threads();
	test_zombie();
	test_grandparent();
	test_scan();
	test_scan_tasks();
	test_uid();
	test_leaderless();
	test_after_loss();
	test_names_after_loss();
	test_fork_before_look();
	test_sweep();
	test_ghost_leaves();
	test_random_loss();
	test_constant_loss();
	return check_done();
}
