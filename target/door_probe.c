#include "target/door_probe.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/door_priv.h"
#include "target/jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int door_probe_map_files(void)
{
	DIR *dir = opendir("/proc/self/map_files");
	struct dirent *entry;
	int r = -ENOENT;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		_cleanup_close_ int fd = -1;

		if (entry->d_name[0] == '.')
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		r = fd < 0 ? -errno : 0;
		break;
	}
	closedir(dir);
	return r;
}

int door_probe_unreadable(void)
{
	_cleanup_close_ int own = memfd_create("ringfold", MFD_CLOEXEC);
	_cleanup_close_ int again = -1;
	char path[64];

	if (own < 0)
		return -errno;
	if (fchmod(own, 0) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", own);
	again = open(path, O_RDONLY | O_CLOEXEC);
	return again < 0 ? -errno : 0;
}

int door_probe_openat2(const struct door *door)
{
	return door->have_openat2 ? 0 : -ENOSYS;
}

int door_probe_pidfd(void)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return fd < 0 ? -errno : 0;
}

int door_probe_jail(void)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid) {
		int r = jail_enter(0, NULL);

		_exit(r < 0 ? -r & 0x7f : 0);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

struct count {
	struct door *door;
	size_t all, denied;
};

static int count_process(void *data, pid_t pid)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct count *count = data;
	int r = door_read_proc(count->door, pid, "maps", 4096, &text, NULL, NULL);

	count->all += r != -ESRCH;
	count->denied += r == -EACCES || r == -EPERM;
	return 0;
}

int door_probe_processes(struct door *door, size_t *ret_all, size_t *ret_denied)
{
	struct count count = { .door = door };
	int r = door_each_task(door, 0, count_process, &count, NULL);

	*ret_all = count.all;
	*ret_denied = count.denied;
	return r;
}

bool door_probe_capability(int cap)
{
	cap_t caps = cap_get_proc();
	cap_flag_value_t value = CAP_CLEAR;
	bool has = caps && !cap_get_flag(caps, cap, CAP_EFFECTIVE, &value) && value == CAP_SET;

	if (caps)
		cap_free(caps);
	return has;
}
