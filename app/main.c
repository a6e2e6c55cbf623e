#include "app/command.h"

#include "base/log.h"
#include "target/door.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
	&command_record,
	&command_fold,
	&command_report,
	&command_maps,
	&command_doctor,
};

enum { NUM_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
	fputs("ringfold: where the CPU time of a Linux machine goes, without BPF\n"
	      "\n"
	      "  ringfold record -a -d 5 -o all.folded       the whole machine for 5 seconds\n"
	      "  ringfold record -p 1234                     a running process until Ctrl-C\n"
	      "  ringfold record -o make.folded -- make -j8  a command and what it starts\n"
	      "  ringfold fold perf.data                     what perf recorded\n"
	      "\n"
	      "commands (ringfold COMMAND --help tells more):\n",
	      out);
	for (size_t i = 0; i < NUM_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\nWithout a command, options mean record. --version prints the version.\n", out);
}

/* A command may be shortened as long as it is unambiguous. */
static const struct command *find_command(const char *word)
{
	const struct command *found = NULL;

	for (size_t i = 0; i < NUM_COMMANDS; i++) {
		if (!strcmp(commands[i]->name, word))
			return commands[i];
		if (!strncmp(commands[i]->name, word, strlen(word))) {
			if (found)
				return NULL;
			found = commands[i];
		}
	}
	return found;
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (!door_fill_standard_descriptors())
		return EXIT_FAILED;
	/* Large blocks go back to the system when freed: by default the first one freed ends that. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	signal(SIGPIPE, SIG_IGN); /* a closed stdout is a write error with a name, not a silent end */
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return fflush(stdout) ? EXIT_FAILED : 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		puts("ringfold " RINGFOLD_VERSION);
		return fflush(stdout) ? EXIT_FAILED : 0;
	}
	if (argv[1][0] == '-')
		return command_record.run(argc, argv);
	command = find_command(argv[1]);
	if (!command) {
		log_warn(NULL, "no command \"%s\": ringfold --help lists them", argv[1]);
		return EXIT_USAGE;
	}
	return command->run(argc - 1, argv + 1);
}
