#include "perfmap/jitdump.h"

#include <string.h>

bool jitdump_is_path(const char *path, size_t len, pid_t *ret)
{
	static const char head[] = "jit-", tail[] = ".dump", deleted[] = " (deleted)";
	const char *end = path + len, *slash = memrchr(path, '/', len), *pos = slash ? slash + 1 : path;
	int64_t pid = 0;

	if ((size_t)(end - pos) >= sizeof(deleted) - 1 &&
	    !memcmp(end - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1))
		end -= sizeof(deleted) - 1;
	if ((size_t)(end - pos) < sizeof(head) + sizeof(tail) - 1 || memcmp(pos, head, sizeof(head) - 1) ||
	    memcmp(end - (sizeof(tail) - 1), tail, sizeof(tail) - 1))
		return false;
	end -= sizeof(tail) - 1;
	for (pos += sizeof(head) - 1; pos < end; pos++) {
		if (*pos < '0' || *pos > '9' || pid > INT32_MAX / 10)
			return false;
		pid = pid * 10 + (*pos - '0');
	}
	if (pid <= 0 || pid > INT32_MAX)
		return false;
	*ret = (pid_t)pid;
	return true;
}
