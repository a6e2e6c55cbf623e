#include "target/container.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A component of a path, or a piece of one. */
struct piece {
	const char *at;
	size_t len;
};

enum { ID_HEX = 64, UID_HEX = 32 };

static bool piece_is(struct piece p, const char *text)
{
	return p.len == strlen(text) && !memcmp(p.at, text, p.len);
}

static bool piece_starts(struct piece p, const char *text)
{
	return p.len >= strlen(text) && !memcmp(p.at, text, strlen(text));
}

static bool piece_ends(struct piece p, const char *text)
{
	size_t len = strlen(text);

	return p.len >= len && !memcmp(p.at + p.len - len, text, len);
}

/* Without the end, when it has that end. */
static bool cut_end(struct piece *p, const char *end)
{
	if (!piece_ends(*p, end))
		return false;
	p->len -= strlen(end);
	return true;
}

static bool cut_start(struct piece *p, const char *start)
{
	size_t len = strlen(start);

	if (!piece_starts(*p, start))
		return false;
	p->at += len;
	p->len -= len;
	return true;
}

static size_t span_hex(struct piece p)
{
	size_t n = 0;

	while (n < p.len && strchr("0123456789abcdef", p.at[n]) && p.at[n])
		n++;
	return n;
}

static bool is_hex_id(struct piece p)
{
	return p.len == ID_HEX && span_hex(p) == p.len;
}

/* Amazon ECS: 32 hex digits, a dash and a number. */
static bool is_ecs_id(struct piece p)
{
	size_t digits = 0;

	if (p.len < UID_HEX + 2 || p.len >= CONTAINER_ID_MAX || span_hex(p) != UID_HEX ||
	    p.at[UID_HEX] != '-')
		return false;
	p.at += UID_HEX + 1;
	p.len -= UID_HEX + 1;
	while (digits < p.len && p.at[digits] >= '0' && p.at[digits] <= '9')
		digits++;
	return digits == p.len;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* systemd writes other bytes of a unit's name as \xNN (systemd-escape(1)). */
static void copy_unescaped(char *ret, size_t size, struct piece p)
{
	size_t len = 0;

	for (size_t i = 0; i < p.len && len < size - 1; i++) {
		int high, low;

		ret[len] = p.at[i];
		if (p.at[i] == '\\' && p.len - i >= 4 && p.at[i + 1] == 'x') {
			high = hex_value(p.at[i + 2]);
			low = hex_value(p.at[i + 3]);
			if (high >= 0 && low >= 0 && high * 16 + low > 0) {
				ret[len] = (char)(high * 16 + low);
				i += 3;
			}
		}
		len++;
	}
	ret[len] = '\0';
}

/* What stands before the id: "cri-containerd" of "cri-containerd-ID.scope". */
static const char *runtime_of_prefix(struct piece prefix)
{
	static const struct {
		const char *prefix, *runtime;
	} known[] = {
		{ "docker", "docker" },
		{ "cri-containerd", "containerd" },
		{ "crio", "cri-o" },
		{ "libpod", "podman" },
		{ "nerdctl", "containerd" },
		{ "containerd", "containerd" },
		{ "runc", "runc" },
		{ "crun", "crun" },
		{ "libpod-payload", "podman" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (piece_is(prefix, known[i].prefix))
			return known[i].runtime;
	}
	return "container";
}

/* The cgroup above a bare id. */
static const char *runtime_of_parent(struct piece parent)
{
	if (piece_is(parent, "docker") || piece_is(parent, "actions_job"))
		return "docker";
	if (piece_is(parent, "libpod_parent"))
		return "podman";
	return "container";
}

static const char *find_last(struct piece p, const char *word)
{
	size_t len = strlen(word);

	for (size_t end = p.len; end >= len; end--) {
		if (!memcmp(p.at + end - len, word, len))
			return p.at + end - len;
	}
	return NULL;
}

/*
 * The pod of "podUID" or "kubepods-burstable-podUID.slice": a UUID, or the bare hash that static pods have.
 * Untouched when it is none.
 */
static bool parse_pod(struct piece p, char ret[CONTAINER_POD_MAX])
{
	char uid[CONTAINER_POD_MAX];
	size_t len = 0, hex = 0;
	const char *at;

	cut_end(&p, ".slice");
	at = find_last(p, "pod"); /* "kubepods" holds the word as well */
	if (!at || (at != p.at && at[-1] != '-'))
		return false;
	p = (struct piece){ at + 3, (size_t)(p.at + p.len - at - 3) };
	for (; len < p.len && len < sizeof(uid) - 1; len++) {
		bool dash = p.at[len] == '-' || p.at[len] == '_';

		if (!dash && hex_value(p.at[len]) < 0)
			return false;
		hex += !dash;
		uid[len] = dash ? '-' : p.at[len];
	}
	uid[len] = '\0';
	if (len != p.len || hex != UID_HEX || (len != UID_HEX && len != UID_HEX + 4))
		return false;
	memcpy(ret, uid, len + 1);
	return true;
}

struct parse {
	struct container_path *ret;
	const char *path;
	char pod_uid[CONTAINER_POD_MAX]; /* of a cgroup passed since the last container */
};

static void add_level(struct parse *parse, const char *runtime, struct piece id,
		      struct piece component)
{
	struct container_level *level;

	if (parse->ret->num == CONTAINER_MAX_LEVELS || !id.len)
		return;
	level = &parse->ret->levels[parse->ret->num++];
	level->runtime = runtime;
	copy_unescaped(level->id, sizeof(level->id), id);
	memcpy(level->pod_uid, parse->pod_uid, sizeof(level->pod_uid));
	level->path_len = (size_t)(component.at + component.len - parse->path);
	parse->pod_uid[0] = '\0';
}

/* SLICE:RUNTIME:ID: what a systemd driver asks for, taken as a name by one without systemd. */
static bool parse_colons(struct parse *parse, struct piece p)
{
	const char *last = memrchr(p.at, ':', p.len);
	struct piece id, prefix;
	const char *colon;

	if (!last)
		return false;
	id = (struct piece){ last + 1, (size_t)(p.at + p.len - last - 1) };
	colon = memrchr(p.at, ':', (size_t)(last - p.at));
	prefix.at = colon ? colon + 1 : p.at;
	prefix.len = (size_t)(last - prefix.at);
	if (!is_hex_id(id))
		return false;
	if (colon)
		parse_pod((struct piece){ p.at, (size_t)(colon - p.at) }, parse->pod_uid);
	add_level(parse, runtime_of_prefix(prefix), id, p);
	return true;
}

/* PREFIX-ID or PREFIX-ID.scope. The monitor beside a container has its id too, but is the host's. */
static bool parse_prefixed(struct parse *parse, struct piece component)
{
	struct piece p = component, id, prefix;

	cut_end(&p, ".scope");
	if (p.len < ID_HEX + 2 || p.at[p.len - ID_HEX - 1] != '-')
		return false;
	id = (struct piece){ p.at + p.len - ID_HEX, ID_HEX };
	prefix = (struct piece){ p.at, p.len - ID_HEX - 1 };
	if (!is_hex_id(id))
		return false;
	if (!piece_ends(prefix, "conmon"))
		add_level(parse, runtime_of_prefix(prefix), id, component);
	return true;
}

/* Runtimes whose containers have names of any form. */
static bool parse_named(struct parse *parse, struct piece parent, struct piece component)
{
	struct piece p = component;

	if (cut_end(&p, ".scope")) {
		if (cut_start(&p, "runc-"))
			add_level(parse, "runc", p, component);
		else if (cut_start(&p, "crun-"))
			add_level(parse, "crun", p, component);
		else if (cut_start(&p, "machine-"))
			add_level(parse, "machine", p, component);
		else
			return false;
	} else if (cut_start(&p, "systemd-nspawn@") && cut_end(&p, ".service")) {
		add_level(parse, "nspawn", p, component);
	} else if (piece_starts(component, "lxc.payload.")) {
		p = component;
		cut_start(&p, "lxc.payload.");
		add_level(parse, "lxc", p, component);
	} else if (piece_is(parent, "lxc") || piece_is(parent, "lxc.payload")) {
		add_level(parse, "lxc", component, component);
	} else {
		return false;
	}
	return true;
}

static void parse_component(struct parse *parse, struct piece parent, struct piece component)
{
	if (is_hex_id(component)) {
		add_level(parse, runtime_of_parent(parent), component, component);
		return;
	}
	if (is_ecs_id(component)) {
		add_level(parse, "ecs", component, component);
		return;
	}
	if (parse_colons(parse, component) || parse_prefixed(parse, component) ||
	    parse_named(parse, parent, component))
		return;
	if (!parse_pod(component, parse->pod_uid) && piece_starts(component, "kubepods"))
		parse->pod_uid[0] = '\0';
}

void container_path_parse(const char *path, struct container_path *ret)
{
	struct parse parse = { .ret = ret, .path = path };
	struct piece parent = { path, 0 };
	const char *pos = path;

	memset(ret, 0, sizeof(*ret));
	while (*pos) {
		struct piece component;

		if (*pos == '/') {
			pos++;
			continue;
		}
		component = (struct piece){ pos, strcspn(pos, "/") };
		parse_component(&parse, parent, component);
		parent = component;
		pos += component.len;
	}
}

/* DNS labels and subdomains, as Kubernetes holds names to (RFC 1123): they cannot hold a '_' or '/'. */
static bool take_name(struct piece *rest, size_t len, char *ret, size_t size)
{
	if (!len || len >= size || len > rest->len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = rest->at[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.')
			return false;
		ret[i] = c;
	}
	ret[len] = '\0';
	rest->at += len;
	rest->len -= len;
	return true;
}

static size_t until_underscore(struct piece p)
{
	const char *end = memchr(p.at, '_', p.len);

	return end ? (size_t)(end - p.at) : 0;
}

int container_log_parse(const char *name, struct container_log *ret)
{
	struct piece rest = { name, strlen(name) };

	if (!cut_end(&rest, ".log") ||
	    !take_name(&rest, until_underscore(rest), ret->pod, sizeof(ret->pod)) ||
	    !cut_start(&rest, "_") ||
	    !take_name(&rest, until_underscore(rest), ret->namespace, sizeof(ret->namespace)) ||
	    !cut_start(&rest, "_") || rest.len < ID_HEX + 2 ||
	    !take_name(&rest, rest.len - ID_HEX - 1, ret->container, sizeof(ret->container)) ||
	    !cut_start(&rest, "-") || !is_hex_id(rest))
		return -EBADMSG;
	memcpy(ret->id, rest.at, ID_HEX);
	ret->id[ID_HEX] = '\0';
	return 0;
}
