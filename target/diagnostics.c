#include "target/diagnostics.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "target/broker_priv.h"
#include "target/door.h"
#include "target/door_priv.h"
#include "target/proc_text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_ENVIRON = 2 << 20, /* bytes: the kernel's limit for arguments and environment is a quarter of 8 MiB */
	MAX_SESSIONS = 4096,
	END_MS = 2000,
	MAX_READS = 64, /* of one stream at a time */
};

/* Who the process is, as its socket's name and owner tell. */
struct identity {
	pid_t nspid;
	uid_t uid;
	gid_t gid;
	uint64_t start_ticks;
};

static int read_identity(int process, struct identity *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct proc_status status;
	struct stat st;
	int r = door_read_at(process, "status", 65536, &text, NULL);

	if (!r)
		r = proc_status_parse(text.data, text.len, &status);
	if (r < 0)
		return r;
	strbuf_clear(&text);
	r = door_read_at(process, "stat", 65536, &text, NULL);
	if (!r)
		r = proc_stat_start_time(text.data, text.len, &ret->start_ticks);
	if (r < 0)
		return r;
	ret->nspid = status.nspid;
	ret->uid = status.euid;
	/* Files of a process belong to its effective ids, or to root when it may not be looked into. */
	ret->gid = fstat(process, &st) < 0 || st.st_uid != status.euid ? (gid_t)-1 : st.st_gid;
	return 0;
}

/* Where the runtime makes its socket: $TMPDIR as the process was started with it, else /tmp (PAL GetTempPathA). */
static int temporary_directory(int process, struct strbuf *ret)
{
	static const char name[] = "TMPDIR=";
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	int r = door_read_at(process, "environ", MAX_ENVIRON, &text, NULL);

	for (size_t at = 0; !r && at < text.len; at += strlen(text.data + at) + 1) {
		const char *value = text.data + at + sizeof(name) - 1;

		if (strncmp(text.data + at, name, sizeof(name) - 1) != 0 || value[0] != '/')
			continue;
		strbuf_str(ret, value);
		return ret->failed ? -ENOMEM : 0;
	}
	strbuf_str(ret, "/tmp");
	return ret->failed ? -ENOMEM : 0;
}

/* O_PATH of what has that name inside the root of the process; no link at its end, and none that leads out. */
static int find_socket(const struct door *door, int process, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int root = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (root < 0)
		return -errno;
	if (door->have_openat2)
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	else if (door_shares_our_root(door, process))
		fd = openat(door->root_fd, path + strspn(path, "/"), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	else
		return -ENOSYS;
	return fd < 0 ? -errno : fd;
}

static int connect_through(int sock, int path_fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", path_fd);
	return connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

/* The same as the target's user, in a child: where we may not write to every file, but may be anybody. */
static int connect_as(int sock, int path_fd, const struct identity *who)
{
	pid_t pid;
	int status;

	if (who->gid == (gid_t)-1)
		return -EACCES;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		if (setgroups(0, NULL) < 0 || setresgid(who->gid, who->gid, who->gid) < 0 ||
		    setresuid(who->uid, who->uid, who->uid) < 0)
			_exit(EACCES);
		_exit(-connect_through(sock, path_fd));
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* The process that called listen(): as we see its pid. */
static int check_peer(int sock, pid_t pid, struct err *err)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(err, errno, "who listens at the runtime's socket: %s", strerror(errno));
	if (peer.pid != pid)
		return err_set(err, EPERM, "another process (%d) listens at the runtime's socket", peer.pid);
	return 0;
}

static int connect_checked(int process, int path_fd, pid_t pid, const struct identity *who, struct err *err)
{
	_cleanup_close_ int sock = -1;
	struct identity after;
	struct stat st;
	int r;

	if (fstat(path_fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return err_set(err, EPERM, "what has the name of the runtime's socket is none");
	if (st.st_uid != who->uid)
		return err_set(err, EPERM, "the runtime's socket belongs to another user");
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return err_set(err, errno, "socket: %s", strerror(errno));
	r = connect_through(sock, path_fd);
	if (r == -EACCES || r == -EPERM)
		r = connect_as(sock, path_fd, who);
	if (r < 0)
		return err_set(err, -r, "connect to the runtime: %s", strerror(-r));
	r = check_peer(sock, pid, err);
	if (r < 0)
		return r;
	/* Still the process that was looked at: what lies below its descriptor fails once it has ended. */
	if (read_identity(process, &after) < 0 || after.start_ticks != who->start_ticks)
		return err_set(err, ESRCH, "the process has ended");
	return steal_fd(&sock);
}

int door_open_diagnostics(struct door *door, pid_t pid, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	_cleanup_close_ int process = -1, path_fd = -1;
	struct identity who;
	int r;

	if (door->broker)
		return broker_open_text(door->broker, BROKER_DIAGNOSTICS, pid, 0, "", err);
	process = door_process(door, pid);
	r = process < 0 ? process : read_identity(process, &who);
	if (!r)
		r = temporary_directory(process, &path);
	if (r < 0)
		return err_set(err, -r, "read who process %d is: %s", pid, strerror(-r));
	strbuf_printf(&path, "/dotnet-diagnostic-%d-%" PRIu64 "-socket", who.nspid, who.start_ticks);
	path_fd = path.failed ? -ENOMEM : find_socket(door, process, path.data);
	if (path_fd < 0)
		return err_set(err, -path_fd, "the runtime's socket: %s", strerror(-path_fd));
	return connect_checked(process, path_fd, pid, &who, err);
}

static bool leads_to(int fds, const char *number, const char *name)
{
	char link[PATH_MAX];
	ssize_t len = readlinkat(fds, number, link, sizeof(link) - 1);
	const char *base;

	if (len <= 0)
		return false;
	link[len] = '\0';
	base = strrchr(link, '/');
	return base && !strcmp(base + 1, name);
}

bool door_perf_map_is_open(struct door *door, pid_t pid)
{
	_cleanup_close_ int process = -1, fds = -1;
	struct identity who;
	char name[32];
	uint64_t open = 0;
	bool found = false;
	DIR *dir;

	if (door->broker)
		return broker_number(door->broker, BROKER_MAP_OPEN, pid, "", -1, &open, NULL) == 0 && open;
	process = door_process(door, pid);
	if (process < 0 || read_identity(process, &who) < 0)
		return false;
	fds = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fds < 0 ? NULL : fdopendir(fds);
	if (!dir)
		return false;
	snprintf(name, sizeof(name), "perf-%d.map", who.nspid);
	for (struct dirent *entry; !found && (entry = readdir(dir));)
		found = leads_to(dirfd(dir), entry->d_name, name);
	fds = -1; /* the directory's now */
	closedir(dir);
	return found;
}

/* ---- sessions that must not outlive us ---- */

void door_session_began(struct door *door, pid_t pid, uint64_t id, int stream)
{
	char text[32];
	uint64_t none;

	if (!door->broker)
		return;
	snprintf(text, sizeof(text), "%" PRIx64, id);
	broker_number(door->broker, BROKER_SESSION_BEGAN, pid, text, stream, &none, NULL);
}

void door_session_ended(struct door *door, pid_t pid, uint64_t id)
{
	char text[32];
	uint64_t none;

	if (!door->broker)
		return;
	snprintf(text, sizeof(text), "%" PRIx64, id);
	broker_number(door->broker, BROKER_SESSION_ENDED, pid, text, -1, &none, NULL);
}

void diagnostics_began(struct diagnostics_sessions *s, pid_t pid, uint64_t id, int stream)
{
	if (s->num == s->cap) {
		unsigned int cap = s->cap ? s->cap * 2 : 16;
		void *grown = cap > MAX_SESSIONS ? NULL : realloc(s->all, cap * sizeof(s->all[0]));

		if (!grown) {
			closep(&stream);
			return;
		}
		s->all = grown;
		s->cap = cap;
	}
	s->all[s->num++] = (struct diagnostics_session){ pid, id, stream };
}

void diagnostics_ended(struct diagnostics_sessions *s, pid_t pid, uint64_t id)
{
	for (unsigned int i = 0; i < s->num; i++) {
		if (s->all[i].pid == pid && s->all[i].id == id) {
			closep(&s->all[i].stream);
			s->all[i--] = s->all[--s->num];
		}
	}
}

/* StopTracing: command 1 of set 2, the session's number. */
static void send_stop(struct door *door, const struct diagnostics_session *session)
{
	uint8_t request[28] = "DOTNET_IPC_V1\0\x1c\0\x02\x01\0";
	int fd = door_open_diagnostics(door, session->pid, NULL);

	memcpy(request + 20, &session->id, sizeof(session->id));
	if (fd < 0)
		return;
	/* It answers when the session has ended, which its stream tells as well. */
	if (send(fd, request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		errno = 0;
	close(fd);
}

/* Throws away what has come, and not what comes for ever; true at the end of the stream. */
static bool drain_to_end(int fd)
{
	char bytes[16384];
	ssize_t n = -1;

	for (int i = 0; i < MAX_READS; i++) {
		n = read(fd, bytes, sizeof(bytes));
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
	}
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

void diagnostics_end_all(struct diagnostics_sessions *s, struct door *door)
{
	uint64_t deadline = clock_monotonic_ns() + END_MS * UINT64_C(1000000);

	for (unsigned int i = 0; i < s->num; i++)
		send_stop(door, &s->all[i]);
	while (s->num && clock_monotonic_ns() < deadline) {
		struct pollfd poll_fd = { .fd = s->all[0].stream, .events = POLLIN };

		/* A runtime ends a session only when its stream is read. */
		poll(&poll_fd, 1, 20);
		for (unsigned int i = 0; i < s->num; i++) {
			if (drain_to_end(s->all[i].stream)) {
				closep(&s->all[i].stream);
				s->all[i--] = s->all[--s->num];
			}
		}
	}
	for (unsigned int i = 0; i < s->num; i++)
		closep(&s->all[i].stream);
	free(s->all);
	*s = (struct diagnostics_sessions){ 0 };
}
