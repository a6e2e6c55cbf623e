/*
 * The stacks of a perf.data as libdwfl has them, for test/prove/agree.py:
 *
 *	dwfl_script FILE
 *
 * A line "PID/TID TIME_NS" for each sample of the first event, then a line "<tab>ADDRESS FILE" for each frame of user space,
 * leaf first, of callers the address of the call. Files are opened by the paths that the records tell.
 */
#include "test/live/dwfl_walk.h"

#include "app/follow.h"
#include "base/err.h"
#include "base/intern.h"
#include "collector/perfdata.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_FRAMES = 1024 };

struct script {
	struct perfdata *input;
	struct addrspaces *spaces;
	struct dwfl_walker *walker;
	uint64_t addrs[MAX_FRAMES];
};

static void take_sample(struct script *t, const struct record *rec, size_t event)
{
	const struct record_sample *s = &rec->sample;
	struct dwfl_sample sample = {
		.space = rec->pid > 0 ? addrspaces_get(t->spaces, rec->pid) : NULL,
		.perf_regs = s->regs, .perf_mask = perfdata_info(t->input)->events[event].format.regs_user,
		.stack = s->stack, .stack_bytes = s->stack_bytes,
	};
	size_t num = 0;

	if (event)
		return;
	if (sample.space && sample.space->maps.num && s->regs && s->stack)
		num = dwfl_walk(t->walker, &sample, t->addrs, MAX_FRAMES);
	printf("%d/%d %" PRIu64 "\n", rec->pid, rec->tid, rec->time_ns);
	for (size_t i = 0; i < num; i++) {
		const struct mapping *m = addrspace_find(sample.space, t->addrs[i]);

		printf("\t%" PRIx64 " %s\n", t->addrs[i], !m ? "[unknown]" : m->file ? m->file->path : "[jit]");
	}
}

static void take_record(void *data, const struct record *rec, size_t event)
{
	struct script *t = data;

	if (rec->type == RECORD_SAMPLE)
		take_sample(t, rec, event);
	else
		follow_record(t->spaces, rec);
}

static void must(int r, const struct err *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "dwfl_script: %s\n", err->msg);
	exit(2);
}

int main(int argc, char **argv)
{
	struct intern *strings = intern_new();
	struct files_opts files_opts = { .strings = strings };
	struct addrspaces_opts spaces_opts = { .strings = strings };
	struct script t = { 0 };
	struct perfdata_sink sink = { .record = take_record, .data = &t };
	struct files *files;
	struct err err = { 0 };

	if (argc != 2 || !strings)
		return 2;
	must(files_new(&files_opts, &files, &err), &err);
	spaces_opts.files = files;
	must(addrspaces_new(&spaces_opts, &t.spaces, &err), &err);
	t.walker = dwfl_walker_new();
	if (!t.walker)
		return 2;
	must(perfdata_open(open(argv[1], O_RDONLY | O_CLOEXEC), &t.input, &err), &err);
	must(perfdata_run(&t.input, 1, &sink, &err), &err);
	perfdata_close(t.input);
	dwfl_walker_free(t.walker);
	addrspaces_free(t.spaces);
	files_free(files);
	intern_free(strings);
	return fflush(stdout) ? 1 : 0;
}
