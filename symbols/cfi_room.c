/* What call-frame information may hold of all files together; elf_cfi.h. */
#include "symbols/elf_cfi.h"

#include "symbols/elf_file_priv.h"

static void unlink_cfi(struct cfi_room *room, struct elf_cfi *cfi)
{
	*(cfi->prev ? &cfi->prev->next : &room->oldest) = cfi->next;
	*(cfi->next ? &cfi->next->prev : &room->newest) = cfi->prev;
	cfi->prev = cfi->next = NULL;
}

void cfi_room_use(struct cfi_room *room, struct elf_cfi *cfi)
{
	if (!room || room->newest == cfi)
		return;
	if (cfi->room)
		unlink_cfi(room, cfi);
	else
		room->held += cfi->held;
	cfi->room = room;
	cfi->prev = room->newest;
	*(room->newest ? &room->newest->next : &room->oldest) = cfi;
	room->newest = cfi;
}

void cfi_room_leave(struct elf_cfi *cfi)
{
	if (!cfi->room)
		return;
	unlink_cfi(cfi->room, cfi);
	cfi->room->held -= cfi->held;
	cfi->room = NULL;
}

void cfi_room_clear(struct cfi_room *room)
{
	while (room->oldest) {
		struct elf_cfi *cfi = room->oldest;

		elf_cfi_deinit(cfi);
		cfi->tried = false;
	}
}

void cfi_room_keep_within(struct cfi_room *room)
{
	struct elf_cfi *next;

	if (!room || room->held <= room->max)
		return;
	/* Pieces come back one by one; what else there is takes reading a whole table. */
	for (struct elf_cfi *cfi = room->oldest; cfi && room->held > room->max / 4 * 3; cfi = cfi->next)
		elf_cfi_drop(cfi);
	for (struct elf_cfi *cfi = room->oldest; cfi != room->newest && room->held > room->max; cfi = next) {
		next = cfi->next;
		elf_cfi_deinit(cfi);
		cfi->tried = false;
	}
}
