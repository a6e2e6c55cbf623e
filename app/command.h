/* The table of commands. One file per command: cmd_NAME.c. */
#pragma once

struct err;

struct command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};

/* Exit statuses every command uses (README.md). */
enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_SAMPLES = 3,
	EXIT_NOT_PERMITTED = 4,
};

/* Both say on stderr what went wrong, -q or not, and return the exit status for it. */
int command_usage(const char *name, const struct err *err);
int command_failed(const struct err *err);

extern const struct command command_record;
extern const struct command command_fold;
extern const struct command command_maps;
extern const struct command command_report;
extern const struct command command_doctor;
