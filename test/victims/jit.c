/*
 * Code written at run time with a frame-pointer chain, and /tmp/perf-PID.map for its names: with and without
 * 0x, names with spaces, bad lines, ranges that later lines override.
 *	jit SECONDS
 */
#include "victim.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void run_jit(void (*code)(void));

enum { SLOT = 64 }; /* bytes between two functions */

static char map_path[64];

static void ends(int sig)
{
	(void)sig;
	unlink(map_path);
	_exit(0);
}

/* push rbp; mov rbp, rsp; sub rsp, 32; call NEXT; leave; ret */
static void emit_caller(uint8_t *at, const uint8_t *next)
{
	static const uint8_t head[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xe8 };
	static const uint8_t tail[] = { 0xc9, 0xc3 };
	int32_t distance = (int32_t)(next - (at + sizeof(head) + 4));

	memcpy(at, head, sizeof(head));
	memcpy(at + sizeof(head), &distance, sizeof(distance));
	memcpy(at + sizeof(head) + 4, tail, sizeof(tail));
}

/* push rbp; mov rbp, rsp; mov ecx, 1000000; again: dec ecx; jnz again; jmp back to the mov; never returns */
static void emit_leaf(uint8_t *at)
{
	static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xe5, 0xb9, 0x40, 0x42, 0x0f, 0x00,
					0xff, 0xc9, 0x75, 0xfc, 0xeb, 0xf5 };

	memcpy(at, code, sizeof(code));
}

static int write_map(const uint8_t *code)
{
	FILE *map;

	snprintf(map_path, sizeof(map_path), "/tmp/perf-%d.map", (int)getpid());
	map = fopen(map_path, "we");
	if (!map)
		return -1;
	fprintf(map, "%lx %x stale everything\n", (unsigned long)code, 4 * SLOT);
	fprintf(map, "this is no line of a map\n\n%lx\n", (unsigned long)code);
	fprintf(map, "%lx %x jit_outer\n", (unsigned long)code, SLOT);
	fprintf(map, "0x%lx 0x%x jit middle with spaces\n", (unsigned long)(code + SLOT), SLOT);
	fprintf(map, "%lx %x stale_inner\n", (unsigned long)(code + 2 * SLOT), 2 * SLOT);
	fprintf(map, "%lx %x jit_inner(int;char)\n", (unsigned long)(code + 2 * SLOT), SLOT);
	fprintf(map, "%lX %x jit_leaf\n", (unsigned long)(code + 3 * SLOT), SLOT);
	return fclose(map);
}

KEEP void run_jit(void (*code)(void))
{
	FRAME_BYTES(80);

	code();
	STAY();
}

int main(int argc, char **argv)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);

	if (code == MAP_FAILED)
		return 1;
	for (int i = 0; i < 3; i++)
		emit_caller(code + i * SLOT, code + (i + 1) * SLOT);
	emit_leaf(code + 3 * SLOT);
	if (write_map(code))
		return 1;
	signal(SIGTERM, ends);
	signal(SIGALRM, ends);
	if (argc > 1)
		alarm((unsigned int)strtoul(argv[1], NULL, 10));
	run_jit((void (*)(void))(uintptr_t)code);
	return 0;
}
