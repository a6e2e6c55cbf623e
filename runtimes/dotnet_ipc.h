/*
 * Requests to a .NET runtime's diagnostics server, and its answers: bytes in, bytes out (dotnet/diagnostics
 * documentation/design-docs/ipc-protocol.md; dotnet/runtime src/native/eventpipe/ds-protocol.c, ds-eventpipe-protocol.c,
 * ds-process-protocol.c). The socket is somebody else's (target/diagnostics.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DOTNET_IPC_MAX_REQUEST = 256 }; /* bytes */

/*
 * What each generation of runtimes knows, the newest first. Only the newest can be told what to list of the code that is
 * there when a session ends; the next, whether to; the oldest (.NET Core 3.0) always lists it.
 */
enum dotnet_collect {
	DOTNET_COLLECT_4, /* command 5: .NET 9 */
	DOTNET_COLLECT_2, /* command 3: .NET 5 */
	DOTNET_COLLECT_1, /* command 2: .NET Core 3.0 */
	DOTNET_NUM_COLLECTS,
};

enum dotnet_session_kind {
	DOTNET_LIVE,    /* what comes and goes from now on */
	DOTNET_RUNDOWN, /* what is there when it is stopped */
	DOTNET_ASSEMBLIES, /* both, of assemblies alone; DOTNET_COLLECT_4 */
};

/* A request to open a session; its size. */
size_t dotnet_ipc_collect(enum dotnet_collect version, enum dotnet_session_kind kind,
			  uint8_t ret[DOTNET_IPC_MAX_REQUEST]);
size_t dotnet_ipc_stop(uint64_t session, uint8_t ret[DOTNET_IPC_MAX_REQUEST]);
/* The runtime's own perf map (.NET 8): on, or off. */
size_t dotnet_ipc_perf_map(bool on, uint8_t ret[DOTNET_IPC_MAX_REQUEST]);

enum { DOTNET_IPC_HEADER = 20, DOTNET_IPC_MAX_REPLY = 4096 }; /* bytes; longer replies are refused */

enum dotnet_reply_kind {
	DOTNET_REPLY_MORE,  /* not whole yet */
	DOTNET_REPLY_OK,
	DOTNET_REPLY_ERROR, /* `code` */
	DOTNET_REPLY_BAD,   /* no reply of this protocol */
};
struct dotnet_reply {
	enum dotnet_reply_kind kind;
	size_t bytes;     /* of the reply; what follows it is the stream. DOTNET_REPLY_OK and _ERROR */
	uint32_t code;    /* an HRESULT */
	uint64_t session; /* of a request to open one; 0 when none is told */
};
struct dotnet_reply dotnet_ipc_reply(const void *bytes, size_t size);

enum {
	DOTNET_UNKNOWN_COMMAND = 0x80131385, /* CORDIAGIPC_E_UNKNOWN_COMMAND */
	DOTNET_BAD_ENCODING = 0x80131384,
};
