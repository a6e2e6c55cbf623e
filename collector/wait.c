/* Sleeping until there is something to do. */
#include "collector/collector_priv.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* What became ready: the kind in the upper half, an index in the lower. */
enum tag { TAG_TIMER, TAG_WAKE, TAG_STREAM, TAG_TARGET };

static const uint64_t default_period_ns = 100 * 1000 * 1000;

static int watch(const struct collector *c, int fd, enum tag tag, size_t index, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint64_t)tag << 32 | index };

	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_set(err, errno, "epoll_ctl: %s", strerror(errno));
	return 0;
}

static void unwatch(const struct collector *c, int fd)
{
	epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int collector_set_period(struct collector *c, uint64_t period_ns, struct err *err)
{
	struct timespec period = {
		.tv_sec = (time_t)(period_ns / 1000000000),
		.tv_nsec = (long)(period_ns % 1000000000),
	};
	struct itimerspec timer = { .it_interval = period, .it_value = period };

	if (!period_ns)
		return err_set(err, EINVAL, "the drain timer's period is 0");
	if (timerfd_settime(c->timer_fd, 0, &timer, NULL) < 0)
		return err_set(err, errno, "timerfd_settime: %s", strerror(errno));
	return 0;
}

int wait_open(struct collector *c, struct err *err)
{
	int r;

	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0)
		return err_set(err, errno, "epoll_create1: %s", strerror(errno));
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer_fd < 0)
		return err_set(err, errno, "timerfd_create: %s", strerror(errno));
	r = collector_set_period(c, default_period_ns, err);
	return r < 0 ? r : watch(c, c->timer_fd, TAG_TIMER, 0, err);
}

int wait_add_slot(struct collector *c, uint32_t slot, struct err *err)
{
	for (size_t kind = 0; kind < NUM_STREAMS; kind++) {
		const struct stream *stream = &c->slots.data[slot].streams[kind];
		int r = 0;

		if (stream->poll_fd >= 0)
			r = watch(c, stream->poll_fd, TAG_STREAM, (size_t)slot * NUM_STREAMS + kind,
				  err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A ring that is mapped keeps its closed event, and that would stay in the set. */
void wait_remove_slot(struct collector *c, uint32_t slot)
{
	for (size_t kind = 0; kind < NUM_STREAMS; kind++) {
		struct stream *stream = &c->slots.data[slot].streams[kind];

		if (stream->poll_fd >= 0)
			unwatch(c, stream->poll_fd);
		stream->poll_fd = -1;
	}
}

/* Threads (-t) have no pidfd before Linux 6.9: their events tell when they end. */
int wait_add_targets(struct collector *c, struct err *err)
{
	if (c->opts.target != TARGET_PIDS && c->opts.target != TARGET_COMMAND)
		return 0;
	for (size_t i = 0; i < c->pids.len; i++) {
		struct awaited one = { .pid = c->pids.data[i] };
		int r = 0;

		one.fd = (int)syscall(SYS_pidfd_open, one.pid, 0);
		if (one.fd < 0 && errno == ESRCH) {
			one.ended = true;
			c->num_ended++;
		}
		if (!vec_push(&c->awaited, one)) {
			if (one.fd >= 0)
				close(one.fd);
			return err_oom(err);
		}
		if (one.fd >= 0)
			r = watch(c, one.fd, TAG_TARGET, i, err);
		if (r < 0)
			return r;
	}
	return 0;
}

void wait_close(struct collector *c)
{
	for (size_t i = 0; i < c->awaited.len; i++) {
		if (c->awaited.data[i].fd >= 0)
			close(c->awaited.data[i].fd);
	}
	vec_deinit(&c->awaited);
	if (c->timer_fd >= 0)
		close(c->timer_fd);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
}

static bool has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = 0 };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

/*
 * An event whose thread ended is always ready, and cannot wake us any more. Another one that writes to the same ring
 * takes its place; events never come back, so each is looked at once.
 */
static int replace_polled(struct collector *c, size_t index, struct err *err)
{
	size_t slot = index / NUM_STREAMS;
	enum stream_kind kind = (enum stream_kind)(index % NUM_STREAMS);
	struct stream *stream = &c->slots.data[slot].streams[kind];

	if (stream->poll_fd < 0)
		return 0;
	unwatch(c, stream->poll_fd);
	stream->poll_fd = -1;
	for (; stream->next_event < c->events.len; stream->next_event++) {
		const struct event *event = &c->events.data[stream->next_event];

		if (event->slot != slot || event->kind != kind || has_hung_up(event->fd))
			continue;
		stream->poll_fd = event->fd;
		return watch(c, stream->poll_fd, TAG_STREAM, index, err);
	}
	/* Where every process is recorded only a CPU can go. */
	if (collector_cpu_wide(c))
		c->slots.data[slot].gone = true;
	return 0;
}

static void target_ended(struct collector *c, struct awaited *one)
{
	if (one->ended)
		return;
	one->ended = true;
	c->num_ended++;
	if (one->fd >= 0)
		unwatch(c, one->fd);
}

static void look_for_targets(struct collector *c)
{
	for (size_t i = 0; i < c->awaited.len; i++) {
		struct awaited *one = &c->awaited.data[i];

		if (one->fd < 0 && kill(one->pid, 0) < 0 && errno == ESRCH)
			target_ended(c, one);
	}
}

static bool nothing_counts(const struct collector *c)
{
	for (size_t i = 0; i < c->slots.len; i++) {
		if (c->slots.data[i].streams[STREAM_SAMPLES].poll_fd >= 0)
			return false;
	}
	return true;
}

static bool all_ended(const struct collector *c)
{
	/* Processes may come into a cgroup at any time: the caller knows when it is over. */
	if (c->opts.target == TARGET_ALL || c->opts.target == TARGET_CGROUP)
		return false;
	if (c->awaited.len && c->num_ended == c->awaited.len)
		return true;
	/* A command is to run to its end, though nobody may count it any more. */
	if (c->info.filtered || (c->opts.target == TARGET_COMMAND && c->awaited.len))
		return false;
	return nothing_counts(c);
}

/* Events end before their task can be seen to have, but not by a second. */
static void look_for_privileges(struct collector *c)
{
	static const uint64_t sure_ns = 1000000000;
	uint64_t now_ns = clock_monotonic_ns();

	if (c->opts.target != TARGET_COMMAND || c->num_ended == c->awaited.len || !nothing_counts(c))
		return;
	if (!c->uncounted_ns)
		c->uncounted_ns = now_ns;
	if (c->told_uncounted || now_ns - c->uncounted_ns < sure_ns)
		return;
	c->told_uncounted = true;
	collector_note(c, "the command runs with other privileges than ours (a set-user-ID program, or one with capabilities), "
			  "and the kernel counts it no more: run as root");
}

static int set_wake_fd(struct collector *c, int wake_fd, struct err *err)
{
	int r = 0;

	if (c->wake_fd == wake_fd)
		return 0;
	if (c->wake_fd >= 0)
		unwatch(c, c->wake_fd);
	c->wake_fd = -1;
	if (wake_fd >= 0)
		r = watch(c, wake_fd, TAG_WAKE, 0, err);
	if (r == 0)
		c->wake_fd = wake_fd;
	return r;
}

static int handle(struct collector *c, const struct epoll_event *event, bool *wake, struct err *err)
{
	size_t index = (uint32_t)event->data.u64;
	uint64_t expirations;

	switch ((enum tag)(event->data.u64 >> 32)) {
	case TAG_TIMER:
		if (read(c->timer_fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
			return err_set(err, errno, "reading the drain timer: %s", strerror(errno));
		look_for_targets(c);
		look_for_privileges(c);
		return 0;
	case TAG_WAKE:
		*wake = true;
		return 0;
	case TAG_STREAM:
		return event->events & (EPOLLHUP | EPOLLERR) ? replace_polled(c, index, err) : 0;
	case TAG_TARGET:
		target_ended(c, &c->awaited.data[index]);
		return 0;
	}
	return 0;
}

int collector_wait(struct collector *c, int wake_fd, struct err *err)
{
	struct epoll_event events[32];
	bool wake = false;
	int num, r = set_wake_fd(c, wake_fd, err);

	if (r < 0)
		return r;
	if (c->ended)
		return 3;
	num = epoll_wait(c->epoll_fd, events, sizeof(events) / sizeof(events[0]), -1);
	if (num < 0 && errno != EINTR)
		return err_set(err, errno, "epoll_wait: %s", strerror(errno));
	for (int i = 0; i < num; i++) {
		r = handle(c, &events[i], &wake, err);
		if (r < 0)
			return r;
	}
	c->ended = all_ended(c);
	if (wake)
		return 2;
	return c->ended ? 3 : 1;
}
