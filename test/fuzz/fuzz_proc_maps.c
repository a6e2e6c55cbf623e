/* /proc/PID/maps. */
#include "target/proc_text.h"

#include <stdlib.h>
#include <string.h>

static int check_map(void *data, const struct proc_map *map)
{
	if (map->start >= map->end || strnlen(map->path, sizeof(map->path)) == sizeof(map->path))
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t bad;

	proc_maps_parse((const char *)data, size, check_map, NULL, &bad);
	if (bad > size + 1)
		abort();
	return 0;
}
