/* Files of a recording: which of those that are here now are the ones that were mapped then. */
#include "symbols/file_priv.h"

#include "symbols/elf_file.h"
#include "target/offline.h"

#include <fcntl.h>
#include <string.h>

/* perf before 5.11 told build-ids of any length as 20 bytes, the rest zeros. */
static bool same_build_id(const uint8_t *told, size_t told_len, const uint8_t *id, size_t len)
{
	static const uint8_t zeros[20];

	if (!len || len > told_len || memcmp(told, id, len))
		return false;
	return len == told_len || (told_len == sizeof(zeros) && !memcmp(told + len, zeros, told_len - len));
}

bool file_elf_is(struct elf_file *elf, const struct door_mapping *mapping)
{
	const uint8_t *id;
	size_t len = elf_file_build_id(elf, &id);

	return same_build_id(mapping->build_id, mapping->build_id_len, id, len);
}

static bool file_is(const struct door_file *file, const struct door_mapping *mapping)
{
	int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	struct elf_file *elf;
	bool ret;

	if (fd < 0 || elf_file_open_fd(fd, file->size, &elf, NULL) < 0)
		return false;
	ret = file_elf_is(elf, mapping);
	elf_file_free(elf);
	return ret;
}

static struct offline_wish wish_of(const struct door_mapping *mapping, const char *path)
{
	return (struct offline_wish){ .path = path,
				      .build_id = mapping->build_id,
				      .build_id_len = mapping->build_id_len,
				      .maj = mapping->maj,
				      .min = mapping->min,
				      .ino = mapping->ino,
				      .mapping = mapping };
}

/* The reason that says most: that another file was there, rather than that there was none elsewhere. */
static enum door_refusal worse(enum door_refusal first, enum door_refusal later)
{
	return first == DOOR_GONE ? later : first;
}

static enum door_refusal find_recorded(struct files *files, const struct door_mapping *mapping,
				       const char *path, struct door_file *ret, pid_t *ret_pid)
{
	struct offline_wish wish = wish_of(mapping, path);
	enum door_refusal all = DOOR_GONE, refusal;
	struct door_file file;

	if (mapping->build_id_of_path && offline_was_replaced(files->opts.offline, &wish))
		return DOOR_CHANGED;
	for (size_t place = 0; offline_find(files->opts.offline, OFFLINE_ELF, &wish, place,
					    &refusal, &file);
	     place++) {
		if (refusal == DOOR_OK && mapping->build_id_len && !file_is(&file, mapping)) {
			closep(&file.fd);
			refusal = DOOR_CHANGED;
		}
		if (refusal == DOOR_OK) {
			*ret = file;
			*ret_pid = place == OFFLINE_PLACE_PROCESS ? mapping->pid : 0;
			return DOOR_OK;
		}
		all = worse(all, refusal);
	}
	return all;
}

/* What the recording says of a file, in the shape of what a kernel says. */
static struct alias_key recorded_key(const struct door_mapping *mapping, const char *path)
{
	struct alias_key key = { mapping->maj, mapping->min, mapping->ino, path };

	if (mapping->build_id_len >= 16 && !mapping->build_id_of_path) {
		memcpy(&key.ino, mapping->build_id, sizeof(key.ino));
		memcpy(&key.maj, mapping->build_id + 8, sizeof(key.maj));
		memcpy(&key.min, mapping->build_id + 12, sizeof(key.min));
	} else if (!key.ino) {
		key.maj = key.min = UINT32_MAX; /* no device: the path is all there is */
		key.ino = 1;
	}
	return key;
}

struct file *files_get_recorded(struct files *files, const struct door_mapping *mapping, const char *path, bool in_memory)
{
	_cleanup_(door_file_close) struct door_file opened = { .fd = -1 };
	struct alias_key key = recorded_key(mapping, path);
	enum door_refusal refusal = DOOR_FAILED;
	struct entry *e = files_find_alias(files, &key, 0);
	pid_t pid = 0;

	if (e)
		return files_touch(files, e);
	if (files_make_room(files))
		refusal = find_recorded(files, mapping, path, &opened, &pid);
	if (refusal != DOOR_OK) {
		struct file *file = files_missing(files, path, refusal);

		/*
		 * Nothing comes back that was not there: thousands of processes may map it. What was made in memory
		 * is mostly code of which there never was a file.
		 */
		if (!in_memory || mapping->build_id_len)
			files->refused[refusal]++;
		if (file)
			files_add_alias(files, entry_of(file), &key, 0);
		return file;
	}
	e = files_entry_opened(files, path, &opened);
	if (!e)
		return NULL;
	e->file.by_path = !mapping->build_id_len;
	e->file.seen_pid = pid;
	files_add_alias(files, e, &key, 0);
	return files_touch(files, e);
}
