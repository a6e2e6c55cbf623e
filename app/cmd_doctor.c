/* What was found, as a table for people, as JSON for tickets, and as what a pod must be given. */
#include "app/command.h"

#include "app/doctor.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/opts.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "target/door.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct doctor_args {
	bool json;
	pid_t pid; /* 0 = none */
};

struct doctor_run {
	struct doctor_args args;
	struct door *door;
	VEC(struct doctor_finding) findings;
	bool failed;
};

static int set_json(void *data, const char *arg, struct err *err)
{
	((struct doctor_args *)data)->json = true;
	return 0;
}

static int set_pid(void *data, const char *arg, struct err *err)
{
	uint64_t pid;
	int r = opts_u64(arg, 1, INT32_MAX, &pid, err);

	((struct doctor_args *)data)->pid = r ? 0 : (pid_t)pid;
	return r;
}

static const struct opt doctor_opts[] = {
	{ 'p', "pid", "PID", "also what a profile of this process would have", set_pid },
	{ 0, "json", NULL, "for a ticket or a script", set_json },
	{ 0 },
};

static void doctor_run_deinit(struct doctor_run *run)
{
	vec_deinit(&run->findings);
	door_free(run->door);
}

static void keep(void *data, const struct doctor_finding *finding)
{
	struct doctor_run *run = data;

	if (!vec_push(&run->findings, *finding))
		run->failed = true;
}

static const char *state_word(enum doctor_state state)
{
	static const char *const words[] = {
		[DOCTOR_OK] = "ok",
		[DOCTOR_LESS] = "less",
		[DOCTOR_NO] = "NO",
		[DOCTOR_INFO] = "-",
	};

	return words[state];
}

static const char *state_colour(enum doctor_state state)
{
	static const char *const colours[] = {
		[DOCTOR_OK] = "\033[32m",
		[DOCTOR_LESS] = "\033[33m",
		[DOCTOR_NO] = "\033[31m",
		[DOCTOR_INFO] = "\033[2m",
	};

	return colours[state];
}

/* Words broken into lines of the terminal's width, each after `indent` spaces; the first where the cursor is. */
static void wrapped(FILE *out, const char *text, size_t indent, size_t width)
{
	size_t column = indent;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > indent && column + 1 + len > width) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', out);
			column++;
		}
		fwrite(text, 1, len, out);
		column += len;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void labelled(FILE *out, const char *label, const char *text)
{
	if (!text[0])
		return;
	fprintf(out, "%23s%-6s", "", label);
	wrapped(out, text, 29, 110);
}

static void table(const struct doctor_run *run, FILE *out)
{
	bool colour = isatty(fileno(out)) && !getenv("NO_COLOR");

	for (size_t i = 0; i < run->findings.len; i++) {
		const struct doctor_finding *f = &run->findings.data[i];

		fprintf(out, "%s%-5s%s %-16s ", colour ? state_colour(f->state) : "", state_word(f->state),
			colour ? "\033[0m" : "", f->topic);
		wrapped(out, f->what, 23, 110);
		labelled(out, "costs", f->cost);
		labelled(out, "fix", f->fix);
	}
}

/* --- as Kubernetes has it --- */

static void needs(const struct doctor_run *run, bool *ret)
{
	memset(ret, 0, NEED_NUM * sizeof(*ret));
	for (size_t i = 0; i < run->findings.len; i++)
		ret[run->findings.data[i].need] = true;
}

static bool any_cap(const bool *need)
{
	for (int i = 0; i < NEED_NUM_CAPS; i++) {
		if (need[i] && doctor_cap_name(i))
			return true;
	}
	return false;
}

static void yaml_caps(FILE *out, const bool *need)
{
	const char *comma = "";

	fputs("        capabilities:\n          add: [", out);
	for (int i = 0; i < NEED_NUM_CAPS; i++) {
		if (!need[i] || !doctor_cap_name(i))
			continue;
		fprintf(out, "%s%s", comma, doctor_cap_name(i));
		comma = ", ";
	}
	fputs("]\n", out);
}

static bool is_pod_matter(const bool *need)
{
	return any_cap(need) || need[NEED_HOST_PID] || need[NEED_SECCOMP];
}

/* Only what is missing: to be added to the pod of an agent. */
static void yaml(FILE *out, const bool *need)
{
	fputs("spec:\n", out);
	if (need[NEED_HOST_PID])
		fputs("  hostPID: true\n", out);
	fputs("  containers:\n    - name: ringfold\n", out);
	if (any_cap(need) || need[NEED_SECCOMP]) {
		fputs("      securityContext:\n", out);
		if (any_cap(need))
			yaml_caps(out, need);
		if (need[NEED_SECCOMP])
			fputs("        seccompProfile:\n          type: Unconfined\n", out);
	}
	if (need[NEED_LOGS])
		fputs("      volumeMounts:\n        - { name: logs, mountPath: /var/log/containers, readOnly: true }\n"
		      "  volumes:\n    - { name: logs, hostPath: { path: /var/log/containers } }\n", out);
}

static size_t count_of(const struct doctor_run *run, enum doctor_state state)
{
	size_t num = 0;

	for (size_t i = 0; i < run->findings.len; i++)
		num += run->findings.data[i].state == state;
	return num;
}

static void verdict(const struct doctor_run *run, FILE *out)
{
	size_t less = count_of(run, DOCTOR_LESS), no = count_of(run, DOCTOR_NO);
	bool need[NEED_NUM];

	needs(run, need);
	if (no)
		fprintf(out, "\n%zu thing%s must change before anything can be recorded here.\n", no, no == 1 ? "" : "s");
	else if (less)
		fprintf(out, "\nringfold works here; %zu thing%s would make its profiles fuller.\n", less,
			less == 1 ? "" : "s");
	else
		fputs("\nEverything works here.\n", out);
	if (!is_pod_matter(need))
		return;
	fputs("\nIn a Kubernetes pod, add:\n\n", out);
	yaml(out, need);
}

/* --- JSON --- */

static void json_text(struct strbuf *ret, const char *name, const char *text)
{
	strbuf_printf(ret, ", \"%s\": ", name);
	if (text[0])
		escape_json(ret, text, strlen(text));
	else
		strbuf_str(ret, "null");
}

static int json(const struct doctor_run *run, FILE *out)
{
	static const char *const states[] = { "ok", "less", "no", "info" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	strbuf_printf(&text, "{\n  \"ok\": %zu, \"less\": %zu, \"no\": %zu,\n  \"checks\": [", count_of(run, DOCTOR_OK),
		      count_of(run, DOCTOR_LESS), count_of(run, DOCTOR_NO));
	for (size_t i = 0; i < run->findings.len; i++) {
		const struct doctor_finding *f = &run->findings.data[i];

		strbuf_printf(&text, "%s\n    {\"check\": ", i ? "," : "");
		escape_json(&text, f->topic, strlen(f->topic));
		strbuf_printf(&text, ", \"state\": \"%s\"", states[f->state]);
		json_text(&text, "found", f->what);
		json_text(&text, "costs", f->cost);
		json_text(&text, "fix", f->fix);
		json_text(&text, "capability", f->state != DOCTOR_INFO && doctor_cap_name(f->need) ?
						       doctor_cap_name(f->need) : "");
		strbuf_char(&text, '}');
	}
	strbuf_str(&text, "\n  ]\n}\n");
	if (text.failed)
		return -ENOMEM;
	fwrite(text.data, 1, text.len, out);
	return 0;
}

static int doctor_main(int argc, char **argv)
{
	_cleanup_(doctor_run_deinit) struct doctor_run run = { 0 };
	struct doctor doctor = { .found = keep, .data = &run };
	struct err err = { 0 };
	int first = opts_parse(doctor_opts, argc, argv, &run.args, &err);

	if (first == -ECANCELED)
		return command_help(&command_doctor);
	if (first >= 0 && first < argc)
		first = err_set(&err, EINVAL, "\"%s\" is not an option", argv[first]);
	if (first < 0)
		return command_usage("doctor", &err);
	if (door_new(&run.door, &err) < 0)
		return command_failed(&err);
	doctor.door = run.door;
	doctor_check_machine(&doctor);
	if (run.args.pid && doctor_check_process(&doctor, run.args.pid) < 0) {
		err_set(&err, ESRCH, "no such process: %d", (int)run.args.pid);
		return command_failed(&err);
	}
	if (run.failed || (run.args.json && json(&run, stdout) < 0)) {
		err_oom(&err);
		return command_failed(&err);
	}
	if (!run.args.json) {
		table(&run, stdout);
		verdict(&run, stdout);
	}
	if (fflush(stdout) || ferror(stdout)) {
		err_set(&err, EIO, "standard output: cannot be written");
		return command_failed(&err);
	}
	return count_of(&run, DOCTOR_NO) ? EXIT_NOT_PERMITTED : 0;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "what works here, what does not, and the exact fix",
	.usage = "[-p PID] [--json]",
	.about = "Opens each kind of event, the rings, kernel symbols and what else a profile rests on, for real, and says what is\n"
		 "missing, what that costs a profile, and the exact line that changes it: for a shell, a container and a pod.",
	.examples = "ringfold doctor\n"
		    "ringfold doctor -p 1234       also what a profile of that process would have\n",
	.opts = doctor_opts,
	.run = doctor_main,
};
