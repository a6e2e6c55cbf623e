#include "target/captures.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"
#include "target/stamp.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct capture_file {
	char *path;
	char stamp[STAMP_MAX + 1];
	uint64_t bytes;
};

struct captures {
	const char *const *names;
	size_t num_names;
	uint64_t quota, bytes;
	VEC(struct capture_file) files; /* by stamp, oldest first */
};

bool captures_add(struct captures *c, const char *path)
{
	struct capture_file file = { 0 };
	struct stat st;
	bool ours = false;
	size_t at;

	for (size_t i = 0; i < c->num_names && !ours; i++)
		ours = stamp_take(c->names[i], path, file.stamp);
	if (!ours || lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	for (at = 0; at < c->files.len; at++) {
		if (!strcmp(c->files.data[at].path, path))
			return true;
	}
	file.path = strdup(path);
	file.bytes = (uint64_t)st.st_size;
	if (!file.path || !vec_push(&c->files, file)) {
		free(file.path);
		return false;
	}
	for (at = c->files.len - 1; at && strcmp(c->files.data[at - 1].stamp, file.stamp) > 0; at--)
		c->files.data[at] = c->files.data[at - 1];
	c->files.data[at] = file;
	c->bytes += file.bytes;
	return true;
}

/* What there is, also of others and of an earlier run: in the directory of each name. */
static void look(struct captures *c, const char *name)
{
	const char *slash = strrchr(name, '/');
	_cleanup_free_ char *dir = slash ? strndup(name, (size_t)(slash - name) + 1) : strdup("");
	DIR *list = dir ? opendir(*dir ? dir : ".") : NULL;
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		_cleanup_free_ char *path = malloc(strlen(dir) + strlen(entry->d_name) + 1);
		char stamp[STAMP_MAX + 1];

		if (!path)
			break;
		strcpy(stpcpy(path, dir), entry->d_name);
		if (stamp_take(name, path, stamp))
			captures_add(c, path);
	}
	if (list)
		closedir(list);
}

int captures_new(const char *const *names, size_t num, uint64_t quota, struct captures **ret, struct err *err)
{
	struct captures *c = calloc(1, sizeof(*c));

	if (!c)
		return err_oom(err);
	c->names = names;
	c->num_names = num;
	c->quota = quota;
	*ret = c;
	return 0;
}

static void forget(struct captures *c)
{
	for (size_t i = 0; i < c->files.len; i++)
		free(c->files.data[i].path);
	c->files.len = 0;
	c->bytes = 0;
}

void captures_free(struct captures *c)
{
	if (!c)
		return;
	forget(c);
	vec_deinit(&c->files);
	free(c);
}

/* The oldest capture, all its files. */
static void remove_oldest(struct captures *c)
{
	char stamp[STAMP_MAX + 1];
	size_t num = 0;

	memcpy(stamp, c->files.data[0].stamp, sizeof(stamp));
	for (; num < c->files.len && !strcmp(c->files.data[num].stamp, stamp); num++) {
		unlink(c->files.data[num].path);
		c->bytes -= c->files.data[num].bytes;
		free(c->files.data[num].path);
	}
	memmove(c->files.data, c->files.data + num, (c->files.len - num) * sizeof(c->files.data[0]));
	c->files.len -= num;
}

bool captures_make_room(struct captures *c, uint64_t bytes, size_t *removed)
{
	*removed = 0;
	if (!c->quota)
		return true;
	if (bytes > c->quota)
		return false;
	forget(c);
	for (size_t i = 0; i < c->num_names; i++)
		look(c, c->names[i]);
	for (; c->bytes > c->quota - bytes && c->files.len; ++*removed)
		remove_oldest(c);
	return true;
}

uint64_t captures_bytes(const struct captures *c)
{
	return c->bytes;
}
