#include "symbols/inlined.h"

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "symbols/elf_file.h"
#include "symbols/elf_remote.h"
#include "symbols/file.h"
#include "symbols/inline.h"
#include "target/build_id.h"

#include <errno.h>
#include <string.h>

enum { MAX_INLINED = 64 }; /* calls at one place; compilers stop far earlier */

struct beside {
	struct files *files;
	struct file *file;
};

/* Where distributions link every debug file. */
static int open_by_id(const struct beside *b, const uint8_t *id, size_t len)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };

	if (!id || len < 2)
		return -1;
	build_id_path(&path, "/usr/lib/debug", id, len, ".debug");
	return path.failed ? -1 : files_open_named(b->files, b->file, path.data);
}

/* struct inline_files */
static int open_beside(void *data, const char *name, const uint8_t *id, size_t id_len)
{
	const struct beside *b = data;
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	int fd;

	if (!strcmp(name, ".dwp")) {
		strbuf_printf(&path, "%s.dwp", b->file->path);
		name = path.data;
	}
	fd = path.failed ? -1 : files_open_named(b->files, b->file, name);
	return fd >= 0 ? fd : open_by_id(b, id, id_len);
}

static struct inliner *open_inliner(const struct beside *beside, struct intern *strings, bool debug)
{
	const struct inline_files files = { open_beside, (void *)beside };
	int fd = elf_file_dup_fd(beside->file->elf, debug);
	struct inliner *in;

	return fd >= 0 && inliner_open(fd, &files, strings, &in, NULL) == 0 ? in : NULL;
}

struct find {
	struct beside beside;
	void (*each)(void *data, size_t i, const struct inline_frame *frames, size_t num);
	void *data;
};

static void each_remote(void *data, size_t i, const struct inline_frame *frames, size_t num)
{
	const struct find *find = data;

	find->each(find->data, i, frames, num);
}

static int beside_remote(void *data, const char *name, const uint8_t *id, size_t id_len)
{
	struct find *find = data;

	return open_beside(&find->beside, name, id, id_len);
}

/* Of a file that is parsed elsewhere. */
static void find_remote(struct find *find, struct intern *strings, const uint64_t *vaddrs, size_t num)
{
	const struct elf_remote_inlined in = { .strings = strings,
					       .vaddrs = vaddrs,
					       .num = num,
					       .each = each_remote,
					       .open_beside = beside_remote,
					       .data = find };
	struct file *file = find->beside.file;

	if (elf_remote_find_inlined(file->elf, &in) == -ENODATA && files_find_debug(find->beside.files, file))
		elf_remote_find_inlined(file->elf, &in);
}

void inlined_find(struct files *files, struct intern *strings, struct file *file, const uint64_t *vaddrs,
		  size_t num, void (*each)(void *data, size_t i, const struct inline_frame *frames, size_t num),
		  void *data)
{
	const struct beside beside = { files, file };
	struct inline_frame frames[MAX_INLINED];
	struct inliner *in;

	if (!file->elf)
		return;
	if (elf_file_is_remote(file->elf)) {
		find_remote(&(struct find){ beside, each, data }, strings, vaddrs, num);
		return;
	}
	in = open_inliner(&beside, strings, false);
	if (!in) {
		files_find_debug(files, file); /* nothing when that was done before */
		in = open_inliner(&beside, strings, true);
	}
	if (!in)
		return;
	for (size_t i = 0; i < num; i++) {
		size_t found = inliner_find(in, vaddrs[i], frames, MAX_INLINED);

		if (found > 1)
			each(data, i, frames, found);
	}
	inliner_free(in);
}
