#include "target/zip_in.h"

#include "base/err.h"
#include "base/strbuf.h"

#include <errno.h>
#include <minizip/unzip.h>
#include <string.h>

enum { MAX_ENTRIES = 10000 };

static bool ends_with(const char *name, const char *suffix)
{
	size_t len = strlen(name), tail = strlen(suffix);

	return len >= tail && !strcmp(name + len - tail, suffix);
}

static int read_entry(unzFile zip, size_t cap, struct strbuf *ret)
{
	char buf[65536];
	int len;

	if (unzOpenCurrentFile(zip) != UNZ_OK)
		return -EBADMSG;
	while ((len = unzReadCurrentFile(zip, buf, sizeof(buf))) > 0 && ret->len < cap)
		strbuf_add(ret, buf, (size_t)len < cap - ret->len ? (size_t)len : cap - ret->len);
	/* The checksum is looked at when all was read. */
	if (unzCloseCurrentFile(zip) == UNZ_CRCERROR || len < 0)
		return -EBADMSG;
	return ret->failed ? -ENOMEM : 0;
}

int zip_in_read(const char *path, const char *suffix, size_t cap, struct strbuf *ret, struct err *err)
{
	unzFile zip = unzOpen64(path);
	int r = -ENOENT, left = MAX_ENTRIES;
	char name[1024];

	if (!zip)
		return err_set(err, EBADMSG, "%s is not there, or is no zip", path);
	for (int at = unzGoToFirstFile(zip); at == UNZ_OK && left--; at = unzGoToNextFile(zip)) {
		if (unzGetCurrentFileInfo64(zip, NULL, name, sizeof(name), NULL, 0, NULL, 0) != UNZ_OK)
			break;
		name[sizeof(name) - 1] = 0;
		if (!ends_with(name, suffix))
			continue;
		r = read_entry(zip, cap, ret);
		break;
	}
	unzClose(zip);
	if (r == -ENOENT)
		return err_set(err, ENOENT, "%s holds no %s: it is not of ringfold bundle", path, suffix + (*suffix == '/'));
	return r < 0 ? err_set(err, -r, "%s: %s", path, r == -EBADMSG ? "it is damaged" : strerror(-r)) : 0;
}
