#include "target/memory.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/strbuf.h"
#include "target/door.h"
#include "target/memory_priv.h"
#include "target/broker_priv.h"
#include "target/proc_text.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_BLOCKED = 64,  /* processes; after so many nobody's memory is read any more */
	MAX_DEATHS = 100,  /* of helpers that nobody kept waiting: somebody kills them */
	MAX_BUSY = 250,    /* times 20 ms that a helper without a CPU is waited for */
	CONTROL_MS = 2000, /* the guard needs a CPU, too */
	MAX_MAPS = 16 << 20,
	RETRY_NS = 1000000000,
	START_SLACK_NS = 10000000, /* /proc tells a start in clock ticks, rounded down */
};

struct target {
	uint32_t generation;
	pid_t pid;
	uint64_t start_ns; /* of the process: CLOCK_BOOTTIME, in clock ticks */
	uint16_t slot;     /* MEMORY_NO_SLOT = not open at the helper */
	int16_t error;     /* > 0: it is not read, with that errno */
};
HTAB(targets, struct target, uint32_t, hash_u64(key), slot->generation == key, hash_u64(slot->generation));

struct blocked {
	pid_t pid;
	uint64_t start_ns;
};

struct memory {
	struct door *door;
	pid_t guard;
	int control, sock; /* sock -1: there is no helper (yet) */
	struct memory_progress *progress; /* shared with the helpers */
	uint64_t tried_ns; /* when the last one was */
	bool dead;         /* the helper is found to be gone */
	bool broken;       /* no other can be had */
	struct targets targets;
	struct {
		uint32_t generation; /* 0 with `used` 0 = free */
		uint64_t used;       /* when, in requests */
	} slots[MEMORY_SLOTS];
	struct blocked blocked[MAX_BLOCKED];
	size_t num_blocked, num_deaths;
	struct memory_counts counts;
	struct memory_ask ask;
	size_t piece_of[MEMORY_PIECES]; /* of ask.wants */
	uint8_t answer[MEMORY_PIECES * sizeof(int32_t) + MEMORY_BYTES];
};

int memory_new(struct door *door, struct memory **ret, struct err *err)
{
	struct memory *m = calloc(1, sizeof(*m));
	int control[2], code = 0;

	if (!m)
		return err_oom(err);
	m->progress = mmap(NULL, sizeof(*m->progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->progress == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) {
		code = errno;
		if (m->progress != MAP_FAILED)
			munmap(m->progress, sizeof(*m->progress));
		free(m);
		return err_set(err, code, "preparing to read memory: %s", strerror(code));
	}
	m->door = door;
	m->control = control[0];
	m->sock = -1;
	m->guard = fork();
	if (!m->guard)
		memory_guard(control[1], m->progress);
	code = errno;
	close(control[1]);
	if (m->guard < 0) {
		memory_free(m);
		return err_set(err, code, "fork: %s", strerror(code));
	}
	*ret = m;
	return 0;
}

void memory_free(struct memory *m)
{
	if (!m)
		return;
	closep(&m->sock);
	close(m->control); /* the guard sees it, ends the helper and itself */
	if (m->guard > 0) {
		while (waitpid(m->guard, NULL, 0) < 0 && errno == EINTR)
			;
	}
	munmap(m->progress, sizeof(*m->progress));
	targets_deinit(&m->targets);
	free(m);
}

struct memory_counts memory_counts(const struct memory *m)
{
	return m->counts;
}

/* ---- the helper ---- */

/* 1: readable; 0: not in that time; or -errno. */
static int wait_for(int fd, unsigned int ms)
{
	const uint64_t deadline = clock_monotonic_ns() + ms * UINT64_C(1000000);

	for (;;) {
		uint64_t now = clock_monotonic_ns(), left = now < deadline ? deadline - now : 0;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000) };
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		int n = ppoll(&poll_fd, 1, &ts, NULL);

		if (n >= 0 || errno != EINTR)
			return n < 0 ? -errno : n;
	}
}

/* 0: it is busy, wait on; 1: it was replaced, and holds nothing yet; or -EPIPE. */
static int replace(struct memory *m, enum memory_control how)
{
	char byte = (char)how;
	int fd = -1;

	if (broker_send(m->control, &byte, 1, -1) < 0 || wait_for(m->control, CONTROL_MS) <= 0 ||
	    broker_receive(m->control, &byte, 1, &fd) != 1) {
		byte = MEMORY_NO_MORE;
		m->broken = true;
	}
	if (byte == MEMORY_BUSY) {
		closep(&fd);
		return 0;
	}
	for (size_t i = 0; i < MEMORY_SLOTS; i++)
		m->slots[i].used = 0;
	for (size_t cursor = 0;;) {
		struct target *t = targets_next(&m->targets, &cursor);

		if (!t)
			break;
		t->slot = MEMORY_NO_SLOT;
	}
	closep(&m->sock);
	m->sock = fd;
	m->dead = false;
	m->tried_ns = clock_monotonic_ns();
	return byte == MEMORY_FRESH && fd >= 0 ? 1 : -EPIPE;
}

static int start_helper(struct memory *m)
{
	if (m->broken)
		return -EPIPE;
	if (m->sock >= 0)
		return 0;
	/* When the guard would not fork one more, those that are stuck may have ended a while later. */
	if (m->tried_ns && clock_monotonic_ns() - m->tried_ns < RETRY_NS)
		return -EPIPE;
	return replace(m, MEMORY_REPLACE) > 0 ? 0 : -EPIPE;
}

/* It went without being told: forks of one that dies every time must not go on for ever. */
static void helper_died(struct memory *m)
{
	m->counts.replaced++;
	if (++m->num_deaths > MAX_DEATHS)
		m->broken = true;
	else
		replace(m, MEMORY_REPLACE);
}

/* ---- whose memory ---- */

static bool is_blocked(const struct memory *m, pid_t pid, uint64_t start_ns)
{
	for (size_t i = 0; i < m->num_blocked; i++) {
		if (m->blocked[i].pid == pid && m->blocked[i].start_ns == start_ns)
			return true;
	}
	return false;
}

/* Whose memory the helper is reading now; NULL = nobody's. */
static struct target *being_read(const struct memory *m)
{
	uint32_t slot = atomic_load_explicit(&m->progress->slot, memory_order_relaxed);

	if (slot >= MEMORY_SLOTS || !m->slots[slot].used)
		return NULL;
	return targets_find(&m->targets, m->slots[slot].generation);
}

/* It kept a helper waiting. */
static void set_aside(struct memory *m, struct target *t)
{
	t->error = EDEADLK;
	m->counts.blocked++;
	if (m->num_blocked < MAX_BLOCKED)
		m->blocked[m->num_blocked++] = (struct blocked){ t->pid, t->start_ns };
	else
		m->broken = true;
}

/* Whether a process that started then can have been seen at `seen_ns` (CLOCK_MONOTONIC, which stands while we sleep). */
static bool was_there(uint64_t start_ns, uint64_t seen_ns)
{
	int64_t asleep = (int64_t)(clock_ns(CLOCK_BOOTTIME) - clock_monotonic_ns());

	return (int64_t)start_ns <= (int64_t)seen_ns + asleep + START_SLACK_NS;
}

/* A free slot, or that of who was not asked for longest. */
static uint16_t take_slot(struct memory *m, uint32_t generation)
{
	size_t best = 0;
	struct target *old;

	for (size_t i = 1; i < MEMORY_SLOTS; i++) {
		if (m->slots[i].used < m->slots[best].used)
			best = i;
	}
	old = m->slots[best].used ? targets_find(&m->targets, m->slots[best].generation) : NULL;
	if (old)
		old->slot = MEMORY_NO_SLOT;
	m->slots[best].generation = generation;
	return (uint16_t)best;
}

static int tell(struct memory *m, enum memory_op op, uint32_t slot, int fd)
{
	const struct memory_ask ask = { .op = op, .slot = slot };

	return broker_send(m->sock, &ask, offsetof(struct memory_ask, wants), fd);
}

/* Opens it: 0, or -errno, which may be one that passes. */
static int open_target(struct memory *m, struct target *t, uint64_t seen_ns)
{
	_cleanup_close_ int fd = -1;
	struct err err = { 0 };

	fd = door_open_memory(m->door, t->pid, &t->start_ns, &err);
	if (fd == -EACCES || fd == -EPERM) {
		m->counts.denied++;
		t->error = EACCES;
	} else if (fd < 0) {
		t->error = fd == -ESRCH ? ESRCH : EIO;
	} else if (seen_ns && !was_there(t->start_ns, seen_ns)) {
		m->counts.reused++;
		t->error = ESRCH;
	} else if (is_blocked(m, t->pid, t->start_ns)) {
		t->error = EDEADLK;
	}
	if (t->error)
		return -t->error;
	t->slot = take_slot(m, t->generation);
	m->dead = tell(m, MEMORY_ADD, t->slot, fd) < 0;
	return 0;
}

/* The slot that its memory is open at, or -errno. */
static int find_slot(struct memory *m, const struct memory_piece *piece)
{
	bool added;
	struct target *t = targets_add(&m->targets, piece->generation, &added);
	int r;

	if (!t)
		return -ENOMEM;
	if (added)
		*t = (struct target){ piece->generation, piece->pid, 0, MEMORY_NO_SLOT, 0 };
	if (t->error)
		return -t->error;
	if (t->slot == MEMORY_NO_SLOT) {
		r = open_target(m, t, piece->seen_ns);
		if (r < 0)
			return r;
	}
	m->slots[t->slot].used = m->counts.requests + 1;
	return t->slot;
}

void memory_forget(struct memory *m, uint32_t generation)
{
	struct target *t = targets_find(&m->targets, generation);

	if (!t)
		return;
	if (t->slot != MEMORY_NO_SLOT) {
		m->slots[t->slot].used = 0;
		tell(m, MEMORY_DROP, t->slot, -1); /* one that has died holds nothing either */
	}
	targets_remove(&m->targets, generation);
}

/* ---- requests ---- */

/*
 * Fills m->ask from pieces[*next] on, of which piece->got bytes are there already; *next becomes the first that has no
 * part in it. Those of processes that cannot be read get their -errno and take no part.
 */
static void gather(struct memory *m, struct memory_piece *pieces, size_t num, size_t *next)
{
	size_t room = MEMORY_BYTES;

	m->ask.op = MEMORY_READ;
	m->ask.num = 0;
	for (; *next < num && room && m->ask.num < MEMORY_PIECES && !m->dead; ++*next) {
		struct memory_piece *piece = &pieces[*next];
		size_t left = piece->len - (size_t)piece->got, len = left < room ? left : room;
		int slot;

		if (!left)
			continue;
		slot = piece->addr > INT64_MAX - piece->len ? -EIO : find_slot(m, piece);
		if (slot < 0) {
			piece->got = piece->got ? piece->got : slot;
			continue;
		}
		m->piece_of[m->ask.num] = *next;
		m->ask.wants[m->ask.num++] = (struct memory_want){ (uint32_t)slot, (uint32_t)len,
								   piece->addr + (uint64_t)piece->got };
		room -= len;
		if (len < left)
			return; /* it goes on in the next request */
	}
}

/* The helper has not answered in time: false when it only waits for a CPU, else another has taken its place. */
static bool given_up(struct memory *m, bool for_good)
{
	struct target *who = being_read(m);

	if (replace(m, for_good ? MEMORY_REPLACE : MEMORY_GIVE_UP) == 0)
		return false;
	m->counts.replaced++;
	if (who)
		set_aside(m, who);
	else if (++m->num_deaths > MAX_DEATHS)
		m->broken = true;
	return true;
}

/* Bytes of the answer, 0 when the helper has died, or -ETIMEDOUT when it was replaced as it did not answer. */
static int exchange(struct memory *m)
{
	size_t size = offsetof(struct memory_ask, wants) + m->ask.num * sizeof(m->ask.wants[0]);
	int n = broker_send(m->sock, &m->ask, size, -1), with;

	if (n < 0)
		return 0;
	for (int i = 1; !(n = wait_for(m->sock, MEMORY_WAIT_MS)); i++) {
		if (given_up(m, i >= MAX_BUSY))
			return -ETIMEDOUT;
	}
	n = n < 0 ? n : broker_receive(m->sock, m->answer, sizeof(m->answer), &with);
	if (n > 0)
		closep(&with);
	return n > 0 ? n : 0;
}

/* False: it is not what was asked for. *more: the last piece is not whole, but may go on. */
static bool take_answer(struct memory *m, struct memory_piece *pieces, size_t size, bool *more)
{
	size_t used = m->ask.num * sizeof(int32_t);
	int32_t told[MEMORY_PIECES];

	*more = false;
	if (size < used)
		return false;
	memcpy(told, m->answer, used);
	for (uint32_t i = 0; i < m->ask.num; i++) {
		struct memory_piece *piece = &pieces[m->piece_of[i]];
		size_t got = told[i] > 0 ? (size_t)told[i] : 0;

		if (got > m->ask.wants[i].len || got > size - used)
			return false;
		memcpy((uint8_t *)piece->buf + piece->got, m->answer + used, got);
		used += got;
		m->counts.bytes += got;
		*more = got == m->ask.wants[i].len && (size_t)piece->got + got < piece->len;
		piece->got += (ssize_t)got;
		if (!piece->got) /* 0: the program has ended (fs/proc/base.c mem_rw) */
			piece->got = told[i] < 0 ? told[i] : -ESRCH;
	}
	return used == size;
}

/* One request: true when pieces up to *next are done (or the helper never will). */
static void read_some(struct memory *m, struct memory_piece *pieces, size_t num, size_t *next)
{
	size_t from = *next;
	bool more;
	int n = 0;

	gather(m, pieces, num, next);
	if (!m->ask.num && !m->dead)
		return;
	if (!m->dead) {
		m->counts.requests++;
		m->counts.pieces += m->ask.num;
		atomic_store_explicit(&m->progress->slot, MEMORY_NO_SLOT, memory_order_relaxed);
		n = exchange(m);
	}
	if (n > 0 && take_answer(m, pieces, (size_t)n, &more)) {
		if (more)
			*next = m->piece_of[m->ask.num - 1];
		return;
	}
	*next = from; /* again, with another helper */
	for (uint32_t i = 0; i < m->ask.num; i++) {
		if (pieces[m->piece_of[i]].got < 0)
			pieces[m->piece_of[i]].got = 0;
	}
	if (n != -ETIMEDOUT)
		helper_died(m);
}

void memory_read(struct memory *m, struct memory_piece *pieces, size_t num)
{
	uint64_t start = clock_monotonic_ns();
	size_t next = 0;

	for (size_t i = 0; i < num; i++)
		pieces[i].got = 0;
	while (next < num) {
		if (start_helper(m) < 0) {
			for (; next < num; next++) {
				if (!pieces[next].got && pieces[next].len)
					pieces[next].got = -EPIPE;
			}
			break;
		}
		read_some(m, pieces, num, &next);
	}
	m->counts.ns += clock_monotonic_ns() - start;
}

/* ---- touching ---- */

struct look_up {
	uint64_t addr, end; /* end: of what is readable from addr on; 0 = nothing */
};

static int look_at(void *data, const struct proc_map *map)
{
	struct look_up *l = data;

	if (map->start > l->addr)
		return 1;
	if (map->end <= l->addr)
		return 0;
	l->end = map->readable ? map->end : 0;
	return 1;
}

ssize_t memory_touch(struct memory *m, const struct memory_piece *who)
{
	_cleanup_(strbuf_deinit) struct strbuf text = { 0 };
	const uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	struct memory_piece pieces[MEMORY_TOUCH_PAGES];
	struct look_up found = { .addr = who->addr };
	char bytes[MEMORY_TOUCH_PAGES];
	size_t num = 0;
	ssize_t ret = 0;
	int r;

	if (who->pid <= 0 || who->addr % page_bytes || who->addr > INT64_MAX - MEMORY_TOUCH_PAGES * page_bytes)
		return -EINVAL;
	/* /proc/PID/mem also reads what the process may not read itself, which is what guard pages are. */
	r = door_read_proc(m->door, who->pid, "maps", MAX_MAPS, &text, NULL, NULL);
	if (r < 0)
		return r;
	proc_maps_parse(text.data, text.len, look_at, &found, NULL);
	for (; num < MEMORY_TOUCH_PAGES && who->addr + num * page_bytes < found.end; num++) {
		pieces[num] = *who;
		pieces[num].addr += num * page_bytes;
		pieces[num].buf = &bytes[num];
		pieces[num].len = 1;
	}
	memory_read(m, pieces, num);
	while ((size_t)ret < num && pieces[ret].got == 1)
		ret++;
	return !ret && num && pieces[0].got != -EIO && pieces[0].got != -EFAULT ? pieces[0].got : ret;
}
