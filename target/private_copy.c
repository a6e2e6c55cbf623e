#include "target/private_copy.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "target/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_BYTES = 256 << 10 };

int private_copy_dir(const char *dir, int *ret, bool *made, struct err *err)
{
	struct stat st, tmp;

	*made = mkdir(dir, 0777) == 0; /* less the umask; the copies are 0600 */
	if (!*made && errno == ENOENT)
		return err_set(err, errno, "make %s: %s", dir, strerror(errno));
	*ret = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0)
		return err_set(err, errno, "open %s: %s", dir, strerror(errno));
	if (fstat(*ret, &st) == 0 && stat("/tmp", &tmp) == 0 && st.st_dev == tmp.st_dev && st.st_ino == tmp.st_ino)
		return err_set(err, EINVAL, "not into /tmp, where others would take it for the map of a process "
					    "of this machine: -o DIR names another directory");
	return 0;
}

/* Only whole lines of a text that grows. */
static uint64_t whole_part(const char *chunk, uint64_t size, bool text)
{
	const char *last = text ? memrchr(chunk, '\n', size) : NULL;

	return text ? (last ? (uint64_t)(last - chunk) + 1 : 0) : size;
}

static int copy_bytes(int to, const struct door_file *file, bool text, struct err *err)
{
	_cleanup_free_ char *chunk = malloc(CHUNK_BYTES);
	uint64_t offset = 0;

	if (!chunk)
		return err_oom(err);
	while (offset < file->size) {
		uint64_t want = file->size - offset < CHUNK_BYTES ? file->size - offset : CHUNK_BYTES;
		int r = door_pread(file->fd, chunk, want, offset);

		if (r < 0)
			return err_set(err, -r, "read the map: %s", strerror(-r));
		if (offset + want == file->size)
			want = whole_part(chunk, want, text);
		r = fd_write_all(to, chunk, want);
		if (r < 0)
			return err_set(err, -r, "write the copy: %s", strerror(-r));
		offset += CHUNK_BYTES;
	}
	return 0;
}

int private_copy(int dir, const char *name, const struct door_file *file, bool text, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char tmp[64];
	int r;

	snprintf(tmp, sizeof(tmp), ".%.32s.%d", name, (int)getpid());
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, errno, "create %s: %s", name, strerror(errno));
	r = copy_bytes(fd, file, text, err);
	if (!r && (fsync(fd) < 0 || renameat(dir, tmp, dir, name) < 0))
		r = err_set(err, errno, "write %s: %s", name, strerror(errno));
	if (r < 0)
		unlinkat(dir, tmp, 0);
	return r;
}
