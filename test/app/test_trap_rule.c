#include "app/trap_rule.h"
#include "base/err.h"
#include "test/check.h"

#include <errno.h>
#include <string.h>

static const uint64_t second = 1000000000;

static struct trap_rule parsed(const char *text)
{
	struct err err = { 0 };
	struct trap_rule rule;
	int r = trap_rule_parse(text, &rule, &err);

	if (r)
		printf("%s: %s\n", text, err.msg);
	CHECK(r == 0);
	return rule;
}

static void test_parse(void)
{
	struct trap_rule r = parsed("cpu(container=3f2a)<3%/10s");

	CHECK(r.metric == TRAP_CPU && r.whose == TRAP_CONTAINER && !strcmp(r.name, "3f2a"));
	CHECK(r.compare == TRAP_LESS && r.value == 3 && r.window_ns == 10 * second);
	r = parsed("cpu(pid=17)>=80.5%/250ms");
	CHECK(r.whose == TRAP_PID && r.pid == 17 && r.compare == TRAP_MORE_EQUAL && r.value == 80.5);
	CHECK(r.window_ns == second / 4);
	r = parsed("cpu>90%");
	CHECK(r.whose == TRAP_MACHINE && r.window_ns == second);
	r = parsed("psi(memory,full,cgroup=/a/b)>20%/5s");
	CHECK(r.metric == TRAP_PSI && r.resource == TRAP_PSI_MEMORY && r.full && r.whose == TRAP_CGROUP);
	CHECK(!strcmp(r.name, "/a/b"));
	r = parsed("runq>4/5s");
	CHECK(r.metric == TRAP_RUNQ && r.value == 4);
	r = parsed("start(comm=my server)");
	CHECK(r.metric == TRAP_START && !strcmp(r.name, "my server") && trap_rule_is_event(&r));
	r = parsed("exit(pid=9)");
	CHECK(r.metric == TRAP_EXIT && r.pid == 9);
	r = parsed("status(test $(cat /tmp/x) -gt 3)!=0/2s");
	CHECK(r.metric == TRAP_STATUS && !strcmp(r.name, "test $(cat /tmp/x) -gt 3") && r.compare == TRAP_OTHER_THAN);
}

static void test_refused(void)
{
	static const char *const wrong[] = {
		"", "cpu", "cpu>", "cpu>80", "cpu>80%/", "cpu>80%/0s", "cpu>80%/2h", "cpu(pid=0)>1%", "cpu(pid=x)>1%",
		"cpu(17)>1%", "cpu(pid=1>1%", "cpu(container=)>1%", "memory>1%", "psi>1%", "psi(disk)>1%", "psi(full)>1%",
		"runq(pid=1)>1", "runq>1%", "start", "start(pid=1)", "start(comm=x)>1", "exit(container=a)", "status()==0",
		"cpu>80%x", "cpu>-1%", "cpu > 80%", "cpu=>80%",
	};
	char long_text[400];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct err err = { 0 };
		struct trap_rule rule;

		if (!trap_rule_parse(wrong[i], &rule, &err))
			printf("taken: %s\n", wrong[i]);
		CHECK(trap_rule_parse(wrong[i], &rule, &err) == -EINVAL && err.msg[0]);
	}
	memset(long_text, 'a', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = 0;
	CHECK(trap_rule_parse(long_text, &(struct trap_rule){ 0 }, NULL) == -EINVAL);
}

/* Values every 200 ms; when the rule is due, in ms; -1 = never. */
static int first_due(const struct trap_rule *rule, struct trap_state *state, int from_ms, int to_ms, double value)
{
	for (int ms = from_ms; ms < to_ms; ms += 200) {
		uint64_t now = second + (uint64_t)ms * 1000000;

		trap_state_value(state, rule, now, value);
		if (trap_due(rule, state, 1, false, now))
			return ms;
	}
	return -1;
}

static void test_spike(void)
{
	struct trap_rule rule = parsed("cpu(pid=1)>80%/2s");
	struct trap_state state = { 0 };

	CHECK(first_due(&rule, &state, 0, 5000, 0) == -1);
	/* The mean of 2 s is above 80 % after 1.8 s at 100 %. */
	CHECK(first_due(&rule, &state, 5000, 7000, 100) == 6600);
	/* It goes on, and is one event. */
	CHECK(first_due(&rule, &state, 7000, 20000, 100) == -1);
	/* A short dip does not arm it again, a long one does. */
	CHECK(first_due(&rule, &state, 20000, 21000, 0) == -1);
	CHECK(first_due(&rule, &state, 21000, 26000, 100) == -1);
	CHECK(first_due(&rule, &state, 26000, 32000, 0) == -1);
	CHECK(first_due(&rule, &state, 32000, 35000, 100) == 33600);
}

static void test_starvation(void)
{
	struct trap_rule rule = parsed("cpu(container=a)<3%/1s");
	struct trap_state state = { 0 };

	/* Nothing is known before a whole window has passed. */
	CHECK(first_due(&rule, &state, 0, 1000, 0) == -1);
	CHECK(first_due(&rule, &state, 1000, 1400, 0) == 1000);
	state = (struct trap_state){ 0 };
	CHECK(first_due(&rule, &state, 0, 5000, 50) == -1);
	CHECK(first_due(&rule, &state, 5000, 9000, 0) == 5800);
}

static void test_combined(void)
{
	struct trap_rule rules[] = { parsed("runq>2/1s"), parsed("start(comm=x)") };
	struct trap_state states[2] = { 0 };
	uint64_t now = second;

	for (; now < 3 * second; now += second / 5)
		trap_state_value(&states[0], &rules[0], now, 5);
	CHECK(!trap_due(rules, states, 2, false, now));
	trap_state_event(&states[1], now);
	CHECK(trap_due(rules, states, 2, false, now));
	CHECK(!trap_due(rules, states, 2, false, now + 1));
	/* It happens again while the other still holds. */
	trap_state_event(&states[1], now + second);
	CHECK(trap_due(rules, states, 2, false, now + second));
	/* An event is over after 5 s. */
	states[0].spent = false;
	CHECK(!trap_due(rules, states, 2, false, now + 7 * second));
	CHECK(trap_due(rules, states, 2, true, now + 7 * second));
}

static void test_status(void)
{
	struct trap_rule rule = parsed("status(x)!=0/1s");
	struct trap_state state = { 0 };

	trap_state_value(&state, &rule, second, 0);
	CHECK(!trap_due(&rule, &state, 1, false, second));
	trap_state_value(&state, &rule, 2 * second, 7);
	CHECK(trap_due(&rule, &state, 1, false, 2 * second));
	trap_state_value(&state, &rule, 3 * second, 7);
	CHECK(!trap_due(&rule, &state, 1, false, 3 * second));
}

static void test_period(void)
{
	struct trap_rule rule = parsed("cpu>1%/1h");

	CHECK(rule.window_ns / trap_rule_period(&rule) < TRAP_POINTS - 1);
	rule = parsed("cpu>1%/30s");
	CHECK(trap_rule_period(&rule) == second);
	rule = parsed("cpu>1%/40s");
	CHECK(rule.window_ns / trap_rule_period(&rule) < TRAP_POINTS - 1);
	rule = parsed("cpu>1%/100ms");
	CHECK(trap_rule_period(&rule) == second / 10);
}

/* What held when its process ended does so for as long as an event does, and is known to be over then. */
static void test_gone(void)
{
	struct trap_rule rules[] = { parsed("cpu(pid=1)>80%/1s"), parsed("exit(pid=1)") };
	struct trap_state states[2] = { 0 };

	CHECK(first_due(&rules[0], &states[0], 0, 3000, 100) == 1000);
	states[0].spent = false;
	trap_state_gone(&states[0], 4 * second);
	CHECK(!trap_due(rules, states, 2, false, 4 * second));
	trap_state_event(&states[1], 4 * second);
	trap_state_gone(&states[0], 8 * second); /* told again */
	CHECK(!trap_state_over(&states[0], &rules[0], 9 * second - 1) && !trap_state_over(&states[1], &rules[1], 9 * second - 1));
	CHECK(trap_due(rules, states, 2, false, 9 * second - 1));
	CHECK(!trap_state_holds(&states[0], &rules[0], 9 * second) && !trap_due(rules, states, 2, true, 9 * second));
	CHECK(trap_state_over(&states[0], &rules[0], 9 * second) && trap_state_over(&states[1], &rules[1], 9 * second));
	/* A container comes back, and its values begin anew. */
	rules[0] = parsed("cpu(container=a)>80%/1s");
	CHECK(!trap_state_over(&states[0], &rules[0], 9 * second));
	trap_state_value(&states[0], &rules[0], 20 * second, 100);
	CHECK(!states[0].gone_ns && !states[0].holds);
}

int main(void)
{
	test_parse();
	test_refused();
	test_spike();
	test_starvation();
	test_combined();
	test_status();
	test_period();
	test_gone();
	return check_done();
}
