#include "base/log.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { WARNINGS_PER_SECOND = 10, LINE_BYTES = 1024 };

/* The one piece of state a process has one of: its stderr. */
static struct {
	pthread_mutex_t lock;
	enum log_level level;
	uint64_t second_start_ns; /* CLOCK_MONOTONIC; 0 = no warning yet */
	unsigned int in_second;
	unsigned long held_back;
	bool status_shown;
} log_state = { .lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO };

void log_set_level(enum log_level level)
{
	pthread_mutex_lock(&log_state.lock);
	log_state.level = level;
	pthread_mutex_unlock(&log_state.lock);
}

enum log_level log_get_level(void)
{
	enum log_level level;

	pthread_mutex_lock(&log_state.lock);
	level = log_state.level;
	pthread_mutex_unlock(&log_state.lock);
	return level;
}

/* Unbuffered on purpose: a whole line is one write, so lines of several processes do not mix. */
static void put(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n <= 0)
			return; /* nobody is left to tell */
		text += n;
		len -= (size_t)n;
	}
}

static void wipe_status(void)
{
	/* ECMA-48: carriage return, then EL, erase to the end of the line. */
	if (log_state.status_shown)
		put("\r\033[K", 4);
	log_state.status_shown = false;
}

static size_t append(char *line, size_t len, const char *text)
{
	size_t more = strnlen(text, LINE_BYTES - 1 - len);

	memcpy(line + len, text, more);
	return len + more;
}

static void put_line(const char *folder, const char *text)
{
	char line[LINE_BYTES];
	size_t len = append(line, 0, "ringfold: ");

	if (folder) {
		len = append(line, len, folder);
		len = append(line, len, ": ");
	}
	len = append(line, len, text);
	/* The last guard against terminal sequences and forged lines; callers escape properly. */
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len++] = '\n';
	wipe_status();
	put(line, len);
}

/* False when this second has had its share. */
static bool warning_allowed(void)
{
	uint64_t now = clock_monotonic_ns();

	if (!log_state.second_start_ns || now - log_state.second_start_ns >= 1000000000u) {
		log_state.second_start_ns = now;
		log_state.in_second = 0;
	}
	if (log_state.in_second >= WARNINGS_PER_SECOND) {
		log_state.held_back++;
		return false;
	}
	log_state.in_second++;
	return true;
}

static void say_held_back(void)
{
	char text[64];

	if (!log_state.held_back)
		return;
	snprintf(text, sizeof(text), "%lu warnings held back", log_state.held_back);
	log_state.held_back = 0;
	put_line(NULL, text);
}

static void __attribute__((format(printf, 3, 0)))
say(enum log_level level, const char *folder, const char *fmt, va_list ap)
{
	char text[LINE_BYTES];

	pthread_mutex_lock(&log_state.lock);
	if (level <= log_state.level && (level != LOG_WARN || warning_allowed())) {
		if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
			text[0] = '\0';
		say_held_back();
		put_line(folder, text);
	}
	pthread_mutex_unlock(&log_state.lock);
}

void log_warn(const char *folder, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(LOG_WARN, folder, fmt, ap);
	va_end(ap);
}

void log_info(const char *folder, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(LOG_INFO, folder, fmt, ap);
	va_end(ap);
}

void log_debug(const char *folder, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(LOG_DEBUG, folder, fmt, ap);
	va_end(ap);
}

/* A status longer than the terminal is wide would wrap and could not be wiped. */
static size_t cut_to_terminal(const char *text, size_t len)
{
	struct winsize size = { 0 };
	size_t columns = 80, shown = 0;

	if (!ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		columns = size.ws_col;
	for (size_t i = 0; i < len; i++) {
		/* UTF-8 continuation bytes take no column. */
		if (((unsigned char)text[i] & 0xc0) != 0x80 && ++shown >= columns)
			return i;
	}
	return len;
}

void log_status(const char *text)
{
	char line[LINE_BYTES];
	size_t len;

	pthread_mutex_lock(&log_state.lock);
	if (!text || log_state.level < LOG_INFO || !isatty(STDERR_FILENO)) {
		wipe_status();
	} else {
		len = append(line, 0, text);
		len = cut_to_terminal(line, len);
		for (size_t i = 0; i < len; i++) {
			if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
				line[i] = '?';
		}
		memmove(line + 4, line, len > LINE_BYTES - 4 ? LINE_BYTES - 4 : len);
		memcpy(line, "\r\033[K", 4);
		put(line, (len > LINE_BYTES - 4 ? LINE_BYTES - 4 : len) + 4);
		log_state.status_shown = true;
	}
	pthread_mutex_unlock(&log_state.lock);
}
