#include "output/flame_priv.h"

#include "base/hash.h"
#include "output/count_priv.h"
#include "output/stacks.h"

#include <fnmatch.h>
#include <string.h>

/*
 * Files that are a language's runtime and not the program: its interpreter, compiler, collector. Their frames between
 * those of the program say how it runs, not what it does.
 */
static const char *const runtimes[] = {
	"libcoreclr.so*",    "libclr*.so*",     "libSystem.*Native.so*", "libhostfxr.so*",
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

const char *flame_kind_name(enum flame_kind kind)
{
	static const char *const names[] = {
		[FLAME_LABEL] = "process",   [FLAME_NATIVE] = "native",   [FLAME_KERNEL] = "kernel",
		[FLAME_JIT] = "JIT",         [FLAME_INLINED] = "inlined", [FLAME_RUNTIME] = "runtime",
		[FLAME_UNKNOWN] = "unknown", [FLAME_MARK] = "mark",
	};

	return names[kind];
}

/* A part of an HSL colour: `n` is 0 for red, 8 for green, 4 for blue (CSS Color 4, hslToRgb). */
static uint32_t hsl_part(unsigned int n, int hue, double saturation, double lightness)
{
	double k = (double)(n * 30 + (unsigned int)(hue + 360) % 360) / 30;
	double a = saturation * (lightness < 0.5 ? lightness : 1 - lightness);
	double ramp;

	k = k >= 12 ? k - 12 : k;
	ramp = k - 3 < 9 - k ? k - 3 : 9 - k;
	ramp = ramp > 1 ? 1 : ramp < -1 ? -1 : ramp;
	return (uint32_t)(255 * (lightness - a * ramp) + 0.5);
}

uint32_t flame_kind_colour(enum flame_kind kind, unsigned int shade, bool dark)
{
	/* Hue in degrees, saturation in percent: as KIND_HUES in html/colour.js. */
	static const struct {
		int hue, saturation;
	} colours[] = {
		[FLAME_LABEL] = { 218, 16 },  [FLAME_NATIVE] = { 212, 62 },  [FLAME_KERNEL] = { 27, 78 },
		[FLAME_JIT] = { 140, 40 },    [FLAME_INLINED] = { 184, 46 }, [FLAME_RUNTIME] = { 268, 52 },
		[FLAME_UNKNOWN] = { 0, 22 },  [FLAME_MARK] = { 352, 62 },
	};
	bool plain = kind == FLAME_LABEL; /* no code */
	double lightness = (dark ? plain ? 24 : 34 : plain ? 86 : 72) + (double)shade * 2;
	double saturation = colours[kind].saturation * (dark ? 0.78 : plain ? 1 : 1.15);
	int hue = colours[kind].hue + (plain ? 0 : (int)shade * 4 - 6);

	saturation = saturation > 90 ? 0.9 : saturation / 100;
	return hsl_part(0, hue, saturation, lightness / 100) << 16 |
	       hsl_part(8, hue, saturation, lightness / 100) << 8 | hsl_part(4, hue, saturation, lightness / 100);
}

unsigned int flame_shade(const struct tree_frame *frame)
{
	return (unsigned int)(hash_bytes(frame->text, strlen(frame->text)) >> 32) % FLAME_SHADES;
}

uint32_t flame_colour(const struct tree_frame *frame, bool dark)
{
	return flame_kind_colour(flame_kind(frame), flame_shade(frame), dark);
}

void flame_kind_sums(const struct tree *tree, uint64_t sums[FLAME_NUM_KINDS])
{
	memset(sums, 0, sizeof(*sums) * FLAME_NUM_KINDS);
	for (uint32_t i = 1; i <= stacks_num_nodes(tree->stacks); i++) {
		enum flame_kind kind = flame_kind(tree_frame(tree, i));

		sums[kind] = count_add(sums[kind], stacks_node(tree->stacks, i)->self);
	}
}
