/* Containers as they run here: names from links, what a person may ask for, processes in namespaces and cgroups. */
#include "base/err.h"
#include "base/strbuf.h"
#include "target/containers.h"
#include "target/door.h"
#include "target/door_priv.h"
#include "test/check.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define A "3f2a9c1b2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde"

static char tmp[] = "/tmp/test_containers_XXXXXX";

static void make(const char *path, bool dir)
{
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", tmp, path);
	if (dir ? mkdir(full, 0755) : symlink("nowhere", full)) {
		perror(full);
		exit(1);
	}
}

static void remove_tree(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", tmp);
	CHECK(system(command) == 0);
}

static int count_logs(void *data, const char *name)
{
	int *count = data;

	*count += name[0] != '.';
	return *count == 100;
}

/* A root that has links of its own, and those of a host below /host. */
static void test_logs(void)
{
	struct err err = { 0 };
	struct door *door;
	int count = 0;

	make("var", true);
	make("var/log", true);
	make("var/log/containers", true);
	make("var/log/containers/a_b_c-" A ".log", false);
	make("host", true);
	make("host/var", true);
	make("host/var/log", true);
	make("host/var/log/containers", true);
	make("host/var/log/containers/d_e_f-" A ".log", false);
	make("host/var/log/containers/odd", false);
	CHECK(door_new_below(tmp, &door, &err) == 0);
	CHECK(door_each_container_log(door, count_logs, &count) == 0);
	CHECK(count == 3);
	count = 97;
	CHECK(door_each_container_log(door, count_logs, &count) == 1);
	door_free(door);
	/* A link out of the root is followed inside it, to nowhere. */
	CHECK(door_new_below("/proc/self", &door, &err) == 0);
	count = 0;
	CHECK(door_each_container_log(door, count_logs, &count) == 0 && count == 0);
	door_free(door);
}

static void label(struct containers *c, uint32_t place, const char *want)
{
	struct strbuf text = { 0 };

	containers_label(c, place, false, &text);
	CHECK_STR(text.data, want);
	strbuf_deinit(&text);
}

static void test_refusals(struct containers *c)
{
	struct err err = { 0 };

	CHECK(containers_want(c, "no such thing", &err) == -ENOENT);
	CHECK_MSG(
		!strncmp(
			err.msg,
			"no container is called 'no such thing', nor does an id begin so; there are: ",
			76),
		"%s", err.msg);
	CHECK(containers_want(c, "", &err) == -ENOENT);
	CHECK(containers_want_cgroup(c, "", &err) == -EINVAL);
	CHECK(containers_want_cgroup(c, "/a/../b", &err) == -EINVAL);
	CHECK(containers_want_cgroup(c, "no/such/cgroup", &err) == -ENOENT);
	CHECK_STR(
		err.msg,
		"there is no cgroup 'no/such/cgroup': give its path as /proc/PID/cgroup shows it");
	CHECK(containers_num_wanted(c) == 0);
}

static void test_paths(struct door *door)
{
	static const struct {
		const char *given, *want;
	} cases[] = {
		{ "a", "/a" }, { "/a//b/", "/a/b" }, { "/", "/" }, { "a.b/..c", "/a.b/..c" }
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct strbuf path = { 0 };

		CHECK(door_cgroup_path(door, cases[i].given, &path));
		CHECK_STR(path.data, cases[i].want);
		strbuf_deinit(&path);
	}
}

/* The first process of a new pid namespace: 0 where none may be made. Its parent waits for it. */
static pid_t start_in_namespace(pid_t *parent)
{
	pid_t pid = 0;
	int fds[2];

	CHECK(pipe(fds) == 0);
	*parent = fork();
	if (!*parent) {
		if (unshare(CLONE_NEWPID) == 0) {
			pid = fork();
			if (!pid)
				pause();
		}
		CHECK(write(fds[1], &pid, sizeof(pid)) == sizeof(pid));
		waitpid(pid, NULL, 0);
		_exit(0);
	}
	CHECK(read(fds[0], &pid, sizeof(pid)) == sizeof(pid));
	close(fds[0]);
	close(fds[1]);
	return pid;
}

/* A child in a pid namespace of its own, which has no cgroup to be called after. */
static void test_namespace(struct containers *c)
{
	struct container_place place;
	struct err err = { 0 };
	pid_t parent, pid;
	uint64_t ns = 0;
	struct door *door;
	char name[32];

	if (geteuid()) {
		fprintf(stderr, "not tried without root: a pid namespace\n");
		return;
	}
	pid = start_in_namespace(&parent);
	if (!pid) {
		fprintf(stderr, "not tried: a pid namespace may not be made here\n");
		waitpid(parent, NULL, 0);
		return;
	}
	CHECK(door_new(&door, &err) == 0);
	CHECK(door_namespace(door, pid, "pid", &ns) == 0);
	CHECK(door_namespace(door, pid, "../pid", &ns) == -EINVAL);
	door_free(door);
	place = containers_look(c, pid);
	CHECK(place.place >= PLACE_FIRST && !place.wanted);
	snprintf(name, sizeof(name), "pidns:%llu", (unsigned long long)ns);
	label(c, place.place, name);
	CHECK(containers_want(c, name, &err) == 0);
	CHECK(containers_look(c, pid).wanted && !containers_look(c, getpid()).wanted);
	CHECK(containers_wanted_alive(c));
	kill(pid, SIGKILL);
	CHECK(waitpid(parent, NULL, 0) == parent);
	CHECK(!containers_wanted_alive(c));
	CHECK(containers_look(c, pid).place == PLACE_UNKNOWN);
}

int main(void)
{
	struct containers *c;
	struct door *door;
	struct err err = { 0 };

	if (!mkdtemp(tmp)) {
		perror(tmp);
		return 1;
	}
	test_logs();
	remove_tree();
	CHECK(door_new(&door, &err) == 0);
	CHECK(containers_new(door, &c, &err) == 0);
	label(c, PLACE_HOST, "[host]");
	label(c, PLACE_UNKNOWN, "[unknown]");
	label(c, 99999, "[unknown]");
	CHECK(containers_look(c, 0).place == PLACE_HOST);
	test_paths(door);
	test_refusals(c);
	test_namespace(c);
	containers_free(c);
	door_free(door);
	return check_done();
}
