#include "symbols/elf_remote.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/vec.h"
#include "symbols/elf_file_priv.h"
#include "symbols/elf_remote_priv.h"
#include "target/jail.h"
#include "symbols/elf_wire.h"
#include "symbols/inline.h"
#include "symbols/symbols.h"
#include "target/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	IDENT_BYTES = 20, /* e_ident, e_type, e_machine */
	MAX_GO_ROOTS = 256,
	MAX_DEBUGLINK_NAME = 4096,
	MAX_INLINED = 64,
	/* Of a file's head and of names: a table of four million symbols takes a second or two. */
	NAMES_CPU_MS = 20000,
	NAMES_WALL_MS = 60000,
	/* Asked for while rings fill: the Go tables of a program of 100 MB take 110 ms. A sanitizer's build is slower. */
	HEAD_CPU_MS = JAIL_SANITIZED ? 1500 : 500,
	HEAD_WALL_MS = 4000,
	/* Debug information of a gigabyte. */
	INLINED_CPU_MS = 120000,
	INLINED_WALL_MS = 300000,
};

struct elf_remote {
	struct elf_remote_opts opts;
	uint32_t id;      /* the worker's number for it */
	uint32_t told_to; /* generation of the worker that knows the file */
	bool vdso;
	bool head_tried;
	bool aside;
	bool unreadable; /* to the parser as well, when it had just been told of it */
	int debug_fd; /* -1: none, or the worker found that it does not belong to the file */
	uint64_t debug_size;
};

bool elf_file_is_remote(const struct elf_file *f)
{
	return f->remote;
}

/* ---- opening ---- */

static int peek(struct elf_file *f, struct err *err)
{
	const uint8_t host = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
	uint8_t head[IDENT_BYTES];

	if (f->size < sizeof(head) || elf_file_read(f, head, sizeof(head), 0) < 0 || memcmp(head, ELFMAG, SELFMAG) ||
	    (head[EI_CLASS] != ELFCLASS32 && head[EI_CLASS] != ELFCLASS64) || head[EI_DATA] != host ||
	    head[EI_VERSION] != EV_CURRENT)
		return err_set(err, ENOEXEC, "not an ELF file of this machine's kind");
	memcpy(f->ident, head, EI_NIDENT);
	f->is_64 = head[EI_CLASS] == ELFCLASS64;
	memcpy(&f->machine, head + EI_NIDENT + 2, sizeof(f->machine));
	return 0;
}

/* Nothing of it is ever parsed here: whatever would be is as if it had been. */
static struct elf_file *new_remote(const struct elf_remote_opts *opts)
{
	struct elf_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = -1;
	f->remote = calloc(1, sizeof(*f->remote));
	if (!f->remote) {
		free(f);
		return NULL;
	}
	*f->remote = (struct elf_remote){ .opts = *opts, .id = worker_number(opts->worker), .debug_fd = -1 };
	f->sections_tried = f->notes_tried = f->debuglink_tried = f->entry_tried = true;
	f->eh_frame.tried = f->debug_frame.tried = f->pclntab_tried = f->go_roots_tried = true;
	f->is_go = ELF_NO;
	return f;
}

int elf_remote_open(int fd, uint64_t size, const struct elf_remote_opts *opts, struct elf_file **ret, struct err *err)
{
	_cleanup_close_ int guard = fd;
	struct elf_file *f = new_remote(opts);
	struct stat st;
	int r;

	if (!f)
		return err_oom(err);
	f->fd = steal_fd(&guard);
	f->size = size;
	r = fstat(f->fd, &st) < 0 ? err_set(err, errno, "fstat: %s", strerror(errno)) : 0;
	if (!r) {
		f->size_at_open = (uint64_t)st.st_size;
		f->mtime_at_open = st.st_mtim;
		r = peek(f, err);
	}
	if (r < 0) {
		elf_file_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

int elf_remote_open_vdso(const void *bytes, size_t size, const struct elf_remote_opts *opts, struct elf_file **ret,
			 struct err *err)
{
	struct elf_file *f = new_remote(opts);
	int r;

	if (!f)
		return err_oom(err);
	f->bytes = bytes;
	f->size = size;
	f->remote->vdso = true;
	r = peek(f, err);
	if (r < 0) {
		elf_file_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void elf_remote_free(struct elf_file *f)
{
	struct elf_remote *remote = f->remote;

	if (!remote)
		return;
	if (remote->told_to && remote->told_to == worker_generation(remote->opts.worker))
		worker_tell(remote->opts.worker, ELF_TELL_FORGET, &remote->id, sizeof(remote->id), -1);
	closep(&remote->debug_fd);
	free(remote);
	f->remote = NULL;
}

/* ---- asking ---- */

struct asking {
	struct elf_file *f;
	const struct elf_remote_question *question;
};

static void put(uint8_t **pos, const void *value, size_t size)
{
	memcpy(*pos, value, size);
	*pos += size;
}

static bool tell_file(const struct elf_file *f, enum elf_role role, int fd, uint64_t size)
{
	const struct elf_remote *remote = f->remote;
	const int64_t seconds = f->mtime_at_open.tv_sec, nanoseconds = f->mtime_at_open.tv_nsec;
	uint8_t body[4 + 1 + 4 * 8], *pos = body;
	const uint8_t what = (uint8_t)role;

	put(&pos, &remote->id, 4);
	put(&pos, &what, 1);
	put(&pos, &size, 8);
	put(&pos, &f->size_at_open, 8);
	put(&pos, &seconds, 8);
	put(&pos, &nanoseconds, 8);
	return worker_tell(remote->opts.worker, ELF_TELL_FILE, body, sizeof(body), fd);
}

/* struct worker_request. What cannot be told now fails the request, which then is repeated. */
static bool prepare(void *data, struct worker *w)
{
	const struct asking *asking = data;
	struct elf_file *f = asking->f;
	struct elf_remote *remote = f->remote;

	if (remote->told_to == worker_generation(w))
		return true;
	remote->told_to = worker_generation(w);
	tell_file(f, remote->vdso ? ELF_ROLE_VDSO : ELF_ROLE_FILE, f->fd, f->size);
	if (remote->debug_fd >= 0)
		tell_file(f, ELF_ROLE_DEBUG, remote->debug_fd, remote->debug_size);
	return true;
}

static void restart(void *data)
{
	const struct elf_remote_question *question = ((const struct asking *)data)->question;

	if (question->restart)
		question->restart(question->data);
}

static bool take(void *data, struct reader *r)
{
	const struct elf_remote_question *question = ((const struct asking *)data)->question;

	return question->take && question->take(question->data, r);
}

static int want(void *data, struct reader *r)
{
	const struct elf_remote_question *question = ((const struct asking *)data)->question;

	return question->want(question->data, r);
}

static void set_aside(struct elf_remote *remote)
{
	remote->aside = true;
	if (remote->opts.aside)
		remote->opts.aside(remote->opts.data);
}

static int ask(struct elf_file *f, const struct elf_remote_question *question)
{
	struct elf_remote *remote = f->remote;
	struct asking asking = { f, question };
	struct worker_request request = {
		.kind = question->kind,
		.fd = -1,
		.cpu_ms = question->cpu_ms,
		.wall_ms = question->wall_ms,
		.prepare = prepare,
		.restart = restart,
		.take = take,
		.want = question->want ? want : NULL,
		.data = &asking,
	};
	_cleanup_free_ uint8_t *body = NULL;
	uint8_t few[4 + 16 * 8], *pos = few;

	if (remote->aside || question->num > ELF_REMOTE_MANY)
		return -EIO;
	request.size = 4 + question->num * sizeof(uint64_t);
	if (request.size > sizeof(few))
		pos = body = malloc(request.size);
	if (!pos)
		return -EIO;
	request.body = pos;
	put(&pos, &remote->id, 4);
	if (question->num)
		put(&pos, question->vaddrs, question->num * sizeof(uint64_t));
	switch (worker_ask(remote->opts.worker, &request)) {
	case WORKER_DONE:
		return request.result;
	case WORKER_REFUSED:
		set_aside(remote);
		break;
	case WORKER_NONE:
		break;
	}
	return -EIO;
}

int elf_remote_ask(struct elf_file *f, const struct elf_remote_question *question)
{
	struct elf_remote *remote = f->remote;
	int r = remote->unreadable ? -ENOEXEC : ask(f, question);

	if (r != -ENOEXEC || remote->unreadable)
		return r;
	/* It may have forgotten the file for others. */
	remote->told_to = 0;
	r = ask(f, question);
	remote->unreadable = r == -ENOEXEC;
	return r;
}

/* A length and that many bytes, at most `max`; NULL (and failed) otherwise. Not NUL-terminated. */
static const char *read_text(struct reader *r, size_t max, size_t *ret_len)
{
	size_t len = reader_u16(r);
	const char *text = len <= max ? reader_bytes(r, len) : NULL;

	if (!text)
		r->failed = true;
	*ret_len = text ? len : 0;
	return text;
}

/* ---- the head ---- */

static bool take_basics(struct elf_file *f, struct reader *r)
{
	f->is_go = reader_u8(r) ? ELF_YES : ELF_NO;
	f->entry = reader_u64(r);
	f->entry_end = reader_u64(r);
	return !f->entry_end || (f->entry_end > f->entry && f->entry_end - f->entry <= ELF_ENTRY_MAX);
}

static bool take_load(struct elf_file *f, struct reader *r)
{
	struct elf_load load;

	load.offset = reader_u64(r);
	load.vaddr = reader_u64(r);
	load.filesz = reader_u64(r);
	load.memsz = reader_u64(r);
	load.executable = reader_u8(r);
	return f->loads.len < ELF_MAX_PHDRS && elf_load_is_sane(&load) && vec_push(&f->loads, load);
}

static bool take_build_id(struct elf_file *f, struct reader *r)
{
	size_t len;
	const char *id = read_text(r, sizeof(f->build_id), &len);

	if (!id)
		return false;
	memcpy(f->build_id, id, len);
	f->build_id_len = len;
	return true;
}

static bool take_debuglink(struct elf_file *f, struct reader *r)
{
	uint32_t crc = reader_u32(r);
	size_t len;
	const char *name = read_text(r, MAX_DEBUGLINK_NAME, &len);

	if (!name || f->debuglink || memchr(name, '\0', len))
		return false;
	f->debuglink = strndup(name, len);
	if (f->debuglink && !elf_debuglink_is_name(f->debuglink)) {
		free(f->debuglink);
		f->debuglink = NULL;
		return false;
	}
	f->debuglink_crc = crc;
	return true;
}

static bool take_go_root(struct elf_file *f, struct reader *r)
{
	struct elf_go_root root;

	root.start = reader_u64(r);
	root.end = reader_u64(r);
	root.kind = reader_u8(r);
	return root.end > root.start && root.kind > ELF_ROOT_NONE && root.kind < ELF_ROOT_NUM &&
	       f->go_roots.len < MAX_GO_ROOTS && vec_push(&f->go_roots, root);
}

bool elf_remote_take_head(void *data, struct reader *r)
{
	struct elf_file *f = data;

	switch ((enum elf_head_part)reader_u8(r)) {
	case ELF_PART_BASICS:
		return take_basics(f, r);
	case ELF_PART_LOAD:
		return take_load(f, r);
	case ELF_PART_BUILD_ID:
		return take_build_id(f, r);
	case ELF_PART_DEBUGLINK:
		return take_debuglink(f, r);
	case ELF_PART_GO_ROOT:
		return take_go_root(f, r);
	}
	return false;
}

static void forget_head(void *data)
{
	struct elf_file *f = data;

	f->is_go = ELF_NO;
	f->entry = f->entry_end = 0;
	f->loads.len = f->go_roots.len = 0;
	f->build_id_len = 0;
	free(f->debuglink);
	f->debuglink = NULL;
}

void elf_remote_head(struct elf_file *f)
{
	const struct elf_remote_question question = {
		.kind = ELF_ASK_HEAD,
		.cpu_ms = HEAD_CPU_MS,
		.wall_ms = HEAD_WALL_MS,
		.take = elf_remote_take_head,
		.restart = forget_head,
		.data = f,
	};

	if (f->remote->head_tried)
		return;
	f->remote->head_tried = true;
	if (elf_remote_ask(f, &question) < 0)
		forget_head(f);
	else if (f->remote->opts.known)
		f->remote->opts.known(f->remote->opts.data);
}

/* ---- names ---- */

bool elf_remote_take_names(void *data, struct reader *r)
{
	struct elf_names_taken *t = data;
	uint32_t first = reader_u32(r);
	uint32_t num = reader_u32(r);
	uint64_t start = reader_u64(r);
	size_t len;
	const char *text = read_text(r, ELF_TEXT_MAX, &len);
	const char *name;

	if (!text || !num || first >= t->num || num > t->num - first || start > t->vaddrs[first])
		return false;
	name = intern_mem(t->strings, text, len);
	t->no_memory |= !name;
	for (uint32_t i = first; i < first + num; i++)
		t->symbols[i] = (struct symbol){ .name = name, .offset = t->vaddrs[i] - start };
	return true;
}

static void forget_names(void *data)
{
	struct elf_names_taken *t = data;

	memset(t->symbols, 0, t->num * sizeof(*t->symbols));
}

bool elf_remote_names(struct elf_file *f, struct intern *strings, const uint64_t *vaddrs, size_t num, struct symbol *ret)
{
	bool no_memory = false;

	for (size_t at = 0; at < num; at += ELF_REMOTE_MANY) {
		size_t part = num - at < ELF_REMOTE_MANY ? num - at : ELF_REMOTE_MANY;
		struct elf_names_taken taken = { strings, vaddrs + at, part, ret + at, false };
		const struct elf_remote_question question = {
			.kind = ELF_ASK_NAMES,
			.vaddrs = vaddrs + at,
			.num = part,
			.cpu_ms = NAMES_CPU_MS,
			.wall_ms = NAMES_WALL_MS,
			.take = elf_remote_take_names,
			.restart = forget_names,
			.data = &taken,
		};

		forget_names(&taken);
		if (elf_remote_ask(f, &question) < 0)
			forget_names(&taken);
		no_memory |= taken.no_memory;
	}
	return !no_memory;
}

int elf_remote_add_debug(struct elf_file *f, int fd, uint64_t size)
{
	const struct elf_remote_question question = {
		.kind = ELF_ASK_DEBUG,
		.cpu_ms = NAMES_CPU_MS,
		.wall_ms = NAMES_WALL_MS,
	};
	struct elf_remote *remote = f->remote;
	int r;

	if (remote->debug_fd >= 0) {
		closep(&fd);
		return -EALREADY;
	}
	remote->debug_fd = fd;
	remote->debug_size = size;
	if (remote->told_to && remote->told_to == worker_generation(remote->opts.worker))
		tell_file(f, ELF_ROLE_DEBUG, fd, size); /* else prepare tells of both */
	r = elf_remote_ask(f, &question);
	if (!r)
		return 0;
	closep(&remote->debug_fd);
	remote->debug_fd = -1;
	remote->told_to = 0;
	return r;
}

/* ---- inlined functions ---- */

bool elf_remote_take_inlined(void *data, struct reader *r)
{
	struct elf_inlined_taken *t = data;
	uint32_t at = reader_u32(r);
	uint8_t left = reader_u8(r);
	size_t name_len, file_len;
	const char *name = read_text(r, ELF_TEXT_MAX, &name_len);
	const char *file = read_text(r, ELF_TEXT_MAX / 4, &file_len);
	struct inline_frame frame = { .line = reader_u32(r) };

	if (!name || !file || at >= t->num || t->num_frames == MAX_INLINED || (t->num_frames && at != t->at))
		return false;
	frame.name = intern_mem(t->strings, name, name_len);
	frame.file = file_len ? intern_mem(t->strings, file, file_len) : NULL;
	if (!frame.name)
		frame.name = "??"; /* out of memory */
	t->at = at;
	t->frames[t->num_frames++] = frame;
	if (left)
		return true;
	/* Each place once, so that a repetition changes nothing. */
	if (t->num_frames > 1 && at >= t->next) {
		t->each(t->data, t->base + at, t->frames, t->num_frames);
		t->next = at + 1;
	}
	t->num_frames = 0;
	return true;
}

static void restart_inlined(void *data)
{
	((struct elf_inlined_taken *)data)->num_frames = 0;
}

static int give_beside(void *data, struct reader *r)
{
	const struct elf_inlined_taken *t = data;
	char name[4096], magic[SELFMAG];
	size_t name_len, id_len;
	const char *text = read_text(r, sizeof(name) - 1, &name_len);
	const char *id = read_text(r, ELF_MAX_BUILD_ID, &id_len);
	int fd;

	if (!text || !id || memchr(text, '\0', name_len))
		return -1;
	memcpy(name, text, name_len);
	name[name_len] = '\0';
	fd = t->open_beside(t->data, name, id_len ? (const uint8_t *)id : NULL, id_len);
	/* The name is the parser's word: what it gets is an ELF file, or nothing. */
	if (fd >= 0 && (door_pread(fd, magic, sizeof(magic), 0) < 0 || memcmp(magic, ELFMAG, SELFMAG)))
		closep(&fd);
	return fd >= 0 ? fd : -1;
}

int elf_remote_find_inlined(struct elf_file *f, const struct elf_remote_inlined *in)
{
	_cleanup_free_ struct elf_inlined_taken *taken = calloc(1, sizeof(*taken));
	int r = -ENOMEM;

	for (size_t at = 0; taken && at < in->num; at += ELF_REMOTE_MANY) {
		const struct elf_remote_question question = {
			.kind = ELF_ASK_INLINED,
			.vaddrs = in->vaddrs + at,
			.num = in->num - at < ELF_REMOTE_MANY ? in->num - at : ELF_REMOTE_MANY,
			.cpu_ms = INLINED_CPU_MS,
			.wall_ms = INLINED_WALL_MS,
			.take = elf_remote_take_inlined,
			.want = give_beside,
			.restart = restart_inlined,
			.data = taken,
		};

		*taken = (struct elf_inlined_taken){ .strings = in->strings,
						     .num = question.num,
						     .base = at,
						     .each = in->each,
						     .open_beside = in->open_beside,
						     .data = in->data };
		r = elf_remote_ask(f, &question);
		if (r < 0)
			break;
	}
	return r;
}

/* ---- the kernel ---- */

bool elf_remote_take_kernel(void *data, struct reader *r)
{
	struct elf_remote_kernel *k = data;
	uint32_t first = reader_u32(r), num;
	size_t name_len, module_len;
	const char *name, *module;
	struct symbol symbol = { 0 };
	uint64_t start;

	if (first == UINT32_MAX) {
		uint8_t flags = reader_u8(r);

		k->hidden = flags & ELF_KERNEL_HIDDEN;
		k->empty = flags & ELF_KERNEL_EMPTY;
		return true;
	}
	num = reader_u32(r);
	start = reader_u64(r);
	name = read_text(r, ELF_TEXT_MAX, &name_len);
	module = read_text(r, ELF_TEXT_MAX / 4, &module_len);
	if (!name || !module || !num || first >= k->num || num > k->num - first || start > k->addrs[first])
		return false;
	symbol.name = intern_mem(k->strings, name, name_len);
	module = module_len ? intern_mem(k->strings, module, module_len) : NULL;
	for (uint32_t i = first; i < first + num; i++) {
		symbol.offset = k->addrs[i] - start;
		k->symbols[i] = symbol;
		k->modules[i] = module;
	}
	return true;
}

static void forget_kernel(void *data)
{
	struct elf_remote_kernel *k = data;

	k->hidden = k->empty = false;
	for (size_t i = 0; i < k->num; i++) {
		k->symbols[i] = (struct symbol){ 0 };
		k->modules[i] = NULL;
	}
}

int elf_remote_kernel(struct worker *w, int fd, struct elf_remote_kernel *k)
{
	struct worker_request request = {
		.kind = ELF_ASK_KERNEL,
		.body = k->addrs,
		.size = k->num * sizeof(uint64_t),
		.fd = fd,
		.cpu_ms = NAMES_CPU_MS,
		.wall_ms = NAMES_WALL_MS,
		.restart = forget_kernel,
		.take = elf_remote_take_kernel,
		.data = k,
	};

	forget_kernel(k);
	if (worker_ask(w, &request) == WORKER_DONE)
		return request.result;
	forget_kernel(k);
	return -EIO;
}

void elf_remote_relax(struct worker *w, int nice)
{
	const int32_t value = nice;

	if (worker_generation(w))
		worker_tell(w, ELF_TELL_NICE, &value, sizeof(value), -1);
}
