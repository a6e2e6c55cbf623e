#include "app/command.h"

#include "base/err.h"
#include "base/log.h"
#include "base/opts.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int command_usage(const char *name, const struct err *err)
{
	log_set_level(LOG_WARN); /* -q silences everything but this */
	log_warn(NULL, "error: %s (ringfold %s --help tells more)", err->msg, name);
	return EXIT_USAGE;
}

int command_failed(const struct err *err)
{
	log_set_level(LOG_WARN); /* -q silences everything but this */
	log_warn(NULL, "error: %s", err->msg);
	return err->code == EPERM || err->code == EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
}

const struct command *command_find(const char *word)
{
	const struct command *found = NULL;

	for (const struct command *const *c = all_commands; *c; c++) {
		if (!strcmp((*c)->name, word))
			return *c;
		if (!strncmp((*c)->name, word, strlen(word))) {
			if (found)
				return NULL;
			found = *c;
		}
	}
	return found;
}

/* Each line behind two spaces. */
static void put_indented(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		printf("  %.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

int command_help(const struct command *c)
{
	printf("ringfold %s %s\n\n", c->name, c->usage);
	if (c->examples) {
		put_indented(c->examples);
		putchar('\n');
	}
	printf("%s\n\n", c->about ? c->about : c->summary);
	opts_help(c->opts, stdout);
	return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : 0;
}
