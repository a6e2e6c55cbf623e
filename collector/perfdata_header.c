/*
 * What a file says before and behind its records: tools/perf/util/header.c, perf.data-file-format.txt.
 * Nothing here may make an otherwise good recording unreadable: a feature that does not parse is left out.
 */
#include "collector/perfdata_file_priv.h"
#include "collector/perfdata_priv.h"
#include "collector/perfdata_write.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/intern.h"
#include "base/reader.h"
#include "base/strbuf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	PIPE_HEADER_BYTES = PERFDATA_HEAD_BYTES,
	SECTION_BYTES_MAX =
		64 << 20, /* the build-ids of 200,000 files; ids of 512 CPUs and 16,000 events */
	ATTR_BYTES_MAX = 4096,
	ARGS_MAX = 65536,
};

static const char SWAPPED_MAGIC[8] = { '2', 'E', 'L', 'I', 'F', 'R', 'E', 'P' };
static const char OLD_MAGIC[8] = { 'P', 'E', 'R', 'F', 'F', 'I', 'L', 'E' };

static int check_magic(const char *magic, struct err *err)
{
	if (!memcmp(magic, PERFDATA_MAGIC, sizeof(PERFDATA_MAGIC)))
		return 0;
	if (!memcmp(magic, SWAPPED_MAGIC, sizeof(PERFDATA_MAGIC)))
		return err_set(
			err, ENOTSUP,
			"it was recorded on a machine of the other byte order; please fold it on one like that");
	if (!memcmp(magic, OLD_MAGIC, sizeof(PERFDATA_MAGIC)))
		return err_set(err, ENOTSUP,
			       "its format is that of perf before 2012, which is not read");
	return err_set(err, EBADMSG, "it is not a perf.data file");
}

static int check_read(int r, struct err *err, const char *what)
{
	if (r < 0)
		return err_set(err, -r, "cannot read its %s: %s", what, strerror(-r));
	if (r == 0)
		return err_set(err, EBADMSG, "it ends within its %s", what);
	return 0;
}

static bool section_fits(struct section s, uint64_t file_bytes)
{
	return s.offset <= file_bytes && s.size <= file_bytes - s.offset;
}

/* A section into memory of its own; it was checked to fit into the file. */
static int read_section(const struct perfdata *p, struct section s, uint8_t **ret, struct err *err,
			const char *what)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	int r;

	if (s.size > SECTION_BYTES_MAX)
		return err_set(err, EBADMSG, "its %s take %" PRIu64 " bytes, which cannot be right",
			       what, s.size);
	bytes = malloc(s.size ? s.size : 1);
	if (!bytes)
		return err_oom(err);
	r = check_read(input_read_at(&p->in, bytes, s.size, s.offset), err, what);
	if (r < 0)
		return r;
	*ret = steal_ptr(bytes);
	return 0;
}

/* `entry`: the attr and where its ids are. */
static int read_event(struct perfdata *p, const uint8_t *entry, size_t size, uint64_t file_bytes,
		      struct err *err)
{
	_cleanup_free_ uint8_t *ids = NULL;
	size_t attr_size = size - sizeof(struct section);
	struct section s;
	int r;

	memcpy(&s, entry + attr_size, sizeof(s));
	if (!section_fits(s, file_bytes) || s.size % sizeof(uint64_t))
		return err_set(err, EBADMSG, "the ids of an event lie outside the file");
	r = read_section(p, s, &ids, err, "event ids");
	if (r < 0)
		return r;
	return events_add(p->events, p->strings, entry, attr_size, ids, s.size / sizeof(uint64_t),
			  err);
}

static int read_events(struct perfdata *p, const struct file_header *h, uint64_t file_bytes,
		       struct err *err)
{
	_cleanup_free_ uint8_t *attrs = NULL;
	uint64_t each = h->attr_size;
	int r;

	if (each < PERF_ATTR_SIZE_VER0 + sizeof(struct section) || each > ATTR_BYTES_MAX)
		return err_set(err, EBADMSG,
			       "it describes each event in %" PRIu64
			       " bytes, which cannot be right",
			       each);
	if (!section_fits(h->attrs, file_bytes) || h->attrs.size % each || !h->attrs.size)
		return err_set(err, EBADMSG,
			       "its descriptions of events lie outside the file or are cut");
	r = read_section(p, h->attrs, &attrs, err, "descriptions of events");
	for (uint64_t at = 0; r == 0 && at < h->attrs.size; at += each)
		r = read_event(p, attrs + at, each, file_bytes, err);
	return r;
}

/* struct perf_header_string: u32 length, then a string that ends in it. NULL when there is none. */
static const char *read_string(struct reader *r)
{
	uint32_t len = reader_u32(r);
	const char *bytes = reader_bytes(r, len);

	return bytes && memchr(bytes, 0, len) ? bytes : NULL;
}

static int keep_string(struct perfdata *p, struct reader *r, const char **ret, struct err *err)
{
	const char *str = read_string(r);

	if (!str || !*str)
		return 0;
	str = intern_str(p->strings, str);
	if (!str)
		return err_oom(err);
	*ret = str;
	return 0;
}

/* u32 number, then as many strings. */
static int keep_cmdline(struct perfdata *p, struct reader *r, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf line = { 0 };
	uint32_t num = reader_u32(r);

	for (uint32_t i = 0; i < num && i < ARGS_MAX; i++) {
		const char *arg = read_string(r);

		if (!arg)
			return 0;
		if (i)
			strbuf_char(&line, ' ');
		strbuf_str(&line, arg);
	}
	if (line.failed)
		return err_oom(err);
	if (!line.len)
		return 0;
	p->info.cmdline = intern_mem(p->strings, line.data, line.len);
	return p->info.cmdline ? 0 : err_oom(err);
}

/* The one this describes: by its ids, and where it has none, by its place. */
static struct perfdata_event *described(struct events *e, uint32_t place, const uint8_t *ids,
					uint32_t num_ids)
{
	uint64_t id;

	if (!num_ids)
		return place < e->list.len ? &e->list.data[place] : NULL;
	memcpy(&id, ids, sizeof(id));
	return event_by_id(e, id);
}

/* u32 number, u32 attr size, then for each: attr, u32 number of ids, name, ids. */
static int name_events(struct perfdata *p, struct reader *r, struct err *err)
{
	uint32_t num = reader_u32(r), attr_size = reader_u32(r);

	for (uint32_t i = 0; i < num && !r->failed; i++) {
		struct perfdata_event *event;
		const char *name;
		const uint8_t *ids;
		uint32_t num_ids;

		reader_bytes(r, attr_size);
		num_ids = reader_u32(r);
		name = read_string(r);
		if (!name || num_ids > reader_left(r) / sizeof(uint64_t))
			return 0;
		ids = reader_bytes(r, num_ids * sizeof(uint64_t));
		event = described(p->events, i, ids, num_ids);
		if (!event || !*name)
			continue;
		name = intern_str(p->strings, name);
		if (!name)
			return err_oom(err);
		event->name = name;
	}
	return 0;
}

int perfdata_feature(struct perfdata *p, uint64_t feature, const uint8_t *bytes, size_t size,
		     struct err *err)
{
	struct reader r = reader_init(bytes, size);

	switch (feature) {
	case FEATURE_HOSTNAME:
		return keep_string(p, &r, &p->info.hostname, err);
	case FEATURE_OSRELEASE:
		return keep_string(p, &r, &p->info.os_release, err);
	case FEATURE_ARCH:
		return keep_string(p, &r, &p->info.arch, err);
	case FEATURE_NRCPUS: /* u32 possible, u32 online */
		reader_u32(&r);
		p->info.num_cpus = reader_u32(&r);
		return 0;
	case FEATURE_SAMPLE_TIME: /* u64 first, u64 last */
		p->info.first_ns = reader_u64(&r);
		p->info.last_ns = reader_u64(&r);
		return 0;
	case FEATURE_CMDLINE:
		return keep_cmdline(p, &r, err);
	case FEATURE_EVENT_DESC:
		return name_events(p, &r, err);
	case FEATURE_COMPRESSED:
		p->info.compressed = true;
		return 0;
	case FEATURE_DIR_FORMAT:
		p->info.directory = true;
		return 0;
	default:
		return 0;
	}
}

static bool feature_wanted(uint64_t feature)
{
	return feature == FEATURE_BUILD_ID || feature == FEATURE_HOSTNAME ||
	       feature == FEATURE_OSRELEASE || feature == FEATURE_ARCH ||
	       feature == FEATURE_NRCPUS || feature == FEATURE_SAMPLE_TIME ||
	       feature == FEATURE_CMDLINE || feature == FEATURE_EVENT_DESC ||
	       feature == FEATURE_DIR_FORMAT || feature == FEATURE_COMPRESSED ||
	       feature == PERFDATA_FEATURE_RUNTIMES;
}

static int read_feature(struct perfdata *p, uint64_t feature, struct section s, struct err *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	int r;

	if (s.size > SECTION_BYTES_MAX)
		return 0;
	r = read_section(p, s, &bytes, err, "features");
	if (r < 0)
		return r;
	if (feature == PERFDATA_FEATURE_RUNTIMES) {
		free(p->runtimes);
		p->info.runtimes = p->runtimes = steal_ptr(bytes);
		p->info.runtimes_bytes = s.size;
		return 0;
	}
	if (feature != FEATURE_BUILD_ID)
		return perfdata_feature(p, feature, bytes, s.size, err);
	free(p->build_ids);
	p->build_ids = steal_ptr(bytes);
	p->build_ids_size = s.size;
	return 0;
}

/* A table of sections behind the records, one for each bit. perf writes it last, so a missing one tells of a kill. */
static int read_features(struct perfdata *p, const struct file_header *h, uint64_t file_bytes,
			 struct err *err)
{
	uint64_t at = h->data.offset + h->data.size;

	for (uint64_t feature = 0; feature < FEATURE_BITS; feature++) {
		struct section s;
		int r;

		if (!(h->features[feature / 64] >> (feature % 64) & 1))
			continue;
		if (!section_fits((struct section){ at, sizeof(s) }, file_bytes) ||
		    input_read_at(&p->in, &s, sizeof(s), at) <= 0 || !section_fits(s, file_bytes)) {
			p->info.unfinished = true;
			return 0;
		}
		at += sizeof(s);
		r = feature_wanted(feature) ? read_feature(p, feature, s, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_features(const struct file_header *h)
{
	uint64_t any = 0;

	for (size_t i = 0; i < FEATURE_BITS / 64; i++)
		any |= h->features[i];
	return any != 0;
}

/* Where records begin and end; a file that was not finished is read as far as it goes. */
static int find_data(struct perfdata *p, const struct file_header *h, uint64_t file_bytes,
		     struct err *err)
{
	uint64_t end;

	if (h->data.offset < sizeof(*h) ||
	    __builtin_add_overflow(h->data.offset, h->data.size, &end))
		return err_set(err, EBADMSG,
			       "its header says that records begin at offset %" PRIu64
			       ", which cannot be",
			       h->data.offset);
	p->in.pos = h->data.offset < file_bytes ? h->data.offset : file_bytes;
	p->in.limit = end;
	if (!h->data.size || end > file_bytes) {
		p->info.unfinished = true;
		p->in.limit = file_bytes;
	} else if (!has_features(h)) {
		/* They are written last. */
		p->info.unfinished = true;
		if (end == file_bytes || h->attrs.offset > h->data.offset)
			return 0;
		/* A header that is kept up to date while the file grows: what came since may be whole too. */
		p->tail_optional = true;
		p->in.limit = file_bytes;
	}
	return 0;
}

static int read_file_header(struct perfdata *p, uint64_t file_bytes, struct err *err)
{
	struct file_header h;
	int r = check_read(input_read_at(&p->in, &h, sizeof(h), 0), err, "header");

	if (r < 0)
		return r;
	r = find_data(p, &h, file_bytes, err);
	if (r < 0)
		return r;
	r = read_events(p, &h, file_bytes, err);
	if (r < 0)
		return r;

	if (p->info.unfinished)
		return perfdata_search_build_ids(p, err);
	return read_features(p, &h, file_bytes, err);
}

bool perfdata_is_file(const uint8_t *head, size_t len)
{
	const uint64_t size = sizeof(struct file_header);

	return len == PERFDATA_HEAD_BYTES && !memcmp(head, PERFDATA_MAGIC, sizeof(PERFDATA_MAGIC)) &&
	       !memcmp(head + sizeof(PERFDATA_MAGIC), &size, sizeof(size));
}

void perfdata_begins_with(struct perfdata *p, const uint8_t *head, size_t len)
{
	p->head_len = len < sizeof(p->head) ? len : sizeof(p->head);
	memcpy(p->head, head, p->head_len);
}

static int begin_pipe(struct perfdata *p, uint64_t header_size, struct err *err)
{
	if (header_size == sizeof(struct file_header))
		return err_set(
			err, ENOTSUP,
			"this is a perf.data file, not a stream, and its parts lie in no order to be read through "
			"a pipe");
	if (header_size != PIPE_HEADER_BYTES)
		return err_set(err, EBADMSG,
			       "its header claims %" PRIu64 " bytes, which cannot be right",
			       header_size);
	p->info.pipe = true;
	return 0;
}

int perfdata_read_pipe_header(struct perfdata *p, struct err *err)
{
	uint8_t header[PIPE_HEADER_BYTES];
	uint64_t size;
	size_t have = p->head_len;
	int r;

	memcpy(header, p->head, have);
	while (have < sizeof(header)) {
		ssize_t n = fd_read_some(p->in.fd, header + have, sizeof(header) - have);

		if (n < 0)
			return err_set(err, (int)-n, "cannot read it: %s", strerror((int)-n));
		if (n == 0)
			return err_set(err, EBADMSG,
				       have ? "it ends within its header" : "it is empty");
		have += (size_t)n;
	}
	r = check_magic((const char *)header, err);
	if (r < 0)
		return r;
	memcpy(&size, header + sizeof(PERFDATA_MAGIC), sizeof(size));
	p->in.pos = sizeof(header);
	return begin_pipe(p, size, err);
}

int perfdata_read_header(struct perfdata *p, struct err *err)
{
	struct stat st;
	char magic[sizeof(PERFDATA_MAGIC)];
	uint64_t size;
	int r;

	if (fstat(p->in.fd, &st) < 0)
		return err_set(err, errno, "cannot tell what it is: %s", strerror(errno));
	if (st.st_size == 0)
		return err_set(err, EBADMSG, "it is empty");
	r = check_read(input_read_at(&p->in, magic, sizeof(magic), 0), err, "header");
	if (r == 0)
		r = check_magic(magic, err);
	if (r == 0)
		r = check_read(input_read_at(&p->in, &size, sizeof(size), sizeof(magic)), err,
			       "header");
	if (r < 0)
		return r;
	if (size != PIPE_HEADER_BYTES && size != sizeof(struct file_header))
		return err_set(err, EBADMSG,
			       "its header claims %" PRIu64 " bytes, which cannot be right", size);
	p->in.limit = (uint64_t)st.st_size;
	p->in.pos = PIPE_HEADER_BYTES;
	return size == PIPE_HEADER_BYTES ? begin_pipe(p, size, err)
					 : read_file_header(p, (uint64_t)st.st_size, err);
}
