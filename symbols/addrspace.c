#include "symbols/addrspace_priv.h"

#include "base/err.h"
#include "base/intern.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "target/door.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	MAX_RELATIVES = 10,
	MAX_LEAVING = 1024, /* no machine ends more within grace_ns */
};

static const uint64_t grace_ns = 10000000; /* between the EXIT of a process and the end of what is known of it */

struct space *space_of(struct addrspace *space)
{
	return (struct space *)space;
}

/* --- Mappings --- */

const struct mapping *addrspace_find(const struct addrspace *space, uint64_t addr)
{
	const struct mapping *m = mappings_next(&space->maps, addr);

	return m && m->start <= addr ? m : NULL;
}

/*
 * addr - vaddr. The segment is the executable one that most of the mapping's bytes belong to: the
 * page where two segments meet in the file is mapped for both, so its offset alone does not tell.
 */
static uint64_t load_bias(const struct elf_file *elf, const struct mapping *m)
{
	const struct elf_load *loads, *best = NULL;
	size_t num = elf_file_loads(elf, &loads);
	uint64_t map_end = m->pgoff + (m->end - m->start), most = 0;

	for (size_t i = 0; i < num; i++) {
		uint64_t low = loads[i].offset > m->pgoff ? loads[i].offset : m->pgoff;
		uint64_t high, bytes;

		if (__builtin_add_overflow(loads[i].offset, loads[i].filesz, &high))
			continue;
		high = high < map_end ? high : map_end;
		bytes = high > low ? high - low : 0;
		if (!bytes || (best && best->executable && !loads[i].executable))
			continue;
		if (bytes > most || (loads[i].executable && !best->executable)) {
			most = bytes;
			best = &loads[i];
		}
	}
	if (!best)
		return m->start - m->pgoff;
	return m->start - (best->vaddr + (m->pgoff - best->offset));
}

uint64_t mapping_bias(const struct mapping *m)
{
	return m->bias_later ? load_bias(m->file->elf, m) : m->bias;
}

struct space *space_peek(const struct addrspaces *a, pid_t pid)
{
	struct space_slot *slot = spaces_find(&a->spaces, pid);

	return slot ? slot->space : NULL;
}

/*
 * Who may still see the files of a process that ended before its records were read: its ancestors, as a shell in
 * the same container outlives what it starts; then the machine's own root, and ours. Only a file with the mapped
 * one's device and inode is taken there.
 */
static size_t list_relatives(struct addrspaces *a, const struct space *s, pid_t ret[MAX_RELATIVES])
{
	size_t num = 0;

	while (num < MAX_RELATIVES - 2 && s && s->pub.ppid > 1) {
		ret[num++] = s->pub.ppid;
		s = space_peek(a, s->pub.ppid);
	}
	ret[num++] = 1;
	ret[num++] = getpid();
	return num;
}

/* Where JIT compilers put code as well, but some programs and libraries are loaded from there. */
static bool is_memfd_path(const char *path)
{
	return !strncmp(path, "/memfd:", strlen("/memfd:"));
}

static struct file *mapped_file(struct addrspaces *a, struct space *s,
				const struct door_mapping *dm, uint32_t generation)
{
	pid_t also[MAX_RELATIVES];
	size_t num;

	if (!strcmp(dm->path, "[vdso]"))
		return s->pub.compat ? files_special(a->opts.files, "[vdso]")
				     : files_vdso(a->opts.files, dm);
	if (*dm->path == '[')
		return files_special(a->opts.files, dm->path);
	num = list_relatives(a, s, also);
	return files_get(a->opts.files, dm, generation, also, num);
}

void space_add_mapping(struct addrspaces *a, struct space *s, const struct door_mapping *dm,
			uint64_t pgoff, uint32_t generation)
{
	struct mapping m = { .start = dm->start, .end = dm->end, .pgoff = pgoff };

	if (is_memfd_path(dm->path)) {
		m.file = files_in_memory(a->opts.files, dm, generation);
	} else if (!proc_is_jit_path(dm->path)) {
		m.file = mapped_file(a, s, dm, generation);
		if (!m.file)
			return; /* out of memory */
	}
	/* No ELF file and no name any more: how libffi and others get writable code. */
	if (m.file && m.file->kind == FILE_OTHER && m.file->deleted)
		m.file = NULL;
	if (!m.file) {
		m.pgoff = m.start;
	} else {
		files_ref(m.file);
		m.bias_later = m.file->kind == FILE_ELF && elf_file_is_remote(m.file->elf);
		if (m.file->kind == FILE_ELF && !m.bias_later)
			m.bias = load_bias(m.file->elf, &m);
		if (m.file->kind == FILE_ELF && !s->class_known) {
			s->class_known = true;
			s->pub.compat = !elf_file_is_64(m.file->elf);
		}
	}
	s->pub.version += mappings_add(&s->pub.maps, a->opts.files, m);
}

/* --- Processes --- */

void space_forget_ghost(struct addrspaces *a, struct space *s)
{
	for (size_t i = 0; i < MAX_GHOSTS; i++) {
		if (a->ghosts[i] == s->pub.pid)
			a->ghosts[i] = 0;
	}
	s->ghost = false;
}

void space_end(struct addrspaces *a, struct space *s)
{
	s->pub.dead = true;
	if (a->opts.space_gone)
		a->opts.space_gone(a->opts.data, &s->pub);
	space_forget_tasks(a, s);
	spaces_remove(&a->spaces, s->pub.pid);
	mappings_deinit(&s->pub.maps, a->opts.files);
	if (s->ghost)
		space_forget_ghost(a, s);
	vec_deinit(&s->tids);
	free(s);
}

static void end_first_leaving(struct addrspaces *a)
{
	const struct leaving leaving = a->leaving.data[a->first_leaving++];
	struct space *s = space_peek(a, leaving.pid);

	if (s && s->pub.id == leaving.id)
		space_end(a, s);
}

void addrspaces_advance(struct addrspaces *a, uint64_t time_ns)
{
	while (a->first_leaving < a->leaving.len && a->leaving.data[a->first_leaving].until_ns <= time_ns)
		end_first_leaving(a);
	if (a->first_leaving == a->leaving.len) {
		a->leaving.len = a->first_leaving = 0;
	} else if (a->first_leaving > a->leaving.len / 2) {
		vec_remove(&a->leaving, 0, a->first_leaving);
		a->first_leaving = 0;
	}
}

/* Its last task has ended. */
static void space_leave(struct addrspaces *a, struct space *s, uint64_t time_ns)
{
	const struct leaving leaving = { s->pub.pid, s->pub.id, time_ns + grace_ns };

	if (s->ghost)
		space_forget_ghost(a, s);
	if (!time_ns || leaving.until_ns < time_ns || !vec_push(&a->leaving, leaving)) {
		s->pub.left = true;
		space_end(a, s);
		return;
	}
	if (a->leaving.len - a->first_leaving > MAX_LEAVING)
		end_first_leaving(a);
	space_forget_tasks(a, s);
	s->pub.dead = s->pub.left = true;
}

/* A record tells of that process: one that ended is not meant. */
static void now_is(struct addrspaces *a, pid_t pid, uint64_t time_ns)
{
	struct space *s;

	addrspaces_advance(a, time_ns);
	s = space_peek(a, pid);
	if (s && s->pub.left)
		space_end(a, s);
}

struct space *space_add(struct addrspaces *a, pid_t pid)
{
	struct space *s = calloc(1, sizeof(*s));
	struct space_slot *slot = s ? spaces_add(&a->spaces, pid, NULL) : NULL;

	if (!slot) {
		free(s);
		return NULL;
	}
	*slot = (struct space_slot){ pid, s };
	s->pub.pid = s->through = pid;
	s->pub.id = ++a->next_id;
	s->pub.uid = (uid_t)-1;
	return s;
}

void space_make_ghost(struct addrspaces *a, struct space *s)
{
	pid_t oldest = a->ghosts[a->next_ghost];
	struct space *old = oldest ? space_peek(a, oldest) : NULL;

	if (old)
		space_end(a, old);
	s->ghost = true;
	a->ghosts[a->next_ghost] = s->pub.pid;
	a->next_ghost = (a->next_ghost + 1) % MAX_GHOSTS;
}

struct addrspace *addrspaces_peek(struct addrspaces *a, pid_t pid)
{
	struct space *s = space_peek(a, pid);

	return s ? &s->pub : NULL;
}

int addrspaces_new(const struct addrspaces_opts *opts, struct addrspaces **ret, struct err *err)
{
	struct addrspaces *a = calloc(1, sizeof(*a));

	if (!a)
		return err_oom(err);
	a->opts = *opts;
	a->next_id = opts->first_id;
	a->comm_unknown = intern_id(opts->strings, "[unknown]", 9);
	a->comm_idle = intern_id(opts->strings, "swapper", 7);
	if (a->comm_unknown == UINT32_MAX || a->comm_idle == UINT32_MAX) {
		free(a);
		return err_oom(err);
	}
	*ret = a;
	return 0;
}

void addrspaces_free(struct addrspaces *a)
{
	struct space_slot *slot;
	size_t cursor = 0;

	if (!a)
		return;
	while ((slot = spaces_next(&a->spaces, &cursor))) {
		space_end(a, slot->space);
		cursor--; /* the table may have moved another one to this place */
	}
	spaces_deinit(&a->spaces);
	tasks_deinit(&a->tasks);
	vec_deinit(&a->leaving);
	free(a);
}

size_t addrspaces_count(const struct addrspaces *a)
{
	return a->spaces.len;
}

/* --- Records --- */

static bool is_older(const struct space *s, uint64_t time_ns)
{
	return s && time_ns < s->read_ns;
}

void addrspaces_mmap(struct addrspaces *a, const struct mmap_record *m, uint64_t time_ns)
{
	struct door_mapping dm = {
		.pid = m->pid,
		.start = m->start,
		.maj = m->maj,
		.min = m->min,
		.ino = m->ino,
		.build_id = m->build_id,
		.build_id_len = m->build_id_len,
		.build_id_of_path = m->build_id_of_path,
	};
	char path[4096 + 16]; /* PATH_MAX and " (deleted)" */
	struct space *s;
	size_t len;

	if (m->pid <= 0 || !m->len || __builtin_add_overflow(m->start, m->len, &dm.end) ||
	    dm.end > address_half)
		return;
	now_is(a, m->pid, time_ns);
	s = space_get(a, m->pid);
	if (!s || is_older(s, time_ns))
		return;
	if (!m->executable) {
		s->pub.version += mappings_cut(&s->pub.maps, a->opts.files, dm.start, dm.end);
		return;
	}
	dm.pid = s->through;
	len = m->path_len < sizeof(path) - 1 ? m->path_len : sizeof(path) - 1;
	memcpy(path, m->path, len);
	path[len] = '\0';
	dm.path = path;
	space_add_mapping(a, s, &dm, m->pgoff, (uint32_t)m->ino_generation);
}

static void fork_process(struct addrspaces *a, pid_t pid, pid_t ppid, pid_t tid, pid_t ptid,
			 uint64_t time_ns)
{
	struct space *child = space_peek(a, pid), *parent;
	struct task *ptask;

	if (is_older(child, time_ns))
		return; /* it is this very process, or a later one */
	if (child)
		space_end(a, child);
	parent = space_peek(a, ppid);
	/* What an unknown parent is now says little about what it was when it forked. */
	if (!parent || parent->ghost) {
		child = space_get(a, pid);
		if (!child || child->read_ns)
			return;
		space_end(a, child);
		parent = space_get(a, ppid);
	}
	child = space_add(a, pid);
	if (!child)
		return;
	/* Its parent may have been looked at since. */
	child->sure_ns = parent && parent->sure_ns < time_ns ? parent->sure_ns : time_ns;
	ptask = tasks_find(&a->tasks, ptid);
	child->pub.ppid = ppid;
	if (parent) {
		child->pub.uid = parent->pub.uid;
		child->pub.exec_ns = parent->pub.exec_ns;
		child->pub.compat = parent->pub.compat;
		child->pub.denied = parent->pub.denied;
		child->class_known = parent->class_known;
		mappings_copy(&child->pub.maps, a->opts.files, &parent->pub.maps);
	}
	task_add(a, child, tid, ptask ? ptask->comm : comm_in_proc);
}

void addrspaces_fork(struct addrspaces *a, pid_t pid, pid_t ppid, pid_t tid, pid_t ptid,
		     uint64_t time_ns)
{
	const struct task *ptask;
	struct space *s;
	struct comm comm;

	if (pid <= 0 || tid <= 0)
		return;
	now_is(a, pid, time_ns);
	now_is(a, ppid, time_ns);
	if (pid != ppid) {
		fork_process(a, pid, ppid, tid, ptid, time_ns);
		return;
	}
	s = space_get(a, pid);
	if (!s || is_older(s, time_ns))
		return; /* if it still lives it was found with the rest */
	ptask = tasks_find(&a->tasks, ptid);
	comm = ptask ? ptask->comm : comm_in_proc;
	task_remove(a, tid); /* the number may have been another thread's whose EXIT was lost */
	task_add(a, s, tid, comm);
}

void addrspaces_found(struct addrspaces *a, pid_t pid, pid_t ppid, pid_t tid, uint64_t time_ns)
{
	struct space *s;

	if (pid <= 0 || tid <= 0)
		return;
	if (pid != tid) {
		addrspaces_fork(a, pid, pid, tid, pid, time_ns);
		return;
	}
	now_is(a, pid, time_ns);
	s = space_peek(a, pid);
	if (is_older(s, time_ns))
		return;
	if (s) {
		space_remember_tasks(a, s);
		space_end(a, s);
	}
	s = space_add(a, pid);
	if (!s)
		return;
	s->pub.ppid = ppid;
	s->sure_ns = time_ns;
	task_add(a, s, tid, comm_in_proc);
}

/* The program is another one: what the old one had mapped, named and was called ends. */
static void exec_process(struct addrspaces *a, pid_t pid, pid_t tid, struct comm comm,
			 uint64_t time_ns)
{
	struct space *old = space_peek(a, pid), *s;
	uid_t uid = (uid_t)-1;
	pid_t ppid = 0;

	if (old) {
		uid = old->pub.uid;
		ppid = old->pub.ppid;
		space_end(a, old);
	}
	s = space_add(a, pid);
	if (!s)
		return;
	s->pub.uid = uid;
	s->pub.ppid = ppid;
	s->pub.exec_ns = s->sure_ns = time_ns;
	/* A thread that execs takes the leader's number (fs/exec.c de_thread), all others have
	 * ended. */
	task_add(a, s, tid, comm);
}

void addrspaces_comm_changed(struct addrspaces *a, pid_t pid, pid_t tid, const char *comm,
			     size_t len, bool exec, uint64_t time_ns)
{
	struct comm name = comm_of(a, comm, len);
	struct space *s;
	struct task *task;

	now_is(a, pid, time_ns);
	if (pid <= 0 || tid <= 0)
		return;
	s = space_peek(a, pid);
	if (exec && !is_older(s, time_ns)) {
		exec_process(a, pid, tid, name, time_ns);
		return;
	}
	s = s ? s : space_get(a, pid);
	if (is_older(s, time_ns))
		return;
	task = s && !s->ghost ? task_add(a, s, tid, name) : NULL;
	if (task) {
		task->comm = name;
		task->ask = false;
	}
}

void addrspaces_exit(struct addrspaces *a, pid_t pid, pid_t tid, uint64_t time_ns)
{
	struct space *s;
	struct task *task;
	struct comm comm;
	bool known, last;

	addrspaces_advance(a, time_ns);
	s = space_peek(a, pid);
	task = tasks_find(&a->tasks, tid);
	known = task && task->pid == pid;
	if (!s || s->pub.left) {
		task_remove(a, tid);
		return;
	}
	last = s->tids.len == (known ? 1 : 0);
	/*
	 * Read after this record was written: the task has ended before, so what is known now is
	 * another one of the same number, except that a leader stays listed as long as its threads
	 * live.
	 */
	if (is_older(s, time_ns) && (tid != pid || last))
		return;
	comm = known && task->comm.id != COMM_IN_PROC ? task->comm : process_comm(a, pid);
	ended_remember(a, pid, tid, comm, last);
	if (last && tid != pid)
		ended_remember(a, pid, pid, process_comm(a, pid), true);
	if (last)
		space_leave(a, s, time_ns);
	else if (known)
		task_remove(a, tid);
	if (!last && s->through == tid)
		s->through = s->tids.data[0];
}

bool addrspaces_overtook(const struct addrspaces *a, pid_t pid, uint64_t time_ns)
{
	const struct space *s = space_peek(a, pid);

	return s && s->put_down && is_older(s, time_ns);
}
