/* Collapsed stacks of others, and the comparison of what they hold. The first byte says where the two are parted. */
#include "output/diff.h"

#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	size_t first = size ? size * data[0] / 255 : 0;
	struct diff *diff;

	if (diff_new(&diff, NULL) < 0)
		return 0;
	if (diff_add(diff, DIFF_BEFORE, "before", text, first, NULL) == 0 &&
	    diff_add(diff, DIFF_AFTER, "after", text + first, size - first, NULL) == 0 && diff_count(diff, NULL) == 0) {
		static const char *const formats[] = { "text", "collapsed", "html" };
		FILE *out = fopen("/dev/null", "w");

		for (int i = 0; out && i < 3; i++)
			diff_format_find(formats[i])->write(diff, 0, out, NULL);
		if (out)
			fclose(out);
	}
	diff_free(diff);
	return 0;
}
