/* `ringfold help`: of a command, or all of it as a man page or a shell's completions, from the commands' own tables. */
#include "app/command.h"

#include "base/err.h"
#include "base/opts.h"
#include "output/format.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef void (*print_fn)(void);
struct help_args {
	print_fn print; /* NULL = for people */
};

/* --- what an option's argument is, by the word that --help shows --- */

enum arg_kind { ARG_OTHER, ARG_FILE, ARG_DIR, ARG_PID, ARG_USER, ARG_WORDS };

/* What it may be, where that is one of a few words; "" = the formats of profiles. */
static const char *words_of(const struct opt *opt)
{
	static const struct {
		const char *name, *words;
	} known[] = { { "unwinder", "cfi libunwind fp" }, { "by", "comm pid container pod" },
		      { "event", "cycles cpu-clock task-clock page-faults context-switches cpu-migrations" } };

	if (!strcmp(opt->name, "format"))
		return !strncmp(opt->help, "text,", 5) ? "text collapsed html" : "";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(opt->name, known[i].name))
			return known[i].words;
	}
	return NULL;
}

static enum arg_kind kind_of(const struct opt *opt)
{
	static const struct {
		const char *arg;
		enum arg_kind kind;
	} kinds[] = { { "FILE", ARG_FILE }, { "DIR", ARG_DIR }, { "PID", ARG_PID }, { "PID,..", ARG_PID },
		      { "TID,..", ARG_PID }, { "USER", ARG_USER } };

	if (words_of(opt))
		return ARG_WORDS;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!strcmp(opt->arg, kinds[i].arg))
			return kinds[i].kind;
	}
	return ARG_OTHER;
}

static bool takes_files(const struct command *c)
{
	return strstr(c->usage, "FILE") || strstr(c->usage, "BEFORE") || strstr(c->usage, "NAME");
}

static void print_words(const struct opt *opt)
{
	const struct format *const *list;
	size_t num = format_list(&list);

	fputs(words_of(opt), stdout);
	if (words_of(opt)[0])
		return;
	for (size_t i = 0; i < num; i++)
		printf("%s%s", i ? " " : "", list[i]->name);
	fputs(" perf-data", stdout);
}

static void command_names(void)
{
	for (const struct command *const *c = all_commands; *c; c++)
		printf("%s ", (*c)->name);
}

/* --- man --- */

/* Nothing that troff would take for its own: '-' is a minus, a dot or quote that begins a line is text. */
static void roff(const char *text)
{
	bool start = true;

	for (; *text; text++) {
		if (start && (*text == '.' || *text == '\''))
			fputs("\\&", stdout);
		if (*text == '-')
			fputs("\\-", stdout);
		else if (*text == '\\')
			fputs("\\e", stdout);
		else
			putchar(*text);
		start = *text == '\n';
	}
}

static void roff_option(const struct opt *opt)
{
	fputs(".TP\n", stdout);
	if (opt->letter)
		printf("\\fB\\-%c\\fR, ", opt->letter);
	fputs("\\fB\\-\\-", stdout);
	roff(opt->name);
	fputs("\\fR", stdout);
	if (opt->arg) {
		fputs(" \\fI", stdout);
		roff(opt->arg);
		fputs("\\fR", stdout);
	}
	putchar('\n');
	roff(opt->help);
	putchar('\n');
}

static void roff_command(const struct command *c)
{
	printf(".SS ringfold %s ", c->name);
	roff(c->usage);
	putchar('\n');
	roff(c->about ? c->about : c->summary);
	putchar('\n');
	if (c->examples) {
		fputs(".PP\n.nf\n.RS 4\n", stdout);
		roff(c->examples);
		fputs(c->examples[strlen(c->examples) - 1] == '\n' ? ".RE\n.fi\n" : "\n.RE\n.fi\n", stdout);
	}
	for (const struct opt *opt = c->opts; opt->name; opt++)
		roff_option(opt);
}

static void print_man(void)
{
	fputs(".TH RINGFOLD 1 \"\" \"ringfold " RINGFOLD_VERSION "\"\n"
	      ".SH NAME\nringfold \\- where the CPU time of a Linux machine goes, without BPF\n"
	      ".SH SYNOPSIS\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++) {
		printf(".B ringfold %s\n", (*c)->name);
		roff((*c)->usage);
		fputs("\n.br\n", stdout);
	}
	fputs(".SH DESCRIPTION\n"
	      "Samples with perf_event, takes a copy of the user stack with every sample, unwinds the copies itself while\n"
	      "recording, names the frames, and writes collapsed stacks and what other tools read. Nothing is installed on the\n"
	      "machine and nothing is left there, and each profile says how complete it is.\n"
	      ".PP\nOptions without a command mean \\fBrecord\\fR. Commands may be shortened.\n"
	      ".SH COMMANDS\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++)
		roff_command(*c);
	fputs(".SH EXIT STATUS\n"
	      ".TP\n0\nwritten; a launched command's own status is passed through\n"
	      ".TP\n1\nfailed; stderr says why\n.TP\n2\nwrong usage\n"
	      ".TP\n3\nno samples: the targets used no CPU\n"
	      ".TP\n4\nnot permitted; stderr names the cause and the remedy\n"
	      ".SH ENVIRONMENT\n.TP\nNO_COLOR\nno colours on a terminal\n"
	      ".TP\nDEBUGINFOD_URLS\nwhere \\fBfold\\fR asks for missing files\n"
	      ".SH SEE ALSO\n.BR perf\\-record (1),\n.BR perf_event_open (2)\n", stdout);
}

/* --- bash --- */

static void bash_words(const struct command *c)
{
	for (const struct opt *opt = c->opts; opt->name; opt++) {
		if (opt->letter)
			printf("-%c ", opt->letter);
		printf("--%s ", opt->name);
	}
	fputs("--help' subs='", stdout);
	for (const char *const *w = c->words; w && *w; w++)
		printf("%s ", *w);
	if (c == &command_help_pages)
		command_names();
}

/* "-o|--output|" of every option, of any command, whose argument is of that kind; they agree. */
static void bash_options_of(enum arg_kind kind)
{
	const char *bar = "";

	for (const struct command *const *c = all_commands; *c; c++) {
		for (const struct opt *opt = (*c)->opts; opt->name; opt++) {
			if (!opt->arg || kind_of(opt) != kind)
				continue;
			printf("%s%s:--%s", bar, (*c)->name, opt->name);
			bar = "|";
			if (opt->letter)
				printf("|%s:-%c", (*c)->name, opt->letter);
		}
	}
	if (!*bar)
		fputs("none:", stdout);
}

static void bash_case(enum arg_kind kind, const char *action)
{
	fputs("\t", stdout);
	bash_options_of(kind);
	printf(") %s; return ;;\n", action);
}

static void bash_words_of(const struct command *c, const struct opt *opt)
{
	printf("\t%s:--%s", c->name, opt->name);
	if (opt->letter)
		printf("|%s:-%c", c->name, opt->letter);
	fputs(") COMPREPLY=($(compgen -W \"", stdout);
	print_words(opt);
	fputs("\" -- \"$cur\")); return ;;\n", stdout);
}


static void print_bash(void)
{
	fputs("# bash completion of ringfold\n"
	      "_ringfold()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words= subs= i\n"
	      "\tCOMPREPLY=()\n"
	      "\tif [[ $COMP_CWORD -eq 1 ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"", stdout);
	command_names();
	fputs("--help --version\" -- \"$cur\"))\n\t\treturn\n\tfi\n"
	      "\t[[ $command != -* ]] || command=record\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\t[[ ${COMP_WORDS[i]} == -- ]] || continue\n"
	      "\t\tif ((i == COMP_CWORD - 1)); then mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")\n"
	      "\t\telse mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); fi\n\t\treturn\n\tdone\n"
	      "\tcase $command:$prev in\n", stdout);
	bash_case(ARG_FILE, "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
	bash_case(ARG_DIR, "mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")");
	bash_case(ARG_PID, "COMPREPLY=($(compgen -W \"$(cd /proc && echo [0-9]*)\" -- \"$cur\"))");
	bash_case(ARG_USER, "COMPREPLY=($(compgen -u -- \"$cur\"))");
	for (const struct command *const *c = all_commands; *c; c++) {
		for (const struct opt *opt = (*c)->opts; opt->name; opt++) {
			if (opt->arg && kind_of(opt) == ARG_WORDS)
				bash_words_of(*c, opt);
		}
	}
	bash_case(ARG_OTHER, ":");
	fputs("\tesac\n\tcase $command in\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++) {
		printf("\t%s) words='", (*c)->name);
		bash_words(*c);
		fputs("' ;;\n", stdout);
	}
	fputs("\tesac\n"
	      "\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "\telse\n\t\tmapfile -t COMPREPLY < <(compgen -W \"$subs\" -- \"$cur\"; compgen -f -- \"$cur\")\n\tfi\n}\n"
	      "complete -o filenames -F _ringfold ringfold\n", stdout);
}

/* --- zsh --- */

/* Up to the first line's end, without what zsh takes for its own in a specification. */
static void zsh_text(const char *text)
{
	for (; *text && *text != '\n'; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void zsh_argument(const struct opt *opt)
{
	putchar(':');
	zsh_text(opt->arg);
	switch (kind_of(opt)) {
	case ARG_FILE:
		fputs(":_files", stdout);
		break;
	case ARG_DIR:
		fputs(":_files -/", stdout);
		break;
	case ARG_PID:
		fputs(":{compadd -- /proc/<->(N\\:t)}", stdout);
		break;
	case ARG_USER:
		fputs(":_users", stdout);
		break;
	case ARG_WORDS:
		fputs(":(", stdout);
		print_words(opt);
		putchar(')');
		break;
	case ARG_OTHER:
		fputs(": ", stdout);
		break;
	}
}

static void zsh_spec(const struct opt *opt)
{
	fputs(" \\\n\t\t\t'*", stdout);
	printf("--%s%s[", opt->name, opt->arg ? "=" : "");
	zsh_text(opt->help);
	putchar(']');
	if (opt->arg)
		zsh_argument(opt);
	putchar('\'');
	if (!opt->letter)
		return;
	printf(" \\\n\t\t\t'*-%c%s[", opt->letter, opt->arg ? "+" : "");
	zsh_text(opt->help);
	putchar(']');
	if (opt->arg)
		zsh_argument(opt);
	putchar('\'');
}

static void print_zsh(void)
{
	fputs("#compdef ringfold\n_ringfold() {\n\tlocal -a known\n\tknown=(\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++) {
		printf("\t\t'%s:", (*c)->name);
		zsh_text((*c)->summary);
		fputs("'\n", stdout);
	}
	fputs("\t)\n\tif (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n\t\t_describe command known\n"
	      "\t\treturn\n\tfi\n"
	      "\tif [[ $words[2] == -* ]]; then words[1]=record; else shift words; (( CURRENT-- )); fi\n\tcase $words[1] in\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++) {
		printf("\t%s)\n\t\t_arguments -s -S", (*c)->name);
		for (const struct opt *opt = (*c)->opts; opt->name; opt++)
			zsh_spec(opt);
		if ((*c)->words || *c == &command_help_pages) {
			fputs(" \\\n\t\t\t'1:command:(", stdout);
			for (const char *const *w = (*c)->words; w && *w; w++)
				printf("%s ", *w);
			if (*c == &command_help_pages)
				command_names();
			fputs(")' ;;\n", stdout);
			continue;
		}
		fputs(takes_files(*c) ? " \\\n\t\t\t'*:file:_files' ;;\n" : " \\\n\t\t\t'*::command:_normal' ;;\n", stdout);
	}
	fputs("\tesac\n}\n_ringfold \"$@\"\n", stdout);
}

/* --- fish --- */

static void fish_text(const char *text)
{
	putchar('\'');
	for (; *text && *text != '\n'; text++) {
		if (*text == '\'' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
	putchar('\'');
}

static void fish_option(const struct command *c, const struct opt *opt)
{
	static const char *const more[] = {
		[ARG_OTHER] = " -x",
		[ARG_FILE] = " -r -F",
		[ARG_DIR] = " -x -a '(__fish_complete_directories)'",
		[ARG_PID] = " -x -a '(__fish_complete_pids)'",
		[ARG_USER] = " -x -a '(__fish_complete_users)'",
		[ARG_WORDS] = "",
	};

	printf("complete -c ringfold -n '__fish_seen_subcommand_from %s' -l %s", c->name, opt->name);
	if (opt->letter)
		printf(" -s %c", opt->letter);
	if (opt->arg) {
		fputs(more[kind_of(opt)], stdout);
		if (kind_of(opt) == ARG_WORDS) {
			fputs(" -x -a '", stdout);
			print_words(opt);
			putchar('\'');
		}
	}
	fputs(" -d ", stdout);
	fish_text(opt->help);
	putchar('\n');
}

static void print_fish(void)
{
	fputs("# fish completion of ringfold\n", stdout);
	for (const struct command *const *c = all_commands; *c; c++) {
		printf("complete -c ringfold -n __fish_use_subcommand -f -a %s -d ", (*c)->name);
		fish_text((*c)->summary);
		putchar('\n');
		for (const char *const *w = (*c)->words; w && *w; w++)
			printf("complete -c ringfold -n '__fish_seen_subcommand_from %s' -f -a %s\n", (*c)->name, *w);
		if (*c == &command_help_pages) {
			fputs("complete -c ringfold -n '__fish_seen_subcommand_from help' -f -a '", stdout);
			command_names();
			fputs("'\n", stdout);
		}
		for (const struct opt *opt = (*c)->opts; opt->name; opt++)
			fish_option(*c, opt);
	}
}

/* --- the command --- */

static int set_print(void *data, print_fn print)
{
	((struct help_args *)data)->print = print;
	return 0;
}

static int set_man(void *data, const char *arg, struct err *err)
{
	return set_print(data, print_man);
}

static int set_bash(void *data, const char *arg, struct err *err)
{
	return set_print(data, print_bash);
}

static int set_zsh(void *data, const char *arg, struct err *err)
{
	return set_print(data, print_zsh);
}

static int set_fish(void *data, const char *arg, struct err *err)
{
	return set_print(data, print_fish);
}

static const struct opt help_opts[] = {
	{ 0, "man", NULL, "the manual page: ringfold help --man | man -l -", set_man },
	{ 0, "bash", NULL, "completions: source <(ringfold help --bash)", set_bash },
	{ 0, "zsh", NULL, "the same for zsh", set_zsh },
	{ 0, "fish", NULL, "the same for fish", set_fish },
	{ 0 },
};

static int help_run(int argc, char **argv)
{
	struct help_args args = { 0 };
	const struct command *command;
	struct err err = { 0 };
	int first = opts_parse(help_opts, argc, argv, &args, &err);

	if (first == -ECANCELED)
		return command_help(&command_help_pages);
	if (first < 0)
		return command_usage("help", &err);
	if (args.print) {
		args.print();
		return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : 0;
	}
	command = first < argc ? command_find(argv[first]) : &command_help_pages;
	if (!command) {
		err_set(&err, EINVAL, "no command \"%s\"", argv[first]);
		return command_usage("help", &err);
	}
	return command_help(command);
}

const struct command command_help_pages = {
	.name = "help",
	.summary = "of a command; the manual page; completions for shells",
	.usage = "[COMMAND] [options]",
	.examples = "ringfold help record\n"
		    "ringfold help --man | man -l -\n"
		    "source <(ringfold help --bash)\n",
	.opts = help_opts,
	.run = help_run,
};
