#include "collector/perfdata_write_priv.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/writer.h"
#include "collector/perfdata_chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t FLUSH_NS = 1000000000;
static const uint16_t MISC_SIZE_IS_TOLD = 1u << 15; /* PERF_RECORD_MISC_BUILD_ID_SIZE */

/* What struct record holds of a sample, and this writes. */
static const uint64_t WRITTEN_FIELDS = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
				       PERF_SAMPLE_TIME | PERF_SAMPLE_ID | PERF_SAMPLE_CPU |
				       PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN |
				       PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;

/* --- the file --- */

/* Bytes of the records that are whole in the first `len` bytes of the buffer. */
static size_t whole_records(const struct perfdata_writer *w, uint64_t len)
{
	struct perf_event_header header;
	size_t ret = 0;

	while (len - ret >= sizeof(header)) {
		memcpy(&header, w->buf + ret, sizeof(header));
		if (header.size < sizeof(header) || header.size > len - ret)
			break;
		ret += header.size;
	}
	return ret;
}

/* What is behind the last whole record would only confuse. */
static void end_file(struct perfdata_writer *w)
{
	uint64_t counted = w->records_at + w->size, end = counted;

	if (w->writing_buffer)
		end += whole_records(w, w->end - counted);
	w->writing_buffer = false;
	if (ftruncate(w->fd, (off_t)end) < 0)
		return;
	w->end = end;
	write_size(w);
}

static bool fail(struct perfdata_writer *w, int code)
{
	if (w->failing)
		return false;
	w->failing = true;
	if (!w->opts.stream && w->size)
		end_file(w);
	err_set(&w->failure, code, "cannot write: %s", strerror(code));
	return false;
}

bool write_out(struct perfdata_writer *w, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	while (size && !w->failure.code) {
		ssize_t n = write(w->fd, from, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(w, n < 0 ? errno : EIO);
		from += n;
		size -= (size_t)n;
		w->end += (uint64_t)n;
	}
	return !w->failure.code;
}

/* Over bytes that are there already: it needs no room on the disk, nor moves where write() goes on. */
bool write_at(struct perfdata_writer *w, const void *bytes, size_t size, uint64_t offset)
{
	const uint8_t *from = bytes;

	while (size && !w->failure.code) {
		ssize_t n = pwrite(w->fd, from, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(w, n < 0 ? errno : EIO);
		from += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return !w->failure.code;
}

static bool write_buffer(struct perfdata_writer *w)
{
	size_t len = w->len;
	bool ok;

	w->len = 0;
	w->flushed_ns = clock_monotonic_ns();
	w->writing_buffer = true;
	ok = write_out(w, w->buf, len);
	w->writing_buffer = false;
	return ok && (w->opts.stream || write_size(w));
}

/* --- records --- */

/* What puts a record together at the end of the buffer: room for it was made. */

static void put_tid(struct writer *d, const struct record *rec)
{
	writer_u32(d, (uint32_t)rec->pid);
	writer_u32(d, (uint32_t)rec->tid);
}

static void put_cpu(struct writer *d, const struct record *rec)
{
	writer_u32(d, rec->cpu);
	writer_u32(d, 0);
}

/* Whose a record is and when it was made, the same in samples and behind other records. */
static void put_whose(struct writer *d, const struct write_event *event, const struct record *rec)
{
	uint64_t type = event->attr.sample_type;

	if (type & PERF_SAMPLE_TID)
		put_tid(d, rec);
	if (type & PERF_SAMPLE_TIME)
		writer_u64(d, rec->time_ns);
	if (type & PERF_SAMPLE_ID)
		writer_u64(d, event->id);
	if (type & PERF_SAMPLE_CPU)
		put_cpu(d, rec);
}

/* perf_event__output_id_sample of kernel/events/core.c. */
static void put_trailer(struct writer *d, const struct write_event *event, const struct record *rec)
{
	put_whose(d, event, rec);
	if (event->attr.sample_type & PERF_SAMPLE_IDENTIFIER)
		writer_u64(d, event->id);
}

/* Zero-terminated, padded to a multiple of 8. */
static void put_text(struct writer *d, const char *text, size_t len)
{
	writer_add(d, text, len);
	writer_zeros(d, 8 - len % 8);
}

/*
 * How much of a stack dump to write: what the kernel filled, rounded up to a multiple of 8. A dump that is not full is
 * never written as if it were, as its reader could then not tell that the stack ends there: it gets a word more.
 */
static size_t stack_size(const struct record_sample *s)
{
	if (s->stack_bytes == s->stack_size)
		return s->stack_bytes & ~(size_t)7;
	return (s->stack_bytes + 8) & ~(size_t)7;
}

static void put_chain(struct writer *d, const struct record_sample *s, uint64_t mark)
{
	writer_u64(d, mark);
	writer_u64(d, s->num_user_chain);
	for (size_t i = 0; i < s->num_user_chain; i++)
		writer_u64(d, s->user_chain[i] ^ mark);
}

static void put_stack(struct writer *d, const struct record *rec)
{
	const struct record_sample *s = &rec->sample;
	size_t size = stack_size(s), chain = chain_bytes(s);
	size_t filled = s->stack_bytes < size ? s->stack_bytes : size;

	if (!s->stack_size || !size) {
		writer_u64(d, 0);
		return;
	}
	if (d->len + size + chain + 2 * sizeof(uint64_t) > WRITE_RECORD_MAX)
		chain = 0;
	if (chain)
		size = filled; /* it is the word more */
	writer_u64(d, size + chain);
	writer_add(d, s->stack, filled);
	writer_zeros(d, size - filled);
	if (chain)
		put_chain(d, s, chain_mark(rec->time_ns, s->stack_bytes == s->stack_size));
	writer_u64(d, filled);
}

/* Without the frame pointers' chain where there is a stack dump: perf would show the stack twice. */
static size_t chain_len(const struct write_event *event, const struct record_sample *s)
{
	size_t len = 0;

	if (!event->attr.exclude_callchain_user)
		return s->num_chain;
	while (len < s->num_chain && s->chain[len] != PERF_CONTEXT_USER)
		len++;
	return len;
}

static void put_sample(struct writer *d, const struct write_event *event, const struct record *rec)
{
	const struct record_sample *s = &rec->sample;
	uint64_t type = event->attr.sample_type;

	if (type & PERF_SAMPLE_IDENTIFIER)
		writer_u64(d, event->id);
	if (type & PERF_SAMPLE_IP)
		writer_u64(d, s->ip);
	put_whose(d, event, rec);
	if (type & PERF_SAMPLE_PERIOD)
		writer_u64(d, s->period);
	if (type & PERF_SAMPLE_CALLCHAIN) {
		size_t len = chain_len(event, s);

		writer_u64(d, len);
		writer_add(d, s->chain, len * sizeof(uint64_t));
	}
	if (type & PERF_SAMPLE_REGS_USER) {
		writer_u64(d, s->regs ? s->regs_abi : 0);
		writer_add(d, s->regs, s->regs ? s->num_regs * sizeof(uint64_t) : 0);
	}
	if (type & PERF_SAMPLE_STACK_USER)
		put_stack(d, rec);
}

static void put_mmap(struct writer *d, const struct record *rec)
{
	put_tid(d, rec);
	writer_u64(d, rec->mmap.start);
	writer_u64(d, rec->mmap.len);
	writer_u64(d, rec->mmap.pgoff);
	if (rec->raw_type == PERF_RECORD_MMAP2) {
		if (rec->mmap.build_id) {
			writer_u32(d, (uint32_t)rec->mmap.build_id_len);
			writer_add(d, rec->mmap.build_id, 20);
		} else {
			writer_u32(d, rec->mmap.maj);
			writer_u32(d, rec->mmap.min);
			writer_u64(d, rec->mmap.ino);
			writer_u64(d, rec->mmap.ino_generation);
		}
		writer_u32(d, rec->mmap.prot);
		writer_u32(d, rec->mmap.flags);
	}
	put_text(d, rec->mmap.path, rec->mmap.path_len);
}

static void put_task(struct writer *d, const struct record *rec)
{
	writer_u32(d, (uint32_t)rec->pid);
	writer_u32(d, (uint32_t)rec->task.ppid);
	writer_u32(d, (uint32_t)rec->tid);
	writer_u32(d, (uint32_t)rec->task.ptid);
	writer_u64(d, rec->time_ns);
}

static void put_switch(struct writer *d, const struct record *rec)
{
	if (rec->raw_type != PERF_RECORD_SWITCH_CPU_WIDE)
		return;
	writer_u32(d, (uint32_t)rec->switching.other_pid);
	writer_u32(d, (uint32_t)rec->switching.other_tid);
}

static void put_ksymbol(struct writer *d, const struct record *rec)
{
	writer_u64(d, rec->ksymbol.start);
	writer_u32(d, rec->ksymbol.len);
	writer_u32(d, rec->ksymbol.type | (uint32_t)rec->ksymbol.flags << 16);
	put_text(d, rec->ksymbol.name, rec->ksymbol.name_len);
}

/* What stands between header and trailer; false: it is not known. */
static bool put_body(struct writer *d, const struct write_event *event, const struct record *rec)
{
	switch (rec->type) {
	case RECORD_SAMPLE:
		put_sample(d, event, rec);
		return true;
	case RECORD_MMAP:
		put_mmap(d, rec);
		return true;
	case RECORD_COMM:
		put_tid(d, rec);
		put_text(d, rec->comm.comm, rec->comm.len);
		return true;
	case RECORD_FORK:
	case RECORD_EXIT:
		put_task(d, rec);
		return true;
	case RECORD_LOST:
		writer_u64(d, event->id);
		writer_u64(d, rec->lost.count);
		return true;
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
		writer_u64(d, rec->time_ns);
		writer_u64(d, event->id);
		writer_u64(d, event->id); /* stream_id */
		return true;
	case RECORD_SWITCH:
		put_switch(d, rec);
		return true;
	case RECORD_KSYMBOL:
		put_ksymbol(d, rec);
		return true;
	case RECORD_OTHER:
		return false;
	}
	return false;
}

/* No record is longer in the file than this says. */
static size_t room_for(const struct record *rec)
{
	static const size_t FIXED = 256; /* header, words, trailer */
	const struct record_sample *s = &rec->sample;

	switch (rec->type) {
	case RECORD_SAMPLE:
		return FIXED + (s->num_chain + s->num_regs) * sizeof(uint64_t) + s->stack_bytes + chain_bytes(s);
	case RECORD_MMAP:
		return FIXED + rec->mmap.path_len;
	case RECORD_COMM:
		return FIXED + rec->comm.len;
	case RECORD_KSYMBOL:
		return FIXED + rec->ksymbol.name_len;
	case RECORD_FORK:
	case RECORD_EXIT:
	case RECORD_LOST:
	case RECORD_THROTTLE:
	case RECORD_UNTHROTTLE:
	case RECORD_SWITCH:
	case RECORD_OTHER:
		return FIXED;
	}
	return FIXED;
}

/* As records come in the order of time, a round may end behind any of them. */
static void end_round(struct perfdata_writer *w)
{
	static const struct perf_event_header round = { .type = PERFDATA_FINISHED_ROUND,
							.size = sizeof(round) };

	if (!w->round_bytes || WRITE_BUFFER - w->len < sizeof(round))
		return;
	memcpy(w->buf + w->len, &round, sizeof(round));
	w->len += sizeof(round);
	w->round_bytes = 0;
}

/* The size of a record that fits no longer into 16 bits has no meaning: it is left out. */
/* Its header is written at the end. */
static struct writer begin_record(struct perfdata_writer *w)
{
	struct writer d = writer_init(w->buf + w->len, WRITE_BUFFER - w->len);

	writer_zeros(&d, sizeof(struct perf_event_header));
	return d;
}

/* What was put behind the rest is a record. */
static void took_record(struct perfdata_writer *w, size_t len)
{
	w->len += len;
	w->round_bytes += len;
	if (w->round_bytes >= WRITE_ROUND)
		end_round(w);
}

static void finish_record(struct perfdata_writer *w, struct writer *d, uint32_t type, uint16_t misc)
{
	struct perf_event_header header = { .type = type, .misc = misc, .size = (uint16_t)d->len };

	if (d->failed || d->len > WRITE_RECORD_MAX)
		return;
	memcpy(d->start, &header, sizeof(header));
	took_record(w, d->len);
}

void perfdata_write_record(struct perfdata_writer *w, const struct record *rec, size_t event)
{
	const struct write_event *e = &w->events.data[event < w->events.len ? event : 0];
	size_t room = room_for(rec);
	struct writer d;

	if (w->failure.code || room > WRITE_BUFFER)
		return;
	if (room > WRITE_BUFFER - w->len && !write_buffer(w))
		return;
	d = begin_record(w);
	if (!put_body(&d, e, rec))
		return;
	if (rec->type != RECORD_SAMPLE) {
		if (e->attr.sample_id_all)
			put_trailer(&d, e, rec);
	} else {
		w->first_ns = w->first_ns ? w->first_ns : rec->time_ns;
		w->last_ns = rec->time_ns;
	}
	finish_record(w, &d, rec->raw_type, rec->misc);
}

void perfdata_write_lost(struct perfdata_writer *w, uint64_t lost, size_t event)
{
	const struct write_event *e = &w->events.data[event < w->events.len ? event : 0];
	struct record rec = { .pid = -1, .tid = -1, .cpu = UINT32_MAX, .time_ns = w->last_ns };
	struct writer d;

	if (w->failure.code || !lost || (WRITE_BUFFER - w->len < 256 && !write_buffer(w)))
		return;
	d = begin_record(w);
	writer_u64(&d, lost);
	if (e->attr.sample_id_all)
		put_trailer(&d, e, &rec);
	finish_record(w, &d, PERF_RECORD_LOST_SAMPLES, 0);
}

/* --- life --- */

int perfdata_write_flush(struct perfdata_writer *w, bool now, struct err *err)
{
	if (!w->failure.code)
		end_round(w);
	if (!w->failure.code && w->len &&
	    (now || w->len >= WRITE_MUCH || clock_monotonic_ns() - w->flushed_ns >= FLUSH_NS))
		write_buffer(w);
	return w->failure.code ? err_set(err, w->failure.code, "%s", w->failure.msg) : 0;
}

/* struct perf_record_header_build_id: header, pid, id in 20 bytes, its size, 3 bytes, name. perf 7 wants it aligned to 8. */
static void put_build_id(struct strbuf *b, bool kernel, const uint8_t *id, size_t id_len, const char *path)
{
	static const uint8_t zeros[WRITE_NAME_ALIGN] = { 0 };
	size_t before = sizeof(struct perf_event_header) + 28, name_len = strlen(path);
	size_t padding = WRITE_NAME_ALIGN - (before + name_len) % WRITE_NAME_ALIGN;
	size_t size = before + name_len + padding;
	struct perf_event_header header = {
		.type = 67, /* PERF_RECORD_HEADER_BUILD_ID */
		.misc = MISC_SIZE_IS_TOLD |
			(kernel ? PERF_RECORD_MISC_KERNEL : PERF_RECORD_MISC_USER),
		.size = (uint16_t)size,
	};
	uint8_t size_byte = (uint8_t)id_len;
	int32_t pid = -1;

	if (!id_len || id_len > 20 || size > WRITE_RECORD_MAX)
		return;
	strbuf_add(b, &header, sizeof(header));
	strbuf_add(b, &pid, sizeof(pid));
	strbuf_add(b, id, id_len);
	strbuf_add(b, zeros, 20 - id_len);
	strbuf_add(b, &size_byte, 1);
	strbuf_add(b, zeros, 3);
	strbuf_add(b, path, name_len);
	strbuf_add(b, zeros, padding);
}

bool perfdata_write_build_id(struct perfdata_writer *w, bool kernel, const uint8_t *id, size_t id_len,
			     const char *path)
{
	put_build_id(&w->build_ids, kernel, id, id_len, path);
	return !w->build_ids.failed;
}

bool perfdata_write_build_id_now(struct perfdata_writer *w, bool kernel, const uint8_t *id, size_t id_len,
				 const char *path)
{
	_cleanup_(strbuf_deinit) struct strbuf record = { 0 };

	put_build_id(&record, kernel, id, id_len, path);
	if (record.failed)
		return false;
	if (w->opts.stream || w->failure.code || !record.len || (record.len > WRITE_BUFFER - w->len && !write_buffer(w)))
		return true;
	memcpy(w->buf + w->len, record.data, record.len);
	took_record(w, record.len);
	return true;
}

bool perfdata_write_runtimes(struct perfdata_writer *w, const void *bytes, size_t size)
{
	strbuf_add(&w->runtimes, bytes, size);
	return !w->runtimes.failed;
}

/* The kernel's attr without what this does not write. */
static int add_event(struct perfdata_writer *w, const struct perfdata_write_event *event, bool several,
		     struct err *err)
{
	struct write_event e = { .attr = *event->attr, .id = w->events.len + 1 };

	e.attr.size = sizeof(e.attr);
	e.attr.sample_type &= WRITTEN_FIELDS;
	e.attr.read_format &= ~(uint64_t)PERF_FORMAT_GROUP;
	if (e.attr.sample_type & PERF_SAMPLE_STACK_USER)
		e.attr.exclude_callchain_user = 1;
	if (several)
		e.attr.sample_type |= PERF_SAMPLE_IDENTIFIER;
	if (strlen(event->name) >= sizeof(e.name))
		return err_set(err, EINVAL, "the event's name is too long");
	strcpy(e.name, event->name);
	return vec_push(&w->events, e) ? 0 : err_oom(err);
}

static void writer_freep(struct perfdata_writer **w)
{
	perfdata_writer_free(*w);
}

int perfdata_write_begin(int fd, const struct perfdata_write_opts *opts, struct perfdata_writer **ret,
			 struct err *err)
{
	_cleanup_close_ int owned = fd;
	_cleanup_(writer_freep) struct perfdata_writer *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w)
		return err_oom(err);
	w->fd = steal_fd(&owned);
	w->opts = *opts;
	w->opts.events = NULL;
	w->buf = malloc(WRITE_BUFFER);
	if (!w->buf)
		return err_oom(err);
	if (!opts->num_events || opts->num_events > WRITE_EVENTS_MAX)
		return err_set(err, EINVAL, "%zu events cannot be written", opts->num_events);
	for (size_t i = 0; i < opts->num_events && r == 0; i++)
		r = add_event(w, &opts->events[i], opts->num_events > 1, err);
	if (r == 0)
		r = write_header(w, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(w);
	return 0;
}

int perfdata_write_end(struct perfdata_writer *w, struct err *err)
{
	perfdata_write_flush(w, true, NULL);
	if (!w->failure.code)
		write_features(w);
	/* A network file system may keep its refusal until now. */
	if (close(steal_fd(&w->fd)) < 0 && errno != EINTR)
		fail(w, errno);
	return w->failure.code ? err_set(err, w->failure.code, "%s", w->failure.msg) : 0;
}

void perfdata_writer_free(struct perfdata_writer *w)
{
	if (!w)
		return;
	closep(&w->fd);
	vec_deinit(&w->events);
	strbuf_deinit(&w->build_ids);
	strbuf_deinit(&w->runtimes);
	free(w->buf);
	free(w);
}

uint64_t perfdata_written(const struct perfdata_writer *w)
{
	return w->end;
}
