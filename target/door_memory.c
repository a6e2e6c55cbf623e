/* The way to a target's memory. Nothing of it is read here: memory.c has a helper for that. */
#include "target/door.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/broker_priv.h"
#include "target/door_priv.h"
#include "target/proc_text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int door_start_time(int process, uint64_t *ret_ns)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t ticks;
	int r = door_read_at(process, "stat", 65536, &text, NULL);

	if (!r)
		r = proc_stat_start_time(text.data, text.len, &ticks);
	if (r < 0)
		return r;
	if (!hz || ticks / hz > INT64_MAX / 1000000000 / 4)
		return -EBADMSG;
	/* Ticks since boot on CLOCK_BOOTTIME (fs/proc/array.c do_task_stat). */
	*ret_ns = ticks / hz * 1000000000 + ticks % hz * 1000000000 / hz;
	return 0;
}

int door_open_memory(struct door *door, pid_t pid, uint64_t *ret_start_ns, struct err *err)
{
	_cleanup_close_ int process = -1, fd = -1;
	int r;

	if (door->broker)
		return broker_open_memory(door->broker, pid, ret_start_ns, err);
	process = door_process(door, pid);
	fd = process < 0 ? process : openat(process, "mem", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_set(err, process < 0 ? -process : errno == ENOENT ? ESRCH : errno,
			       "open the memory of process %d: %s", pid, strerror(process < 0 ? -process : errno));
	/* After it was opened, through the same directory: it is of that very process. */
	r = door_start_time(process, ret_start_ns);
	if (r < 0)
		return err_set(err, -r, "read when process %d started: %s", pid, strerror(-r));
	return steal_fd(&fd);
}
