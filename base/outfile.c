#include "base/outfile.h"

#include "base/cleanup.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_NAMES = 16, BUFFER_BYTES = 64 << 10 };

struct outfile {
	FILE *stream; /* cookie stream that writes to fd */
	char *buffer; /* the stream's */
	int fd;
	int write_errno; /* of the first write that failed; 0 = none */
	char *path;      /* for messages and, unless `direct`, where to rename to */
	char *tmp;       /* NULL when nothing is to be renamed or removed */
	bool nameless;   /* the file has no name yet: nothing is left of it however we end */
	bool borrowed;   /* fd is stdout */
	bool no_sync;
	bool exclusive;
	const struct outfile_opener *opener; /* who renames; NULL: we */
	int64_t handle;  /* of it; -1: it is done with */
};

/* stdio forgets why an earlier write failed, so the stream's own write remembers it. */
static ssize_t stream_write(void *cookie, const char *bytes, size_t len)
{
	struct outfile *f = cookie;
	size_t done = 0;

	while (done < len && !f->write_errno) {
		ssize_t n = write(f->fd, bytes + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			f->write_errno = n < 0 ? errno : EIO;
		else
			done += (size_t)n;
	}
	if (f->write_errno)
		errno = f->write_errno;
	return (ssize_t)done; /* less than len is an error to stdio */
}

static void outfile_free(struct outfile *f)
{
	int saved = errno;

	if (!f)
		return;
	if (f->stream)
		fclose(f->stream);
	free(f->buffer);
	if (f->tmp)
		unlink(f->tmp);
	if (f->opener && f->handle >= 0)
		f->opener->abort(f->opener->data, f->handle, f->path, f->fd);
	if (!f->borrowed && f->fd >= 0)
		close(f->fd);
	free(f->tmp);
	free(f->path);
	free(f);
	errno = saved;
}

void outfile_abort(struct outfile *f)
{
	/* What is still buffered must not reach a pipe or a terminal. */
	if (f && !f->write_errno)
		f->write_errno = ECANCELED;
	outfile_free(f);
}

void outfile_abortp(struct outfile **f)
{
	outfile_abort(*f);
	*f = NULL;
}

static int fail(struct err *err, int code, const char *path, const char *what)
{
	return err_set(err, code, "%s %s: %s", what, path, strerror(code));
}

/*
 * The descriptor that a path stands for; -1 = none. It means that of whoever opens the path, so another process could not,
 * and to replace such a name would be to replace the system's own link.
 */
static int own_descriptor(const char *path)
{
	static const char *const names[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" };
	static const char *const dirs[] = { "/dev/fd/", "/proc/self/fd/" };
	const char *number = NULL;

	for (int i = 0; i < 3; i++) {
		if (!strcmp(path, names[i]))
			return i;
	}
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (!strncmp(path, dirs[i], strlen(dirs[i])))
			number = path + strlen(dirs[i]);
	}
	if (!number || !*number || strlen(number) > 7 || number[strspn(number, "0123456789")])
		return -1;
	return atoi(number);
}

static int copy_descriptor(const char *path, int fd, int *ret, struct err *err)
{
	if (fd == STDOUT_FILENO)
		fflush(stdout); /* what others printed comes first */
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? fail(err, errno, path, "cannot open") : 0;
}

static int stream_seek(void *cookie, off64_t *offset, int whence)
{
	off64_t at = lseek64(((struct outfile *)cookie)->fd, *offset, whence);

	if (at < 0)
		return -1;
	*offset = at;
	return 0;
}

static int open_stream(struct outfile *f, struct err *err)
{
	static const cookie_io_functions_t functions = { .write = stream_write, .seek = stream_seek };

	f->stream = fopencookie(f, "w", functions);
	f->buffer = malloc(BUFFER_BYTES);
	if (!f->stream || !f->buffer)
		return err_oom(err);
	setvbuf(f->stream, f->buffer, _IOFBF, BUFFER_BYTES);
	return 0;
}

/* ".NAME.XXXXXX" beside path: the same directory is the same file system, so rename is atomic. */
static char *temporary_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *ret;

	/* NAME_MAX is 255; two dots and six letters are ours. */
	if (asprintf(&ret, "%.*s.%.200s.XXXXXX", (int)(name - path), path, name) < 0)
		return NULL;
	return ret;
}

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

/* False where the file system or the kernel cannot, or /proc is missing, by which it gets its name later. */
static bool open_nameless(struct outfile *f)
{
	_cleanup_free_ char *dir = directory_of(f->path);
	char link[32];

	if (!dir)
		return false;
	f->fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", f->fd);
	f->nameless = f->fd >= 0 && access(link, F_OK) == 0;
	if (f->fd >= 0 && !f->nameless)
		close(steal_fd(&f->fd));
	return f->nameless;
}

static int open_temporary(struct outfile *f, struct err *err)
{
	_cleanup_free_ char *tmp = NULL;

	if (open_nameless(f))
		return 0;
	tmp = temporary_name(f->path);
	if (!tmp)
		return err_oom(err);
	f->fd = mkostemp(tmp, O_CLOEXEC);
	if (f->fd < 0)
		return fail(err, errno, f->path, "cannot create");
	f->tmp = steal_ptr(tmp);
	return 0;
}

/* Devices, pipes and sockets cannot be replaced: they are written in place. */
static int open_direct(struct outfile *f, struct err *err)
{
	f->fd = open(f->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return f->fd < 0 ? fail(err, errno, f->path, "cannot open") : 0;
}

/*
 * The file a symbolic link leads to is replaced, not the link. Opening through the link first lets
 * the kernel refuse links planted in sticky directories (fs.protected_symlinks).
 */
static int follow_link(struct outfile *f, struct err *err)
{
	_cleanup_close_ int probe = open(f->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	char *real;

	if (probe < 0)
		return fail(err, errno, f->path, "cannot open");
	real = realpath(f->path, NULL);
	if (!real)
		return fail(err, errno, f->path, "cannot follow");
	free(f->path);
	f->path = real;
	return 0;
}

static int open_path(struct outfile *f, struct err *err)
{
	struct stat link, st;
	int r;

	if (!*f->path)
		return err_set(err, ENOENT, "the name of the output is empty");
	if (lstat(f->path, &link) < 0)
		return errno == ENOENT ? open_temporary(f, err)
				       : fail(err, errno, f->path, "cannot create");
	if (stat(f->path, &st) < 0)
		return fail(err, errno, f->path, "cannot follow");
	if (S_ISDIR(st.st_mode))
		return fail(err, EISDIR, f->path, "cannot write to");
	if (!S_ISREG(st.st_mode))
		return open_direct(f, err);
	if (S_ISLNK(link.st_mode)) {
		r = follow_link(f, err);
		if (r < 0)
			return r;
	}
	return open_temporary(f, err);
}

/* The opener's file, ours to write. */
static int open_by_opener(struct outfile *f, struct err *err)
{
	f->handle = f->opener->open(f->opener->data, f->path, &f->fd, err);
	return f->handle < 0 ? (int)f->handle : 0;
}

int outfile_open(const char *path, struct outfile **ret, struct err *err)
{
	return outfile_open_by(NULL, path, ret, err);
}

void outfile_no_sync(struct outfile *f)
{
	f->no_sync = true;
}

void outfile_exclusive(struct outfile *f)
{
	f->exclusive = true;
}

int outfile_fd(const struct outfile *f)
{
	return f->fd;
}

int outfile_open_by(const struct outfile_opener *opener, const char *path, struct outfile **ret,
		    struct err *err)
{
	_cleanup_(outfile_abortp) struct outfile *f = calloc(1, sizeof(*f));
	int own = own_descriptor(path), r = 0;

	if (!f)
		return err_oom(err);
	f->fd = -1;
	f->handle = -1;
	if (!strcmp(path, "-")) {
		f->fd = STDOUT_FILENO;
		f->borrowed = true;
		fflush(stdout); /* what others printed comes first */
		path = "standard output";
	}
	f->path = strdup(path);
	if (!f->path)
		return err_oom(err);
	if (own >= 0) {
		r = copy_descriptor(path, own, &f->fd, err);
	} else if (!f->borrowed && opener) {
		f->opener = opener;
		r = open_by_opener(f, err);
	} else if (!f->borrowed) {
		r = open_path(f, err);
	}
	if (r < 0)
		return r;
	r = open_stream(f, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(f);
	return 0;
}

/* A link that stands there is moved itself, never followed. */
static int keep_old(const char *path, struct err *err)
{
	_cleanup_free_ char *old = NULL;

	if (asprintf(&old, "%s.old", path) < 0)
		return err_oom(err);
	return rename(path, old) < 0 ? fail(err, errno, path, "cannot move away") : 0;
}

int outfile_open_growing(const char *path, int *ret_fd, bool *stream, struct err *err)
{
	int own = own_descriptor(path), r = 0;
	struct stat st;

	*stream = own >= 0 || !strcmp(path, "-");
	if (*stream)
		return copy_descriptor(own < 0 ? "standard output" : path, own < 0 ? STDOUT_FILENO : own, ret_fd, err);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		if (S_ISDIR(st.st_mode))
			return fail(err, EISDIR, path, "cannot write to");
		*stream = true;
		*ret_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return *ret_fd < 0 ? fail(err, errno, path, "cannot open") : 0;
	}
	if (lstat(path, &st) == 0)
		r = keep_old(path, err);
	if (r < 0)
		return r;
	*ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return *ret_fd < 0 ? fail(err, errno, path, "cannot create") : 0;
}

FILE *outfile_stream(struct outfile *f)
{
	return f->stream;
}

/* The umask can only be read by setting it; for that moment a strict one stands. */
static mode_t wanted_mode(void)
{
	mode_t mask = umask(077);

	umask(mask);
	return 0666 & ~mask;
}

/* Makes the rename itself durable. Not every file system can; the file is whole either way. */
static void sync_directory(const char *path)
{
	_cleanup_free_ char *dir = directory_of(path);
	_cleanup_close_ int fd = -1;

	if (!dir)
		return;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd);
}

/*
 * A name for a file that has none: its own where that is free, else one to rename from, as only rename replaces a file.
 * Without privileges the kernel takes this way alone (open(2), O_TMPFILE).
 */
static int give_name(struct outfile *f, struct err *err)
{
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", f->fd);
	if (linkat(AT_FDCWD, link, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	for (int i = 0; errno == EEXIST && !f->exclusive && i < MAX_NAMES; i++) {
		_cleanup_free_ char *tmp = temporary_name(f->path);

		/* mkstemp finds a name by making a file; so it is free again only for a moment. */
		if (!tmp)
			return err_oom(err);
		closep(&(int){ mkostemp(tmp, O_CLOEXEC) });
		unlink(tmp);
		if (linkat(AT_FDCWD, link, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) == 0) {
			f->tmp = steal_ptr(tmp);
			return 0;
		}
	}
	return fail(err, errno, f->path, "cannot create");
}

/* Of the temporary name its own one. */
static int rename_temporary(struct outfile *f)
{
	if (!f->exclusive)
		return rename(f->tmp, f->path);
	if (renameat2(AT_FDCWD, f->tmp, AT_FDCWD, f->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* NFS and others know links alone (rename(2)). */
	return link(f->tmp, f->path) < 0 ? -1 : unlink(f->tmp);
}

static int finish_temporary(struct outfile *f, struct err *err)
{
	int r;

	if (fchmod(f->fd, wanted_mode()) < 0)
		return fail(err, errno, f->path, "cannot set the mode of");
	/* Some network and FUSE file systems know no fsync. */
	if (!f->no_sync && fsync(f->fd) < 0 && errno != EINVAL && errno != ENOSYS)
		return fail(err, errno, f->path, "cannot write");
	r = f->nameless ? give_name(f, err) : 0;
	if (r < 0)
		return r;
	if (close(steal_fd(&f->fd)) < 0 && errno != EINTR)
		return fail(err, errno, f->path, "cannot write");
	if (f->tmp && rename_temporary(f) < 0)
		return fail(err, errno, f->path, "cannot replace");
	free(f->tmp);
	f->tmp = NULL;
	if (!f->no_sync)
		sync_directory(f->path);
	return 0;
}

static bool is_same_file(const char *path, const struct stat *st)
{
	struct stat named;

	return lstat(path, &named) == 0 && named.st_dev == st->st_dev && named.st_ino == st->st_ino;
}

/* The name that the file has until it is whole, as temporary_name makes them; NULL when its name is no such one. */
static char *temporary_name_of(const char *path, int fd, const struct stat *st)
{
	_cleanup_free_ char *pattern = temporary_name(path);
	_cleanup_free_ char *dir = directory_of(path);
	char link[32], name[PATH_MAX], *base, *ret;
	const char *start;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, name, sizeof(name) - 1);
	if (!pattern || !dir || len <= 0)
		return NULL;
	name[len] = '\0';
	base = strrchr(name, '/');
	start = strrchr(pattern, '/') ? strrchr(pattern, '/') + 1 : pattern;
	if (!base || strlen(++base) != strlen(start) || strncmp(base, start, strlen(start) - 6) ||
	    asprintf(&ret, "%s%s%s", dir, strchr(path, '/') ? "" : "/", base) < 0)
		return NULL;
	if (is_same_file(ret, st))
		return ret;
	free(ret);
	return NULL;
}

int outfile_adopt(const char *path, int fd, struct outfile **ret, struct err *err)
{
	_cleanup_(outfile_abortp) struct outfile *f = calloc(1, sizeof(*f));
	struct stat st, named;
	int r = 0;

	if (!f)
		return err_oom(err);
	f->handle = -1;
	f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	f->path = strdup(path);
	if (!f->path)
		return err_oom(err);
	if (f->fd < 0 || fstat(f->fd, &st) < 0 || (fcntl(f->fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
		return err_set(err, EPERM, "%s: that is not being written", path);
	if (S_ISREG(st.st_mode) && lstat(path, &named) == 0 && S_ISLNK(named.st_mode))
		r = follow_link(f, err);
	if (r < 0)
		return r;
	f->nameless = S_ISREG(st.st_mode) && !st.st_nlink;
	if (S_ISREG(st.st_mode) && !f->nameless && !is_same_file(f->path, &st)) {
		f->tmp = temporary_name_of(f->path, f->fd, &st);
		if (!f->tmp)
			return err_set(err, EPERM, "%s: that is another file", path);
	}
	*ret = steal_ptr(f);
	return 0;
}

static int finish_by_opener(struct outfile *f, struct err *err)
{
	int64_t handle = f->handle;

	f->handle = -1; /* whatever comes out, it is done with */
	return f->opener->commit(f->opener->data, handle, f->path, f->fd, err);
}

int outfile_commit(struct outfile *f, struct err *err)
{
	int r = 0;

	if ((f->stream && (fflush(f->stream) || ferror(f->stream))) || f->write_errno)
		r = fail(err, f->write_errno ? f->write_errno : EIO, f->path, "cannot write");
	else if (f->tmp || f->nameless)
		r = finish_temporary(f, err);
	else if (f->opener)
		r = finish_by_opener(f, err);
	outfile_abort(f); /* removes the temporary file if it still has its name */
	return r;
}
