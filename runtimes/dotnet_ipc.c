#include "runtimes/dotnet_ipc.h"

#include "base/reader.h"
#include "base/writer.h"

#include <string.h>

static const char magic[14] = "DOTNET_IPC_V1";

enum {
	SET_EVENT_PIPE = 2,
	SET_PROCESS = 4,
	SET_SERVER = 0xff,
	COMMAND_STOP = 1,
	COMMAND_ENABLE_PERF_MAP = 5,
	COMMAND_DISABLE_PERF_MAP = 6,
	REPLY_OK = 0,
	REPLY_ERROR = 0xff,
	PERF_MAP_ONLY = 3, /* no jitdump */
	FORMAT_NETTRACE = 1,
	BUFFER_MB = 256, /* at most; it is not taken before it is needed, and what does not fit is lost */
	/*
	 * Keywords of the runtime's providers (ClrEtwAll.man): Loader 8 (modules), Jit 0x10, NGen 0x20 (precompiled).
	 */
	LIVE_KEYWORDS = 0x8 | 0x10,
	RUNDOWN_KEYWORDS = 0x8 | 0x10 | 0x20,
	ASSEMBLY_KEYWORDS = 0x8,
	LEVEL_VERBOSE = 5, /* below it methods are told without their names, but for dynamic ones */
};

/* A count of UTF-16 units with the NUL, and these. */
static void put_text(struct writer *m, const char *ascii)
{
	size_t len = strlen(ascii) + 1;

	writer_u32(m, (uint32_t)len);
	for (size_t i = 0; i < len; i++) {
		writer_u8(m, (uint8_t)ascii[i]);
		writer_u8(m, 0);
	}
}

static struct writer begin(uint8_t *bytes, uint8_t set, uint8_t command)
{
	struct writer m = writer_init(bytes, DOTNET_IPC_MAX_REQUEST);

	writer_add(&m, magic, sizeof(magic));
	writer_add(&m, "\0\0", 2); /* the size, see end() */
	writer_u8(&m, set);
	writer_u8(&m, command);
	writer_add(&m, "\0\0", 2);
	return m;
}

static size_t end(const struct writer *m)
{
	uint16_t size = (uint16_t)m->len;

	memcpy(m->start + sizeof(magic), &size, sizeof(size));
	return m->len;
}

size_t dotnet_ipc_collect(enum dotnet_collect version, enum dotnet_session_kind kind,
			  uint8_t ret[DOTNET_IPC_MAX_REQUEST])
{
	static const uint8_t commands[DOTNET_NUM_COLLECTS] = {
		[DOTNET_COLLECT_4] = 5, [DOTNET_COLLECT_2] = 3, [DOTNET_COLLECT_1] = 2
	};
	static const uint64_t listed[] = {
		[DOTNET_LIVE] = 0, [DOTNET_RUNDOWN] = RUNDOWN_KEYWORDS, [DOTNET_ASSEMBLIES] = ASSEMBLY_KEYWORDS
	};
	struct writer m = begin(ret, SET_EVENT_PIPE, commands[version]);

	writer_u32(&m, BUFFER_MB);
	writer_u32(&m, FORMAT_NETTRACE);
	if (version == DOTNET_COLLECT_4) {
		writer_u64(&m, listed[kind]);
		writer_u8(&m, 0); /* no stacks with the events */
	} else if (version == DOTNET_COLLECT_2) {
		writer_u8(&m, kind == DOTNET_RUNDOWN);
	}
	writer_u32(&m, 1); /* providers: one is the least */
	if (kind != DOTNET_RUNDOWN) {
		writer_u64(&m, kind == DOTNET_LIVE ? LIVE_KEYWORDS : ASSEMBLY_KEYWORDS);
		writer_u32(&m, LEVEL_VERBOSE);
		put_text(&m, "Microsoft-Windows-DotNETRuntime");
	} else {
		/* Enables nothing, and does not make the runtime start managed code for event sources. */
		writer_u64(&m, 0);
		writer_u32(&m, 0);
		put_text(&m, "Microsoft-Windows-DotNETRuntimeRundown");
	}
	writer_u32(&m, 0); /* no arguments */
	return end(&m);
}

size_t dotnet_ipc_stop(uint64_t session, uint8_t ret[DOTNET_IPC_MAX_REQUEST])
{
	struct writer m = begin(ret, SET_EVENT_PIPE, COMMAND_STOP);

	writer_u64(&m, session);
	return end(&m);
}

size_t dotnet_ipc_perf_map(bool on, uint8_t ret[DOTNET_IPC_MAX_REQUEST])
{
	struct writer m = begin(ret, SET_PROCESS, on ? COMMAND_ENABLE_PERF_MAP : COMMAND_DISABLE_PERF_MAP);

	if (on)
		writer_u32(&m, PERF_MAP_ONLY);
	return end(&m);
}

struct dotnet_reply dotnet_ipc_reply(const void *bytes, size_t size)
{
	struct reader r = reader_init(bytes, size);
	struct dotnet_reply reply = { .kind = DOTNET_REPLY_MORE };
	const struct dotnet_reply bad = { .kind = DOTNET_REPLY_BAD };
	size_t whole;
	uint8_t set, kind;

	if (memcmp(r.pos, magic, size < sizeof(magic) ? size : sizeof(magic)) != 0)
		return bad;
	if (size < DOTNET_IPC_HEADER)
		return reply;
	reader_bytes(&r, sizeof(magic));
	whole = reader_u16(&r);
	set = reader_u8(&r);
	kind = reader_u8(&r);
	reader_u16(&r);
	if (whole < DOTNET_IPC_HEADER || whole > DOTNET_IPC_MAX_REPLY || set != SET_SERVER ||
	    (kind != REPLY_OK && kind != REPLY_ERROR))
		return bad;
	if (size < whole)
		return reply;
	reply.bytes = whole;
	reply.kind = kind == REPLY_OK ? DOTNET_REPLY_OK : DOTNET_REPLY_ERROR;
	if (kind == REPLY_ERROR) {
		reply.code = whole >= DOTNET_IPC_HEADER + 4 ? reader_u32(&r) : 0;
		return reply;
	}
	reply.session = whole >= DOTNET_IPC_HEADER + 8 ? reader_u64(&r) : 0;
	return reply;
}
