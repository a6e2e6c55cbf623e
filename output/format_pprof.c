/*
 * pprof's format (pprof.proto), gzipped: for `go tool pprof`, Parca, Pyroscope and Grafana.
 *
 * Those differ in what they demand, so we do what the strictest do: ids are 1, 2, 3 in order, each sample has as many
 * values as there are types, each label a key. Addresses are places in files (kernel and JIT code: addresses), and each
 * mapping says so: it begins in memory where it begins in its file. The same function then is the same in
 * every process, and what has no name can still be looked up by build-id.
 */
#include "output/format.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/escape.h"
#include "base/hash.h"
#include "base/htab.h"
#include "base/intern.h"
#include "base/strbuf.h"
#include "output/count_priv.h"
#include "output/pprof.pb-c.h"
#include "output/profile.h"
#include "output/quality.h"
#include "output/stacks.h"
#include "output/write_priv.h"

#include <string.h>
#include <zlib.h>

enum { MAX_NAME = 65536, MAX_LABEL = 1024, PAGE = 4096, NUM_VALUES = 2 };

/* A location: a frame, and what is inlined into it. Each lies in `outer`, which is the location without it. */
struct link {
	uint32_t outer; /* index in links; 0 = nothing */
	uint32_t frame; /* of the profile */
};
struct link_slot {
	struct link link;
	uint32_t index;
};
HTAB(link_tab, struct link_slot, const struct link *, hash_two(key->outer, key->frame),
     slot->link.outer == key->outer && slot->link.frame == key->frame,
     hash_two(slot->link.outer, slot->link.frame));

struct mapping {
	int64_t name, build_id; /* strings */
	uint64_t low, high;     /* places of its frames */
	bool named, inlined, is_main;
};

/* One sample of the output: where its locations and labels begin, and what it counts. */
struct entry {
	size_t locations, num_locations;
	size_t labels, num_labels;
	int64_t values[NUM_VALUES];
};

struct pprof {
	const struct profile *profile;
	const struct profile_view *view;
	struct intern *strings;       /* numbers are those of string_table */
	struct strbuf text;
	struct link_tab link_tab;
	VEC(struct link) links;       /* [0] is unused */
	VEC(uint64_t) location_of;    /* by link: its id; 0 = it is only a part of others */
	VEC(uint32_t) locations;      /* their links, by id - 1 */
	VEC(uint64_t) function_of;    /* by string: its id, or 0 */
	VEC(int64_t) functions;       /* their names, by id - 1 */
	VEC(struct mapping) mappings; /* by id - 1 */
	VEC(uint64_t) mapping_of;      /* by string, of its build-id or name: its id, or 0 */
	uint32_t *order;              /* indices of samples: those that are one entry stand together */
	VEC(struct entry) entries;
	VEC(uint64_t) location_ids;
	VEC(Pprof__Label) labels;
	VEC(uint32_t) run;            /* frames of one location, the leaf first */
	bool timed;                   /* the second value is CPU time */
};

static void pprof_deinit(struct pprof *p)
{
	intern_free(p->strings);
	strbuf_deinit(&p->text);
	link_tab_deinit(&p->link_tab);
	vec_deinit(&p->links);
	vec_deinit(&p->location_of);
	vec_deinit(&p->locations);
	vec_deinit(&p->function_of);
	vec_deinit(&p->functions);
	vec_deinit(&p->mappings);
	vec_deinit(&p->mapping_of);
	free(p->order);
	vec_deinit(&p->entries);
	vec_deinit(&p->location_ids);
	vec_deinit(&p->labels);
	vec_deinit(&p->run);
}

/* The number of what was put into p->text; -1 when out of memory. */
static int64_t string_of_text(struct pprof *p)
{
	uint32_t id = p->text.failed ? UINT32_MAX : intern_id(p->strings, p->text.len ? p->text.data : "", p->text.len);

	return id == UINT32_MAX ? -1 : (int64_t)id;
}

/* The same of any text, made safe. */
static int64_t string(struct pprof *p, const char *text, size_t max)
{
	strbuf_clear(&p->text);
	escape_line(&p->text, text, strlen(text), max);
	return string_of_text(p);
}

/* *of[string] for a table that grows with the strings. */
static uint64_t *slot_of(struct pprof *p, int64_t id, uint64_t **data, size_t *len, size_t *cap)
{
	size_t num = intern_count(p->strings);

	if (id < 0 || !vec_reserve_((void **)data, cap, num, sizeof(**data)))
		return NULL;
	while (*len < num)
		(*data)[(*len)++] = 0;
	return &(*data)[id];
}
#define SLOT_OF(p, id, table) slot_of(p, id, &(p)->table.data, &(p)->table.len, &(p)->table.cap)

/* Functions. 0 = out of memory. */
static uint64_t function_id(struct pprof *p, const struct profile_frame *frame)
{
	uint64_t *slot;
	int64_t name;

	strbuf_clear(&p->text);
	profile_frame_plain(frame, &p->text);
	name = string_of_text(p);
	slot = SLOT_OF(p, name, function_of);
	if (!slot)
		return 0;
	if (!*slot) {
		if (!vec_push(&p->functions, name))
			return 0;
		*slot = p->functions.len;
	}
	return *slot;
}

/* Mappings */

/* What pprof and Parca know the kernel, its modules and JIT code by; NULL = it lies in no mapping. */
static const char *mapping_name(struct pprof *p, const struct profile_frame *frame)
{
	switch (frame->kind) {
	case FRAME_KERNEL:
		if (!frame->module || !strcmp(frame->module, "[kernel]"))
			return "[kernel.kallsyms]";
		return frame->module;
	case FRAME_JIT:
		return "[jit]";
	case FRAME_NATIVE:
	case FRAME_INLINED:
		return frame->path ? frame->path : frame->module;
	case FRAME_UNKNOWN:
	case FRAME_LABEL:
	case FRAME_MARK:
		return NULL;
	}
	return NULL;
}

static struct mapping *new_mapping(struct pprof *p, int64_t name, int64_t build_id)
{
	struct mapping mapping = { .name = name, .build_id = build_id, .low = UINT64_MAX };

	return vec_push(&p->mappings, mapping) ? &p->mappings.data[p->mappings.len - 1] : NULL;
}

/* *ret is the frame's mapping, 0 = none. False: out of memory. */
static bool mapping_id(struct pprof *p, const struct profile_frame *frame, uint64_t *ret)
{
	const char *text = mapping_name(p, frame);
	int64_t build_id = 0, name;
	uint64_t *slot;

	*ret = 0;
	if (!text)
		return true;
	if (frame->build_id && frame->kind != FRAME_KERNEL && frame->kind != FRAME_JIT)
		build_id = string(p, frame->build_id, MAX_NAME);
	name = string(p, text, MAX_NAME);
	if (name < 0 || build_id < 0)
		return false;
	/* A file is known by its build-id, whatever it is called in this or that container. */
	slot = SLOT_OF(p, build_id ? build_id : name, mapping_of);
	if (!slot)
		return false;
	if (!*slot) {
		if (!new_mapping(p, name, build_id))
			return false;
		*slot = p->mappings.len;
	}
	*ret = *slot;
	return true;
}

static bool note_place(struct pprof *p, const struct profile_frame *frame)
{
	struct mapping *mapping;
	uint64_t id;

	if (!mapping_id(p, frame, &id))
		return false;
	if (!id)
		return true;
	mapping = &p->mappings.data[id - 1];
	mapping->low = frame->place < mapping->low ? frame->place : mapping->low;
	mapping->high = frame->place > mapping->high ? frame->place : mapping->high;
	mapping->named |= frame->name != NULL;
	mapping->inlined |= frame->kind == FRAME_INLINED;
	return true;
}

/*
 * The first mapping is the main program to pprof. Where one process was recorded that is its program, the first file
 * from the root of its stacks that is no library; else the whole that was recorded.
 */
static bool name_main(struct pprof *p)
{
	const struct profile *profile = p->profile;
	const char *targets = profile->stats.targets ? profile->stats.targets : "[several processes]";
	int64_t name;

	for (size_t i = 1; i < profile->samples.len; i++) {
		if (profile->samples.data[i].pid == profile->samples.data[0].pid)
			continue;
		name = string(p, targets, MAX_LABEL);
		if (name < 0 || !new_mapping(p, name, 0))
			return false;
		p->mappings.data[0].is_main = true;
		return true;
	}
	for (size_t i = 1; i < profile->frames.len; i++) {
		const struct profile_frame *frame = &profile->frames.data[i];
		uint64_t id;

		if (frame->kind == FRAME_NATIVE && frame->module && frame->module[0] != '[' &&
		    !strstr(frame->module, ".so"))
			return mapping_id(p, frame, &id);
	}
	return true;
}

/* Locations */

static uint32_t link_of(struct pprof *p, uint32_t outer, uint32_t frame)
{
	struct link link = { outer, frame };
	struct link_slot *slot;
	bool added;

	slot = link_tab_add(&p->link_tab, &link, &added);
	if (!slot)
		return 0;
	if (added) {
		*slot = (struct link_slot){ link, (uint32_t)p->links.len };
		if (!vec_push(&p->links, link) || !vec_push(&p->location_of, 0)) {
			p->links.len = slot->index;
			link_tab_remove(&p->link_tab, &link);
			return 0;
		}
	}
	return slot->index;
}

/* The location of p->run, whose last frame is the one that the others are inlined into. */
static bool add_location(struct pprof *p)
{
	uint32_t link = 0;

	for (size_t i = p->run.len; i > 0; i--) {
		link = link_of(p, link, p->run.data[i - 1]);
		if (!link || !note_place(p, &p->profile->frames.data[p->run.data[i - 1]]))
			return false;
	}
	p->run.len = 0;
	if (!p->location_of.data[link]) {
		if (!vec_push(&p->locations, link))
			return false;
		p->location_of.data[link] = p->locations.len;
	}
	return vec_push(&p->location_ids, p->location_of.data[link]);
}

/* Labels of stacks are labels of samples here; a stack of nothing else shows them, as a sample needs a location. */
static bool add_locations(struct pprof *p, uint32_t leaf, bool labels)
{
	const struct profile *profile = p->profile;

	for (uint32_t node = leaf; node; node = stacks_node(profile->stacks, node)->parent) {
		uint32_t index = stacks_node(profile->stacks, node)->frame;
		const struct profile_frame *frame = &profile->frames.data[index];

		if ((frame->kind == FRAME_LABEL) != labels || !profile_frame_shown(frame, p->view))
			continue;
		if (!vec_push(&p->run, index) || (frame->kind != FRAME_INLINED && !add_location(p)))
			return false;
	}
	return !p->run.len || add_location(p);
}

/* Samples */

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* 0: two samples of one entry. */
static int compare_entries(const struct profile_sample *a, const struct profile_sample *b)
{
	int r = compare(a->node, b->node);

	r = r ? r : compare((uint32_t)a->pid, (uint32_t)b->pid);
	r = r ? r : compare((uint32_t)a->tid, (uint32_t)b->tid);
	r = r ? r : compare(a->comm, b->comm);
	r = r ? r : compare(a->event, b->event);
	return r ? r : compare(a->place, b->place);
}

static int by_entry(const void *a, const void *b, void *profile)
{
	const struct profile_sample *samples = ((const struct profile *)profile)->samples.data;

	return compare_entries(&samples[*(const uint32_t *)a], &samples[*(const uint32_t *)b]);
}

static bool add_label(struct pprof *p, const char *key, const char *text, size_t len, int64_t number)
{
	Pprof__Label label = PPROF__LABEL__INIT;

	if (text) {
		strbuf_clear(&p->text);
		escape_line(&p->text, text, len, MAX_LABEL);
		label.str = string_of_text(p);
		if (!label.str) /* an empty text would be no label */
			return true;
	}
	label.num = number;
	label.key = string(p, key, MAX_LABEL);
	return label.str >= 0 && label.key >= 0 && vec_push(&p->labels, label);
}

/* "namespace/pod/container", or what a container without a pod is called. */
static bool add_place(struct pprof *p, const char *place)
{
	const char *pod = strchr(place, '/');
	const char *container = pod ? strchr(pod + 1, '/') : NULL;

	if (!container)
		return add_label(p, "container", place, strlen(place), 0);
	return add_label(p, "namespace", place, (size_t)(pod - place), 0) &&
	       add_label(p, "pod", pod + 1, (size_t)(container - pod - 1), 0) &&
	       add_label(p, "container", container + 1, strlen(container + 1), 0);
}

static bool add_labels(struct pprof *p, const struct profile_sample *sample)
{
	const struct profile *profile = p->profile;
	const char *comm = sample->comm < profile->comms.len ? profile->comms.data[sample->comm] : NULL;
	const char *place = sample->place < profile->places.len ? profile->places.data[sample->place] : NULL;
	const char *event = profile->events.len > 1 && sample->event < profile->events.len
				    ? profile->events.data[sample->event]
				    : NULL;

	return add_label(p, "pid", NULL, 0, sample->pid) && add_label(p, "tid", NULL, 0, sample->tid) &&
	       (!comm || add_label(p, "comm", comm, strlen(comm), 0)) &&
	       (!event || add_label(p, "event", event, strlen(event), 0)) &&
	       (!place || !strcmp(place, "[host]") || !strcmp(place, "[unknown]") || add_place(p, place));
}

/* Does the event count the time of a CPU, so that samples taken by frequency are CPU time? */
static bool is_time(const char *event)
{
	return event && (strstr(event, "cycles") || strstr(event, "cpu-clock") || strstr(event, "task-clock"));
}

static bool is_clock(const char *event)
{
	return event && (strstr(event, "cpu-clock") || strstr(event, "task-clock"));
}

static const char *first_event(const struct profile *profile)
{
	return profile->events.len ? profile->events.data[0] : profile->stats.event;
}

static const char *event_of(const struct profile *profile, const struct profile_sample *sample)
{
	return sample->event < profile->events.len ? profile->events.data[sample->event] : profile->stats.event;
}

static uint64_t second_value(const struct pprof *p, const struct profile_sample *sample)
{
	uint32_t freq = p->profile->stats.freq;

	if (!p->timed || !freq)
		return sample->period;
	return is_time(event_of(p->profile, sample)) ? 1000000000u / freq : 0;
}

static int64_t add_value(int64_t a, uint64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static bool add_entry(struct pprof *p, const struct profile_sample *sample)
{
	struct entry entry = { .locations = p->location_ids.len, .labels = p->labels.len };

	if (!add_locations(p, sample->node, false))
		return false;
	if (p->location_ids.len == entry.locations && !add_locations(p, sample->node, true))
		return false;
	if (!add_labels(p, sample))
		return false;
	entry.num_locations = p->location_ids.len - entry.locations;
	entry.num_labels = p->labels.len - entry.labels;
	return vec_push(&p->entries, entry);
}

static bool add_entries(struct pprof *p)
{
	const struct profile *profile = p->profile;
	const struct profile_sample *last = NULL;

	p->order = calloc(profile->samples.len + 1, sizeof(*p->order));
	if (!p->order || profile->samples.len >= UINT32_MAX)
		return false;
	for (size_t i = 0; i < profile->samples.len; i++)
		p->order[i] = (uint32_t)i;
	if (profile->samples.len)
		qsort_r(p->order, profile->samples.len, sizeof(*p->order), by_entry, (void *)profile);
	for (size_t i = 0; i < profile->samples.len; i++) {
		const struct profile_sample *sample = &profile->samples.data[p->order[i]];
		struct entry *entry;

		if ((!last || compare_entries(last, sample)) && !add_entry(p, sample))
			return false;
		last = sample;
		entry = &p->entries.data[p->entries.len - 1];
		entry->values[0] = add_value(entry->values[0], 1);
		entry->values[1] = add_value(entry->values[1], second_value(p, sample));
	}
	return true;
}

/* The message. All that it points to is in one block for each kind. */

struct message {
	Pprof__Profile profile;
	Pprof__ValueType types[NUM_VALUES], period_type;
	Pprof__ValueType *type_list[NUM_VALUES];
	Pprof__Sample *samples, **sample_list;
	Pprof__Label **label_list;
	Pprof__Mapping *mappings, **mapping_list;
	Pprof__Location *locations, **location_list;
	Pprof__Line *lines, **line_list;
	Pprof__Function *functions, **function_list;
	char **strings;
	int64_t *comments;
};

static void message_deinit(struct message *m)
{
	free(m->samples);
	free(m->sample_list);
	free(m->label_list);
	free(m->mappings);
	free(m->mapping_list);
	free(m->locations);
	free(m->location_list);
	free(m->lines);
	free(m->line_list);
	free(m->functions);
	free(m->function_list);
	free(m->strings);
	free(m->comments);
}

/* Both `num` things and a list of pointers to them. */
#define ALLOCATE(m, things, list, num)                                                         \
	((m)->things = calloc((num) + 1, sizeof(*(m)->things)),                                \
	 (m)->list = calloc((num) + 1, sizeof(*(m)->list)), (m)->things && (m)->list)

static bool fill_samples(struct pprof *p, struct message *m)
{
	size_t num = p->entries.len;

	m->label_list = calloc(p->labels.len + 1, sizeof(*m->label_list));
	if (!m->label_list || !ALLOCATE(m, samples, sample_list, num))
		return false;
	for (size_t i = 0; i < p->labels.len; i++)
		m->label_list[i] = &p->labels.data[i];
	for (size_t i = 0; i < num; i++) {
		struct entry *entry = &p->entries.data[i];
		Pprof__Sample *sample = m->sample_list[i] = &m->samples[i];

		pprof__sample__init(sample);
		sample->n_location_id = entry->num_locations;
		sample->location_id = p->location_ids.data + entry->locations;
		sample->n_value = NUM_VALUES;
		sample->value = entry->values;
		sample->n_label = entry->num_labels;
		sample->label = m->label_list + entry->labels;
	}
	m->profile.n_sample = num;
	m->profile.sample = m->sample_list;
	return true;
}

static bool fill_mappings(struct pprof *p, struct message *m)
{
	size_t num = p->mappings.len;

	if (!ALLOCATE(m, mappings, mapping_list, num))
		return false;
	for (size_t i = 0; i < num; i++) {
		const struct mapping *from = &p->mappings.data[i];
		Pprof__Mapping *to = m->mapping_list[i] = &m->mappings[i];

		pprof__mapping__init(to);
		to->id = i + 1;
		to->filename = from->name;
		to->build_id = from->build_id;
		if (from->low <= from->high) {
			to->memory_start = to->file_offset = from->low & -(uint64_t)PAGE;
			to->memory_limit = from->high < -(uint64_t)PAGE ? (from->high & -(uint64_t)PAGE) + PAGE
									: UINT64_MAX;
		}
		/* What says that it has names is not looked up again by others. */
		to->has_functions = from->named || from->is_main || !from->build_id;
		to->has_inline_frames = from->inlined;
	}
	m->profile.n_mapping = num;
	m->profile.mapping = m->mapping_list;
	return true;
}

/* Frames of a link, from the innermost outwards. */
static size_t count_lines(const struct pprof *p, uint32_t link)
{
	size_t ret = 0;

	for (; link; link = p->links.data[link].outer)
		ret++;
	return ret;
}

static bool fill_location(struct pprof *p, struct message *m, size_t i, size_t *lines)
{
	Pprof__Location *to = m->location_list[i] = &m->locations[i];
	const struct profile_frame *frame = NULL;

	pprof__location__init(to);
	to->id = i + 1;
	to->line = m->line_list + *lines;
	for (uint32_t link = p->locations.data[i]; link; link = p->links.data[link].outer) {
		Pprof__Line *line = m->line_list[*lines] = &m->lines[*lines];

		frame = &p->profile->frames.data[p->links.data[link].frame];
		pprof__line__init(line);
		line->function_id = function_id(p, frame);
		if (!line->function_id)
			return false;
		++*lines;
		to->n_line++;
	}
	if (!frame || !mapping_id(p, frame, &to->mapping_id))
		return false;
	if (to->mapping_id)
		to->address = frame->place;
	/* In a file that has no names at all others may find some, by address and build-id. */
	if (to->mapping_id && !m->mappings[to->mapping_id - 1].has_functions)
		to->n_line = 0;
	return true;
}

static bool fill_locations(struct pprof *p, struct message *m)
{
	size_t num = p->locations.len, num_lines = 0, lines = 0;

	for (size_t i = 0; i < num; i++)
		num_lines += count_lines(p, p->locations.data[i]);
	if (!ALLOCATE(m, locations, location_list, num) || !ALLOCATE(m, lines, line_list, num_lines))
		return false;
	for (size_t i = 0; i < num; i++) {
		if (!fill_location(p, m, i, &lines))
			return false;
	}
	m->profile.n_location = num;
	m->profile.location = m->location_list;
	return true;
}

static bool fill_functions(struct pprof *p, struct message *m)
{
	size_t num = p->functions.len;

	if (!ALLOCATE(m, functions, function_list, num))
		return false;
	for (size_t i = 0; i < num; i++) {
		Pprof__Function *to = m->function_list[i] = &m->functions[i];

		pprof__function__init(to);
		to->id = i + 1;
		to->name = to->system_name = p->functions.data[i];
	}
	m->profile.n_function = num;
	m->profile.function = m->function_list;
	return true;
}

static bool fill_type(struct pprof *p, Pprof__ValueType *type, const char *name, const char *unit)
{
	pprof__value_type__init(type);
	type->type = string(p, name, MAX_LABEL);
	type->unit = string(p, unit, MAX_LABEL);
	return type->type >= 0 && type->unit >= 0;
}

static bool fill_types(struct pprof *p, struct message *m)
{
	const struct profile_stats *stats = &p->profile->stats;
	const char *event = first_event(p->profile);
	const char *name = p->timed ? "cpu" : event ? event : "events", *unit = p->timed ? "nanoseconds" : "count";

	if (!fill_type(p, &m->types[0], "samples", "count") || !fill_type(p, &m->types[1], name, unit) ||
	    !fill_type(p, &m->period_type, name, unit))
		return false;
	for (size_t i = 0; i < NUM_VALUES; i++)
		m->type_list[i] = &m->types[i];
	m->profile.n_sample_type = NUM_VALUES;
	m->profile.sample_type = m->type_list;
	m->profile.period_type = &m->period_type;
	m->profile.default_sample_type = m->types[p->timed ? 1 : 0].type;
	if (p->timed && stats->freq)
		m->profile.period = 1000000000 / stats->freq;
	else if (p->profile->samples.len)
		m->profile.period = add_value(0, p->profile->samples.data[0].period);
	m->profile.time_nanos = add_value(0, stats->start_ns);
	if (stats->wall_s > 0 && stats->wall_s < 9e9)
		m->profile.duration_nanos = (int64_t)(stats->wall_s * 1e9);
	return true;
}

/* What was recorded, and how far to believe it. */
static bool fill_comments(struct pprof *p, struct message *m)
{
	_cleanup_(strbuf_deinit) struct strbuf lines = { 0 };
	size_t num = 0;

	quality_title(&p->profile->stats, &lines);
	strbuf_char(&lines, '\n');
	quality_lines(&p->profile->stats, &lines);
	for (size_t i = 0; i < lines.len; i++)
		num += lines.data[i] == '\n';
	m->comments = calloc(num + 1, sizeof(*m->comments));
	if (lines.failed || !m->comments)
		return false;
	for (const char *line = lines.data, *end; (end = strchr(line, '\n')); line = end + 1) {
		strbuf_clear(&p->text);
		strbuf_add(&p->text, line, (size_t)(end - line));
		if (end == line)
			continue;
		m->comments[m->profile.n_comment] = string_of_text(p);
		if (m->comments[m->profile.n_comment++] < 0)
			return false;
	}
	m->profile.comment = m->comments;
	return true;
}

/* Last, as all others add to them. */
static bool fill_strings(struct pprof *p, struct message *m)
{
	size_t num = intern_count(p->strings);

	m->strings = calloc(num + 1, sizeof(*m->strings));
	if (!m->strings)
		return false;
	for (size_t i = 0; i < num; i++)
		m->strings[i] = (char *)intern_get(p->strings, (uint32_t)i);
	m->profile.n_string_table = num;
	m->profile.string_table = m->strings;
	return true;
}

static bool fill(struct pprof *p, struct message *m)
{
	pprof__profile__init(&m->profile);
	return fill_types(p, m) && fill_samples(p, m) && fill_mappings(p, m) && fill_locations(p, m) &&
	       fill_functions(p, m) && fill_comments(p, m) && fill_strings(p, m);
}

/* Out, gzipped (RFC 1952). */

struct gzip {
	ProtobufCBuffer base; /* first: the library gives us a pointer to it */
	z_stream zlib;
	FILE *out;
	struct err *err;
	int failed; /* -errno */
};

static void deflate_bytes(struct gzip *gzip, const uint8_t *bytes, size_t len, int how)
{
	uint8_t buf[16384];

	gzip->zlib.next_in = (uint8_t *)bytes;
	do {
		size_t part = len < UINT32_MAX / 2 ? len : UINT32_MAX / 2;

		if (!gzip->zlib.avail_in) {
			gzip->zlib.avail_in = (unsigned int)part;
			len -= part;
		}
		gzip->zlib.next_out = buf;
		gzip->zlib.avail_out = sizeof(buf);
		deflate(&gzip->zlib, len ? Z_NO_FLUSH : how);
		if (!gzip->failed)
			gzip->failed = write_bytes(gzip->out, buf, sizeof(buf) - gzip->zlib.avail_out, gzip->err);
	} while (!gzip->failed && (len || gzip->zlib.avail_in || !gzip->zlib.avail_out));
}

static void append(ProtobufCBuffer *buffer, size_t len, const uint8_t *bytes)
{
	deflate_bytes((struct gzip *)buffer, bytes, len, Z_NO_FLUSH);
}

static int write_message(const Pprof__Profile *message, FILE *out, struct err *err)
{
	struct gzip gzip = { .base.append = append, .out = out, .err = err };

	/* 15 bits of window, + 16 for gzip's header, of which nothing tells when or where it was made. */
	if (deflateInit2(&gzip.zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return err_oom(err);
	pprof__profile__pack_to_buffer(message, &gzip.base);
	deflate_bytes(&gzip, NULL, 0, Z_FINISH);
	deflateEnd(&gzip.zlib);
	return gzip.failed ? gzip.failed : write_end(out, err);
}

static int write_pprof(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	_cleanup_(pprof_deinit) struct pprof p = { .profile = profile, .view = view, .strings = intern_new() };
	_cleanup_(message_deinit) struct message m = { 0 };

	p.timed = is_time(first_event(profile)) && (profile->stats.freq || is_clock(first_event(profile)));
	if (!p.strings || intern_id(p.strings, "", 0) != 0 || !vec_push(&p.links, (struct link){ 0 }) ||
	    !vec_push(&p.location_of, 0) || !name_main(&p) || !add_entries(&p) || !fill(&p, &m))
		return err_oom(err);
	return write_message(&m.profile, out, err);
}

static const char *const extensions[] = { ".pb.gz", ".pprof", ".pprof.gz", NULL };

const struct format format_pprof = {
	.name = "pprof",
	.description = "gzipped protobuf, for go tool pprof, Parca, Pyroscope",
	.extensions = extensions,
	.needs_samples = true,
	.needs_places = true,
	.binary = true,
	.write = write_pprof,
};
