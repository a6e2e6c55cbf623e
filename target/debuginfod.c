#include "target/debuginfod.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The library's interface, <elfutils/debuginfod.h>; its soname has been the same since its first release. */
struct debuginfod_client;
typedef int (*find_fn)(struct debuginfod_client *client, const unsigned char *id, int id_len,
		       char **path);
typedef int (*progress_fn)(struct debuginfod_client *client, long a, long b);

static const char library_name[] = "libdebuginfod.so.1";
static const uint64_t file_ns = UINT64_C(20) * 1000 * 1000 * 1000;
static const uint64_t all_ns = UINT64_C(90) * 1000 * 1000 * 1000;
static const int64_t max_bytes = INT64_C(4) << 30; /* as of other files (door_open.c); what never ends would fill the disk */
enum { MAX_FAILURES = 3 };

struct debuginfod {
	void *library;
	struct debuginfod_client *client;
	void (*end)(struct debuginfod_client *client);
	find_fn find[2]; /* by kind */
	uint64_t deadline_ns; /* of the file being asked for */
	uint64_t used_ns;
	unsigned int failures; /* in a row */
};

/*
 * Called now and then while something is fetched; anything but 0 gives up. It is given the client alone, how many bytes
 * are there, and how many there will be, if that is known.
 */
static int progress(struct debuginfod_client *client, long here, long all);

static void *symbol(struct debuginfod *d, const char *name)
{
	return dlsym(d->library, name);
}

static struct debuginfod *load(void)
{
	struct debuginfod *d = calloc(1, sizeof(*d));
	struct debuginfod_client *(*begin)(void);
	void (*set_progress)(struct debuginfod_client *client, progress_fn fn);
	void (*set_data)(struct debuginfod_client *client, void *data);

	if (!d)
		return NULL;
	d->library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
	if (!d->library)
		goto fail;
	*(void **)&begin = symbol(d, "debuginfod_begin");
	*(void **)&d->end = symbol(d, "debuginfod_end");
	*(void **)&d->find[DEBUGINFOD_EXECUTABLE] = symbol(d, "debuginfod_find_executable");
	*(void **)&d->find[DEBUGINFOD_DEBUGINFO] = symbol(d, "debuginfod_find_debuginfo");
	*(void **)&set_progress = symbol(d, "debuginfod_set_progressfn");
	*(void **)&set_data = symbol(d, "debuginfod_set_user_data");
	if (!begin || !d->end || !d->find[0] || !d->find[1] || !set_progress || !set_data)
		goto fail;
	d->client = begin();
	if (!d->client)
		goto fail;
	set_data(d->client, d);
	set_progress(d->client, progress);
	return d;
fail:
	debuginfod_free(d);
	return NULL;
}

struct debuginfod *debuginfod_new(const char **why)
{
	const char *urls = getenv("DEBUGINFOD_URLS");
	struct debuginfod *d;

	*why = NULL;
	if (!urls || !urls[strspn(urls, " \t\n")])
		return NULL;
	d = load();
	if (!d)
		*why = "DEBUGINFOD_URLS is set, but libdebuginfod.so.1 could not be loaded: install "
		       "libdebuginfod1 to have missing files fetched";
	return d;
}

void debuginfod_free(struct debuginfod *d)
{
	if (!d)
		return;
	if (d->client)
		d->end(d->client);
	/* The library stays: curl and what it loads do not come apart cleanly. */
	free(d);
}

static int progress(struct debuginfod_client *client, long here, long all)
{
	void *library = dlopen(library_name, RTLD_LAZY | RTLD_NOLOAD);
	void *(*get_data)(struct debuginfod_client *client) = NULL;
	const struct debuginfod *d = NULL;

	if (library)
		*(void **)&get_data = dlsym(library, "debuginfod_get_user_data");
	if (get_data)
		d = get_data(client);
	if (library)
		dlclose(library);
	return here > max_bytes || all > max_bytes || (d && clock_monotonic_ns() > d->deadline_ns);
}

int debuginfod_find(struct debuginfod *d, enum debuginfod_kind kind, const uint8_t *id,
		    size_t id_len)
{
	uint64_t start = clock_monotonic_ns();
	int r;

	if (!id_len || id_len > 64 || d->used_ns >= all_ns || d->failures >= MAX_FAILURES)
		return -ENOENT;
	d->deadline_ns = start + file_ns;
	r = d->find[kind](d->client, id, (int)id_len, NULL);
	d->used_ns += clock_monotonic_ns() - start;
	/* A server that says no has answered. */
	if (r >= 0 || r == -ENOENT)
		d->failures = 0;
	else
		d->failures++;
	return r;
}
