/*
 * Which container a cgroup's path names, by the layouts that runtimes use; any depth, cgroup v1 or v2. Bytes in,
 * values out: whoever may write cgroups below its own chose the names there.
 *
 *	/docker/ID                                         Docker, cgroupfs
 *	/system.slice/docker-ID.scope                      Docker, systemd
 *	/kubepods/burstable/podUID/ID                      Kubernetes, cgroupfs
 *	/kubepods.slice/../kubepods-burstable-podUID.slice/cri-containerd-ID.scope     .. systemd
 *	/system.slice/kubepods-burstable-podUID.slice:cri-containerd:ID   .. systemd path under cgroupfs
 *	/machine.slice/libpod-ID.scope/container           Podman, CRI-O (crio-ID.scope) likewise
 *	/system.slice/runc-NAME.scope, /lxc.payload.NAME, /machine.slice/machine-NAME.scope
 *	/docker/ID/kubepods/podUID/ID                      one inside the other
 *
 * A plain runc container of any name lies at /NAME, which no other program is kept from: see containers.h.
 */
#pragma once

#include <stddef.h>

enum {
	CONTAINER_MAX_LEVELS = 4,
	CONTAINER_ID_MAX = 96,  /* with its NUL; longer names are cut */
	CONTAINER_POD_MAX = 40, /* with its NUL: a UUID */
};

/* One container of a nest. */
struct container_level {
	const char *
		runtime; /* "docker", "containerd", "cri-o", "podman", ..; "container" = not told */
	char id[CONTAINER_ID_MAX]; /* 64 hex digits, or the name that was given */
	char pod_uid
		[CONTAINER_POD_MAX]; /* of the Kubernetes pod it belongs to, with dashes; "" = none */
	size_t path_len; /* bytes of the path up to the end of the container's own cgroup */
};

struct container_path {
	struct container_level levels[CONTAINER_MAX_LEVELS]; /* outermost first */
	size_t num; /* 0 = no container that can be told by its path */
};

void container_path_parse(const char *path, struct container_path *ret);

/* A link of /var/log/containers, POD_NAMESPACE_CONTAINER-ID.log: all parts of it, NUL-terminated. */
struct container_log {
	char pod[256];
	char namespace[64];
	char container[64];
	char id[65];
};
/* 0, or -EBADMSG for a name of another form: names are held to what Kubernetes allows. */
int container_log_parse(const char *name, struct container_log *ret);
