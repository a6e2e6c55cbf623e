#include "symbols/mappings.h"

#include "symbols/file.h"

/* Behind the last mapping: run = the number of runs, at = 0. */
struct place {
	size_t run, at;
};

static struct place first_above(const struct mappings *m, uint64_t addr)
{
	size_t low = 0, high = m->runs.len;
	struct place ret;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->runs.data[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	ret.run = low;
	ret.at = 0;
	if (low == m->runs.len)
		return ret;
	high = m->runs.data[ret.run].maps.len - 1;
	for (low = 0; low < high;) {
		size_t mid = low + (high - low) / 2;

		if (m->runs.data[ret.run].maps.data[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	ret.at = low;
	return ret;
}

static struct mapping *map_at(const struct mappings *m, struct place p)
{
	return p.run < m->runs.len ? &m->runs.data[p.run].maps.data[p.at] : NULL;
}

const struct mapping *mappings_next(const struct mappings *m, uint64_t addr)
{
	return map_at(m, first_above(m, addr));
}

static struct mapping *map_before(const struct mappings *m, struct place p)
{
	const struct map_run *run;

	if (p.at)
		return &m->runs.data[p.run].maps.data[p.at - 1];
	if (!p.run)
		return NULL;
	run = &m->runs.data[p.run - 1];
	return &run->maps.data[run->maps.len - 1];
}

const struct mapping *mappings_before(const struct mappings *m, uint64_t addr)
{
	return map_before(m, first_above(m, addr));
}

static void drop(struct files *files, const struct mapping *map)
{
	if (map->file)
		files_unref(files, map->file);
}

/* The part of `map` from `start` on. */
static struct mapping tail_of(const struct mapping *map, uint64_t start)
{
	struct mapping tail = *map;

	tail.pgoff += start - map->start;
	tail.start = start;
	return tail;
}

/* Its last mapping is another one, or ends elsewhere. */
static void run_changed(struct map_run *run)
{
	run->end = run->maps.data[run->maps.len - 1].end;
}

/*
 * A full run becomes two, of which one has room at *p. The last one stays full when it grows at its end, as most
 * processes are told of in the order of their addresses.
 */
static bool divide(struct mappings *m, struct place *p)
{
	const size_t from = p->run + 1 == m->runs.len && p->at == MAX_RUN ? MAX_RUN : MAX_RUN / 2;
	struct map_run upper = { .end = m->runs.data[p->run].end }, *lower;

	if (!vec_reserve(&upper.maps, MAX_RUN) || !vec_insert(&m->runs, p->run + 1, upper)) {
		vec_deinit(&upper.maps);
		return false;
	}
	lower = &m->runs.data[p->run];
	upper.maps.len = MAX_RUN - from;
	memcpy(upper.maps.data, lower->maps.data + from, upper.maps.len * sizeof(upper.maps.data[0]));
	m->runs.data[p->run + 1] = upper;
	lower->maps.len = from;
	run_changed(lower);
	if (p->at >= from)
		*p = (struct place){ p->run + 1, p->at - from };
	return true;
}

/* Before what is at p. */
static bool insert(struct mappings *m, struct place p, struct mapping map)
{
	struct map_run *run;

	if (p.run == m->runs.len && p.run) {
		p.run--;
		p.at = m->runs.data[p.run].maps.len;
	}
	if (p.run == m->runs.len) {
		struct map_run first = { 0 };

		if (!vec_push(&first.maps, map) || !vec_push(&m->runs, first)) {
			vec_deinit(&first.maps);
			return false;
		}
	} else {
		if (m->runs.data[p.run].maps.len == MAX_RUN && !divide(m, &p))
			return false;
		if (!vec_insert(&m->runs.data[p.run].maps, p.at, map))
			return false;
	}
	run = &m->runs.data[p.run];
	run_changed(run);
	m->num++;
	return true;
}

/* `count` of one run, from p on. Returns where those are that came behind them. */
static struct place take_out(struct mappings *m, struct place p, size_t count)
{
	struct map_run *run = &m->runs.data[p.run];

	vec_remove(&run->maps, p.at, count);
	m->num -= count;
	if (!run->maps.len) {
		vec_deinit(&run->maps);
		vec_remove(&m->runs, p.run, 1);
		return p;
	}
	run_changed(run);
	return p.at < run->maps.len ? p : (struct place){ p.run + 1, 0 };
}

/* A hole in the mapping at p, which begins before it and ends behind it. */
static bool pierce(struct mappings *m, struct place p, uint64_t start, uint64_t end)
{
	struct mapping tail = tail_of(map_at(m, p), end);

	if (!insert(m, (struct place){ p.run, p.at + 1 }, tail))
		return false;
	if (tail.file)
		files_ref(tail.file);
	p = first_above(m, start);
	map_at(m, p)->end = start;
	run_changed(&m->runs.data[p.run]);
	return true;
}

bool mappings_cut(struct mappings *m, struct files *files, uint64_t start, uint64_t end)
{
	struct place p = first_above(m, start);
	struct mapping *old = map_at(m, p);

	if (!old || old->start >= end)
		return false;
	if (old->start < start && old->end > end)
		return pierce(m, p, start, end);
	if (old->start < start) {
		old->end = start;
		run_changed(&m->runs.data[p.run]);
		p = first_above(m, start);
	}
	while ((old = map_at(m, p)) && old->end <= end) {
		const struct map_run *run = &m->runs.data[p.run];
		size_t num = 0;

		while (p.at + num < run->maps.len && old[num].end <= end)
			drop(files, &old[num++]);
		p = take_out(m, p, num);
	}
	if (old && old->start < end)
		*old = tail_of(old, end);
	return true;
}

/* JIT code grows in many small steps: neighbours become one. */
static bool joins(const struct mapping *low, const struct mapping *high)
{
	return low && high && !low->file && !high->file && low->end == high->start;
}

/* Told again what is known: mprotect and growing JIT heaps do that a lot. */
static bool is_known(const struct mappings *m, const struct mapping *map)
{
	const struct mapping *old = mappings_next(m, map->start);

	if (!old || old->start > map->start || old->file != map->file)
		return false;
	if (!map->file)
		return old->end >= map->end;
	return old->start == map->start && old->end == map->end && old->pgoff == map->pgoff;
}

/* Puts `map` where nothing lies, before p. */
static bool put(struct mappings *m, struct place p, struct mapping map)
{
	struct mapping *below = map_before(m, p), *above = map_at(m, p);

	if (joins(below, &map)) {
		below->end = joins(&map, above) ? above->end : map.end;
		run_changed(&m->runs.data[p.at ? p.run : p.run - 1]);
		if (joins(&map, above))
			take_out(m, p, 1);
		return true;
	}
	if (joins(&map, above)) {
		above->start = above->pgoff = map.start;
		return true;
	}
	return insert(m, p, map);
}

bool mappings_add(struct mappings *m, struct files *files, struct mapping map)
{
	const struct mapping *above;
	struct place p;
	bool changed;

	if (is_known(m, &map)) {
		drop(files, &map);
		return false;
	}
	changed = mappings_cut(m, files, map.start, map.end);
	p = first_above(m, map.start);
	above = map_at(m, p);
	/* Something still lies there when memory was out. */
	if (m->num >= MAX_MAPS || (above && above->start < map.end) || !put(m, p, map)) {
		drop(files, &map);
		return changed;
	}
	return true;
}

void mappings_copy(struct mappings *to, struct files *files, const struct mappings *from)
{
	if (!from->num || !vec_reserve(&to->runs, from->runs.len))
		return;
	for (size_t i = 0; i < from->runs.len; i++) {
		const struct map_run *run = &from->runs.data[i];
		struct map_run copy = { .end = run->end };

		if (!vec_reserve(&copy.maps, run->maps.len)) {
			mappings_deinit(to, files);
			return;
		}
		copy.maps.len = run->maps.len;
		memcpy(copy.maps.data, run->maps.data, run->maps.len * sizeof(copy.maps.data[0]));
		for (size_t j = 0; j < copy.maps.len; j++) {
			if (copy.maps.data[j].file)
				files_ref(copy.maps.data[j].file);
		}
		to->runs.data[to->runs.len++] = copy;
		to->num += copy.maps.len;
	}
}

void mappings_deinit(struct mappings *m, struct files *files)
{
	for (size_t i = 0; i < m->runs.len; i++) {
		struct map_run *run = &m->runs.data[i];

		for (size_t j = 0; j < run->maps.len; j++)
			drop(files, &run->maps.data[j]);
		vec_deinit(&run->maps);
	}
	vec_deinit(&m->runs);
	m->num = 0;
}
