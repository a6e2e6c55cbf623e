/* fd: what comes late, in pieces or not at all. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int told_to; /* by the signal handler, which gets nothing else */

static void tell(int sig)
{
	int code = errno;

	CHECK(write(told_to, "!", 1) == 1);
	errno = code;
}

/* The byte comes with a signal, before the read or in the midst of it. */
static void test_signal(void)
{
	const struct sigaction action = { .sa_handler = tell };
	const struct itimerval soon = { .it_value.tv_usec = 10000 };
	char byte = 0;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	told_to = fds[1];
	CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
	CHECK(fd_read_some(fds[0], &byte, 1) == 1 && byte == '!');
	close(fds[1]);
	CHECK(fd_read_some(fds[0], &byte, 1) == 0);
	close(fds[0]);
	CHECK(fd_read_some(-1, &byte, 1) == -EBADF);
}

/* A descriptor that would not wait. */
static void test_no_wait(void)
{
	_cleanup_close_ int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	const struct itimerspec soon = { .it_value.tv_nsec = 10000000 };
	uint64_t times = 0;

	CHECK(fd >= 0 && timerfd_settime(fd, 0, &soon, NULL) == 0);
	CHECK(fd_read_some(fd, &times, sizeof(times)) == sizeof(times) && times == 1);
}

static void test_file(void)
{
	_cleanup_close_ int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	char buf[16] = { 0 };

	CHECK(fd >= 0 && full >= 0);
	CHECK(fd_write_all(fd, "0123", 4) == 0 && fd_write_all(fd, "456789", 6) == 0);
	CHECK(fd_write_all(fd, NULL, 0) == 0);
	CHECK(fd_pread_full(fd, buf, 4, 6) == 4 && !memcmp(buf, "6789", 4));
	CHECK(fd_pread_full(fd, buf, 4, 8) == 2 && !memcmp(buf, "8989", 4));
	CHECK(fd_pread_full(fd, buf, 4, 10) == 0);
	CHECK(fd_pread_full(fd, buf, 4, INT64_MAX) == 0 && fd_pread_full(fd, buf, 4, UINT64_MAX) == 0);
	CHECK(fd_pread_full(-1, buf, 4, 0) == -EBADF);
	CHECK(fd_write_all(full, "x", 1) == -ENOSPC);
	CHECK(fd_write_all(-1, "x", 1) == -EBADF);
}

int main(void)
{
	test_signal();
	test_no_wait();
	test_file();
	return check_done();
}
