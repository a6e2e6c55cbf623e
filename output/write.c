#include "output/write_priv.h"

#include "base/err.h"
#include "base/strbuf.h"

#include <errno.h>
#include <string.h>

static int failed(struct err *err)
{
	int code = errno ? errno : EIO;

	return err_set(err, code, "writing the profile: %s", strerror(code));
}

int write_bytes(FILE *out, const void *bytes, size_t len, struct err *err)
{
	errno = 0;
	if (len && fwrite(bytes, 1, len, out) != len)
		return failed(err);
	return 0;
}

int write_text(FILE *out, const struct strbuf *text, struct err *err)
{
	if (text->failed)
		return err_oom(err);
	return write_bytes(out, text->data, text->len, err);
}

int write_end(FILE *out, struct err *err)
{
	errno = 0;
	if (fflush(out) || ferror(out))
		return failed(err);
	return 0;
}
