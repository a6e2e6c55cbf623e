#include "output/format.h"

#include <string.h>

#define FORMAT(name) extern const struct format format_##name;
#include "output/formats.inc"
#undef FORMAT

#define FORMAT(name) &format_##name,
static const struct format *const formats[] = {
#include "output/formats.inc"
};
#undef FORMAT

enum { NUM_FORMATS = sizeof(formats) / sizeof(formats[0]) };

const struct format *format_find(const char *name)
{
	for (size_t i = 0; i < NUM_FORMATS; i++) {
		if (!strcmp(formats[i]->name, name))
			return formats[i];
	}
	return NULL;
}

/* The length of the longest extension of `format` that `path` ends in; 0 = none. */
static size_t fitting_extension(const struct format *format, const char *path, size_t len)
{
	size_t best = 0;

	for (const char *const *ext = format->extensions; *ext; ext++) {
		size_t ext_len = strlen(*ext);

		if (ext_len > best && ext_len < len && !strcmp(path + len - ext_len, *ext))
			best = ext_len;
	}
	return best;
}

const struct format *format_for_path(const char *path)
{
	const struct format *ret = NULL;
	size_t len = strlen(path);
	size_t best = 0;

	for (size_t i = 0; i < NUM_FORMATS; i++) {
		size_t ext_len = fitting_extension(formats[i], path, len);

		if (ext_len > best) {
			best = ext_len;
			ret = formats[i];
		}
	}
	return ret;
}

size_t format_list(const struct format *const **ret)
{
	*ret = formats;
	return NUM_FORMATS;
}
