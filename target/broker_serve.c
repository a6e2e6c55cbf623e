#include "target/broker_serve.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/outfile.h"
#include "base/vec.h"
#include "target/broker.h"
#include "target/broker_events.h"
#include "target/broker_priv.h"
#include "target/diagnostics.h"
#include "target/door_priv.h"
#include "target/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FILES = 64 }; /* being written at a time */

struct written {
	uint64_t number; /* as the program knows it */
	struct outfile *file;
};

struct server {
	struct door *door;
	const char *const *outputs;
	size_t num_outputs;
	const struct broker_events *events;
	pid_t program;
	VEC(struct written) files;
	struct diagnostics_sessions sessions; /* that the program has opened in targets */
};

static void keep(cap_t caps, cap_value_t cap, cap_t had)
{
	cap_flag_value_t value;

	if (cap_get_flag(had, cap, CAP_PERMITTED, &value) < 0 || value != CAP_SET)
		return;
	cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_SET);
	cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_SET);
}

void broker_limit_capabilities(void)
{
	/* Opening /proc/PID/map_files and memory, kernel symbols, private directories. */
	static const cap_value_t needed[] = { CAP_SYS_PTRACE, CAP_SYSLOG, CAP_DAC_READ_SEARCH,
					      /* to ask a runtime as its own user, where that is needed */
					      CAP_SETUID, CAP_SETGID };
	cap_t had = cap_get_proc(), caps = cap_init();
	cap_flag_value_t ptrace;

	/*
	 * Without CAP_SYS_PTRACE the kernel shows a process only to one that has all of its capabilities
	 * (security/commoncap.c cap_ptrace_access_check): root in a container is to see root there.
	 */
	if (had && cap_get_flag(had, CAP_SYS_PTRACE, CAP_PERMITTED, &ptrace) == 0 && ptrace == CAP_CLEAR) {
		cap_free(caps);
		caps = NULL;
	}
	if (had && caps) {
		for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
			keep(caps, needed[i], had);
		/* What they stand in for: Linux 5.9 and 5.8. */
		keep(caps, CAP_IS_SUPPORTED(CAP_CHECKPOINT_RESTORE) ? CAP_CHECKPOINT_RESTORE : CAP_SYS_ADMIN,
		     had);
		keep(caps, CAP_IS_SUPPORTED(CAP_PERFMON) ? CAP_PERFMON : CAP_SYS_ADMIN, had);
		/* Outputs go where root may write, also into somebody's directory. */
		keep(caps, CAP_DAC_OVERRIDE, had);
		for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++) {
			cap_flag_value_t value;

			if (cap_get_flag(caps, cap, CAP_PERMITTED, &value) == 0 && value == CAP_CLEAR)
				cap_drop_bound(cap);
		}
		cap_set_proc(caps);
	}
	cap_free(had);
	cap_free(caps);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int answer_mapping(struct server *s, const struct broker_ask *ask, struct broker_answer *ret)
{
	struct door_mapping mapping = { .pid = ask->pid,
					.start = ask->start,
					.end = ask->end,
					.maj = ask->maj,
					.min = ask->min,
					.ino = ask->ino,
					.path = ask->text };
	size_t num = ask->num_also < BROKER_MAX_ALSO ? ask->num_also : BROKER_MAX_ALSO;
	pid_t also[BROKER_MAX_ALSO];

	/* The program is not to be looked into any more (target/jail.h); we have the same root. */
	for (size_t i = 0; i < num; i++)
		also[i] = ask->also[i] == s->program ? getpid() : ask->also[i];
	ret->result = (int32_t)door_open_mapping(s->door, &mapping, also, num, &ret->file, &ret->err);
	return ret->result == DOOR_OK ? ret->file.fd : -1;
}

static int answer_file(struct server *s, const struct broker_ask *ask, struct broker_answer *ret)
{
	if (ask->op == BROKER_PERFMAP)
		ret->result = (int32_t)door_open_perfmap(s->door, ask->pid, &ret->file, &ret->err);
	else
		ret->result = (int32_t)door_open(s->door, ask->pid, ask->text, (enum door_want)ask->want,
						 &ret->file, &ret->err);
	return ret->result == DOOR_OK ? ret->file.fd : -1;
}

static int answer_keep(struct server *s, const struct broker_ask *ask, struct broker_answer *ret)
{
	ret->result = door_keep_place(s->door, ask->pid, &ret->place, &ret->err);
	return ret->result < 0 ? -1 : ret->place.dir_fd;
}

static int answer_left(struct server *s, const struct broker_ask *ask, int with, struct broker_answer *ret)
{
	struct door_place place = ask->place;

	place.dir_fd = with;
	ret->result = (int32_t)door_open_left(s->door, &place, &ret->file, &ret->err);
	return ret->result == DOOR_OK ? ret->file.fd : -1;
}

static int answer_descriptor(struct server *s, const struct broker_ask *ask, struct broker_answer *ret)
{
	int fd = -EINVAL;

	if (ask->op == BROKER_PROC)
		fd = door_open_proc(s->door, ask->pid, ask->text, &ret->err);
	else if (ask->op == BROKER_TEXT)
		fd = door_open_text(s->door, (enum door_text)ask->want, &ret->err);
	else if (ask->op == BROKER_TASKS)
		fd = door_open_tasks(s->door, ask->pid, &ret->err);
	else if (ask->op == BROKER_LOGS)
		fd = door_open_logs(s->door, ask->want);
	else if (ask->op == BROKER_CGROUP)
		fd = door_open_cgroup(s->door, ask->want, ask->text, &ret->err);
	else if (ask->op == BROKER_CGROUP_DIR)
		fd = door_open_cgroup_dir(s->door, ask->text, &ret->err);
	else if (ask->op == BROKER_DIAGNOSTICS)
		fd = door_open_diagnostics(s->door, ask->pid, &ret->err);
	else if (ask->op == BROKER_MEMORY)
		fd = door_open_memory(s->door, ask->pid, &ret->value, &ret->err);
	ret->result = fd < 0 ? fd : 0;
	return fd;
}

static void answer_tracepoint(struct server *s, struct broker_ask *ask, struct broker_answer *ret)
{
	char *colon = strchr(ask->text, ':');

	if (!colon) {
		ret->result = err_set(&ret->err, EINVAL, "no tracepoint");
		return;
	}
	*colon = '\0';
	ret->result = door_tracepoint_id(s->door, ask->text, colon + 1, &ret->value, &ret->err);
}

/* *stamped: a name that is made for this file, and may have been made elsewhere in the same second. */
static bool is_output(const struct server *s, const char *path, bool *stamped)
{
	*stamped = false;
	for (size_t i = 0; i < s->num_outputs; i++) {
		const char *name = s->outputs[i];

		*stamped = strchr(name, STAMP_MARK) != NULL;
		if (*stamped ? stamp_take(name, path, NULL) : !strcmp(name, path))
			return true;
	}
	return false;
}

/* A descriptor of the new file; it stays ours. */
static int answer_out_open(struct server *s, const struct broker_ask *ask, struct broker_answer *ret)
{
	struct written w = { .number = ask->value };
	bool stamped = false;

	if (!is_output(s, ask->text, &stamped) || s->files.len >= MAX_FILES) {
		ret->result = err_set(&ret->err, EPERM, "no output of this program");
		return -1;
	}
	ret->result = outfile_open(ask->text, &w.file, &ret->err);
	if (ret->result < 0)
		return -1;
	if (!vec_push(&s->files, w)) {
		outfile_abort(w.file);
		ret->result = err_oom(&ret->err);
		return -1;
	}
	return outfile_fd(w.file);
}

/* NULL: it was opened by one that has ended. */
static struct outfile *take_written(struct server *s, uint64_t number)
{
	for (size_t i = 0; i < s->files.len; i++) {
		struct outfile *file = s->files.data[i].file;

		if (s->files.data[i].number != number)
			continue;
		s->files.data[i] = s->files.data[--s->files.len];
		return file;
	}
	return NULL;
}

static void answer_out_end(struct server *s, const struct broker_ask *ask, int with, struct broker_answer *ret)
{
	struct outfile *file = take_written(s, ask->value);
	bool stamped = false;

	if (!is_output(s, ask->text, &stamped) || (!file && with < 0))
		ret->result = err_set(&ret->err, EPERM, "no output of this program");
	else if (!file)
		ret->result = outfile_adopt(ask->text, with, &file, &ret->err);
	if (file && stamped)
		outfile_exclusive(file);
	if (file && !ret->result && ask->op == BROKER_OUT_COMMIT)
		ret->result = outfile_commit(file, &ret->err);
	else
		outfile_abort(file);
}

static int dup_cloexec(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* The descriptor to send along, or -1; *ours: it is not to be closed. */
static int answer(struct server *s, struct broker_ask *ask, int with, struct broker_answer *ret, bool *ours)
{
	*ours = false;
	switch ((enum broker_op)ask->op) {
	case BROKER_MAPPING:
		return answer_mapping(s, ask, ret);
	case BROKER_OPEN:
	case BROKER_PERFMAP:
		return answer_file(s, ask, ret);
	case BROKER_KEEP:
		return answer_keep(s, ask, ret);
	case BROKER_LEFT:
		return answer_left(s, ask, with, ret);
	case BROKER_PROC:
	case BROKER_TEXT:
	case BROKER_TASKS:
	case BROKER_LOGS:
	case BROKER_CGROUP:
	case BROKER_CGROUP_DIR:
	case BROKER_DIAGNOSTICS:
	case BROKER_MEMORY:
		return answer_descriptor(s, ask, ret);
	case BROKER_TRACEPOINT:
		answer_tracepoint(s, ask, ret);
		return -1;
	case BROKER_NAMESPACE:
		ret->result = door_namespace(s->door, ask->pid, ask->text, &ret->value);
		return -1;
	case BROKER_POPULATED:
		ret->value = door_cgroup_populated(s->door, with);
		return -1;
	case BROKER_MAP_OPEN:
		ret->value = door_perf_map_is_open(s->door, ask->pid);
		return -1;
	case BROKER_SESSION_BEGAN:
		diagnostics_began(&s->sessions, ask->pid, strtoull(ask->text, NULL, 16), dup_cloexec(with));
		return -1;
	case BROKER_SESSION_ENDED:
		diagnostics_ended(&s->sessions, ask->pid, strtoull(ask->text, NULL, 16));
		return -1;
	case BROKER_EVENT:
		with = broker_events_open(s->events, ask->want, with, ask->value, &ret->err);
		ret->result = with < 0 ? with : 0;
		return with;
	case BROKER_OUT_OPEN:
		*ours = true;
		return answer_out_open(s, ask, ret);
	case BROKER_OUT_COMMIT:
	case BROKER_OUT_ABORT:
		answer_out_end(s, ask, with, ret);
		return -1;
	}
	ret->result = err_set(&ret->err, EINVAL, "no such request");
	return -1;
}

void broker_serve(int sock, const char *const *outputs, size_t num_outputs, const struct broker_events *events)
{
	struct server s = { .outputs = outputs, .num_outputs = num_outputs, .events = events };
	struct ucred peer = { 0 };
	socklen_t peer_len = sizeof(peer);
	struct broker_ask ask;
	struct err err = { 0 };
	int n, with;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0)
		s.program = peer.pid; /* who made the pair of sockets */
	if (door_new(&s.door, &err) < 0)
		return;
	while ((n = broker_receive(sock, &ask, sizeof(ask), &with)) != 0) {
		struct broker_answer reply = { .file.fd = -1 };
		bool ours;
		int fd;

		if (n < (int)offsetof(struct broker_ask, text)) {
			closep(&with);
			break;
		}
		ask.text[(size_t)n - offsetof(struct broker_ask, text) < sizeof(ask.text)
				 ? (size_t)n - offsetof(struct broker_ask, text)
				 : sizeof(ask.text) - 1] = '\0';
		reply.seq = ask.seq;
		fd = answer(&s, &ask, with, &reply, &ours);
		closep(&with);
		n = broker_send(sock, &reply, sizeof(reply), fd);
		if (!ours)
			closep(&fd);
		if (n < 0)
			break;
	}
	/* The program has ended; if it did so without a last word, what it began in targets is still there. */
	diagnostics_end_all(&s.sessions, s.door);
	for (size_t i = 0; i < s.files.len; i++)
		outfile_abort(s.files.data[i].file);
	vec_deinit(&s.files);
	door_free(s.door);
}
