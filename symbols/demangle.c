#include "symbols/symbols.h"

#include "base/intern.h"

#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEMANGLE_MAX_IN = 4096,
	DEMANGLE_MAX_OUT = 16 << 10,
	/* Each pair of back references can double what a D name expands to. */
	DEMANGLE_MAX_D_REFS = 24,
};

/* Text as it is printed piece by piece. */
struct output {
	char text[DEMANGLE_MAX_OUT];
	size_t len;
	jmp_buf too_long;
};

/*
 * A mangled name of a few dozen bytes can expand to gigabytes, and libiberty offers no way to stop
 * but to leave. Both callback variants keep their state on the stack, so that jumping out loses
 * nothing (a Rust identifier in punycode may leave its few bytes behind).
 */
static void output_add(const char *text, size_t len, void *data)
{
	struct output *out = data;

	if (len >= sizeof(out->text) - out->len)
		longjmp(out->too_long, 1);
	if (len) /* text may be NULL then */
		memcpy(out->text + out->len, text, len);
	out->len += len;
}

static bool output_suffix(struct output *out, const char *suffix)
{
	size_t len = strlen(suffix);

	if (len >= sizeof(out->text) - out->len)
		return false;
	memcpy(out->text + out->len, suffix, len);
	out->len += len;
	return true;
}

static bool demangle_d(struct output *out, const char *stem)
{
	size_t refs = 0;
	char *text;
	bool ok;

	for (const char *c = stem; *c; c++)
		refs += *c == 'Q';
	if (refs > DEMANGLE_MAX_D_REFS)
		return false;
	text = dlang_demangle(stem, DMGL_PARAMS | DMGL_ANSI);
	if (!text)
		return false;
	ok = output_suffix(out, text);
	free(text);
	return ok;
}

static bool demangle_stem(struct output *out, const char *stem)
{
	const int options = DMGL_PARAMS | DMGL_ANSI;

	if (stem[0] == '_' && stem[1] == 'D')
		return demangle_d(out, stem);
	if (setjmp(out->too_long))
		return false;
	/* Legacy Rust looks like C++ with a hash at its end. */
	if (rust_demangle_callback(stem, options, output_add, out))
		return true;
	out->len = 0;
	/*
	 * DMGL_NO_RECURSE_LIMIT stays off: libiberty then refuses names of more than 1,024 bytes,
	 * as perf and c++filt do, which bounds the stack it takes (templates x references x 16
	 * bytes for the printer, d_print_init in libiberty/cp-demangle.c).
	 */
	return stem[1] == 'Z' && cplus_demangle_v3_callback(stem, options, output_add, out);
}

/*
 * Of the name itself, without a version or @plt behind it: SIZE_MAX when it cannot be a mangled
 * one.
 */
static size_t stem_length(const char *name)
{
	size_t len;

	if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R' && name[1] != 'D'))
		return SIZE_MAX;
	len = strcspn(name, "@");
	return len <= DEMANGLE_MAX_IN ? len : SIZE_MAX;
}

const char *symbols_demangle(struct intern *strings, const char *name)
{
	size_t len = stem_length(name);
	char stem[DEMANGLE_MAX_IN + 1];
	struct output out;

	if (len == SIZE_MAX)
		return intern_str(strings, name);
	memcpy(stem, name, len);
	stem[len] = 0;
	out.len = 0;
	if (!demangle_stem(&out, stem) || !out.len || !output_suffix(&out, name + len))
		return intern_str(strings, name);
	return intern_mem(strings, out.text, out.len);
}
