/*
 * Lazy binding without end: a library whose 512 functions are bound at their first call, loaded, called and
 * unloaded again. The samples lie in the PLT and in ld.so's resolver, whose rows take the CFA from rbx.
 *	plt_storm SECONDS LIBRARY
 */
#include "victim.h"

#include <dlfcn.h>

void storm(const char *library);

KEEP void storm(const char *library)
{
	void *lib = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
	void (*bind_all)(void);

	if (!lib)
		_exit(1);
	bind_all = (void (*)(void))dlsym(lib, "bind_all");
	if (!bind_all)
		_exit(1);
	bind_all();
	dlclose(lib);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	victim_lives(argv[1]);
	for (;;)
		storm(argv[2]);
}
