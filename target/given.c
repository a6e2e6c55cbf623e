#include "target/given.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As many as there are CPUs. */
enum { MAX_PARTS = 8192 };

int given_open(const char *path, int *ret_fd, struct err *err)
{
	int fd;

	if (!strcmp(path, "-"))
		fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	else
		fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open %s: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

struct fds {
	VEC(int) list;
};

static void fds_deinit(struct fds *fds)
{
	for (size_t i = 0; i < fds->list.len; i++)
		close(fds->list.data[i]);
	vec_deinit(&fds->list);
}

/* Takes the descriptor. */
static int fds_add(struct fds *fds, int fd, struct err *err)
{
	if (vec_push(&fds->list, fd))
		return 0;
	close(fd);
	return err_oom(err);
}

/* "data" and "data.0", "data.1", ... up to the first that is not there. */
static int open_parts(int dir, const char *path, struct fds *fds, struct err *err)
{
	int r = 0;

	for (int i = -1; r == 0 && i < MAX_PARTS; i++) {
		char name[32] = "data";
		int fd;

		if (i >= 0)
			snprintf(name, sizeof(name), "data.%d", i);
		fd = openat(dir, name, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT && i >= 0)
			return 0;
		if (fd < 0)
			return err_set(err, errno, "open %s/%s: %s", path, name, strerror(errno));
		r = fds_add(fds, fd, err);
	}
	return r;
}

int given_open_recording(const char *path, int **ret_fds, size_t *ret_num, struct err *err)
{
	_cleanup_(fds_deinit) struct fds fds = { 0 };
	struct stat st;
	int fd, r;

	r = given_open(path, &fd, err);
	if (r < 0)
		return r;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		_cleanup_close_ int dir = fd;

		r = open_parts(dir, path, &fds, err);
	} else {
		r = fds_add(&fds, fd, err);
	}
	if (r < 0)
		return r;
	*ret_num = fds.list.len;
	*ret_fds = steal_ptr(fds.list.data);
	fds.list.len = 0;
	return 0;
}

enum { COPY_BYTES = 256 << 10 };

/* All that comes, once it comes: a pipe may have been told not to wait. */
static int copy(int from, int to)
{
	_cleanup_free_ uint8_t *bytes = malloc(COPY_BYTES);
	int r = bytes ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = fd_read_some(from, bytes, COPY_BYTES);

		if (n <= 0)
			return (int)n;
		r = fd_write_all(to, bytes, (size_t)n);
	}
	return r;
}

int given_keep(int fd, const void *head, size_t len, int *ret_fd, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	_cleanup_close_ int file = -1;
	int r;

	if (!dir || !*dir)
		dir = "/var/tmp";
	/* O_EXCL: nobody can give it a name. */
	file = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	r = file < 0 ? -errno : fd_write_all(file, head, len);
	if (r == 0)
		r = copy(fd, file);
	if (r < 0)
		return err_set(err, -r,
			       "a perf.data file that comes through a pipe must be kept in %.100s while it is read: %s",
			       dir, strerror(-r));
	*ret_fd = steal_fd(&file);
	return 0;
}

int64_t given_written_ns(int fd)
{
	struct stat st;
	int64_t ns;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    __builtin_mul_overflow((int64_t)st.st_mtim.tv_sec, (int64_t)1000000000, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)st.st_mtim.tv_nsec, &ns))
		return INT64_MAX;
	return ns;
}
