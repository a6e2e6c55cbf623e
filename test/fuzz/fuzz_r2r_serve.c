/*
 * What the parser is told and asked of precompiled .NET code: u16 length of the requests, those as u8 kind, u16 length and
 * a body, and then the file that all of them come with.
 */
#include "base/worker.h"
#include "runtimes/r2r_serve.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_REQUESTS = 16 };

static bool take_any(void *data, struct reader *r)
{
	reader_bytes(r, reader_left(r));
	return true;
}

static int descriptor_of(const void *bytes, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, bytes, size) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct r2r_serve *r2r = r2r_serve_new();
	const struct worker_services services[] = { { r2r_services, r2r }, { 0 } };
	const struct worker_server server = { .services = services };
	struct reader all = reader_init(data, size), r;
	size_t len = reader_u16(&all);
	const void *requests, *file;

	len = len < reader_left(&all) ? len : reader_left(&all);
	requests = reader_bytes(&all, len);
	r = reader_init(requests, len);
	size = reader_left(&all);
	file = reader_bytes(&all, size);
	for (int i = 0; r2r && !all.failed && i < MAX_REQUESTS && reader_left(&r); i++) {
		uint16_t kind = WORKER_KIND(WORKER_RUNTIMES, reader_u8(&r) & 15);
		const void *body;
		int result = 0;

		len = reader_u16(&r);
		len = len < reader_left(&r) ? len : reader_left(&r);
		body = reader_bytes(&r, len);
		if (r.failed)
			break;
		worker_serve_one(&server, kind, body, len, kind == R2R_TELL_FILE ? descriptor_of(file, size) : -1, take_any,
				 NULL, &result);
	}
	r2r_serve_free(r2r);
	return 0;
}
