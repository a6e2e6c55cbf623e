/* ringfold maps: what a running process has published of its JIT code, and copies of it. */
#include "app/command.h"

#include "app/jit_runtimes.h"
#include "app/maps_switch.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "perfmap/jitdump.h"
#include "perfmap/perfmap.h"
#include "target/broker.h"
#include "target/diagnostics.h"
#include "target/door.h"
#include "target/jail.h"
#include "target/private_copy.h"
#include "target/proc_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_BYTES = 256 << 10, MAX_MAPS_TEXT = 32 << 20, MAX_SHOWN_NAME = 80,
       MAX_SHOWN_PATH = 200 };

struct maps_args {
	VEC(pid_t) pids;
	const char *dir; /* export -o; NULL = here */
	struct door *door;
};

static void args_deinit(struct maps_args *a)
{
	vec_deinit(&a->pids);
	door_free(a->door);
}

/* ---- options ---- */

static int set_pids(void *data, const char *arg, struct err *err)
{
	struct maps_args *a = data;
	const char *pos = arg;

	do {
		pid_t id;

		if (!opts_next_id(&pos, 1, &id))
			return err_set(err, EINVAL, "\"%s\" is not a list of ids such as 17,42", arg);
		if (!vec_push(&a->pids, id))
			return err_oom(err);
	} while (*pos);
	return 0;
}

static int set_dir(void *data, const char *arg, struct err *err)
{
	((struct maps_args *)data)->dir = arg;
	return 0;
}

static int set_quiet(void *data, const char *arg, struct err *err)
{
	log_set_level(LOG_QUIET);
	return 0;
}

#define PID_ROW { 'p', "pid", "PID,..", "these processes", set_pids }
#define QUIET_ROW { 'q', "quiet", NULL, "nothing on stderr but errors", set_quiet }

static const struct opt list_opts[] = { PID_ROW, QUIET_ROW, { 0 } };
static const struct opt export_opts[] = {
	PID_ROW,
	{ 'o', "output", "DIR", "where the copies go (here)", set_dir },
	QUIET_ROW,
	{ 0 },
};

/* ---- a process ---- */

struct code_range {
	uint64_t start, end;
};

struct process {
	pid_t pid;
	struct proc_status status;
	const struct jit_runtime *runtime;
	VEC(struct code_range) code; /* executable mappings without a file */
	uint64_t code_bytes;
	struct door_mapping dump; /* of the jitdump it maps; path NULL = none */
	char *dump_path;
	bool failed; /* out of memory */
};

static void process_deinit(struct process *p)
{
	vec_deinit(&p->code);
	free(p->dump_path);
}

static int look_at_map(void *data, const struct proc_map *map)
{
	struct process *p = data;
	pid_t named;

	p->runtime = jit_runtime_better(p->runtime, jit_runtime_of_path(map->path));
	if (map->executable && proc_is_jit_path(map->path)) {
		if (!vec_push(&p->code, ((struct code_range){ map->start, map->end })))
			p->failed = true;
		p->code_bytes += map->end - map->start;
		return 0;
	}
	if (!map->executable || !jitdump_is_path(map->path, strlen(map->path), &named))
		return 0;
	free(p->dump_path);
	p->dump_path = strdup(map->path);
	p->failed |= !p->dump_path;
	p->dump = (struct door_mapping){ .pid = p->pid, .start = map->start, .end = map->end,
					 .maj = map->maj, .min = map->min, .ino = map->ino,
					 .path = p->dump_path };
	return 0;
}

static int look_at_process(struct door *door, pid_t pid, struct process *ret, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf status = { 0 };
	_cleanup_(strbuf_deinit) struct strbuf maps = { 0 };
	int r = door_read_proc(door, pid, "status", 65536, &status, NULL, err);

	ret->pid = pid;
	if (!r && (!status.len || proc_status_parse(status.data, status.len, &ret->status) < 0))
		r = err_set(err, EBADMSG, "/proc/%d/status cannot be understood", (int)pid);
	if (!r)
		r = door_read_proc(door, pid, "maps", MAX_MAPS_TEXT, &maps, NULL, err);
	if (r == -EACCES || r == -EPERM)
		return err_set(err, -r, "process %d may not be looked into (%s), as it belongs to another user or is protected: "
			       "run as its user or as root", (int)pid, strerror(-r));
	if (r < 0)
		return r;
	if (maps.len)
		proc_maps_parse(maps.data, maps.len, look_at_map, ret, NULL);
	return ret->failed ? err_oom(err) : 0;
}

/* What a process may have written for profilers. */
enum published { PERF_MAP, PERF_INFO, JIT_DUMP, NUM_PUBLISHED };

static const char *const titles[NUM_PUBLISHED] = { "perf map", "perfinfo", "jitdump" };

/* Where it is, as the process calls it. */
static void published_path(const struct process *p, enum published what, struct strbuf *ret)
{
	strbuf_clear(ret);
	switch (what) {
	case PERF_MAP:
		strbuf_printf(ret, "/tmp/perf-%d.map", (int)p->status.nspid);
		break;
	case PERF_INFO:
		strbuf_printf(ret, "/tmp/perfinfo-%d.map", (int)p->status.nspid);
		break;
	case JIT_DUMP:
		if (p->dump_path)
			escape_line(ret, p->dump_path, strlen(p->dump_path), MAX_SHOWN_PATH);
		break;
	case NUM_PUBLISHED:
		break;
	}
}

static enum door_refusal open_published(struct door *door, const struct process *p, enum published what,
					struct door_file *ret, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };

	switch (what) {
	case PERF_MAP:
		return door_open_perfmap(door, p->pid, ret, err);
	case PERF_INFO:
		published_path(p, what, &path);
		return path.failed ? DOOR_FAILED : door_open(door, p->pid, path.data, DOOR_PERFMAP, ret, err);
	case JIT_DUMP:
		return p->dump_path ? door_open_mapping(door, &p->dump, NULL, 0, ret, err) : DOOR_GONE;
	case NUM_PUBLISHED:
		break;
	}
	return DOOR_FAILED;
}

/* ---- list ---- */

static struct perfmap *read_perfmap(const struct door_file *file)
{
	_cleanup_free_ char *chunk = malloc(CHUNK_BYTES);
	struct perfmap *map = chunk ? perfmap_new(NULL) : NULL;
	uint64_t offset = 0;

	while (map && offset < file->size) {
		size_t want = file->size - offset < CHUNK_BYTES ? (size_t)(file->size - offset) : CHUNK_BYTES;
		size_t used;

		if (door_pread(file->fd, chunk, want, offset) < 0)
			break;
		used = perfmap_append(map, chunk, want);
		if (!used)
			break;
		offset += used;
	}
	return map;
}

static void print_share(const struct process *p, struct perfmap *map)
{
	uint64_t named = 0;

	for (size_t i = 0; i < p->code.len; i++)
		named += perfmap_named_bytes(map, p->code.data[i].start, p->code.data[i].end);
	printf(", %zu names", perfmap_count(map));
	if (perfmap_bad_lines(map))
		printf(" (%zu bad lines)", perfmap_bad_lines(map));
	if (p->code_bytes)
		printf(" for %.1f %% of the memory for code", 100.0 * (double)named / (double)p->code_bytes);
}

static void print_file(const struct process *p, enum published what, const struct door_file *file)
{
	uint64_t now_ns = clock_ns(CLOCK_REALTIME), written_ns = (uint64_t)file->mtime_ns;
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	struct stat st;

	published_path(p, what, &path);
	printf("  %-10s%s, %" PRIu64 " KiB", titles[what], path.data ? path.data : "?", (file->size + 1023) / 1024);
	if (what == PERF_MAP) {
		struct perfmap *map = read_perfmap(file);

		if (map)
			print_share(p, map);
		perfmap_free(map);
	}
	if (fstat(file->fd, &st) == 0)
		printf(", of uid %u", (unsigned int)st.st_uid);
	printf(", written %.1f s ago\n", now_ns > written_ns ? (double)(now_ns - written_ns) / 1e9 : 0.0);
}

/* True when it is there. */
static bool list_published(struct door *door, const struct process *p, enum published what)
{
	struct door_file file = { .fd = -1 };
	struct err why = { 0 };
	enum door_refusal refusal = open_published(door, p, what, &file, &why);

	if (refusal == DOOR_OK) {
		print_file(p, what, &file);
		closep(&file.fd);
	} else if (refusal == DOOR_GONE) {
		printf("  %-10snone\n", titles[what]);
	} else {
		printf("  %-10snot used: %s\n", titles[what], why.msg);
	}
	return refusal == DOOR_OK;
}

/* What record asks for methods: true when it is there. Connecting is all that is done. */
static bool list_diagnostics(struct door *door, const struct process *p)
{
	struct err why = { 0 };
	_cleanup_close_ int fd = door_open_diagnostics(door, p->pid, &why);

	if (fd >= 0)
		printf("  %-10sits runtime tells them to `ringfold record`, at its diagnostics socket\n", "methods");
	else if (fd == -ENOENT)
		printf("  %-10snot to be asked for: no diagnostics socket\n", "methods");
	else
		printf("  %-10snot to be asked for: %s\n", "methods", why.msg);
	return fd >= 0;
}

static void list_process(struct door *door, const struct process *p)
{
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };
	bool any = false;

	escape_line(&name, p->status.name, strlen(p->status.name), MAX_SHOWN_NAME);
	printf("process %d (%s)", (int)p->pid, name.data ? name.data : "");
	if (p->status.nspid != p->pid)
		printf(", in its container %d", (int)p->status.nspid);
	printf("\n  %-10s%s\n", "runtime", p->runtime ? p->runtime->name : p->code.len ? "not known" : "none seen");
	printf("  %-10s%" PRIu64 " KiB of memory for code in %zu mapping%s\n", "JIT code", p->code_bytes / 1024,
	       p->code.len, p->code.len == 1 ? "" : "s");
	if (p->runtime && p->runtime->name == jit_runtime_dotnet)
		any = list_diagnostics(door, p);
	for (int what = 0; what < NUM_PUBLISHED; what++) {
		/* perfinfo names no code, only where images lie. */
		any |= list_published(door, p, (enum published)what) && what != PERF_INFO;
	}
	if (!any)
		printf("  %-10s%s\n", "for names", p->code.len || p->runtime
			       ? (p->runtime ? p->runtime : &jit_runtime_other)->advice
			       : "nothing to do: it runs no JIT code, and programs and libraries have names of their own");
}

static int maps_list(struct maps_args *a, struct err *err)
{
	int r = broker_start(NULL, 0, &a->door, err);

	/* What a target wrote is parsed here. */
	if (!r)
		r = jail_enter(0, err);
	for (size_t i = 0; !r && i < a->pids.len; i++) {
		_cleanup_(process_deinit) struct process p = { 0 };

		r = look_at_process(a->door, a->pids.data[i], &p, err);
		if (!r)
			list_process(a->door, &p);
	}
	if (!r && fflush(stdout))
		r = err_set(err, errno, "write to stdout: %s", strerror(errno));
	return r;
}

/* ---- export ---- */

/* 1 = copied, 0 = there is none. */
static int export_published(struct maps_args *a, const struct process *p, enum published what, int dir,
			    struct err *err)
{
	static const char *const heads[NUM_PUBLISHED] = { "perf-", "perfinfo-", "jit-" };
	struct door_file file = { .fd = -1 };
	struct err why = { 0 };
	enum door_refusal refusal = open_published(a->door, p, what, &file, &why);
	char name[40];
	int r;

	if (refusal == DOOR_GONE)
		return 0;
	if (refusal != DOOR_OK) {
		log_warn(NULL, "the %s of process %d is not used: %s", titles[what], (int)p->pid, why.msg);
		return 0;
	}
	snprintf(name, sizeof(name), "%s%d.%s", heads[what], (int)p->pid, what == JIT_DUMP ? "dump" : "map");
	r = private_copy(dir, name, &file, what != JIT_DUMP, err);
	closep(&file.fd);
	if (r < 0)
		return r;
	printf("%s%s%s\n", a->dir ? a->dir : "", a->dir ? "/" : "", name);
	return 1;
}

/* Bytes are copied and not looked into, so there is no jail. */
static int maps_export(struct maps_args *a, struct err *err)
{
	_cleanup_close_ int dir = -1;
	const char *path = a->dir ? a->dir : ".";
	bool made = false;
	int r = private_copy_dir(path, &dir, &made, err), num = 0;

	if (!r)
		r = broker_start(NULL, 0, &a->door, err);
	for (size_t i = 0; !r && i < a->pids.len; i++) {
		_cleanup_(process_deinit) struct process p = { 0 };

		r = look_at_process(a->door, a->pids.data[i], &p, err);
		for (int what = 0; r >= 0 && what < NUM_PUBLISHED; what++) {
			r = export_published(a, &p, (enum published)what, dir, err);
			num += r > 0;
		}
		r = r < 0 ? r : 0;
	}
	if (!r && !num)
		r = err_set(err, ENOENT, "nothing to export: `ringfold maps list` tells what there is");
	if (r < 0 && made)
		rmdir(path); /* unless a copy is in it */
	if (!r && fflush(stdout))
		r = err_set(err, errno, "write to stdout: %s", strerror(errno));
	return r;
}

/* ---- enable, disable ---- */

static int switch_all(struct maps_args *a, bool on, struct err *err)
{
	int r = broker_start(NULL, 0, &a->door, err);

	/* What a target answers is parsed here. */
	if (!r)
		r = jail_enter(0, err);
	for (size_t i = 0; !r && i < a->pids.len; i++) {
		pid_t pid = a->pids.data[i];

		r = maps_switch(a->door, pid, on, err);
		if (!r && on)
			log_info(NULL, "process %d writes a perf map from now on, until `ringfold maps disable -p %d`", (int)pid,
				 (int)pid);
		else if (!r)
			log_info(NULL, "process %d writes no perf map any more; what it wrote is still there", (int)pid);
	}
	return r;
}

static int maps_enable(struct maps_args *a, struct err *err)
{
	return switch_all(a, true, err);
}

static int maps_disable(struct maps_args *a, struct err *err)
{
	return switch_all(a, false, err);
}

/* ---- the command ---- */

/* To add one: a row here, and its options. */
static const struct maps_command {
	const char *name;
	const char *summary;
	const struct opt *opts;
	int (*run)(struct maps_args *a, struct err *err); /* 0 or -errno */
} maps_commands[] = {
	{ "list", "what names of JIT code there are, from where, and for how much of it", list_opts, maps_list },
	{ "export", "copy the maps out of a container, as perf-PID.map with the pid of the host", export_opts,
	  maps_export },
	{ "enable", "have a running .NET process (8 or later) write a perf map; record needs none", list_opts, maps_enable },
	{ "disable", "end that; what was on from its start stays on", list_opts, maps_disable },
};

enum { NUM_COMMANDS = sizeof(maps_commands) / sizeof(maps_commands[0]) };

static int run_one(const struct maps_command *command, int argc, char **argv)
{
	_cleanup_(args_deinit) struct maps_args a = { 0 };
	struct err err = { 0 };
	int first = opts_parse(command->opts, argc, argv, &a, &err);

	if (first == -ECANCELED) {
		printf("ringfold maps %s -p PID [options]\n\n%s\n\n", command->name, command->summary);
		opts_help(command->opts, stdout);
		return fflush(stdout) ? EXIT_FAILED : 0;
	}
	if (first >= 0 && first < argc)
		first = err_set(&err, EINVAL, "\"%s\" is no option", argv[first]);
	else if (first >= 0 && !a.pids.len)
		first = err_set(&err, EINVAL, "of which process? -p PID");
	if (first < 0)
		return command_usage("maps", &err);
	if (command->run(&a, &err) < 0)
		return err.code == EINVAL ? command_usage("maps", &err) : command_failed(&err);
	return 0;
}

static int maps_run(int argc, char **argv)
{
	struct err err = { 0 };

	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return command_help(&command_maps);
	for (size_t i = 0; argc >= 2 && i < NUM_COMMANDS; i++) {
		if (!strcmp(argv[1], maps_commands[i].name))
			return run_one(&maps_commands[i], argc - 1, argv + 1);
	}
	if (argc < 2)
		err_set(&err, EINVAL, "maps of what kind? list, export, enable or disable");
	else
		err_set(&err, EINVAL, "maps has no command \"%s\"", argv[1]);
	return command_usage("maps", &err);
}

static const char *const maps_words[] = { "list", "export", "enable", "disable", NULL };

const struct command command_maps = {
	.name = "maps",
	.summary = "JIT symbols of a running process: list, export, enable, disable",
	.usage = "list|export|enable|disable -p PID [options]",
	.about = "list says what names of JIT code there are, from where, and for how much of it; export copies the maps out of a\n"
		 "container, as perf-PID.map with the pid of the host; enable and disable turn the perf map of a running .NET\n"
		 "process on and off, for tools that want the file.",
	.examples = "ringfold maps list -p 1234              what names of JIT code there are, and from where\n"
		    "ringfold maps export -p 1234 -o maps    copies with the host's pid, out of a container\n",
	.opts = export_opts,
	.words = maps_words,
	.run = maps_run,
};
