/*
 * What ends or interrupts a recording besides its targets: Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, the end of the
 * launched command, the duration, and a tick for progress; all behind one descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

struct events {
	int epoll_fd;    /* readable when something happened: give it to collector_wait */
	int signal_fd;
	int duration_fd;
	int tick_fd;
	bool stop;       /* Ctrl-C, SIGTERM, SIGHUP */
	bool skip_names; /* a second one */
	bool write_now;  /* SIGUSR1; the reader clears it */
	bool child;      /* SIGCHLD; the reader clears it */
	bool time_up;
	bool tick;       /* the reader clears it */
	int stop_signal;
};

/* Blocks the signals for the whole process. */
int events_open(struct events *ret, struct err *err);
void events_close(struct events *e);
/* From now on; duration_ns 0 = no end. */
int events_start(struct events *e, uint64_t duration_ns, uint64_t tick_ns, struct err *err);
/* Takes in what happened; never blocks. The third stop signal ends the process at once. */
void events_poll(struct events *e);
