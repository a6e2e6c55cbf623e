#include "app/jit_runtimes.h"

#include "symbols/addrspace.h"
#include "symbols/file.h"

#include <stdbool.h>
#include <string.h>

const struct jit_runtime jit_runtime_other = {
	"other",
	"have it write /tmp/perf-PID.map or a jitdump",
};

const char jit_runtime_dotnet[] = "dotnet";

/*
 * In order of rank: what embeds another comes after it, as Python with a JVM in it does. A name that ends in '*' stands
 * for all that begin so.
 */
static const struct {
	struct jit_runtime runtime;
	const char *files[6]; /* last parts of paths */
} runtimes[] = {
	{ { jit_runtime_dotnet, "`ringfold record` asks its runtime, unless it was started with DOTNET_EnableDiagnostics=0 or "
				"without a /tmp that it can write; there DOTNET_PerfMapEnabled=3 names them" },
	  { "libcoreclr.so", "memfd:doublemapper", "memfd:doublemapper (deleted)", "libclrjit.so" } },
	{ { "java", "run `jcmd PID Compiler.perfmap` (JDK 17 on) while it is recorded, and again near its end, as "
		    "it lists what is compiled by then; for whole stacks start it "
		    "with -XX:+PreserveFramePointer" },
	  { "libjvm.so" } },
	{ { "openj9", "OpenJ9 can name its code by -Xjit:perfTool" }, { "libj9jit*" } },
	{ { "node", "start it with NODE_OPTIONS=--perf-basic-prof; --interpreted-frames-native-stack names "
		    "interpreted functions too" },
	  { "node", "nodejs", "libnode.so*" } },
	{ { "deno", "start it with DENO_V8_FLAGS=--perf-basic-prof" }, { "deno" } },
	{ { "electron", "start it with --js-flags=--perf-basic-prof" }, { "electron", "chrome", "chromium" } },
	{ { "bun", "start it with BUN_JSC_useJITDump=1" }, { "bun" } },
	{ { "wasmtime", "start it with --profile=perfmap" }, { "wasmtime", "libwasmtime.so*" } },
	{ { "php", "set opcache.jit_debug=0x10 in php.ini" }, { "opcache.so" } },
	{ { "julia", "start it with ENABLE_JITPROFILING=1" }, { "libjulia*" } },
	{ { "erlang", "start it with +JPperf true" }, { "beam.smp" } },
	{ { "ruby", "start it with --yjit-perf" }, { "ruby", "libruby*" } },
	{ { "luajit", "LuaJIT writes a map only when it was built with LUAJIT_USE_PERFTOOLS" },
	  { "luajit*", "libluajit*" } },
	{ { "python", "start it with -X perf or PYTHONPERFSUPPORT=1 (CPython 3.12 on)" },
	  { "python", "python2*", "python3*", "libpython*" } },
};

enum { NUM_RUNTIMES = sizeof(runtimes) / sizeof(runtimes[0]) };

static bool is_file(const char *base, const char *pattern)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return !strncmp(base, pattern, len - 1);
	return !strcmp(base, pattern);
}

const struct jit_runtime *jit_runtime_of_path(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	for (size_t i = 0; i < NUM_RUNTIMES; i++) {
		for (size_t f = 0; f < sizeof(runtimes[i].files) / sizeof(char *) && runtimes[i].files[f]; f++) {
			if (is_file(base, runtimes[i].files[f]))
				return &runtimes[i].runtime;
		}
	}
	return NULL;
}

static size_t rank(const struct jit_runtime *runtime)
{
	for (size_t i = 0; i < NUM_RUNTIMES; i++) {
		if (&runtimes[i].runtime == runtime)
			return i;
	}
	return NUM_RUNTIMES;
}

const struct jit_runtime *jit_runtime_better(const struct jit_runtime *a, const struct jit_runtime *b)
{
	if (!a || !b)
		return a ? a : b;
	return rank(a) <= rank(b) ? a : b;
}

const struct jit_runtime *jit_runtime_of_space(const struct addrspace *space)
{
	const struct jit_runtime *ret = NULL;

	mappings_for_each(m, &space->maps) {
		const struct file *file = m->file;

		if (file)
			ret = jit_runtime_better(ret, jit_runtime_of_path(file->path));
	}
	return ret ? ret : &jit_runtime_other;
}
