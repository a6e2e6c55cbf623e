#include "target/stamp.h"

#include <stdio.h>
#include <string.h>

static bool all_digits(const char *text, size_t len)
{
	return len && strspn(text, "0123456789") >= len;
}

/*
 * Nothing else: what a quota removes must not be somebody's "spike-baseline.html", nor what a trap of "spike-web.html"
 * wrote.
 */
static bool is_stamp(const char *text, size_t len)
{
	const size_t date = 8, time = 6, plain = date + 1 + time;

	if (len < plain || !all_digits(text, date) || text[date] != '-' || !all_digits(text + date + 1, time))
		return false;
	return len == plain || (text[plain] == '-' && all_digits(text + plain + 1, len - plain - 1));
}

bool stamp_take(const char *name, const char *path, char *ret)
{
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
	if (!is_stamp(path + before, size))
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
