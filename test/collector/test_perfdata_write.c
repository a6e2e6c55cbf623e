/* What is written reads back the same, at every moment, and says when it was not finished. */
#include "collector/perfdata.h"
#include "collector/perfdata_write.h"

#include "base/err.h"
#include "test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUM_REGS = 3, MAX_SEEN = 64 };

static const struct perf_event_attr sample_attr = {
	.type = PERF_TYPE_SOFTWARE,
	.config = PERF_COUNT_SW_CPU_CLOCK,
	.size = sizeof(struct perf_event_attr),
	.freq = 1,
	.sample_freq = 99,
	.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
		       PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN |
		       PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER | PERF_SAMPLE_RAW,
	.sample_regs_user = 7,
	.sample_stack_user = 4096,
	.sample_id_all = 1,
	.use_clockid = 1,
	.clockid = 1,
};
static const struct perf_event_attr side_attr = {
	.type = PERF_TYPE_SOFTWARE,
	.config = PERF_COUNT_SW_DUMMY,
	.size = sizeof(struct perf_event_attr),
	.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU,
	.sample_id_all = 1,
};
static const uint64_t chain[] = { PERF_CONTEXT_KERNEL, 0xffffffff81000010, PERF_CONTEXT_USER, 0x401000 };
static const uint64_t regs[NUM_REGS] = { 1, 2, 0x7ffc0000 };
static uint8_t stack[4096];
static char *const argv[] = { (char *)"record", NULL };

static struct perfdata_writer *begin(int fd, bool stream)
{
	const struct perfdata_write_event events[] = { { &sample_attr, "cpu-clock" }, { &side_attr, "dummy:u" } };
	struct perfdata_write_opts opts = { .events = events, .num_events = 2, .stream = stream,
					    .version = "test", .program = "ringfold", .argv = argv, .cpu = "a CPU", .mem_kib = 7 };
	struct perfdata_writer *w = NULL;
	struct err err = { 0 };

	CHECK_MSG(perfdata_write_begin(dup(fd), &opts, &w, &err) == 0, "%s", err.msg);
	if (!w)
		exit(1);
	return w;
}

static struct record sample_at(uint64_t time_ns, size_t filled)
{
	return (struct record){
		.type = RECORD_SAMPLE, .raw_type = PERF_RECORD_SAMPLE, .misc = PERF_RECORD_MISC_USER,
		.time_ns = time_ns, .cpu = 1, .pid = 42, .tid = 43,
		.sample = { .ip = 0x401000, .period = 10101010, .mode = MODE_USER, .chain = chain,
			    .num_chain = 4, .regs_abi = 2, .regs = regs, .num_regs = NUM_REGS,
			    .stack = filled ? stack : NULL, .stack_bytes = filled,
			    .stack_size = filled ? sizeof(stack) : 0 },
	};
}

static void write_sample(struct perfdata_writer *w, uint64_t time_ns, size_t filled)
{
	struct record rec = sample_at(time_ns, filled);

	perfdata_write_record(w, &rec, 0);
}

static void write_sides(struct perfdata_writer *w)
{
	struct record rec = { .type = RECORD_MMAP, .raw_type = PERF_RECORD_MMAP2, .misc = 2, .pid = 42,
			      .tid = 42, .cpu = 0, .time_ns = 0 };

	rec.mmap.start = 0x400000;
	rec.mmap.len = 0x1000;
	rec.mmap.pgoff = 0x2000;
	rec.mmap.maj = 8;
	rec.mmap.min = 1;
	rec.mmap.ino = 77;
	rec.mmap.ino_generation = 5;
	rec.mmap.prot = PROT_READ | PROT_EXEC;
	rec.mmap.flags = MAP_PRIVATE;
	rec.mmap.path = "/bin/12345678"; /* with its NUL more than a multiple of 8 */
	rec.mmap.path_len = strlen(rec.mmap.path);
	perfdata_write_record(w, &rec, 1);
	rec = (struct record){ .type = RECORD_COMM, .raw_type = PERF_RECORD_COMM, .misc = 1 << 13, .pid = 42,
			       .tid = 43, .time_ns = 100 };
	rec.comm.comm = "1234567"; /* with its NUL a multiple of 8 */
	rec.comm.len = 7;
	perfdata_write_record(w, &rec, 1);
	rec = (struct record){ .type = RECORD_FORK, .raw_type = PERF_RECORD_FORK, .pid = 50, .tid = 51,
			       .time_ns = 110, .task = { .ppid = 42, .ptid = 43 } };
	perfdata_write_record(w, &rec, 1);
	rec = (struct record){ .type = RECORD_LOST, .raw_type = PERF_RECORD_LOST, .pid = 0, .tid = 0,
			       .time_ns = 120, .lost = { .id = 9, .count = 17 } };
	perfdata_write_record(w, &rec, 0);
	rec = (struct record){ .type = RECORD_SWITCH, .raw_type = PERF_RECORD_SWITCH_CPU_WIDE,
			       .misc = 1 << 13, .time_ns = 130, .pid = 1, .tid = 1,
			       .switching = { .out = true, .other_pid = 8, .other_tid = 9 } };
	perfdata_write_record(w, &rec, 1);
	rec = (struct record){ .type = RECORD_KSYMBOL, .raw_type = PERF_RECORD_KSYMBOL, .time_ns = 135, .pid = 1, .tid = 1,
			       .ksymbol = { 0xffffffffc0001000, 1664, 1, 1, "bpf_prog", 8 } };
	perfdata_write_record(w, &rec, 1);
	rec = (struct record){ .type = RECORD_OTHER, .raw_type = PERF_RECORD_AUX, .time_ns = 140 };
	perfdata_write_record(w, &rec, 1);
}

struct seen {
	struct record rec[MAX_SEEN];
	char text[MAX_SEEN][64];
	uint64_t chain[MAX_SEEN][8], regs[MAX_SEEN][8];
	uint8_t stack[MAX_SEEN][4096];
	size_t event[MAX_SEEN], num, num_ids, num_before_ids;
	struct perfdata_counts counts;
	bool unfinished;
	uint64_t *keep; /* of the first sample, where it has a chain of its own */
	int r;
};

static void see(void *data, const struct record *rec, size_t event)
{
	struct seen *s = data;
	size_t i = s->num < MAX_SEEN ? s->num : MAX_SEEN - 1;

	s->num++;
	s->rec[i] = *rec;
	s->event[i] = event;
	if (rec->type == RECORD_MMAP)
		snprintf(s->text[i], 64, "%.*s", (int)rec->mmap.path_len, rec->mmap.path);
	if (rec->type == RECORD_COMM)
		snprintf(s->text[i], 64, "%.*s", (int)rec->comm.len, rec->comm.comm);
	if (rec->type == RECORD_KSYMBOL)
		snprintf(s->text[i], 64, "%.*s", (int)rec->ksymbol.name_len, rec->ksymbol.name);
	if (rec->type != RECORD_SAMPLE)
		return;
	memcpy(s->chain[i], rec->sample.chain, rec->sample.num_chain * 8);
	if (rec->sample.regs)
		memcpy(s->regs[i], rec->sample.regs, rec->sample.num_regs * 8);
	if (s->keep && rec->sample.user_chain)
		memcpy(s->keep, rec->sample.user_chain, rec->sample.num_user_chain * 8);
	if (rec->sample.stack && rec->sample.stack_bytes <= sizeof(s->stack[i]))
		memcpy(s->stack[i], rec->sample.stack, rec->sample.stack_bytes);
}

static void see_id(void *data, const struct perfdata_build_id *id)
{
	struct seen *s = data;

	s->num_ids++;
	s->num_before_ids = s->num;
	CHECK(id->id_len == 20 && id->id[0] == 0xab && id->id[19] == 0xcd);
	CHECK_STR(id->path, "/bin/12345678");
}

static struct seen *read_back(int fd)
{
	struct perfdata_sink sink = { .record = see, .build_id = see_id };
	struct seen *s = calloc(1, sizeof(*s));
	struct perfdata *p = NULL;
	struct err err = { 0 };

	sink.data = s;
	s->r = perfdata_open(dup(fd), &p, &err);
	CHECK_MSG(s->r == 0, "%s", err.msg);
	if (s->r < 0)
		return s;
	s->r = perfdata_run(&p, 1, &sink, &err);
	CHECK_MSG(s->r == 0, "%s", err.msg);
	s->counts = perfdata_counts(p);
	s->unfinished = perfdata_info(p)->unfinished;
	CHECK(perfdata_info(p)->num_events == 2);
	if (!s->unfinished) {
		CHECK_STR(perfdata_info(p)->events[0].name, "cpu-clock");
		CHECK_STR(perfdata_info(p)->events[1].name, "dummy:u");
		CHECK_STR(perfdata_info(p)->cmdline, "ringfold record");
		CHECK(perfdata_info(p)->has_clockid && perfdata_info(p)->clockid == 1);
		CHECK(perfdata_info(p)->hostname && perfdata_info(p)->os_release && perfdata_info(p)->arch);
	}
	perfdata_close(p);
	return s;
}

static void check_sample(const struct seen *s, size_t i, uint64_t time_ns, size_t filled)
{
	const struct record *rec = &s->rec[i];

	CHECK(rec->type == RECORD_SAMPLE && s->event[i] == 0);
	CHECK_MSG(rec->time_ns == time_ns, "%llu", (unsigned long long)rec->time_ns);
	CHECK(rec->pid == 42 && rec->tid == 43 && rec->cpu == 1 && rec->sample.ip == 0x401000);
	CHECK(rec->sample.period == 10101010 && rec->sample.mode == MODE_USER);
	CHECK(rec->sample.num_chain == 2 && !memcmp(s->chain[i], chain, 2 * sizeof(chain[0])));
	CHECK(rec->sample.regs_abi == 2 && !memcmp(s->regs[i], regs, sizeof(regs)));
	CHECK_MSG(rec->sample.stack_bytes == filled, "%zu", rec->sample.stack_bytes);
	CHECK(!memcmp(s->stack[i], stack, filled));
	/* Full dumps stay full and the others do not become it. */
	CHECK((rec->sample.stack_bytes == rec->sample.stack_size) == (filled == sizeof(stack) || !filled));
	CHECK(rec->sample.stack_size <= filled + 8);
}

static const uint8_t build_id[20] = { [0] = 0xab, [19] = 0xcd };

static const size_t filled[] = { 0, 1, 8, 1000, 1003, 4088, 4095, 4096 };
enum { NUM_FILLED = sizeof(filled) / sizeof(filled[0]) };

static void write_all(struct perfdata_writer *w)
{
	const struct record lost_side = { .type = RECORD_LOST, .raw_type = PERF_RECORD_LOST, .time_ns = 300,
					  .lost = { .count = 5, .side = true } };

	write_sides(w);
	CHECK(perfdata_write_build_id_now(w, false, build_id, sizeof(build_id), "/bin/12345678"));
	for (size_t i = 0; i < NUM_FILLED; i++)
		write_sample(w, 200 + i, filled[i]);
	perfdata_write_record(w, &lost_side, 1);
	perfdata_write_lost(w, 21, 0);
	CHECK(perfdata_write_build_id(w, false, build_id, sizeof(build_id), "/bin/12345678"));
	CHECK(perfdata_write_end(w, NULL) == 0);
	perfdata_writer_free(w);
}

static void check_all(struct seen *s)
{
	size_t at = 6;

	CHECK(!s->unfinished && s->counts.malformed == 0 && s->counts.unknown == 0 && s->counts.disorder == 0);
	CHECK(s->counts.lost == 17 && s->counts.lost_side == 5 && s->counts.lost_samples == 21 && s->num_ids == 1);
	CHECK(s->rec[0].type == RECORD_MMAP && s->rec[0].time_ns == 0 && s->rec[0].pid == 42);
	CHECK(s->rec[0].mmap.start == 0x400000 && s->rec[0].mmap.len == 0x1000);
	CHECK(s->rec[0].mmap.pgoff == 0x2000 && s->rec[0].mmap.maj == 8 && s->rec[0].mmap.min == 1);
	CHECK(s->rec[0].mmap.ino == 77 && s->rec[0].mmap.ino_generation == 5 && s->rec[0].mmap.executable);
	CHECK_STR(s->text[0], "/bin/12345678");
	CHECK(s->rec[1].type == RECORD_COMM && s->rec[1].comm.exec && s->rec[1].tid == 43);
	CHECK_STR(s->text[1], "1234567");
	CHECK(s->rec[2].type == RECORD_FORK && s->rec[2].pid == 50 && s->rec[2].tid == 51);
	CHECK(s->rec[2].task.ppid == 42 && s->rec[2].task.ptid == 43 && s->rec[2].time_ns == 110);
	CHECK(s->rec[3].type == RECORD_LOST && s->rec[3].lost.count == 17);
	CHECK(s->rec[4].type == RECORD_SWITCH && s->rec[4].switching.out && s->rec[4].switching.other_tid == 9);
	CHECK(s->rec[5].type == RECORD_KSYMBOL && s->rec[5].ksymbol.start == 0xffffffffc0001000);
	CHECK(s->rec[5].ksymbol.len == 1664 && s->rec[5].ksymbol.type == 1 && s->rec[5].ksymbol.flags == 1);
	CHECK_STR(s->text[5], "bpf_prog");
	for (size_t i = 0; i < NUM_FILLED; i++)
		check_sample(s, at + i, 200 + i, filled[i]);
	free(s);
}

static int empty_file(void)
{
	int fd = memfd_create("perf.data", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void test_file(void)
{
	int fd = empty_file();

	write_all(begin(fd, false));
	check_all(read_back(fd));
	close(fd);
}

static void test_stream(void)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0);
	write_all(begin(fds[1], true));
	close(fds[1]);
	check_all(read_back(fds[0]));
	close(fds[0]);
}

/* Whatever was flushed is there and told as unfinished; what a kill left behind it is read as far as it is whole. */
static void test_killed(void)
{
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	struct seen *s;

	for (size_t i = 0; i < 5; i++) {
		write_sample(w, 200 + i, 1000);
		CHECK(perfdata_write_flush(w, true, NULL) == 0);
		s = read_back(fd);
		CHECK(s->unfinished);
		CHECK_MSG(s->num == i + 1, "%zu", s->num);
		for (size_t j = 0; j <= i; j++)
			check_sample(s, j, 200 + j, 1000);
		free(s);
	}
	write_sample(w, 300, 1000); /* not flushed: not there */
	CHECK(lseek(fd, 0, SEEK_END) == (off_t)perfdata_written(w));
	CHECK(write(fd, "\t\0\0\0\1\0", 6) == 6); /* the first bytes of a sample */
	s = read_back(fd);
	CHECK(s->unfinished && s->num == 5);
	free(s);
	perfdata_writer_free(w);
	close(fd);
}

/* What a killed recording told among its records is known before the first of them; behind the table it is not told again. */
static void test_killed_ids(void)
{
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	uint64_t before;
	struct seen *s;

	write_sides(w);
	for (size_t i = 0; i < 20; i++)
		write_sample(w, 200 + i, 4096);
	CHECK(perfdata_write_flush(w, true, NULL) == 0);
	before = perfdata_written(w);
	CHECK(perfdata_write_build_id_now(w, false, build_id, sizeof(build_id), "/bin/12345678"));
	write_sample(w, 300, 8);
	CHECK(perfdata_write_flush(w, true, NULL) == 0);
	s = read_back(fd);
	CHECK(s->unfinished && s->num == 27 && s->num_ids == 1 && s->num_before_ids == 0);
	CHECK(s->counts.malformed == 0 && s->counts.unknown == 0 && s->counts.disorder == 0);
	free(s);
	/* Cut in the middle of the record: it is none. */
	CHECK(ftruncate(fd, (off_t)before + 40) == 0);
	s = read_back(fd);
	CHECK(s->unfinished && s->num == 26 && s->num_ids == 0);
	free(s);
	perfdata_writer_free(w);
	close(fd);
}

/* Small amounts wait, at most a second; much does not wait. */
static void test_flush(void)
{
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	uint64_t before = perfdata_written(w);

	write_sample(w, 1, 4096);
	CHECK(perfdata_write_flush(w, false, NULL) == 0);
	CHECK(perfdata_written(w) == before);
	for (size_t i = 0; i < 100; i++)
		write_sample(w, 2 + i, 4096);
	CHECK(perfdata_write_flush(w, false, NULL) == 0);
	CHECK(perfdata_written(w) > before + 400000);
	/* More than the buffer holds. */
	for (size_t i = 0; i < 1000; i++)
		write_sample(w, 200 + i, 4096);
	CHECK(perfdata_write_flush(w, true, NULL) == 0);
	CHECK(perfdata_written(w) > before + 4400000);
	perfdata_writer_free(w);
	close(fd);
}

/* A disk that is full: all records that it has room for are readable, and it is said each time. */
static void test_full(void)
{
	struct rlimit limit = { .rlim_cur = 600000, .rlim_max = RLIM_INFINITY };
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	struct err err = { 0 };
	struct stat st;
	struct seen *s;
	uint64_t section[2];
	size_t good = 0;

	signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	for (size_t i = 0; i < 40; i++) {
		for (size_t j = 0; j < 10; j++)
			write_sample(w, 1 + i * 10 + j, 4096);
		if (perfdata_write_flush(w, true, &err) == 0)
			good += 10;
	}
	CHECK_MSG(good == 140, "%zu", good);
	CHECK(err.code == EFBIG);
	CHECK(perfdata_write_end(w, &err) == -EFBIG);
	perfdata_writer_free(w);
	limit.rlim_cur = RLIM_INFINITY;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	s = read_back(fd);
	CHECK(s->unfinished && s->counts.malformed == 0);
	CHECK_MSG(s->num > good && s->num < good + 10, "%zu", s->num);
	CHECK(fstat(fd, &st) == 0 && st.st_size < 600000 && st.st_size > 600000 - 4400);
	/* And perf, which believes the header, reads them all. */
	CHECK(pread(fd, section, sizeof(section), 40) == sizeof(section));
	CHECK(section[0] + section[1] == (uint64_t)st.st_size);
	free(s);
	close(fd);
}

/* A record that its size could not tell is left out, and the next one is not harmed. */
static void test_too_long(void)
{
	static uint64_t long_chain[9000];
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	struct record rec = sample_at(5, 0);
	struct seen *s;

	rec.sample.chain = long_chain;
	rec.sample.num_chain = 9000;
	perfdata_write_record(w, &rec, 0);
	write_sample(w, 6, 8);
	CHECK(perfdata_write_end(w, NULL) == 0);
	perfdata_writer_free(w);
	s = read_back(fd);
	CHECK(s->num == 1);
	check_sample(s, 0, 6, 8);
	free(s);
	close(fd);
}

/* Words of the file, 8 by 8 as a stack is read, from first to before end. */
static size_t count_words(int fd, uint64_t first, uint64_t end)
{
	static uint64_t words[8192];
	ssize_t n = pread(fd, words, sizeof(words), 0);
	size_t found = 0;

	for (size_t i = 0; n > 0 && i < (size_t)n / 8; i++)
		found += words[i] >= first && words[i] < end;
	return found;
}

/* What the session made of a sample reaches the file's reader: that the copy was cut, and how the stack goes on. */
static void check_chain(size_t bytes, size_t num, bool full)
{
	static uint64_t user[300], got[300];
	static uint8_t big[16384];
	struct record rec = sample_at(7, sizeof(stack));
	struct perfdata_sink sink = { .record = see, .build_id = see_id };
	struct perfdata *p = NULL;
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	struct seen *s = calloc(1, sizeof(*s));
	const uint64_t *chain_back;

	for (size_t i = 0; i < num; i++)
		user[i] = 0x400000 + i;
	rec.sample.stack = big;
	rec.sample.stack_bytes = bytes;
	rec.sample.stack_size = full ? bytes : 65528;
	rec.sample.user_chain = user;
	rec.sample.num_user_chain = num;
	perfdata_write_record(w, &rec, 0);
	rec.time_ns = 8;
	rec.sample.user_chain = NULL;
	perfdata_write_record(w, &rec, 0);
	CHECK(perfdata_write_end(w, NULL) == 0);
	perfdata_writer_free(w);
	/* Who takes what lies behind a copy for the stack finds no address there. */
	CHECK(count_words(fd, 0x400000, 0x400000 + 300) == 0 && count_words(fd, 0x401000, 0x401001) >= 2);
	sink.data = s;
	s->keep = got;
	CHECK(perfdata_open(fd, &p, NULL) == 0 && perfdata_run(&p, 1, &sink, NULL) == 0);
	CHECK_MSG(s->num == 2 && s->counts.malformed == 0, "%zu", s->num);
	CHECK(s->rec[0].sample.num_user_chain == (num <= 254 ? num : 0) && !s->rec[1].sample.user_chain);
	if (num <= 254)
		CHECK(!memcmp(got, user, num * sizeof(user[0])));
	for (size_t i = 0; i < 2; i++)
		CHECK(s->rec[i].sample.stack_bytes == bytes && (s->rec[i].sample.stack_size == bytes) == full);
	CHECK(record_user_chain(&s->rec[1].sample, &chain_back) == 0);
	free(s);
	perfdata_close(p);
}

static void test_chain(void)
{
	for (int full = 0; full < 2; full++) {
		check_chain(2048, 3, full);    /* read as a whole */
		check_chain(8192, 127, full);  /* by a dump that is read later */
		check_chain(16384, 254, full); /* the longest */
		check_chain(16384, 255, full);
		check_chain(4096, 0, full);
	}
}

/* A reader holds two or three rounds: they must not be as long as a second of a busy machine. */
static void test_rounds(void)
{
	static uint8_t bytes[3 << 20];
	int fd = empty_file();
	struct perfdata_writer *w = begin(fd, false);
	size_t since = 0, most = 0;
	uint64_t at, size;

	for (uint64_t i = 0; i < 600; i++)
		write_sample(w, 200 + i, sizeof(stack));
	CHECK(perfdata_write_end(w, NULL) == 0);
	perfdata_writer_free(w);
	CHECK(pread(fd, bytes, sizeof(bytes), 0) > 2 << 20);
	memcpy(&at, bytes + 40, sizeof(at)); /* struct perf_file_header: where the data is */
	memcpy(&size, bytes + 48, sizeof(size));
	for (uint64_t end = at + size; at < end;) {
		struct perf_event_header header;

		memcpy(&header, bytes + at, sizeof(header));
		CHECK(header.size >= sizeof(header));
		since = header.type == 68 ? 0 : since + header.size;
		most = since > most ? since : most;
		at += header.size;
	}
	CHECK_MSG(most >= 256 << 10 && most < 300 << 10, "%zu", most);
	close(fd);
}

/* perf opens no file with a tracepoint of which it is not told the fields. */
static void test_tracepoint(void)
{
	static const char want[] = "sched\0\1\0\0\0", format[] = "name: sched_switch\nID: 372\nformat:\n";
	struct perf_event_attr attr = sample_attr;
	const struct perfdata_write_event event = { &attr, "sched:sched_switch:u" };
	struct perfdata_write_opts opts = { .events = &event, .num_events = 1, .version = "test" };
	struct perfdata_writer *w = NULL;
	static char bytes[65536];
	int fd = empty_file();
	const char *at;
	ssize_t n;

	attr.type = PERF_TYPE_TRACEPOINT;
	attr.config = 372;
	CHECK(perfdata_write_begin(dup(fd), &opts, &w, NULL) == 0);
	write_sample(w, 5, 0);
	CHECK(perfdata_write_end(w, NULL) == 0);
	perfdata_writer_free(w);
	n = pread(fd, bytes, sizeof(bytes), 0);
	CHECK(n > 0 && memmem(bytes, (size_t)n, "tracing0.6\0\0\10", 13));
	at = n > 0 ? memmem(bytes, (size_t)n, want, sizeof(want) - 1) : NULL;
	CHECK(at && !strncmp(at + sizeof(want) - 1 + 8, format, sizeof(format) - 1));
	close(fd);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = (uint8_t)(i * 7 + 1);
	test_file();
	test_stream();
	test_killed();
	test_killed_ids();
	test_flush();
	test_full();
	test_too_long();
	test_chain();
	test_rounds();
	test_tracepoint();
	return check_done();
}
