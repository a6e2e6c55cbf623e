/* /proc/PID/status, /proc/PID/stat and /proc/PID/uid_map: each parser sees every input. */
#include "target/proc_text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct proc_status status;
	uint64_t ticks;
	uid_t uid;

	if (!proc_status_parse(text, size, &status) &&
	    (status.tgid <= 0 || status.nspid <= 0 || status.ppid < 0 ||
	     strnlen(status.name, sizeof(status.name)) == sizeof(status.name)))
		abort();
	proc_stat_start_time(text, size, &ticks);
	proc_uidmap_root(text, size, &uid);
	return 0;
}
