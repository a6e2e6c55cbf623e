/*
 * Two plugins of different layout, loaded and unloaded in turn, mostly at the same address: who keeps the
 * maps of the first sees the functions of the wrong one.
 *	dlopen_loop SECONDS PLUGIN_A PLUGIN_B
 */
#include "victim.h"

#include <dlfcn.h>

void load_once(const char *library, const char *function);

KEEP void load_once(const char *library, const char *function)
{
	void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	void (*run)(void);

	if (!lib)
		_exit(1);
	run = (void (*)(void))dlsym(lib, function);
	if (!run)
		_exit(1);
	run();
	dlclose(lib);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	victim_lives(argv[1]);
	for (;;) {
		load_once(argv[2], "plugin_a_run");
		load_once(argv[3], "plugin_b_run");
	}
}
