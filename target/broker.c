#include "target/broker.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/outfile.h"
#include "base/worker.h"
#include "target/broker_events.h"
#include "target/broker_hang.h"
#include "target/broker_priv.h"
#include "target/broker_wait.h"
#include "target/door_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_REPEATS = 3,    /* of one request, when those who opened died of it */
	MAX_REPLACED = 100, /* after that nothing of targets is opened any more */
	CONTROL_MS = 60000, /* who waits has little to do, but it may wait for a CPU */
};

struct broker {
	int sock;    /* requests and answers */
	int control; /* to who waits */
	pid_t pid;   /* of who waits */
	uint32_t seq;
	unsigned int replaced;
	bool broken; /* nobody answers any more */
	uint64_t outputs; /* opened so far */
	struct outfile_opener opener;
	struct broker_events *events; /* shared with the broker; NULL once sealed */
};

int broker_start(const char *const *outputs, size_t num_outputs, struct door **ret, struct err *err)
{
	return broker_start_with_parser(outputs, num_outputs, NULL, ret, err);
}

int broker_start_with_parser(const char *const *outputs, size_t num_outputs, void (*parser)(int sock),
			     struct door **ret, struct err *err)
{
	int sock[2], control[2];
	struct door *door = calloc(1, sizeof(*door));
	struct broker *b = calloc(1, sizeof(*b));
	struct broker_events *events = broker_events_new();
	_cleanup_close_ int proc = door_open_proc_root(err); /* what the broker would miss, too */

	if (proc < 0) {
		free(door);
		free(b);
		broker_events_free(events);
		return proc;
	}
	if (!door || !b || !events) {
		free(door);
		free(b);
		broker_events_free(events);
		return err_oom(err);
	}
	door->proc_fd = door->root_fd = -1;
	door_note_rights(door);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) {
		free(door);
		free(b);
		broker_events_free(events);
		return err_set(err, errno, "socketpair: %s", strerror(errno));
	}
	*b = (struct broker){ .sock = sock[0], .control = control[0], .events = events };
	b->pid = fork();
	if (!b->pid) {
		const struct broker_wait waiting = { sock[1], control[1], outputs, num_outputs, parser,
						     events };

		broker_wait_for_end(&waiting);
	}
	close(sock[1]);
	close(control[1]);
	door->broker = b;
	if (b->pid < 0) {
		door_free(door);
		return err_set(err, errno, "fork: %s", strerror(errno));
	}
	*ret = door;
	return 0;
}

void broker_seal(struct door *door)
{
	if (!door->broker)
		return;
	broker_events_free(door->broker->events);
	door->broker->events = NULL;
}

void broker_free(struct broker *b)
{
	if (!b)
		return;
	broker_events_free(b->events);
	close(b->sock);
	close(b->control); /* who waits sees it and ends */
	if (b->pid > 0) {
		while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	free(b);
}

unsigned int broker_replaced(const struct door *door)
{
	return door->broker ? door->broker->replaced : 0;
}

/* ---- asking ---- */

/* The answer of who waits to `asked`; *ret_fd (NULL: none is expected) is -1 when none came. 0 or -errno. */
static int ask_waiting(struct broker *b, enum broker_control_op op, pid_t pid, struct broker_control *ret, int *ret_fd)
{
	const struct broker_control asked = { .op = op, .pid = pid };
	int r = b->broken ? -EPIPE : broker_send(b->control, &asked, sizeof(asked), -1);

	while (!r) {
		struct pollfd poll_fd = { .fd = b->control, .events = POLLIN };
		int n = poll(&poll_fd, 1, CONTROL_MS), fd;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || broker_receive(b->control, ret, sizeof(*ret), &fd) != (int)sizeof(*ret)) {
			r = -EPIPE;
		} else if (ret->op == (uint32_t)op) {
			if (ret_fd)
				*ret_fd = fd;
			else
				closep(&fd);
			return 0;
		} else {
			b->replaced += ret->op == CONTROL_DIED;
			closep(&fd);
		}
	}
	return r;
}

/* The one that opens hangs: another takes its place, and files being written (outfile_adopt). */
static void replace(struct broker *b)
{
	struct broker_control done;

	b->replaced++;
	if (ask_waiting(b, CONTROL_REPLACE, 0, &done, NULL) < 0)
		b->broken = true;
}

int broker_start_parser(void *data, struct worker_process *ret, struct err *err)
{
	struct door *door = data;
	struct broker_control done;
	int fd = -1, r = door->broker ? ask_waiting(door->broker, CONTROL_PARSER, 0, &done, &fd) : -ENOSYS;

	if (!r && done.result < 0)
		r = done.result;
	else if (!r && fd < 0)
		r = -EMFILE;
	if (r < 0) {
		closep(&fd);
		return err_set(err, -r, "no process that parses can be had: %s", strerror(-r));
	}
	*ret = (struct worker_process){ .sock = fd, .pid = done.pid, .ended = done.ended };
	return 0;
}

bool broker_parser_is_ready(void *data, pid_t pid)
{
	struct door *door = data;
	struct broker_control told = { 0 };

	return door->broker && ask_waiting(door->broker, CONTROL_LOOK, pid, &told, NULL) == 0 && told.result == 1;
}

void broker_usage(const struct door *door, uint64_t *cpu_ns, uint64_t *peak_kib)
{
	struct broker_control done = { 0 };

	if (!door->broker || ask_waiting(door->broker, CONTROL_USAGE, 0, &done, NULL) < 0)
		done = (struct broker_control){ 0 };
	*cpu_ns = done.cpu_ns;
	*peak_kib = done.peak_kib;
}

/* Milliseconds until `deadline_ns`, at least 0. */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_monotonic_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* What who waits said without being asked: that one who opened has died and was replaced. */
static void take_told(struct broker *b)
{
	struct broker_control told;
	int fd;

	if (broker_receive(b->control, &told, sizeof(told), &fd) == (int)sizeof(told)) {
		closep(&fd);
		b->replaced++;
		return;
	}
	/* Who waits has died; who opens serves on. */
	closep(&b->control);
	b->control = -1;
}

/* Deaths before a request are none of it, though it may be told of them late: the next one may have answered already. */
static void take_what_was_told(struct broker *b)
{
	struct pollfd poll_fd = { .fd = b->control, .events = POLLIN };

	while (poll_fd.fd >= 0 && poll(&poll_fd, 1, 0) > 0) {
		take_told(b);
		poll_fd.fd = b->control;
	}
}

/* A packet: 0; -EAGAIN when who should have answered died and was replaced. */
static int wait_packet(struct broker *b, uint64_t deadline)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = b->sock, .events = POLLIN },
					{ .fd = b->control, .events = POLLIN } };
		int n = poll(fds, 2, left_ms(deadline));
		unsigned int replaced = b->replaced;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		if (fds[0].revents)
			return 0;
		take_told(b);
		if (b->replaced != replaced)
			return -EAGAIN;
	}
}

static bool is_output(uint32_t op)
{
	return op == BROKER_OUT_OPEN || op == BROKER_OUT_COMMIT || op == BROKER_OUT_ABORT;
}

/* No answer yet. 0: wait on; -EAGAIN: as of wait_packet; -ETIMEDOUT. */
static int look_whether_hangs(struct broker *b, struct broker_hang *hang)
{
	unsigned int replaced = b->replaced;
	struct broker_control told = { 0 };
	int r = ask_waiting(b, CONTROL_LOOK, 0, &told, NULL);

	if (b->replaced != replaced)
		return -EAGAIN;
	/* Where nobody can tell, all of its time counts. */
	return broker_hang_look(hang, clock_monotonic_ns(), !r && told.result, r ? 0 : told.cpu_ns) ? -ETIMEDOUT : 0;
}

/* A packet, for which an output may take any time: what was recorded is not to be lost to a slow disk. 0 or -errno. */
static int wait_answer(struct broker *b, const struct broker_ask *ask, struct broker_hang *hang)
{
	for (;;) {
		int r = wait_packet(b, clock_monotonic_ns() + BROKER_LOOK_MS * UINT64_C(1000000));

		if (r == -ETIMEDOUT && is_output(ask->op))
			continue;
		if (r != -ETIMEDOUT)
			return r;
		r = look_whether_hangs(b, hang);
		if (r == -ETIMEDOUT)
			return wait_packet(b, 0); /* it may have answered meanwhile */
		if (r < 0)
			return r;
	}
}

/* 0 or -errno. Answers to requests that were given up are thrown away. */
static int receive_answer(struct broker *b, const struct broker_ask *ask, struct broker_answer *ret, int *ret_fd)
{
	struct broker_hang hang = { .start_ns = clock_monotonic_ns() };

	for (;;) {
		int r = wait_answer(b, ask, &hang), n;

		if (r < 0)
			return r;
		n = broker_receive(b->sock, ret, sizeof(*ret), ret_fd);
		if (n == (int)sizeof(*ret) && ret->seq == ask->seq) {
			ret->err.msg[sizeof(ret->err.msg) - 1] = '\0';
			return 0;
		}
		closep(ret_fd);
		*ret_fd = -1;
		if (n <= 0)
			return n < 0 ? n : -EPIPE;
	}
}

static int ask_broker(struct broker *b, struct broker_ask *ask, const char *text, int with,
		      struct broker_answer *ret, int *ret_fd, struct err *err)
{
	size_t len = strlen(text), size = offsetof(struct broker_ask, text) + len + 1;
	int r;

	*ret_fd = -1;
	if (b->broken)
		return err_set(err, EPIPE, "the process that opens files has ended");
	if (len >= sizeof(ask->text))
		return err_set(err, ENAMETOOLONG, "the name is too long");
	if (b->replaced >= MAX_REPLACED && !is_output(ask->op))
		return err_set(err, EIO, "the process that opens files had to be replaced %d times", MAX_REPLACED);
	memcpy(ask->text, text, len + 1);
	take_what_was_told(b);
	r = -EAGAIN;
	for (int i = 0; r == -EAGAIN && i < MAX_REPEATS; i++) {
		ask->seq = ++b->seq;
		r = broker_send(b->sock, ask, size, with);
		if (!r)
			r = receive_answer(b, ask, ret, ret_fd);
	}
	if (r == -EAGAIN)
		return err_set(err, EIO, "it ended the process that opens files, %d times", MAX_REPEATS);
	if (r == -ETIMEDOUT) {
		replace(b);
		return err_set(err, ETIMEDOUT, "opening it took more than %d seconds", BROKER_WAIT_MS / 1000);
	}
	if (r < 0) {
		b->broken = true;
		return err_set(err, -r, "the process that opens files has ended: %s", strerror(-r));
	}
	return 0;
}

static void take_err(const struct broker_answer *answer, struct err *err)
{
	if (err)
		*err = answer->err;
}

static int not_arrived(struct err *err)
{
	return err_set(err, EMFILE, "the descriptor did not arrive: too many open files?");
}

static enum door_refusal ask_file(struct broker *b, struct broker_ask *ask, const char *path, int with,
				  struct door_file *ret, struct err *err)
{
	struct broker_answer answer;
	int fd;

	if (ask_broker(b, ask, path, with, &answer, &fd, err) < 0)
		return DOOR_FAILED;
	if (answer.result == DOOR_OK && fd < 0) {
		not_arrived(err);
		return DOOR_FAILED;
	}
	if (answer.result != DOOR_OK) {
		closep(&fd);
		take_err(&answer, err);
		return (unsigned int)answer.result < DOOR_NUM_REFUSALS ? (enum door_refusal)answer.result : DOOR_FAILED;
	}
	*ret = answer.file;
	ret->fd = fd;
	return DOOR_OK;
}

/* The descriptor that comes with *answer, or -errno. */
static int ask_descriptor(struct broker *b, struct broker_ask *ask, const char *text, int with,
			  struct broker_answer *answer, struct err *err)
{
	int fd, r = ask_broker(b, ask, text, with, answer, &fd, err);

	if (r < 0)
		return r;
	if (answer->result < 0) {
		closep(&fd);
		take_err(answer, err);
		return answer->result;
	}
	return fd >= 0 ? fd : not_arrived(err);
}

/* Where no descriptor comes: what is answered, or -errno. */
static int ask_result(struct broker *b, struct broker_ask *ask, const char *text, int with,
		      struct broker_answer *answer, struct err *err)
{
	int fd, r = ask_broker(b, ask, text, with, answer, &fd, err);

	if (r < 0)
		return r;
	closep(&fd);
	if (answer->result < 0)
		take_err(answer, err);
	return answer->result;
}

enum door_refusal broker_open_mapping(struct broker *b, const struct door_mapping *mapping, const pid_t *also,
				      size_t num_also, struct door_file *ret, struct err *err)
{
	struct broker_ask ask = { .op = BROKER_MAPPING,
				  .pid = mapping->pid,
				  .start = mapping->start,
				  .end = mapping->end,
				  .maj = mapping->maj,
				  .min = mapping->min,
				  .ino = mapping->ino };

	for (; ask.num_also < num_also && ask.num_also < BROKER_MAX_ALSO; ask.num_also++)
		ask.also[ask.num_also] = also[ask.num_also];
	return ask_file(b, &ask, mapping->path, -1, ret, err);
}

enum door_refusal broker_open(struct broker *b, enum broker_op op, pid_t pid, const char *path,
			      enum door_want want, struct door_file *ret, struct err *err)
{
	struct broker_ask ask = { .op = op, .pid = pid, .want = want };

	return ask_file(b, &ask, path, -1, ret, err);
}

int broker_keep_place(struct broker *b, pid_t pid, struct door_place *ret, struct err *err)
{
	struct broker_ask ask = { .op = BROKER_KEEP, .pid = pid };
	struct broker_answer answer;
	int fd = ask_descriptor(b, &ask, "", -1, &answer, err);

	if (fd < 0)
		return fd;
	*ret = answer.place;
	ret->dir_fd = fd;
	return 0;
}

enum door_refusal broker_open_left(struct broker *b, const struct door_place *place, struct door_file *ret,
				   struct err *err)
{
	struct broker_ask ask = { .op = BROKER_LEFT, .place = *place };

	return ask_file(b, &ask, "", place->dir_fd, ret, err);
}

int broker_open_text(struct broker *b, enum broker_op op, pid_t pid, uint32_t text, const char *name,
		     struct err *err)
{
	struct broker_ask ask = { .op = op, .pid = pid, .want = text };
	struct broker_answer answer;

	return ask_descriptor(b, &ask, name, -1, &answer, err);
}

int broker_open_memory(struct broker *b, pid_t pid, uint64_t *ret_start_ns, struct err *err)
{
	struct broker_ask ask = { .op = BROKER_MEMORY, .pid = pid };
	struct broker_answer answer;
	int fd = ask_descriptor(b, &ask, "", -1, &answer, err);

	if (fd >= 0)
		*ret_start_ns = answer.value;
	return fd;
}

int broker_number(struct broker *b, enum broker_op op, pid_t pid, const char *text, int with, uint64_t *ret,
		  struct err *err)
{
	struct broker_ask ask = { .op = op, .pid = pid };
	struct broker_answer answer;
	int r = ask_result(b, &ask, text, with, &answer, err);

	if (r >= 0)
		*ret = answer.value;
	return r;
}

int broker_tracepoint(struct broker *b, const char *subsys, const char *name, uint64_t *ret, struct err *err)
{
	char text[PATH_MAX];

	if ((size_t)snprintf(text, sizeof(text), "%s:%s", subsys, name) >= sizeof(text))
		return err_set(err, ENAMETOOLONG, "the name is too long");
	return broker_number(b, BROKER_TRACEPOINT, 0, text, -1, ret, err);
}

/* ---- perf events ---- */

int broker_allow_events(struct broker *b, const struct door_event *events, size_t num, const int *cgroups,
			size_t num_cgroups, struct err *err)
{
	if (!b->events)
		return err_set(err, EPERM, "it is fixed which events may be opened");
	return broker_events_allow(b->events, events, num, cgroups, num_cgroups, err);
}

int broker_open_event(struct broker *b, size_t index, int cgroup, int cpu, struct err *err)
{
	struct broker_ask ask = { .op = BROKER_EVENT, .want = (uint32_t)index, .value = (uint32_t)cpu };
	struct broker_answer answer;

	return ask_descriptor(b, &ask, "", cgroup, &answer, err);
}

/* ---- outputs ---- */

static int64_t out_open(void *data, const char *path, int *ret_fd, struct err *err)
{
	struct broker *b = data;
	struct broker_ask ask = { .op = BROKER_OUT_OPEN, .value = ++b->outputs };
	struct broker_answer answer;
	int r = ask_broker(b, &ask, path, -1, &answer, ret_fd, err);

	if (r < 0)
		return r;
	if (answer.result < 0) {
		take_err(&answer, err);
		return answer.result;
	}
	if (*ret_fd < 0)
		return err_set(err, EMFILE, "%s: its descriptor did not arrive", path);
	return (int64_t)ask.value;
}

static int out_end(struct broker *b, enum broker_op op, int64_t handle, const char *path, int with, struct err *err)
{
	struct broker_ask ask = { .op = op, .value = (uint64_t)handle };
	struct broker_answer answer;

	return ask_result(b, &ask, path, with, &answer, err);
}

static int out_commit(void *data, int64_t handle, const char *path, int fd, struct err *err)
{
	return out_end(data, BROKER_OUT_COMMIT, handle, path, fd, err);
}

static void out_abort(void *data, int64_t handle, const char *path, int fd)
{
	out_end(data, BROKER_OUT_ABORT, handle, path, fd, NULL);
}

const struct outfile_opener *broker_opener(struct door *door)
{
	struct broker *b = door->broker;

	if (!b)
		return NULL;
	b->opener = (struct outfile_opener){ out_open, out_commit, out_abort, b };
	return &b->opener;
}
