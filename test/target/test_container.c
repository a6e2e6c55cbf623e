/* Cgroup paths as runtimes make them, and some as nobody should. */
#include "target/container.h"
#include "test/check.h"

#include <errno.h>
#include <stdio.h>

#define A      "3f2a9c1b2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde"
#define B      "bbbb9c1b2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde"
#define UID_   "0a1b2c3d_0000_1111_2222_333344445555"
#define UID    "0a1b2c3d-0000-1111-2222-333344445555"
#define STATIC "fd61bf0e8bf6b0bcd3a9c2ed5a0a3c39"

/* "RUNTIME ID POD-UID PATH|..", outermost first. */
static const char *told(const char *path)
{
	static char text[2048];
	struct container_path parsed;
	size_t len = 0;

	text[0] = '\0';
	container_path_parse(path, &parsed);
	for (size_t i = 0; i < parsed.num; i++) {
		const struct container_level *l = &parsed.levels[i];

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s %s %.*s",
					i ? "|" : "", l->runtime, l->id, l->pod_uid,
					(int)l->path_len, path);
	}
	return text;
}

static void test_runtimes(void)
{
	CHECK_STR(told("/docker/" A), "docker " A "  /docker/" A);
	CHECK_STR(told("/docker/" A "/init.scope/x"), "docker " A "  /docker/" A);
	CHECK_STR(told("/system.slice/docker-" A ".scope"),
		  "docker " A "  /system.slice/docker-" A ".scope");
	CHECK_STR(told("/system.slice:docker:" A), "docker " A "  /system.slice:docker:" A);
	CHECK_STR(told("/default/" A), "container " A "  /default/" A);
	CHECK_STR(told("/" A), "container " A "  /" A);
	CHECK_STR(told("/system.slice/nerdctl-" A ".scope"),
		  "containerd " A "  /system.slice/nerdctl-" A ".scope");
	CHECK_STR(told("/machine.slice/libpod-" A ".scope/container"),
		  "podman " A "  /machine.slice/libpod-" A ".scope");
	CHECK_STR(told("/libpod_parent/libpod-" A), "podman " A "  /libpod_parent/libpod-" A);
	CHECK_STR(
		told("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" A ".scope"),
		"podman " A "  /user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" A
		".scope");
	CHECK_STR(
		told("/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890"),
		"ecs 0123456789abcdef0123456789abcdef-1234567890  "
		"/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890");
	CHECK_STR(told("/system.slice/runc-my-web.scope"),
		  "runc my-web  /system.slice/runc-my-web.scope");
	CHECK_STR(told("/user.slice/crun-x.scope/a"), "crun x  /user.slice/crun-x.scope");
	CHECK_STR(told("/lxc.payload.web/system.slice/ssh.service"), "lxc web  /lxc.payload.web");
	CHECK_STR(told("/lxc/web"), "lxc web  /lxc/web");
	CHECK_STR(told("/machine.slice/machine-a\\x2db\\x2.scope"),
		  "machine a-b\\x2  /machine.slice/machine-a\\x2db\\x2.scope");
	CHECK_STR(told("/machine.slice/systemd-nspawn@web.service/payload"),
		  "nspawn web  /machine.slice/systemd-nspawn@web.service");
}

static void test_kubernetes(void)
{
	CHECK_STR(told("/kubepods/burstable/pod" UID "/" A),
		  "container " A " " UID " /kubepods/burstable/pod" UID "/" A);
	CHECK_STR(told("/kubepods/pod" UID "/crio-" A),
		  "cri-o " A " " UID " /kubepods/pod" UID "/crio-" A);
	CHECK_STR(told("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_
		       ".slice/cri-containerd-" A ".scope"),
		  "containerd " A " " UID
		  " /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_
		  ".slice/cri-containerd-" A ".scope");
	CHECK_STR(told("/kubepods.slice/kubepods-pod" STATIC ".slice/crio-" A ".scope/container"),
		  "cri-o " A " " STATIC " /kubepods.slice/kubepods-pod" STATIC ".slice/crio-" A
		  ".scope");
	CHECK_STR(told("/system.slice/containerd.service/kubepods-burstable-pod" UID_
		       ".slice:cri-containerd:" A),
		  "containerd " A " " UID
		  " /system.slice/containerd.service/kubepods-burstable-pod" UID_
		  ".slice:cri-containerd:" A);
	/* A cgroup namespace of our own: others lie above it. */
	CHECK_STR(told("/../../pod" UID "/" A), "container " A " " UID " /../../pod" UID "/" A);
	/* kind: a node is a container, and its pods are containers in it. */
	CHECK_STR(told("/docker/" A
		       "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" UID_
		       ".slice/cri-containerd-" B ".scope"),
		  "docker " A "  /docker/" A "|containerd " B " " UID " /docker/" A
		  "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" UID_
		  ".slice/cri-containerd-" B ".scope");
	/* The pod's uid is that of the container right below it. */
	CHECK_STR(told("/kubepods/pod" UID "/" A "/docker/" B),
		  "container " A " " UID " /kubepods/pod" UID "/" A "|docker " B
		  "  /kubepods/pod" UID "/" A "/docker/" B);
}

static void test_host(void)
{
	CHECK_STR(told("/"), "");
	CHECK_STR(told(""), "");
	CHECK_STR(told("/system.slice/docker.service"), "");
	CHECK_STR(told("/user.slice/user-0.slice/session-3.scope"), "");
	CHECK_STR(told("/kubepods.slice/kubepods-burstable.slice"), "");
	CHECK_STR(told("/kubepods.slice/kubepods-pod" UID_ ".slice"), "");
	CHECK_STR(told("/init.scope"), "");
	/* The monitors beside containers belong to the host. */
	CHECK_STR(told("/machine.slice/libpod-conmon-" A ".scope"), "");
	CHECK_STR(told("/kubepods.slice/kubepods-pod" UID_ ".slice/crio-conmon-" A ".scope"), "");
	CHECK_STR(told("/lxc.monitor.web"), "");
	/* Nearly an id. */
	CHECK_STR(told("/docker/3f2a9c1b2d3e"), "");
	CHECK_STR(told("/docker/" A "0"), "");
	CHECK_STR(told("/docker/3F2A9c1b2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde"),
		  "");
	CHECK_STR(told("/docker-" A ".slice"), "");
	CHECK_STR(told("/machine.slice/machine-.scope/runc-.scope/lxc.payload."), "");
}

static void test_hostile(void)
{
	char path[8192] = "/";
	struct container_path parsed;

	/* What lies inside a container never stands for the container. */
	CHECK_STR(told("/docker/" A "/docker/" B),
		  "docker " A "  /docker/" A "|docker " B "  /docker/" A "/docker/" B);
	CHECK_STR(told("//docker///" A "/"), "docker " A "  //docker///" A);
	CHECK_STR(told("/podpod" UID "/-pod" UID "x/pod/" A),
		  "container " A "  /podpod" UID "/-pod" UID "x/pod/" A);
	CHECK_STR(told("/:/::/" A ":" A "/:" A),
		  "container " A "  /:/::/" A ":" A "|container " A "  /:/::/" A ":" A "/:" A);
	for (int i = 0; i < 100; i++)
		strcat(path, A "/");
	container_path_parse(path, &parsed);
	CHECK(parsed.num == CONTAINER_MAX_LEVELS && parsed.levels[3].path_len == 4 * 65);
	memset(path, 'a', sizeof(path));
	memcpy(path, "/lxc/", 5);
	path[sizeof(path) - 1] = '\0';
	container_path_parse(path, &parsed);
	CHECK(parsed.num == 1 && strlen(parsed.levels[0].id) == CONTAINER_ID_MAX - 1 &&
	      parsed.levels[0].path_len == sizeof(path) - 1);
}

static void test_logs(void)
{
	struct container_log log;

	CHECK(container_log_parse("web-6d4b75cb6d-hwrzl_shop_nginx-" A ".log", &log) == 0);
	CHECK_STR(log.pod, "web-6d4b75cb6d-hwrzl");
	CHECK_STR(log.namespace, "shop");
	CHECK_STR(log.container, "nginx");
	CHECK_STR(log.id, A);
	CHECK(container_log_parse("a.b_c_d-e-" A ".log", &log) == 0);
	CHECK_STR(log.container, "d-e");
	CHECK(container_log_parse("a_b_c-" A ".log.1", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b_c-" A, &log) == -EBADMSG);
	CHECK(container_log_parse("a_b_-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("_b_c-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b_c;d-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b/c_d-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("A_b_c-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b_c_d-" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("a_b_c-x" A ".log", &log) == -EBADMSG);
	CHECK(container_log_parse("", &log) == -EBADMSG);
}

int main(void)
{
	test_runtimes();
	test_kubernetes();
	test_host();
	test_hostile();
	test_logs();
	return check_done();
}
