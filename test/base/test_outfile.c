/* An output appears whole or not at all. */
#include "base/err.h"
#include "base/outfile.h"
#include "test/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *contents(const char *path)
{
	static char text[4096];
	FILE *file = fopen(path, "r");
	size_t n;

	if (!file)
		return NULL;
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	CHECK(file && fputs(text, file) >= 0);
	if (file)
		fclose(file);
}

static size_t entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t num = 0;

	while (dir && readdir(dir))
		num++;
	if (dir)
		closedir(dir);
	return num - 2; /* "." and ".." */
}

static mode_t mode_of(const char *path)
{
	struct stat st = { 0 };

	CHECK(!lstat(path, &st));
	return st.st_mode & 07777;
}

static int write_all(const char *path, const char *text, struct err *err)
{
	struct outfile *f;
	int r = outfile_open(path, &f, err);

	if (r < 0)
		return r;
	fputs(text, outfile_stream(f));
	return outfile_commit(f, err);
}

static void test_commit(void)
{
	int probe = open(".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	bool nameless = probe >= 0; /* a file system that can */
	struct outfile *f;
	struct err err = { 0 };

	if (nameless)
		close(probe);
	umask(027);
	CHECK(outfile_open("new", &f, &err) == 0);
	fputs("first\n", outfile_stream(f));
	fflush(outfile_stream(f));
	CHECK(access("new", F_OK) < 0 && entries(".") == (nameless ? 0 : 1)); /* nothing to see before commit */
	CHECK(outfile_commit(f, &err) == 0);
	CHECK_STR(contents("new"), "first\n");
	CHECK(mode_of("new") == 0640 && entries(".") == 1);

	CHECK(write_all("new", "second\n", &err) == 0);
	CHECK_STR(contents("new"), "second\n");

	CHECK(outfile_open("new", &f, &err) == 0);
	fputs("third\n", outfile_stream(f));
	outfile_abortp(&f);
	CHECK(!f);
	outfile_abortp(&f);
	CHECK_STR(contents("new"), "second\n");
	CHECK(entries(".") == 1);
	CHECK(umask(022) == 027); /* put back */
	unlink("new");
}

static void test_directory(void)
{
	char name[300];
	struct outfile *f;
	struct err err = { 0 };

	CHECK(outfile_open("missing/x", &f, &err) == -ENOENT);
	CHECK_STR(err.msg, "cannot create missing/x: No such file or directory");
	CHECK(outfile_open("", &f, &err) == -ENOENT);
	mkdir("dir", 0755);
	CHECK(outfile_open("dir", &f, &err) == -EISDIR);
	CHECK_STR(err.msg, "cannot write to dir: Is a directory");
	CHECK(write_all("dir/x", "in\n", &err) == 0);
	CHECK_STR(contents("dir/x"), "in\n");

	/* The longest name a directory takes still has room for its temporary sibling. */
	memset(name, 'n', 255);
	name[255] = '\0';
	CHECK(write_all(name, "long\n", &err) == 0);
	CHECK_STR(contents(name), "long\n");
	unlink(name);

	/* The directory goes away meanwhile. */
	CHECK(outfile_open("dir/y", &f, &err) == 0);
	rename("dir", "moved");
	CHECK(outfile_commit(f, &err) == -ENOENT);
	CHECK(strstr(err.msg, " dir/y: No such file or directory"));
	CHECK(entries("moved") <= 2); /* a temporary file moved along: nothing can be done */
	CHECK(!system("rm -r moved"));
}

/* A full disk, played by the file size limit: EFBIG instead of ENOSPC. */
static void test_full(void)
{
	static char block[8192];
	struct rlimit old, limit;
	struct outfile *f;
	struct err err = { 0 };

	memset(block, 'x', sizeof(block));
	put("kept", "what was there before\n");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = old;
	limit.rlim_cur = 10000;

	CHECK(outfile_open("kept", &f, &err) == 0);
	setrlimit(RLIMIT_FSIZE, &limit);
	for (int i = 0; i < 4; i++)
		fwrite(block, 1, sizeof(block), outfile_stream(f));
	/* The stream's buffer may be empty again by now; the failure is remembered with its cause. */
	clearerr(outfile_stream(f));
	CHECK(outfile_commit(f, &err) == -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	CHECK_STR(err.msg, "cannot write kept: File too large");
	CHECK_STR(contents("kept"), "what was there before\n");
	CHECK(entries(".") == 1);
	unlink("kept");
}

/* A mode stops nobody but an ordinary user. */
static void test_read_only(void)
{
	struct outfile *f;
	struct err err = { 0 };
	bool root = geteuid() == 0;

	CHECK(!mkdir("ro", 0555));
	if (root && seteuid(65534))
		return;
	CHECK(outfile_open("ro/x", &f, &err) == -EACCES);
	CHECK_STR(err.msg, "cannot create ro/x: Permission denied");
	if (root)
		CHECK(!seteuid(0));
	rmdir("ro");
}

/* Not a regular file: written in place, never renamed over. */
static void test_special(void)
{
	struct outfile *f;
	struct stat st;
	struct err err = { 0 };
	char text[16] = "";
	int fd;

	CHECK(write_all("/dev/null", "gone\n", &err) == 0);
	CHECK(!stat("/dev/null", &st) && S_ISCHR(st.st_mode));
	CHECK(write_all("/dev/full", "x\n", &err) == -ENOSPC);
	CHECK_STR(err.msg, "cannot write /dev/full: No space left on device");
	CHECK(!stat("/dev/full", &st) && S_ISCHR(st.st_mode));

	CHECK(!mkfifo("fifo", 0600));
	fd = open("fifo", O_RDWR | O_NONBLOCK);
	CHECK(outfile_open("fifo", &f, &err) == 0);
	fputs("kept back", outfile_stream(f));
	outfile_abort(f); /* what was buffered must not come out */
	CHECK(read(fd, text, sizeof(text)) < 0);
	CHECK(write_all("fifo", "through\n", &err) == 0);
	CHECK(read(fd, text, sizeof(text) - 1) == 8);
	CHECK_STR(text, "through\n");
	close(fd);
	CHECK(!lstat("fifo", &st) && S_ISFIFO(st.st_mode) && entries(".") == 1);
	unlink("fifo");
}

static void test_links(void)
{
	struct outfile *f;
	struct stat st;
	struct err err = { 0 };

	mkdir("sub", 0755);
	put("sub/real", "old\n");
	CHECK(!symlink("sub/real", "link"));
	CHECK(write_all("link", "new\n", &err) == 0);
	CHECK(!lstat("link", &st) && S_ISLNK(st.st_mode));
	CHECK_STR(contents("sub/real"), "new\n");
	CHECK(entries("sub") == 1);
	unlink("sub/real");
	CHECK(outfile_open("link", &f, &err) == -ENOENT);
	CHECK_STR(err.msg, "cannot follow link: No such file or directory");
	CHECK(entries("sub") == 0);
	unlink("link");
	rmdir("sub");
}

static void test_stdout(void)
{
	struct err err = { 0 };
	int saved, fd;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	fd = open("captured", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	dup2(fd, STDOUT_FILENO);
	printf("before\n");
	CHECK(write_all("-", "data\n", &err) == 0);
	CHECK(fcntl(STDOUT_FILENO, F_GETFD) >= 0); /* still open */
	CHECK_STR(contents("captured"), "before\ndata\n");

	close(fd);
	fd = open("/dev/full", O_WRONLY);
	dup2(fd, STDOUT_FILENO);
	CHECK(write_all("-", "data\n", &err) == -ENOSPC);
	CHECK_STR(err.msg, "cannot write standard output: No space left on device");
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	unlink("captured");
}

static int grow(const char *path, const char *text, bool *stream, struct err *err)
{
	int fd = -1, r = outfile_open_growing(path, &fd, stream, err);

	if (r < 0) {
		CHECK(fd == -1);
		return r;
	}
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	return 0;
}

/* Under its own name at once; what was there is kept, once. */
static void test_growing(void)
{
	struct err err = { 0 };
	bool stream;
	int fd;

	umask(0);
	CHECK(grow("g", "one\n", &stream, &err) == 0 && !stream);
	CHECK(mode_of("g") == 0600);
	umask(022);
	CHECK_STR(contents("g"), "one\n");
	CHECK(grow("g", "two\n", &stream, &err) == 0);
	CHECK_STR(contents("g"), "two\n");
	CHECK_STR(contents("g.old"), "one\n");
	CHECK(grow("g", "three\n", &stream, &err) == 0);
	CHECK_STR(contents("g.old"), "two\n");
	CHECK(entries(".") == 2);
	/* A link is moved away itself: what it leads to is not touched. */
	unlink("g");
	put("elsewhere", "kept\n");
	CHECK(!symlink("elsewhere", "g"));
	CHECK(grow("g", "four\n", &stream, &err) == 0);
	CHECK_STR(contents("elsewhere"), "kept\n");
	CHECK_STR(contents("g"), "four\n");
	unlink("g");
	unlink("g.old");
	unlink("elsewhere");
	CHECK(!symlink("nowhere", "g"));
	CHECK(grow("g", "five\n", &stream, &err) == 0 && access("nowhere", F_OK) < 0);
	unlink("g");
	unlink("g.old");
	/* What cannot be moved away, or is no file, is left as it is. */
	CHECK(!mkdir("dir", 0755));
	CHECK(grow("dir", "", &stream, &err) == -EISDIR);
	put("busy", "kept\n");
	CHECK(!mkdir("busy.old", 0755));
	put("busy.old/x", "");
	CHECK(grow("busy", "", &stream, &err) < 0);
	CHECK_STR(contents("busy"), "kept\n");
	unlink("busy.old/x");
	rmdir("busy.old");
	unlink("busy");
	rmdir("dir");
	CHECK(grow("no/such", "", &stream, &err) == -ENOENT);
	CHECK(grow("/dev/null", "x", &stream, &err) == 0 && stream);
	CHECK(!mkfifo("fifo", 0600));
	fd = open("fifo", O_RDWR);
	CHECK(grow("fifo", "through\n", &stream, &err) == 0 && stream);
	close(fd);
	unlink("fifo");
}

/* Whatever they lead to is written in place, and not by an opener, whose descriptors are others. */
static void test_own_descriptors(void)
{
	const struct outfile_opener nobody = { 0 };
	struct outfile *f = NULL;
	struct err err = { 0 };
	char path[64];
	bool stream = false;
	int fd = open("own", O_RDWR | O_CREAT, 0600), copy = -1;

	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	CHECK(fd > 2 && write(fd, "before\n", 7) == 7);
	CHECK(outfile_open_by(&nobody, path, &f, &err) == 0);
	CHECK(f && fputs("text\n", outfile_stream(f)) >= 0 && outfile_commit(f, &err) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(outfile_open_growing(path, &copy, &stream, &err) == 0 && stream && copy > 2 && copy != fd);
	CHECK(write(copy, "more\n", 5) == 5);
	close(copy);
	CHECK_STR(contents("own"), "before\ntext\nmore\n");
	close(fd);
	CHECK(outfile_open_by(NULL, path, &f, &err) == -EBADF && outfile_open_growing(path, &copy, &stream, &err) == -EBADF);
	CHECK(outfile_open_by(NULL, "/dev/fd/1x", &f, &err) < 0 && err.code != EBADF);
	CHECK(!unlink("own"));
}

static void adopt(const char *path, int fd, int expect)
{
	struct outfile *f = NULL;
	struct err err = { 0 };
	int r = outfile_adopt(path, fd, &f, &err);

	CHECK_MSG(r == expect, "%s: %d %s", path, r, err.msg);
	if (!r)
		CHECK_MSG(outfile_commit(f, &err) == 0, "%s", err.msg);
	close(fd);
}

/* Files whose opener has ended: nothing but what it would have opened is taken. */
static void test_adopt(void)
{
	struct outfile *f = NULL;
	struct stat st;
	int fd = open(".", O_TMPFILE | O_WRONLY, 0600);

	if (fd >= 0) {
		CHECK(write(fd, "nameless\n", 9) == 9);
		adopt("left", fd, 0);
		CHECK_STR(contents("left"), "nameless\n");
		CHECK(stat("left", &st) == 0 && (st.st_mode & 0777) == 0644);
	}
	fd = open(".left.a1B2c3", O_WRONLY | O_CREAT, 0600);
	CHECK(write(fd, "named\n", 6) == 6);
	adopt("left", fd, 0);
	CHECK_STR(contents("left"), "named\n");
	CHECK(access(".left.a1B2c3", F_OK) < 0);
	adopt("left", open("left", O_WRONLY), 0); /* it got its name, and who gave it could not tell any more */
	CHECK_STR(contents("left"), "named\n");
	CHECK(!symlink("left", "link"));
	fd = open(".left.d4E5f6", O_WRONLY | O_CREAT, 0600);
	CHECK(write(fd, "through\n", 8) == 8);
	adopt("link", fd, 0);
	CHECK_STR(contents("left"), "through\n");
	CHECK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
	fd = open(".left.g7H8i9", O_WRONLY | O_CREAT, 0600);
	CHECK(outfile_adopt("left", fd, &f, NULL) == 0);
	outfile_abort(f);
	close(fd);
	CHECK(access(".left.g7H8i9", F_OK) < 0);
	adopt("/dev/null", open("/dev/null", O_WRONLY), 0);
	adopt("left", open("other", O_WRONLY | O_CREAT, 0600), -EPERM);
	adopt("left", open(".other.d4E5f6", O_WRONLY | O_CREAT, 0600), -EPERM);
	adopt("left", open("left", O_RDONLY), -EPERM);
	adopt("left", -1, -EPERM);
	CHECK_STR(contents("left"), "through\n");
	CHECK(!unlink("left") && !unlink("link") && !unlink("other") && !unlink(".other.d4E5f6"));
}

/* Whoever comes second gets no name, and the first one's file stays. */
static void test_exclusive(void)
{
	struct outfile *f = NULL;
	struct err err = { 0 };
	int fd;

	for (int i = 0; i < 2; i++) {
		CHECK(outfile_open("taken", &f, &err) == 0);
		outfile_exclusive(f);
		fprintf(outfile_stream(f), "%d\n", i);
		CHECK(outfile_commit(f, &err) == (i ? -EEXIST : 0));
	}
	CHECK_STR(contents("taken"), "0\n");
	fd = open(".taken.a1B2c3", O_WRONLY | O_CREAT, 0600);
	CHECK(outfile_adopt("taken", fd, &f, &err) == 0);
	outfile_exclusive(f);
	CHECK(outfile_commit(f, &err) == -EEXIST && access(".taken.a1B2c3", F_OK) < 0);
	CHECK_STR(contents("taken"), "0\n");
	CHECK(!unlink("taken"));
	close(fd);
	fd = open(".taken.a1B2c3", O_WRONLY | O_CREAT, 0600);
	CHECK(outfile_adopt("taken", fd, &f, &err) == 0);
	outfile_exclusive(f);
	CHECK(outfile_commit(f, &err) == 0 && access(".taken.a1B2c3", F_OK) < 0);
	CHECK_STR(contents("taken"), "");
	CHECK(!unlink("taken"));
	close(fd);
}

int main(void)
{
	char dir[] = "/tmp/test-outfile-XXXXXX";
	char command[64];

	if (!mkdtemp(dir) || chdir(dir))
		SKIP("no temporary directory");
	umask(022);
	test_commit();
	test_directory();
	test_full();
	test_special();
	test_links();
	test_stdout();
	test_growing();
	test_own_descriptors();
	test_adopt();
	test_exclusive();
	CHECK(!chmod(".", 0755)); /* for the ordinary user */
	test_read_only();
	CHECK(entries(".") == 0);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	CHECK(!chdir("/") && !system(command));
	return check_done();
}
