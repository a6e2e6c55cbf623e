/*
 * The trap's hand: a process outside the jail, started before it, that measures what the rules are about, keeps the room
 * that captures take, and runs the hook and the commands of status(). The recorder hears numbers from it, and tells
 * it the names of files it wrote; it believes only names that a capture can have.
 */
#pragma once

#include "app/trap_rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct trap_hand;

struct trap_hand_opts {
	const struct trap_rule *rules; /* borrowed, as are the next */
	size_t num_rules;
	const char *const *names;      /* of captures, with STAMP_MARK */
	size_t num_names;
	uint64_t quota;                /* bytes of all captures; 0 = no end */
	const char *hook;              /* run by sh for 30 s at most, the files as $1.. and in RINGFOLD_FILES; NULL = none */
};

/* What a rule is about must be there: -ENOENT where a container or pid is not. */
int trap_hand_start(const struct trap_hand_opts *opts, struct trap_hand **ret, struct err *err);
void trap_hand_free(struct trap_hand *hand); /* ends it, once hooks have ended; NULL is fine */
/*
 * Waits until hooks have ended, and says so where one runs. `stop_fd` is readable when somebody does not want to wait: they are
 * killed when `stop` then says so. The hand is used no more.
 */
void trap_hand_finish(struct trap_hand *hand, int stop_fd, bool (*stop)(void *data), void *data);
int trap_hand_fd(const struct trap_hand *hand); /* readable when there is a value */

/* What it has measured since; false when there is nothing more. */
struct trap_value {
	uint32_t rule;
	uint32_t event; /* start or exit happened; value says nothing */
	uint32_t gone;  /* what it is about is not there; nor does it then */
	double value;
	uint64_t time_ns;
};
bool trap_hand_value(struct trap_hand *hand, struct trap_value *ret);
/* It has ended (was killed): there is nobody to wait with. */
bool trap_hand_lost(const struct trap_hand *hand);
/* That as an error, with how it ended; 0 while it is there. */
int trap_hand_check(struct trap_hand *hand, struct err *err);
/*
 * Has everything measured now, whatever was due when, and waits for that, 2 s at most. `heard` is called when there are values
 * for trap_hand_value.
 */
void trap_hand_measure_now(struct trap_hand *hand, void (*heard)(void *data), void *data);

/*
 * Before a capture of so many bytes is written: has the oldest removed until it fits. `heard` as above. -EFBIG when it never
 * will.
 */
int trap_hand_make_room(struct trap_hand *hand, uint64_t bytes, void (*heard)(void *data), void *data, struct err *err);

/* A capture was written: `paths` without a newline in them. Not `whole`: some may be missing, and no hook is run. */
void trap_hand_captured(struct trap_hand *hand, const char *const *paths, size_t num, bool whole);
