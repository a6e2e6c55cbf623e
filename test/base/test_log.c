/* What reaches stderr, seen through a pipe and through a terminal. */
#include "base/log.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int saved_stderr;

/* stderr becomes fd; what is read back is returned by finish(). */
static void capture(int fd)
{
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static const char *finish(int from)
{
	static char text[65536];
	size_t len = 0;
	ssize_t n;

	fcntl(from, F_SETFL, O_NONBLOCK);
	while (len < sizeof(text) - 1 && (n = read(from, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	dup2(saved_stderr, STDERR_FILENO);
	close(from);
	return text;
}

static int to_pipe(void)
{
	int fds[2];

	if (pipe(fds))
		SKIP("pipe: %s", strerror(errno));
	capture(fds[1]);
	return fds[0];
}

static void test_lines(void)
{
	int from = to_pipe();

	CHECK(log_get_level() == LOG_INFO);
	log_info(NULL, "%d samples", 5);
	log_info("symbols", "no kallsyms");
	log_debug("symbols", "not shown");
	log_warn("target", "forged\nline \033[2J \177");
	log_status("no terminal, so nothing");
	log_set_level(LOG_QUIET);
	log_warn(NULL, "quiet");
	log_set_level(LOG_WARN);
	log_info(NULL, "quiet too");
	log_set_level(LOG_DEBUG);
	log_debug("base", "detail");
	log_set_level(LOG_INFO);
	CHECK_STR(finish(from), "ringfold: 5 samples\n"
				"ringfold: symbols: no kallsyms\n"
				"ringfold: target: forged?line ?[2J ?\n"
				"ringfold: base: detail\n");
}

static void test_long_line(void)
{
	static char text[5000];
	int from = to_pipe();
	const char *got;

	memset(text, 'x', sizeof(text) - 1);
	log_info("base", "%s", text);
	got = finish(from);
	CHECK(strlen(got) == 1024 && got[1023] == '\n' && strchr(got, '\n') == got + 1023);
}

static void test_rate(void)
{
	int from;
	const char *got, *pos;
	int lines = 0;

	usleep(1100000); /* a second of its own */
	from = to_pipe();
	for (int i = 0; i < 1000; i++)
		log_warn("unwinder", "number %d", i);
	log_info(NULL, "end");
	got = finish(from);
	for (pos = got; (pos = strchr(pos, '\n')); pos++)
		lines++;
	CHECK_MSG(lines == 12, "%d lines", lines); /* 10, what was held back, the end */
	CHECK(strstr(got, "number 9\nringfold: 990 warnings held back\nringfold: end\n"));
	CHECK(!strstr(got, "number 10\n"));
}

static void test_status(void)
{
	struct winsize size = { .ws_row = 24, .ws_col = 10 };
	int terminal, end;

	if (openpty(&terminal, &end, NULL, NULL, &size))
		SKIP("openpty: %s", strerror(errno));
	capture(end);
	log_status("one");
	log_status("a longer line");
	log_status(
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
	log_info(NULL, "line");
	log_info(NULL, "line");
	log_status("x\ny");
	log_status(NULL);
	log_status(NULL);
	log_set_level(LOG_WARN);
	log_status("quiet");
	log_set_level(LOG_INFO);
	/* The terminal turns "\n" into "\r\n". */
	CHECK_STR(finish(terminal),
		  "\r\033[Kone"
		  "\r\033[Ka longer "
		  "\r\033[K\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		  "\r\033[Kringfold: line\r\nringfold: line\r\n"
		  "\r\033[Kx?y"
		  "\r\033[K");
}

int main(void)
{
	saved_stderr = dup(STDERR_FILENO);
	test_lines();
	test_long_line();
	test_rate();
	test_status();
	close(saved_stderr);
	return check_done();
}
