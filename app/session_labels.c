#include "app/session_priv.h"

#include "base/intern.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"
#include "symbols/symbols.h"

#include <stdio.h>

uint32_t session_label_frame(struct session *s, const struct profile_frame *frame)
{
	struct label_slot *slot;
	bool added;

	slot = label_tab_add(&s->label_tab, frame, &added);
	if (!slot)
		return FRAME_ID_NONE;
	if (added) {
		slot->frame = *frame;
		slot->number = (uint32_t)s->labels.len;
		if (!vec_push(&s->labels, *frame)) {
			label_tab_remove(&s->label_tab, frame);
			return FRAME_ID_NONE;
		}
	}
	return unwinder_other_frame(s->unwinder, slot->number);
}

uint32_t session_text_frame(struct session *s, const char *text, enum frame_kind kind)
{
	struct profile_frame frame = { .name = intern_str(s->strings, text), .kind = kind };

	return frame.name ? session_label_frame(s, &frame) : FRAME_ID_NONE;
}

const struct who_slot *session_who(struct session *s, uint32_t comm, pid_t pid, pid_t tid)
{
	struct who key = { .comm = comm, .pid = s->opts.by == BY_PID ? pid : 0,
			   .tid = s->opts.threads ? tid : 0 };
	struct who_slot *slot;
	char text[96];
	bool added;

	slot = who_tab_add(&s->who_tab, &key, &added);
	if (!slot || !added)
		return slot;
	slot->who = key;
	if (key.pid)
		snprintf(text, sizeof(text), "%s-%d", intern_get(s->strings, comm), pid);
	else
		snprintf(text, sizeof(text), "%s", intern_get(s->strings, comm));
	slot->process = session_text_frame(s, text, FRAME_LABEL);
	if (key.tid) {
		snprintf(text, sizeof(text), "thread %d", tid);
		slot->thread = session_text_frame(s, text, FRAME_LABEL);
	}
	return slot;
}

static uint32_t placed_frame(struct session *s, uint32_t id, uint64_t addr)
{
	struct placed placed = { .id = id, .addr = addr };
	struct placed_slot *slot;
	bool added;

	slot = placed_tab_add(&s->placed_tab, &placed, &added);
	if (!slot)
		return FRAME_ID_NONE;
	if (added) {
		slot->placed = placed;
		slot->number = (uint32_t)s->placed.len;
		if (!vec_push(&s->placed, placed)) {
			placed_tab_remove(&s->placed_tab, &placed);
			return FRAME_ID_NONE;
		}
	}
	return unwinder_other_frame(s->unwinder, slot->number | PLACED);
}

/* Where a place in a file is in the process; 0 = nowhere (any more). */
static uint64_t addr_in(const struct addrspace *space, const struct unwind_frame *place)
{
	mappings_for_each(m, &space->maps) {
		if (m->file && m->file->id == place->owner && place->place >= m->pgoff &&
		    place->place - m->pgoff < m->end - m->start)
			return m->start + (place->place - m->pgoff);
	}
	return 0;
}

void session_place_frames(struct session *s, const struct addrspace *space, uint32_t *ids, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		struct unwind_frame place = unwinder_frame(s->unwinder, ids[i]);
		uint64_t addr;
		uint32_t id;

		if (place.where != FRAME_IN_FILE)
			continue;
		addr = unwinder_frame_addr(s->unwinder, space, i, &place);
		id = placed_frame(s, ids[i], addr ? addr : addr_in(space, &place));
		if (id != FRAME_ID_NONE)
			ids[i] = id;
		else
			s->failed = true;
	}
}
