#include "app/trap_hand.h"

#include "app/trap_measure.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "target/captures.h"
#include "target/door.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_MESSAGE = 60000, MAX_FILES = 32, COMMAND_SECONDS = 30 };

/* The first byte of each message. */
enum hand_message {
	MEASURE_NOW = 'm', /* all numbers are wanted; a value of no rule says that they were sent */
	MAKE_ROOM = 'r',   /* for a capture of so many bytes, decimal; answered by a value of no rule: whether there is */
	CAPTURED = 'c',    /* paths, each ended by a newline */
	CAPTURED_IN_PART = 'p', /* the same, and some may not have been written */
	NO_MORE = 'n',     /* end when the hooks have */
	AT_ONCE = 'o',
};
enum { RULE_NONE = UINT32_MAX, RULE_ROOM = UINT32_MAX - 1 };
static const uint64_t answer_ns = 2000000000, say_after_ns = 1000000000;
static const uint64_t room_ns = 60000000000; /* removing large files takes a disk its time */

struct trap_hand {
	int sock;
	pid_t pid;     /* 0 = its end was waited for */
	int status;    /* then, of waitpid */
	bool lost;
	bool answered; /* MEASURE_NOW or MAKE_ROOM: */
	bool fits;
};

/* A command that runs: the hook or a status(). */
struct running {
	pid_t pid; /* 0 = none */
	uint64_t since_ns;
};

/* --- in the hand --- */

struct hand {
	const struct trap_hand_opts *opts;
	int sock;
	struct door *door;
	struct captures *captures;
	struct trap_measure **measures; /* by rule; NULL for status() */
	uint64_t *due_ns;
	struct running *statuses;       /* by rule */
	struct running hook;
	VEC(char *) queue;              /* messages that hooks are to be run for */
	bool asked;                     /* MEASURE_NOW */
	bool ending;                    /* NO_MORE */
	bool hurried;                   /* AT_ONCE */
};

static pid_t run_command(const char *command, char *const *args, const char *files)
{
	static const int ours[] = { SIGPIPE, SIGINT, SIGTERM, SIGHUP };
	pid_t pid = fork();

	if (pid)
		return pid < 0 ? 0 : pid;
	setpgid(0, 0);
	/* What is ignored stays so in a program: timeout(1) in a hook could end nothing, and what a hook starts would live on. */
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
	if (files)
		setenv("RINGFOLD_FILES", files, 1);
	if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(127);
	execv("/bin/sh", args);
	fprintf(stderr, "ringfold: trap: /bin/sh for \"%s\": %s\n", command, strerror(errno));
	_exit(127);
}

static void send_value(const struct hand *h, const struct trap_value *value)
{
	/* Nobody listens: the other end says so to poll. */
	if (send(h->sock, value, sizeof(*value), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

/* Ended since? Its status then, 124 where it took too long, -1 while it runs. */
static int poll_running(struct running *run, uint64_t now_ns)
{
	int status;
	pid_t pid;

	if (!run->pid)
		return -1;
	pid = waitpid(run->pid, &status, WNOHANG);
	if (pid == run->pid) {
		run->pid = 0;
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	if (now_ns - run->since_ns < COMMAND_SECONDS * UINT64_C(1000000000))
		return -1;
	kill(-run->pid, SIGKILL);
	waitpid(run->pid, &status, 0);
	run->pid = 0;
	return 124;
}

static void ask_status(struct hand *h, size_t rule, uint64_t now_ns)
{
	struct running *run = &h->statuses[rule];
	char *args[] = { (char *)"sh", (char *)"-c", (char *)h->opts->rules[rule].name, NULL };

	if (run->pid)
		return;
	run->pid = run_command(args[2], args, NULL);
	run->since_ns = now_ns;
}

static void measure(struct hand *h, size_t rule, uint64_t now_ns)
{
	struct trap_value value = { .rule = (uint32_t)rule, .time_ns = now_ns };

	if (h->opts->rules[rule].metric == TRAP_STATUS) {
		ask_status(h, rule, now_ns);
		return;
	}
	switch (trap_measure(h->measures[rule], now_ns, &value.value)) {
	case TRAP_MEASURED:
		send_value(h, &value);
		break;
	case TRAP_HAPPENED:
		value.event = 1;
		send_value(h, &value);
		break;
	case TRAP_GONE:
		value.gone = 1;
		send_value(h, &value);
		break;
	case TRAP_NOTHING:
		break;
	}
}

static void look_at_commands(struct hand *h, uint64_t now_ns)
{
	int status = poll_running(&h->hook, now_ns);

	if (status > 0)
		log_warn("trap", "the hook ended with status %d", status);
	for (size_t i = 0; i < h->opts->num_rules; i++) {
		status = poll_running(&h->statuses[i], now_ns);
		if (status >= 0)
			send_value(h, &(struct trap_value){ .rule = (uint32_t)i, .value = status, .time_ns = now_ns });
	}
}

/* The next in the queue: "PATH\nPATH\n". */
static void run_hook(struct hand *h, uint64_t now_ns)
{
	char *args[MAX_FILES + 5] = { (char *)"sh", (char *)"-c", (char *)h->opts->hook, (char *)"ringfold-hook" };
	_cleanup_free_ char *list = NULL;
	_cleanup_free_ char *files = NULL;
	size_t num = 4;

	if (h->hook.pid || !h->queue.len)
		return;
	list = h->queue.data[0];
	memmove(h->queue.data, h->queue.data + 1, --h->queue.len * sizeof(h->queue.data[0]));
	files = strdup(list);
	if (!files)
		return;
	for (char *rest = NULL, *path = strtok_r(list, "\n", &rest); path && num < MAX_FILES + 4;
	     path = strtok_r(NULL, "\n", &rest))
		args[num++] = path;
	h->hook.pid = run_command(h->opts->hook, args, files);
	h->hook.since_ns = now_ns;
}

/* Files were written. Those that are none of a capture's are not for the hook. */
static void take_capture(struct hand *h, char *text, bool whole)
{
	_cleanup_(strbuf_deinit) struct strbuf ours = { 0 };

	for (char *rest = NULL, *path = strtok_r(text, "\n", &rest); path; path = strtok_r(NULL, "\n", &rest)) {
		if (captures_add(h->captures, path))
			strbuf_printf(&ours, "%s\n", path);
	}
	if (whole && h->opts->hook && ours.len && !ours.failed) {
		char *copy = strdup(ours.data);

		if (!copy || !vec_push(&h->queue, copy))
			free(copy);
	}
}

static void make_room(struct hand *h, const char *bytes)
{
	size_t removed;
	bool fits = captures_make_room(h->captures, strtoull(bytes, NULL, 10), &removed);

	if (removed)
		log_info("trap", "removed %zu old capture%s to stay below the quota", removed, removed == 1 ? "" : "s");
	send_value(h, &(struct trap_value){ .rule = RULE_ROOM, .value = fits });
}

static void take_message(struct hand *h, char *text)
{
	switch ((enum hand_message)text[0]) {
	case MEASURE_NOW:
		h->asked = true;
		break;
	case MAKE_ROOM:
		make_room(h, text + 1);
		break;
	case CAPTURED:
	case CAPTURED_IN_PART:
		take_capture(h, text + 1, text[0] == CAPTURED);
		break;
	case AT_ONCE:
		h->hurried = true;
		h->ending = true;
		break;
	case NO_MORE:
		h->ending = true;
		break;
	}
}

/* False: the recorder has ended. */
static bool take_messages(struct hand *h)
{
	static char text[MAX_MESSAGE + 1];
	ssize_t len;

	while ((len = recv(h->sock, text, MAX_MESSAGE, MSG_DONTWAIT)) > 0) {
		text[len] = 0;
		take_message(h, text);
	}
	return len < 0 && (errno == EAGAIN || errno == EINTR);
}

/* What is due of it, and all when it was asked for. Returns when the next is due. */
static uint64_t measure_due(struct hand *h, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < h->opts->num_rules; i++) {
		if (now_ns >= h->due_ns[i] || h->asked) {
			measure(h, i, now_ns);
			h->due_ns[i] = now_ns + trap_rule_period(&h->opts->rules[i]);
		}
		next = h->due_ns[i] < next ? h->due_ns[i] : next;
	}
	if (h->asked)
		send_value(h, &(struct trap_value){ .rule = RULE_NONE, .time_ns = now_ns });
	h->asked = false;
	return next;
}

static void end_running(struct running *run)
{
	if (!run->pid)
		return;
	kill(-run->pid, SIGKILL);
	kill(run->pid, SIGKILL); /* it may not have its group yet */
	waitpid(run->pid, NULL, 0);
	run->pid = 0;
}

static void hand_loop(struct hand *h)
{
	bool alive = true;

	while (!h->hurried && ((alive && !h->ending) || h->hook.pid || h->queue.len)) {
		uint64_t now = clock_monotonic_ns(), next = now + 250000000, due;
		struct pollfd fd = { .fd = alive ? h->sock : -1, .events = POLLIN };

		look_at_commands(h, now);
		due = alive && !h->ending ? measure_due(h, now) : UINT64_MAX;
		next = due < next ? due : next;
		run_hook(h, now);
		now = clock_monotonic_ns();
		poll(&fd, 1, next > now ? (int)((next - now) / 1000000) + 1 : 0);
		if (alive)
			alive = take_messages(h);
		/* Nobody hears of a status any more. */
		for (size_t i = 0; i < h->opts->num_rules && (!alive || h->ending); i++)
			end_running(&h->statuses[i]);
	}
	end_running(&h->hook);
}

static int hand_open(struct hand *h, struct err *err)
{
	const struct trap_hand_opts *o = h->opts;
	int r = door_new(&h->door, err);

	h->measures = calloc(o->num_rules, sizeof(*h->measures));
	h->due_ns = calloc(o->num_rules, sizeof(*h->due_ns));
	h->statuses = calloc(o->num_rules, sizeof(*h->statuses));
	if (!r && (!h->measures || !h->due_ns || !h->statuses))
		r = err_oom(err);
	if (!r)
		r = captures_new(o->names, o->num_names, o->quota, &h->captures, err);
	for (size_t i = 0; !r && i < o->num_rules; i++) {
		if (o->rules[i].metric != TRAP_STATUS)
			r = trap_measure_new(h->door, &o->rules[i], &h->measures[i], err);
		if (r < 0)
			err_prefix(err, "--when %s", o->rules[i].text);
	}
	return r;
}

/* Never returns. The first message says whether everything is there. */
static void hand_main(const struct trap_hand_opts *opts, int sock)
{
	struct hand h = { .opts = opts, .sock = sock };
	struct err err = { 0 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	/* Ctrl-C is the recorder's: it may have a capture to finish. It ends, and then so do we. */
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGTERM, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	hand_open(&h, &err);
	if (send(sock, &err, sizeof(err), MSG_NOSIGNAL) != sizeof(err) || err.code)
		_exit(1);
	hand_loop(&h);
	_exit(0);
}

/* --- on the recorder's side --- */

int trap_hand_start(const struct trap_hand_opts *opts, struct trap_hand **ret, struct err *err)
{
	struct trap_hand *hand = calloc(1, sizeof(*hand));
	struct err said = { 0 };
	int sock[2];

	if (!hand)
		return err_oom(err);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0) {
		free(hand);
		return err_set(err, errno, "socketpair: %s", strerror(errno));
	}
	hand->pid = fork();
	if (hand->pid < 0) {
		int code = errno;

		close(sock[0]);
		close(sock[1]);
		free(hand);
		return err_set(err, code, "fork: %s", strerror(code));
	}
	if (!hand->pid) {
		close(sock[0]);
		hand_main(opts, sock[1]);
	}
	close(sock[1]);
	hand->sock = sock[0];
	if (recv(hand->sock, &said, sizeof(said), 0) != sizeof(said))
		err_set(&said, EIO, "what measures for the trap did not start");
	if (said.code) {
		if (err)
			*err = said;
		trap_hand_free(hand);
		return -said.code;
	}
	*ret = hand;
	return 0;
}

/* From inside the jail as well; a hook that runs has up to COMMAND_SECONDS. */
static void await_end(struct trap_hand *hand)
{
	while (hand->pid && waitpid(hand->pid, &hand->status, 0) < 0 && errno == EINTR)
		;
	hand->pid = 0;
}

static bool tell(struct trap_hand *hand, char message)
{
	return send(hand->sock, &message, 1, MSG_NOSIGNAL) == 1;
}

void trap_hand_finish(struct trap_hand *hand, int stop_fd, bool (*stop)(void *data), void *data)
{
	struct pollfd fds[2] = { { .fd = hand->sock, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
	uint64_t say_ns = clock_monotonic_ns() + say_after_ns;
	bool hurried = false;

	if (hand->lost || !tell(hand, NO_MORE))
		return;
	for (;;) {
		struct trap_value value;
		ssize_t len;

		if (poll(fds, hurried ? 1 : 2, 500) < 0 && errno != EINTR)
			return;
		if (!hurried && fds[1].revents && stop(data)) {
			hurried = true;
			if (!tell(hand, AT_ONCE))
				return;
		}
		len = recv(hand->sock, &value, sizeof(value), MSG_DONTWAIT);
		if (!len || (len < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (say_ns && clock_monotonic_ns() >= say_ns) {
			say_ns = 0;
			log_info("trap", "waiting for what --exec started, %d s at most; Ctrl-C ends it", COMMAND_SECONDS);
		}
	}
}

void trap_hand_free(struct trap_hand *hand)
{
	if (!hand)
		return;
	close(hand->sock);
	await_end(hand);
	free(hand);
}

int trap_hand_fd(const struct trap_hand *hand)
{
	return hand->sock;
}

bool trap_hand_value(struct trap_hand *hand, struct trap_value *ret)
{
	bool answer;
	ssize_t len;

	do {
		len = recv(hand->sock, ret, sizeof(*ret), MSG_DONTWAIT);
		answer = len == sizeof(*ret) && ret->rule >= RULE_ROOM;
		if (answer) {
			hand->answered = true;
			hand->fits = ret->rule == RULE_ROOM && ret->value > 0;
		}
	} while (answer || (len < 0 && errno == EINTR));
	if (!len || (len < 0 && errno != EAGAIN))
		hand->lost = true;
	return len == sizeof(*ret);
}

bool trap_hand_lost(const struct trap_hand *hand)
{
	return hand->lost;
}

int trap_hand_check(struct trap_hand *hand, struct err *err)
{
	if (!hand->lost)
		return 0;
	await_end(hand);
	if (WIFSIGNALED(hand->status))
		return err_set(err, ECHILD, "the process that measures what is waited for was ended by signal %d (%s)",
			       WTERMSIG(hand->status), strsignal(WTERMSIG(hand->status)));
	return err_set(err, ECHILD, "the process that measures what is waited for ended with status %d",
		       WEXITSTATUS(hand->status));
}

/* False: no answer in that time. */
static bool ask(struct trap_hand *hand, const char *text, uint64_t ns, void (*heard)(void *data), void *data)
{
	uint64_t now = clock_monotonic_ns(), end = now + ns;

	hand->answered = false;
	if (send(hand->sock, text, strlen(text), MSG_NOSIGNAL) < 0)
		return false;
	for (; !hand->answered && !hand->lost && now < end; now = clock_monotonic_ns()) {
		struct pollfd fd = { .fd = hand->sock, .events = POLLIN };

		if (poll(&fd, 1, (int)((end - now) / 1000000) + 1) > 0)
			heard(data);
	}
	return hand->answered;
}

void trap_hand_measure_now(struct trap_hand *hand, void (*heard)(void *data), void *data)
{
	ask(hand, (const char[]){ MEASURE_NOW, 0 }, answer_ns, heard, data);
}

int trap_hand_make_room(struct trap_hand *hand, uint64_t bytes, void (*heard)(void *data), void *data, struct err *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%c%" PRIu64, MAKE_ROOM, bytes);
	if (!ask(hand, text, room_ns, heard, data))
		return err_set(err, ETIMEDOUT, "what keeps the captures within their quota does not answer");
	return hand->fits ? 0 : err_set(err, EFBIG, "a capture of %" PRIu64 " bytes is more than the quota", bytes);
}

void trap_hand_captured(struct trap_hand *hand, const char *const *paths, size_t num, bool whole)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	strbuf_printf(&text, "%c", whole ? CAPTURED : CAPTURED_IN_PART);
	for (size_t i = 0; i < num; i++)
		strbuf_printf(&text, "%s\n", paths[i]);
	if (text.failed || text.len > MAX_MESSAGE)
		return;
	if (send(hand->sock, text.data, text.len, MSG_NOSIGNAL) < 0)
		log_warn("trap", "what keeps the captures cannot be told of one: %s", strerror(errno));
}
