/*
 * Bytes become mmap, fork, comm, exec and exit records of four processes; after each, what the
 * address spaces say is held against a model that keeps one owner per page.
 */
#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROCS = 4, THREADS = 4, PAGES = 64, FILES = 4, OP_BYTES = 6, PAGE = 4096, JIT = FILES,
       GRACE_NS = 10000000, TICK_NS = 1000000 };

struct page {
	bool mapped;
	uint8_t owner;   /* a file, or JIT */
	uint64_t offset; /* in the file */
};

struct proc {
	bool alive;
	uint64_t left_ns; /* it ended then, and is kept for GRACE_NS; 0 = it lives */
	bool tasks[THREADS]; /* the first is the leader */
	uint32_t id;
	struct page pages[PAGES];
};

struct model {
	struct files *files;
	struct addrspaces *spaces;
	struct proc procs[PROCS];
	size_t gone, seen_gone;
	uint64_t time_ns;
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void space_gone(void *data, struct addrspace *space)
{
	struct model *m = data;

	must(space->dead);
	m->seen_gone++;
}

static void evicted(void *data, struct file *file)
{
	must(file->refs == 0);
}

static pid_t pid_of(unsigned int proc)
{
	return (pid_t)(1000 + proc * THREADS);
}

/* What an unknown process becomes when a record names it. */
static struct proc *touch(struct model *m, unsigned int index)
{
	struct proc *proc = &m->procs[index];

	if (!proc->alive) {
		memset(proc, 0, sizeof(*proc));
		proc->alive = true;
	}
	return proc;
}

static void end(struct model *m, struct proc *proc)
{
	m->gone += proc->alive;
	memset(proc, 0, sizeof(*proc));
}

/* Its last task ended. */
static void leave(struct model *m, struct proc *proc)
{
	if (proc->alive && !proc->left_ns)
		proc->left_ns = m->time_ns;
}

/* What ended is not meant by a record that tells of its number. */
static void now_is(struct model *m, struct proc *proc)
{
	if (proc->left_ns)
		end(m, proc);
}

static void advance(struct model *m)
{
	for (unsigned int i = 0; i < PROCS; i++) {
		if (m->procs[i].left_ns && m->procs[i].left_ns + GRACE_NS <= m->time_ns)
			end(m, &m->procs[i]);
	}
}

static void do_mmap(struct model *m, const uint8_t *op, bool executable)
{
	unsigned int first = op[2] % PAGES, num = op[3] % 16 + 1, owner = op[4] % (FILES + 1);
	char path[16];
	struct mmap_record record = {
		.pid = pid_of(op[1] % PROCS),
		.tid = pid_of(op[1] % PROCS),
		.start = (uint64_t)(first + 1) * PAGE,
		.pgoff = (uint64_t)(op[5] % 8) * PAGE,
		.executable = executable,
		.path = path,
	};
	struct proc *proc;

	now_is(m, &m->procs[op[1] % PROCS]);
	proc = touch(m, op[1] % PROCS);
	if (first + num > PAGES)
		num = PAGES - first;
	record.len = (uint64_t)num * PAGE;
	if (owner == JIT)
		snprintf(path, sizeof(path), "//anon");
	else
		snprintf(path, sizeof(path), "/f%u", owner);
	record.path_len = strlen(path);
	addrspaces_mmap(m->spaces, &record, m->time_ns);
	for (unsigned int i = 0; i < num; i++) {
		proc->pages[first + i] = (struct page){
			.mapped = executable,
			.owner = (uint8_t)owner,
			.offset = record.pgoff + (uint64_t)i * PAGE,
		};
	}
}

static void do_fork(struct model *m, const uint8_t *op)
{
	unsigned int parent = op[1] % PROCS, child = op[2] % PROCS, thread = op[3] % THREADS;

	now_is(m, &m->procs[child]);
	now_is(m, &m->procs[parent]);
	if (parent == child) {
		addrspaces_fork(m->spaces, pid_of(parent), pid_of(parent),
				pid_of(parent) + (pid_t)thread, pid_of(parent), m->time_ns);
		touch(m, parent)->tasks[thread] = true;
		return;
	}
	addrspaces_fork(m->spaces, pid_of(child), pid_of(parent), pid_of(child), pid_of(parent),
			m->time_ns);
	end(m, &m->procs[child]);
	/* A parent nobody spoke of: the child is looked for first, then dropped for its copy. */
	m->gone += !m->procs[parent].alive;
	m->procs[child] = *touch(m, parent);
	memset(m->procs[child].tasks, 0, sizeof(m->procs[child].tasks));
	m->procs[child].tasks[0] = true;
	m->procs[child].id = 0;
}

static void do_comm(struct model *m, const uint8_t *op, bool exec)
{
	unsigned int index = op[1] % PROCS, thread = exec ? 0 : op[2] % THREADS;
	struct proc *proc = &m->procs[index];

	addrspaces_comm_changed(m->spaces, pid_of(index), pid_of(index) + (pid_t)thread, "name", 4,
				exec, m->time_ns);
	now_is(m, proc);
	if (exec)
		end(m, proc);
	touch(m, index)->tasks[thread] = true;
}

static void do_exit(struct model *m, const uint8_t *op)
{
	unsigned int index = op[1] % PROCS, thread = op[2] % THREADS, num = 0;
	struct proc *proc = &m->procs[index];

	addrspaces_exit(m->spaces, pid_of(index), pid_of(index) + (pid_t)thread, m->time_ns);
	proc->tasks[thread] = false;
	for (unsigned int i = 0; i < THREADS; i++)
		num += proc->tasks[i];
	if (!num)
		leave(m, proc);
}

static void check_pages(const struct proc *proc, const struct addrspace *space)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		uint64_t addr = (uint64_t)(i + 1) * PAGE + 123;
		const struct mapping *map = addrspace_find(space, addr);
		const struct page *page = &proc->pages[i];

		must((map != NULL) == page->mapped);
		if (!map)
			continue;
		must((map->file == NULL) == (page->owner == JIT));
		if (map->file) {
			must(map->file->path[2] == '0' + page->owner);
			must(addr - map->start + map->pgoff == page->offset + 123);
		} else {
			must(map->pgoff == map->start);
		}
	}
	must(!addrspace_find(space, 0) && !addrspace_find(space, (PAGES + 1) * PAGE));
}

static void check(struct model *m)
{
	uint32_t refs[64] = { 0 }, max_id = 0;
	size_t alive = 0;

	for (unsigned int i = 0; i < PROCS; i++) {
		struct addrspace *space = addrspaces_peek(m->spaces, pid_of(i));
		uint64_t end_before = 0;

		must((space != NULL) == m->procs[i].alive);
		if (!space)
			continue;
		alive++;
		must(space->dead == (m->procs[i].left_ns != 0) && (!m->procs[i].id || m->procs[i].id == space->id));
		m->procs[i].id = space->id;
		mappings_for_each(map, &space->maps) {
			must(map->start < map->end && map->start >= end_before);
			end_before = map->end;
			if (!map->file)
				continue;
			must(files_by_id(m->files, map->file->id) == map->file);
			refs[map->file->id % 64]++;
			max_id = map->file->id > max_id ? map->file->id : max_id;
		}
		check_pages(&m->procs[i], space);
	}
	for (uint32_t id = 1; id <= max_id && max_id < 64; id++) {
		const struct file *file = files_by_id(m->files, id);

		must((file ? file->refs : 0) == refs[id]);
	}
	must(addrspaces_count(m->spaces) == alive);
	must(m->seen_gone == m->gone);
	must(files_count(m->files) <= FILES);
}

static void step(struct model *m, const uint8_t *op)
{
	advance(m);
	/* Records do the same; some of the time there are none. */
	if (op[0] & 0x80)
		addrspaces_advance(m->spaces, m->time_ns);
	switch (op[0] % 8) {
	case 0:
	case 1:
	case 2:
		do_mmap(m, op, true);
		break;
	case 3:
		do_mmap(m, op, false);
		break;
	case 4:
		do_fork(m, op);
		break;
	case 5:
		do_comm(m, op, false);
		break;
	case 6:
		do_comm(m, op, true);
		break;
	case 7:
		do_exit(m, op);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model m = { .time_ns = 1 };
	struct intern *strings = intern_new();
	struct files_opts files_opts = { .strings = strings, .max_idle = 2, .evict = evicted };
	struct addrspaces_opts opts = { .strings = strings, .space_gone = space_gone, .data = &m };

	if (!strings || files_new(&files_opts, &m.files, NULL) < 0) {
		intern_free(strings);
		return 0;
	}
	opts.files = m.files;
	must(addrspaces_new(&opts, &m.spaces, NULL) == 0);
	for (size_t at = 0; at + OP_BYTES <= size && at < 4096; at += OP_BYTES, m.time_ns += TICK_NS) {
		step(&m, data + at);
		check(&m);
	}
	addrspaces_free(m.spaces);
	must(files_count(m.files) <= files_opts.max_idle);
	files_free(m.files);
	intern_free(strings);
	return 0;
}
