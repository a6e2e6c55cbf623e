/* What a profile of one process would have: by /proc text and the door alone, nothing of its files is parsed. */
#include "app/doctor.h"

#include "app/jit_runtimes.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/strbuf.h"
#include "perfmap/jitdump.h"
#include "target/diagnostics.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COPY(field, ...) snprintf(field, sizeof(field), __VA_ARGS__)

enum { MAX_TEXT = 8 << 20 };

/* What its maps tell. */
struct seen {
	size_t files, anonymous, deleted;
	uint64_t anonymous_bytes;
	const struct jit_runtime *runtime;
	uint64_t refused_files;
	struct door *door;
	pid_t pid;
	struct proc_map dump; /* of the jitdump that it maps; path is not kept here */
	char dump_path[4096]; /* "" = none */
	char last[4096];
};

static void open_file(struct seen *seen, const struct proc_map *map)
{
	struct door_mapping mapping = {
		.pid = seen->pid, .start = map->start, .end = map->end,
		.maj = map->maj, .min = map->min, .ino = map->ino, .path = map->path,
	};
	struct door_file file;

	seen->files++;
	seen->deleted += strstr(map->path, " (deleted)") != NULL;
	if (door_open_mapping(seen->door, &mapping, NULL, 0, &file, NULL) == DOOR_OK)
		closep(&file.fd);
	else
		seen->refused_files++;
}

static int see_map(void *data, const struct proc_map *map)
{
	struct seen *seen = data;
	pid_t named;

	if (map->path[0] == '/')
		seen->runtime = jit_runtime_better(seen->runtime, jit_runtime_of_path(map->path));
	if (!map->executable)
		return 0;
	if (jitdump_is_path(map->path, strlen(map->path), &named)) {
		seen->dump = *map;
		COPY(seen->dump_path, "%s", map->path);
		return 0;
	}
	if (proc_is_jit_path(map->path)) {
		seen->anonymous++;
		seen->anonymous_bytes += map->end - map->start;
	} else if (map->path[0] == '/' && strcmp(map->path, seen->last)) {
		COPY(seen->last, "%s", map->path);
		open_file(seen, map);
	}
	return 0;
}

static int check_identity(const struct doctor *d, pid_t pid)
{
	struct doctor_finding f = { .topic = "process", .state = DOCTOR_INFO };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };
	struct proc_status status;

	if (door_read_proc(d->door, pid, "status", MAX_TEXT, &text, NULL, NULL) < 0 || text.failed || !text.data ||
	    proc_status_parse(text.data, text.len, &status) < 0)
		return -ESRCH;
	escape_line(&name, status.name, strlen(status.name), 64);
	COPY(f.what, "%d (%s), user %u%s", (int)pid, name.data ? name.data : "", status.euid,
	     status.nspid != status.tgid ? ", in a pid namespace of its own" : "");
	d->found(d->data, &f);
	return 0;
}

static int see_maps(const struct doctor *d, struct seen *seen)
{
	struct doctor_finding f = { .topic = "its programs", .state = DOCTOR_OK };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r = door_read_proc(d->door, seen->pid, "maps", MAX_TEXT, &text, NULL, NULL);

	if (r < 0) {
		f.state = DOCTOR_LESS;
		COPY(f.what, "its maps may not be read (%s)", strerror(-r));
		COPY(f.cost, "no names and no callers but for what it maps while it is recorded");
		COPY(f.fix, "run as root or as its user, or grant CAP_SYS_PTRACE");
		f.need = NEED_SYS_PTRACE;
		d->found(d->data, &f);
		return r;
	}
	if (!text.failed && text.data)
		proc_maps_parse(text.data, text.len, see_map, seen, NULL);
	COPY(f.what, "%zu files hold its code, %zu of them deleted since", seen->files, seen->deleted);
	if (seen->refused_files) {
		size_t len = strlen(f.what);

		f.state = DOCTOR_LESS;
		snprintf(f.what + len, sizeof(f.what) - len, "; %llu cannot be opened",
			 (unsigned long long)seen->refused_files);
		COPY(f.cost, "their frames show as [module], and stacks may end there");
		COPY(f.fix, "grant CAP_CHECKPOINT_RESTORE and CAP_DAC_READ_SEARCH, or run as root");
		f.need = NEED_CHECKPOINT_RESTORE;
	}
	d->found(d->data, &f);
	return 0;
}

/* What record would ask: nothing is asked here. */
static bool tells_methods(const struct seen *seen)
{
	_cleanup_close_ int fd = -1;

	if (seen->runtime && seen->runtime->name == jit_runtime_dotnet)
		fd = door_open_diagnostics(seen->door, seen->pid, NULL);
	return fd >= 0;
}

/* Its perf map, else the jitdump that it maps. */
static enum door_refusal open_published(const struct seen *seen, struct door_file *ret)
{
	const struct door_mapping dump = {
		.pid = seen->pid, .start = seen->dump.start, .end = seen->dump.end,
		.maj = seen->dump.maj, .min = seen->dump.min, .ino = seen->dump.ino, .path = seen->dump_path,
	};
	enum door_refusal refusal = door_open_perfmap(seen->door, seen->pid, ret, NULL);

	if (refusal == DOOR_OK || !seen->dump_path[0] || door_open_mapping(seen->door, &dump, NULL, 0, ret, NULL) != DOOR_OK)
		return refusal;
	return DOOR_OK;
}

static void check_jit(const struct doctor *d, const struct seen *seen)
{
	struct doctor_finding f = { .topic = "its JIT code", .state = DOCTOR_OK };
	const char *runtime = seen->runtime ? seen->runtime->name : "an unknown runtime";
	enum door_refusal refusal;
	struct door_file file;

	if (!seen->anonymous) {
		COPY(f.what, "none: all code is of files");
		d->found(d->data, &f);
		return;
	}
	if (tells_methods(seen)) {
		COPY(f.what, "%llu KiB of %s, whose runtime tells its methods when it is recorded",
		     (unsigned long long)(seen->anonymous_bytes >> 10), runtime);
		d->found(d->data, &f);
		return;
	}
	refusal = open_published(seen, &file);
	if (refusal == DOOR_OK) {
		COPY(f.what, "%llu KiB of %s, named by what it wrote, %llu KiB",
		     (unsigned long long)(seen->anonymous_bytes >> 10), runtime, (unsigned long long)(file.size >> 10));
		closep(&file.fd);
	} else {
		f.state = DOCTOR_LESS;
		COPY(f.what, "%llu KiB of %s, and no perf map or jitdump that can be believed (%s)",
		     (unsigned long long)(seen->anonymous_bytes >> 10), runtime, door_refusal_name(refusal));
		COPY(f.cost, "its frames show as [jit]");
		COPY(f.fix, "%s", seen->runtime ? seen->runtime->advice : jit_runtime_other.advice);
	}
	d->found(d->data, &f);
}

int doctor_check_process(const struct doctor *d, pid_t pid)
{
	struct seen seen = { .door = d->door, .pid = pid };
	int r = check_identity(d, pid);

	if (r < 0)
		return r;
	if (!see_maps(d, &seen))
		check_jit(d, &seen);
	return 0;
}
