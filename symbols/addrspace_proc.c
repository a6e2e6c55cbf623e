#include "symbols/addrspace_priv.h"

#include "base/clock.h"
#include "base/err.h"
#include "symbols/file.h"
#include "target/door.h"

#include <errno.h>
#include <string.h>

static const uint64_t sweep_every_ns = 5000000000; /* records come sooner than that */
static const int64_t look_at_once_ns = 200000000; /* for looking again at processes after a loss */
static const int64_t look_share = 10;             /* and one part in so many of the time since */
static const size_t max_maps_text = 32u << 20;

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

		if (!task || (task->ask && !task_read_name(a, task)))
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

	if (map->executable && map->start < address_half)
		space_add_mapping(reading->a, reading->space, &dm, map->pgoff, 0);
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
		ended_remember_task(a, task);
		task_remove(a, task->tid);
	}
}

/* Fills a new space from /proc; false when the process is gone. */
static bool read_process(struct addrspaces *a, struct space *s, struct look *look)
{
	const struct ended *ended = ended_find(a, s->pub.pid, s->pub.pid);

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

struct space *space_get(struct addrspaces *a, pid_t pid)
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
	ended = ended_find(a, pid, pid);
	space_make_ghost(a, s);
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
			space_forget_ghost(a, s);
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
	ended_remember(a, s->pub.pid, s->pub.pid, comm, true);
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
