/* Paths of cgroups and names of container logs. */
#include "target/container.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check_level(const char *path, const struct container_level *level, size_t before)
{
	if (!level->runtime || !level->id[0] || strlen(level->id) >= sizeof(level->id) ||
	    strlen(level->pod_uid) >= sizeof(level->pod_uid))
		abort();
	/* Each lies below the one before, and ends where a component ends. */
	if (level->path_len <= before || level->path_len > strlen(path) ||
	    (path[level->path_len] && path[level->path_len] != '/'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct container_path path;
	struct container_log log;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	container_path_parse(text, &path);
	if (path.num > CONTAINER_MAX_LEVELS)
		abort();
	for (size_t i = 0; i < path.num; i++)
		check_level(text, &path.levels[i], i ? path.levels[i - 1].path_len : 0);
	if (!container_log_parse(text, &log) &&
	    (!log.pod[0] || !log.namespace[0] || !log.container[0] || strlen(log.id) != 64 ||
	     strlen(text) !=
		     strlen(log.pod) + strlen(log.namespace) + strlen(log.container) + 64 + 7))
		abort();
	free(text);
	return 0;
}
