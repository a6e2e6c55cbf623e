#include "test/unwinder/corpus.h"

#include "app/follow.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/intern.h"
#include "base/vec.h"
#include "collector/perfdata.h"
#include "symbols/addrspace.h"
#include "symbols/file.h"
#include "target/door.h"
#include "target/given.h"
#include "target/offline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_FILES = 1 << 20 };
static const size_t max_bytes = 1ull << 30; /* of stacks; what comes later is left out */

/* A process between two changes of its mappings. */
struct snapshot {
	uint32_t space_id, version;
	struct addrspace space; /* with a list of mappings of its own */
};

struct corpus {
	struct door *door;
	struct offline *offline;
	struct intern *strings;
	struct files *files;
	struct addrspaces *spaces;
	struct perfdata *data;
	VEC(struct snapshot *) snapshots;
	VEC(struct unwind_input) samples; /* registers and stack of each are its own */
	size_t bytes;
	bool failed;
};

void corpus_free(struct corpus *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->samples.len; i++) {
		free((void *)c->samples.data[i].perf_regs); /* with all that is behind them */
	}
	vec_deinit(&c->samples);
	for (size_t i = 0; i < c->snapshots.len; i++) {
		mappings_deinit(&c->snapshots.data[i]->space.maps, c->files);
		free(c->snapshots.data[i]);
	}
	vec_deinit(&c->snapshots);
	perfdata_close(c->data);
	addrspaces_free(c->spaces);
	files_free(c->files);
	intern_free(c->strings);
	offline_free(c->offline);
	door_free(c->door);
	free(c);
}

static void corpus_freep(struct corpus **c)
{
	corpus_free(*c);
}

size_t corpus_len(const struct corpus *c)
{
	return c->samples.len;
}

const struct unwind_input *corpus_at(const struct corpus *c, size_t index)
{
	return &c->samples.data[index];
}

/* One piece of memory, as in a record: registers, chain, stack. */
static bool copy_sample(const struct record_sample *s, struct unwind_input *in)
{
	const size_t regs = s->num_regs * sizeof(*s->regs);
	const size_t chain = in->num_chain * sizeof(*in->chain);
	uint8_t *bytes = malloc(regs + chain + s->stack_bytes);

	if (!bytes)
		return false;
	memcpy(bytes, s->regs, regs);
	if (chain)
		memcpy(bytes + regs, in->chain, chain);
	memcpy(bytes + regs + chain, s->stack, s->stack_bytes);
	in->perf_regs = (const uint64_t *)bytes;
	in->chain = (const uint64_t *)(bytes + regs);
	in->stack = bytes + regs + chain;
	return true;
}

static struct snapshot *snapshot_new(struct corpus *c, const struct addrspace *space)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->space_id = space->id;
	s->version = space->version;
	s->space = *space;
	memset(&s->space.maps, 0, sizeof(s->space.maps));
	mappings_copy(&s->space.maps, c->files, &space->maps);
	c->failed |= s->space.maps.num != space->maps.num;
	c->failed |= !vec_push(&c->snapshots, s);
	return s;
}

static const struct addrspace *snapshot_of(struct corpus *c, const struct addrspace *space)
{
	struct snapshot *s = NULL;

	/* The same process is mostly among the last. */
	for (size_t i = c->snapshots.len; i-- > 0 && c->snapshots.len - i < 64;) {
		s = c->snapshots.data[i];
		if (s->space_id == space->id && s->version == space->version)
			return &s->space;
	}
	s = snapshot_new(c, space);
	return s ? &s->space : NULL;
}

static void take_sample(struct corpus *c, const struct record *rec, uint64_t mask)
{
	const struct record_sample *s = &rec->sample;
	const struct addrspace *space = addrspaces_get(c->spaces, rec->pid);
	struct unwind_input in = {
		.perf_mask = mask,
		.stack_bytes = s->stack_bytes,
		.stack_full = s->stack_bytes == s->stack_size,
	};

	if (!space || !space->maps.num || !s->regs || s->regs_abi != 2 || !s->stack_bytes ||
	    c->bytes > max_bytes)
		return;
	in.space = snapshot_of(c, space);
	in.num_chain = record_user_chain(s, &in.chain);
	c->bytes += s->stack_bytes;
	c->failed |= !in.space || !copy_sample(s, &in) || !vec_push(&c->samples, in);
}

static void take_record(void *data, const struct record *rec, size_t event)
{
	struct corpus *c = data;

	if (rec->type == RECORD_SAMPLE)
		take_sample(c, rec, perfdata_info(c->data)->events[event].format.regs_user);
	else
		follow_record(c->spaces, rec);
}

static int open_parts(struct corpus *c, int64_t end_ns, struct err *err)
{
	const struct offline_opts offline = { .end_ns = end_ns, .door = c->door };
	struct files_opts files = { .door = c->door, .max_idle = MAX_FILES, .own_kernel = true };
	struct addrspaces_opts spaces = { 0 };
	int r = offline_new(&offline, &c->offline, err);

	if (r < 0)
		return r;
	offline_set_origin(c->offline, OFFLINE_THIS_BOOT,
			   (int64_t)(clock_ns(CLOCK_REALTIME) - clock_monotonic_ns()));
	spaces.strings = files.strings = c->strings;
	files.offline = c->offline;
	r = files_new(&files, &c->files, err);
	spaces.files = c->files;
	return r < 0 ? r : addrspaces_new(&spaces, &c->spaces, err);
}

int corpus_read(const char *path, struct corpus **ret, struct err *err)
{
	_cleanup_(corpus_freep) struct corpus *c = calloc(1, sizeof(*c));
	const struct perfdata_sink sink = { .record = take_record, .data = c };
	int64_t end_ns;
	int fd, r;

	if (!c)
		return err_oom(err);
	r = given_open(path, &fd, err);
	if (r < 0)
		return r;
	end_ns = given_written_ns(fd);
	r = perfdata_open(fd, &c->data, err);
	if (r >= 0)
		r = door_new(&c->door, err);
	if (r >= 0 && !(c->strings = intern_new()))
		r = err_oom(err);
	if (r >= 0)
		r = open_parts(c, end_ns, err);
	if (r >= 0)
		r = perfdata_run(&c->data, 1, &sink, err);
	if (r < 0)
		return r;
	if (c->failed)
		return err_oom(err);
	if (!c->samples.len)
		return err_set(err, ENODATA, "there is no sample with registers and stack");
	*ret = steal_ptr(c);
	return 0;
}
