/* Memory of the processes being recorded, for those who unwind and name their code. */
#include "app/session_priv.h"

#include "symbols/addrspace.h"
#include "target/memory.h"

#include <errno.h>

enum { MAX_PARTS = 64 };

static struct memory_piece piece_of(const struct session *s, const struct addrspace *space)
{
	return (struct memory_piece){ .pid = space->pid, .generation = space->id, .seen_ns = s->sample_ns };
}

static enum memory_answer answer_of(const struct memory_piece *piece)
{
	if (piece->got == (ssize_t)piece->len)
		return MEMORY_OK;
	/* There may be a helper again for the next sample. */
	return piece->got == -EPIPE || piece->got == -ENOMEM ? MEMORY_NOT_NOW : MEMORY_NEVER;
}

static void read_parts(void *data, const struct addrspace *space, struct memory_part *parts, size_t num)
{
	struct session *s = data;
	struct memory_piece pieces[MAX_PARTS];

	for (size_t from = 0; from < num; from += MAX_PARTS) {
		size_t some = num - from < MAX_PARTS ? num - from : MAX_PARTS;

		for (size_t i = 0; i < some; i++) {
			pieces[i] = piece_of(s, space);
			pieces[i].addr = parts[from + i].addr;
			pieces[i].buf = parts[from + i].buf;
			pieces[i].len = parts[from + i].len;
		}
		memory_read(s->opts.memory, pieces, some);
		for (size_t i = 0; i < some; i++) {
			parts[from + i].got = pieces[i].got > 0 ? (size_t)pieces[i].got : 0;
			parts[from + i].answer = answer_of(&pieces[i]);
		}
	}
}

static enum memory_answer read_one(void *data, const struct addrspace *space, uint64_t addr, void *buf, size_t len)
{
	struct memory_part part = { .addr = addr, .buf = buf, .len = len };

	read_parts(data, space, &part, 1);
	return part.answer;
}

struct memory_reader session_memory_reader(struct session *s)
{
	if (!s->opts.memory)
		return (struct memory_reader){ 0 };
	return (struct memory_reader){ read_one, s, read_parts };
}

bool session_touch(struct session *s, const struct addrspace *space, uint64_t addr)
{
	struct memory_piece who = piece_of(s, space);

	who.addr = addr;
	return s->opts.memory && memory_touch(s->opts.memory, &who) > 0;
}

uint64_t session_memory_blocked(const struct session *s)
{
	return s->opts.memory ? memory_counts(s->opts.memory).blocked : 0;
}
