/* Programs made by the compiler of this machine, in a directory of their own. */
#pragma once

#include "base/err.h"
#include "symbols/elf_file.h"
#include "test/symbols/names.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The test works in there, so that commands name files plainly. */
__attribute__((unused)) static void toolbox_enter(char *dir)
{
	CHECK(mkdtemp(dir) && chdir(dir) == 0);
}

/* True when the shell command succeeds; what it says is shown only if it fails. */
__attribute__((unused, format(printf, 1, 2))) static bool run(const char *fmt, ...)
{
	char command[2048], quiet[2200];
	va_list args;
	bool ok;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	snprintf(quiet, sizeof(quiet), "(%s) >log 2>&1", command);
	ok = system(quiet) == 0;
	if (!ok) {
		fprintf(stderr, "failed: %s\n", command);
		if (system("cat log >&2"))
			fprintf(stderr, "(and its log is unreadable)\n");
	}
	return ok;
}

__attribute__((unused)) static bool have(const char *tool)
{
	char command[256];

	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", tool);
	return system(command) == 0;
}

__attribute__((unused)) static void toolbox_leave(const char *dir)
{
	CHECK(chdir("/") == 0);
	CHECK(run("rm -rf %s", dir) || true);
}

__attribute__((unused)) static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

__attribute__((unused)) static struct elf_file *open_elf(const char *path)
{
	struct elf_file *f = NULL;
	struct err err = { 0 };
	struct stat st = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 ||
	    elf_file_open_fd(fd, (uint64_t)st.st_size, &f, &err) < 0) {
		fprintf(stderr, "%s: %s %s\n", path, strerror(errno), err.msg);
		exit(1);
	}
	return f;
}

/* What nm says of a symbol; 0 = it has none of that name. */
__attribute__((unused)) static uint64_t nm_vaddr(const char *path, const char *name)
{
	char command[512];
	uint64_t vaddr = 0;
	FILE *pipe;

	snprintf(command, sizeof(command),
		 "nm %s 2>/dev/null | awk '$3 == \"%s\" { print $1; exit }'", path, name);
	pipe = popen(command, "r");
	CHECK(pipe);
	if (pipe && fscanf(pipe, "%" SCNx64, &vaddr) != 1)
		vaddr = 0;
	if (pipe)
		pclose(pipe);
	return vaddr;
}
