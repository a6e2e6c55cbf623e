#include "target/offline.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/build_id.h"
#include "target/debuginfod.h"
#include "target/door_priv.h"
#include "target/proc_text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/stat.h>
#include <unistd.h>

/* Clocks of records and of files are a few seconds apart; see offline.h. */
static const int64_t slack_ns = INT64_C(10) * 1000 * 1000 * 1000;
/* File times follow the timer tick. */
static const int64_t grain_ns = 20 * 1000 * 1000;

enum { MAX_ID_BYTES = 20 };

struct offline {
	struct offline_opts opts;
	enum offline_origin origin;
	int64_t clock_ns;  /* CLOCK_REALTIME minus the time of records */
	struct door *root; /* opts.door, or that of --symfs */
	struct door *own;  /* what of it is ours to free */
	struct door *maps; /* of --map-dir; NULL = none is given */
	char *cache;       /* perf's: ~/.debug; NULL = no home */
	bool asked_for_servers;
	struct debuginfod *servers;
	const char *note;
};

static void offline_freep(struct offline **o)
{
	offline_free(*o);
}

int offline_new(const struct offline_opts *opts, struct offline **ret, struct err *err)
{
	_cleanup_(offline_freep) struct offline *o = calloc(1, sizeof(*o));
	const char *home = getenv("HOME");
	int r;

	if (!o)
		return err_oom(err);
	o->opts = *opts;
	o->origin = OFFLINE_THIS_MACHINE;
	o->root = opts->door;
	if (opts->symfs) {
		r = door_new_below(opts->symfs, &o->own, err);
		if (r < 0)
			return err_prefix(err, "--symfs");
		o->root = o->own;
	}
	if (opts->map_dir) {
		r = door_new_below(opts->map_dir, &o->maps, err);
		if (r < 0)
			return err_prefix(err, "--map-dir");
	}
	if (home && *home == '/' && asprintf(&o->cache, "%s/.debug", home) < 0) {
		o->cache = NULL;
		return err_oom(err);
	}
	*ret = steal_ptr(o);
	return 0;
}

void offline_free(struct offline *o)
{
	if (!o)
		return;
	debuginfod_free(o->servers);
	door_free(o->own);
	door_free(o->maps);
	free(o->cache);
	free(o);
}

void offline_set_origin(struct offline *o, enum offline_origin origin, int64_t clock_ns)
{
	o->origin = origin;
	o->clock_ns = clock_ns;
}

void offline_lay_here(struct offline *o)
{
	int64_t boot_ns = (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME));

	if (o->origin == OFFLINE_THIS_MACHINE && o->opts.end_ns > boot_ns)
		o->origin = OFFLINE_THIS_BOOT;
}

const char *offline_note(const struct offline *o)
{
	return o->note;
}

static void door_file_close(struct door_file *file)
{
	closep(&file->fd);
}

/* stat of btrfs and overlayfs tells another device than the kernel's records do (door_open.c). */
static bool hides_device(int fd)
{
	static const uint32_t overlayfs = 0x794c7630, btrfs = 0x9123683e;
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 &&
	       ((uint32_t)fs.f_type == overlayfs || (uint32_t)fs.f_type == btrfs);
}

static bool is_mapped_inode(const struct offline_wish *wish, const struct door_file *file)
{
	if ((uint64_t)file->ino != wish->ino)
		return false;
	return hides_device(file->fd) ||
	       (major(file->dev) == wish->maj && minor(file->dev) == wish->min);
}

bool offline_was_replaced(const struct offline *o, const struct offline_wish *wish)
{
	_cleanup_(door_file_close) struct door_file file = { .fd = -1 };

	if (!wish->ino || o->opts.symfs || o->origin == OFFLINE_ELSEWHERE || wish->path[0] != '/' ||
	    door_open(o->root, 0, wish->path, DOOR_ELF, &file, NULL) != DOOR_OK)
		return false;
	return !is_mapped_inode(wish, &file) && file.ctime_ns <= o->opts.end_ns;
}

/* Without a build-id: is the file of that path still the one that was mapped? */
static enum door_refusal check_by_path(const struct offline *o, const struct offline_wish *wish,
				       const struct door_file *file)
{
	if (o->opts.symfs)
		return DOOR_OK;
	if (file->mtime_ns > o->opts.end_ns)
		return DOOR_STALE;
	if (wish->ino)
		return is_mapped_inode(wish, file) ? DOOR_OK : DOOR_CHANGED;
	return o->origin == OFFLINE_ELSEWHERE || file->ctime_ns > o->opts.end_ns ? DOOR_CHANGED
										 : DOOR_OK;
}

static enum door_refusal open_path(const struct offline *o, const struct offline_wish *wish,
				   struct door_file *ret)
{
	_cleanup_(door_file_close) struct door_file file = { .fd = -1 };
	enum door_refusal refusal;

	/* "[vdso]", "//anon" and "/memfd:x (deleted)" are no paths. */
	if (wish->path[0] != '/' || wish->path[1] == '/')
		return DOOR_GONE;
	refusal = door_open(o->root, 0, wish->path, DOOR_ELF, &file, NULL);
	if (refusal == DOOR_OK && !wish->build_id_len)
		refusal = check_by_path(o, wish, &file);
	if (refusal != DOOR_OK)
		return refusal;
	*ret = file;
	file.fd = -1;
	return DOOR_OK;
}

/* The mapped file itself, while what mapped it lives: only the very inode is taken (door_open_mapping). */
static enum door_refusal open_mapped(const struct offline *o, const struct offline_wish *wish,
				     struct door_file *ret)
{
	_cleanup_(door_file_close) struct door_file file = { .fd = -1 };
	enum door_refusal refusal;

	if (o->origin != OFFLINE_THIS_BOOT || !wish->mapping || !wish->ino || o->opts.symfs)
		return DOOR_GONE;
	refusal = door_open_mapping(o->opts.door, wish->mapping, NULL, 0, &file, NULL);
	if (refusal != DOOR_OK)
		return DOOR_GONE;
	if (file.mtime_ns > o->opts.end_ns)
		return DOOR_STALE;
	*ret = file;
	file.fd = -1;
	return DOOR_OK;
}

static enum door_refusal open_by_id(struct door *door, const char *dir,
				    const struct offline_wish *wish, const char *tail,
				    enum door_want want, struct door_file *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };

	build_id_path(&path, dir, wish->build_id, wish->build_id_len, tail);
	return path.failed ? DOOR_FAILED : door_open(door, 0, path.data, want, ret, NULL);
}

static enum door_refusal fetch(struct offline *o, enum debuginfod_kind kind,
			       const struct offline_wish *wish, struct door_file *ret)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (!o->asked_for_servers) {
		o->asked_for_servers = true;
		o->servers = debuginfod_new(&o->note);
	}
	if (!o->servers)
		return DOOR_GONE;
	fd = debuginfod_find(o->servers, kind, wish->build_id, wish->build_id_len);
	if (fd < 0)
		return DOOR_GONE;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return DOOR_NOT_REGULAR;
	*ret = (struct door_file){ .dev = st.st_dev, .ino = st.st_ino,
				   .size = (uint64_t)st.st_size };
	ret->fd = steal_fd(&fd);
	return DOOR_OK;
}

static enum door_refusal find_elf(struct offline *o, const struct offline_wish *wish,
				  size_t place, struct door_file *ret)
{
	bool vdso = !strcmp(wish->path, "[vdso]");

	switch (place) {
	case 0:
		return open_path(o, wish, ret);
	case OFFLINE_PLACE_PROCESS:
		return open_mapped(o, wish, ret);
	case 2: /* perf since 4.12: a directory for each build-id (tools/perf/util/build-id.c) */
		return o->cache ? open_by_id(o->opts.door, o->cache, wish,
					     vdso ? "/vdso" : "/elf", DOOR_ELF, ret)
				: DOOR_GONE;
	case 3: /* before: the file itself */
		return o->cache ? open_by_id(o->opts.door, o->cache, wish, "", DOOR_ELF, ret)
				: DOOR_GONE;
	case 4: /* Fedora and its kin */
		return open_by_id(o->root, "/usr/lib", wish, "", DOOR_ELF, ret);
	case 5:
		return open_by_id(o->root, "/usr/lib/debug", wish, "", DOOR_ELF, ret);
	default:
		return vdso ? DOOR_GONE : fetch(o, DEBUGINFOD_EXECUTABLE, wish, ret);
	}
}

static enum door_refusal find_debug(struct offline *o, const struct offline_wish *wish,
				    size_t place, struct door_file *ret)
{
	switch (place) {
	case 0:
		return open_by_id(o->root, "/usr/lib/debug", wish, ".debug", DOOR_DEBUG, ret);
	case 1:
		return o->cache ? open_by_id(o->opts.door, o->cache, wish, "/debug", DOOR_DEBUG,
					     ret)
				: DOOR_GONE;
	default:
		return fetch(o, DEBUGINFOD_DEBUGINFO, wish, ret);
	}
}

bool offline_find(struct offline *o, enum offline_kind kind, const struct offline_wish *wish,
		  size_t place, enum door_refusal *refusal, struct door_file *ret)
{
	static const size_t num_places[] = { [OFFLINE_ELF] = 7, [OFFLINE_DEBUG] = 3,
					     [OFFLINE_KALLSYMS] = 1 };

	*refusal = DOOR_GONE;
	if (wish->build_id_len > MAX_ID_BYTES || wish->build_id_len == 1)
		return false;
	if (!wish->build_id_len) {
		if (kind != OFFLINE_ELF || place > OFFLINE_PLACE_PROCESS)
			return false;
		*refusal = find_elf(o, wish, place, ret);
		return true;
	}
	if (place >= num_places[kind])
		return false;
	switch (kind) {
	case OFFLINE_ELF:
		*refusal = find_elf(o, wish, place, ret);
		break;
	case OFFLINE_DEBUG:
		*refusal = find_debug(o, wish, place, ret);
		break;
	case OFFLINE_KALLSYMS:
		if (o->cache)
			*refusal = open_by_id(o->opts.door, o->cache, wish, "/kallsyms",
					      DOOR_DEBUG, ret);
		break;
	}
	return true;
}

enum door_refusal offline_open_debug(struct offline *o, const char *path, struct door_file *ret)
{
	return door_open(o->root, 0, path, DOOR_DEBUG, ret, NULL);
}

/* CLOCK_REALTIME at which the process that has this pid now started; INT64_MAX = there is none. */
static int64_t live_start_ns(struct door *door, pid_t pid)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK), second = 1000000000;
	uint64_t ticks;

	if (door_read_proc(door, pid, "stat", 65536, &text, NULL, NULL) < 0 ||
	    proc_stat_start_time(text.data, text.len, &ticks) < 0 || !hz ||
	    ticks / hz > INT64_MAX / second / 4)
		return INT64_MAX;
	return (int64_t)(ticks / hz * second + ticks % hz * second / hz) +
	       (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME));
}

static enum door_refusal open_left_behind(struct offline *o, const char *path, int64_t exec_ns,
					  struct door_file *ret)
{
	_cleanup_(door_file_close) struct door_file file = { .fd = -1 };
	int64_t boot_ns = (int64_t)(clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME));
	enum door_refusal refusal =
		door_open(o->opts.door, 0, path, DOOR_PERFMAP, &file, NULL);

	if (refusal != DOOR_OK)
		return refusal;
	if (file.mtime_ns < (exec_ns > slack_ns ? exec_ns - slack_ns : boot_ns))
		return DOOR_STALE;
	if (o->opts.end_ns < INT64_MAX && file.mtime_ns - grain_ns > o->opts.end_ns)
		return DOOR_STALE;
	*ret = file;
	file.fd = -1;
	return DOOR_OK;
}

/* The user vouches for what is in --map-dir. */
static enum door_refusal open_given(struct offline *o, const char *path, struct door_file *ret)
{
	return door_open(o->maps, 0, path, DOOR_DEBUG, ret, NULL);
}

enum door_refusal offline_open_given_dump(struct offline *o, pid_t pid, struct door_file *ret)
{
	char path[40];

	snprintf(path, sizeof(path), "/jit-%d.dump", (int)pid);
	return o->maps ? open_given(o, path, ret) : DOOR_GONE;
}

enum door_refusal offline_open_perfmap(struct offline *o, const struct offline_process *process,
				       struct door_file *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	int64_t start_ns = INT64_MAX, exec_ns = 0;

	if (process->exec_ns && process->exec_ns <= INT64_MAX)
		exec_ns = (int64_t)(process->exec_ns + (uint64_t)o->clock_ns);
	strbuf_printf(&path, "%s/perf-%d.map", o->maps ? "" : "/tmp", (int)process->pid);
	if (path.failed)
		return DOOR_FAILED;
	if (o->maps)
		return open_given(o, path.data, ret);
	if (o->origin != OFFLINE_THIS_BOOT)
		return DOOR_FOREIGN;
	if (!process->ended)
		start_ns = live_start_ns(o->opts.door, process->pid);
	/* The program began its life by an exec, which came after the process did. */
	if (start_ns <= o->opts.end_ns &&
	    (!exec_ns || start_ns - slack_ns <= exec_ns))
		return door_open_perfmap(o->opts.door, process->pid, ret, NULL);
	return open_left_behind(o, path.data, exec_ns, ret);
}
