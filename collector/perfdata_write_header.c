/* Before and behind the records: tools/perf/util/header.c. */
#include "collector/perfdata_file_priv.h"
#include "collector/perfdata_write_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Behind the last that add_feature knows. */
enum { NUM_FEATURES = FEATURE_CLOCK_DATA + 1 };

/* Records that only a stream has: tools/lib/perf/include/perf/event.h. */
enum { STREAM_ATTR = 64, STREAM_FEATURE = 80 };

struct stream_header {
	char magic[8];
	uint64_t size;
};

/* u32 length, then text padded with zeros (do_write_string). */
static void add_string(struct strbuf *b, const char *text)
{
	static const char zeros[WRITE_NAME_ALIGN] = { 0 };
	size_t len = strlen(text), padding = WRITE_NAME_ALIGN - len % WRITE_NAME_ALIGN;

	strbuf_u32(b, (uint32_t)(len + padding));
	strbuf_add(b, text, len);
	strbuf_add(b, zeros, padding);
}

static void add_cmdline(struct strbuf *b, const char *program, char *const *argv)
{
	uint32_t num = 0;

	while (argv && argv[num])
		num++;
	strbuf_u32(b, num + (program != NULL));
	if (program)
		add_string(b, program);
	for (uint32_t i = 0; i < num; i++)
		add_string(b, argv[i]);
}

static void add_event_desc(struct strbuf *b, const struct perfdata_writer *w)
{
	strbuf_u32(b, (uint32_t)w->events.len);
	strbuf_u32(b, sizeof(struct perf_event_attr));
	for (size_t i = 0; i < w->events.len; i++) {
		const struct write_event *e = &w->events.data[i];

		strbuf_add(b, &e->attr, sizeof(e->attr));
		strbuf_u32(b, 1);
		add_string(b, e->name);
		strbuf_u64(b, e->id);
	}
}

/* What the records' clock showed when the clock on the wall showed this. */
static void add_clock_data(struct strbuf *b, clockid_t clock)
{
	strbuf_u32(b, 1); /* version */
	strbuf_u32(b, (uint32_t)clock);
	strbuf_u64(b, clock_ns(CLOCK_REALTIME));
	strbuf_u64(b, clock_ns(clock));
}

static void add_clock_resolution(struct strbuf *b, clockid_t clock)
{
	struct timespec res = { 0 };

	clock_getres(clock, &res);
	strbuf_u64(b, (uint64_t)res.tv_sec * 1000000000u + (uint64_t)res.tv_nsec);
}

static void add_cpus(struct strbuf *b)
{
	strbuf_u32(b, (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
	strbuf_u32(b, (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
}

/*
 * What tracefs says of a tracepoint, with a field in place of its own: samples here do not have their values. perf does
 * not open a file with a tracepoint that it is told nothing of, and wants one field at least.
 */
static void add_tracepoint(struct strbuf *b, const struct write_event *e)
{
	const char *name = strchr(e->name, ':');
	size_t system_len = name ? (size_t)(name - e->name) : 0;
	size_t name_len = name ? strcspn(name + 1, ":") : 0; /* ":u" may follow */
	struct strbuf text = { 0 };

	strbuf_printf(&text,
		      "name: %.*s\nID: %llu\nformat:\n"
		      "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
		      "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
		      "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
		      "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
		      "\tfield:char unknown;\toffset:8;\tsize:1;\tsigned:0;\n\nprint fmt: \"\"\n",
		      (int)name_len, name ? name + 1 : "", (unsigned long long)e->attr.config);
	strbuf_add(b, e->name, system_len);
	strbuf_char(b, 0);
	strbuf_u32(b, 1); /* tracepoints of this system */
	strbuf_u64(b, text.len);
	strbuf_add(b, text.data, text.len);
	b->failed |= text.failed;
	strbuf_deinit(&text);
}

/* tools/perf/util/trace-event-read.c, version 0.6: lists of texts, most of which are left empty. */
static void add_tracing_data(struct strbuf *b, const struct perfdata_writer *w)
{
	static const char magic[] = { 23, 8, 68, 't', 'r', 'a', 'c', 'i', 'n', 'g', '0', '.', '6', 0 };
	/* events/header_page of tracefs: it may not be empty, and is of no use here. */
	static const char page[] = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
				   "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
				   "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
				   "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";
	const uint16_t order = 1;
	uint32_t num = 0;

	for (size_t i = 0; i < w->events.len; i++)
		num += w->events.data[i].attr.type == PERF_TYPE_TRACEPOINT;
	if (!num)
		return;
	strbuf_add(b, magic, sizeof(magic));
	strbuf_char(b, *(const char *)&order ? 0 : 1); /* 1 = big-endian */
	strbuf_char(b, sizeof(long));
	strbuf_u32(b, (uint32_t)sysconf(_SC_PAGESIZE));
	strbuf_add(b, "header_page", sizeof("header_page"));
	strbuf_u64(b, sizeof(page) - 1);
	strbuf_add(b, page, sizeof(page) - 1);
	strbuf_add(b, "header_event", sizeof("header_event"));
	strbuf_u64(b, 0);
	strbuf_u32(b, 0); /* tracepoints of ftrace itself */
	strbuf_u32(b, num);
	for (size_t i = 0; i < w->events.len; i++) {
		if (w->events.data[i].attr.type == PERF_TYPE_TRACEPOINT)
			add_tracepoint(b, &w->events.data[i]);
	}
	strbuf_u32(b, 0); /* kallsyms */
	strbuf_u32(b, 0); /* formats of printk */
	strbuf_u64(b, 0); /* names of threads */
}

/* Appends what is to be said of it: nothing, when nothing is known. */
static void add_feature(struct strbuf *b, const struct perfdata_writer *w, unsigned int feature,
			const struct utsname *host)
{
	const struct perf_event_attr *attr = &w->events.data[0].attr;

	switch (feature) {
	case FEATURE_TRACING_DATA:
		add_tracing_data(b, w);
		break;
	case FEATURE_BUILD_ID:
		strbuf_add(b, w->build_ids.data, w->build_ids.len);
		break;
	case FEATURE_HOSTNAME:
		add_string(b, host->nodename);
		break;
	case FEATURE_OSRELEASE:
		add_string(b, host->release);
		break;
	case FEATURE_VERSION:
		add_string(b, w->opts.version);
		break;
	case FEATURE_ARCH:
		add_string(b, host->machine);
		break;
	case FEATURE_NRCPUS:
		add_cpus(b);
		break;
	case FEATURE_CPUDESC:
		if (w->opts.cpu)
			add_string(b, w->opts.cpu);
		break;
	case FEATURE_TOTAL_MEM:
		if (w->opts.mem_kib)
			strbuf_u64(b, w->opts.mem_kib);
		break;
	case FEATURE_CMDLINE:
		add_cmdline(b, w->opts.program, w->opts.argv);
		break;
	case FEATURE_EVENT_DESC:
		add_event_desc(b, w);
		break;
	case FEATURE_SAMPLE_TIME:
		strbuf_u64(b, w->first_ns);
		strbuf_u64(b, w->last_ns);
		break;
	case FEATURE_CLOCKID:
		if (attr->use_clockid)
			add_clock_resolution(b, attr->clockid);
		break;
	case FEATURE_CLOCK_DATA:
		if (attr->use_clockid)
			add_clock_data(b, attr->clockid);
		break;
	}
}

/* --- files --- */

/* Every event has one id, and they lie one after another behind the header. */
static void add_attrs(struct strbuf *b, const struct perfdata_writer *w, uint64_t ids_at)
{
	for (size_t i = 0; i < w->events.len; i++) {
		struct section ids = { ids_at + i * sizeof(uint64_t), sizeof(uint64_t) };

		strbuf_add(b, &w->events.data[i].attr, sizeof(struct perf_event_attr));
		strbuf_add(b, &ids, sizeof(ids));
	}
}

/* With a first record that says nothing: perf calls a file without any broken. */
static void add_file_header(struct strbuf *b, struct perfdata_writer *w)
{
	static const struct perf_event_header round = { .type = PERFDATA_FINISHED_ROUND,
							.size = sizeof(round) };
	size_t num = w->events.len;
	struct file_header h = {
		.size = sizeof(h),
		.attr_size = sizeof(struct perf_event_attr) + sizeof(struct section),
	};

	memcpy(h.magic, PERFDATA_MAGIC, sizeof(PERFDATA_MAGIC));
	h.attrs.offset = sizeof(h) + num * sizeof(uint64_t);
	h.attrs.size = num * h.attr_size;
	h.data.offset = h.attrs.offset + h.attrs.size;
	h.data.size = w->size = sizeof(round);
	w->records_at = h.data.offset;
	strbuf_add(b, &h, sizeof(h));
	for (size_t i = 0; i < num; i++)
		strbuf_u64(b, w->events.data[i].id);
	add_attrs(b, w, sizeof(h));
	strbuf_add(b, &round, sizeof(round));
}

bool write_size(struct perfdata_writer *w)
{
	uint64_t size = w->end - w->records_at;

	if (!write_at(w, &size, sizeof(size),
		      offsetof(struct file_header, data) + offsetof(struct section, size)))
		return false;
	w->size = size;
	return true;
}

static bool write_feature_bits(struct perfdata_writer *w, uint64_t bits)
{
	uint64_t all[FEATURE_BITS / 64] = { bits };

	if (w->runtimes.len)
		all[PERFDATA_FEATURE_RUNTIMES / 64] |= 1ull << PERFDATA_FEATURE_RUNTIMES % 64;
	return write_at(w, all, sizeof(all), offsetof(struct file_header, features));
}

/* A table of sections, one for each bit, then what they hold. */
static bool write_file_features(struct perfdata_writer *w, const struct utsname *host)
{
	struct strbuf table = { 0 }, payload = { 0 };
	uint64_t sizes[NUM_FEATURES], bits = 0, at = w->end;
	bool ok;

	for (unsigned int i = 0; i < NUM_FEATURES; i++) {
		size_t before = payload.len;

		add_feature(&payload, w, i, host);
		sizes[i] = payload.len - before;
		if (sizes[i]) {
			bits |= 1ull << i;
			at += sizeof(struct section);
		}
	}
	at += w->runtimes.len ? sizeof(struct section) : 0;
	for (unsigned int i = 0; i < NUM_FEATURES; i++) {
		struct section s = { at, sizes[i] };

		if (sizes[i])
			strbuf_add(&table, &s, sizeof(s));
		at += sizes[i];
	}
	if (w->runtimes.len) { /* the highest bit, so the last */
		struct section s = { at, w->runtimes.len };

		strbuf_add(&table, &s, sizeof(s));
		strbuf_add(&payload, w->runtimes.data, w->runtimes.len);
	}
	ok = !table.failed && !payload.failed && !w->build_ids.failed;
	if (!ok)
		err_oom(&w->failure);
	ok = ok && write_out(w, table.data, table.len) && write_out(w, payload.data, payload.len) &&
	     write_feature_bits(w, bits);
	strbuf_deinit(&table);
	strbuf_deinit(&payload);
	return ok;
}

/* --- streams --- */

static void add_record(struct strbuf *b, uint32_t type, const struct strbuf *body)
{
	struct perf_event_header header = {
		.type = type,
		.size = (uint16_t)(sizeof(header) + body->len),
	};

	strbuf_add(b, &header, sizeof(header));
	strbuf_add(b, body->data, body->len);
}

static void add_stream_attrs(struct strbuf *b, struct strbuf *body, const struct perfdata_writer *w)
{
	for (size_t i = 0; i < w->events.len; i++) {
		strbuf_clear(body);
		strbuf_add(body, &w->events.data[i].attr, sizeof(struct perf_event_attr));
		strbuf_u64(body, w->events.data[i].id);
		add_record(b, STREAM_ATTR, body);
	}
}

/* What is known only at the end is not among them. A command line of 64 KiB does not fit into a record. */
static void add_stream_features(struct strbuf *b, struct strbuf *body, const struct perfdata_writer *w,
				const struct utsname *host)
{
	for (unsigned int i = FEATURE_HOSTNAME; i < NUM_FEATURES; i++) {
		size_t empty = sizeof(uint64_t);

		strbuf_clear(body);
		strbuf_u64(body, i);
		if (i != FEATURE_SAMPLE_TIME)
			add_feature(body, w, i, host);
		if (body->len > empty && body->len < WRITE_RECORD_MAX - sizeof(uint64_t))
			add_record(b, STREAM_FEATURE, body);
	}
}

static void add_stream_header(struct strbuf *b, const struct perfdata_writer *w,
			      const struct utsname *host)
{
	struct stream_header h = { .size = sizeof(h) };
	struct strbuf body = { 0 };

	memcpy(h.magic, PERFDATA_MAGIC, sizeof(PERFDATA_MAGIC));
	strbuf_add(b, &h, sizeof(h));
	add_stream_attrs(b, &body, w);
	add_stream_features(b, &body, w, host);
	b->failed |= body.failed;
	strbuf_deinit(&body);
}

/* --- both --- */

int write_header(struct perfdata_writer *w, struct err *err)
{
	struct strbuf b = { 0 };
	struct utsname host;

	uname(&host);
	if (w->opts.stream)
		add_stream_header(&b, w, &host);
	else
		add_file_header(&b, w);
	if (b.failed)
		err_oom(&w->failure);
	else
		write_out(w, b.data, b.len);
	strbuf_deinit(&b);
	w->flushed_ns = clock_monotonic_ns();
	return w->failure.code ? err_set(err, w->failure.code, "%s", w->failure.msg) : 0;
}

bool write_features(struct perfdata_writer *w)
{
	struct utsname host;

	uname(&host);
	return w->opts.stream ? write_out(w, w->build_ids.data, w->build_ids.len)
			      : write_file_features(w, &host);
}
