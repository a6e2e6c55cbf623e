/*
 * What the parser is told and asked, whoever does it: requests of a u8 kind within its folder, a u16 length and a body. A
 * request with the highest bit of its kind set comes with a descriptor, of what follows it.
 */
#include "base/worker.h"
#include "symbols/elf_serve.h"
#include "symbols/elf_wire.h"
#include "unwinder/rules_serve.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_REQUESTS = 32 };

static bool take_any(void *data, struct reader *r)
{
	reader_bytes(r, reader_left(r));
	return true;
}

static int descriptor_of(const struct reader *r)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, r->pos, reader_left(r)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_serve *files = elf_serve_new(3);
	const struct worker_services services[] = { { elf_services, files }, { rules_services, files }, { 0 } };
	const struct worker_server server = { .services = services };
	struct reader r = reader_init(data, size);

	for (int i = 0; files && i < MAX_REQUESTS && reader_left(&r); i++) {
		uint8_t what = reader_u8(&r);
		size_t len = reader_u16(&r);
		const void *body;
		uint16_t kind;
		int result = 0;

		if (len > reader_left(&r))
			len = reader_left(&r);
		body = reader_bytes(&r, len);
		if (r.failed)
			break;
		kind = (what & 15) == 15 ? RULES_ASK : (what & 15) == 14 ? RULES_JIT : WORKER_KIND(WORKER_SYMBOLS, what & 15);
		if (kind == ELF_TELL_NICE)
			continue; /* of the fuzzer itself */
		worker_serve_one(&server, kind, body, len, what & 128 ? descriptor_of(&r) : -1, take_any, NULL,
				 &result);
	}
	if (files)
		elf_serve_rest(files);
	elf_serve_free(files);
	return 0;
}
