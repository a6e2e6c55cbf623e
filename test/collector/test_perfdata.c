/* The perf.data reader on files written by hand: what is right in them, and everything that can be wrong. */
#include "collector/perfdata.h"

#include "base/err.h"
#include "perfdata_builder.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_SEEN = 4096 };

/* What the sink was given. */
struct seen {
	struct {
		enum record_type type;
		uint64_t time_ns, ip, period;
		pid_t tid;
		size_t event, stack_bytes, num_user;
		uint64_t user;
		bool chain_missing;
		uint64_t stack_sum;
		char comm[16];
	} records[MAX_SEEN];
	size_t num;
	size_t num_rests, num_short; /* stack copies that came in part, and those that could not be read whole */
	size_t num_ids;
	struct perfdata_build_id id;
	uint8_t id_bytes[20];
	char id_path[64];
};

static uint64_t sum_of(const uint8_t *bytes, size_t len)
{
	uint64_t ret = 0;

	for (size_t i = 0; i < len; i++)
		ret = ret * 31 + bytes[i];
	return ret;
}

/* Of a copy that comes in part the rest is read, some of it first. */
static void see_rest(struct seen *s, const struct record_sample *sample)
{
	struct stack_rest *rest = sample->rest;
	size_t some;

	if (!rest)
		return;
	CHECK(rest->here < sample->stack_bytes);
	s->num_rests++;
	CHECK(rest->fetch(rest, rest->here) == rest->here);
	some = rest->fetch(rest, rest->here + 1);
	CHECK(some == rest->here && some <= sample->stack_bytes);
	if (rest->fetch(rest, sample->stack_bytes) < sample->stack_bytes)
		s->num_short++;
}

static void see(void *data, const struct record *r, size_t event)
{
	struct seen *s = data;

	if (s->num == MAX_SEEN)
		return;
	s->records[s->num].type = r->type;
	s->records[s->num].time_ns = r->time_ns;
	s->records[s->num].tid = r->tid;
	s->records[s->num].event = event;
	s->records[s->num].comm[0] = '\0';
	if (r->type == RECORD_SAMPLE) {
		const uint64_t *user;

		see_rest(s, &r->sample);
		s->records[s->num].num_user = record_user_chain(&r->sample, &user);
		s->records[s->num].user = s->records[s->num].num_user ? user[0] : 0;
		s->records[s->num].chain_missing = r->sample.chain_missing;
		s->records[s->num].ip = r->sample.ip;
		s->records[s->num].period = r->sample.period;
		s->records[s->num].stack_bytes = r->sample.stack_bytes;
		s->records[s->num].stack_sum = sum_of(r->sample.stack, r->sample.stack_bytes);
	} else if (r->type == RECORD_COMM) {
		snprintf(s->records[s->num].comm, sizeof(s->records[s->num].comm), "%s",
			 r->comm.comm);
	}
	s->num++;
}

static void see_id(void *data, const struct perfdata_build_id *id)
{
	struct seen *s = data;

	s->num_ids++;
	s->id = *id;
	memcpy(s->id_bytes, id->id, id->id_len);
	snprintf(s->id_path, sizeof(s->id_path), "%s", id->path);
}

/* Everything a descriptor gives. */
struct run {
	struct seen seen;
	struct perfdata_info info; /* without what dies with the reader */
	struct perfdata_counts counts;
	char hostname[32], event[32], cmdline[64];
	struct err err;
	int r;
};

static struct run *run_sink(int fd, bool takes_rests)
{
	struct run *run = calloc(1, sizeof(*run));
	struct perfdata *p = NULL;
	struct perfdata_sink sink = { .record = see, .build_id = see_id, .takes_rests = takes_rests };

	if (!run)
		exit(1);
	sink.data = &run->seen;
	run->r = perfdata_open(fd, &p, &run->err);
	if (run->r < 0)
		return run;
	run->r = perfdata_run(&p, 1, &sink, &run->err);
	run->info = *perfdata_info(p);
	run->counts = perfdata_counts(p);
	if (run->info.hostname)
		snprintf(run->hostname, sizeof(run->hostname), "%s", run->info.hostname);
	if (run->info.cmdline)
		snprintf(run->cmdline, sizeof(run->cmdline), "%s", run->info.cmdline);
	if (run->info.num_events)
		snprintf(run->event, sizeof(run->event), "%s", run->info.events[0].name);
	perfdata_close(p);
	return run;
}

static struct run *run_fd(int fd)
{
	return run_sink(fd, false);
}

static const uint64_t TYPE = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME;

static void sample_at(struct bytes *b, uint64_t time_ns, uint64_t ip)
{
	struct built_sample s = { .time_ns = time_ns, .ip = ip, .pid = 7, .tid = 8 };

	add_sample(b, TYPE, &s);
}

/* With a feature, as files without one were not finished: perf writes them last. */
static void finished_file(struct bytes *file, const struct built_event *events, size_t num_events,
			  const struct bytes *records)
{
	struct feature feature = { .bit = 3 };

	feature_string(&feature.bytes, "box");
	build_file(file, events, num_events, records, &feature, 1);
	bytes_deinit(&feature.bytes);
}

static void simple_file(struct bytes *file, const struct bytes *records)
{
	struct built_event event = { .attr = plain_attr(TYPE, 0, 0) };

	finished_file(file, &event, 1, records);
}

/* 3 samples, the second younger than the third, and a comm without a time. */
static void three(struct bytes *records)
{
	struct built_sample s = { .pid = 7, .tid = 8 };

	sample_at(records, 100, 1);
	sample_at(records, 300, 3);
	add_comm(records, TYPE, &s, "cat");
	sample_at(records, 200, 2);
}

static void check_three(const struct run *run)
{
	CHECK(run->r == 0);
	CHECK(run->seen.num == 4);
	CHECK(run->counts.samples == 3 && run->counts.records == 4);
	CHECK(run->counts.malformed == 0 && run->counts.disorder == 0);
	CHECK_STR(run->seen.records[0].comm, "cat");
	CHECK(run->seen.records[0].tid == 8);
	for (uint64_t i = 1; i < run->seen.num; i++) {
		CHECK(run->seen.records[i].type == RECORD_SAMPLE);
		CHECK(run->seen.records[i].ip == i && run->seen.records[i].time_ns == 100 * i);
	}
}

static void test_file(void)
{
	struct feature features[] = { { .bit = 2 }, { .bit = 3 }, { .bit = 11 }, { .bit = 12 } };
	struct built_event event = { .attr = plain_attr(TYPE, 0, 0), .first_id = 5, .num_ids = 1 };
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;
	size_t begin = record_begin(&features[0].bytes, 67, PERF_RECORD_MISC_USER | 1u << 15);

	bytes_u32(&features[0].bytes, UINT32_MAX);
	bytes_add(&features[0].bytes, "ABCDEFGHIJKLMNOPQRST", 20);
	bytes_u32(&features[0].bytes, 16);
	bytes_add(&features[0].bytes, "/bin/cat", 9);
	bytes_pad(&features[0].bytes, 8);
	record_end(&features[0].bytes, begin);
	feature_string(&features[1].bytes, "box");
	bytes_u32(&features[2].bytes, 2);
	feature_string(&features[2].bytes, "perf");
	feature_string(&features[2].bytes, "record");
	bytes_u32(&features[3].bytes, 1);
	bytes_u32(&features[3].bytes, sizeof(event.attr));
	bytes_add(&features[3].bytes, &event.attr, sizeof(event.attr));
	bytes_u32(&features[3].bytes, 1);
	feature_string(&features[3].bytes, "cpu-clock:u");
	bytes_u64(&features[3].bytes, 5);
	three(&records);
	build_file(&file, &event, 1, &records, features, 4);

	run = run_fd(bytes_file(&file));
	check_three(run);
	CHECK_STR(run->hostname, "box");
	CHECK_STR(run->cmdline, "perf record");
	CHECK_STR(run->event, "cpu-clock:u");
	CHECK(!run->info.unfinished && !run->info.pipe);
	CHECK(run->seen.num_ids == 1 && run->seen.id.id_len == 16 && run->seen.id.pid == -1);
	CHECK(!memcmp(run->seen.id_bytes, "ABCDEFGHIJKLMNOP", 16));
	CHECK_STR(run->seen.id_path, "/bin/cat");
	free(run);

	/* A string longer than its feature is left out, and nothing else with it. */
	bytes_deinit(&features[1].bytes);
	bytes_u32(&features[1].bytes, 3013029764u);
	bytes_u64(&features[1].bytes, 0);
	build_file(&file, &event, 1, &records, features, 4);
	run = run_fd(bytes_file(&file));
	check_three(run);
	CHECK_STR(run->hostname, "");
	CHECK_STR(run->cmdline, "perf record");
	free(run);
	for (size_t i = 0; i < 4; i++)
		bytes_deinit(&features[i].bytes);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* One header field is changed; what must come of it. */
struct header_case {
	size_t at;
	uint64_t value;
	int r;             /* of all of it */
	const char *words; /* in its sentence */
	bool unfinished;
	size_t samples;
};

static void test_header(void)
{
	const uint64_t each = sizeof(struct perf_event_attr) + 16;
	const struct header_case cases[] = {
		{ AT_HEADER_SIZE, 0, -EBADMSG, "claims 0 bytes", false, 0 },
		{ AT_HEADER_SIZE, UINT64_MAX, -EBADMSG, "cannot be right", false, 0 },
		{ AT_ATTR_SIZE, 0, -EBADMSG, "describes each event in 0 bytes", false, 0 },
		{ AT_ATTR_SIZE, 79, -EBADMSG, "describes each event in 79", false, 0 },
		{ AT_ATTR_SIZE, 4097, -EBADMSG, "describes each event in 4097", false, 0 },
		{ AT_ATTRS_OFFSET, UINT64_MAX - 8, -EBADMSG, "outside the file", false, 0 },
		{ AT_ATTRS_SIZE, 0, -EBADMSG, "outside the file or are cut", false, 0 },
		{ AT_ATTRS_SIZE, each - 1, -EBADMSG, "or are cut", false, 0 },
		{ AT_ATTRS_SIZE, UINT64_MAX / each * each, -EBADMSG, "outside the file", false, 0 },
		{ AT_DATA_OFFSET, 8, -EBADMSG, "records begin at offset 8", false, 0 },
		{ AT_DATA_OFFSET, UINT64_MAX, -EBADMSG, "cannot be", false, 0 },
		{ AT_DATA_OFFSET, 0x7fffffff, 0, "", true, 0 },
		{ AT_DATA_SIZE, 0, 0, "", true, 3 },
		{ AT_DATA_SIZE, 1 << 30, 0, "", true, 3 },
		{ AT_DATA_SIZE, UINT64_MAX, -EBADMSG, "cannot be", false, 0 },
		{ AT_FEATURES, 0, 0, "", true, 3 }, /* they were not written yet */
		{ AT_FEATURES, 3 << 3, 0, "", true, 3 }, /* told of, not there */
	};
	struct bytes file = { 0 }, records = { 0 };

	three(&records);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct header_case *c = &cases[i];
		struct run *run;

		simple_file(&file, &records);
		bytes_set_u64(&file, c->at, c->value);
		run = run_fd(bytes_file(&file));
		CHECK_MSG(run->r == c->r, "case %zu: %d", i, run->r);
		CHECK_MSG(strstr(run->err.msg, c->words), "case %zu: %s", i, run->err.msg);
		CHECK_MSG(run->info.unfinished == c->unfinished, "case %zu", i);
		CHECK_MSG(run->counts.samples == c->samples, "case %zu: %" PRIu64, i,
			  run->counts.samples);
		free(run);
	}
	/* A header that is kept up to date while the file grows: what came since counts too. */
	struct built_event event = { .attr = plain_attr(TYPE, 0, 0) };
	struct run *run;

	build_file(&file, &event, 1, &records, NULL, 0);
	bytes_set_u64(&file, AT_DATA_SIZE, 32);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->info.unfinished && run->counts.samples == 3);
	free(run);
	bytes_u64(&file, 0); /* written as zeros before its bytes: no damage, the end */
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->info.unfinished && run->counts.samples == 3);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static void test_ids(void)
{
	struct built_event event = { .attr = plain_attr(TYPE, 0, 0), .first_id = 1, .num_ids = 2 };
	struct bytes file = { 0 }, records = { 0 };
	const size_t at = FILE_HEADER_BYTES + 16 + sizeof(struct perf_event_attr);
	struct run *run;

	three(&records);
	build_file(&file, &event, 1, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	check_three(run);
	free(run);
	bytes_set_u64(&file, at + 8, 12);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "ids of an event"));
	free(run);
	bytes_set_u64(&file, at + 8, 16);
	bytes_set_u64(&file, at, file.v.len - 8);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "ids of an event"));
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static void expect_refusal(const void *bytes, size_t len, int r, const char *words)
{
	struct bytes file = { 0 };
	struct run *run;

	bytes_add(&file, bytes, len);
	run = run_fd(bytes_file(&file));
	CHECK_MSG(run->r == r && strstr(run->err.msg, words), "%d: %s", run->r, run->err.msg);
	free(run);
	run = run_fd(bytes_pipe(&file));
	CHECK_MSG(run->r == r, "%d: %s", run->r, run->err.msg);
	free(run);
	bytes_deinit(&file);
}

static void test_magic(void)
{
	char swapped[104] = "2ELIFREP", old[104] = "PERFFILE", other[104] = "#!/bin/sh\n";
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	expect_refusal(swapped, sizeof(swapped), -ENOTSUP, "of the other byte order");
	expect_refusal(old, sizeof(old), -ENOTSUP, "before 2012");
	expect_refusal(other, sizeof(other), -EBADMSG, "not a perf.data file");
	expect_refusal("", 0, -EBADMSG, "empty");
	expect_refusal("PERFILE2", 8, -EBADMSG, "ends within its header");
	/* What `cat FILE |` gives. */
	three(&records);
	simple_file(&file, &records);
	run = run_fd(bytes_pipe(&file));
	CHECK(run->r == -ENOTSUP && strstr(run->err.msg, "through a pipe"));
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
	run = run_fd(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	CHECK(run->r == -EISDIR);
	free(run);
}

/* Cut at every byte: what is whole is read, and that it ends early is known. */
static void test_truncation(void)
{
	struct bytes file = { 0 }, records = { 0 };
	size_t whole, data;
	uint64_t before = 0;

	three(&records);
	simple_file(&file, &records);
	whole = file.v.len;
	memcpy(&data, file.v.data + AT_DATA_OFFSET, sizeof(data));
	for (size_t len = 0; len <= whole; len++) {
		struct run *run;

		file.v.len = len;
		run = run_fd(bytes_file(&file));
		if (len < data) {
			CHECK_MSG(run->r == -EBADMSG, "%zu: %d", len, run->r);
		} else {
			CHECK_MSG(run->r == 0, "%zu: %s", len, run->err.msg);
			CHECK_MSG(run->info.unfinished == (len < whole), "%zu", len);
			CHECK(run->counts.samples >= before);
			before = run->counts.samples;
		}
		free(run);
	}
	CHECK(before == 3);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static void test_bad_records(void)
{
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;
	size_t begin;

	/* A size of 0 ends it, as there is no finding the next record; what came before is there. */
	sample_at(&records, 100, 1);
	bytes_u64(&records, PERF_RECORD_SAMPLE);
	sample_at(&records, 200, 2);
	simple_file(&file, &records);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "size of 0 bytes"));
	CHECK(run->counts.samples == 1);
	free(run);

	/* Uneven, too short for their type, of unknown types: left out one by one, and counted. */
	records.v.len = 0;
	begin = record_begin(&records, PERF_RECORD_SAMPLE, 0);
	bytes_add(&records, "abcde", 5);
	record_end(&records, begin);
	sample_at(&records, 100, 1);
	begin = record_begin(&records, PERF_RECORD_SAMPLE, 0);
	bytes_u64(&records, 1);
	record_end(&records, begin);
	begin = record_begin(&records, 23, 0);
	record_end(&records, begin);
	begin = record_begin(&records, 4711, 0);
	record_end(&records, begin);
	begin = record_begin(&records, 0, 0);
	record_end(&records, begin);
	sample_at(&records, 200, 2);
	simple_file(&file, &records);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->counts.samples == 2);
	CHECK_MSG(run->counts.malformed == 2, "%" PRIu64, run->counts.malformed);
	CHECK_MSG(run->counts.unknown == 3, "%" PRIu64, run->counts.unknown);
	CHECK(run->seen.records[1].ip == 2);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* Two events whose samples are laid out differently, told apart by IDENTIFIER. */
static void test_events(void)
{
	const uint64_t a = TYPE | PERF_SAMPLE_IDENTIFIER, b = a | PERF_SAMPLE_CALLCHAIN;
	const uint64_t chain[] = { PERF_CONTEXT_USER, 0x111 };
	struct built_event events[] = {
		{ .attr = plain_attr(a, 0, 0), .first_id = 10, .num_ids = 2 },
		{ .attr = plain_attr(b, 0, 0), .first_id = 20, .num_ids = 2 },
	};
	struct built_sample s = { .pid = 1, .tid = 2, .chain = chain, .num_chain = 2 };
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	for (uint64_t i = 0; i < 4; i++) {
		s.time_ns = 100 + i;
		s.ip = i;
		s.id = (i % 2 ? 20 : 10) + i / 2;
		add_sample(&records, i % 2 ? b : a, &s);
		add_comm(&records, i % 2 ? b : a, &s, "x");
	}
	s.id = 99; /* nobody's */
	add_sample(&records, a, &s);
	build_file(&file, events, 2, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->counts.samples == 4 && run->counts.malformed == 1);
	CHECK(run->seen.num == 8);
	for (uint64_t i = 0; i < 8 && i < run->seen.num; i++) {
		CHECK(run->seen.records[i].time_ns == 100 + i / 2);
		if (i % 2 == 0)
			CHECK(run->seen.records[i].event == i / 2 % 2);
	}
	free(run);

	/* Nothing tells them apart: refused rather than guessed. */
	events[0].attr.sample_type &= ~(uint64_t)PERF_SAMPLE_IDENTIFIER;
	events[1].attr.sample_type &= ~(uint64_t)PERF_SAMPLE_IDENTIFIER;
	build_file(&file, events, 2, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -ENOTSUP && strstr(run->err.msg, "lay out their samples differently"));
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* A sample whose user callchain comes with that cookie. */
static void deferred_at(struct bytes *b, uint64_t type, pid_t tid, uint64_t time_ns, uint64_t cookie)
{
	const uint64_t chain[] = { PERF_CONTEXT_KERNEL, 0xffffffff81000000, (uint64_t)-640, cookie };
	struct built_sample s = { .time_ns = time_ns, .ip = 0x700 + time_ns, .pid = 7, .tid = (uint32_t)tid,
				  .chain = chain, .num_chain = 4 };

	add_sample(b, type, &s);
}

static void chain_at(struct bytes *b, uint64_t type, pid_t tid, uint64_t time_ns, uint64_t cookie, uint64_t num)
{
	struct built_sample s = { .time_ns = time_ns, .pid = 7, .tid = (uint32_t)tid };
	size_t begin = record_begin(b, 22, 0);

	bytes_u64(b, cookie);
	bytes_u64(b, num);
	bytes_u64(b, PERF_CONTEXT_USER);
	bytes_u64(b, 0x100 + cookie);
	bytes_u64(b, 0x200);
	add_trailer(b, type, &s);
	record_end(b, begin);
}

static void exit_at(struct bytes *b, uint64_t type, pid_t tid, uint64_t time_ns)
{
	struct built_sample s = { .time_ns = time_ns, .pid = 7, .tid = (uint32_t)tid };
	size_t begin = record_begin(b, PERF_RECORD_EXIT, 0);

	bytes_u64(b, 1ull << 32 | 7);
	bytes_u64(b, 1ull << 32 | (uint32_t)tid);
	bytes_u64(b, time_ns);
	add_trailer(b, type, &s);
	record_end(b, begin);
}

/* Samples wait for their user callchain, all of one stay in the kernel; where it does not come they go without. */
static void test_deferred(void)
{
	const uint64_t type = TYPE | PERF_SAMPLE_CALLCHAIN;
	struct built_event event = { .attr = plain_attr(type, 0, 0), .first_id = 1, .num_ids = 1 };
	static const struct { uint64_t time_ns, user; enum record_type type; } want[] = {
		{ 13, 0, RECORD_SAMPLE },     /* of thread 9: nobody waits for that */
		{ 14, 0, RECORD_OTHER },
		{ 10, 0x105, RECORD_SAMPLE }, { 12, 0x105, RECORD_SAMPLE }, { 20, 0, RECORD_OTHER },
		{ 11, 0, RECORD_SAMPLE },     /* its record was lost: the next of that thread is about another */
		{ 21, 0x107, RECORD_SAMPLE }, { 22, 0, RECORD_OTHER },
		{ 30, 0, RECORD_SAMPLE }, { 31, 0, RECORD_EXIT }, { 32, 0, RECORD_OTHER },
		{ 33, 0, RECORD_OTHER },      /* holds more than it says: worthless */
		{ 40, 0, RECORD_SAMPLE }, /* the end */
	};
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	deferred_at(&records, type, 8, 10, 5);
	deferred_at(&records, type, 10, 11, 6);
	deferred_at(&records, type, 8, 12, 5);
	deferred_at(&records, type, 9, 13, 4);
	chain_at(&records, type, 9, 14, 3, 3);
	chain_at(&records, type, 8, 20, 5, 3);
	deferred_at(&records, type, 10, 21, 7);
	chain_at(&records, type, 10, 22, 7, 3);
	deferred_at(&records, type, 8, 30, 8);
	exit_at(&records, type, 8, 31);
	chain_at(&records, type, 8, 32, 8, 3);
	chain_at(&records, type, 9, 33, 8, 1000);
	deferred_at(&records, type, 11, 40, 9);
	build_file(&file, &event, 1, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	CHECK_MSG(run->r == 0 && run->counts.samples == 7 && run->counts.disorder == 0, "%s", run->err.msg);
	CHECK(run->counts.malformed == 1);
	CHECK_MSG(run->seen.num == sizeof(want) / sizeof(want[0]), "%zu", run->seen.num);
	for (size_t i = 0; i < run->seen.num && i < sizeof(want) / sizeof(want[0]); i++) {
		bool whole = want[i].user;

		CHECK_MSG(run->seen.records[i].type == want[i].type && run->seen.records[i].time_ns == want[i].time_ns,
			  "%zu: %" PRIu64, i, run->seen.records[i].time_ns);
		if (want[i].type != RECORD_SAMPLE)
			continue;
		CHECK(run->seen.records[i].ip == 0x700 + want[i].time_ns);
		/* Without it the sampled place is known. */
		CHECK(run->seen.records[i].num_user == (whole ? 2 : 1));
		CHECK(run->seen.records[i].user == (whole ? want[i].user : run->seen.records[i].ip));
		CHECK(run->seen.records[i].chain_missing == !whole);
	}
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* Threads that never come back take no more memory than there is for them. */
static void test_deferred_many(void)
{
	const uint64_t type = TYPE | PERF_SAMPLE_CALLCHAIN;
	struct built_event event = { .attr = plain_attr(type, 0, 0), .first_id = 1, .num_ids = 1 };
	const uint32_t num = 400000;
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	for (uint32_t i = 0; i < num; i++)
		deferred_at(&records, type, (pid_t)i + 1, i + 1, i);
	chain_at(&records, type, 1, num + 1, 0, 3);
	chain_at(&records, type, (pid_t)num, num + 2, num - 1, 3);
	build_file(&file, &event, 1, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->counts.samples == num && run->seen.num == MAX_SEEN);
	CHECK(run->seen.records[0].type == RECORD_SAMPLE && run->seen.records[0].chain_missing);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* Leader sampling: each event that counted has a sample of its own, with what it counted as its period. */
static void test_groups(void)
{
	const uint64_t type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_READ;
	struct built_event events[] = {
		{ .attr = plain_attr(type, 0, 0), .first_id = 10, .num_ids = 1 },
		{ .attr = plain_attr(type, 0, 0), .first_id = 20, .num_ids = 1 },
	};
	/* Values of 10 and 20; the third is unchanged, the fourth went back, as of an event that was reset. */
	static const uint64_t values[][2] = { { 100, 7 }, { 250, 9 }, { 300, 9 }, { 400, 4 } };
	static const struct { uint64_t time_ns, period; size_t event; } want[] = {
		{ 1, 100, 0 }, { 1, 7, 1 }, { 2, 150, 0 }, { 2, 2, 1 }, { 3, 50, 0 }, { 4, 100, 0 }, { 4, 4, 1 },
	};
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	for (size_t i = 0; i < 2; i++)
		events[i].attr.read_format = PERF_FORMAT_GROUP | PERF_FORMAT_ID | PERF_FORMAT_LOST | PERF_FORMAT_TOTAL_TIME_RUNNING;
	for (uint64_t i = 0; i < 4; i++) {
		size_t begin = record_begin(&records, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
		const uint64_t words[] = { 10, 0x4000, 5ull << 32 | 5, i + 1, 3, 0, values[i][0], 10, 0, values[i][1], 20, 0, 77, 99, 0 };

		bytes_add(&records, words, sizeof(words)); /* id 99 is nobody's */
		record_end(&records, begin);
	}
	build_file(&file, events, 2, &records, NULL, 0);
	run = run_fd(bytes_file(&file));
	CHECK_MSG(run->r == 0 && run->counts.samples == 4 && run->counts.malformed == 0, "%s", run->err.msg);
	CHECK(run->seen.num == sizeof(want) / sizeof(want[0]));
	for (size_t i = 0; i < run->seen.num && i < sizeof(want) / sizeof(want[0]); i++) {
		CHECK(run->seen.records[i].time_ns == want[i].time_ns && run->seen.records[i].event == want[i].event);
		CHECK(run->seen.records[i].period == want[i].period && run->seen.records[i].ip == 0x4000);
	}
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static void add_round(struct bytes *b)
{
	record_end(b, record_begin(b, 68, 0));
}

/* Rounds release what two of them have passed; a record later than that is counted, not dropped. */
static void test_order(void)
{
	struct bytes file = { 0 }, records = { 0 };
	struct run *run;

	for (uint64_t round = 0; round < 50; round++) {
		for (uint64_t i = 0; i < 10; i++)
			sample_at(&records, 1000 * round + 100 * i + 10, 0); /* one ring */
		for (uint64_t i = 0; i < 10; i++)
			sample_at(&records, 1000 * round + 100 * i + 1, 0); /* another */
		add_round(&records);
	}
	simple_file(&file, &records);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->seen.num == 1000 && run->counts.disorder == 0);
	for (size_t i = 1; i < run->seen.num; i++)
		CHECK(run->seen.records[i].time_ns > run->seen.records[i - 1].time_ns);
	free(run);

	sample_at(&records, 1, 0);
	simple_file(&file, &records);
	run = run_fd(bytes_file(&file));
	CHECK(run->seen.num == 1001 && run->counts.disorder == 1);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static void pipe_header(struct bytes *b)
{
	b->v.len = 0;
	bytes_add(b, "PERFILE2", 8);
	bytes_u64(b, 16);
}

static void pipe_attr(struct bytes *b, uint32_t attr_size)
{
	struct perf_event_attr attr = plain_attr(TYPE, 0, 0);
	size_t begin = record_begin(b, 64, 0);

	attr.size = attr_size;
	bytes_add(b, &attr, sizeof(attr));
	bytes_u64(b, 5);
	record_end(b, begin);
}

static void pipe_string(struct bytes *b, uint64_t feature, const char *str)
{
	size_t begin = record_begin(b, 80, 0);

	bytes_u64(b, feature);
	feature_string(b, str);
	record_end(b, begin);
}

static void test_pipe(void)
{
	struct bytes file = { 0 };
	struct run *run;
	size_t begin;

	pipe_header(&file);
	pipe_attr(&file, sizeof(struct perf_event_attr));
	pipe_string(&file, 3, "box");
	begin = record_begin(&file, 78, 0); /* EVENT_UPDATE, NAME */
	bytes_u64(&file, 2);
	bytes_u64(&file, 5);
	bytes_add(&file, "cycles:P", 9);
	bytes_pad(&file, 8);
	record_end(&file, begin);
	three(&file);
	/* AUXTRACE and TRACING_DATA bring bytes of their own, which may look like records. */
	begin = record_begin(&file, 71, 0);
	bytes_u64(&file, 13);
	record_end(&file, begin);
	bytes_add(&file, "0123456789abc", 13);
	begin = record_begin(&file, 66, 0);
	bytes_u32(&file, 5);
	bytes_u32(&file, 0);
	record_end(&file, begin);
	bytes_add(&file, "01234567", 8);

	for (int i = 0; i < 2; i++) {
		run = run_fd(i ? bytes_file(&file) : bytes_pipe(&file)); /* `> FILE` is as good */
		check_three(run);
		CHECK(run->info.pipe && !run->info.unfinished);
		CHECK_STR(run->hostname, "box");
		CHECK_STR(run->event, "cycles:P");
		free(run);
	}

	begin = record_begin(&file, 71, 0);
	bytes_u64(&file, 1 << 20);
	record_end(&file, begin);
	for (int i = 0; i < 2; i++) {
		run = run_fd(i ? bytes_file(&file) : bytes_pipe(&file));
		CHECK(run->r == 0 && run->counts.samples == 3 && run->info.unfinished);
		free(run);
	}

	pipe_header(&file);
	three(&file);
	run = run_fd(bytes_pipe(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "before any event"));
	free(run);
	pipe_header(&file);
	pipe_attr(&file, 63);
	run = run_fd(bytes_pipe(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "claims 63 bytes"));
	free(run);
	pipe_header(&file);
	pipe_attr(&file, 4096);
	run = run_fd(bytes_pipe(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "claims 4096 bytes"));
	free(run);
	bytes_deinit(&file);
}

/* An attr of perf from 2009, 64 bytes, and one of the future. */
static void test_attr_ages(void)
{
	const uint32_t sizes[] = { PERF_ATTR_SIZE_VER0, sizeof(struct perf_event_attr) + 64 };
	static const uint8_t future[64] = { 1 };

	for (size_t i = 0; i < 2; i++) {
		struct perf_event_attr attr = plain_attr(TYPE, 0, 0);
		struct bytes file = { 0 };
		struct run *run;
		size_t begin;

		attr.size = i ? sizes[i] : 0; /* 0 is what the oldest say */
		pipe_header(&file);
		begin = record_begin(&file, 64, 0);
		bytes_add(&file, &attr, i ? sizeof(attr) : sizes[i]);
		bytes_add(&file, future, i ? sizeof(future) : 0);
		record_end(&file, begin);
		three(&file);
		run = run_fd(bytes_pipe(&file));
		check_three(run);
		free(run);
		bytes_deinit(&file);
	}
}

static void test_lost(void)
{
	struct bytes file = { 0 }, records = { 0 };
	struct built_sample s = { .pid = 7, .tid = 8, .time_ns = 50 };
	struct run *run;
	size_t begin;

	begin = record_begin(&records, PERF_RECORD_LOST, 0);
	bytes_u64(&records, 5);
	bytes_u64(&records, 12);
	add_trailer(&records, TYPE, &s);
	record_end(&records, begin);
	begin = record_begin(&records, PERF_RECORD_LOST_SAMPLES, 0);
	bytes_u64(&records, 9);
	add_trailer(&records, TYPE, &s);
	record_end(&records, begin);
	begin = record_begin(&records, PERF_RECORD_THROTTLE, 0);
	bytes_u64(&records, 50);
	bytes_u64(&records, 5);
	bytes_u64(&records, 5);
	add_trailer(&records, TYPE, &s);
	record_end(&records, begin);
	three(&records);
	simple_file(&file, &records);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->counts.samples == 3);
	CHECK(run->counts.lost == 12 && run->counts.lost_samples == 9);
	CHECK(run->counts.throttled == 1);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

static const uint64_t DUMP_TYPE = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
				  PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER |
				  PERF_SAMPLE_STACK_USER;

/* Samples with dumps of all sizes; the unused part of a large dump is never read. */
static void add_dumps(struct bytes *records, uint64_t *sums, size_t num)
{
	static uint8_t stack[65000];
	uint64_t regs[3] = { 1, 2, 3 }, chain[200];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < 200; i++)
		chain[i] = i;
	for (size_t i = 0; i < num; i++) {
		struct built_sample s = {
			.time_ns = 1000 + i,
			.ip = i,
			.pid = 1,
			.tid = 2,
			.chain = chain,
			.num_chain = i % 11 == 0 ? 200 : i % 3,
			.regs = i % 7 ? regs : NULL,
			.num_regs = 3,
			.stack = stack + i,
			.stack_size = i % 5 == 4 ? 0 : i % 5 == 3 ? 4096 : i % 5 == 2 ? 60000 : 32768,
		};

		s.stack_bytes = s.stack_size * (i % 9) / 8;
		add_sample(records, DUMP_TYPE, &s);
		sums[i] = sum_of(stack + i, s.stack_bytes);
	}
}

static void check_dumps(const struct run *run, const uint64_t *sums, size_t num)
{
	CHECK(run->r == 0 && run->seen.num == num && run->counts.malformed == 0);
	for (size_t i = 0; i < num && i < run->seen.num; i++) {
		CHECK(run->seen.records[i].ip == i);
		CHECK_MSG(run->seen.records[i].stack_sum == sums[i], "sample %zu", i);
	}
}

static void test_dumps(void)
{
	enum { NUM = 90, MIN_RESTS = 40 };
	struct built_event event = { .attr = plain_attr(DUMP_TYPE, 0x13, 32768) };
	struct bytes file = { 0 }, records = { 0 };
	uint64_t sums[NUM];
	struct run *run;
	uint16_t size;
	size_t data;

	add_dumps(&records, sums, NUM);
	finished_file(&file, &event, 1, &records);
	memcpy(&data, file.v.data + AT_DATA_OFFSET, sizeof(data));
	run = run_fd(bytes_file(&file));
	check_dumps(run, sums, NUM);
	CHECK(run->counts.bytes == records.v.len && !run->info.unfinished && !run->seen.num_rests);
	free(run);
	run = run_sink(bytes_file(&file), true);
	check_dumps(run, sums, NUM);
	CHECK_MSG(run->seen.num_rests >= MIN_RESTS && !run->seen.num_short, "%zu", run->seen.num_rests);
	CHECK(run->counts.bytes == records.v.len && !run->info.unfinished);
	free(run);

	/* dyn_size beyond the dump: that sample is worthless, the others are not. */
	memcpy(&size, file.v.data + data + 6, sizeof(size));
	bytes_set_u64(&file, data + size - 8, 32769);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->seen.num == NUM - 1 && run->counts.malformed == 1);
	free(run);

	/* It shrinks after its header was read: it is one that ends early. */
	build_file(&file, &event, 1, &records, NULL, 0);
	file.v.len -= 100000;
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->info.unfinished);
	CHECK(run->counts.samples > NUM - 10 && run->counts.samples < NUM);
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&records);
}

/* A directory of `perf record --threads`: a main file and parts, each sorted, merged by time. */
static void test_parts(void)
{
	struct bytes file = { 0 }, records = { 0 }, part[2] = { 0 };
	struct perfdata *in[3] = { 0 };
	struct run *run = calloc(1, sizeof(*run));
	struct perfdata_sink sink = { .record = see, .build_id = see_id };
	struct feature feature = { .bit = 24 };
	struct built_event event = { .attr = plain_attr(TYPE, 0, 0) };
	struct err err = { 0 };

	if (!run)
		exit(1);
	sink.data = &run->seen;
	bytes_u64(&feature.bytes, 1);
	add_round(&records);
	build_file(&file, &event, 1, &records, &feature, 1);
	for (uint64_t i = 0; i < 2000; i++)
		sample_at(&part[i % 3 == 0], 1000 + i, i);
	CHECK(perfdata_open(bytes_file(&file), &in[0], &err) == 0);
	CHECK(perfdata_info(in[0])->directory);
	CHECK(perfdata_open_part(bytes_file(&part[0]), in[0], 2, &in[1], &err) == 0);
	CHECK(perfdata_open_part(bytes_file(&part[1]), in[0], 2, &in[2], &err) == 0);
	CHECK_MSG(perfdata_run(in, 3, &sink, &err) == 0, "%s", err.msg);
	CHECK(run->seen.num == 2000);
	for (uint64_t i = 0; i < run->seen.num; i++)
		CHECK(run->seen.records[i].ip == i);
	for (size_t i = 3; i-- > 0;)
		perfdata_close(in[i]);
	bytes_deinit(&part[0]);
	bytes_deinit(&part[1]);
	bytes_deinit(&feature.bytes);
	bytes_deinit(&file);
	bytes_deinit(&records);
	free(run);
}

#ifdef HAVE_ZSTD
#include <zstd.h>

/* One stream, cut into records of `piece` bytes, as perf cuts it. `type` 81, or 83 with its own size and padding. */
static void pack(struct bytes *out, const struct bytes *plain, uint32_t type, size_t piece)
{
	ZSTD_CStream *z = ZSTD_createCStream();
	ZSTD_inBuffer in = { plain->v.data, plain->v.len, 0 };
	size_t cap = ZSTD_compressBound(plain->v.len), left;
	uint8_t *all = malloc(cap);
	ZSTD_outBuffer to = { all, cap, 0 };

	if (!z || !all)
		exit(1);
	ZSTD_initCStream(z, 1);
	left = ZSTD_compressStream2(z, &to, &in, ZSTD_e_end);
	CHECK(left == 0);
	for (size_t at = 0; at < to.pos; at += piece) {
		size_t len = to.pos - at < piece ? to.pos - at : piece;
		size_t begin = record_begin(out, type, 0);

		if (type == 83)
			bytes_u64(out, len);
		bytes_add(out, all + at, len);
		if (type == 83)
			bytes_pad(out, 8);
		record_end(out, begin);
	}
	ZSTD_freeCStream(z);
	free(all);
}

static void test_compressed(void)
{
	enum { NUM = 90 };
	static const size_t pieces[] = { 7, 1000, 60000 };
	struct built_event event = { .attr = plain_attr(DUMP_TYPE, 0x13, 32768) };
	struct bytes file = { 0 }, records = { 0 }, packed = { 0 }, bomb = { 0 };
	uint64_t sums[NUM];
	struct run *run;

	add_dumps(&records, sums, NUM);
	for (uint32_t type = 81; type <= 83; type += 2) {
		for (size_t i = 0; i < 3; i++) {
			packed.v.len = 0;
			pack(&packed, &records, type, pieces[i]);
			finished_file(&file, &event, 1, &packed);
			run = run_fd(bytes_file(&file));
			check_dumps(run, sums, NUM);
			CHECK(run->info.compressed && !run->info.unfinished);
			free(run);
		}
	}

	/* The last piece is missing: what was whole is there. */
	packed.v.len = 0;
	pack(&packed, &records, 83, 1000);
	packed.v.len -= 3000;
	finished_file(&file, &event, 1, &packed);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == 0 && run->info.unfinished && run->counts.samples > 0);
	free(run);

	/* Damage is an error, with what came before it. */
	packed.v.len = 0;
	pack(&packed, &records, 81, 1000);
	memset(packed.v.data + packed.v.len / 2, 0xff, 64);
	finished_file(&file, &event, 1, &packed);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -EBADMSG);
	free(run);

	/* perf's 16-bit twin of the size has wrapped. */
	packed.v.len = 0;
	pack(&packed, &records, 83, 1000);
	bytes_set_u64(&packed, 8, 66000);
	finished_file(&file, &event, 1, &packed);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -EBADMSG && strstr(run->err.msg, "record without -z"));
	free(run);

	/* 256 MiB out of a few KiB. */
	CHECK(vec_reserve(&bomb.v, 256u << 20));
	bomb.v.len = 256u << 20;
	for (size_t i = 0; i < bomb.v.len; i += 65528) {
		struct perf_event_header header = { .type = 12, .size = 65528 };

		memset(bomb.v.data + i, 0, bomb.v.len - i < 65528 ? bomb.v.len - i : 65528);
		if (bomb.v.len - i >= 65528)
			memcpy(bomb.v.data + i, &header, sizeof(header));
	}
	packed.v.len = 0;
	pack(&packed, &bomb, 81, 60000);
	finished_file(&file, &event, 1, &packed);
	run = run_fd(bytes_file(&file));
	CHECK_MSG(run->r == -EBADMSG && strstr(run->err.msg, "grows more than"), "%s", run->err.msg);
	free(run);
	bytes_deinit(&bomb);
	bytes_deinit(&file);
	bytes_deinit(&records);
	bytes_deinit(&packed);
}
#else
static void test_compressed(void)
{
	struct built_event event = { .attr = plain_attr(DUMP_TYPE, 0x13, 32768) };
	struct bytes file = { 0 }, packed = { 0 };
	struct run *run;
	size_t begin = record_begin(&packed, 81, 0);

	bytes_u64(&packed, 0);
	record_end(&packed, begin);
	finished_file(&file, &event, 1, &packed);
	run = run_fd(bytes_file(&file));
	CHECK(run->r == -ENOTSUP && strstr(run->err.msg, "zstd"));
	free(run);
	bytes_deinit(&file);
	bytes_deinit(&packed);
}
#endif

int main(void)
{
	test_file();
	test_header();
	test_ids();
	test_magic();
	test_truncation();
	test_bad_records();
	test_events();
	test_groups();
	test_deferred();
	test_deferred_many();
	test_order();
	test_pipe();
	test_attr_ages();
	test_lost();
	test_dumps();
	test_parts();
	test_compressed();
	return check_done();
}
