/* Cgroups and what tells of containers; door.h has the rules. */
#include "target/door.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/broker_priv.h"
#include "target/door_priv.h"
#include "target/proc_text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { MAX_LOGS = 65536, MAX_MOUNTINFO = 16 << 20 };

int door_namespace(struct door *door, pid_t pid, const char *name, uint64_t *ret)
{
	_cleanup_close_ int dir = -1;
	char path[16];
	struct stat st;

	if (door->broker)
		return broker_number(door->broker, BROKER_NAMESPACE, pid, name, -1, ret, NULL);
	dir = door_process(door, pid);
	if (dir < 0)
		return dir;
	if (strcmp(name, "pid") && strcmp(name, "mnt") && strcmp(name, "user") && strcmp(name, "cgroup"))
		return -EINVAL;
	snprintf(path, sizeof(path), "ns/%s", name);
	if (fstatat(dir, path, &st, 0) < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret = st.st_ino;
	return 0;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* A directory for reading below `root`, which no link leads out of. */
static int open_dir(const struct door *door, int root, const char *path)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC;
	struct open_how how = {
		.flags = (uint64_t)flags,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	path += strspn(path, "/");
	if (!*path)
		path = ".";
	if (door->have_openat2)
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	else
		fd = openat(root, path, flags | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* The root of process 1, where that is another one than ours and can be looked into safely. */
static int open_first_root(const struct door *door)
{
	_cleanup_close_ int process = door_process(door, 1);

	if (process < 0 || !door->have_openat2 || door_shares_our_root(door, process))
		return -1;
	return openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* In our own root, in /host, in the root of process 1. */
enum { OWN_LOGS, HOST_LOGS, FIRST_LOGS, NUM_LOGS };

int door_open_logs(struct door *door, unsigned int which)
{
	_cleanup_close_ int root = -1;

	if (door->broker)
		return broker_open_text(door->broker, BROKER_LOGS, 0, which, "", NULL);
	if (which == HOST_LOGS)
		root = openat(door->root_fd, "host", O_PATH | O_DIRECTORY | O_CLOEXEC);
	else if (which == FIRST_LOGS)
		root = open_first_root(door);
	if (root < 0 && which != OWN_LOGS)
		return -ENOENT;
	return open_dir(door, which == OWN_LOGS ? door->root_fd : root, "var/log/containers");
}

/* Takes fd. */
static int list_logs(int fd, int (*each)(void *data, const char *name), void *data)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		close(fd);
		return 0;
	}
	for (size_t i = 0; i < MAX_LOGS && (entry = readdir(dir)); i++) {
		int stop = each(data, entry->d_name);

		if (stop)
			return stop;
	}
	return 0;
}

int door_each_container_log(struct door *door, int (*each)(void *data, const char *name), void *data)
{
	int r = 0;

	for (unsigned int which = 0; !r && which < NUM_LOGS; which++) {
		int fd = door_open_logs(door, which);

		if (fd >= 0)
			r = list_logs(fd, each, data);
	}
	return r;
}

/* --- Directories of cgroups --- */

static bool has_dots(const char *path)
{
	for (; path; path = strchr(path, '/')) {
		path += strspn(path, "/");
		if (!strncmp(path, "..", 2) && (!path[2] || path[2] == '/'))
			return true;
	}
	return false;
}

/* What follows `prefix` in `path`, "" or "/..", when it lies there; else NULL. */
static const char *below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	if (len && prefix[len - 1] == '/')
		len--;
	if (strncmp(path, prefix, len) || (path[len] && path[len] != '/'))
		return NULL;
	return path + len;
}

/* A search through the mounts that one process sees. */
struct search {
	const struct door *door;
	int root; /* of that process */
	bool unified;
	const char *path;
	int fd; /* found; -1 = not yet */
	int code;
};

/* Another file system may be mounted over the one that is meant. */
static bool is_on(int fd, const struct proc_cgroup_mount *mount)
{
	struct stat st;

	return !fstat(fd, &st) && major(st.st_dev) == mount->maj && minor(st.st_dev) == mount->min;
}

static int try_mount(void *data, const struct proc_cgroup_mount *mount)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	struct search *s = data;
	const char *rest = below(s->path, mount->root);
	int fd;

	if (mount->unified != s->unified || !rest || has_dots(rest) ||
	    (!s->unified && !proc_has_controller(mount->options, "perf_event")))
		return 0;
	strbuf_printf(&path, "%s%s", mount->point, rest);
	if (path.failed)
		return -ENOMEM;
	fd = open_dir(s->door, s->root, path.data);
	if (fd < 0) {
		s->code = s->code == -ENOENT ? fd : s->code;
		return 0;
	}
	if (!is_on(fd, mount)) {
		close(fd);
		return 0;
	}
	s->fd = fd;
	return 1;
}

static int search_mounts(struct search *s, int process)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r = door_read_at(process, "mountinfo", MAX_MOUNTINFO, &text, NULL);

	return r < 0 ? r : proc_cgroup_mounts(text.data, text.len, try_mount, s);
}

int door_open_cgroup(struct door *door, bool unified, const char *path, struct err *err)
{
	_cleanup_close_ int own = -1, first = -1, first_root = -1;
	struct search s = { .door = door, .root = door->root_fd, .unified = unified, .path = path,
			    .fd = -1, .code = -ENOENT };
	int r;

	if (door->broker)
		return broker_open_text(door->broker, BROKER_CGROUP, 0, unified, path, err);
	own = door_process(door, getpid());
	r = own < 0 ? own : search_mounts(&s, own);
	if (!r) {
		first_root = open_first_root(door);
		first = first_root >= 0 ? door_process(door, 1) : -1;
		s.root = first_root;
		if (first >= 0)
			r = search_mounts(&s, first);
	}
	if (s.fd >= 0)
		return s.fd;
	r = r < 0 ? r : s.code;
	return err_set(err, -r, "open the directory of the cgroup: %s", strerror(-r));
}

int door_open_cgroup_dir(struct door *door, const char *dir, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct statfs fs;

	if (door->broker)
		return broker_open_text(door->broker, BROKER_CGROUP_DIR, 0, 0, dir, err);
	fd = open_dir(door, door->root_fd, dir);
	if (fd < 0)
		return err_set(err, -fd, "open the directory of the cgroup: %s", strerror(-fd));
	if (fstatfs(fd, &fs) < 0)
		return err_set(err, errno, "stat the file system: %s", strerror(errno));
	if ((uint32_t)fs.f_type != CGROUP2_SUPER_MAGIC && (uint32_t)fs.f_type != CGROUP_SUPER_MAGIC)
		return err_set(err, ENOENT, "not a directory of a cgroup file system");
	return steal_fd(&fd);
}

bool door_cgroup_populated(struct door *door, int fd)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const char *line;
	uint64_t populated;

	if (door->broker)
		return broker_number(door->broker, BROKER_POPULATED, 0, "", fd, &populated, NULL) < 0 ||
		       populated;
	if (faccessat(fd, "cgroup.procs", R_OK, 0) < 0)
		return false;
	if (door_read_at(fd, "cgroup.events", 4096, &text, NULL) < 0 || !text.data)
		return true;
	line = strstr(text.data, "populated ");
	return !line || line[strlen("populated ")] != '0';
}

int door_cgroup_read(struct door *door, int fd, const char *name, struct strbuf *ret)
{
	if (door->broker)
		return -ENOTSUP;
	if (strchr(name, '/'))
		return -EINVAL;
	return door_read_at(fd, name, 65536, ret, NULL);
}

/* A person names the directory: the longest mount that it lies on is cut off. */
struct naming {
	const char *given;
	size_t point_len;
	char root[4096];
};

static int match_point(void *data, const struct proc_cgroup_mount *mount)
{
	struct naming *n = data;
	const char *rest = below(n->given, mount->point);

	if (rest && (size_t)(rest - n->given) > n->point_len) {
		n->point_len = (size_t)(rest - n->given);
		memcpy(n->root, mount->root, sizeof(n->root));
	}
	return 0;
}

bool door_cgroup_path(struct door *door, const char *given, struct strbuf *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct naming n = { .given = given };

	if (!*given || has_dots(given))
		return false;
	if (door_read_proc(door, getpid(), "mountinfo", MAX_MOUNTINFO, &text, NULL, NULL) == 0)
		proc_cgroup_mounts(text.data, text.len, match_point, &n);
	if (n.point_len && strcmp(n.root, "/"))
		strbuf_str(ret, n.root);
	given += n.point_len;
	while (*given) {
		size_t len = strcspn(given, "/");

		if (len) {
			strbuf_char(ret, '/');
			strbuf_add(ret, given, len);
		}
		given += len + (given[len] == '/');
	}
	if (!ret->len)
		strbuf_char(ret, '/');
	return !ret->failed;
}
