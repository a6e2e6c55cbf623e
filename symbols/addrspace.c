#include "symbols/addrspace.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	MAX_RELATIVES = 10,
	MAX_GHOSTS = 64,
	MAX_ENDED = 256,
	MAX_LEAVING = 1024, /* no machine ends more within grace_ns */
	MAX_COMM_BYTES = 64, /* names of kernel workers are longer than TASK_COMM_LEN */
};

static const uint64_t grace_ns = 10000000; /* between the EXIT of a process and the end of what is known of it */
static const int64_t look_at_once_ns = 200000000; /* for looking again at processes after a loss */
static const uint64_t sweep_every_ns = 5000000000; /* records come sooner than that */
static const int64_t look_share = 10;             /* and one part in so many of the time since */
static const size_t max_maps_text = 32u << 20;
static const uint64_t kernel_half = UINT64_C(1) << 63;

struct space {
	struct addrspace pub; /* first: the outside knows only this */
	uint64_t read_ns; /* CLOCK_MONOTONIC before it was read from /proc; 0 = its maps were not */
	uint64_t sure_ns; /* records since then have told all that changed in it, unless some were lost */
	bool put_down;    /* what was read is where records are: opts.learned said so */
	VEC(pid_t) tids;  /* its known live tasks */
	pid_t through;    /* whose /proc tells of it: its leader, or a thread when the leader has ended */
	bool class_known; /* pub.compat was decided by a mapped ELF file */
	uint64_t uid_ns;  /* CLOCK_MONOTONIC when uid was read; 0 = a fork or an exec came since */
	bool ghost;       /* no EXIT will come for it */
	uint8_t missed;   /* so often addrspaces_sweep did not find it in /proc */
};

/*
 * A task's name. Strings live as long as the run, so a name becomes one only when a sample asks for it: programs that
 * rename themselves without end are not to fill the memory.
 */
struct comm {
	uint32_t id;   /* of the string, or one of: */
	char text[16]; /* TASK_COMM_LEN of include/linux/sched.h; with COMM_IN_TEXT */
};

enum { COMM_IN_PROC = UINT32_MAX, COMM_IN_TEXT = UINT32_MAX - 1 };

static const struct comm comm_in_proc = { .id = COMM_IN_PROC };

struct task {
	pid_t tid, pid;
	struct comm comm;
	uint32_t index; /* in the space's tids */
	bool ask;       /* /proc knows its name better, if it is still there */
	bool listed;    /* by read_task, since the flag was cleared */
};

struct space_slot {
	pid_t pid;
	struct space *space;
};

HTAB(spaces, struct space_slot, pid_t, hash_u64((uint32_t)key), slot->pid == key,
     hash_u64((uint32_t)slot->pid));
HTAB(tasks, struct task, pid_t, hash_u64((uint32_t)key), slot->tid == key,
     hash_u64((uint32_t)slot->tid));

/* A task that ended lately, or one that is not worth a place in the table. */
struct ended {
	pid_t pid, tid; /* 0 = free */
	struct comm comm;
	bool was_process; /* its process ended with it */
};

/* A process that ended, if the space of that pid is still that one. */
struct leaving {
	pid_t pid;
	uint32_t id;
	uint64_t until_ns;
};

struct addrspaces {
	struct addrspaces_opts opts;
	VEC(struct leaving) leaving; /* in the order of their ends; those before first_leaving are gone */
	size_t first_leaving;
	struct spaces spaces;
	struct tasks tasks;
	pid_t ghosts[MAX_GHOSTS]; /* a ring; 0 = free */
	size_t next_ghost;
	struct ended ended[MAX_ENDED]; /* a ring */
	size_t next_ended;
	uint32_t next_id;
	uint32_t comm_unknown, comm_idle;
	bool scanning;
	uint64_t swept_ns; /* CLOCK_MONOTONIC of the last addrspaces_sweep that looked */
	bool sweep_again;  /* which missed some for the first time */
	uint64_t lost_ns;  /* CLOCK_MONOTONIC: records may be missing that were written until then; 0 = none are */
	int64_t allow_ns;  /* time left for looking again, as of allowed_ns; below 0 = overdrawn */
	uint64_t allowed_ns;
};

static struct space *space_of(struct addrspace *space)
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

static struct space *space_peek(struct addrspaces *a, pid_t pid)
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

/* An executable mapping as told by a record or by /proc. */
static void add_mapping(struct addrspaces *a, struct space *s, const struct door_mapping *dm,
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

/* --- Tasks --- */

static void task_remove(struct addrspaces *a, pid_t tid)
{
	struct task *task = tasks_find(&a->tasks, tid);
	struct space_slot *slot;
	struct space *s;
	uint32_t index;
	pid_t moved;

	if (!task)
		return;
	slot = spaces_find(&a->spaces, task->pid);
	index = task->index;
	tasks_remove(&a->tasks, tid);
	if (!slot)
		return;
	s = slot->space;
	moved = s->tids.data[s->tids.len - 1];
	s->tids.data[index] = moved;
	s->tids.len--;
	task = moved != tid ? tasks_find(&a->tasks, moved) : NULL;
	if (task)
		task->index = index;
}

static struct task *task_add(struct addrspaces *a, struct space *s, pid_t tid, struct comm comm)
{
	struct task *task = tasks_find(&a->tasks, tid);

	if (task && task->pid == s->pub.pid)
		return task;
	task_remove(a, tid); /* the number was another process's */
	if (!vec_push(&s->tids, tid))
		return NULL;
	task = tasks_add(&a->tasks, tid, NULL);
	if (!task) {
		s->tids.len--;
		return NULL;
	}
	*task = (struct task){ tid, s->pub.pid, comm, (uint32_t)(s->tids.len - 1), comm.id == COMM_IN_PROC, false };
	return task;
}

static void remember_ended(struct addrspaces *a, pid_t pid, pid_t tid, struct comm comm, bool was_process)
{
	a->ended[a->next_ended] = (struct ended){ pid, tid, comm, was_process };
	a->next_ended = (a->next_ended + 1) % MAX_ENDED;
}

/* The latest that had these numbers; that of a thread may since be another process's. */
static struct ended *find_ended(struct addrspaces *a, pid_t pid, pid_t tid)
{
	for (size_t i = 1; i <= MAX_ENDED; i++) {
		struct ended *e = &a->ended[(a->next_ended + MAX_ENDED - i) % MAX_ENDED];

		if (e->tid == tid && e->pid == pid)
			return e;
	}
	return NULL;
}

static struct comm comm_of(struct addrspaces *a, const char *text, size_t len)
{
	struct comm ret = { .id = COMM_IN_TEXT };

	if (len > MAX_COMM_BYTES)
		len = MAX_COMM_BYTES;
	if (!len)
		ret.id = a->comm_unknown;
	else if (len < sizeof(ret.text))
		memcpy(ret.text, text, len);
	else
		ret.id = intern_id(a->opts.strings, text, len);
	if (ret.id == COMM_IN_PROC) /* out of memory */
		ret.id = a->comm_unknown;
	return ret;
}

static uint32_t comm_string(struct addrspaces *a, struct comm *comm)
{
	if (comm->id == COMM_IN_TEXT)
		comm->id = intern_id(a->opts.strings, comm->text, strlen(comm->text));
	if (comm->id == COMM_IN_PROC)
		comm->id = a->comm_unknown;
	return comm->id;
}

/* What the process is called, by what is known of its leader: the best guess for a thread that nobody told of. */
static struct comm process_comm(struct addrspaces *a, pid_t pid)
{
	const struct task *leader = tasks_find(&a->tasks, pid);
	const struct ended *ended = leader ? NULL : find_ended(a, pid, pid);
	struct comm ret = { .id = a->comm_unknown };

	if (leader && leader->comm.id != COMM_IN_PROC)
		return leader->comm;
	return ended ? ended->comm : ret;
}

/* *ret as /proc tells it, else as its process is called; false = the task is gone. */
static bool read_comm(struct addrspaces *a, pid_t pid, pid_t tid, struct comm *ret)
{
	struct strbuf text = { 0 };
	char name[64];
	bool alive;

	snprintf(name, sizeof(name), "task/%d/comm", (int)tid);
	alive = a->opts.door && pid > 0 &&
		door_read_proc(a->opts.door, pid, name, 256, &text, NULL, NULL) == 0 && text.len;
	if (alive)
		*ret = comm_of(a, text.data, text.len - (text.data[text.len - 1] == '\n'));
	else
		*ret = process_comm(a, pid);
	strbuf_deinit(&text);
	return alive;
}

static const char *comm_text(const struct addrspaces *a, const struct comm *comm)
{
	return comm->id == COMM_IN_TEXT ? comm->text : intern_get(a->opts.strings, comm->id);
}

static void tell_name(struct addrspaces *a, pid_t pid, pid_t tid, const struct comm *comm)
{
	const struct addrspaces_learned learned = { .pid = pid, .tid = tid, .comm = comm_text(a, comm) };

	if (a->opts.learned)
		a->opts.learned(a->opts.data, &learned);
}

/* False: it is gone. */
static bool read_name(struct addrspaces *a, struct task *task)
{
	struct comm comm;
	bool alive = read_comm(a, task->pid, task->tid, &comm);

	if (alive) {
		task->comm = comm;
		task->ask = false;
	}
	return alive;
}

/* What records told, or what its process is called, has to do for a task that is gone. */
static void ask_name(struct addrspaces *a, struct task *task)
{
	if (!task->ask)
		return;
	if (read_name(a, task))
		tell_name(a, task->pid, task->tid, &task->comm);
	else if (task->comm.id == COMM_IN_PROC)
		task->comm = process_comm(a, task->pid);
	task->ask = false;
}

uint32_t addrspaces_comm(struct addrspaces *a, pid_t pid, pid_t tid)
{
	struct task *task = tasks_find(&a->tasks, tid);
	struct ended *ended;
	struct space_slot *slot;
	struct comm comm;
	bool alive;

	if (!tid)
		return a->comm_idle;
	if (task && task->pid == pid) {
		ask_name(a, task);
		return comm_string(a, &task->comm);
	}
	ended = find_ended(a, pid, tid);
	if (ended)
		return comm_string(a, &ended->comm);
	alive = read_comm(a, pid, tid, &comm);
	if (alive)
		tell_name(a, pid, tid, &comm);
	comm_string(a, &comm);
	slot = spaces_find(&a->spaces, pid);
	/* A live thread whose FORK we missed is its process's; all others are only kept in mind. */
	if (!alive || !slot || slot->space->ghost || !task_add(a, slot->space, tid, comm))
		remember_ended(a, pid, tid, comm, false);
	return comm.id;
}

/* --- Processes --- */

static void space_forget_tasks(struct addrspaces *a, struct space *s)
{
	for (size_t i = 0; i < s->tids.len; i++)
		tasks_remove(&a->tasks, s->tids.data[i]);
	s->tids.len = 0;
}

/* An EXIT did come for it, or it is about to be freed. */
static void forget_ghost(struct addrspaces *a, struct space *s)
{
	for (size_t i = 0; i < MAX_GHOSTS; i++) {
		if (a->ghosts[i] == s->pub.pid)
			a->ghosts[i] = 0;
	}
	s->ghost = false;
}

static void space_end(struct addrspaces *a, struct space *s)
{
	s->pub.dead = true;
	if (a->opts.space_gone)
		a->opts.space_gone(a->opts.data, &s->pub);
	space_forget_tasks(a, s);
	spaces_remove(&a->spaces, s->pub.pid);
	mappings_deinit(&s->pub.maps, a->opts.files);
	if (s->ghost)
		forget_ghost(a, s);
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
		forget_ghost(a, s);
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

static struct space *space_add(struct addrspaces *a, pid_t pid)
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

/* What a look into /proc saw of a process. */
struct look {
	uint64_t since_ns; /* CLOCK_MONOTONIC before the look */
	struct proc_status status;
	struct strbuf maps;
	bool born, same;
};

static void tell_learned(struct addrspaces *a, struct space *s, const struct look *look)
{
	struct addrspaces_learned learned = {
		.pid = s->pub.pid,
		.ppid = s->pub.ppid,
		.comm = "",
		.maps = look->maps.len ? look->maps.data : "",
		.maps_bytes = look->maps.len,
		.born = look->born,
		.same = look->same,
	};
	VEC(struct addrspaces_thread) threads = { 0 };

	if (!a->opts.learned || a->scanning)
		return;
	for (size_t i = 0; i < s->tids.len && a->opts.all_names; i++) {
		struct task *task = tasks_find(&a->tasks, s->tids.data[i]);

		if (!task || (task->ask && !read_name(a, task)))
			continue;
		if (task->tid == s->pub.pid)
			learned.comm = comm_text(a, &task->comm);
		else
			vec_push(&threads, ((struct addrspaces_thread){ task->tid, comm_text(a, &task->comm) }));
	}
	learned.threads = threads.data;
	learned.num_threads = threads.len;
	s->put_down = a->opts.learned(a->opts.data, &learned);
	vec_deinit(&threads);
}

/* For a process that is gone already, so that its late samples have a place. A new one pushes an
 * old one out. */
static void make_ghost(struct addrspaces *a, struct space *s)
{
	pid_t oldest = a->ghosts[a->next_ghost];
	struct space *old = oldest ? space_peek(a, oldest) : NULL;

	if (old)
		space_end(a, old);
	s->ghost = true;
	a->ghosts[a->next_ghost] = s->pub.pid;
	a->next_ghost = (a->next_ghost + 1) % MAX_GHOSTS;
}

struct reading {
	struct addrspaces *a;
	struct space *space;
};

static int read_map(void *data, const struct proc_map *map)
{
	struct reading *reading = data;
	struct door_mapping dm = {
		.pid = reading->space->through,
		.start = map->start,
		.end = map->end,
		.maj = map->maj,
		.min = map->min,
		.ino = map->ino,
		.path = map->path,
	};

	if (map->executable && map->start < kernel_half)
		add_mapping(reading->a, reading->space, &dm, map->pgoff, 0);
	return 0;
}

static int read_task(void *data, pid_t tid)
{
	struct reading *reading = data;
	struct space *s = reading->space;

	struct task *task = NULL;

	/* A leader that has ended is listed as long as its threads live; its EXIT is behind us. */
	if (tid != s->pub.pid || s->through == tid)
		task = task_add(reading->a, s, tid, comm_in_proc);
	if (task)
		task->listed = true;
	return 0;
}

/* State Z and X: it has no memory any more, and its EXIT record may be behind us (proc(5)). */
static bool is_zombie(const char *status)
{
	const char *state = strstr(status, "\nState:\t");

	return state && (state[8] == 'Z' || state[8] == 'X');
}

/* uid, process, parent and name of a task. False when it is gone. */
static bool read_status(struct addrspaces *a, pid_t tid, struct proc_status *status)
{
	struct strbuf text = { 0 };
	bool alive = false;

	if (a->opts.door && tid > 0 &&
	    door_read_proc(a->opts.door, tid, "status", 64u << 10, &text, NULL, NULL) == 0 &&
	    text.len && proc_status_parse(text.data, text.len, status) == 0)
		alive = !is_zombie(text.data);
	strbuf_deinit(&text);
	return alive;
}

static void read_maps(struct addrspaces *a, struct space *s, struct look *look)
{
	struct reading reading = { a, s };
	size_t bad = 0;
	int r;

	r = door_read_proc(a->opts.door, s->through, "maps", max_maps_text, &look->maps, NULL, NULL);
	if (r == 0 && look->maps.len) {
		s->read_ns = look->since_ns; /* what came before is included */
		proc_maps_parse(look->maps.data, look->maps.len, read_map, &reading, &bad);
	}
	s->pub.denied = r == -EACCES || r == -EPERM;
}

struct search {
	struct addrspaces *a;
	pid_t pid, found;
	struct proc_status *status;
};

static int is_alive(void *data, pid_t tid)
{
	struct search *search = data;

	if (tid == search->pid || !read_status(search->a, tid, search->status))
		return 0;
	search->found = tid;
	return 1;
}

/* A process whose first thread has ended has no memory as /proc/PID shows it; another of its threads still has. */
static bool find_living(struct addrspaces *a, struct space *s, struct proc_status *status)
{
	struct search search = { .a = a, .pid = s->pub.pid, .status = status };

	if (read_status(a, s->pub.pid, status)) {
		s->through = s->pub.pid; /* it may have ended, and a thread that called exec took its number */
		return true;
	}
	if (!a->opts.door || s->pub.pid <= 0)
		return false;
	door_each_task(a->opts.door, s->pub.pid, is_alive, &search, NULL);
	s->through = search.found ? search.found : s->pub.pid;
	return search.found;
}

static void take_status(struct space *s, const struct proc_status *status)
{
	s->pub.uid = status->uid;
	s->uid_ns = clock_monotonic_ns();
	s->pub.ppid = status->ppid;
}

static void read_tasks(struct addrspaces *a, struct space *s, const struct proc_status *status)
{
	struct reading reading = { a, s };
	struct task *leader;

	door_each_task(a->opts.door, s->pub.pid, read_task, &reading, NULL);
	if (s->through != s->pub.pid)
		return;
	/* The kernel escapes some bytes here; such a name is read from its own file when it is
	 * asked for. */
	leader = task_add(a, s, s->pub.pid, comm_in_proc);
	if (!leader)
		return;
	leader->listed = true;
	leader->ask = strchr(status->name, '\\');
	leader->comm = leader->ask ? comm_in_proc : comm_of(a, status->name, strlen(status->name));
}

/* What is known of its threads dates from before a loss. */
static void reread_tasks(struct addrspaces *a, struct space *s, const struct proc_status *status)
{
	for (size_t i = 0; i < s->tids.len; i++) {
		struct task *task = tasks_find(&a->tasks, s->tids.data[i]);

		if (task) {
			task->listed = false;
			task->ask = true;
		}
	}
	read_tasks(a, s, status);
	/* Samples of those that have ended are still to come. From the last, as that one takes the place of what is removed. */
	for (size_t i = s->tids.len; i-- > 0;) {
		struct task *task = tasks_find(&a->tasks, s->tids.data[i]);

		if (!task || task->listed)
			continue;
		if (task->comm.id != COMM_IN_PROC)
			remember_ended(a, task->pid, task->tid, task->comm, false);
		task_remove(a, task->tid);
	}
}

/* Fills a new space from /proc; false when the process is gone. */
static bool read_process(struct addrspaces *a, struct space *s, struct look *look)
{
	const struct ended *ended = find_ended(a, s->pub.pid, s->pub.pid);

	s->sure_ns = look->since_ns = clock_monotonic_ns();
	if (!find_living(a, s, &look->status))
		return false;
	take_status(s, &look->status);
	read_maps(a, s, look);
	if (!s->read_ns && ended && ended->was_process)
		return false; /* memory gone, EXIT handled: it is about to be a zombie */
	read_tasks(a, s, &look->status);
	return true;
}

static struct space *space_get(struct addrspaces *a, pid_t pid)
{
	struct space *s = space_peek(a, pid);
	struct look look = { .born = true };
	const struct ended *ended;
	bool found;

	if (s)
		return s;
	s = space_add(a, pid);
	if (!s || pid == 0)
		return s;
	found = a->opts.door ? read_process(a, s, &look) : pid > 0;
	if (found && a->opts.door)
		tell_learned(a, s, &look);
	strbuf_deinit(&look.maps);
	if (found)
		return s;
	ended = find_ended(a, pid, pid);
	make_ghost(a, s);
	s->pub.dead = ended && ended->was_process;
	return s;
}

/* --- After a loss --- */

void addrspaces_lost(struct addrspaces *a, uint64_t until_ns)
{
	uint64_t now_ns = clock_monotonic_ns();

	if (until_ns > now_ns)
		until_ns = now_ns;
	if (a->opts.door && a->lost_ns < until_ns)
		a->lost_ns = until_ns;
}

static bool may_look(struct addrspaces *a, uint64_t now_ns)
{
	int64_t more_ns = (int64_t)(now_ns - a->allowed_ns) / look_share;

	a->allow_ns = more_ns < look_at_once_ns - a->allow_ns ? a->allow_ns + more_ns : look_at_once_ns;
	a->allowed_ns = now_ns;
	return a->allow_ns > 0;
}

/* The broker takes as long again; what was waited for a CPU costs nobody anything. */
static void charge(struct addrspaces *a, uint64_t wall_ns, uint64_t cpu_ns)
{
	a->allow_ns -= (int64_t)(wall_ns < 3 * cpu_ns ? wall_ns : 3 * cpu_ns);
}

static bool same_mapping(const struct mapping *x, const struct mapping *y)
{
	return x->start == y->start && x->end == y->end && x->pgoff == y->pgoff && x->file == y->file;
}

static bool same_mappings(const struct mappings *m, const struct mappings *other)
{
	if (m->num != other->num)
		return false;
	mappings_for_each (map, m) {
		const struct mapping *there = mappings_next(other, map->start);

		if (!there || !same_mapping(map, there))
			return false;
	}
	return true;
}

/* Whether a file of the one lies where it lay in the other. The vDSO would, where addresses are not random. */
static bool share_a_file(const struct mappings *m, const struct mappings *other)
{
	mappings_for_each (map, m) {
		const struct mapping *there = mappings_next(other, map->start);

		if (map->file && *map->file->path == '/' && there && map->file == there->file &&
		    map->start - map->pgoff == there->start - there->pgoff)
			return true;
	}
	return false;
}

/* Of a process that is there, `s` or one that took its number: what it is now. NULL when out of memory. */
static struct space *take_fresh(struct addrspaces *a, struct space *s, struct look *look)
{
	struct space fresh = { .pub = { .pid = s->pub.pid, .ppid = look->status.ppid }, .through = s->through };
	struct mappings old;

	read_maps(a, &fresh, look);
	if (!fresh.read_ns) {
		mappings_deinit(&fresh.pub.maps, a->opts.files);
		return s;
	}
	look->same = !s->pub.maps.num || share_a_file(&s->pub.maps, &fresh.pub.maps);
	if (!look->same) {
		space_end(a, s);
		s = space_add(a, fresh.pub.pid);
		if (!s) {
			mappings_deinit(&fresh.pub.maps, a->opts.files);
			return NULL;
		}
		s->through = fresh.through;
		s->sure_ns = look->since_ns;
	}
	s->pub.version += !same_mappings(&s->pub.maps, &fresh.pub.maps);
	old = s->pub.maps;
	s->pub.maps = fresh.pub.maps;
	mappings_deinit(&old, a->opts.files);
	s->read_ns = fresh.read_ns;
	s->pub.denied = false;
	s->pub.compat = fresh.pub.compat;
	s->class_known = fresh.class_known;
	take_status(s, &look->status);
	reread_tasks(a, s, &look->status);
	tell_learned(a, s, look);
	return s;
}

/* What is known of it dates from before a loss. */
static struct space *look_again(struct addrspaces *a, struct space *s)
{
	uint64_t now_ns = clock_monotonic_ns(), cpu_ns = clock_cpu_ns();
	struct look look = { .since_ns = now_ns };

	if (!may_look(a, now_ns))
		return s;
	s->sure_ns = now_ns;
	if (find_living(a, s, &look.status)) {
		if (s->ghost)
			forget_ghost(a, s);
		s = take_fresh(a, s, &look);
	}
	strbuf_deinit(&look.maps);
	charge(a, clock_monotonic_ns() - now_ns, clock_cpu_ns() - cpu_ns);
	return s;
}

struct sweep {
	struct addrspaces *a;
	VEC(pid_t) gone;
};

static int note_in_proc(void *data, pid_t pid)
{
	struct sweep *sweep = data;
	struct space *s = space_peek(sweep->a, pid);

	if (s)
		s->missed = 0;
	return 0;
}

static void list_gone(struct sweep *sweep)
{
	struct addrspaces *a = sweep->a;
	struct space_slot *slot;
	size_t cursor = 0;

	while ((slot = spaces_next(&a->spaces, &cursor))) {
		if (slot->pid > 0 && !slot->space->pub.left && !slot->space->ghost)
			slot->space->missed++;
	}
	if (door_each_task(a->opts.door, 0, note_in_proc, sweep, NULL) < 0)
		return;
	for (cursor = 0; (slot = spaces_next(&a->spaces, &cursor));) {
		if (slot->space->missed > 1)
			vec_push(&sweep->gone, slot->pid);
		a->sweep_again |= slot->space->missed == 1;
	}
}

/* No record of it is on its way any more. */
static void end_missed(struct addrspaces *a, struct space *s)
{
	struct comm comm = process_comm(a, s->pub.pid);
	const struct addrspaces_learned learned = {
		.pid = s->pub.pid,
		.ppid = s->pub.ppid,
		.comm = comm_text(a, &comm),
		.maps = "",
		.ended = true,
	};

	if (a->opts.learned)
		a->opts.learned(a->opts.data, &learned);
	remember_ended(a, s->pub.pid, s->pub.pid, comm, true);
	s->pub.left = true;
	space_end(a, s);
}

void addrspaces_sweep(struct addrspaces *a)
{
	struct sweep sweep = { .a = a };
	uint64_t now_ns = clock_monotonic_ns();

	if (!a->opts.door || (a->lost_ns <= a->swept_ns && !a->sweep_again) || now_ns < a->swept_ns + sweep_every_ns)
		return;
	a->swept_ns = now_ns;
	a->sweep_again = false;
	list_gone(&sweep);
	for (size_t i = 0; i < sweep.gone.len; i++)
		end_missed(a, space_peek(a, sweep.gone.data[i]));
	vec_deinit(&sweep.gone);
}

struct addrspace *addrspaces_get(struct addrspaces *a, pid_t pid)
{
	struct space *s = space_get(a, pid);

	if (s && s->sure_ns < a->lost_ns && pid > 0 && !s->pub.left)
		s = look_again(a, s);
	return s ? &s->pub : NULL;
}

struct addrspace *addrspaces_peek(struct addrspaces *a, pid_t pid)
{
	struct space *s = space_peek(a, pid);

	return s ? &s->pub : NULL;
}

uid_t addrspaces_uid(struct addrspaces *a, struct addrspace *space, uint64_t time_ns)
{
	static const uint64_t good_for_ns = 250000000;
	struct space *s = space_of(space);
	struct proc_status status;

	if (!s->uid_ns || time_ns > s->uid_ns + good_for_ns) {
		s->uid_ns = clock_monotonic_ns();
		if (read_status(a, s->through, &status))
			space->uid = status.uid;
	}
	return space->uid;
}

struct pid_list {
	VEC(pid_t) pids;
};

static int list_pid(void *data, pid_t pid)
{
	struct pid_list *list = data;

	return vec_push(&list->pids, pid) ? 0 : -ENOMEM;
}

int addrspaces_scan(struct addrspaces *a, struct err *err)
{
	struct pid_list list = { 0 };
	int r = 0;

	a->scanning = true;
	if (a->opts.door)
		r = door_each_task(a->opts.door, 0, list_pid, &list, err);
	for (size_t i = 0; r == 0 && i < list.pids.len; i++) {
		if (!space_get(a, list.pids.data[i]))
			r = -ENOMEM;
	}
	a->scanning = false;
	vec_deinit(&list.pids);
	return r == -ENOMEM ? err_oom(err) : r;
}

int addrspaces_scan_tasks(struct addrspaces *a, const pid_t *tids, size_t num, struct err *err)
{
	bool failed = false;

	a->scanning = true;
	for (size_t i = 0; i < num && !failed; i++) {
		struct proc_status status;

		failed = read_status(a, tids[i], &status) && !space_get(a, status.tgid);
	}
	a->scanning = false;
	return failed ? err_oom(err) : 0;
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
	    dm.end > kernel_half)
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
	add_mapping(a, s, &dm, m->pgoff, (uint32_t)m->ino_generation);
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

/* Of those that have ended samples are still to come; the others are told next. */
static void remember_tasks(struct addrspaces *a, const struct space *s)
{
	for (size_t i = 0; i < s->tids.len; i++) {
		const struct task *task = tasks_find(&a->tasks, s->tids.data[i]);

		if (task && task->comm.id != COMM_IN_PROC)
			remember_ended(a, task->pid, task->tid, task->comm, false);
	}
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
		remember_tasks(a, s);
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
	remember_ended(a, pid, tid, comm, last);
	if (last && tid != pid)
		remember_ended(a, pid, pid, process_comm(a, pid), true);
	if (last)
		space_leave(a, s, time_ns);
	else if (known)
		task_remove(a, tid);
	if (!last && s->through == tid)
		s->through = s->tids.data[0];
}

bool addrspaces_overtook(const struct addrspaces *a, pid_t pid, uint64_t time_ns)
{
	const struct space_slot *slot = spaces_find(&a->spaces, pid);

	return slot && slot->space->put_down && is_older(slot->space, time_ns);
}
