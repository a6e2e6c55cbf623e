#include "symbols/addrspace_priv.h"

#include "base/intern.h"
#include "target/door.h"

#include <stdio.h>
#include <string.h>

enum {
	MAX_COMM_BYTES = 64, /* names of kernel workers are longer than TASK_COMM_LEN */
};

void task_remove(struct addrspaces *a, pid_t tid)
{
	struct task *task = tasks_find(&a->tasks, tid);
	struct space *s;
	uint32_t index;
	pid_t moved;

	if (!task)
		return;
	s = space_peek(a, task->pid);
	index = task->index;
	tasks_remove(&a->tasks, tid);
	if (!s)
		return;
	moved = s->tids.data[s->tids.len - 1];
	s->tids.data[index] = moved;
	s->tids.len--;
	task = moved != tid ? tasks_find(&a->tasks, moved) : NULL;
	if (task)
		task->index = index;
}

struct task *task_add(struct addrspaces *a, struct space *s, pid_t tid, struct comm comm)
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

void ended_remember(struct addrspaces *a, pid_t pid, pid_t tid, struct comm comm, bool was_process)
{
	a->ended[a->next_ended] = (struct ended){ pid, tid, comm, was_process };
	a->next_ended = (a->next_ended + 1) % MAX_ENDED;
}

void ended_remember_task(struct addrspaces *a, const struct task *task)
{
	if (task->comm.id != COMM_IN_PROC)
		ended_remember(a, task->pid, task->tid, task->comm, false);
}

struct ended *ended_find(struct addrspaces *a, pid_t pid, pid_t tid)
{
	for (size_t i = 1; i <= MAX_ENDED; i++) {
		struct ended *e = &a->ended[(a->next_ended + MAX_ENDED - i) % MAX_ENDED];

		if (e->tid == tid && e->pid == pid)
			return e;
	}
	return NULL;
}

struct comm comm_of(struct addrspaces *a, const char *text, size_t len)
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

struct comm process_comm(struct addrspaces *a, pid_t pid)
{
	const struct task *leader = tasks_find(&a->tasks, pid);
	const struct ended *ended = leader ? NULL : ended_find(a, pid, pid);
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

const char *comm_text(const struct addrspaces *a, const struct comm *comm)
{
	return comm->id == COMM_IN_TEXT ? comm->text : intern_get(a->opts.strings, comm->id);
}

static void tell_name(struct addrspaces *a, pid_t pid, pid_t tid, const struct comm *comm)
{
	const struct addrspaces_learned learned = { .pid = pid, .tid = tid, .comm = comm_text(a, comm) };

	if (a->opts.learned)
		a->opts.learned(a->opts.data, &learned);
}

bool task_read_name(struct addrspaces *a, struct task *task)
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
	if (task_read_name(a, task))
		tell_name(a, task->pid, task->tid, &task->comm);
	else if (task->comm.id == COMM_IN_PROC)
		task->comm = process_comm(a, task->pid);
	task->ask = false;
}

uint32_t addrspaces_comm(struct addrspaces *a, pid_t pid, pid_t tid)
{
	struct task *task = tasks_find(&a->tasks, tid);
	struct ended *ended;
	struct space *s;
	struct comm comm;
	bool alive;

	if (!tid)
		return a->comm_idle;
	if (task && task->pid == pid) {
		ask_name(a, task);
		return comm_string(a, &task->comm);
	}
	ended = ended_find(a, pid, tid);
	if (ended)
		return comm_string(a, &ended->comm);
	alive = read_comm(a, pid, tid, &comm);
	if (alive)
		tell_name(a, pid, tid, &comm);
	comm_string(a, &comm);
	s = space_peek(a, pid);
	/* A live thread whose FORK we missed is its process's; all others are only kept in mind. */
	if (!alive || !s || s->ghost || !task_add(a, s, tid, comm))
		ended_remember(a, pid, tid, comm, false);
	return comm.id;
}

void space_forget_tasks(struct addrspaces *a, struct space *s)
{
	for (size_t i = 0; i < s->tids.len; i++)
		tasks_remove(&a->tasks, s->tids.data[i]);
	s->tids.len = 0;
}

void space_remember_tasks(struct addrspaces *a, const struct space *s)
{
	for (size_t i = 0; i < s->tids.len; i++) {
		const struct task *task = tasks_find(&a->tasks, s->tids.data[i]);

		if (task)
			ended_remember_task(a, task);
	}
}
