/*
 * A JIT compiler that puts two functions at one address, in turn, half a second each: code in run_first is jit_first, code in
 * run_second is jit_second, whatever else the address was and will be. It tells so by a perf map, or with -DDUMP by a
 * jitdump (Linux tools/perf/Documentation/jitdump-specification.txt).
 *	jit_reuse SECONDS
 */
#include "jit_file.h"
#include "victim.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

void run_first(void (*code)(void));
void run_second(void (*code)(void));

enum { CODE_BYTES = 64, JIT_CODE_LOAD = 0 };

static int publish_open(void)
{
#ifdef DUMP
	return dump_open();
#else
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return out < 0 ? -1 : 0;
#endif
}

static int publish(const uint8_t *code, const char *name)
{
	char text[256];
	size_t len;
#ifdef DUMP
	struct {
		uint32_t id, total;
		uint64_t time;
		uint32_t pid, tid;
		uint64_t vma, addr, size, index;
	} load = { JIT_CODE_LOAD, 0, now_ns(), (uint32_t)getpid(), (uint32_t)syscall(SYS_gettid),
		   (uintptr_t)code, (uintptr_t)code, CODE_BYTES, 0 };

	len = sizeof(load) + strlen(name) + 1;
	load.total = (uint32_t)len + CODE_BYTES;
	memcpy(text, &load, sizeof(load));
	memcpy(text + sizeof(load), name, strlen(name) + 1);
	memcpy(text + len, code, CODE_BYTES);
	len += CODE_BYTES;
#else
	len = (size_t)snprintf(text, sizeof(text), "%lx %x %s\n", (unsigned long)code, CODE_BYTES, name);
#endif
	return write(out, text, len) == (ssize_t)len ? 0 : -1;
}

/* push rbp; mov rbp, rsp; mov ecx, N; again: dec ecx; jnz again; pop rbp; ret: a millisecond or so */
static void emit(uint8_t *at, uint32_t rounds)
{
	static const uint8_t head[] = { 0x55, 0x48, 0x89, 0xe5, 0xb9 };
	static const uint8_t tail[] = { 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3 };

	memset(at, 0xcc, CODE_BYTES);
	memcpy(at, head, sizeof(head));
	memcpy(at + sizeof(head), &rounds, sizeof(rounds));
	memcpy(at + sizeof(head) + sizeof(rounds), tail, sizeof(tail));
}

static void run(void (*code)(void))
{
	uint64_t end_ns = now_ns() + 500000000;

	while (now_ns() < end_ns)
		code();
}

KEEP void run_first(void (*code)(void))
{
	FRAME_BYTES(80);

	run(code);
	STAY();
}

KEEP void run_second(void (*code)(void))
{
	FRAME_BYTES(160);

	run(code);
	STAY();
}

int main(int argc, char **argv)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED || publish_open())
		return 1;
	signal(SIGTERM, ends);
	signal(SIGALRM, ends);
	if (argc > 1)
		alarm((unsigned int)strtoul(argv[1], NULL, 10));
	for (;;) {
		emit(code, 3000000);
		if (publish(code, "jit_first"))
			return 1;
		run_first((void (*)(void))(uintptr_t)code);
		emit(code, 2000000);
		if (publish(code, "jit_second"))
			return 1;
		run_second((void (*)(void))(uintptr_t)code);
	}
}
