/* An answer of a runtime, whole and cut: what it tells never goes beyond the bytes that came. */
#include "runtimes/dotnet_ipc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dotnet_reply whole = dotnet_ipc_reply(data, size);

	if ((whole.kind == DOTNET_REPLY_OK || whole.kind == DOTNET_REPLY_ERROR) &&
	    (whole.bytes > size || whole.bytes < DOTNET_IPC_HEADER || whole.bytes > DOTNET_IPC_MAX_REPLY))
		abort();
	for (size_t cut = 0; cut < size && cut < 64; cut++) {
		struct dotnet_reply part = dotnet_ipc_reply(data, cut);

		/* More bytes never take back what was an answer. */
		if (part.kind == DOTNET_REPLY_OK && (whole.kind != DOTNET_REPLY_OK || whole.session != part.session))
			abort();
	}
	return 0;
}
