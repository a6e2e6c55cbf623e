#include "target/stamp.h"

#include <stdio.h>
#include <string.h>

bool stamp_take(const char *name, const char *path, char *ret)
{
	static const char allowed[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";
	const char *mark = strchr(name, STAMP_MARK);
	size_t before, behind, len = strlen(path), size;

	if (!mark)
		return false;
	before = (size_t)(mark - name);
	behind = strlen(mark + 1);
	if (len <= before + behind || len > before + behind + STAMP_MAX || strncmp(name, path, before) ||
	    strcmp(mark + 1, path + len - behind))
		return false;
	size = len - before - behind;
	if (strspn(path + before, allowed) < size)
		return false;
	if (ret) {
		memcpy(ret, path + before, size);
		ret[size] = 0;
	}
	return true;
}

char *stamp_put(const char *name, const char *stamp)
{
	const char *mark = strchr(name, STAMP_MARK);
	char *path;

	if (asprintf(&path, "%.*s%s%s", (int)(mark - name), name, stamp, mark + 1) < 0)
		return NULL;
	return path;
}
