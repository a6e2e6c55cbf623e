/*
 * The containers of this machine, as far as /proc tells: which one each process is in, what it is called, and which
 * cgroups a person means. No runtime is asked.
 *
 * A container is told by its cgroup's path (container.h). Where that names none, a process in another pid namespace
 * than ours is in a container all the same: a plain runc one, called after its cgroup, or one that only
 * has its namespace. Names come from the links in /var/log/containers, by container id; a cgroup's name is its
 * owner's choice, so what lies inside a container is told below it, never instead of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct containers;
struct door;
struct err;
struct strbuf;

int containers_new(struct door *door, struct containers **ret,
		   struct err *err);        /* door is borrowed */
void containers_free(struct containers *c); /* NULL is fine */

/* Where a process is: a small number for each distinct container, 0 when nothing can be told. */
enum {
	PLACE_UNKNOWN, /* the process is gone */
	PLACE_HOST,
	PLACE_OWN,  /* in the container that we are in, which a cgroup namespace hides from us */
	PLACE_MORE, /* too many places: one for all others */
	PLACE_FIRST,
};
struct container_place {
	uint32_t place;
	bool wanted; /* in one of the wanted containers or cgroups */
	bool at_root; /* in no cgroup but the roots: in v1 a process that is ending shows just that */
};
/* Reads it now: a process may have been moved. */
struct container_place containers_look(struct containers *c, pid_t pid);

/*
 * What the place is called: "shop/web-6d4b75cb6d-hwrzl/nginx" (namespace, pod, container) where its names are known,
 * else "docker:3f2a9c1b2d3e"; "[host]" and "[unknown]". With `by_pod` the last part is left out, and a pod without
 * a name is "pod:UID". Bytes are as the cgroup has them: escape them where they are shown.
 */
void containers_label(struct containers *c, uint32_t place, bool by_pod, struct strbuf *out);
/* Looks at /var/log/containers again. */
void containers_reload(struct containers *c);

/*
 * Wants a container by the start of its id, or by its whole name; or the processes of a cgroup and those below it.
 * -ENOENT when there is none, -EINVAL when several fit: `err` lists what there is.
 */
int containers_want(struct containers *c, const char *id, struct err *err);
int containers_want_cgroup(struct containers *c, const char *cgroup, struct err *err);
size_t containers_num_wanted(const struct containers *c);

/*
 * The directories of all that is wanted, for PERF_FLAG_PID_CGROUP: none of them lies below another. They stay open as
 * long as `c`. -errno when a part of it cannot be told to the kernel (it is in no cgroup of its own, or in a hierarchy
 * that perf_event does not count by): its processes must then be picked out by containers_look.
 */
int containers_open_wanted(struct containers *c, const int **ret_fds, size_t *ret_num,
			   struct err *err);
/* Whether anything wanted is still running. */
bool containers_wanted_alive(struct containers *c);
