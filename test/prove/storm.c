/*
 * fork + exec storm: `storm SECONDS RATE` starts RATE children a minute, each of which execs this program again
 * under one of 16 names (links beside it), spins a moment in a function named after its link and exits.
 * A child's comm and its function tell the same number: a sample in the wrong process shows at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

#define SPIN(n)                                                              \
	__attribute__((noinline)) static void spin_##n(unsigned long rounds) \
	{                                                                    \
		for (unsigned long i = 0; i < rounds; i++)                   \
			sink += i * (n + 3);                                 \
	}
SPIN(0) SPIN(1) SPIN(2) SPIN(3) SPIN(4) SPIN(5) SPIN(6) SPIN(7)
SPIN(8) SPIN(9) SPIN(10) SPIN(11) SPIN(12) SPIN(13) SPIN(14) SPIN(15)

static void (*const spins[16])(unsigned long) = {
	spin_0, spin_1, spin_2, spin_3, spin_4, spin_5, spin_6, spin_7,
	spin_8, spin_9, spin_10, spin_11, spin_12, spin_13, spin_14, spin_15,
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	double start = now(), seconds, rate;
	long done = 0;
	unsigned int number;

	if (sscanf(name, "child%u", &number) == 1) {
		spins[number % 16](1500000);
		return 0;
	}
	if (argc < 3)
		return 2;
	seconds = atof(argv[1]);
	rate = atof(argv[2]) / 60;
	while (now() - start < seconds) {
		char path[4096];

		if ((double)done > (now() - start) * rate) {
			usleep(500);
			continue;
		}
		snprintf(path, sizeof(path), "%.*schild%ld", (int)(name - argv[0]), argv[0], done % 16);
		if (fork() == 0) {
			execl(path, path, (char *)NULL);
			_exit(127);
		}
		done++;
		while (waitpid(-1, NULL, done % 8 ? WNOHANG : 0) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	printf("%ld\n", done);
	return 0;
}
