/* One object per file, whatever becomes of its name: real files, mapped into this very process. */
#include "symbols/file.h"

#include "base/intern.h"
#include "symbols/elf_file.h"
#include "target/door.h"
#include "test/check.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct world {
	struct intern *strings;
	struct door *door;
	struct files *files;
	char dir[64];
	char path[128];
	uint32_t evicted[64];
	size_t num_evicted;
};

static void evicted(void *data, struct file *file)
{
	struct world *w = data;

	CHECK(file->refs == 0);
	if (w->num_evicted < 64)
		w->evicted[w->num_evicted++] = file->id;
}

static struct world *world_new(size_t max_idle)
{
	struct world *w = calloc(1, sizeof(*w));
	struct files_opts opts = { .max_idle = max_idle, .evict = evicted, .data = w };

	if (!w)
		abort();
	w->strings = opts.strings = intern_new();
	if (door_new(&w->door, NULL) < 0)
		abort();
	opts.door = w->door;
	if (files_new(&opts, &w->files, NULL) < 0)
		abort();
	snprintf(w->dir, sizeof(w->dir), "/var/tmp/ringfold-test-XXXXXX");
	if (!mkdtemp(w->dir))
		abort();
	return w;
}

static void world_free(struct world *w)
{
	files_free(w->files);
	door_free(w->door);
	intern_free(w->strings);
	rmdir(w->dir);
	free(w);
}

static const char *path_of(struct world *w, const char *name)
{
	snprintf(w->path, sizeof(w->path), "%s/%s", w->dir, name);
	return w->path;
}

/* A copy of this program, or of `text`. */
static void write_file(const char *path, const char *text)
{
	static char buf[1 << 16];
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ssize_t n;

	CHECK(in >= 0 && out >= 0);
	if (text)
		CHECK(write(out, text, strlen(text)) == (ssize_t)strlen(text));
	while (!text && (n = read(in, buf, sizeof(buf))) > 0)
		CHECK(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

/* Maps the file's first page executable, as a process would; `told` is the path of the record. */
static struct door_mapping map_file(const char *path, const char *told)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct door_mapping mapping = { .pid = getpid(), .path = told };
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		abort();
	close(fd);
	mapping.start = (uintptr_t)p;
	mapping.end = mapping.start + 4096;
	mapping.maj = major(st.st_dev);
	mapping.min = minor(st.st_dev);
	mapping.ino = st.st_ino;
	return mapping;
}

static void unmap(const struct door_mapping *mapping)
{
	munmap((void *)(uintptr_t)mapping->start, mapping->end - mapping->start);
}

static void test_same_file(void)
{
	struct world *w = world_new(0);
	const char *path = path_of(w, "prog");
	struct door_mapping m;
	struct file *file;
	char other[160];

	write_file(path, NULL);
	m = map_file(path, path);
	file = files_get(w->files, &m, 0, NULL, 0);
	CHECK(file->kind == FILE_ELF && file->elf && file->id == 1 && file->refs == 0);
	CHECK(file->seen_pid == getpid() && !file->deleted);
	CHECK_STR(file->path, path);
	CHECK_STR(file->base, "prog");
	CHECK(files_by_id(w->files, 1) == file && !files_by_id(w->files, 2));

	/* With a generation and without: the descriptor holds the inode. */
	CHECK(files_get(w->files, &m, 77, NULL, 0) == file);
	CHECK(files_get(w->files, &m, 0, NULL, 0) == file);
	CHECK(files_count(w->files) == 1);
	/* By another name, and by no numbers at all (build-id records): fstat tells. */
	snprintf(other, sizeof(other), "%s/link", w->dir);
	CHECK(link(path, other) == 0);
	m.path = other;
	CHECK(files_get(w->files, &m, 0, NULL, 0) == file);
	m.path = path;
	m.maj = m.min = 0;
	m.ino = 0;
	CHECK(files_get(w->files, &m, 0, NULL, 0) == file);
	CHECK(files_count(w->files) == 1);
	unmap(&m);
	unlink(other);
	unlink(path);
	world_free(w);
}

static void test_deleted(void)
{
	struct world *w = world_new(0);
	const char *path = path_of(w, "prog");
	char told[160];
	struct door_mapping m, m2;
	struct file *file, *file2;

	write_file(path, NULL);
	snprintf(told, sizeof(told), "%s (deleted)", path);
	m = map_file(path, told);
	unlink(path);
	file = files_get(w->files, &m, 0, NULL, 0);
	CHECK_MSG(file->kind == FILE_ELF, "%s", door_refusal_name(file->refusal));
	CHECK(file->deleted);
	CHECK_STR(file->path, path);
	/* Another file under the old name is another file. */
	write_file(path, "no ELF");
	m2 = map_file(path, path);
	file2 = files_get(w->files, &m2, 0, NULL, 0);
	CHECK(file2 != file && file2->kind == FILE_OTHER && !file2->elf && !file2->deleted);
	CHECK(files_get(w->files, &m2, 5, NULL, 0) == file2);
	CHECK(files_get(w->files, &m, 0, NULL, 0) == file);
	unmap(&m);
	unmap(&m2);
	unlink(path);
	world_free(w);
}

static void test_changed(void)
{
	struct world *w = world_new(0);
	const char *path = path_of(w, "prog");
	struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	struct door_mapping m;
	struct file *file, *newer;
	uint32_t id;

	write_file(path, NULL);
	m = map_file(path, path);
	file = files_get(w->files, &m, 0, NULL, 0);
	files_ref(file);
	id = file->id;
	CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
	newer = files_get(w->files, &m, 0, NULL, 0);
	CHECK(newer != file && newer->id != id && newer->kind == FILE_ELF);
	CHECK(files_by_id(w->files, id) == file); /* a mapping still uses it */
	files_unref(w->files, file);
	CHECK(!files_by_id(w->files, id));
	CHECK(w->num_evicted == 1 && w->evicted[0] == id);
	CHECK(files_get(w->files, &m, 0, NULL, 0) == newer);
	unmap(&m);
	unlink(path);
	world_free(w);
}

/* Refusals are shared by path, never by inode, and tried again. */
static void test_missing(void)
{
	struct world *w = world_new(0);
	const char *path = path_of(w, "prog");
	struct door_mapping m = { .pid = 4500000, .start = 0x1000, .end = 0x2000, .path = path },
			    real;
	struct file *file, *found;

	write_file(path, NULL);
	real = map_file(path, path);
	m.maj = real.maj;
	m.min = real.min;
	m.ino = real.ino;
	file = files_get(w->files, &m, 0, NULL, 0); /* a process that is gone */
	CHECK(file->kind == FILE_MISSING && file->refusal == DOOR_GONE && !file->elf);
	CHECK(files_refused(w->files)[DOOR_GONE] == 1);
	CHECK(files_get(w->files, &m, 0, NULL, 0) == file);
	CHECK(files_refused(w->files)[DOOR_GONE] == 2);
	CHECK(files_count(w->files) == 1);
	found = files_get(w->files, &real, 0, NULL, 0);
	CHECK(found != file && found->kind == FILE_ELF);
	CHECK(files_get(w->files, &m, 0, NULL, 0) == found); /* now everybody profits */
	CHECK(files_special(w->files, "[uprobes]")->kind == FILE_MISSING);
	CHECK_STR(files_special(w->files, "[uprobes]")->base, "[uprobes]");
	unmap(&real);
	unlink(path);
	world_free(w);
}

static void test_idle(void)
{
	struct world *w = world_new(2);
	struct door_mapping m[4];
	struct file *files[4];
	char path[4][160];

	for (int i = 0; i < 4; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/f%d", w->dir, i);
		write_file(path[i], NULL);
		m[i] = map_file(path[i], path[i]);
		files[i] = files_get(w->files, &m[i], 0, NULL, 0);
		CHECK(files[i]->id == (uint32_t)i + 1);
		files_ref(files[i]);
	}
	CHECK(files_count(w->files) == 4 && w->num_evicted == 0);
	files_unref(w->files, files[1]);
	files_unref(w->files, files[0]);
	CHECK(w->num_evicted == 0);
	files_ref(files_get(w->files, &m[1], 0, NULL, 0)); /* in use again */
	files_unref(w->files, files[1]);                   /* and now the youngest of the idle */
	files_unref(w->files, files[2]);
	CHECK(w->num_evicted == 1 && w->evicted[0] == 1);
	CHECK(!files_by_id(w->files, 1) && files_by_id(w->files, 2) && files_by_id(w->files, 4));
	CHECK(files_get(w->files, &m[0], 0, NULL, 0)->id == 5); /* ids never come back */
	for (int i = 0; i < 4; i++) {
		unmap(&m[i]);
		unlink(path[i]);
	}
	world_free(w);
}

static size_t open_descriptors(void)
{
	size_t num = 0;

	for (int fd = 0; fd < 1024; fd++)
		num += fcntl(fd, F_GETFD) >= 0;
	return num;
}

/* Idle files make room; nothing is leaked. */
static void test_descriptors(void)
{
	size_t before = open_descriptors();
	struct world *w = world_new(1000);
	char path[160];

	for (int i = 0; i < 100; i++) {
		struct door_mapping m;

		snprintf(path, sizeof(path), "%s/f", w->dir);
		write_file(path, i % 2 ? "text" : NULL);
		m = map_file(path, path);
		CHECK(files_get(w->files, &m, 0, NULL, 0)->kind == (i % 2 ? FILE_OTHER : FILE_ELF));
		unmap(&m);
		unlink(path);
	}
	CHECK(files_count(w->files) == 100);
	CHECK(open_descriptors() <= before + 110);
	world_free(w);
	CHECK(open_descriptors() == before);
}

static void test_vdso(void)
{
	struct world *w = world_new(0);
	struct file *file = files_vdso(w->files, &(struct door_mapping){ .path = "[vdso]" });

	CHECK(file && file == files_vdso(w->files, &(struct door_mapping){ .path = "[vdso]" }));
	CHECK_STR(file->base, "[vdso]");
	CHECK(file->kind == FILE_ELF && elf_file_is_64(file->elf) == (sizeof(void *) == 8));
	files_ref(file);
	files_unref(w->files, file);
	CHECK(files_by_id(w->files, file->id) == file);
	world_free(w);
}

int main(void)
{
	test_same_file();
	test_deleted();
	test_changed();
	test_missing();
	test_idle();
	test_descriptors();
	test_vdso();
	return check_done();
}
