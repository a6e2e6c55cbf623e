/*
 * The first word is how records are laid out (sample_type, with sample_id_all in its top bit), the second the mask of
 * registers, the third read_format and branch_type; what follows is a stream of records.
 */
#include "collector/record_priv.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum; /* so that nothing of a record is left unread */

static void touch(const void *bytes, size_t len)
{
	for (size_t i = 0; bytes && i < len; i++)
		sum += ((const uint8_t *)bytes)[i];
}

static void touch_record(const struct record *rec)
{
	const uint64_t *chain;
	size_t num;

	if (rec->type == RECORD_SAMPLE) {
		touch(rec->sample.chain, rec->sample.num_chain * sizeof(uint64_t));
		touch(rec->sample.regs, rec->sample.num_regs * sizeof(uint64_t));
		touch(rec->sample.stack, rec->sample.stack_bytes);
		num = record_user_chain(&rec->sample, &chain);
		touch(chain, num * sizeof(uint64_t));
		num = record_kernel_chain(&rec->sample, &chain);
		touch(chain, num * sizeof(uint64_t));
	} else if (rec->type == RECORD_MMAP) {
		touch(rec->mmap.path, rec->mmap.path_len + 1);
		touch(rec->mmap.build_id, rec->mmap.build_id_len);
	} else if (rec->type == RECORD_COMM) {
		touch(rec->comm.comm, rec->comm.len + 1);
	}
}

/* A copy of exactly its size, so that a byte too far is found. */
static void decode_one(const struct record_format *format, const uint8_t *data, size_t size)
{
	struct perf_event_header header;
	struct record rec;
	uint64_t *copy = malloc(size);
	size_t at;

	if (!copy)
		return;
	memcpy(copy, data, size);
	memcpy(&header, data, sizeof(header));
	at = record_time_offset(format, header.type, size);
	if (at)
		touch((uint8_t *)copy + at, 8);
	if (record_decode(format, copy, size, &rec) == 0)
		touch_record(&rec);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record_format format = { 0 };
	uint64_t words[3];

	if (size < sizeof(words))
		return 0;
	memcpy(words, data, sizeof(words));
	format.sample_type = words[0] & ~(1ull << 63);
	format.sample_id_all = words[0] >> 63;
	format.regs_user = words[1];
	format.read_format = words[2] & 0xff;
	format.branch_type = words[2] >> 8;
	data += sizeof(words);
	size -= sizeof(words);
	while (size >= sizeof(struct perf_event_header)) {
		struct perf_event_header header;
		size_t len;

		memcpy(&header, data, sizeof(header));
		len = header.size < sizeof(header) || header.size > size ? size : header.size;
		decode_one(&format, data, len);
		data += len;
		size -= len;
	}
	return 0;
}
