#include "collector/event_priv.h"

#include "base/err.h"
#include "collector/collector.h"
#include "test/check.h"

#include <errno.h>
#include <time.h>

static void test_names(void)
{
	static const struct {
		const char *text;
		uint32_t type;
		uint64_t config;
		bool user, kernel;
		const char *name;
	} cases[] = {
		{ "cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, false, false, "cycles" },
		{ "cycles:u", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, false, true, "cycles" },
		{ "cpu-clock:k", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, true, false,
		  "cpu-clock" },
		{ "cpu-clock:uk", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, false, false,
		  "cpu-clock" },
		{ "cs", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES, false, false, "cs" },
		{ "LLC-load-misses", PERF_TYPE_HW_CACHE, 0x10002, false, false, "LLC-load-misses" },
	};
	struct event_choice choice;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(event_parse(cases[i].text, NULL, &choice, NULL) == 0);
		CHECK(choice.type == cases[i].type && choice.config == cases[i].config &&
		      !choice.tracepoint);
		CHECK(choice.exclude_user == cases[i].user &&
		      choice.exclude_kernel == cases[i].kernel);
		CHECK_STR(choice.name, cases[i].name);
	}
}

static void test_bad_names(void)
{
	static const char *const bad[] = { "", "cycle", "CYCLES", "cpu-clock,cycles", ":u" };
	struct event_choice choice;
	char longer[400];
	struct err err = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_MSG(event_parse(bad[i], NULL, &choice, &err) == -EINVAL, "%s", bad[i]);
		CHECK(strstr(err.msg, "cpu-clock"));
	}
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	CHECK(event_parse(longer, NULL, &choice, &err) == -EINVAL);
}

static void test_sample_attr(void)
{
	struct collector_opts opts = { .target = TARGET_PIDS,
				       .user_regs = 0xff,
				       .no_user_chain = true };
	struct event_choice choice;
	struct perf_event_attr attr;

	CHECK(event_parse("cpu-clock", NULL, &choice, NULL) == 0);
	event_sample_attr(&choice, &opts, 199, 8192, 65536, &attr);
	CHECK(attr.sample_type ==
	      (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
	       PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN |
	       PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER));
	CHECK(attr.freq && attr.sample_freq == 199 && attr.sample_stack_user == 8192 &&
	      attr.sample_regs_user == 0xff);
	CHECK(attr.use_clockid && attr.clockid == CLOCK_MONOTONIC && attr.sample_id_all &&
	      attr.disabled && attr.inherit);
	CHECK(attr.watermark && attr.wakeup_watermark == 65536 && !attr.enable_on_exec &&
	      !attr.mmap);
	CHECK(attr.exclude_callchain_user && !attr.exclude_callchain_kernel && !attr.exclude_guest);
	opts = (struct collector_opts){ .target = TARGET_COMMAND,
					.period = 1000,
					.no_kernel = true };
	event_sample_attr(&choice, &opts, 199, 0, 65536, &attr);
	CHECK(!attr.freq && attr.sample_period == 1000 && attr.enable_on_exec && attr.inherit);
	CHECK(!(attr.sample_type & (PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER)) &&
	      attr.exclude_callchain_kernel);
	opts.target = TARGET_TIDS;
	event_sample_attr(&choice, &opts, 199, 0, 65536, &attr);
	CHECK(!attr.inherit && !attr.enable_on_exec);
	opts = (struct collector_opts){ .target = TARGET_ALL };
	choice.tracepoint = true;
	event_sample_attr(&choice, &opts, 199, 0, 65536, &attr);
	CHECK(!attr.freq && attr.sample_period == 1 && !attr.inherit);
}

static void test_side_attr(void)
{
	struct collector_opts opts = { .target = TARGET_TIDS, .switches = true };
	struct perf_event_attr attr;

	event_side_attr(&opts, 4096, &attr);
	CHECK(attr.type == PERF_TYPE_SOFTWARE && attr.config == PERF_COUNT_SW_DUMMY &&
	      !attr.disabled);
	CHECK(attr.mmap && attr.mmap2 && attr.comm && attr.comm_exec && attr.task &&
	      attr.context_switch);
	CHECK(attr.inherit && attr.exclude_kernel && attr.sample_id_all);
	/* Both kinds end their records alike: one format decodes all rings. */
	CHECK(attr.sample_type ==
	      (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU));
}

int main(void)
{
	test_names();
	test_bad_names();
	test_sample_attr();
	test_side_attr();
	return check_done();
}
