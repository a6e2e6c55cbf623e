#include "app/events.h"

#include "base/cleanup.h"
#include "base/err.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int watch(struct events *e, int fd, const char *what, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0)
		return err_set(err, errno, "%s: %s", what, strerror(errno));
	if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_set(err, errno, "epoll: %s", strerror(errno));
	return 0;
}

/* Started by nohup, the end of the terminal is not for us. A blocked signal is queued even when it is ignored. */
static bool is_ignored(int signal_number)
{
	struct sigaction action;

	return !sigaction(signal_number, NULL, &action) && action.sa_handler == SIG_IGN;
}

int events_open(struct events *ret, struct err *err)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD };
	struct events e = { .signal_fd = -1, .duration_fd = -1, .tick_fd = -1 };
	sigset_t set;
	int r;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (signals[i] != SIGHUP || !is_ignored(SIGHUP))
			sigaddset(&set, signals[i]);
	}
	e.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (e.epoll_fd < 0)
		return err_set(err, errno, "epoll: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, &set, NULL);
	e.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = watch(&e, e.signal_fd, "signalfd", err);
	if (!r) {
		e.duration_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		r = watch(&e, e.duration_fd, "timerfd", err);
	}
	if (!r) {
		e.tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		r = watch(&e, e.tick_fd, "timerfd", err);
	}
	if (r) {
		events_close(&e);
		return r;
	}
	*ret = e;
	return 0;
}

void events_close(struct events *e)
{
	closep(&e->signal_fd);
	closep(&e->duration_fd);
	closep(&e->tick_fd);
	closep(&e->epoll_fd);
	e->signal_fd = e->duration_fd = e->tick_fd = e->epoll_fd = -1;
}

static int arm(int fd, uint64_t first_ns, uint64_t every_ns, struct err *err)
{
	struct itimerspec spec = {
		.it_value = { .tv_sec = (time_t)(first_ns / 1000000000u),
			      .tv_nsec = (long)(first_ns % 1000000000u) },
		.it_interval = { .tv_sec = (time_t)(every_ns / 1000000000u),
				 .tv_nsec = (long)(every_ns % 1000000000u) },
	};

	if (timerfd_settime(fd, 0, &spec, NULL) < 0)
		return err_set(err, errno, "timerfd: %s", strerror(errno));
	return 0;
}

int events_start(struct events *e, uint64_t duration_ns, uint64_t tick_ns, struct err *err)
{
	int r = 0;

	if (duration_ns)
		r = arm(e->duration_fd, duration_ns, 0, err);
	if (!r && tick_ns)
		r = arm(e->tick_fd, tick_ns, tick_ns, err);
	return r;
}

static void stop_asked(struct events *e, int signal_number)
{
	if (e->skip_names)
		_exit(128 + signal_number); /* the third: leave at once */
	if (e->stop)
		e->skip_names = true;
	e->stop = true;
	e->stop_signal = signal_number;
}

void events_poll(struct events *e)
{
	struct signalfd_siginfo info;
	uint64_t expired;

	while (read(e->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			e->child = true;
			break;
		case SIGUSR1:
			e->write_now = true;
			break;
		default:
			stop_asked(e, (int)info.ssi_signo);
		}
	}
	if (read(e->duration_fd, &expired, sizeof(expired)) == sizeof(expired))
		e->time_up = true;
	if (read(e->tick_fd, &expired, sizeof(expired)) == sizeof(expired))
		e->tick = true;
}
