/*
 * One zip for a support case, in the layout of perfcollect's NAME.trace.zip: PerfView opens it by its perf.data.txt; a
 * person by its index.html. No raw stacks are in it, and every name is resolved already.
 *
 * All entries are below one folder. None may be called "metadata" (PerfView takes that for CTF), and perf maps are not
 * at the root (it would read them, and stop at a 0x).
 */
#include "output/format.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "output/perfview.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/write_priv.h"
#include "output/zip_out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "ringfold.trace/"

struct bundle {
	const struct profile *profile;
	const struct profile_view *view;
	struct zip_out *zip;
	uint64_t symbol_bytes;
};

typedef int (*write_fn)(struct bundle *b, const void *data, FILE *out, struct err *err);

static int put(struct bundle *b, const char *name, write_fn write, const void *data, struct err *err)
{
	FILE *entry = zip_out_entry(b->zip, name, err);
	int r, end;

	if (!entry)
		return err && err->code ? -err->code : -EIO;
	r = write(b, data, entry, err);
	end = zip_out_end_entry(b->zip, entry, r < 0 ? NULL : err);
	return r < 0 ? r : end;
}

static int as_perfview(struct bundle *b, const void *data, FILE *out, struct err *err)
{
	return perfview_write(b->profile, b->view, out, err);
}

static int as_format(struct bundle *b, const void *data, FILE *out, struct err *err)
{
	const struct format *format = data;

	return format->write(b->profile, b->view, out, err);
}

static int as_stats(struct bundle *b, const void *data, FILE *out, struct err *err)
{
	return stats_write_json(b->profile, out, err);
}

static int as_text(struct bundle *b, const void *data, FILE *out, struct err *err)
{
	int r = write_text(out, data, err);

	return r < 0 ? r : write_end(out, err);
}

/* --- the JIT code that samples went through, as maps --- */

struct jit_key {
	pid_t pid;
	uint64_t start;
	const char *name;
};
struct jit_slot {
	struct jit_key key;
	uint64_t size;
};
static inline uint64_t jit_hash(const struct jit_key *k)
{
	return hash_two(k->start, (uintptr_t)k->name ^ (uint64_t)k->pid << 40);
}
HTAB(jit_tab, struct jit_slot, const struct jit_key *, jit_hash(key),
     slot->key.pid == key->pid && slot->key.start == key->start && slot->key.name == key->name, jit_hash(&slot->key));

static bool find_jit(const struct bundle *b, struct jit_tab *tab)
{
	const struct profile *p = b->profile;

	for (size_t i = 0; i < p->samples.len; i++) {
		for (uint32_t node = p->samples.data[i].node; node; node = stacks_node(p->stacks, node)->parent) {
			const struct profile_frame *f = &p->frames.data[stacks_node(p->stacks, node)->frame];
			struct jit_key key = { p->samples.data[i].pid, f->addr - f->offset, f->name };
			struct jit_slot *slot;
			bool added;

			if (f->kind != FRAME_JIT || !f->name || !f->addr)
				continue;
			slot = jit_tab_add(tab, &key, &added);
			if (!slot)
				return false;
			if (added)
				*slot = (struct jit_slot){ .key = key };
			if (f->offset + 1 > slot->size)
				slot->size = f->offset + 1;
		}
	}
	return true;
}

static int by_pid_and_start(const void *a, const void *b)
{
	const struct jit_slot *x = a, *y = b;

	if (x->key.pid != y->key.pid)
		return x->key.pid < y->key.pid ? -1 : 1;
	if (x->key.start != y->key.start)
		return x->key.start < y->key.start ? -1 : 1;
	return strcmp(x->key.name, y->key.name);
}

static int put_maps(struct bundle *b, struct err *err)
{
	struct jit_tab tab = { 0 };
	VEC(struct jit_slot) list = { 0 };
	bool ok = find_jit(b, &tab);
	struct jit_slot *slot;
	size_t cursor = 0;
	int r = 0;

	while (ok && (slot = jit_tab_next(&tab, &cursor)))
		ok = vec_push(&list, *slot);
	jit_tab_deinit(&tab);
	if (list.len)
		qsort(list.data, list.len, sizeof(list.data[0]), by_pid_and_start);
	for (size_t i = 0; ok && !r && i < list.len;) {
		_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
		pid_t pid = list.data[i].key.pid;
		char name[64];

		for (; i < list.len && list.data[i].key.pid == pid; i++) {
			strbuf_printf(&text, "%" PRIx64 " %" PRIx64 " ", list.data[i].key.start, list.data[i].size);
			escape_line(&text, list.data[i].key.name, strlen(list.data[i].key.name), 4096);
			strbuf_char(&text, '\n');
		}
		snprintf(name, sizeof(name), FOLDER "perf-%d.map", (int)pid);
		r = put(b, name, as_text, &text, err);
	}
	vec_deinit(&list);
	return ok ? r : err_oom(err);
}

/* --- the manifest --- */

static void json_text(struct strbuf *ret, const char *name, const char *text)
{
	strbuf_printf(ret, "\"%s\": ", name);
	if (text)
		escape_json(ret, text, strlen(text));
	else
		strbuf_str(ret, "null");
}

static void add_machine(struct strbuf *ret)
{
	struct utsname u;

	if (uname(&u) < 0)
		memset(&u, 0, sizeof(u));
	strbuf_str(ret, "  \"machine\": { ");
	json_text(ret, "kernel", u.release);
	strbuf_str(ret, ", ");
	json_text(ret, "version", u.version);
	strbuf_str(ret, ", ");
	json_text(ret, "architecture", u.machine);
	strbuf_printf(ret, ", \"cpus\": %ld },\n", sysconf(_SC_NPROCESSORS_ONLN));
}

static void add_options(struct strbuf *ret, const struct profile_stats *s)
{
	strbuf_str(ret, "  \"options\": { ");
	json_text(ret, "command", s->command);
	strbuf_str(ret, ", ");
	json_text(ret, "targets", s->targets);
	strbuf_str(ret, ", ");
	json_text(ret, "event", s->event);
	strbuf_printf(ret, ", \"freq\": %u, \"stack_bytes\": %u, \"seconds\": %.3f },\n", s->freq, s->stack_bytes, s->wall_s);
}

static void add_runtimes(struct strbuf *ret, const struct profile_stats *s)
{
	const char *comma = "";

	strbuf_str(ret, "  \"runtimes\": [");
	for (size_t i = 0; i < sizeof(s->runtimes) / sizeof(s->runtimes[0]) && s->runtimes[i].name; i++) {
		strbuf_printf(ret, "%s\n    { ", comma);
		json_text(ret, "name", s->runtimes[i].name);
		strbuf_printf(ret, ", \"frames\": %" PRIu64 ", \"named\": %" PRIu64 " }", s->runtimes[i].frames,
			      s->runtimes[i].named);
		comma = ",";
	}
	strbuf_str(ret, "\n  ],\n");
}

static void add_texts(struct strbuf *ret, const char *name, const char *const *texts, size_t max)
{
	const char *comma = "";

	strbuf_printf(ret, "  \"%s\": [", name);
	for (size_t i = 0; i < max && texts[i]; i++) {
		strbuf_printf(ret, "%s\n    ", comma);
		escape_json(ret, texts[i], strlen(texts[i]));
		comma = ",";
	}
	strbuf_str(ret, "\n  ],\n");
}

static int by_path(const void *a, const void *b)
{
	const struct profile_frame *const *x = a, *const *y = b;
	int differ = strcmp((*x)->path, (*y)->path);

	return differ ? differ : strcmp((*x)->build_id ? (*x)->build_id : "", (*y)->build_id ? (*y)->build_id : "");
}

/* Each file that a frame lies in, once. */
static bool add_files(struct strbuf *ret, const struct profile *p)
{
	VEC(const struct profile_frame *) list = { 0 };
	const char *comma = "";
	bool ok = true;

	for (size_t i = 1; i < p->frames.len && ok; i++) {
		if (p->frames.data[i].path && p->frames.data[i].kind == FRAME_NATIVE)
			ok = vec_push(&list, &p->frames.data[i]);
	}
	if (list.len)
		qsort(list.data, list.len, sizeof(list.data[0]), by_path);
	strbuf_str(ret, "  \"files\": [");
	for (size_t i = 0; i < list.len; i++) {
		if (i && !by_path(&list.data[i - 1], &list.data[i]))
			continue;
		strbuf_printf(ret, "%s\n    { ", comma);
		json_text(ret, "path", list.data[i]->path);
		strbuf_str(ret, ", ");
		json_text(ret, "build_id", list.data[i]->build_id);
		strbuf_str(ret, " }");
		comma = ",";
	}
	strbuf_str(ret, "\n  ],\n");
	vec_deinit(&list);
	return ok;
}

static time_t when(const struct profile *p)
{
	return p->stats.start_ns ? (time_t)(p->stats.start_ns / 1000000000) : time(NULL);
}

static int put_manifest(struct bundle *b, struct err *err)
{
	const struct profile_stats *s = &b->profile->stats;
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	time_t began = when(b->profile);
	char date[32] = "";
	struct tm tm;

	if (gmtime_r(&began, &tm))
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	strbuf_str(&text, "{\n  \"tool\": \"ringfold\",\n  ");
	json_text(&text, "began", date);
	strbuf_str(&text, ",\n");
	add_machine(&text);
	add_options(&text, s);
	add_runtimes(&text, s);
	if (!add_files(&text, b->profile))
		return err_oom(err);
	add_texts(&text, "jit", s->jit, sizeof(s->jit) / sizeof(s->jit[0]));
	add_texts(&text, "missing", s->notes, sizeof(s->notes) / sizeof(s->notes[0]));
	strbuf_printf(&text, "  \"samples\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"complete\": %" PRIu64
			     ", \"user_stacks\": %" PRIu64 "\n}\n", s->samples, s->lost, s->complete, s->user_stacks);
	return put(b, FOLDER "manifest.json", as_text, &text, err);
}

/* What was said on the terminal, in the words of perfcollect's log where it has any. */
static int put_log(struct bundle *b, struct err *err)
{
	const struct profile_stats *s = &b->profile->stats;
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct utsname u;

	if (uname(&u) == 0)
		strbuf_printf(&text, "Machine info: %s %s %s %s\n", u.sysname, u.release, u.version, u.machine);
	if (s->command) {
		strbuf_str(&text, "Command: ");
		escape_line(&text, s->command, strlen(s->command), 4096);
		strbuf_char(&text, '\n');
	}
	quality_lines(s, &text);
	return put(b, FOLDER "ringfold.log", as_text, &text, err);
}

/* --- the files themselves: symbols/BUILD-ID/NAME and symbols/xx/yy.debug --- */

enum { COPY_BYTES = 1 << 16 };
static const uint64_t most_file_bytes = 2ull << 30, most_symbol_bytes = 4ull << 30;

static int as_copy(struct bundle *b, const void *data, FILE *out, struct err *err)
{
	int fd = *(const int *)data, r = 0;
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	uint64_t at = 0;

	if (!buf)
		return err_oom(err);
	while (!r && at < most_file_bytes) {
		ssize_t len = fd_pread_full(fd, buf, COPY_BYTES, at);

		if (len < 0)
			return err_set(err, (int)-len, "reading a program for the bundle: %s", strerror((int)-len));
		if (!len)
			break;
		r = write_bytes(out, buf, (size_t)len, err);
		at += (uint64_t)len;
	}
	b->symbol_bytes += at;
	return r < 0 ? r : write_end(out, err);
}

/* The last part of a path that a target has chosen, as a name in a zip. */
static void add_file_name(struct strbuf *out, const char *path)
{
	const char *slash = strrchr(path, '/');

	for (const char *at = slash ? slash + 1 : path; *at && at - path < 4096; at++)
		strbuf_char(out, *at > ' ' && *at < 0x7f && !strchr("/\\:*?\"<>|", *at) ? *at : '_');
}

static int put_file(struct bundle *b, const struct profile_file *file, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };
	int r = 0;

	if (file->fd >= 0) {
		strbuf_printf(&name, FOLDER "symbols/%s/", file->build_id);
		add_file_name(&name, file->path);
		r = name.failed ? err_oom(err) : put(b, name.data, as_copy, &file->fd, err);
	}
	if (!r && file->debug_fd >= 0 && strlen(file->build_id) > 2) {
		strbuf_clear(&name);
		strbuf_printf(&name, FOLDER "symbols/%.2s/%s.debug", file->build_id, file->build_id + 2);
		r = name.failed ? err_oom(err) : put(b, name.data, as_copy, &file->debug_fd, err);
	}
	return r;
}

static int put_files(struct bundle *b, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < b->profile->files.len && !r && b->symbol_bytes < most_symbol_bytes; i++)
		r = put_file(b, &b->profile->files.data[i], err);
	return r;
}

static int put_all(struct bundle *b, struct err *err)
{
	static const struct {
		const char *name, *format;
	} parts[] = {
		{ FOLDER "index.html", "html" },
		{ FOLDER "stacks.folded", "collapsed" },
		{ FOLDER "profile.pb.gz", "pprof" },
		{ FOLDER "report.txt", "report" },
	};
	int r = put(b, FOLDER "perf.data.txt", as_perfview, NULL, err);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !r; i++) {
		const struct format *format = format_find(parts[i].format);

		if (format)
			r = put(b, parts[i].name, as_format, format, err);
	}
	if (!r)
		r = put_maps(b, err);
	if (!r)
		r = put_files(b, err);
	if (!r)
		r = put(b, FOLDER "stats.json", as_stats, NULL, err);
	if (!r)
		r = put_manifest(b, err);
	return r ? r : put_log(b, err);
}

static int write_bundle(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	struct bundle b = { .profile = profile, .view = view };
	int r = zip_out_open(out, when(profile), &b.zip, err), end;

	if (r < 0)
		return r;
	r = put_all(&b, err);
	end = zip_out_close(b.zip, r < 0 ? NULL : err);
	r = r < 0 ? r : end;
	return r < 0 ? r : write_end(out, err);
}

static const char *const extensions[] = { ".trace.zip", NULL };

const struct format format_bundle = {
	.name = "bundle",
	.description = "one zip for a support case: PerfView opens it, a browser its index.html",
	.extensions = extensions,
	.needs_samples = true,
	.needs_addresses = true,
	.needs_places = true,
	.tells_event = true,
	.binary = true,
	.write = write_bundle,
};
