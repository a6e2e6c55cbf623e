#include "app/command.h"

#include "base/log.h"
#include "target/door.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct command *const all_commands[] = {
	&command_record,
	&command_fold,
	&command_report,
	&command_diff,
	&command_bundle,
	&command_trap,
	&command_maps,
	&command_doctor,
	&command_help_pages,
	NULL,
};

static void print_help(FILE *out)
{
	fputs("ringfold: where the CPU time of a Linux machine goes, without BPF\n"
	      "\n"
	      "  ringfold record -a -d 5 -o all.folded       the whole machine for 5 seconds\n"
	      "  ringfold record -p 1234                     a running process until Ctrl-C\n"
	      "  ringfold record -o make.folded -- make -j8  a command and what it starts\n"
	      "  ringfold fold perf.data                     what perf recorded\n"
	      "  ringfold trap --when 'cpu(pid=1234)>80%/2s' a moment, with the seconds before it\n"
	      "  ringfold doctor                             why it does not work here\n"
	      "\n"
	      "commands (ringfold COMMAND --help tells more):\n",
	      out);
	for (const struct command *const *c = all_commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fputs("\nWithout a command, options mean record. --version prints the version.\n", out);
}

static void ignore_signal(int signal_number)
{
}

/*
 * What cannot be written is an error with a name, not a silent end. The handler goes at a command's exec, SIG_IGN would
 * not.
 */
static void survive_failed_writes(void)
{
	const struct sigaction action = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART };

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGXFSZ, &action, NULL); /* ulimit -f */
}

int main(int argc, char **argv)
{
	const struct command *command;
	static char record[] = "record";

	if (!door_fill_standard_descriptors())
		return EXIT_FAILED;
	/* Large blocks go back to the system when freed: by default the first one freed ends that. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	survive_failed_writes();
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2)) {
		print_help(stdout);
		return fflush(stdout) ? EXIT_FAILED : 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		puts("ringfold " RINGFOLD_VERSION);
		return fflush(stdout) ? EXIT_FAILED : 0;
	}
	if (argv[1][0] == '-') {
		/* As if it had been said, also where the command line is told. */
		argv[0] = record;
		return command_record.run(argc, argv);
	}
	command = command_find(argv[1]);
	if (!command) {
		log_warn(NULL, "no command \"%s\": ringfold --help lists them", argv[1]);
		return EXIT_USAGE;
	}
	return command->run(argc - 1, argv + 1);
}
