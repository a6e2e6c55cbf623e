/* Names that would forge a frame, a line or a terminal sequence if they were printed as they are. */
#include "victim.h"

void burn(void);
void rename_loop(void);

KEEP void burn(void)
{
	spin(2000000);
}

KEEP void rename_loop(void)
{
	static const char *const names[] = {
		"x\nfake;y 9", "a;b;c 12", "\033[2Jcleared", "\r\t\b\177", "\xff\xfe\xc3(", "tail 77 ",
		"\xe2\x80\xaeltr",
	};

	for (unsigned int i = 0;; i++) {
		prctl(PR_SET_NAME, names[i % (sizeof(names) / sizeof(names[0]))]);
		burn();
	}
}

int main(int argc, char **argv)
{
	victim_lives(argc > 1 ? argv[1] : NULL);
	rename_loop();
	return 0;
}
