/* What the door cannot do for want of privileges, in words. */
#include "target/door.h"

#include "target/door_priv.h"

#include <string.h>
#include <sys/capability.h>

static const struct {
	cap_value_t cap;
	const char *name;
} wanted[] = {
	{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE" }, /* other users' processes */
	{ CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE" }, /* files by their mapping; Linux 5.9 */
	{ CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH" }, /* files and directories of others */
};

static bool has(cap_t caps, cap_value_t cap)
{
	cap_flag_value_t value = CAP_CLEAR;

	return caps && cap_get_flag(caps, cap, CAP_EFFECTIVE, &value) == 0 && value == CAP_SET;
}

void door_note_rights(struct door *door)
{
	cap_t caps = cap_get_proc();
	size_t num = sizeof(wanted) / sizeof(wanted[0]);

	door->missing_rights[0] = '\0';
	for (size_t i = 0; caps && i < num; i++) {
		/* What CAP_SYS_ADMIN includes to this day (include/linux/capability.h checkpoint_restore_ns_capable). */
		if (has(caps, wanted[i].cap) || (wanted[i].cap == CAP_CHECKPOINT_RESTORE && has(caps, CAP_SYS_ADMIN)))
			continue;
		if (door->missing_rights[0])
			strcat(door->missing_rights, " and ");
		strcat(door->missing_rights, wanted[i].name);
	}
	cap_free(caps);
}

const char *door_missing_rights(const struct door *door)
{
	return door->missing_rights;
}
