#include "collector/record_priv.h"

#include "base/reader.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>

/* Since Linux 6.8, include/uapi/linux/perf_event.h; older headers lack it. */
static const uint64_t BRANCH_COUNTERS = 1u << 19;

/* misc bits shared by several types, so that they are named here after what they say. */
static const uint16_t MISC_BIT_13 = 1u << 13; /* MMAP_DATA, COMM_EXEC, FORK_EXEC (of tools), SWITCH_OUT */
static const uint16_t MISC_BIT_14 = 1u << 14; /* SWITCH_OUT_PREEMPT, MMAP_BUILD_ID */

/* struct perf_branch_entry: from, to and a word of flags. */
enum { BRANCH_ENTRY_BYTES = 24 };

/* Fields that end every record but SAMPLE, in this order (kernel/events/core.c perf_event__output_id_sample). */
static const uint64_t trailer_fields[] = {
	PERF_SAMPLE_TID,       PERF_SAMPLE_TIME, PERF_SAMPLE_ID,
	PERF_SAMPLE_STREAM_ID, PERF_SAMPLE_CPU,  PERF_SAMPLE_IDENTIFIER,
};
enum { NUM_TRAILER_FIELDS = sizeof(trailer_fields) / sizeof(trailer_fields[0]) };

static size_t trailer_bytes(const struct record_format *format)
{
	size_t ret = 0;

	if (!format->sample_id_all)
		return 0;
	for (size_t i = 0; i < NUM_TRAILER_FIELDS; i++)
		ret += format->sample_type & trailer_fields[i] ? 8 : 0;
	return ret;
}

static size_t sample_time_offset(uint64_t sample_type)
{
	size_t ret = sizeof(struct perf_event_header);

	ret += sample_type & PERF_SAMPLE_IDENTIFIER ? 8 : 0;
	ret += sample_type & PERF_SAMPLE_IP ? 8 : 0;
	ret += sample_type & PERF_SAMPLE_TID ? 8 : 0;
	return ret;
}

size_t record_time_offset(const struct record_format *format, uint32_t raw_type, size_t size)
{
	size_t trailer, ret;

	if (!(format->sample_type & PERF_SAMPLE_TIME) || raw_type >= RECORD_FIRST_USER_TYPE)
		return 0;
	if (raw_type == PERF_RECORD_SAMPLE) {
		ret = sample_time_offset(format->sample_type);
		return ret + 8 <= size ? ret : 0;
	}
	trailer = trailer_bytes(format);
	if (!trailer || size < sizeof(struct perf_event_header) + trailer || size % 8)
		return 0;
	return size - trailer + (format->sample_type & PERF_SAMPLE_TID ? 8 : 0);
}

static pid_t read_pid(struct reader *r)
{
	return (pid_t)reader_u32(r);
}

/* Text that fills the rest of a record, padded with NULs; without one it is no text. */
static const char *read_text(struct reader *r, size_t *ret_len)
{
	size_t left = reader_left(r);
	const char *text = (const char *)r->pos;
	const char *end = left ? memchr(text, 0, left) : NULL;

	if (!end) {
		r->failed = true;
		return NULL;
	}
	reader_bytes(r, left);
	*ret_len = (size_t)(end - text);
	return text;
}

/* `count` elements of `size` bytes; fails without multiplying when they cannot be there. */
static const void *read_array(struct reader *r, uint64_t count, size_t size)
{
	if (count > reader_left(r) / size) {
		r->failed = true;
		return NULL;
	}
	return reader_bytes(r, (size_t)count * size);
}

/* struct read_format: of a group's values, nothing else of it is used. */
static void read_counts(struct reader *r, uint64_t read_format, struct record_sample *s)
{
	const void *group;

	size_t each = 8, times = 0;

	each += read_format & PERF_FORMAT_ID ? 8 : 0;
	each += read_format & PERF_FORMAT_LOST ? 8 : 0;
	times += read_format & PERF_FORMAT_TOTAL_TIME_ENABLED ? 8 : 0;
	times += read_format & PERF_FORMAT_TOTAL_TIME_RUNNING ? 8 : 0;
	if (read_format & PERF_FORMAT_GROUP) {
		uint64_t num = reader_u64(r);

		reader_bytes(r, times);
		group = read_array(r, num, each);
		if (group && read_format & PERF_FORMAT_ID) {
			s->group = group;
			s->num_group = (size_t)num;
			s->group_words = each / sizeof(uint64_t);
		}
	} else {
		reader_bytes(r, times + each);
	}
}

/* Its size word and bytes together are a multiple of 8; anything else would misalign what follows. */
static void skip_raw(struct reader *r)
{
	uint32_t size = reader_u32(r);

	if (size % 8 != 4)
		r->failed = true;
	reader_bytes(r, size);
}

static void skip_branches(struct reader *r, uint64_t branch_type)
{
	uint64_t num = reader_u64(r);

	if (branch_type & PERF_SAMPLE_BRANCH_HW_INDEX)
		reader_u64(r);
	read_array(r, num, BRANCH_ENTRY_BYTES);
	if (branch_type & BRANCH_COUNTERS)
		read_array(r, num, 8);
}

static void read_chain(struct reader *r, struct record_sample *s)
{
	uint64_t num = reader_u64(r);

	s->chain = read_array(r, num, sizeof(uint64_t));
	s->num_chain = s->chain ? (size_t)num : 0;
}

/* perf_output_sample_regs: without an abi there are no registers. */
static void read_regs(struct reader *r, uint64_t mask, struct record_sample *s)
{
	s->regs_abi = reader_u64(r);
	if (!s->regs_abi)
		return;
	s->num_regs = (size_t)__builtin_popcountll(mask);
	s->regs = read_array(r, s->num_regs, sizeof(uint64_t));
}

/* perf_output_sample_ustack: a size of 0 stands alone, without dyn_size. */
static void read_stack(struct reader *r, struct record_sample *s)
{
	uint64_t size = reader_u64(r), dyn_size;
	const uint8_t *bytes;

	if (!size)
		return;
	bytes = read_array(r, size, 1);
	dyn_size = reader_u64(r);
	if (r->failed || dyn_size > size) {
		r->failed = true;
		return;
	}
	s->stack_size = (size_t)size;
	s->stack_bytes = (size_t)dyn_size;
	s->stack = dyn_size ? bytes : NULL;
}

static enum record_mode mode_of(uint16_t misc)
{
	static const enum record_mode modes[PERF_RECORD_MISC_CPUMODE_MASK + 1] = {
		[PERF_RECORD_MISC_KERNEL] = MODE_KERNEL,
		[PERF_RECORD_MISC_USER] = MODE_USER,
		[PERF_RECORD_MISC_HYPERVISOR] = MODE_HYPERVISOR,
		[PERF_RECORD_MISC_GUEST_KERNEL] = MODE_GUEST_KERNEL,
		[PERF_RECORD_MISC_GUEST_USER] = MODE_GUEST_USER,
	};

	return modes[misc & PERF_RECORD_MISC_CPUMODE_MASK];
}

/* Words before the callchain, in the order of perf_output_sample. */
static void decode_sample_words(struct reader *r, uint64_t type, struct record *ret)
{
	if (type & PERF_SAMPLE_IDENTIFIER)
		ret->id = reader_u64(r);
	if (type & PERF_SAMPLE_IP)
		ret->sample.ip = reader_u64(r);
	if (type & PERF_SAMPLE_TID) {
		ret->pid = read_pid(r);
		ret->tid = read_pid(r);
	}
	if (type & PERF_SAMPLE_TIME)
		ret->time_ns = reader_u64(r);
	if (type & PERF_SAMPLE_ADDR)
		reader_u64(r);
	if (type & PERF_SAMPLE_ID)
		ret->id = reader_u64(r);
	if (type & PERF_SAMPLE_STREAM_ID)
		reader_u64(r);
	if (type & PERF_SAMPLE_CPU) {
		ret->cpu = reader_u32(r);
		reader_u32(r);
	}
	if (type & PERF_SAMPLE_PERIOD)
		ret->sample.period = reader_u64(r);
}

/* What comes after STACK_USER is not looked at. */
static void decode_sample(struct reader *r, const struct record_format *format, struct record *ret)
{
	uint64_t type = format->sample_type;

	ret->type = RECORD_SAMPLE;
	ret->sample.mode = mode_of(ret->misc);
	decode_sample_words(r, type, ret);
	if (type & PERF_SAMPLE_READ)
		read_counts(r, format->read_format, &ret->sample);
	if (type & PERF_SAMPLE_CALLCHAIN)
		read_chain(r, &ret->sample);
	if (type & PERF_SAMPLE_RAW)
		skip_raw(r);
	if (type & PERF_SAMPLE_BRANCH_STACK)
		skip_branches(r, format->branch_type);
	if (type & PERF_SAMPLE_REGS_USER)
		read_regs(r, format->regs_user, &ret->sample);
	if (type & PERF_SAMPLE_STACK_USER)
		read_stack(r, &ret->sample);
}

static void decode_trailer(struct reader *r, const struct record_format *format, struct record *ret)
{
	uint64_t type = format->sample_type;

	if (type & PERF_SAMPLE_TID) {
		ret->pid = read_pid(r);
		ret->tid = read_pid(r);
	}
	if (type & PERF_SAMPLE_TIME)
		ret->time_ns = reader_u64(r);
	if (type & PERF_SAMPLE_ID)
		ret->id = reader_u64(r);
	if (type & PERF_SAMPLE_STREAM_ID)
		reader_u64(r);
	if (type & PERF_SAMPLE_CPU) {
		ret->cpu = reader_u32(r);
		reader_u32(r);
	}
	if (type & PERF_SAMPLE_IDENTIFIER)
		ret->id = reader_u64(r);
}

/* 24 bytes that hold either device and inode, or a build-id (misc MMAP_BUILD_ID, Linux 5.12). */
static void decode_mmap_file(struct reader *r, struct record *ret)
{
	if (ret->misc & MISC_BIT_14) {
		size_t len = reader_u8(r);

		reader_bytes(r, 3);
		ret->mmap.build_id = reader_bytes(r, 20);
		ret->mmap.build_id_len = len;
		if (len > 20)
			r->failed = true;
		return;
	}
	ret->mmap.maj = reader_u32(r);
	ret->mmap.min = reader_u32(r);
	ret->mmap.ino = reader_u64(r);
	ret->mmap.ino_generation = reader_u64(r);
}

static void decode_mmap(struct reader *r, struct record *ret)
{
	uint64_t end;

	ret->type = RECORD_MMAP;
	ret->pid = read_pid(r);
	ret->tid = read_pid(r);
	ret->mmap.start = reader_u64(r);
	ret->mmap.len = reader_u64(r);
	ret->mmap.pgoff = reader_u64(r);
	ret->mmap.executable = !(ret->misc & MISC_BIT_13);
	if (ret->raw_type == PERF_RECORD_MMAP2) {
		decode_mmap_file(r, ret);
		ret->mmap.prot = reader_u32(r);
		ret->mmap.flags = reader_u32(r);
		ret->mmap.executable = ret->mmap.prot & PROT_EXEC;
	}
	ret->mmap.path = read_text(r, &ret->mmap.path_len);
	if (__builtin_add_overflow(ret->mmap.start, ret->mmap.len, &end))
		r->failed = true;
}

static void decode_comm(struct reader *r, struct record *ret)
{
	ret->type = RECORD_COMM;
	ret->pid = read_pid(r);
	ret->tid = read_pid(r);
	ret->comm.exec = ret->misc & MISC_BIT_13;
	ret->comm.comm = read_text(r, &ret->comm.len);
}

static void decode_task(struct reader *r, struct record *ret)
{
	uint64_t time_ns;

	ret->type = ret->raw_type == PERF_RECORD_FORK ? RECORD_FORK : RECORD_EXIT;
	ret->pid = read_pid(r);
	ret->task.ppid = read_pid(r);
	ret->tid = read_pid(r);
	ret->task.ptid = read_pid(r);
	/* perf sets it where the fork is one it made up (tools/perf/util/synthetic-events.c), the kernel never. */
	ret->task.found = ret->raw_type == PERF_RECORD_FORK && ret->misc & MISC_BIT_13;
	time_ns = reader_u64(r);
	if (!ret->time_ns)
		ret->time_ns = time_ns;
}

static void decode_lost(struct reader *r, struct record *ret)
{
	ret->type = RECORD_LOST;
	ret->lost.id = reader_u64(r);
	ret->lost.count = reader_u64(r);
}

static void decode_throttle(struct reader *r, struct record *ret)
{
	uint64_t time_ns = reader_u64(r), id = reader_u64(r);

	ret->type = ret->raw_type == PERF_RECORD_THROTTLE ? RECORD_THROTTLE : RECORD_UNTHROTTLE;
	if (!ret->time_ns)
		ret->time_ns = time_ns;
	if (!ret->id)
		ret->id = id;
}

static void decode_switch(struct reader *r, struct record *ret)
{
	ret->type = RECORD_SWITCH;
	ret->switching.out = ret->misc & MISC_BIT_13;
	ret->switching.preempt = ret->misc & MISC_BIT_14;
	ret->switching.other_pid = ret->switching.other_tid = -1;
	if (ret->raw_type == PERF_RECORD_SWITCH_CPU_WIDE) {
		ret->switching.other_pid = read_pid(r);
		ret->switching.other_tid = read_pid(r);
	}
}

static void decode_ksymbol(struct reader *r, struct record *ret)
{
	ret->type = RECORD_KSYMBOL;
	ret->ksymbol.start = reader_u64(r);
	ret->ksymbol.len = reader_u32(r);
	ret->ksymbol.type = reader_u16(r);
	ret->ksymbol.flags = reader_u16(r);
	ret->ksymbol.name = read_text(r, &ret->ksymbol.name_len);
}

/* LOST_SAMPLES is among the others: it tells again of losses that LOST or the event's counter told. */
static void decode_body(struct reader *r, struct record *ret)
{
	switch (ret->raw_type) {
	case PERF_RECORD_MMAP:
	case PERF_RECORD_MMAP2:
		decode_mmap(r, ret);
		return;
	case PERF_RECORD_COMM:
		decode_comm(r, ret);
		return;
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		decode_task(r, ret);
		return;
	case PERF_RECORD_LOST:
		decode_lost(r, ret);
		return;
	case PERF_RECORD_THROTTLE:
	case PERF_RECORD_UNTHROTTLE:
		decode_throttle(r, ret);
		return;
	case PERF_RECORD_SWITCH:
	case PERF_RECORD_SWITCH_CPU_WIDE:
		decode_switch(r, ret);
		return;
	case PERF_RECORD_KSYMBOL:
		decode_ksymbol(r, ret);
		return;
	default:
		return;
	}
}

/* The trailer lies at the end, and is read first: what the body says wins where both speak. */
static int decode_other(struct reader *r, const struct record_format *format, struct record *ret)
{
	size_t trailer = trailer_bytes(format);
	struct reader tail, body;

	if (reader_left(r) < trailer)
		return -EBADMSG;
	tail = reader_init(r->end - trailer, trailer);
	body = reader_init(r->pos, reader_left(r) - trailer);
	if (format->sample_id_all)
		decode_trailer(&tail, format, ret);
	decode_body(&body, ret);
	return tail.failed || body.failed ? -EBADMSG : 0;
}

int record_decode(const struct record_format *format, const void *bytes, size_t size,
		  struct record *ret)
{
	struct reader r = reader_init(bytes, size);
	uint16_t header_size;

	*ret = (struct record){ .type = RECORD_OTHER, .cpu = UINT32_MAX, .pid = -1, .tid = -1 };
	ret->raw_type = reader_u32(&r);
	ret->misc = reader_u16(&r);
	header_size = reader_u16(&r);
	if (r.failed || header_size != size || size % 8)
		return -EBADMSG;
	if (ret->raw_type >= RECORD_FIRST_USER_TYPE)
		return 0;
	if (ret->raw_type != PERF_RECORD_SAMPLE)
		return decode_other(&r, format, ret);
	decode_sample(&r, format, ret);
	return r.failed ? -EBADMSG : 0;
}

/* The run of addresses behind the first `marker`. Markers are the last 4095 values (PERF_CONTEXT_MAX). */
static size_t chain_part(const struct record_sample *s, uint64_t marker, const uint64_t **ret)
{
	size_t start = 0, end;

	while (start < s->num_chain && s->chain[start] != marker)
		start++;
	if (start == s->num_chain) {
		*ret = NULL;
		return 0;
	}
	start++;
	for (end = start; end < s->num_chain && s->chain[end] < PERF_CONTEXT_MAX; end++)
		;
	*ret = s->chain + start;
	return end - start;
}

size_t record_user_chain(const struct record_sample *s, const uint64_t **ret)
{
	if (s->user_chain) {
		*ret = s->user_chain;
		return s->num_user_chain;
	}
	return chain_part(s, PERF_CONTEXT_USER, ret);
}

/* The kernel puts it last (kernel/events/callchain.c, get_perf_callchain). */
bool record_deferred_chain(const struct record_sample *s, uint64_t *ret_cookie)
{
	static const uint64_t context_user_deferred = -640;

	if (s->num_chain < 2 || s->chain[s->num_chain - 2] != context_user_deferred)
		return false;
	*ret_cookie = s->chain[s->num_chain - 1];
	return true;
}

size_t record_kernel_chain(const struct record_sample *s, const uint64_t **ret)
{
	return chain_part(s, PERF_CONTEXT_KERNEL, ret);
}
