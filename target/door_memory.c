/* A target's memory. Nothing of it is kept or looked at here. */
#include "target/door.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "target/broker_priv.h"
#include "target/door_priv.h"

int door_touch(struct door *door, pid_t pid, uint64_t addr)
{
	char bytes[DOOR_TOUCH_PAGES], text[32];
	struct iovec local = { bytes, sizeof(bytes) }, remote[DOOR_TOUCH_PAGES];
	const uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t touched;
	ssize_t n;

	if (pid <= 0 || addr % page_bytes || addr > INT64_MAX - DOOR_TOUCH_PAGES * page_bytes)
		return -EINVAL;
	if (door->broker) {
		snprintf(text, sizeof(text), "%" PRIx64, addr);
		n = broker_number(door->broker, BROKER_TOUCH, pid, text, -1, &touched, NULL);
		return n < 0 ? (int)n : (int)touched;
	}
	for (size_t i = 0; i < DOOR_TOUCH_PAGES; i++)
		remote[i] = (struct iovec){ (void *)(uintptr_t)(addr + i * page_bytes), 1 };
	/* Unlike /proc/PID/mem this leaves guard pages alone. */
	n = process_vm_readv(pid, &local, 1, remote, DOOR_TOUCH_PAGES, 0);
	if (n < 0)
		return errno == EFAULT ? 0 : -errno;
	return (int)n;
}
