/* A perf.data file, which is also read as a stream and as a part of a directory. */
#include "collector/perfdata.h"

#include "base/err.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIPE_MAX = 1 << 20 };

static uint64_t sum; /* so that nothing of a record is left unread */

static void touch(const void *bytes, size_t len)
{
	for (size_t i = 0; bytes && i < len; i++)
		sum += ((const uint8_t *)bytes)[i];
}

static void take_record(void *data, const struct record *rec, size_t event)
{
	const struct perfdata_info *info = perfdata_info(data);

	touch(info->events[event].name, strlen(info->events[event].name));
	if (rec->type == RECORD_SAMPLE) {
		touch(rec->sample.chain, rec->sample.num_chain * sizeof(uint64_t));
		touch(rec->sample.regs, rec->sample.num_regs * sizeof(uint64_t));
		touch(rec->sample.stack, rec->sample.stack_bytes);
	} else if (rec->type == RECORD_MMAP) {
		touch(rec->mmap.path, rec->mmap.path_len + 1);
		touch(rec->mmap.build_id, rec->mmap.build_id_len);
	} else if (rec->type == RECORD_COMM) {
		touch(rec->comm.comm, rec->comm.len + 1);
	}
}

static void take_build_id(void *data, const struct perfdata_build_id *id)
{
	touch(id->id, id->id_len);
	touch(id->path, strlen(id->path) + 1);
}

static int file_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("perf.data", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	return fd;
}

static int pipe_of(const uint8_t *data, size_t size)
{
	int fds[2];

	if (size > PIPE_MAX)
		size = PIPE_MAX;
	if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[1], F_SETPIPE_SZ, PIPE_MAX) < 0 ||
	    write(fds[1], data, size) != (ssize_t)size)
		abort();
	close(fds[1]);
	return fds[0];
}

static void run(int fd, int part_fd)
{
	struct perfdata *in[2] = { NULL };
	struct perfdata_sink sink = { .record = take_record, .build_id = take_build_id };
	struct err err = { 0 };
	size_t num = 1;

	if (perfdata_open(fd, &in[0], &err) < 0) {
		if (part_fd >= 0)
			close(part_fd);
		return;
	}
	if (part_fd >= 0 && perfdata_open_part(part_fd, in[0], 1, &in[1], &err) == 0)
		num = 2;
	sink.data = in[0];
	if (perfdata_run(in, num, &sink, &err) < 0 && !err.msg[0])
		abort(); /* an error says what it is */
	perfdata_close(in[1]);
	perfdata_close(in[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(file_of(data, size), -1);
	run(pipe_of(data, size), -1);
	if (size > 512)
		run(file_of(data, size), file_of(data + 512, size - 512));
	return 0;
}
