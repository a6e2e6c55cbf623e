/*
 * Runs code of libraries that it is told of: a path a line on stdin, a line on stdout when that was done. Of each library
 * elf_spin runs for 12 ms.
 */
#ifdef LIBRARY

#include <time.h>

__attribute__((noinline)) static unsigned long elf_inner(unsigned long n)
{
	for (volatile int i = 0; i < 20000; i++)
		n = n * 31 + (unsigned long)i;
	return n;
}

__attribute__((noinline)) static unsigned long elf_middle(unsigned long n)
{
	volatile unsigned long room[16] = { n };

	room[n & 15] = elf_inner(n) + 1;
	return room[0] + room[n & 15];
}

unsigned long elf_spin(int ms);
unsigned long elf_spin(int ms)
{
	struct timespec start, now;
	unsigned long n = 0;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	do {
		n += elf_middle(n);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < ms);
	return n;
}

#else

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	char path[4096];

	while (fgets(path, sizeof(path), stdin)) {
		unsigned long (*spin)(int);
		void *library;

		path[strcspn(path, "\n")] = '\0';
		library = dlopen(path, RTLD_NOW);
		spin = library ? (unsigned long (*)(int))dlsym(library, "elf_spin") : NULL;
		if (spin)
			spin(12);
		puts(spin ? "ran" : "refused");
		fflush(stdout);
		if (library)
			dlclose(library);
	}
	return 0;
}

#endif
