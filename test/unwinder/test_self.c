/*
 * This program samples itself in a signal handler, as perf would: the interrupted registers and
 * a copy of the stack. The chain must be what the C library's own unwinder says, from the
 * interrupted place to the root, and both of our unwinders must agree.
 */
#include "fixture.h"
#include "test/check.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { MAX = 256, COPY = 256 * 1024 };

/* What the handler takes. */
static struct taken {
	bool wanted;
	uint64_t regs[ARCH_MAX_PERF_REGS];
	uint8_t *stack;
	size_t stack_bytes;
	void *trace[MAX]; /* glibc: the handler first */
	int num_trace;
	bool nested; /* the handler is sampled by another one */
} taken;

static uintptr_t stack_top; /* end of the main stack's mapping */

#if defined(__x86_64__)

/* In perf's order: AX BX CX DX SI DI BP SP IP R8..R15. */
static const int order[] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
			     REG_RBP, REG_RSP, REG_RIP, REG_R8,  REG_R9,  REG_R10,
			     REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

__attribute__((no_sanitize("address"))) static void copy_stack(const uint8_t *from, size_t size)
{
	/* Not memcpy: that is the sanitizer's, which minds red zones on the stack. */
	for (size_t i = 0; i < size; i++)
		taken.stack[i] = ((const volatile uint8_t *)from)[i];
	taken.stack_bytes = size;
}

static void take(const ucontext_t *uc, uintptr_t top)
{
	uintptr_t sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		taken.regs[i] = (uint64_t)uc->uc_mcontext.gregs[order[i]];
	copy_stack((const uint8_t *)sp, top - sp < COPY ? top - sp : COPY);
	taken.num_trace = backtrace(taken.trace, MAX);
}

static void on_usr1(int sig, siginfo_t *info, void *context)
{
	if (taken.nested)
		raise(SIGUSR2); /* this handler is what is sampled */
	else
		take(context, stack_top);
}

static void on_usr2(int sig, siginfo_t *info, void *context)
{
	take(context, stack_top);
}

/* Sampled at the call of raise, somewhere in the C library. */
__attribute__((noinline)) static int deep(int n, volatile int *sum)
{
	int r;

	if (n)
		r = deep(n - 1, sum) + *sum;
	else
		r = raise(SIGUSR1);
	*sum += n;
	return r;
}

/* Makes the compiler realign the frame. */
__attribute__((noinline)) static int aligned(int n, volatile int *sum)
{
	_Alignas(64) volatile char wide[128] = { 1 };
	int r = deep(n, sum);

	return r + wide[n % 128];
}

static int compare_ints(const void *a, const void *b)
{
	static volatile int sum;
	static bool done;

	if (!done) {
		done = true;
		aligned(5, &sum);
	}
	return *(const int *)a - *(const int *)b;
}

/* Through a function of the C library. */
__attribute__((noinline)) static void by_qsort(void)
{
	int numbers[] = { 3, 2, 1 };

	qsort(numbers, 3, sizeof(int), compare_ints);
	CHECK(numbers[0] == 1);
}

/*
 * Compares with glibc's trace, which starts in the handler; ours with the interrupted pc, which
 * it has too. Frames are compared by address: the exact one, then return addresses.
 */
static void compare(struct self *self, enum unwind_method method, bool to_the_end)
{
	struct unwinder *u = new_unwinder(&arch_x86_64, method);
	static uint32_t frames[1024];
	struct unwind_input in = {
		.space = &self->space,
		.perf_regs = taken.regs,
		.perf_mask = arch_x86_64.perf_regs,
		.stack = taken.stack,
		.stack_bytes = taken.stack_bytes,
		.stack_full = taken.stack_bytes == COPY,
	};
	struct unwind_result result;
	uint64_t pc = taken.regs[8];
	int first = 0;
	bool exact = true;

	unwinder_walk(u, &in, frames, &result);
	while (first < taken.num_trace && (uint64_t)taken.trace[first] != pc)
		first++;
	CHECK_MSG(first < taken.num_trace, "%d frames of glibc, none at the sampled pc",
		  taken.num_trace);
	if (to_the_end) {
		CHECK_MSG(result.class == UNWIND_COMPLETE, "method %d: %s", method,
			  unwind_reason_name(result.reason));
		CHECK_MSG(result.num_frames == (size_t)(taken.num_trace - first),
			  "method %d: %zu, not %d", method, result.num_frames,
			  taken.num_trace - first);
	}
	for (size_t i = 0; i < result.num_frames && first + (int)i < taken.num_trace; i++) {
		struct unwind_frame f = unwinder_frame(u, frames[i]);
		uint64_t addr = (uint64_t)taken.trace[first + (int)i];
		const struct mapping *m = addrspace_find(&self->space, addr);
		uint64_t place = m ? addr - m->start + m->pgoff : 0;

		/* The place is the address itself where it was interrupted, else the byte
		 * before. */
		CHECK_MSG(f.where == FRAME_IN_FILE && (f.place == place - 1 || f.place == place),
			  "method %d, frame %zu is %#llx, not %#llx of %s", method, i,
			  (unsigned long long)f.place, (unsigned long long)place,
			  m && m->file ? m->file->path : "?");
		if (exact)
			CHECK(f.place == place);
		exact = false;
	}
	unwinder_free(u);
}

static void find_stack_top(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, "[stack]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			stack_top = end;
	}
	if (f)
		fclose(f);
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	CHECK(sigaction(sig, &sa, NULL) == 0);
}

/* Sampled inside a handler on the alternate stack: the walk tells where it had to stop. */
static void test_altstack(struct self *self)
{
	struct unwinder *u = new_unwinder(&arch_x86_64, UNWIND_CFI);
	stack_t alt = { .ss_size = 64 * 1024 };
	static uint32_t frames[1024];
	struct unwind_result result;
	uintptr_t main_top = stack_top;
	volatile int sum = 0;

	alt.ss_sp =
		mmap(NULL, alt.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(alt.ss_sp != MAP_FAILED && sigaltstack(&alt, NULL) == 0);
	handle(SIGUSR1, on_usr1, SA_ONSTACK);
	taken.nested = true;
	stack_top = (uintptr_t)alt.ss_sp + alt.ss_size;
	deep(3, &sum);
	stack_top = main_top;
	taken.nested = false;
	unwinder_walk(u,
		      &(struct unwind_input){ .space = &self->space,
					      .perf_regs = taken.regs,
					      .perf_mask = arch_x86_64.perf_regs,
					      .stack = taken.stack,
					      .stack_bytes = taken.stack_bytes },
		      frames, &result);
	CHECK_MSG(result.class == UNWIND_BROKEN && result.reason == REASON_ALTSTACK, "%s",
		  unwind_reason_name(result.reason));
	/* The handler, the signal frame and what was interrupted: raise and below it. */
	CHECK(result.num_frames >= 4);
	unwinder_free(u);
	munmap(alt.ss_sp, alt.ss_size);
}

/* A row whose expression never ends (DW_CFA_def_cfa_expression: DW_OP_skip -3). It is not run. */
void endless(void);
__asm__(".text\n.globl endless\n.type endless, @function\nendless:\n.cfi_startproc\n"
	".cfi_escape 0x0f, 3, 0x2f, 0xfd, 0xff\nnop\nnop\nret\n.cfi_endproc\n.size endless, . - endless\n");

/* Neither unwinder follows it for ever. */
static void test_endless(struct self *self, enum unwind_method method)
{
	struct unwinder *u = new_unwinder(&arch_x86_64, method);
	struct unwind_input in = { .space = &self->space,
				   .perf_regs = taken.regs,
				   .perf_mask = arch_x86_64.perf_regs,
				   .stack = taken.stack,
				   .stack_bytes = taken.stack_bytes };
	static uint32_t frames[1024];
	struct unwind_result result;

	taken.regs[8] = (uint64_t)(uintptr_t)endless + 1;
	alarm(60);
	unwinder_walk(u, &in, frames, &result);
	alarm(0);
	CHECK_MSG(result.class == UNWIND_BROKEN && result.num_frames == 1, "method %d: %s, %zu frames", method,
		  unwind_reason_name(result.reason), result.num_frames);
	unwinder_free(u);
}

static void *in_thread(void *arg)
{
	volatile int sum = 0;
	pthread_attr_t attr;
	void *base;
	size_t size;

	CHECK(pthread_getattr_np(pthread_self(), &attr) == 0);
	CHECK(pthread_attr_getstack(&attr, &base, &size) == 0);
	pthread_attr_destroy(&attr);
	stack_top = (uintptr_t)base + size;
	deep(10, &sum);
	return NULL;
}

int main(void)
{
	struct self self;
	volatile int sum = 0;
	pthread_t thread;

	taken.stack = malloc(COPY);
	CHECK(taken.stack != NULL);
	backtrace(taken.trace, 1); /* loads what it needs, before the maps are read */
	find_stack_top();
	CHECK(stack_top != 0);
	handle(SIGUSR1, on_usr1, 0);
	handle(SIGUSR2, on_usr2, 0);
	self_init(&self);

	deep(40, &sum);
	compare(&self, UNWIND_CFI, true);
	compare(&self, UNWIND_LIBUNWIND, true);
	by_qsort();
	compare(&self, UNWIND_CFI, true);
	compare(&self, UNWIND_LIBUNWIND, true);
	/* A handler on the normal stack, sampled by another. */
	taken.nested = true;
	deep(7, &sum);
	taken.nested = false;
	compare(&self, UNWIND_CFI, true);
	compare(&self, UNWIND_LIBUNWIND, true);
	test_endless(&self, UNWIND_CFI);
	test_endless(&self, UNWIND_LIBUNWIND);
	test_altstack(&self);
	handle(SIGUSR1, on_usr1, 0);
	CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	compare(&self, UNWIND_CFI, true);
	self_deinit(&self);
	free(taken.stack);
	return check_done();
}

#else

int main(void)
{
	SKIP("this program knows x86-64 signal contexts only");
}

#endif
