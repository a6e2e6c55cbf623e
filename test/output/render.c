/*
 * usage: render FIXTURE FORMAT [COLUMNS] > FILE
 *
 * A fixture (fixture.h) in any format, for tests that look at the file with other programs; with COLUMNS as to a
 * terminal.
 */
#include "output/format.h"
#include "test/output/fixture.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	const struct format *format = argc == 3 || argc == 4 ? format_find(argv[2]) : NULL;
	struct profile_view view = { .columns = argc == 4 ? (unsigned int)atoi(argv[3]) : 0 };
	struct profile *profile;
	size_t len;
	char *text;

	if (!format) {
		fprintf(stderr, "usage: render FIXTURE FORMAT [COLUMNS] > FILE\n");
		return 2;
	}
	profile = fixture_load(argv[1]);
	text = fixture_render(profile, format, &view, &len);
	if (fwrite(text, 1, len, stdout) != len || fflush(stdout))
		return 1;
	free(text);
	profile_free(profile);
	return 0;
}
