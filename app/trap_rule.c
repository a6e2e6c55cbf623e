#include "app/trap_rule.h"

#include "base/err.h"
#include "base/opts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t second_ns = 1000000000, event_holds_ns = 5 * UINT64_C(1000000000);
static const double most_seconds = 3600;

static const struct {
	const char *name;
	enum trap_metric metric;
} metrics[] = { { "cpu", TRAP_CPU }, { "psi", TRAP_PSI }, { "runq", TRAP_RUNQ },
		{ "start", TRAP_START }, { "exit", TRAP_EXIT }, { "status", TRAP_STATUS } };

static const struct {
	const char *text;
	enum trap_compare compare;
} compares[] = { { "<=", TRAP_LESS_EQUAL }, { ">=", TRAP_MORE_EQUAL }, { "==", TRAP_EQUAL },
		 { "!=", TRAP_OTHER_THAN }, { "<", TRAP_LESS }, { ">", TRAP_MORE } };

/* The text between parentheses, which may hold some itself; *pos goes behind them. */
static bool take_argument(const char **pos, char *ret, size_t size)
{
	size_t depth = 0, len = 0;
	const char *at = *pos;

	ret[0] = 0;
	if (*at != '(')
		return true;
	for (; *at; at++) {
		depth += *at == '(';
		depth -= *at == ')';
		if (!depth)
			break;
		if (at != *pos && len + 1 < size)
			ret[len++] = *at;
	}
	ret[len] = 0;
	if (!*at || len + 1 == size)
		return false;
	*pos = at + 1;
	return true;
}

static int take_pid(const char *text, pid_t *ret, struct err *err)
{
	uint64_t pid;
	int r = opts_u64(text, 1, INT32_MAX, &pid, err);

	*ret = r ? 0 : (pid_t)pid;
	return r;
}

/* "pid=17", "comm=nginx", "container=3f2a", "cgroup=/a/b" */
static int take_whose(struct trap_rule *rule, const char *text, struct err *err)
{
	static const struct {
		const char *name;
		enum trap_whose whose;
	} kinds[] = { { "pid=", TRAP_PID }, { "comm=", TRAP_COMM }, { "container=", TRAP_CONTAINER },
		      { "cgroup=", TRAP_CGROUP } };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i].name);

		if (strncmp(text, kinds[i].name, len))
			continue;
		if (!text[len])
			break;
		rule->whose = kinds[i].whose;
		snprintf(rule->name, sizeof(rule->name), "%s", text + len);
		return rule->whose == TRAP_PID ? take_pid(rule->name, &rule->pid, err) : 0;
	}
	return err_set(err, EINVAL, "\"%s\" is not pid=N, comm=NAME, container=ID or cgroup=PATH", text);
}

static int take_psi(struct trap_rule *rule, char *text, struct err *err)
{
	static const char *const names[] = { "cpu", "memory", "io" };
	bool known = false;

	for (char *rest = NULL, *word = strtok_r(text, ", ", &rest); word; word = strtok_r(NULL, ", ", &rest)) {
		bool found = false;

		for (size_t i = 0; i < 3; i++) {
			if (!strcmp(word, names[i])) {
				rule->resource = (enum trap_resource)i;
				found = known = true;
			}
		}
		if (!strcmp(word, "full"))
			rule->full = found = true;
		if (!found && strncmp(word, "cgroup=", 7))
			return err_set(err, EINVAL, "\"%s\" is not cpu, memory, io, full or cgroup=PATH", word);
		if (!found && take_whose(rule, word, err) < 0)
			return -err->code;
	}
	return known ? 0 : err_set(err, EINVAL, "psi of what? psi(cpu), psi(memory) or psi(io)");
}

static int take_subject(struct trap_rule *rule, char *text, struct err *err)
{
	switch (rule->metric) {
	case TRAP_CPU:
		return text[0] ? take_whose(rule, text, err) : 0;
	case TRAP_PSI:
		return take_psi(rule, text, err);
	case TRAP_RUNQ:
		return text[0] ? err_set(err, EINVAL, "runq is of the machine and takes no argument") : 0;
	case TRAP_START:
	case TRAP_EXIT:
		if (take_whose(rule, text, err) < 0)
			return -EINVAL;
		if (rule->whose == TRAP_COMM || (rule->whose == TRAP_PID && rule->metric == TRAP_EXIT))
			return 0;
		return err_set(err, EINVAL, rule->metric == TRAP_START ? "start takes comm=NAME" :
									   "exit takes pid=N or comm=NAME");
	case TRAP_STATUS:
		if (!text[0])
			return err_set(err, EINVAL, "status of what? status(COMMAND)");
		snprintf(rule->name, sizeof(rule->name), "%s", text);
		return 0;
	}
	return -EINVAL;
}

static bool is_share(const struct trap_rule *rule)
{
	return rule->metric == TRAP_CPU || rule->metric == TRAP_PSI;
}

/* ">80%/2s" */
static int take_condition(struct trap_rule *rule, const char *pos, struct err *err)
{
	const char *number = NULL;
	double seconds = rule->metric == TRAP_STATUS ? 5 : 1;
	char *end;

	for (size_t i = 0; i < sizeof(compares) / sizeof(compares[0]) && !number; i++) {
		if (strncmp(pos, compares[i].text, strlen(compares[i].text)))
			continue;
		rule->compare = compares[i].compare;
		number = pos + strlen(compares[i].text);
	}
	if (!number)
		return err_set(err, EINVAL, "<, >, <=, >=, == or != is missing at \"%s\"", pos);
	if (!isdigit((unsigned char)*number))
		return err_set(err, EINVAL, "\"%s\" is not a number", number);
	rule->value = strtod(number, &end);
	if (is_share(rule) != (*end == '%'))
		return err_set(err, EINVAL, is_share(rule) ? "a share needs its %%: 80%%" : "%% is for cpu and psi");
	end += *end == '%';
	if (*end && *end != '/')
		return err_set(err, EINVAL, "\"%s\" is neither the end nor a time such as /10s", end);
	if (*end && opts_seconds(end + 1, &seconds, err) < 0)
		return -EINVAL;
	if (seconds < 0.1 || seconds > most_seconds)
		return err_set(err, EINVAL, "\"%s\": from 100ms to 1h", end + 1);
	rule->window_ns = (uint64_t)(seconds * (double)second_ns);
	return 0;
}

int trap_rule_parse(const char *text, struct trap_rule *ret, struct err *err)
{
	size_t len = strcspn(text, "(<>=! ");
	char argument[sizeof(ret->name)];
	const char *pos = text + len;
	bool known = false;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (strlen(text) >= sizeof(ret->text))
		return err_set(err, EINVAL, "longer than %zu bytes", sizeof(ret->text) - 1);
	snprintf(ret->text, sizeof(ret->text), "%s", text);
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]) && !known; i++) {
		known = strlen(metrics[i].name) == len && !strncmp(metrics[i].name, text, len);
		ret->metric = metrics[i].metric;
	}
	if (!known)
		return err_set(err, EINVAL, "\"%s\" does not begin with cpu, psi, runq, start, exit or status", text);
	if (!take_argument(&pos, argument, sizeof(argument)))
		return err_set(err, EINVAL, "\"%s\" lacks its ), or is too long", text);
	r = take_subject(ret, argument, err);
	if (!r && trap_rule_is_event(ret))
		return *pos ? err_set(err, EINVAL, "\"%s\": nothing stands behind start and exit", pos) : 0;
	return r ? r : take_condition(ret, pos, err);
}

bool trap_rule_is_event(const struct trap_rule *rule)
{
	return rule->metric == TRAP_START || rule->metric == TRAP_EXIT;
}

static bool fits_rule(const struct trap_rule *rule, double value)
{
	switch (rule->compare) {
	case TRAP_LESS:
		return value < rule->value;
	case TRAP_LESS_EQUAL:
		return value <= rule->value;
	case TRAP_MORE:
		return value > rule->value;
	case TRAP_MORE_EQUAL:
		return value >= rule->value;
	case TRAP_EQUAL:
		return value == rule->value;
	case TRAP_OTHER_THAN:
		return value != rule->value;
	}
	return false;
}

uint64_t trap_rule_period(const struct trap_rule *rule)
{
	uint64_t period = rule->window_ns / 10;

	if (trap_rule_is_event(rule))
		return second_ns / 4;
	if (rule->metric == TRAP_STATUS)
		return rule->window_ns;
	if (period < second_ns / 10)
		return second_ns / 10;
	/* A window has room for TRAP_POINTS - 1 periods. */
	return period > second_ns && rule->window_ns / second_ns < TRAP_POINTS / 2 ? second_ns : period;
}

/* The mean over the window; false while that has not passed since the first value. */
static bool window_mean(const struct trap_state *s, const struct trap_rule *rule, uint64_t now_ns, double *ret)
{
	double sum = 0, weight = 0;
	uint64_t later = 0;

	for (size_t i = 0; i < s->num; i++) {
		size_t at = (s->next + TRAP_POINTS - 1 - i) % TRAP_POINTS;
		uint64_t time = s->points[at].time_ns;

		/* A value is of the time since the point before it. */
		if (later) {
			size_t after = (at + 1) % TRAP_POINTS;

			sum += s->points[after].value * (double)(later - time);
			weight += (double)(later - time);
		}
		later = time;
		if (now_ns - time >= rule->window_ns)
			break;
	}
	if (!weight || now_ns - later < rule->window_ns)
		return false;
	*ret = sum / weight;
	return true;
}

void trap_state_value(struct trap_state *s, const struct trap_rule *rule, uint64_t now_ns, double value)
{
	bool fits;

	s->gone_ns = 0;
	s->points[s->next].time_ns = now_ns;
	s->points[s->next].value = value;
	s->next = (s->next + 1) % TRAP_POINTS;
	s->num += s->num < TRAP_POINTS;
	if (rule->metric == TRAP_STATUS) {
		s->mean = value;
		fits = fits_rule(rule, value);
	} else {
		fits = window_mean(s, rule, now_ns, &s->mean) && fits_rule(rule, s->mean);
	}
	s->holds = fits;
	if (fits)
		s->unfit_ns = 0;
	else if (!s->unfit_ns)
		s->unfit_ns = now_ns;
	if (s->unfit_ns && now_ns - s->unfit_ns >= 2 * rule->window_ns)
		s->spent = false;
}

void trap_state_event(struct trap_state *state, uint64_t now_ns)
{
	state->event_ns = now_ns ? now_ns : 1;
	state->spent = false;
}

void trap_state_gone(struct trap_state *state, uint64_t now_ns)
{
	if (!state->gone_ns)
		state->gone_ns = now_ns ? now_ns : 1;
	state->num = 0;
}

bool trap_state_holds(const struct trap_state *state, const struct trap_rule *rule, uint64_t now_ns)
{
	if (!trap_rule_is_event(rule))
		return state->holds && (!state->gone_ns || now_ns < state->gone_ns + event_holds_ns);
	return state->event_ns && now_ns < state->event_ns + event_holds_ns;
}

bool trap_state_over(const struct trap_state *state, const struct trap_rule *rule, uint64_t now_ns)
{
	uint64_t end_ns = rule->metric == TRAP_EXIT ? state->event_ns : state->gone_ns;

	return rule->whose == TRAP_PID && end_ns && now_ns >= end_ns + event_holds_ns;
}

bool trap_due(const struct trap_rule *rules, struct trap_state *states, size_t num, bool any, uint64_t now_ns)
{
	size_t holding = 0, fresh = 0;
	bool due;

	for (size_t i = 0; i < num; i++) {
		bool holds = trap_state_holds(&states[i], &rules[i], now_ns);

		holding += holds;
		fresh += holds && !states[i].spent;
	}
	due = fresh && (any || holding == num);
	for (size_t i = 0; due && i < num; i++)
		states[i].spent |= trap_state_holds(&states[i], &rules[i], now_ns);
	return due;
}
