/* /proc/PID/cgroup and lists of CPUs. The first byte is the size of what they are told in. */
#include <stdlib.h>
#include <string.h>

#include "target/proc_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[256];
	uint8_t bits[32];
	size_t room;
	int num;

	if (!size)
		return 0;
	room = data[0];
	memset(bits, 0xa5, sizeof(bits));
	if (!proc_cgroup_parse((const char *)data + 1, size - 1, path, room) &&
	    (path[0] != '/' && room > 1))
		abort();
	num = cpulist_parse((const char *)data + 1, size - 1, bits, room);
	if (num > (int)room || ((room + 7) / 8 < sizeof(bits) && bits[(room + 7) / 8] != 0xa5))
		abort();
	return 0;
}
