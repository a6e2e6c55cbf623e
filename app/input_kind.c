#include "app/input_kind.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "target/given.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool begins(const void *head, size_t len, const char *magic, size_t magic_len)
{
	return len >= magic_len && !memcmp(head, magic, magic_len);
}

enum input_kind input_kind(const void *head, size_t len)
{
	/* tools/perf/util/header.c, __perf_magic2; one from a stream or of old perf too. */
	if (begins(head, len, "PERFILE", 7) || begins(head, len, "2ELIFREP", 8))
		return INPUT_RECORDING;
	if (begins(head, len, "PK\003\004", 4)) /* APPNOTE.TXT 4.3.7 */
		return INPUT_ZIP;
	return begins(head, len, "\037\213", 2) ? INPUT_GZIP : INPUT_TEXT; /* RFC 1952 2.3.1 */
}

/* "a;b;c 12" */
static bool is_collapsed(const char *text, size_t len)
{
	const char *end = memchr(text, '\n', len), *pos = end;

	while (pos && pos > text && pos[-1] >= '0' && pos[-1] <= '9')
		pos--;
	return pos && pos < end && pos > text + 1 && pos[-1] == ' ';
}

void input_advise(const char *path, const char *command, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char head[4096];
	ssize_t len;

	if (err->code != EBADMSG || !strcmp(path, "-") || given_open(path, &fd, NULL) < 0)
		return;
	len = fd_read_some(fd, head, sizeof(head));
	if (len <= 0)
		return;
	switch (input_kind(head, (size_t)len)) {
	case INPUT_ZIP:
		err_set(err, EBADMSG, "%s is a zip: `ringfold report %s`, without options, shows the report of a bundle, `ringfold diff` "
			"compares two, and its index.html and stacks.folded can be unpacked", path, path);
		break;
	case INPUT_GZIP:
		err_set(err, EBADMSG, "%s is compressed, pprof as it seems: `go tool pprof` shows it; %s takes recordings (record -o "
			"NAME.data, perf record)", path, command);
		break;
	case INPUT_TEXT:
		if (is_collapsed(head, (size_t)len))
			err_set(err, EBADMSG, "%s holds collapsed stacks: `ringfold diff` compares two of them, flamegraph.pl draws "
				"one; %s takes recordings (record -o NAME.data, perf record)", path, command);
		break;
	case INPUT_RECORDING:
		break;
	}
}
