#include "app/maps_switch.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "runtimes/dotnet_ipc.h"
#include "target/diagnostics.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MS = 5000, YOUNG_S = 5, MAX_ENVIRON = 2 << 20 };

/* DOTNET_PerfMapEnabled, or COMPlus_ as before .NET 6; names are compared without case, values are hexadecimal. */
static bool started_with_map(struct door *door, pid_t pid)
{
	static const char *const names[] = { "DOTNET_PerfMapEnabled=", "COMPlus_PerfMapEnabled=" };
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	if (door_read_proc(door, pid, "environ", MAX_ENVIRON, &text, NULL, NULL) < 0)
		return false;
	for (size_t at = 0; at < text.len; at += strlen(text.data + at) + 1) {
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			const char *value = text.data + at + strlen(names[i]);

			if (!strncasecmp(text.data + at, names[i], strlen(names[i])) && value[strspn(value, "0")])
				return true;
		}
	}
	return false;
}

static int check_age(struct door *door, pid_t pid, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t ticks, now_s = clock_ns(CLOCK_BOOTTIME) / 1000000000;
	int r = door_read_proc(door, pid, "stat", 65536, &text, NULL, err);

	if (!r)
		r = proc_stat_start_time(text.data, text.len, &ticks);
	if (r < 0)
		return r;
	if (now_s < ticks / hz + YOUNG_S + 1)
		return err_set(err, EAGAIN, "process %d is younger than %d seconds: some runtimes crash when they are asked so early",
			       (int)pid, YOUNG_S);
	return 0;
}

static int receive(int fd, struct dotnet_reply *ret)
{
	uint8_t bytes[DOTNET_IPC_MAX_REPLY];
	uint64_t deadline = clock_monotonic_ns() + ANSWER_MS * UINT64_C(1000000);
	size_t have = 0;

	for (;;) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_monotonic_ns();
		ssize_t n;

		if (now >= deadline || poll(&poll_fd, 1, (int)((deadline - now) / 1000000 + 1)) <= 0)
			return -ETIMEDOUT;
		n = recv(fd, bytes + have, sizeof(bytes) - have, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return -ECONNRESET;
		have += (size_t)n;
		*ret = dotnet_ipc_reply(bytes, have);
		if (ret->kind != DOTNET_REPLY_MORE)
			return 0;
	}
}

static int ask(struct door *door, pid_t pid, bool on, struct err *err)
{
	uint8_t request[DOTNET_IPC_MAX_REQUEST];
	size_t size = dotnet_ipc_perf_map(on, request);
	struct dotnet_reply reply;
	struct err why = { 0 };
	_cleanup_close_ int fd = door_open_diagnostics(door, pid, &why);
	int r;

	if (fd == -ENOENT)
		return err_set(err, ENOENT, "process %d has no diagnostics socket: it is no .NET process, or was started with "
					    "DOTNET_EnableDiagnostics=0", (int)pid);
	if (fd < 0)
		return err_set(err, -fd, "process %d: %s", (int)pid, why.msg);
	if (send(fd, request, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
		return err_set(err, EPIPE, "the runtime of process %d takes no request", (int)pid);
	r = receive(fd, &reply);
	if (r < 0)
		return err_set(err, -r, "the runtime of process %d does not answer: %s", (int)pid, strerror(-r));
	if (reply.kind == DOTNET_REPLY_BAD)
		return err_set(err, EPROTO, "what answers in process %d is no .NET runtime", (int)pid);
	if (reply.kind == DOTNET_REPLY_ERROR && reply.code == DOTNET_UNKNOWN_COMMAND)
		return err_set(err, ENOTSUP, "the runtime of process %d is older than .NET 8, which knows no such request",
			       (int)pid);
	if (reply.kind == DOTNET_REPLY_ERROR)
		return err_set(err, EIO, "the runtime of process %d refused: 0x%08" PRIx32, (int)pid, reply.code);
	return 0;
}

int maps_switch(struct door *door, pid_t pid, bool on, struct err *err)
{
	bool is_on = door_perf_map_is_open(door, pid);
	int r;

	if (on && is_on)
		return err_set(err, EALREADY, "process %d writes a perf map already", (int)pid);
	if (!on && !is_on)
		return err_set(err, EALREADY, "process %d writes no perf map", (int)pid);
	if (!on && started_with_map(door, pid))
		return err_set(err, EPERM, "process %d was started with DOTNET_PerfMapEnabled: that is not ours to turn off",
			       (int)pid);
	r = on ? check_age(door, pid, err) : 0;
	return r < 0 ? r : ask(door, pid, on, err);
}
