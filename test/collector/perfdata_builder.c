#include "perfdata_builder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

void bytes_add(struct bytes *b, const void *data, size_t len)
{
	need(vec_reserve(&b->v, b->v.len + len), "memory");
	if (len)
		memcpy(b->v.data + b->v.len, data, len);
	b->v.len += len;
}

void bytes_u16(struct bytes *b, uint16_t value)
{
	bytes_add(b, &value, sizeof(value));
}

void bytes_u32(struct bytes *b, uint32_t value)
{
	bytes_add(b, &value, sizeof(value));
}

void bytes_u64(struct bytes *b, uint64_t value)
{
	bytes_add(b, &value, sizeof(value));
}

void bytes_set_u64(struct bytes *b, size_t at, uint64_t value)
{
	memcpy(b->v.data + at, &value, sizeof(value));
}

void bytes_pad(struct bytes *b, size_t multiple)
{
	static const uint8_t zeros[64];

	if (b->v.len % multiple)
		bytes_add(b, zeros, multiple - b->v.len % multiple);
}

void bytes_deinit(struct bytes *b)
{
	vec_deinit(&b->v);
}

struct perf_event_attr plain_attr(uint64_t sample_type, uint64_t regs, uint32_t stack)
{
	return (struct perf_event_attr){
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(struct perf_event_attr),
		.sample_type = sample_type,
		.sample_regs_user = regs,
		.sample_stack_user = stack,
		.sample_freq = 99,
		.freq = 1,
		.sample_id_all = 1,
	};
}

void build_file(struct bytes *out, const struct built_event *events, size_t num_events,
		const struct bytes *records, const struct feature *features, size_t num_features)
{
	size_t attrs, data, table, at;

	out->v.len = 0;
	bytes_add(out, "PERFILE2", 8);
	bytes_u64(out, FILE_HEADER_BYTES);
	bytes_u64(out, sizeof(struct perf_event_attr) + 16);
	while (out->v.len < FILE_HEADER_BYTES)
		bytes_u64(out, 0);
	for (size_t i = 0; i < num_events; i++) {
		for (size_t k = 0; k < events[i].num_ids; k++)
			bytes_u64(out, events[i].first_id + k);
	}
	attrs = out->v.len;
	at = FILE_HEADER_BYTES;
	for (size_t i = 0; i < num_events; i++) {
		bytes_add(out, &events[i].attr, sizeof(events[i].attr));
		bytes_u64(out, at);
		bytes_u64(out, events[i].num_ids * 8);
		at += events[i].num_ids * 8;
	}
	data = out->v.len;
	bytes_add(out, records->v.data, records->v.len);
	table = out->v.len;
	for (size_t i = 0; i < num_features; i++) {
		bytes_u64(out, 0);
		bytes_u64(out, features[i].bytes.v.len);
		out->v.data[AT_FEATURES + features[i].bit / 8] |=
			(uint8_t)(1u << features[i].bit % 8);
	}
	for (size_t i = 0; i < num_features; i++) {
		bytes_set_u64(out, table + i * 16, out->v.len);
		bytes_add(out, features[i].bytes.v.data, features[i].bytes.v.len);
	}
	bytes_set_u64(out, AT_ATTRS_OFFSET, attrs);
	bytes_set_u64(out, AT_ATTRS_SIZE, data - attrs);
	bytes_set_u64(out, AT_DATA_OFFSET, data);
	bytes_set_u64(out, AT_DATA_SIZE, records->v.len);
}

void feature_string(struct bytes *out, const char *str)
{
	size_t len = (strlen(str) + 1 + 63) / 64 * 64, begin;

	bytes_u32(out, (uint32_t)len);
	begin = out->v.len;
	bytes_add(out, str, strlen(str));
	while (out->v.len < begin + len)
		bytes_add(out, "", 1);
}

size_t record_begin(struct bytes *b, uint32_t type, uint16_t misc)
{
	size_t begin = b->v.len;

	bytes_u32(b, type);
	bytes_u16(b, misc);
	bytes_u16(b, 0);
	return begin;
}

void record_end(struct bytes *b, size_t begin)
{
	uint16_t size = (uint16_t)(b->v.len - begin);

	memcpy(b->v.data + begin + 6, &size, sizeof(size));
}

static void add_tid(struct bytes *b, const struct built_sample *s)
{
	bytes_u32(b, s->pid);
	bytes_u32(b, s->tid);
}

static void add_stack(struct bytes *b, const struct built_sample *s)
{
	size_t begin;

	bytes_u64(b, s->stack_size);
	if (!s->stack_size)
		return;
	begin = b->v.len;
	bytes_add(b, s->stack, s->stack_bytes);
	while (b->v.len < begin + s->stack_size)
		bytes_add(b, "\xa5", 1); /* what the kernel leaves in the rest is stale */
	bytes_u64(b, s->stack_bytes);
}

void add_sample(struct bytes *b, uint64_t type, const struct built_sample *s)
{
	size_t begin = record_begin(b, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);

	if (type & PERF_SAMPLE_IDENTIFIER)
		bytes_u64(b, s->id);
	if (type & PERF_SAMPLE_IP)
		bytes_u64(b, s->ip);
	if (type & PERF_SAMPLE_TID)
		add_tid(b, s);
	if (type & PERF_SAMPLE_TIME)
		bytes_u64(b, s->time_ns);
	if (type & PERF_SAMPLE_CPU)
		bytes_u64(b, s->cpu);
	if (type & PERF_SAMPLE_CALLCHAIN) {
		bytes_u64(b, s->num_chain);
		bytes_add(b, s->chain, s->num_chain * 8);
	}
	if (type & PERF_SAMPLE_REGS_USER) {
		bytes_u64(b, s->regs ? PERF_SAMPLE_REGS_ABI_64 : 0);
		bytes_add(b, s->regs, s->regs ? s->num_regs * 8 : 0);
	}
	if (type & PERF_SAMPLE_STACK_USER)
		add_stack(b, s);
	record_end(b, begin);
}

void add_trailer(struct bytes *b, uint64_t type, const struct built_sample *s)
{
	if (type & PERF_SAMPLE_TID)
		add_tid(b, s);
	if (type & PERF_SAMPLE_TIME)
		bytes_u64(b, s->time_ns);
	if (type & PERF_SAMPLE_CPU)
		bytes_u64(b, s->cpu);
	if (type & PERF_SAMPLE_IDENTIFIER)
		bytes_u64(b, s->id);
}

void add_comm(struct bytes *b, uint64_t type, const struct built_sample *s, const char *comm)
{
	size_t begin = record_begin(b, PERF_RECORD_COMM, 0);

	add_tid(b, s);
	bytes_add(b, comm, strlen(comm) + 1);
	bytes_pad(b, 8);
	add_trailer(b, type, s);
	record_end(b, begin);
}

int bytes_file(const struct bytes *b)
{
	int fd = memfd_create("perf.data", MFD_CLOEXEC);

	need(fd >= 0, "memfd_create");
	need(write(fd, b->v.data, b->v.len) == (ssize_t)b->v.len, "write");
	return fd;
}

int bytes_pipe(const struct bytes *b)
{
	int fds[2];

	need(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
	need(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) >= 0, "F_SETPIPE_SZ");
	need(write(fds[1], b->v.data, b->v.len) == (ssize_t)b->v.len, "write to a pipe");
	close(fds[1]);
	return fds[0];
}
