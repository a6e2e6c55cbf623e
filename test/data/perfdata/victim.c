/*
 * What the recordings beside this file show: a program without libraries, so that it is small enough to be kept, whose
 * child runs under another name without an exec. See README for how it was built and recorded.
 */
static volatile unsigned long sink;

static long syscall3(long number, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

__attribute__((noinline)) static void leaf(unsigned long rounds)
{
	for (unsigned long i = 0; i < rounds; i++)
		sink += i;
}

__attribute__((noinline)) static void middle(unsigned long rounds)
{
	leaf(rounds);
	sink++;
}

__attribute__((noinline)) static void outer(unsigned long rounds)
{
	middle(rounds);
	sink++;
}

__attribute__((noinline)) static void child(void)
{
	static const char name[] = "kid";

	syscall3(157, 15, (long)name, 0); /* prctl(PR_SET_NAME) */
	outer(80000000);
	sink++;
}

__attribute__((noinline, used)) static void run(void)
{
	long pid = syscall3(57, 0, 0, 0); /* fork */

	if (pid == 0) {
		child();
	} else {
		outer(80000000);
		syscall3(61, pid, 0, 0); /* wait4 */
	}
	syscall3(231, 0, 0, 0); /* exit_group */
}

__asm__(".globl _start\n.type _start, @function\n_start:\n.cfi_startproc\n.cfi_undefined rip\n"
	"call run\nhlt\n.cfi_endproc\n.size _start, . - _start\n");
