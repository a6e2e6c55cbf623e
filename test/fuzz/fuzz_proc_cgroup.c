/* /proc/PID/cgroup, cgroup mounts and lists of CPUs. The first byte is the size of what CPUs are told in. */
#include "target/proc_text.h"

#include <stdlib.h>
#include <string.h>

static int check_line(void *data, const struct proc_cgroup *line)
{
	if (line->path[0] != '/' || strlen(line->controllers) >= sizeof(line->controllers) ||
	    strlen(line->path) >= sizeof(line->path) || (line->unified && line->controllers[0]))
		abort();
	return 0;
}

static int check_mount(void *data, const struct proc_cgroup_mount *mount)
{
	if (!mount->root[0] || !mount->point[0] || strlen(mount->options) >= sizeof(mount->options))
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t bits[32];
	size_t room;
	int num;

	if (!size)
		return 0;
	room = data[0];
	memset(bits, 0xa5, sizeof(bits));
	proc_cgroup_each((const char *)data + 1, size - 1, check_line, NULL);
	proc_cgroup_mounts((const char *)data + 1, size - 1, check_mount, NULL);
	num = cpulist_parse((const char *)data + 1, size - 1, bits, room);
	if (num > (int)room || ((room + 7) / 8 < sizeof(bits) && bits[(room + 7) / 8] != 0xa5))
		abort();
	return 0;
}
