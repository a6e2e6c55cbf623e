/* Mappings in any order: held against a model that keeps one owner per page; and how many are moved for one, by their runs. */
#include "symbols/mappings.h"

#include "base/intern.h"
#include "symbols/file.h"
#include "test/check.h"

enum { PAGE = 4096, PAGES = 6000, FILES = 3, MANY = 100000 };

struct page {
	const struct file *file;
	uint64_t offset; /* in the file; of code without one its address */
	bool mapped;
};

struct world {
	struct intern *strings;
	struct files *files;
	struct file *file[FILES];
	struct page pages[PAGES];
	uint64_t random;
};

static void world_init(struct world *w)
{
	struct files_opts opts = { 0 };

	memset(w, 0, sizeof(*w));
	w->random = 1;
	w->strings = opts.strings = intern_new();
	if (!w->strings || files_new(&opts, &w->files, NULL) < 0)
		abort();
	for (size_t i = 0; i < FILES; i++) {
		char name[8];

		snprintf(name, sizeof(name), "[%zu]", i);
		w->file[i] = files_special(w->files, name);
		if (!w->file[i])
			abort();
		files_ref(w->file[i]); /* the test's own */
	}
}

/* Of the mappings no reference is left. */
static void world_deinit(struct world *w)
{
	for (size_t i = 0; i < FILES; i++) {
		CHECK(w->file[i]->refs == 1);
		files_unref(w->files, w->file[i]);
	}
	files_free(w->files);
	intern_free(w->strings);
}

/* Marsaglia's xorshift64. */
static uint64_t below(struct world *w, uint64_t num)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % num;
}

static uint64_t addr_of(size_t page)
{
	return (uint64_t)(page + 16) * PAGE;
}

static struct mapping make(size_t first, size_t num, struct file *file, uint64_t pgoff)
{
	struct mapping map = { .start = addr_of(first), .end = addr_of(first + num), .pgoff = pgoff, .file = file };

	if (file)
		files_ref(file);
	else
		map.pgoff = map.start;
	return map;
}

static void check_runs(const struct mappings *m)
{
	uint64_t end = 0;
	size_t num = 0;

	for (size_t i = 0; i < m->runs.len; i++) {
		const struct map_run *run = &m->runs.data[i];

		CHECK(run->maps.len > 0 && run->maps.len <= MAX_RUN);
		num += run->maps.len;
		for (size_t j = 0; j < run->maps.len; j++) {
			CHECK(run->maps.data[j].start >= end && run->maps.data[j].end > run->maps.data[j].start);
			end = run->maps.data[j].end;
		}
		CHECK(run->end == end);
	}
	CHECK(num == m->num);
}

static void check_pages(const struct world *w, const struct mappings *m)
{
	const struct mapping *before = NULL;
	size_t met = 0;

	check_runs(m);
	for (size_t i = 0; i < PAGES; i++) {
		const struct mapping *map = mappings_next(m, addr_of(i) + 9);
		bool holds = map && map->start <= addr_of(i);

		CHECK(holds == w->pages[i].mapped);
		if (!holds) {
			CHECK(mappings_before(m, addr_of(i)) == before);
			continue;
		}
		met += before != map;
		before = map;
		CHECK(map->file == w->pages[i].file && addr_of(i) - map->start + map->pgoff == w->pages[i].offset);
	}
	CHECK(met == m->num && mappings_next(m, addr_of(PAGES)) == NULL);
}

static void step(struct world *w, struct mappings *m)
{
	size_t first = below(w, PAGES), num = below(w, 16) ? 1 + below(w, 4) : 1 + below(w, 700), kind = below(w, FILES + 2);
	struct file *file = kind < FILES ? w->file[kind] : NULL;
	uint64_t pgoff = below(w, 9) * PAGE;

	if (first + num > PAGES)
		num = PAGES - first;
	if (kind == FILES + 1)
		mappings_cut(m, w->files, addr_of(first), addr_of(first + num));
	else
		mappings_add(m, w->files, make(first, num, file, pgoff));
	for (size_t i = 0; i < num; i++)
		w->pages[first + i] = (struct page){ file, file ? pgoff + i * PAGE : addr_of(first + i), kind <= FILES };
}

static void test_random(void)
{
	struct mappings m = { 0 }, copy = { 0 };
	static struct world w;
	uint64_t refs = 0;

	world_init(&w);
	for (size_t i = 0; i < 20000; i++) {
		step(&w, &m);
		if (i % 500 == 0)
			check_pages(&w, &m);
	}
	CHECK(m.runs.len > 4); /* it was about more than one run */
	mappings_copy(&copy, w.files, &m);
	check_pages(&w, &copy);
	mappings_for_each(map, &m)
		refs += map->file == w.file[0];
	CHECK(refs > 0 && w.file[0]->refs == 1 + 2 * refs);
	mappings_deinit(&m, w.files);
	CHECK(m.num == 0 && mappings_next(&m, 0) == NULL && mappings_before(&m, UINT64_MAX) == NULL);
	CHECK(mappings_cut(&copy, w.files, 0, UINT64_MAX) && copy.num == 0 && copy.runs.len == 0);
	mappings_deinit(&copy, w.files);
	world_deinit(&w);
}

/*
 * What one more costs is what of its run lies behind it, and the list of runs once per half a run: so nothing is moved
 * more than MAX_RUN + 2 * MANY / MAX_RUN / (MAX_RUN / 2) times on average, in whatever order they come.
 */
static void test_order(size_t factor)
{
	struct mappings m = { 0 };
	static struct world w;
	size_t n = 0;

	world_init(&w);
	for (size_t i = 0; i < MANY; i++)
		CHECK(mappings_add(&m, w.files, make(i * factor % MANY * 2, 1, w.file[0], 0)));
	CHECK(m.num == MANY);
	check_runs(&m);
	CHECK(m.runs.len <= 2 * MANY / MAX_RUN + 1);
	if (factor == 1)
		CHECK(m.runs.len == (MANY + MAX_RUN - 1) / MAX_RUN); /* as most programs are told of: nothing is wasted */
	mappings_for_each(map, &m)
		CHECK(map->start == addr_of(2 * n++));
	CHECK(n == MANY);
	mappings_deinit(&m, w.files);
	world_deinit(&w);
}

static void test_limit(void)
{
	struct mappings m = { 0 };
	static struct world w;

	world_init(&w);
	for (size_t i = 0; i < MAX_MAPS + 10; i++)
		CHECK(mappings_add(&m, w.files, make(i * 2, 1, w.file[0], 0)) == (i < MAX_MAPS));
	CHECK(m.num == MAX_MAPS && w.file[0]->refs == MAX_MAPS + 1);
	mappings_deinit(&m, w.files);
	world_deinit(&w);
}

int main(void)
{
	test_random();
	test_order(1);
	test_order(MANY - 1); /* falling */
	test_order(61803);    /* all over the place: it has no factor in common with MANY */
	test_limit();
	return check_done();
}
