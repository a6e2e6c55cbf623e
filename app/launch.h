/* The command after "--": started, held before its exec until the events are there, reaped. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct err;

struct launch {
	pid_t pid;    /* 0 = nothing launched */
	int go_fd;    /* writing a byte lets it exec; closing it makes it leave */
	int fail_fd;  /* readable: the errno of a failed exec */
	bool exec_failed;
	bool reaped;
	bool ended;   /* by launch_end, not by itself */
	int status;   /* of waitpid, once reaped */
};

int launch_prepare(char *const argv[], struct launch *ret, struct err *err);
/* Lets it exec and waits until it did: -errno when it could not. */
int launch_go(struct launch *l, const char *name, struct err *err);
bool launch_poll(struct launch *l);         /* reaps without waiting; true once it ended */
/* SIGTERM when it still runs, then waits up to 2 s; `ending`: it ends by itself, and is waited for first. */
void launch_end(struct launch *l, bool ending);
/* As a shell would say: 128 + signal; 127 for a command that is not there, 126 for one that cannot be run. */
int launch_exit_status(const struct launch *l);
void launch_deinit(struct launch *l);       /* a child still waiting for its exec leaves */
