#include "app/saving.h"

#include "app/outputs.h"
#include "app/session.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/outfile.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "collector/collector.h"
#include "collector/perfdata_write.h"
#include "collector/synth.h"
#include "symbols/addrspace.h"
#include "target/door.h"

#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_SAMPLES = 0, EVENT_SIDE = 1, NUM_EVENTS = 2, NT_GNU_BUILD_ID = 3 };

struct saved {
	const char *path; /* borrowed */
	struct perfdata_writer *writer;
	bool failed;      /* and told */
};

struct saving {
	struct saving_opts opts;
	VEC(struct saved) files;
	char cpu[128];
	struct err failure; /* the first */
};

static void saving_closep(struct saving **s)
{
	saving_close(*s);
}

/* --- what the files say of this machine --- */

/* "model name\t: AMD EPYC 7B13": the value of a line of /proc/cpuinfo or /proc/meminfo. */
static bool find_value(const struct strbuf *text, const char *key, const char **ret, size_t *ret_len)
{
	struct reader r = reader_init(text->data, text->len);
	const char *line;
	size_t len;

	while (reader_line(&r, &line, &len)) {
		const char *colon = memchr(line, ':', len);

		if (!colon || len < strlen(key) || memcmp(line, key, strlen(key)))
			continue;
		len -= (size_t)(colon + 1 - line);
		for (line = colon + 1; len && *line == ' '; len--)
			line++;
		*ret = line;
		*ret_len = len;
		return true;
	}
	return false;
}

static void read_cpu(struct saving *s)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const char *name;
	size_t len;

	if (door_read_text(s->opts.door, DOOR_CPUINFO, &text, NULL) < 0 || text.failed)
		return;
	if (find_value(&text, "model name", &name, &len))
		snprintf(s->cpu, sizeof(s->cpu), "%.*s", (int)len, name);
}

static uint64_t read_mem_kib(struct saving *s)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const char *value;
	size_t len;

	if (door_read_text(s->opts.door, DOOR_MEMINFO, &text, NULL) < 0 || text.failed)
		return 0;
	return find_value(&text, "MemTotal", &value, &len) ? strtoull(value, NULL, 10) : 0;
}

/* ELF notes: three words (length of name and of description, type), then both, padded to words. */
static bool find_build_id(const struct strbuf *notes, const uint8_t **ret, size_t *ret_len)
{
	struct reader r = reader_init(notes->data, notes->len);

	while (reader_left(&r) >= 12) {
		uint32_t name_len = reader_u32(&r), len = reader_u32(&r), type = reader_u32(&r);
		const char *name = reader_bytes(&r, ((size_t)name_len + 3) & ~(size_t)3);
		const uint8_t *bytes = reader_bytes(&r, ((size_t)len + 3) & ~(size_t)3);

		if (!name || !bytes)
			return false;
		if (type != NT_GNU_BUILD_ID || name_len != 4 || memcmp(name, "GNU", 4))
			continue;
		*ret = bytes;
		*ret_len = len;
		return true;
	}
	return false;
}

/* The kernel's build-id, by either way of writing one. */
static void tell_kernel(struct saving *s, struct perfdata_writer *w,
			bool (*tell)(struct perfdata_writer *w, bool kernel, const uint8_t *id, size_t len, const char *path))
{
	_cleanup_(strbuf_deinit) struct strbuf notes = { 0 };
	const uint8_t *id;
	size_t len;

	if (door_read_text(s->opts.door, DOOR_KERNEL_NOTES, &notes, NULL) < 0 || notes.failed)
		return;
	if (find_build_id(&notes, &id, &len))
		tell(w, true, id, len, "[kernel.kallsyms]");
}

/* --- life --- */

/* The recording goes on, but -q does not silence this. */
static void tell_failure(const struct err *err)
{
	enum log_level level = log_get_level();

	if (level < LOG_WARN)
		log_set_level(LOG_WARN);
	log_warn(NULL, "error: %s", err->msg);
	log_set_level(level);
}

static void note_failure(struct saving *s, struct saved *file, struct err *err)
{
	if (file->failed)
		return;
	file->failed = true;
	err_prefix(err, "%s: the first %llu bytes can be read, the rest is lost", file->path,
		   (unsigned long long)perfdata_written(file->writer));
	if (!s->failure.code)
		s->failure = *err;
	tell_failure(err);
}

/* False: no file is left that can be written to. */
static bool flush(struct saving *s, bool now)
{
	bool any = false;

	for (size_t i = 0; i < s->files.len; i++) {
		struct saved *file = &s->files.data[i];
		struct err err = { 0 };

		if (perfdata_write_flush(file->writer, now, &err) < 0)
			note_failure(s, file, &err);
		any |= !file->failed;
	}
	return any;
}

static int open_file(struct saving *s, const char *path, const struct perfdata_write_opts *opts,
		     struct err *err)
{
	struct perfdata_write_opts mine = *opts;
	struct saved file = { .path = path };
	int fd, r;

	r = outfile_open_growing(path, &fd, &mine.stream, err);
	if (r < 0)
		return r;
	if (perfdata_write_begin(fd, &mine, &file.writer, err) < 0)
		return err_prefix(err, "%s", path);
	if (!vec_push(&s->files, file)) {
		perfdata_writer_free(file.writer);
		return err_oom(err);
	}
	return 0;
}

static int open_files(struct saving *s, struct err *err)
{
	const struct outputs *outputs = s->opts.outputs;
	const struct perf_event_attr *samples = collector_sample_attr(s->opts.collector);
	const struct perf_event_attr *side = collector_side_attr(s->opts.collector);
	struct perfdata_write_event events[NUM_EVENTS] = {
		{ samples, collector_info(s->opts.collector)->event },
		{ side, "dummy:u" }, /* as event_side_attr has it */
	};
	struct perfdata_write_opts opts = { .events = events, .num_events = NUM_EVENTS,
					    .version = "ringfold " RINGFOLD_VERSION, .program = "ringfold",
					    .argv = s->opts.argv, .mem_kib = read_mem_kib(s) };
	int r = 0;

	read_cpu(s);
	opts.cpu = s->cpu[0] ? s->cpu : NULL;
	for (size_t i = 0; i < outputs->list.len && r == 0; i++) {
		if (!outputs->list.data[i].format)
			r = open_file(s, outputs->list.data[i].path, &opts, err);
	}
	return r;
}

static void save_synthesized(void *data, const struct record *rec)
{
	saving_record(data, rec);
}

static int tell_what_is_there(struct saving *s, struct err *err)
{
	struct collector_sink sink = { .record = save_synthesized, .data = s };
	int r = synth_kernel(s->opts.door, &sink, err);

	if (r == 0 && s->opts.all)
		r = synth_all(s->opts.door, &sink, err);
	for (size_t i = 0; i < s->opts.num_pids && !s->opts.all && r == 0; i++)
		r = synth_process(s->opts.door, s->opts.pids[i], &sink, err);
	return r;
}

int saving_open(const struct saving_opts *opts, struct saving **ret, struct err *err)
{
	_cleanup_(saving_closep) struct saving *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_oom(err);
	s->opts = *opts;
	r = open_files(s, err);
	if (r < 0 || !s->files.len)
		return r;
	r = tell_what_is_there(s, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->files.len; i++)
		tell_kernel(s, s->files.data[i].writer, perfdata_write_build_id_now);
	flush(s, true);
	*ret = steal_ptr(s);
	return 0;
}

void saving_close(struct saving *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->files.len; i++)
		perfdata_writer_free(s->files.data[i].writer);
	vec_deinit(&s->files);
	free(s);
}

/* --- records --- */

/* Which of the two events told of it. */
static size_t event_of(const struct record *rec)
{
	switch (rec->type) {
	case RECORD_SAMPLE:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
		return EVENT_SAMPLES;
	case RECORD_LOST:
		return rec->lost.side ? EVENT_SIDE : EVENT_SAMPLES;
	case RECORD_MMAP:
	case RECORD_COMM:
	case RECORD_FORK:
	case RECORD_EXIT:
	case RECORD_SWITCH:
	case RECORD_KSYMBOL:
	case RECORD_OTHER:
		return EVENT_SIDE;
	}
	return EVENT_SIDE;
}

void saving_record(struct saving *s, const struct record *rec)
{
	size_t event = event_of(rec);

	if (rec->type == RECORD_LOST && !rec->lost.count)
		return; /* the collector's guess */
	for (size_t i = 0; i < s->files.len; i++)
		perfdata_write_record(s->files.data[i].writer, rec, event);
}

struct late {
	struct saving *saving;
	uint64_t time_ns;
};

static void save_late(void *data, const struct record *rec)
{
	const struct late *late = data;
	struct record copy = *rec;

	copy.time_ns = late->time_ns;
	saving_record(late->saving, &copy);
}

void saving_learned(struct saving *s, const struct addrspaces_learned *learned, uint64_t time_ns)
{
	struct late late = { s, time_ns };
	const struct collector_sink sink = { .record = save_late, .data = &late };

	if (learned->tid) {
		synth_name(learned->pid, learned->tid, learned->comm, &sink);
		return;
	}
	if (learned->ended) {
		synth_end(learned->pid, learned->ppid, learned->comm, &sink);
		return;
	}
	/* Readers keep what they know of it, such as names of its code. */
	if (!learned->same)
		synth_task(learned->pid, learned->ppid, learned->pid, learned->comm, &sink);
	else if (*learned->comm)
		synth_name(learned->pid, learned->pid, learned->comm, &sink);
	for (size_t i = 0; i < learned->num_threads; i++)
		synth_task(learned->pid, learned->ppid, learned->threads[i].tid, learned->threads[i].comm, &sink);
	synth_maps(learned->pid, learned->maps, learned->maps_bytes, &sink);
}

void saving_build_id(struct saving *s, const char *path, const uint8_t *id, size_t len)
{
	for (size_t i = 0; i < s->files.len; i++) {
		if (!perfdata_write_build_id_now(s->files.data[i].writer, false, id, len, path))
			log_debug("record", "out of memory: %s has no build-id if this recording is killed", path);
	}
}

bool saving_flush(struct saving *s)
{
	return flush(s, false);
}

/* --- the end --- */

static void add_build_id(void *data, const char *path, const uint8_t *id, size_t len)
{
	perfdata_write_build_id(data, false, id, len, path);
}

static void end_file(struct saving *s, struct saved *file, struct session *session,
		     const struct collector_counts *counts)
{
	_cleanup_(strbuf_deinit) struct strbuf runtimes = { 0 };
	struct err err = { 0 };

	if (counts->lost_exact)
		perfdata_write_lost(file->writer, counts->lost, EVENT_SAMPLES);
	tell_kernel(s, file->writer, perfdata_write_build_id);
	if (!session_each_build_id(session, add_build_id, file->writer))
		log_warn(NULL, "%s: out of memory: it has no build-ids", file->path);
	if (!session_saved_runtimes(session, &runtimes) ||
	    (runtimes.len && !perfdata_write_runtimes(file->writer, runtimes.data, runtimes.len)))
		log_warn(NULL, "%s: out of memory: it lacks what managed runtimes said", file->path);
	if (perfdata_write_end(file->writer, &err) < 0)
		note_failure(s, file, &err);
	else if (strcmp(file->path, "-"))
		log_info(NULL, "wrote %s", file->path);
}

int saving_end(struct saving *s, struct session *session, struct err *err)
{
	struct collector_counts counts = collector_counts(s->opts.collector);

	for (size_t i = 0; i < s->files.len; i++)
		end_file(s, &s->files.data[i], session, &counts);
	return s->failure.code ? err_set(err, s->failure.code, "%s", s->failure.msg) : 0;
}
