#include "target/proc_text.h"

#include "base/reader.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* A line that is being taken apart. */
struct cursor {
	const char *pos;
	const char *end;
};

static bool take_char(struct cursor *c, char want)
{
	if (c->pos == c->end || *c->pos != want)
		return false;
	c->pos++;
	return true;
}

static void skip_blanks(struct cursor *c)
{
	while (c->pos < c->end && (*c->pos == ' ' || *c->pos == '\t'))
		c->pos++;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* At least one digit, at most `max` in value; no sign, no prefix, no blanks. */
static bool take_number(struct cursor *c, unsigned int base, uint64_t max, uint64_t *ret)
{
	const char *start = c->pos;
	uint64_t value = 0;

	for (; c->pos < c->end && (unsigned int)digit_value(*c->pos) < base; c->pos++) {
		if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
		    __builtin_add_overflow(value, (uint64_t)digit_value(*c->pos), &value))
			return false;
	}
	if (c->pos == start || value > max)
		return false;
	*ret = value;
	return true;
}

static bool take_flag(struct cursor *c, char set, char unset, bool *ret)
{
	*ret = c->pos < c->end && *c->pos == set;
	return *ret ? take_char(c, set) : take_char(c, unset);
}

/*
 * Copies up to `size` - 1 bytes. The kernel's seq_file_path turns a newline into \012 and leaves a
 * backslash alone, so only this one sequence is turned back (fs/proc/task_mmu.c show_map_vma,
 * fs/seq_file.c mangle_path).
 */
static void copy_path(char *ret, size_t size, const struct cursor *c)
{
	size_t len = 0;

	for (const char *p = c->pos; p < c->end && len < size - 1; len++) {
		if (c->end - p >= 4 && !memcmp(p, "\\012", 4)) {
			ret[len] = '\n';
			p += 4;
		} else {
			ret[len] = *p++;
		}
	}
	ret[len] = '\0';
}

static bool parse_map(struct cursor c, struct proc_map *ret)
{
	uint64_t maj, min;

	if (!take_number(&c, 16, UINT64_MAX, &ret->start) || !take_char(&c, '-') ||
	    !take_number(&c, 16, UINT64_MAX, &ret->end) || !take_char(&c, ' ') ||
	    ret->start >= ret->end)
		return false;
	if (!take_flag(&c, 'r', '-', &ret->readable) || !take_flag(&c, 'w', '-', &ret->writable) ||
	    !take_flag(&c, 'x', '-', &ret->executable) || !take_flag(&c, 's', 'p', &ret->shared))
		return false;
	if (!take_char(&c, ' ') || !take_number(&c, 16, UINT64_MAX, &ret->pgoff) ||
	    !take_char(&c, ' ') || !take_number(&c, 16, UINT32_MAX, &maj) || !take_char(&c, ':') ||
	    !take_number(&c, 16, UINT32_MAX, &min) || !take_char(&c, ' ') ||
	    !take_number(&c, 10, UINT64_MAX, &ret->ino))
		return false;
	if (c.pos < c.end && !take_char(&c, ' '))
		return false;
	skip_blanks(&c);
	if (memchr(c.pos, '\0', (size_t)(c.end - c.pos)))
		return false;
	ret->maj = (uint32_t)maj;
	ret->min = (uint32_t)min;
	copy_path(ret->path, sizeof(ret->path), &c);
	return true;
}

static bool next_line(struct reader *r, struct cursor *ret)
{
	const char *line;
	size_t len;

	if (!reader_line(r, &line, &len))
		return false;
	*ret = (struct cursor){ line, line + len };
	return true;
}

int proc_maps_parse(const char *text, size_t len,
		    int (*each)(void *data, const struct proc_map *map), void *data, size_t *bad)
{
	struct reader r = reader_init(text, len);
	struct cursor line;
	struct proc_map map;

	if (bad)
		*bad = 0;
	while (next_line(&r, &line)) {
		int stop;

		if (!parse_map(line, &map)) {
			if (bad)
				(*bad)++;
			continue;
		}
		stop = each(data, &map);
		if (stop)
			return stop;
	}
	return 0;
}

bool proc_is_jit_path(const char *path)
{
	static const char *const prefixes[] = {
		"//anon",  "[anon", "[heap]",      "[stack",
		"/memfd:", "/SYSV", "anon_inode:", "/anon_hugepage",
	};

	if (!*path || !strcmp(path, "/dev/zero") || !strcmp(path, "/dev/zero (deleted)"))
		return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (!strncmp(path, prefixes[i], strlen(prefixes[i])))
			return true;
	}
	return false;
}

/* The line's value when it starts with `key`. */
static bool take_key(struct cursor *line, const char *key)
{
	size_t len = strlen(key);

	if ((size_t)(line->end - line->pos) < len || memcmp(line->pos, key, len))
		return false;
	line->pos += len;
	skip_blanks(line);
	return true;
}

/* fs/proc/array.c proc_task_name escapes a newline as \n and a backslash as two. */
static void copy_name(char *ret, size_t size, struct cursor c)
{
	size_t len = 0;

	while (c.pos < c.end && *c.pos && len < size - 1) {
		char byte = *c.pos++;

		if (byte == '\\' && take_char(&c, 'n'))
			byte = '\n';
		else if (byte == '\\')
			take_char(&c, '\\');
		ret[len++] = byte;
	}
	ret[len] = '\0';
}

static bool take_pid(struct cursor *c, pid_t *ret)
{
	uint64_t value;

	if (!take_number(c, 10, INT_MAX, &value))
		return false;
	*ret = (pid_t)value;
	return true;
}

static bool take_uids(struct cursor *c, struct proc_status *ret)
{
	uint64_t uid, euid;

	if (!take_number(c, 10, UINT32_MAX, &uid))
		return false;
	skip_blanks(c);
	if (!take_number(c, 10, UINT32_MAX, &euid))
		return false;
	ret->uid = (uid_t)uid;
	ret->euid = (uid_t)euid;
	return true;
}

/* "\t    1234 kB" (fs/proc/task_mmu.c task_mem). */
static void take_kib(struct cursor *c, uint64_t *ret)
{
	uint64_t kib;

	skip_blanks(c);
	if (take_number(c, 10, UINT64_MAX, &kib) && take_key(c, " kB"))
		*ret = kib;
}

static pid_t last_pid(struct cursor *c)
{
	pid_t pid = 0;

	while (take_pid(c, &pid))
		skip_blanks(c);
	return c->pos == c->end ? pid : 0;
}

int proc_status_parse(const char *text, size_t len, struct proc_status *ret)
{
	struct reader r = reader_init(text, len);
	struct proc_status status = { 0 };
	bool has_tgid = false, has_uid = false;
	struct cursor line;

	while (next_line(&r, &line)) {
		if (take_key(&line, "Name:\t"))
			copy_name(status.name, sizeof(status.name), line);
		else if (take_key(&line, "Tgid:"))
			has_tgid = take_pid(&line, &status.tgid) && status.tgid > 0;
		else if (take_key(&line, "PPid:"))
			take_pid(&line, &status.ppid);
		else if (take_key(&line, "NSpid:"))
			status.nspid = last_pid(&line);
		else if (take_key(&line, "Uid:"))
			has_uid = take_uids(&line, &status);
		else if (take_key(&line, "VmHWM:"))
			take_kib(&line, &status.peak_kib);
		else if (take_key(&line, "RssFile:"))
			take_kib(&line, &status.file_kib);
	}
	if (!has_tgid || !has_uid)
		return -EBADMSG;
	if (status.nspid <= 0)
		status.nspid = status.tgid;
	*ret = status;
	return 0;
}

int proc_stat_start_time(const char *text, size_t len, uint64_t *ret_ticks)
{
	const char *paren = len ? memrchr(text, ')', len) : NULL;
	struct cursor c;

	if (!paren)
		return -EBADMSG;
	c = (struct cursor){ paren + 1, text + len };
	/* What follows is " S 1 2 ...": field 3 is the state, then numbers, some of them signed. */
	for (int field = 3; field < 22; field++) {
		const char *start;

		if (!take_char(&c, ' '))
			return -EBADMSG;
		start = c.pos;
		while (c.pos < c.end && *c.pos != ' ' && *c.pos != '\n')
			c.pos++;
		if (c.pos == start)
			return -EBADMSG;
	}
	if (!take_char(&c, ' ') || !take_number(&c, 10, UINT64_MAX, ret_ticks))
		return -EBADMSG;
	return 0;
}

/* "ID:CONTROLLERS:PATH"; the pieces are not terminated. */
struct cgroup_pieces {
	struct cursor controllers, path;
	bool unified;
};

static bool split_cgroup(struct cursor line, struct cgroup_pieces *ret)
{
	const char *colon;
	uint64_t id;

	if (!take_number(&line, 10, UINT32_MAX, &id) || !take_char(&line, ':'))
		return false;
	colon = memchr(line.pos, ':', (size_t)(line.end - line.pos));
	if (!colon)
		return false;
	ret->controllers = (struct cursor){ line.pos, colon };
	ret->path = (struct cursor){ colon + 1, line.end };
	ret->unified = !id && colon == line.pos;
	return ret->path.pos < ret->path.end && *ret->path.pos == '/';
}

/* As much as fits. */
static void copy_cursor(char *ret, size_t size, const struct cursor *c)
{
	size_t n = (size_t)(c->end - c->pos);

	if (n > size - 1)
		n = size - 1;
	memcpy(ret, c->pos, n);
	ret[n] = '\0';
}

/* kernel/cgroup/cgroup.c proc_cgroup_show: behind the path of one that was removed. */
static void cut_deleted(struct cursor *path)
{
	static const char tail[] = " (deleted)";
	size_t n = sizeof(tail) - 1;

	if ((size_t)(path->end - path->pos) > n && !memcmp(path->end - n, tail, n))
		path->end -= n;
}

int proc_cgroup_each(const char *text, size_t len,
		     int (*each)(void *data, const struct proc_cgroup *line), void *data)
{
	struct reader r = reader_init(text, len);
	struct cursor line;

	while (next_line(&r, &line)) {
		struct cgroup_pieces pieces;
		struct proc_cgroup cgroup;
		int stop;

		if (memchr(line.pos, '\0', (size_t)(line.end - line.pos)) || !split_cgroup(line, &pieces))
			continue;
		cut_deleted(&pieces.path);
		cgroup.unified = pieces.unified;
		copy_cursor(cgroup.controllers, sizeof(cgroup.controllers), &pieces.controllers);
		copy_cursor(cgroup.path, sizeof(cgroup.path), &pieces.path);
		stop = each(data, &cgroup);
		if (stop)
			return stop;
	}
	return 0;
}

bool proc_has_controller(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, name, len) && (!at[len] || at[len] == ','))
			return true;
	}
	return false;
}

static bool take_word(struct cursor *c, struct cursor *ret)
{
	skip_blanks(c);
	*ret = (struct cursor){ c->pos, c->pos };
	while (ret->end < c->end && *ret->end != ' ')
		ret->end++;
	c->pos = ret->end;
	return ret->pos < ret->end;
}

static bool word_is(const struct cursor *word, const char *text)
{
	return (size_t)(word->end - word->pos) == strlen(text) && !memcmp(word->pos, text, strlen(text));
}

/* seq_file mangles blanks and the backslash as \ooo in mountinfo (fs/proc_namespace.c). */
static bool unescape_octal(char *ret, size_t size, const struct cursor *word)
{
	size_t len = 0;

	for (const char *p = word->pos; p < word->end; len++) {
		if (len == size - 1)
			return false;
		ret[len] = *p;
		if (*p == '\\' && word->end - p >= 4 && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' &&
		    p[2] <= '7' && p[3] >= '0' && p[3] <= '7') {
			ret[len] = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		}
		if (!ret[len])
			return false;
		p++;
	}
	ret[len] = '\0';
	return true;
}

/* proc_pid_mountinfo(5): ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG..] - TYPE SOURCE OPTIONS */
static bool parse_cgroup_mount(struct cursor line, struct proc_cgroup_mount *ret)
{
	struct cursor word, root, point, device;
	uint64_t maj, min;

	if (!take_word(&line, &word) || !take_word(&line, &word) || !take_word(&line, &device) ||
	    !take_word(&line, &root) || !take_word(&line, &point) || !take_word(&line, &word))
		return false;
	do {
		if (!take_word(&line, &word))
			return false;
	} while (!word_is(&word, "-"));
	if (!take_word(&line, &word))
		return false;
	ret->unified = word_is(&word, "cgroup2");
	if (!ret->unified && !word_is(&word, "cgroup"))
		return false;
	if (!take_word(&line, &word) || !take_word(&line, &word))
		return false;
	copy_cursor(ret->options, sizeof(ret->options), &word);
	if (!take_number(&device, 10, UINT32_MAX, &maj) || !take_char(&device, ':') ||
	    !take_number(&device, 10, UINT32_MAX, &min))
		return false;
	ret->maj = (uint32_t)maj;
	ret->min = (uint32_t)min;
	return unescape_octal(ret->root, sizeof(ret->root), &root) &&
	       unescape_octal(ret->point, sizeof(ret->point), &point);
}

int proc_cgroup_mounts(const char *text, size_t len,
		       int (*each)(void *data, const struct proc_cgroup_mount *mount), void *data)
{
	struct reader r = reader_init(text, len);
	struct proc_cgroup_mount mount;
	struct cursor line;

	while (next_line(&r, &line)) {
		int stop;

		if (!parse_cgroup_mount(line, &mount))
			continue;
		stop = each(data, &mount);
		if (stop)
			return stop;
	}
	return 0;
}

int proc_uidmap_root(const char *text, size_t len, uid_t *ret)
{
	struct reader r = reader_init(text, len);
	struct cursor line;

	while (next_line(&r, &line)) {
		uint64_t inside, outside, count;

		skip_blanks(&line);
		if (!take_number(&line, 10, UINT32_MAX, &inside))
			continue;
		skip_blanks(&line);
		if (!take_number(&line, 10, UINT32_MAX, &outside))
			continue;
		skip_blanks(&line);
		if (!take_number(&line, 10, UINT32_MAX, &count) || inside || !count)
			continue;
		*ret = (uid_t)outside;
		return 0;
	}
	return -EBADMSG;
}

/* Sets first..last, as far as they are below `max`; the number of bits that were not set before. */
static int set_range(uint8_t *bits, size_t max, uint64_t first, uint64_t last)
{
	int count = 0;

	for (uint64_t cpu = first; cpu <= last && cpu < max; cpu++) {
		uint8_t bit = (uint8_t)(1u << (cpu % 8));

		count += !(bits[cpu / 8] & bit);
		bits[cpu / 8] |= bit;
	}
	return count;
}

int cpulist_parse(const char *text, size_t len, uint8_t *bits, size_t max)
{
	struct cursor c = { text, text + len };
	int count = 0;

	/* No kernel has more (CONFIG_NR_CPUS is at most 8192); keeps the count in an int. */
	if (max > 1u << 20)
		max = 1u << 20;
	memset(bits, 0, (max + 7) / 8);
	if (c.pos < c.end && c.end[-1] == '\n')
		c.end--;
	while (c.pos < c.end) {
		uint64_t first, last;

		if (!take_number(&c, 10, UINT32_MAX, &first))
			return -EBADMSG;
		last = first;
		if (take_char(&c, '-') && !take_number(&c, 10, UINT32_MAX, &last))
			return -EBADMSG;
		if (last < first)
			return -EBADMSG;
		count += set_range(bits, max, first, last);
		if (c.pos < c.end && (!take_char(&c, ',') || c.pos == c.end))
			return -EBADMSG;
	}
	return count;
}
