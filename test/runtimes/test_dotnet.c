/* Methods that come and go: whose an address is at each time, and how to step out of what is there. */
#include "runtimes/dotnet.h"

#include "base/intern.h"
#include "base/strbuf.h"
#include "runtimes/nettrace.h"
#include "symbols/addrspace.h"
#include "test/check.h"
#include "test/mappings_view.h"
#include "unwinder/arch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { PID = 42 };

static struct intern *strings;
static struct dotnet *d;
static struct dotnet_process *p;
static struct symbol_source source;
static struct addrspace space = { .pid = PID, .id = 1 };

static void say(enum nettrace_event_kind kind, uint64_t time_ns, uint64_t start, uint32_t size, uint64_t id,
		const char *method)
{
	const struct nettrace_event event = {
		.kind = kind,
		.time_ns = time_ns,
		.method = { .id = id, .module_id = 7, .start = start, .size = size,
			    .flags = NETTRACE_JITTED, .type = "Shop.Cart", .name = method },
	};

	dotnet_say(d, p, &event);
}

static size_t num_ranges;
static char ranges_text[512];

/* As a session does: what changes until then is told, then it holds. */
static const char *advance(uint64_t time_ns)
{
	struct code_ranges ranges = { 0 };

	CHECK(source.changes(source.data, &space, time_ns, &ranges));
	num_ranges = ranges.v.len;
	ranges_text[0] = '\0';
	for (size_t i = 0; i < ranges.v.len; i++)
		snprintf(ranges_text + strlen(ranges_text), sizeof(ranges_text) - strlen(ranges_text), "%" PRIx64 "-%" PRIx64 " ",
			 ranges.v.data[i].start, ranges.v.data[i].end);
	vec_deinit(&ranges.v);
	source.apply(source.data, &space, time_ns);
	return ranges_text;
}

static const char *name_at(uint64_t addr)
{
	struct symbol symbol;

	return source.find(source.data, &space, addr, &symbol) ? symbol.name : "";
}

static void begin(void)
{
	const struct dotnet_opts opts = { .strings = strings, .arch = &arch_x86_64 };

	CHECK(dotnet_new(&opts, &d, NULL) == 0);
	source = dotnet_symbol_source(d);
	p = dotnet_process(d, PID);
	CHECK(p != NULL && dotnet_process(d, PID) == p && dotnet_process_find(d, PID + 1) == NULL);
}

static void test_times(void)
{
	begin();
	CHECK(source.next(source.data, &space) == UINT64_MAX);
	say(NETTRACE_METHOD_LOAD, 300, 0x2000, 0x80, 3, "Third");
	say(NETTRACE_METHOD_LOAD, 100, 0x1000, 0x100, 1, "First");
	say(NETTRACE_METHOD_UNLOAD, 200, 0x1000, 0x100, 1, "First");
	say(NETTRACE_METHOD_LOAD, 250, 0x1040, 0x20, 2, "Second");
	CHECK(source.next(source.data, &space) == 100);
	CHECK_STR(name_at(0x1000), "Shop.Cart::First"); /* it runs a moment before that is said */
	CHECK_STR(advance(150), "");
	CHECK(source.next(source.data, &space) == 200);
	CHECK_STR(name_at(0x10ff), "Shop.Cart::First");
	CHECK_STR(name_at(0x1100), "");
	CHECK_STR(advance(200), "1000-1100 ");
	CHECK_STR(name_at(0x1041), "Shop.Cart::Second"); /* to come */
	CHECK_STR(name_at(0x1000), "");
	CHECK_STR(advance(1000), "");
	CHECK_STR(name_at(0x1000), "");
	CHECK_STR(name_at(0x105f), "Shop.Cart::Second");
	CHECK_STR(name_at(0x2000), "Shop.Cart::Third");
	/* The same is told again by a rundown: nothing changes. Another at its place does. */
	say(NETTRACE_METHOD_EXISTS, 1100, 0x2000, 0x80, 3, "Third");
	CHECK_STR(advance(1200), "");
	say(NETTRACE_METHOD_EXISTS, 1300, 0x1ff0, 0x20, 4, "Fourth");
	CHECK_STR(advance(1300), "2000-2080 ");
	CHECK_STR(name_at(0x2008), "Shop.Cart::Fourth");
	CHECK_STR(name_at(0x2018), "");
	/* What comes and goes before the session gets there may have run a moment before it came: it is named in time. */
	say(NETTRACE_METHOD_LOAD, 1400, 0x3000, 0x10, 5, "Fifth");
	say(NETTRACE_METHOD_UNLOAD, 1450, 0x3000, 0x10, 5, "");
	say(NETTRACE_METHOD_LOAD, 1460, 0x3000, 0x10, 6, "Sixth");
	CHECK_STR(name_at(0x3004), "Shop.Cart::Fifth");
	CHECK_STR(advance(1500), "3000-3010 ");
	CHECK_STR(name_at(0x3004), "Shop.Cart::Sixth");
	/* All that was there is known: what is none of them is a stub. */
	dotnet_complete(p, 1600);
	CHECK_STR(advance(1700), "");
	CHECK_STR(name_at(0x2018), "[.NET stub]");
	source.gone(source.data, &space);
	CHECK(dotnet_process_find(d, PID) == NULL);
	CHECK_STR(name_at(0x2008), "");
	dotnet_free(d);
}

/* Many, so that recent ones are merged again and again, against a plain list. */
static void test_many(void)
{
	enum { NUM = 3000 };
	static uint32_t at[NUM];
	uint32_t random = 12345;
	size_t wrong = 0;

	begin();
	memset(at, 0, sizeof(at));
	for (uint32_t i = 1; i <= 20000; i++) {
		uint32_t slot;
		char name[32];

		random = random * 1664525 + 1013904223;
		slot = (random >> 8) % NUM;
		snprintf(name, sizeof(name), "M%u", i);
		if (at[slot] && random & 1) {
			say(NETTRACE_METHOD_UNLOAD, i, 0x10000 + slot * 64, 64, at[slot], "");
			at[slot] = 0;
		} else {
			say(NETTRACE_METHOD_LOAD, i, 0x10000 + slot * 64, 64, i, name);
			at[slot] = i;
		}
		if (i % 777 == 0)
			advance(i);
	}
	advance(UINT64_MAX);
	for (uint32_t slot = 0; slot < NUM; slot++) {
		char want[48] = "";

		if (at[slot])
			snprintf(want, sizeof(want), "Shop.Cart::M%u", at[slot]);
		wrong += strcmp(name_at(0x10000 + slot * 64 + random % 64), want) != 0;
	}
	CHECK_MSG(wrong == 0, "%zu of %d", wrong, NUM);
	dotnet_free(d);
}

/* ---- stepping ---- */

/* What a target's memory holds: a method's pointer to its header, its code, and that header. */
static uint8_t memory[4096];
static const uint64_t memory_at = 0x7000;
static unsigned int num_reads;
static enum memory_answer answer_with = MEMORY_OK;

static enum memory_answer read_memory(void *data, const struct addrspace *of, uint64_t addr, void *buf, size_t len)
{
	num_reads++;
	if (answer_with != MEMORY_OK)
		return answer_with;
	if (addr < memory_at || addr - memory_at > sizeof(memory) || len > sizeof(memory) - (addr - memory_at))
		return MEMORY_NEVER;
	memcpy(buf, memory + (addr - memory_at), len);
	return MEMORY_OK;
}

static enum give give(uint64_t pc, bool exact, bool first, struct give_answer *ret)
{
	static const struct memory_reader reader = { .read = read_memory };
	static struct mapping mapping = { .start = 0x7000, .end = 0x9000 };
	static struct map_run run;
	const struct unwind_giver giver = dotnet_giver(d);
	uint64_t stack[4] = { 0x7123, 0, 0, 0 };
	struct regs regs = { .valid = 1 << 7, .pc = pc };
	struct give_query query = { .space = &space, .mapping = &mapping, .pc = pc, .activation = exact, .first = first,
				    .regs = &regs, .stack = (const uint8_t *)stack, .stack_bytes = sizeof(stack),
				    .stack_base = 0x100000, .memory = &reader };

	space.maps = mappings_view(&run, &mapping, 1);
	regs.v[7] = 0x100000;
	*ret = (struct give_answer){ 0 };
	return giver.give(giver.data, &query, ret);
}

static void expect_rule(uint64_t pc, bool exact, uint8_t reg, int off8, int rbp_slot)
{
	struct give_answer a;

	CHECK_MSG(give(pc, exact, exact, &a) == GIVE_RULE, "at %" PRIx64, pc);
	CHECK_MSG(a.rule.kind == RULE_CFA && a.rule.cfa_reg == reg && a.rule.cfa_off8 == off8 && a.rule.slot[0] == 1 &&
			  a.rule.slot[1] == rbp_slot && a.life == GIVE_WITH_CODE,
		  "at %" PRIx64 ": %d+%d, rbp %d", pc, a.rule.cfa_reg, a.rule.cfa_off8, a.rule.slot[1]);
}

static void put_header(uint32_t num, const uint32_t *functions)
{
	uint64_t header = memory_at + 0x800;

	memcpy(memory + 0xf8, &header, 8);
	memset(memory + 0x800, 0, 0x100);
	memset(memory + 0x800, 0x77, 32); /* what else is there */
	memcpy(memory + 0x820, &num, 4);
	memcpy(memory + 0x824, functions, num * 12);
}

static void test_steps(void)
{
	/* push rbp; sub rsp, 0x10; lea rbp, [rsp+0x10]; nop..; add rsp, 0x10; pop rbp; ret; a funclet: push rbx; ret */
	static const char code[] = "\x55\x48\x83\xec\x10\x48\x8d\x6c\x24\x10\x90\x90\x48\x83\xc4\x10\x5d\xc3\x53\x90\x5b\xc3";
	static const uint32_t functions[] = { 0x500, 0x512, 0x900, 0x512, 0x516, 0x910 };
	enum { RSP = 7, RBP = 6 };
	struct give_answer a;

	begin();
	memcpy(memory + 0x100, code, 22);
	put_header(2, functions);
	say(NETTRACE_METHOD_LOAD, 1, 0x7100, 22, 1, "Total");
	CHECK(give(0x7105, true, true, &a) == GIVE_PASS); /* not yet */
	advance(1);
	answer_with = MEMORY_NOT_NOW;
	CHECK(give(0x7105, true, true, &a) == GIVE_LATER);
	answer_with = MEMORY_OK;
	num_reads = 0;
	expect_rule(0x7100, true, RSP, 1, SLOT_SAME);
	CHECK(num_reads == 2);
	expect_rule(0x7101, true, RSP, 2, 2);
	expect_rule(0x7105, true, RSP, 4, 2);
	expect_rule(0x710a, true, RBP, 2, 2);
	expect_rule(0x7101, false, RBP, 2, 2); /* a caller has done all of it */
	expect_rule(0x710c, true, RSP, 4, 2);
	expect_rule(0x7110, true, RSP, 2, 2);
	expect_rule(0x7111, true, RSP, 1, SLOT_SAME);
	expect_rule(0x7113, false, RSP, 2, SLOT_SAME); /* the funclet's own frame */
	CHECK(num_reads == 2); /* once per method */
	CHECK(dotnet_counts(d).by_unwind_info == 1 && dotnet_counts(d).by_prologue == 0);
	/* Code without a method is a stub once all methods are known, if somebody called it. */
	CHECK(give(0x7300, true, true, &a) == GIVE_PASS);
	CHECK(dotnet_counts(d).no_starts == 2);
	dotnet_complete(p, 5);
	advance(5);
	CHECK(give(0x7300, true, true, &a) == GIVE_RULE && a.life == GIVE_ONCE && a.rule.cfa_off8 == 1);
	CHECK(give(0x7300, false, false, &a) == GIVE_PASS);
	dotnet_free(d);
}

/* What is no header of this method's is not believed, and memory that cannot be read is asked for once. */
static void test_doubtful(void)
{
	static const uint32_t beyond[] = { 0x500, 0x5ff, 0x900 };
	struct give_answer a;

	begin();
	memcpy(memory + 0x100, "\x53\x90\x90\x90\x5b\xc3", 6);
	put_header(1, beyond);
	say(NETTRACE_METHOD_LOAD, 1, 0x7100, 6, 1, "Total");
	say(NETTRACE_METHOD_LOAD, 1, 0x20000, 6, 2, "Far");
	advance(1);
	expect_rule(0x7102, false, 7, 2, SLOT_SAME);
	CHECK(dotnet_counts(d).by_prologue == 1);
	num_reads = 0;
	CHECK(give(0x20001, false, false, &a) == GIVE_PASS);
	CHECK(give(0x20002, false, false, &a) == GIVE_PASS);
	CHECK(num_reads == 1);
	dotnet_free(d);
}

/* Code that is freed soon is read when it is told of, and not when its place may be another's. */
static void test_short_lived(void)
{
	static const struct memory_reader reader = { .read = read_memory };
	static const uint32_t functions[] = { 0x500, 0x506, 0x900 };
	struct nettrace_event event = { .kind = NETTRACE_METHOD_LOAD, .time_ns = 10,
					.method = { .id = 1, .start = 0x7100, .size = 6,
						    .flags = NETTRACE_JITTED | NETTRACE_DYNAMIC, .type = "dynamicClass",
						    .name = "Made" } };
	struct give_answer a;

	begin();
	memcpy(memory + 0x100, "\x53\x90\x90\x90\x5b\xc3", 6);
	put_header(1, functions);
	dotnet_say(d, p, &event);
	dotnet_read_ahead(p, &reader, &space);
	memset(memory + 0x100, 0x90, 6);
	advance(10);
	expect_rule(0x7101, false, 7, 2, SLOT_SAME);
	CHECK(dotnet_counts(d).by_unwind_info == 1);
	/* It goes before it was read. */
	event = (struct nettrace_event){ .kind = NETTRACE_METHOD_LOAD, .time_ns = 20,
					 .method = { .id = 2, .start = 0x7200, .size = 6, .flags = NETTRACE_JITTED,
						     .type = "A", .name = "B" } };
	dotnet_say(d, p, &event);
	event.kind = NETTRACE_METHOD_UNLOAD;
	event.time_ns = 40;
	dotnet_say(d, p, &event);
	advance(30);
	num_reads = 0;
	CHECK(give(0x7201, false, false, &a) == GIVE_PASS && num_reads == 0);
	/* What lies there is another's: its header does not fit, as those of this runtime do. */
	event = (struct nettrace_event){ .kind = NETTRACE_METHOD_LOAD, .time_ns = 50,
					 .method = { .id = 3, .start = 0x7300, .size = 6, .flags = NETTRACE_JITTED,
						     .type = "A", .name = "C" } };
	dotnet_say(d, p, &event);
	advance(60);
	CHECK(give(0x7301, false, false, &a) == GIVE_PASS && num_reads > 0);
	CHECK(dotnet_no_starts(d) == 2);
	dotnet_free(d);
}

/* What a recording keeps gives the same names and rules, without a process to ask. */
static void test_saved(void)
{
	static const uint32_t functions[] = { 0x500, 0x506, 0x900 };
	const struct dotnet_opts opts = { .strings = strings, .arch = &arch_x86_64, .keep = true };
	const struct nettrace_event module = { .kind = NETTRACE_MODULE, .module = { 7, "/app/Shop.dll", "" } };
	struct strbuf saved = { 0 }, broken = { 0 };
	struct symbol symbol;
	struct give_answer a;

	CHECK(dotnet_new(&opts, &d, NULL) == 0);
	CHECK(dotnet_saved(d, &saved) && saved.len == 0);
	source = dotnet_symbol_source(d);
	p = dotnet_process(d, PID);
	memcpy(memory + 0x100, "\x53\x90\x90\x90\x5b\xc3", 6);
	put_header(1, functions);
	dotnet_say(d, p, &module);
	say(NETTRACE_METHOD_LOAD, 20, 0x7100, 6, 1, "Total");
	say(NETTRACE_METHOD_LOAD, 10, 0x7200, 6, 2, "Other");
	dotnet_complete(p, 15);
	advance(20);
	expect_rule(0x7101, false, 7, 2, SLOT_SAME);
	say(NETTRACE_METHOD_UNLOAD, 30, 0x7100, 6, 1, "");
	source.gone(source.data, &space);
	/* The pid is another process's. */
	p = dotnet_process(d, PID);
	say(NETTRACE_METHOD_LOAD, 100, 0x7100, 6, 1, "Later");
	CHECK(dotnet_saved(d, &saved));
	CHECK(dotnet_saved(d, &broken) && broken.len == saved.len); /* it can be asked again */
	dotnet_free(d);

	begin();
	CHECK(dotnet_restore(d, saved.data, saved.len, NULL) == 0);
	CHECK(dotnet_process_find(d, PID) == p); /* made by begin(): what is restored waits for the next */
	dotnet_free(d);
	CHECK(dotnet_new(&opts, &d, NULL) == 0);
	source = dotnet_symbol_source(d);
	CHECK(dotnet_restore(d, saved.data, saved.len, NULL) == 0);
	p = dotnet_process_find(d, PID);
	memset(memory, 0, sizeof(memory));
	num_reads = 0;
	CHECK_STR(advance(20), "");
	CHECK(source.find(source.data, &space, 0x7101, &symbol));
	CHECK_STR(symbol.name, "Shop.Cart::Total");
	CHECK_STR(symbol.module, "Shop");
	CHECK_STR(name_at(0x7500), "[.NET stub]");
	expect_rule(0x7101, false, 7, 2, SLOT_SAME);
	CHECK(give(0x7201, false, false, &a) == GIVE_PASS); /* whose code nobody sampled */
	CHECK(num_reads == 0);
	CHECK_STR(advance(30), "7100-7106 ");
	source.gone(source.data, &space);
	CHECK(source.next(source.data, &space) == 100);
	advance(100);
	CHECK_STR(name_at(0x7101), "Shop.Cart::Later");
	dotnet_free(d);

	for (size_t cut = 0; cut < saved.len; cut++) {
		int r;

		CHECK(dotnet_new(&opts, &d, NULL) == 0);
		r = dotnet_restore(d, saved.data, cut, NULL); /* between two processes nothing is amiss */

		CHECK_MSG(r == -EBADMSG || (r == 0 && cut >= 12), "cut at %zu: %d", cut, r);
		dotnet_free(d);
	}
	strbuf_deinit(&saved);
	strbuf_deinit(&broken);
}

int main(void)
{
	strings = intern_new();
	test_times();
	test_many();
	test_steps();
	test_doubtful();
	test_short_lived();
	test_saved();
	intern_free(strings);
	return check_done();
}
