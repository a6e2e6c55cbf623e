#include "collector/synth.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PIECE_BYTES = 65536,
	MAPS_MAX = 64 << 20, /* of text; a process with 500,000 mappings */
	TASK_TEXT_MAX = 65536,
	COMM_MAX = 64,
};

static void emit(const struct collector_sink *sink, const struct record *rec)
{
	sink->record(sink->data, rec);
}

/* --- the kernel --- */

/* Bounds of the kernel's text; 0 = not seen. */
struct kernel_text {
	uint64_t text, stext, etext;
};

static bool is_name(const char *name, size_t len, const char *want)
{
	return len == strlen(want) && !memcmp(name, want, len);
}

/* "ADDR TYPE NAME"; modules come after the kernel and have a tab behind the name. */
static void note_symbol(struct kernel_text *k, const char *line, size_t len)
{
	const char *space = memrchr(line, ' ', len);
	const char *name = space ? space + 1 : line;
	size_t name_len = (size_t)(line + len - name);
	uint64_t *found = NULL;

	if (is_name(name, name_len, "_text"))
		found = &k->text;
	else if (is_name(name, name_len, "_stext"))
		found = &k->stext;
	else if (is_name(name, name_len, "_etext"))
		found = &k->etext;
	if (found)
		*found = strtoull(line, NULL, 16);
}

/* Lines of a piece of text; what is behind the last newline stays in `text`. */
static void note_piece(struct kernel_text *k, struct strbuf *text)
{
	struct reader r = reader_init(text->data, text->len);
	const char *last = memrchr(text->data, '\n', text->len);
	size_t whole = last ? (size_t)(last - text->data) + 1 : 0;
	const char *line;
	size_t len;

	r.end = r.pos + whole;
	while (reader_line(&r, &line, &len))
		note_symbol(k, line, len);
	memmove(text->data, text->data + whole, text->len - whole);
	text->len -= whole;
}

/* The text is 10 MB and more: it is read no further than to the last symbol that is needed. */
static int find_kernel_text(struct door *door, struct kernel_text *k, struct err *err)
{
	_cleanup_close_ int fd = door_open_text(door, DOOR_KALLSYMS, NULL);
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	if (fd < 0)
		return 0;
	while (!k->etext && text.len < PIECE_BYTES) {
		ssize_t n;

		if (!strbuf_reserve(&text, PIECE_BYTES))
			return err_oom(err);
		n = door_read_piece(fd, text.data + text.len, PIECE_BYTES);
		if (n <= 0)
			return 0;
		text.len += (size_t)n;
		note_piece(k, &text);
	}
	return 0;
}

static void emit_kernel_map(const struct collector_sink *sink, uint64_t start, uint64_t len, uint64_t pgoff,
			    const char *name)
{
	struct record rec = {
		.type = RECORD_MMAP,
		.raw_type = PERF_RECORD_MMAP,
		.misc = PERF_RECORD_MISC_KERNEL,
		.pid = -1,
		.mmap = { .start = start, .len = len, .pgoff = pgoff, .executable = true,
			  .path = name, .path_len = strlen(name) },
	};

	emit(sink, &rec);
}

/* "NAME BYTES REFS DEPENDENCIES STATE 0xADDR" (kernel/module/procfs.c m_show). */
static void emit_module(const struct collector_sink *sink, const char *line, size_t len)
{
	char copy[256], name[80], path[96];
	unsigned long long bytes, addr;

	if (len >= sizeof(copy))
		return;
	memcpy(copy, line, len);
	copy[len] = 0;
	if (sscanf(copy, "%79s %llu %*s %*s %*s %llx", name, &bytes, &addr) != 3 || !addr || !bytes ||
	    addr > UINT64_MAX - bytes)
		return;
	snprintf(path, sizeof(path), "[%s]", name);
	emit_kernel_map(sink, addr, bytes, 0, path);
}

static int emit_modules(struct door *door, const struct collector_sink *sink, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct reader r;
	const char *line;
	size_t len;

	if (door_read_text(door, DOOR_MODULES, &text, NULL) < 0)
		return 0; /* a kernel without modules has no such list */
	if (text.failed)
		return err_oom(err);
	r = reader_init(text.data, text.len);
	while (reader_line(&r, &line, &len))
		emit_module(sink, line, len);
	return 0;
}

/* machine__get_running_kernel_start and perf_event__synthesize_kernel_mmap of tools/perf/util. */
int synth_kernel(struct door *door, const struct collector_sink *sink, struct err *err)
{
	struct kernel_text k = { 0 };
	int r = find_kernel_text(door, &k, err);
	uint64_t start = k.text ? k.text : k.stext;

	if (r < 0 || !start)
		return r;
	emit_kernel_map(sink, start, k.etext > start ? k.etext - start : UINT64_MAX - start, start,
			k.text ? "[kernel.kallsyms]_text" : "[kernel.kallsyms]_stext");
	return emit_modules(door, sink, err);
}

/* --- processes --- */

struct process {
	struct door *door;
	const struct collector_sink *sink;
	pid_t pid, tid; /* and the last of its threads */
	struct strbuf *text;
};

/* The text of a file in /proc; NULL when there is none (any more). */
static const char *read_proc(struct process *p, pid_t pid, const char *name, size_t cap)
{
	strbuf_clear(p->text);
	if (door_read_proc(p->door, pid, name, cap, p->text, NULL, NULL) < 0)
		return NULL;
	return p->text->data;
}

/* perf_event__synthesize_fork of tools/perf/util: as if the first thread had begun all others. */
static void emit_fork(const struct collector_sink *sink, pid_t pid, pid_t ppid, pid_t tid)
{
	pid_t parent = tid == pid ? ppid : pid;
	struct record rec = {
		.type = RECORD_FORK,
		.raw_type = PERF_RECORD_FORK,
		.misc = PERF_RECORD_MISC_FORK_EXEC,
		.pid = pid,
		.tid = tid,
		.task = { .ppid = parent, .ptid = parent, .found = true },
	};

	emit(sink, &rec);
}

static void emit_comm(const struct collector_sink *sink, pid_t pid, pid_t tid, const char *comm, size_t len)
{
	const struct record rec = {
		.type = RECORD_COMM,
		.raw_type = PERF_RECORD_COMM,
		.pid = pid,
		.tid = tid,
		.comm = { .comm = comm, .len = len },
	};

	emit(sink, &rec);
}

static int emit_thread(void *data, pid_t tid)
{
	struct process *p = data;
	char name[64];
	const char *text;
	size_t len;

	snprintf(name, sizeof(name), "task/%d/comm", tid);
	text = read_proc(p, p->pid, name, COMM_MAX);
	if (p->text->failed)
		return -ENOMEM;
	if (!text)
		return 0;
	len = p->text->len;
	/* A name may hold newlines; the kernel adds one. */
	emit_comm(p->sink, p->pid, tid, text, len && text[len - 1] == '\n' ? len - 1 : len);
	p->tid = tid;
	return 0;
}

static int emit_map(void *data, const struct proc_map *map)
{
	struct process *p = data;
	const char *path = map->path[0] ? map->path : "//anon";
	struct record rec = {
		.type = RECORD_MMAP,
		.raw_type = PERF_RECORD_MMAP2,
		.misc = PERF_RECORD_MISC_USER,
		.pid = p->pid,
		.tid = p->pid,
		.mmap = { .start = map->start, .len = map->end - map->start, .pgoff = map->pgoff,
			  .maj = map->maj, .min = map->min, .ino = map->ino, .executable = map->executable,
			  .path = path, .path_len = strlen(path) },
	};

	/* perf finds where a file's mappings begin by all of them. */
	if (!map->executable && (!map->readable || map->path[0] != '/'))
		return 0;
	if (!map->executable)
		rec.misc |= PERF_RECORD_MISC_MMAP_DATA;
	rec.mmap.prot = (map->readable ? PROT_READ : 0) | (map->writable ? PROT_WRITE : 0) |
			(map->executable ? PROT_EXEC : 0);
	rec.mmap.flags = map->shared ? MAP_SHARED : MAP_PRIVATE;
	emit(p->sink, &rec);
	return 0;
}

/* The process that `id`, which may be a thread's, belongs to; false when it has ended. */
static bool find_process(struct process *p, pid_t id)
{
	struct proc_status status;

	if (!read_proc(p, id, "status", TASK_TEXT_MAX) || p->text->failed ||
	    proc_status_parse(p->text->data, p->text->len, &status) < 0)
		return false;
	p->pid = status.tgid;
	return true;
}

static int emit_process(void *data, pid_t pid)
{
	struct process *p = data;
	int r;

	p->pid = p->tid = pid;
	r = door_each_task(p->door, pid, emit_thread, p, NULL);
	if (r == -ENOMEM)
		return r;
	if (r < 0) /* it has ended */
		return 0;
	/* Where the first thread has ended, another's /proc shows what lies in the process; the last is the youngest. */
	if ((read_proc(p, pid, "maps", MAPS_MAX) && p->text->len) || (p->tid != pid && read_proc(p, p->tid, "maps", MAPS_MAX)))
		proc_maps_parse(p->text->data, p->text->len, emit_map, p, NULL);
	return p->text->failed ? -ENOMEM : 0;
}

int synth_process(struct door *door, pid_t pid, const struct collector_sink *sink, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct process p = { .door = door, .sink = sink, .text = &text };

	if (find_process(&p, pid) && emit_process(&p, p.pid) < 0)
		return err_oom(err);
	return text.failed ? err_oom(err) : 0;
}

void synth_name(pid_t pid, pid_t tid, const char *comm, const struct collector_sink *sink)
{
	emit_comm(sink, pid, tid, comm, strlen(comm));
}

void synth_task(pid_t pid, pid_t ppid, pid_t tid, const char *comm, const struct collector_sink *sink)
{
	emit_fork(sink, pid, ppid, tid);
	if (*comm)
		synth_name(pid, tid, comm, sink);
}

void synth_end(pid_t pid, pid_t ppid, const char *comm, const struct collector_sink *sink)
{
	const struct record rec = {
		.type = RECORD_EXIT,
		.raw_type = PERF_RECORD_EXIT,
		.pid = pid,
		.tid = pid,
		.task = { .ppid = ppid, .ptid = ppid },
	};

	synth_task(pid, ppid, pid, comm, sink);
	emit(sink, &rec);
}

void synth_maps(pid_t pid, const char *text, size_t bytes, const struct collector_sink *sink)
{
	struct process p = { .sink = sink, .pid = pid };

	proc_maps_parse(text, bytes, emit_map, &p, NULL);
}

int synth_all(struct door *door, const struct collector_sink *sink, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct process p = { .door = door, .sink = sink, .text = &text };
	int r = door_each_task(door, 0, emit_process, &p, err);

	return r == -ENOMEM ? err_oom(err) : r;
}
