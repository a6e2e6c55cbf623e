#include "runtimes/dotnet_name.h"

#include "base/strbuf.h"

#include <string.h>

const char dotnet_stub_name[] = "[.NET stub]";

/* What PerfView knows (TraceEvent, OptimizationTier); the runtime writes the same but for its instrumented tiers. */
static const char *const tier_names[DOTNET_NUM_TIERS] = {
	[DOTNET_TIER_UNKNOWN] = "Unknown",
	[DOTNET_TIER_MIN_OPT] = "MinOptJitted",
	[DOTNET_TIER_OPTIMIZED] = "Optimized",
	[DOTNET_TIER_QUICK] = "QuickJitted",
	[DOTNET_TIER_1] = "OptimizedTier1",
	[DOTNET_TIER_OSR] = "OptimizedTier1OSR",
	[DOTNET_TIER_INSTRUMENTED] = "QuickJittedInstrumented",
	[DOTNET_TIER_1_INSTRUMENTED] = "OptimizedTier1Instrumented",
	[DOTNET_TIER_READY_TO_RUN] = "ReadyToRun",
};

/* What a perf map writes behind a name and TraceEvent does not (vm/perfmap.cpp, PerfMap::GetOptimizationTier). */
static const struct {
	const char *name;
	enum dotnet_tier tier;
} map_tiers[] = {
	{ "Tier0", DOTNET_TIER_QUICK },
	{ "Tier1", DOTNET_TIER_1 },
	{ "InstrumentedTier", DOTNET_TIER_INSTRUMENTED },
	{ "InstrumentedTier0", DOTNET_TIER_INSTRUMENTED },
	{ "InstrumentedTier1", DOTNET_TIER_1_INSTRUMENTED },
	{ "PreJIT", DOTNET_TIER_READY_TO_RUN },
};

/* A piece of text that is not NUL-terminated. */
struct text {
	const char *at;
	size_t len;
};

static bool is(struct text text, const char *word)
{
	return text.len == strlen(word) && !memcmp(text.at, word, text.len);
}

const char *dotnet_tier_name(enum dotnet_tier tier)
{
	return (unsigned int)tier < DOTNET_NUM_TIERS ? tier_names[tier] : "";
}

void dotnet_name_tier(struct strbuf *out, enum dotnet_tier tier)
{
	strbuf_printf(out, "[%s]", dotnet_tier_name(tier));
}

/* Where the type's own arguments begin: the '[' that its last ']' closes; its length when it has none. */
static size_t arguments_at(struct text type)
{
	size_t depth = 0;

	if (!type.len || type.at[type.len - 1] != ']')
		return type.len;
	for (size_t i = type.len; i-- > 0;) {
		depth += type.at[i] == ']';
		if (type.at[i] == '[' && !--depth)
			return i;
	}
	return type.len;
}

/* The last '+' outside of <>: what is before it is the type around. npos: none. */
static size_t nested_at(struct text type)
{
	size_t depth = 0;

	for (size_t i = type.len; i-- > 0;) {
		if (type.at[i] == '>')
			depth++;
		else if (type.at[i] == '<' && depth)
			depth--;
		else if (type.at[i] == '+' && !depth)
			return i;
	}
	return SIZE_MAX;
}

/*
 * The method in the name of a state machine: "<Name>d__7", of a lambda "<<Main>b__0_0>d" (Roslyn, GeneratedNames.
 * MakeStateMachineTypeName). Empty when it is not the name of one.
 */
static struct text machine_method(struct text name)
{
	static const struct text none;
	size_t depth = 0;

	if (name.len < 4 || name.at[0] != '<')
		return none;
	for (size_t i = 0; i < name.len; i++) {
		depth += name.at[i] == '<';
		if (name.at[i] != '>' || --depth)
			continue;
		if (i == 1 || i + 1 >= name.len || name.at[i + 1] != 'd')
			return none;
		return (struct text){ name.at + 1, i - 1 };
	}
	return none;
}

/* How many type parameters a name with its `N parts declares. */
static size_t arity_of(struct text type)
{
	size_t sum = 0;

	for (size_t i = 0; i < type.len; i++) {
		size_t n = 0;

		if (type.at[i] != '`')
			continue;
		for (i++; i < type.len && type.at[i] >= '0' && type.at[i] <= '9' && n < 1000; i++)
			n = n * 10 + (size_t)(type.at[i] - '0');
		sum += n;
		i--;
	}
	return sum;
}

/* The first `num` arguments of "[A,B[C,D],E]", with their brackets; nothing for 0. */
static void add_arguments(struct strbuf *out, struct text args, size_t num)
{
	size_t depth = 0, i;

	if (!num || args.len < 2)
		return;
	for (i = 0; i < args.len; i++) {
		depth += args.at[i] == '[';
		if (args.at[i] == ']' && !--depth)
			break;
		if (args.at[i] == ',' && depth == 1 && !--num)
			break;
	}
	strbuf_add(out, args.at, i);
	strbuf_char(out, ']');
}

/* MoveNext of a state machine, as the method that was written; false when the type is none. */
static bool add_made_from(struct strbuf *out, struct text type)
{
	size_t args_at = arguments_at(type);
	struct text args = { type.at + args_at, type.len - args_at };
	struct text path = { type.at, args_at }, around, method;
	size_t plus = nested_at(path);

	if (plus == SIZE_MAX)
		return false;
	around = (struct text){ path.at, plus };
	method = machine_method((struct text){ path.at + plus + 1, path.len - plus - 1 });
	if (!method.len)
		return false;
	strbuf_add(out, around.at, around.len);
	add_arguments(out, args, arity_of(around));
	strbuf_str(out, "::");
	strbuf_add(out, method.at, method.len);
	return true;
}

void dotnet_name(struct strbuf *out, const char *type, size_t type_len, const char *method, size_t method_len)
{
	struct text type_text = { type, type_len }, method_text = { method, method_len };

	if (is(method_text, "MoveNext") && add_made_from(out, type_text))
		return;
	if (type_len) {
		strbuf_add(out, type, type_len);
		strbuf_str(out, "::");
	}
	strbuf_add(out, method, method_len);
}

static bool ends(const char *at, size_t len, const char *tail)
{
	size_t tail_len = strlen(tail);

	return len > tail_len && !memcmp(at + len - tail_len, tail, tail_len);
}

const char *dotnet_assembly(const char *path, size_t len, size_t *ret_len)
{
	for (size_t i = len; i-- > 0;) {
		if (path[i] == '/' || path[i] == '\\') {
			path += i + 1;
			len -= i + 1;
			break;
		}
	}
	if (ends(path, len, ".dll") || ends(path, len, ".exe")) {
		len -= 4;
		if (ends(path, len, ".ni"))
			len -= 3;
	}
	*ret_len = len;
	return path;
}

/* The tier in the brackets at the end, which are cut off; unknown without. */
static enum dotnet_tier take_tier(struct text *text)
{
	struct text word;
	size_t at = text->len;

	if (!at || text->at[at - 1] != ']')
		return DOTNET_TIER_UNKNOWN;
	while (at > 0 && text->at[at - 1] != '[' && text->at[at - 1] != ')')
		at--;
	if (!at || text->at[at - 1] != '[')
		return DOTNET_TIER_UNKNOWN;
	word = (struct text){ text->at + at, text->len - at - 1 };
	text->len = at - 1;
	for (size_t i = 0; i < DOTNET_NUM_TIERS; i++) {
		if (is(word, tier_names[i]))
			return (enum dotnet_tier)i;
	}
	for (size_t i = 0; i < sizeof(map_tiers) / sizeof(map_tiers[0]); i++) {
		if (is(word, map_tiers[i].name))
			return map_tiers[i].tier;
	}
	return DOTNET_TIER_UNKNOWN;
}

static const char *find_colons(struct text text)
{
	return text.len ? memmem(text.at, text.len, "::", 2) : NULL;
}

/* Before "Type::Method(": the assembly in "[..] ", which begins behind a return type that may hold brackets as well. */
static bool split_assembly(struct text head, struct text *assembly, struct text *type)
{
	for (size_t i = head.len; i-- > 1;) {
		size_t start;

		if (head.at[i] != ' ' || head.at[i - 1] != ']')
			continue;
		for (start = i - 1; start > 0 && head.at[start - 1] != '['; start--)
			;
		if (!start)
			return false;
		*assembly = (struct text){ head.at + start, i - 1 - start };
		*type = (struct text){ head.at + i + 1, head.len - i - 1 };
		return true;
	}
	return false;
}

bool dotnet_name_from_map(struct strbuf *out, const char *text, size_t len, const char **module,
			  size_t *module_len, enum dotnet_tier *tier)
{
	struct text whole = { text, len }, assembly, type, method;
	const char *colons, *paren;

	*module_len = 0;
	*module = text;
	*tier = DOTNET_TIER_UNKNOWN;
	if (len > 5 && (!memcmp(text, "stub ", 5) || !memcmp(text, "stub<", 5))) {
		strbuf_str(out, dotnet_stub_name);
		return true;
	}
	*tier = take_tier(&whole);
	colons = find_colons(whole);
	if (!colons || !split_assembly((struct text){ whole.at, (size_t)(colons - whole.at) }, &assembly, &type))
		return false;
	method = (struct text){ colons + 2, (size_t)(whole.at + whole.len - colons - 2) };
	paren = method.len ? memchr(method.at, '(', method.len) : NULL;
	if (paren)
		method.len = (size_t)(paren - method.at);
	dotnet_name(out, type.at, type.len, method.at, method.len);
	*module = assembly.at;
	*module_len = assembly.len;
	return true;
}
