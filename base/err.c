#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The message is one line whatever was quoted in it. */
static void one_line(char *msg)
{
	for (char *c = msg; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -code;
	err->code = code;
	va_start(ap, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) < 0)
		err->msg[0] = '\0';
	va_end(ap);
	one_line(err->msg);
	return -code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	char rest[sizeof(err->msg)];
	size_t len, room;
	va_list ap;
	int n;

	if (!err)
		return -EINVAL;
	memcpy(rest, err->msg, sizeof(rest));
	rest[sizeof(rest) - 1] = '\0';

	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = n < 0 ? 0 : (size_t)n;
	if (len >= sizeof(err->msg))
		len = sizeof(err->msg) - 1;
	one_line(err->msg);

	room = sizeof(err->msg) - len;
	if (room > 3) {
		memcpy(err->msg + len, ": ", 2);
		len += 2;
		room = strnlen(rest, sizeof(err->msg) - len - 1);
		memcpy(err->msg + len, rest, room);
		len += room;
	}
	err->msg[len] = '\0';
	return -err->code;
}

int err_oom(struct err *err)
{
	return err_set(err, ENOMEM, "out of memory");
}
