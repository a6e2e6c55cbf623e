/* The table of commands. One file per command: cmd_NAME.c. */
#pragma once

struct err;

struct opt;

/* What a command can be told of: --help, the man page and the shells' completions are made from this. */
struct command {
	const char *name;
	const char *summary;  /* one line, no full stop */
	const char *usage;    /* behind "ringfold NAME": "[options] FILE|DIRECTORY|-" */
	const char *about;    /* paragraphs for --help and the man page; NULL = the summary says it all */
	const char *examples; /* a line each: the command line, two spaces or more, what it does; NULL = none */
	const struct opt *opts;
	const char *const *words; /* what may stand right behind the name ("list", "export"); NULL = none */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};

extern const struct command *const all_commands[]; /* main.c; NULL ends */
const struct command *command_find(const char *word); /* also shortened, where that is unambiguous; NULL */

/* Exit statuses every command uses (README.md). */
enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_SAMPLES = 3,
	EXIT_NOT_PERMITTED = 4,
};

/* --help of one command, on stdout. Returns the exit status. */
int command_help(const struct command *command);

/* Both say on stderr what went wrong, -q or not, and return the exit status for it. */
int command_usage(const char *name, const struct err *err);
int command_failed(const struct err *err);

extern const struct command command_record;
extern const struct command command_fold;
extern const struct command command_maps;
extern const struct command command_report;
extern const struct command command_diff;
extern const struct command command_doctor;
extern const struct command command_trap;
extern const struct command command_bundle;
extern const struct command command_help_pages;
