/* For a static binary: it cannot load libdebuginfod, and carries no HTTP of its own. */
#include "target/debuginfod.h"

#include <errno.h>
#include <stdlib.h>

struct debuginfod *debuginfod_new(const char **why)
{
	const char *urls = getenv("DEBUGINFOD_URLS");

	*why = urls && urls[0] ? "DEBUGINFOD_URLS is set, but a static ringfold cannot fetch files" : NULL;
	return NULL;
}

void debuginfod_free(struct debuginfod *d)
{
}

int debuginfod_find(struct debuginfod *d, enum debuginfod_kind kind, const uint8_t *id, size_t id_len)
{
	return -ENOENT;
}
