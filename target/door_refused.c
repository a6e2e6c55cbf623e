/* What the door has refused, and what it does not try again. On the side of who asks. */
#include "target/door.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/htab.h"
#include "target/door_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum {
	MAX_SEEN = 16384, /* what comes after that is counted each time */
	MAX_SLOW = 64,    /* of each kind; later ones take the place of the first */
};

struct seen {
	uint64_t key;
};
HTAB(seen_set, struct seen, uint64_t, hash_u64(key), slot->key == key, hash_u64(slot->key));

struct door_refused {
	uint64_t counts[DOOR_NUM_REFUSALS];
	struct seen_set seen;
	uint64_t slow_devices[MAX_SLOW];
	pid_t slow_pids[MAX_SLOW];
	size_t num_devices, num_pids;
};

/* NULL when out of memory: then it is not counted. */
static struct door_refused *refused_of(struct door *door)
{
	if (!door->refused)
		door->refused = calloc(1, sizeof(*door->refused));
	return door->refused;
}

void door_refused_free(struct door_refused *r)
{
	if (r)
		seen_set_deinit(&r->seen);
	free(r);
}

const uint64_t *door_refused(struct door *door)
{
	static const uint64_t none[DOOR_NUM_REFUSALS];

	return door->refused ? door->refused->counts : none;
}

static bool first_time(struct door_refused *r, uint64_t key)
{
	struct seen *slot;
	bool added;

	if (r->seen.len >= MAX_SEEN)
		return !seen_set_find(&r->seen, key);
	slot = seen_set_add(&r->seen, key, &added);
	if (slot && added)
		slot->key = key;
	return !slot || added;
}

enum door_refusal door_note_refusal(struct door *door, pid_t pid, const char *what, enum door_refusal refusal)
{
	struct door_refused *r;

	/* Debug files and maps mostly are not there. */
	if (refusal == DOOR_OK || refusal == DOOR_GONE)
		return refusal;
	r = refused_of(door);
	if (r && first_time(r, hash_two((uint64_t)pid << 32 | (uint64_t)refusal, hash_bytes(what, strlen(what)))))
		r->counts[refusal]++;
	return refusal;
}

static uint64_t device_of(const struct door_mapping *mapping)
{
	return (uint64_t)mapping->maj << 32 | mapping->min;
}

bool door_is_slow(const struct door *door, pid_t pid, const struct door_mapping *mapping, struct err *err)
{
	const struct door_refused *r = door->refused;
	bool slow = false;

	for (size_t i = 0; r && mapping && i < r->num_devices && i < MAX_SLOW; i++)
		slow |= r->slow_devices[i] == device_of(mapping);
	for (size_t i = 0; r && !mapping && i < r->num_pids && i < MAX_SLOW; i++)
		slow |= r->slow_pids[i] == pid;
	if (slow)
		err_set(err, ETIMEDOUT, "its file system did not answer before, and is not asked again");
	return slow;
}

enum door_refusal door_note_slow(struct door *door, pid_t pid, const struct door_mapping *mapping)
{
	struct door_refused *r = refused_of(door);

	/* Of what is not known by a device only this one process is left alone. */
	if (r && mapping && device_of(mapping))
		r->slow_devices[r->num_devices++ % MAX_SLOW] = device_of(mapping);
	else if (r && pid)
		r->slow_pids[r->num_pids++ % MAX_SLOW] = pid;
	return DOOR_SLOW;
}
