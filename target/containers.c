#include "target/containers.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "target/container.h"
#include "target/door.h"
#include "target/proc_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	MAX_PLACES = 16384, /* who may write cgroups can make up containers without end */
	MAX_STRINGS = 1 << 20, /* names of pods are among them */
	MAX_WANTED = 256,
	SHORT_ID = 12, /* as docker ps shows it */
	MAX_CGROUP_TEXT = 64 * 1024,
	MAX_HOPS = 64, /* from a process in a container up to the one that started it */
};

/* One distinct nest of containers. */
struct place {
	struct container_level levels[CONTAINER_MAX_LEVELS];
	size_t num;
};

struct place_slot {
	const char *key; /* interned */
	uint32_t place;
};
HTAB(place_tab, struct place_slot, const char *, hash_u64((uintptr_t)key), slot->key == key,
     hash_u64((uintptr_t)slot->key));

/* Names by container id, and by pod uid; all interned. */
struct log_slot {
	const char *id;
	const char *namespace, *pod, *container; /* container NULL: of the pod */
};
HTAB(log_tab, struct log_slot, const char *, hash_u64((uintptr_t)key), slot->id == key,
     hash_u64((uintptr_t)slot->id));

/* The first container that was seen in a pid namespace. */
struct space_slot {
	uint64_t pid_ns;
	uint32_t place;
};
HTAB(space_tab, struct space_slot, uint64_t, hash_u64(key), slot->pid_ns == key,
     hash_u64(slot->pid_ns));

/* A container (id) or a cgroup (path). */
struct wanted {
	const char *id;    /* interned; NULL = a cgroup */
	const char *path;  /* interned */
	const char *given; /* interned: as the person wrote it */
};

/* A cgroup directory to open. */
enum dir_kind { DIR_UNIFIED, DIR_V1, DIR_GIVEN };
struct dir {
	enum dir_kind kind;
	const char *path; /* interned; DIR_GIVEN: as the person wrote it */
};

struct containers {
	struct door *door;
	struct intern *strings;
	struct place_tab place_tab;
	VEC(struct place) places; /* the first is PLACE_FIRST */
	struct log_tab logs;
	struct space_tab spaces;
	bool have_host_ns; /* that of process 1, and ours */
	uint64_t host_ns;
	bool namespaced; /* a cgroup namespace: what is not ours starts with "/.." */
	VEC(struct wanted) wanted;
	VEC(int) fds; /* of what is wanted */
};

/* --- One process --- */

/* What the lines of /proc/PID/cgroup say, the hierarchy of perf_event first. */
struct sight {
	struct containers *c;
	struct container_path container;
	int rank;                 /* of the line that `container` is from: see line_rank */
	bool any;                 /* a line was there */
	bool wanted;              /* any of the next is set */
	bool matched[MAX_WANTED]; /* by index in containers.wanted */
	char path[4096];          /* of the best line that is not in the root; "" = all are */
	int path_rank;
	char perf[4096]; /* in the hierarchy that perf_event counts by; "" = there is none */
	bool perf_unified;
};

/* perf_event is always in the unified hierarchy unless it is mounted as v1 (implicit_on_dfl in the kernel). */
static int line_rank(const struct proc_cgroup *line)
{
	if (proc_has_controller(line->controllers, "perf_event"))
		return 4;
	if (line->unified)
		return 3;
	return proc_has_controller(line->controllers, "name=systemd") ? 2 : 1;
}

/* At or below a cgroup. */
static bool lies_below(const char *path, const char *cgroup)
{
	size_t len = strlen(cgroup);

	if (len == 1)
		return true; /* "/" */
	return !strncmp(path, cgroup, len) && (!path[len] || path[len] == '/');
}

static bool holds_id(const struct container_path *container, const char *id)
{
	for (size_t i = 0; i < container->num; i++) {
		if (!strcmp(container->levels[i].id, id))
			return true;
	}
	return false;
}

/* `path` NULL: the container alone counts. */
static void match(struct sight *s, const struct container_path *container, const char *path)
{
	for (size_t i = 0; i < s->c->wanted.len; i++) {
		const struct wanted *w = &s->c->wanted.data[i];

		if (w->id ? holds_id(container, w->id) : path && lies_below(path, w->path))
			s->matched[i] = s->wanted = true;
	}
}

static int see_line(void *data, const struct proc_cgroup *line)
{
	struct container_path container;
	struct sight *s = data;
	int rank = line_rank(line);

	s->any = true;
	container_path_parse(line->path, &container);
	match(s, &container, line->path);
	if (container.num && rank > s->rank) {
		s->container = container;
		s->rank = rank;
	}
	if (line->path[1] && rank > s->path_rank) {
		memcpy(s->path, line->path, sizeof(s->path));
		s->path_rank = rank;
	}
	if (rank == 4 || (rank == 3 && !s->perf[0])) {
		memcpy(s->perf, line->path, sizeof(s->perf));
		s->perf_unified = line->unified;
	}
	return 0;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && !strcmp(text + len - end_len, end);
}

/* A cgroup that a runtime made for one container, and not systemd or a session for anything. */
static bool can_be_name(const char *path)
{
	return path[0] && strncmp(path, "/..", 3) && !ends_with(path, ".slice") &&
	       !ends_with(path, ".service") && !ends_with(path, ".scope");
}

static bool read_sight(struct containers *c, pid_t pid, struct sight *ret)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };

	memset(ret, 0, sizeof(*ret));
	ret->c = c;
	if (door_read_proc(c->door, pid, "cgroup", MAX_CGROUP_TEXT, &text, NULL, NULL) < 0 ||
	    !text.data)
		return false;
	proc_cgroup_each(text.data, text.len, see_line, ret);
	return ret->any;
}

static pid_t parent_of(struct containers *c, pid_t pid)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	struct proc_status status;

	if (door_read_proc(c->door, pid, "status", MAX_CGROUP_TEXT, &text, NULL, NULL) < 0 ||
	    !text.data || proc_status_parse(text.data, text.len, &status) < 0)
		return 0;
	return status.ppid;
}

/*
 * Whether its cgroup was made for the container: then the process that started the container, the nearest one
 * above that is not in its pid namespace, is in another one.
 */
static bool has_own_cgroup(const struct sight *s, pid_t pid, uint64_t pid_ns)
{
	uint64_t ns = pid_ns;
	struct sight above;

	if (!can_be_name(s->path))
		return false;
	for (int hops = 0; hops < MAX_HOPS && ns == pid_ns; hops++) {
		pid = parent_of(s->c, pid);
		if (pid <= 0 || door_namespace(s->c->door, pid, "pid", &ns) < 0)
			break; /* process 1 may be protected from our eyes: it is not in there */
	}
	return pid <= 0 || (read_sight(s->c, pid, &above) && strcmp(above.path, s->path));
}

/* A container that has a pid namespace of its own, but no cgroup that tells its id. */
static void name_by_space(struct sight *s, pid_t pid, uint64_t pid_ns)
{
	struct container_level *level = &s->container.levels[0];

	*level = (struct container_level){ .runtime = "container" };
	if (has_own_cgroup(s, pid, pid_ns)) {
		snprintf(level->id, sizeof(level->id), "%.*s", CONTAINER_ID_MAX - 1,
			 strrchr(s->path, '/') + 1);
	} else {
		level->runtime = "pidns";
		snprintf(level->id, sizeof(level->id), "%" PRIu64, pid_ns);
	}
	level->path_len = strlen(s->path);
	s->container.num = 1;
}

/* --- Places --- */

static uint32_t add_place(struct containers *c, const struct container_path *container)
{
	_cleanup_(strbuf_deinit) struct strbuf key = { 0 };
	struct place place = { .num = container->num };
	struct place_slot *slot;
	const char *stored;
	bool added;

	for (size_t i = 0; i < container->num; i++) {
		const struct container_level *level = &container->levels[i];

		strbuf_printf(&key, "%s\n%s\n%s\n", level->runtime, level->id, level->pod_uid);
		place.levels[i] = *level;
	}
	if (intern_count(c->strings) >= MAX_STRINGS)
		return PLACE_MORE;
	stored = key.failed ? NULL : intern_mem(c->strings, key.data, key.len);
	if (!stored)
		return PLACE_UNKNOWN;
	slot = place_tab_find(&c->place_tab, stored);
	if (slot)
		return slot->place;
	if (c->places.len >= MAX_PLACES)
		return PLACE_MORE;
	if (!vec_push(&c->places, place))
		return PLACE_UNKNOWN;
	slot = place_tab_add(&c->place_tab, stored, &added);
	if (!slot) {
		c->places.len--;
		return PLACE_UNKNOWN;
	}
	*slot = (struct place_slot){ stored, (uint32_t)(PLACE_FIRST + c->places.len - 1) };
	return slot->place;
}

/* By its pid namespace; the container keeps the name it was first seen by, whatever cgroups it makes inside. */
static uint32_t place_by_space(struct sight *s, pid_t pid)
{
	struct containers *c = s->c;
	struct space_slot *slot;
	uint64_t pid_ns;
	uint32_t place;

	if (!c->have_host_ns || door_namespace(c->door, pid, "pid", &pid_ns) < 0 ||
	    pid_ns == c->host_ns)
		return PLACE_HOST;
	slot = space_tab_find(&c->spaces, pid_ns);
	if (slot) {
		s->container.num = slot->place >= PLACE_FIRST;
		if (s->container.num)
			s->container.levels[0] =
				c->places.data[slot->place - PLACE_FIRST].levels[0];
		return slot->place;
	}
	name_by_space(s, pid, pid_ns);
	place = add_place(c, &s->container);
	slot = place >= PLACE_FIRST ? space_tab_add(&c->spaces, pid_ns, NULL) : NULL;
	if (slot)
		*slot = (struct space_slot){ pid_ns, place };
	return place;
}

static uint32_t place_of(struct sight *s, pid_t pid)
{
	uint32_t place;

	if (s->container.num)
		return add_place(s->c, &s->container);
	place = place_by_space(s, pid);
	match(s, &s->container, NULL); /* what its path does not tell is known only now */
	if (place == PLACE_HOST && s->c->namespaced && strncmp(s->perf, "/..", 3))
		return PLACE_OWN;
	return place;
}

struct container_place containers_look(struct containers *c, pid_t pid)
{
	struct container_place ret = { .place = PLACE_UNKNOWN };
	struct sight s;

	if (pid == 0) /* the idle task */
		return (struct container_place){ .place = PLACE_HOST };
	if (!read_sight(c, pid, &s))
		return ret;
	ret.place = place_of(&s, pid);
	ret.wanted = s.wanted;
	ret.at_root = !s.path[0];
	return ret;
}

/* --- Names --- */

static bool add_log(struct containers *c, const char *id, const struct container_log *log, bool pod)
{
	const char *key = intern_str(c->strings, id);
	struct log_slot *slot = key ? log_tab_add(&c->logs, key, NULL) : NULL;

	if (!slot)
		return false;
	slot->id = key;
	slot->namespace = intern_str(c->strings, log->namespace);
	slot->pod = intern_str(c->strings, log->pod);
	slot->container = pod ? NULL : intern_str(c->strings, log->container);
	return slot->namespace && slot->pod && (pod || slot->container);
}

static int take_log(void *data, const char *name)
{
	struct containers *c = data;
	struct container_log log;

	if (container_log_parse(name, &log) == 0 && !add_log(c, log.id, &log, false))
		return -ENOMEM;
	return 0;
}

void containers_reload(struct containers *c)
{
	door_each_container_log(c->door, take_log, c);
}

static const struct log_slot *find_log(struct containers *c, const char *id)
{
	const char *key = *id ? intern_str(c->strings, id) : NULL;

	return key ? log_tab_find(&c->logs, key) : NULL;
}

/* Containers without a log of their own (pause) are known by another one of their pod. */
static const struct log_slot *find_pod(struct containers *c, const char *pod_uid)
{
	for (size_t i = 0; *pod_uid && i < c->places.len; i++) {
		const struct container_level *level = &c->places.data[i].levels[0];
		const struct log_slot *log;

		if (strcmp(level->pod_uid, pod_uid))
			continue;
		log = find_log(c, level->id);
		if (log)
			return log;
	}
	return NULL;
}

static bool is_long_id(const char *id)
{
	return strlen(id) == 64 && strspn(id, "0123456789abcdef") == 64;
}

static void add_short(const struct container_level *level, struct strbuf *out)
{
	strbuf_printf(out, "%s:%.*s", level->runtime,
		      is_long_id(level->id) ? SHORT_ID : CONTAINER_ID_MAX, level->id);
}

/* Only the outermost is the node's own, so only that one has a name there. */
static void label_outermost(struct containers *c, const struct container_level *level, bool by_pod,
			    struct strbuf *out)
{
	const struct log_slot *log = find_log(c, level->id);
	const struct log_slot *pod = log ? log : find_pod(c, level->pod_uid);

	if (by_pod && pod) {
		strbuf_printf(out, "%s/%s", pod->namespace, pod->pod);
	} else if (by_pod && level->pod_uid[0]) {
		strbuf_printf(out, "pod:%s", level->pod_uid);
	} else if (log) {
		strbuf_printf(out, "%s/%s/%s", log->namespace, log->pod, log->container);
	} else {
		if (pod)
			strbuf_printf(out, "%s/%s/", pod->namespace, pod->pod);
		add_short(level, out);
	}
}

void containers_label(struct containers *c, uint32_t place, bool by_pod, struct strbuf *out)
{
	static const char *const special[PLACE_FIRST] = {
		[PLACE_UNKNOWN] = "[unknown]",
		[PLACE_HOST] = "[host]",
		[PLACE_OWN] = "[own container]",
		[PLACE_MORE] = "[other containers]",
	};
	const struct place *p;

	if (place < PLACE_FIRST || place - PLACE_FIRST >= c->places.len) {
		strbuf_str(out, special[place < PLACE_FIRST ? place : PLACE_UNKNOWN]);
		return;
	}
	p = &c->places.data[place - PLACE_FIRST];
	label_outermost(c, &p->levels[0], by_pod, out);
	for (size_t i = 1; i < p->num && !by_pod; i++) {
		strbuf_char(out, '/');
		add_short(&p->levels[i], out);
	}
}

/* --- What is wanted --- */

struct pids {
	VEC(pid_t) list;
};

static void pids_deinit(struct pids *pids)
{
	vec_deinit(&pids->list);
}

static int push_pid(void *data, pid_t pid)
{
	struct pids *pids = data;

	return vec_push(&pids->list, pid) ? 0 : -ENOMEM;
}

static int list_processes(struct containers *c, struct pids *pids, struct err *err)
{
	int r = door_each_task(c->door, 0, push_pid, pids, err);

	return r == -ENOMEM ? err_oom(err) : r;
}

/* All that run now get a place. */
static int see_all(struct containers *c, struct err *err)
{
	_cleanup_(pids_deinit) struct pids pids = { 0 };
	int r = list_processes(c, &pids, err);

	for (size_t i = 0; r == 0 && i < pids.list.len; i++)
		containers_look(c, pids.list.data[i]);
	return r;
}

/* The distinct containers, of every level, that fit. */
struct matches {
	VEC(const struct container_level *) list;
	VEC(uint32_t) places;
};

static void matches_deinit(struct matches *m)
{
	vec_deinit(&m->list);
	vec_deinit(&m->places);
}

static bool is_called(struct containers *c, uint32_t place, size_t level, const char *text)
{
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };

	if (level)
		return false;
	containers_label(c, place, false, &name);
	if (name.data && !strcmp(name.data, text))
		return true;
	strbuf_clear(&name);
	containers_label(c, place, true, &name);
	return name.data && !strcmp(name.data, text);
}

/* "docker:3f2a" as labels show it, or "3f2a". */
static bool fits(const struct container_level *level, const char *text)
{
	size_t len = strlen(level->runtime);

	if (!strncmp(text, level->runtime, len) && text[len] == ':')
		text += len + 1;
	return !strncmp(level->id, text, strlen(text));
}

static bool add_match(struct matches *m, const struct container_level *level, uint32_t place)
{
	for (size_t i = 0; i < m->list.len; i++) {
		if (!strcmp(m->list.data[i]->id, level->id))
			return true;
	}
	return vec_push(&m->list, level) && vec_push(&m->places, place);
}

/* A whole name takes every container that has it; else those whose id begins so. */
static int find_matches(struct containers *c, const char *text, struct matches *m, bool *named)
{
	*named = true;
	for (int pass = 0; pass < 2 && !m->list.len; pass++) {
		*named = pass == 0;
		for (size_t i = 0; i < c->places.len; i++) {
			const struct place *p = &c->places.data[i];
			uint32_t place = (uint32_t)(PLACE_FIRST + i);

			for (size_t l = 0; l < p->num; l++) {
				bool fit = *named ? !strcmp(p->levels[l].id, text) ||
							    is_called(c, place, l, text)
						  : fits(&p->levels[l], text);

				if (fit && !add_match(m, &p->levels[l], place))
					return -ENOMEM;
			}
		}
	}
	return 0;
}

static void list_level(struct containers *c, const struct container_level *level, uint32_t place,
		       struct strbuf *out)
{
	_cleanup_(strbuf_deinit) struct strbuf name = { 0 };

	add_short(level, &name);
	if (find_log(c, level->id)) {
		strbuf_str(&name, " (");
		containers_label(c, place, false, &name);
		strbuf_char(&name, ')');
	}
	if (!name.failed)
		escape_line(out, name.data, name.len, 120);
}

enum { MAX_LISTED = 8 };

static int refuse(struct containers *c, int code, const struct matches *m, const char *what,
		  struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf list = { 0 };

	for (size_t i = 0; i < m->list.len && i < MAX_LISTED && list.len < 260; i++) {
		strbuf_str(&list, i ? ", " : "");
		list_level(c, m->list.data[i], m->places.data[i], &list);
		if (i + 1 < m->list.len && (i + 1 == MAX_LISTED || list.len >= 260))
			strbuf_printf(&list, " and %zu more", m->list.len - i - 1);
	}
	return err_set(err, code, "%s: %s", what, list.data ? list.data : "none");
}

static int refuse_unknown(struct containers *c, const char *text, struct err *err)
{
	_cleanup_(matches_deinit) struct matches all = { 0 };
	char what[128];
	bool named;

	if (find_matches(c, "", &all, &named) < 0)
		return err_oom(err);
	snprintf(what, sizeof(what),
		 "no container is called '%.64s', nor does an id begin so; there are", text);
	return refuse(c, ENOENT, &all, what, err);
}

static int want(struct containers *c, struct wanted w, struct err *err)
{
	if (c->wanted.len >= MAX_WANTED)
		return err_set(err, E2BIG, "more than %d containers and cgroups are wanted",
			       MAX_WANTED);
	return vec_push(&c->wanted, w) ? 0 : err_oom(err);
}

int containers_want(struct containers *c, const char *id, struct err *err)
{
	_cleanup_(matches_deinit) struct matches m = { 0 };
	char what[128];
	bool named;
	int r = see_all(c, err);

	if (r < 0)
		return r;
	if (!*id)
		return refuse_unknown(c, id, err);
	if (find_matches(c, id, &m, &named) < 0)
		return err_oom(err);
	if (!m.list.len)
		return refuse_unknown(c, id, err);
	snprintf(what, sizeof(what), "the ids of several containers begin with '%.64s'", id);
	if (!named && m.list.len > 1)
		return refuse(c, EINVAL, &m, what, err);
	for (size_t i = 0; r == 0 && i < m.list.len; i++) {
		struct wanted w = { .id = intern_str(c->strings, m.list.data[i]->id) };

		r = w.id ? want(c, w, err) : err_oom(err);
	}
	return r;
}

/* Whether a process is in the wanted one of this index; in any of them with SIZE_MAX. */
static bool has_member(struct containers *c, size_t index)
{
	_cleanup_(pids_deinit) struct pids pids = { 0 };
	bool found = false;

	if (list_processes(c, &pids, NULL) < 0)
		return false;
	for (size_t i = 0; !found && i < pids.list.len; i++) {
		struct sight s;

		if (!read_sight(c, pids.list.data[i], &s))
			continue;
		place_of(&s, pids.list.data[i]);
		found = index == SIZE_MAX ? s.wanted : s.matched[index];
	}
	return found;
}

static bool opens(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool has_directory(struct containers *c, const struct wanted *w)
{
	return opens(door_open_cgroup(c->door, true, w->path, NULL)) ||
	       opens(door_open_cgroup(c->door, false, w->path, NULL)) ||
	       opens(door_open_cgroup_dir(c->door, w->given, NULL));
}

int containers_want_cgroup(struct containers *c, const char *cgroup, struct err *err)
{
	_cleanup_(strbuf_deinit) struct strbuf path = { 0 };
	struct wanted w = { 0 };
	int r;

	if (!door_cgroup_path(c->door, cgroup, &path))
		return err_set(err, EINVAL, "'%.200s' is not the path of a cgroup", cgroup);
	w.path = intern_mem(c->strings, path.data, path.len);
	w.given = intern_str(c->strings, cgroup);
	r = w.path && w.given ? want(c, w, err) : err_oom(err);
	if (r < 0)
		return r;
	if (has_directory(c, &w) || has_member(c, c->wanted.len - 1))
		return 0;
	c->wanted.len--;
	return err_set(err, ENOENT,
		       "there is no cgroup '%.200s': give its path as /proc/PID/cgroup shows it",
		       cgroup);
}

size_t containers_num_wanted(const struct containers *c)
{
	return c->wanted.len;
}

/* --- The kernel's own cgroup mode --- */

struct dirs {
	VEC(struct dir) list;
};

static void dirs_deinit(struct dirs *d)
{
	vec_deinit(&d->list);
}

/* The part of `path` that is the container's own cgroup; "" = it has none there. */
static void container_cgroup(const char *path, const char *id, char *ret, size_t size)
{
	struct container_path container;
	const char *slash = strrchr(path, '/');

	ret[0] = '\0';
	container_path_parse(path, &container);
	for (size_t i = 0; i < container.num; i++) {
		if (!strcmp(container.levels[i].id, id)) {
			snprintf(ret, size, "%.*s", (int)container.levels[i].path_len, path);
			return;
		}
	}
	if (!container.num && can_be_name(path) && slash && !strcmp(slash + 1, id))
		snprintf(ret, size, "%s", path);
}

static int add_dir(struct containers *c, struct dirs *dirs, enum dir_kind kind, const char *path)
{
	struct dir dir = { .kind = kind, .path = intern_str(c->strings, path) };

	if (!dir.path)
		return -ENOMEM;
	for (size_t i = 0; i < dirs->list.len; i++) {
		if (dirs->list.data[i].path == dir.path && dirs->list.data[i].kind == kind)
			return 0;
	}
	return vec_push(&dirs->list, dir) ? 0 : -ENOMEM;
}

/* Where perf_event sees this member of what is wanted; -ENODEV when not below a cgroup of its own. */
static int dir_of_member(struct containers *c, const struct wanted *w, const struct sight *s,
			 struct dirs *dirs)
{
	enum dir_kind kind = s->perf_unified ? DIR_UNIFIED : DIR_V1;
	char own[4096];

	if (!s->perf[0])
		return -ENODEV;
	if (!w->id)
		return lies_below(s->perf, w->path) ? add_dir(c, dirs, kind, w->path) : -ENODEV;
	container_cgroup(s->perf, w->id, own, sizeof(own));
	return own[0] ? add_dir(c, dirs, kind, own) : -ENODEV;
}

/* For one of the wanted: the directories that hold all its processes. */
static int dirs_of_wanted(struct containers *c, size_t index, struct dirs *dirs, struct err *err)
{
	_cleanup_(pids_deinit) struct pids pids = { 0 };
	const struct wanted *w = &c->wanted.data[index];
	int r = list_processes(c, &pids, err);
	size_t before = dirs->list.len;
	bool any = false;

	for (size_t i = 0; r == 0 && i < pids.list.len; i++) {
		struct sight s;

		if (!read_sight(c, pids.list.data[i], &s))
			continue;
		place_of(&s, pids.list.data[i]);
		if (!s.matched[index])
			continue;
		any = true;
		r = dir_of_member(c, w, &s, dirs);
	}
	if (!any && !w->id && r == 0) { /* an empty cgroup: processes may come */
		struct sight own;

		r = read_sight(c, getpid(), &own) && own.perf[0]
			    ? add_dir(c, dirs, own.perf_unified ? DIR_UNIFIED : DIR_V1, w->path)
			    : -ENODEV;
	}
	for (size_t i = before; !w->id && r == 0 && i < dirs->list.len; i++) {
		const struct dir *dir = &dirs->list.data[i];

		r = opens(door_open_cgroup(c->door, dir->kind == DIR_UNIFIED, dir->path, NULL))
			    ? 0
			    : -ENODEV;
	}
	if (r == -ENODEV && !w->id && opens(door_open_cgroup_dir(c->door, w->given, NULL))) {
		dirs->list.len = before;
		r = add_dir(c, dirs, DIR_GIVEN, w->given);
	}
	if (r == -ENODEV)
		return err_set(
			err, ENODEV,
			"its processes are in no cgroup of its own that perf_event counts by");
	return r == -ENOMEM ? err_oom(err) : r;
}

/* A process in a cgroup below another one would be counted twice. */
static bool lies_in_another(const struct dirs *dirs, size_t index)
{
	const struct dir *dir = &dirs->list.data[index];

	for (size_t i = 0; i < dirs->list.len; i++) {
		const struct dir *other = &dirs->list.data[i];

		if (i != index && other->kind == dir->kind && lies_below(dir->path, other->path))
			return true;
	}
	return false;
}

static int open_dirs(struct containers *c, const struct dirs *dirs, struct err *err)
{
	for (size_t i = 0; i < dirs->list.len; i++) {
		const struct dir *dir = &dirs->list.data[i];
		int fd;

		if (lies_in_another(dirs, i))
			continue;
		if (dir->kind != dirs->list.data[0].kind)
			return err_set(err, ENODEV, "the cgroups lie in several hierarchies");
		fd = dir->kind == DIR_GIVEN
			     ? door_open_cgroup_dir(c->door, dir->path, err)
			     : door_open_cgroup(c->door, dir->kind == DIR_UNIFIED, dir->path, err);
		if (fd < 0)
			return fd;
		if (!vec_push(&c->fds, fd)) {
			close(fd);
			return err_oom(err);
		}
	}
	return 0;
}

static void close_dirs(struct containers *c)
{
	for (size_t i = 0; i < c->fds.len; i++)
		close(c->fds.data[i]);
	c->fds.len = 0;
}

int containers_open_wanted(struct containers *c, const int **ret_fds, size_t *ret_num,
			   struct err *err)
{
	_cleanup_(dirs_deinit) struct dirs dirs = { 0 };
	int r = 0;

	close_dirs(c);
	for (size_t i = 0; r == 0 && i < c->wanted.len; i++)
		r = dirs_of_wanted(c, i, &dirs, err);
	if (r == 0)
		r = open_dirs(c, &dirs, err);
	if (r < 0) {
		close_dirs(c);
		return r;
	}
	*ret_fds = c->fds.data;
	*ret_num = c->fds.len;
	return 0;
}

bool containers_wanted_alive(struct containers *c)
{
	for (size_t i = 0; i < c->fds.len; i++) {
		if (door_cgroup_populated(c->door, c->fds.data[i]))
			return true;
	}
	return !c->fds.len && has_member(c, SIZE_MAX);
}

/* --- Lifetime --- */

int containers_new(struct door *door, struct containers **ret, struct err *err)
{
	struct containers *c = calloc(1, sizeof(*c));
	struct sight s;

	if (!c)
		return err_oom(err);
	c->door = door;
	c->strings = intern_new();
	if (!c->strings) {
		free(c);
		return err_oom(err);
	}
	/* /proc shows our own number, so its pid namespace is ours; process 1 may be protected from our eyes. */
	c->have_host_ns = door_namespace(door, getpid(), "pid", &c->host_ns) == 0;
	c->namespaced = read_sight(c, 1, &s) && !strncmp(s.path, "/..", 3);
	containers_reload(c);
	*ret = c;
	return 0;
}

void containers_free(struct containers *c)
{
	if (!c)
		return;
	close_dirs(c);
	vec_deinit(&c->fds);
	vec_deinit(&c->wanted);
	vec_deinit(&c->places);
	place_tab_deinit(&c->place_tab);
	log_tab_deinit(&c->logs);
	space_tab_deinit(&c->spaces);
	intern_free(c->strings);
	free(c);
}
