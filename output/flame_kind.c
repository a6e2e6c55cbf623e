#include "output/flame_priv.h"

#include <fnmatch.h>
#include <string.h>

/*
 * Files that are a language's runtime and not the program: its interpreter, compiler, collector. Their frames between
 * those of the program say how it runs, not what it does.
 */
static const char *const runtimes[] = {
	"libcoreclr.so*",    "libclrjit.so*",   "libclrgc*.so*", "libSystem.*Native.so*", "libhostfxr.so*",
	"libhostpolicy.so*", "dotnet",          "libmono*.so*",  "libjvm.so*",            "libjli.so*",
	"java",              "node",            "nodejs",        "libnode.so*",           "libv8*.so*",
	"python[0-9]*",      "libpython*.so*",  "ruby[0-9.]*",   "libruby*.so*",          "php*",
	"libphp*.so*",       "perl",            "libperl.so*",   "lua*",                  "libluajit*.so*",
	"beam*.smp",         "libjulia*.so*",   "libR.so*",      NULL,
};

static bool is_runtime(const char *name, const char *module)
{
	if (!strncmp(name, "runtime.", 8)) /* Go's, which is in the program's own file */
		return true;
	for (size_t i = 0; *module && runtimes[i]; i++) {
		if (!fnmatch(runtimes[i], module, 0))
			return true;
	}
	return false;
}

enum flame_kind flame_kind(const struct tree_frame *frame)
{
	static const enum flame_kind kinds[] = {
		[FRAME_LABEL] = FLAME_LABEL,     [FRAME_NATIVE] = FLAME_NATIVE,   [FRAME_KERNEL] = FLAME_KERNEL,
		[FRAME_JIT] = FLAME_JIT,         [FRAME_INLINED] = FLAME_INLINED, [FRAME_UNKNOWN] = FLAME_UNKNOWN,
		[FRAME_MARK] = FLAME_MARK,
	};

	if (frame->kind == FRAME_NATIVE && is_runtime(frame->text, frame->module))
		return FLAME_RUNTIME;
	if ((size_t)frame->kind >= sizeof(kinds) / sizeof(kinds[0]))
		return FLAME_NATIVE;
	return kinds[frame->kind];
}
