/* Code of the kernel's making: each address has the name of what lay there, if nothing else ever did. */
#include "symbols/ksymbols.h"

#include "test/check.h"

static bool add(struct ksymbols **k, uint64_t start, uint64_t end, const char *name)
{
	const struct ksymbol symbol = { .start = start, .end = end, .name = name, .bpf = true };

	return ksymbols_add(k, &symbol);
}

static const char *name_at(const struct ksymbols *k, uint64_t addr)
{
	const struct ksymbol *symbol = ksymbols_find(k, addr);

	return !symbol ? "nothing" : symbol->name ? symbol->name : "more than one";
}

static void test_places(void)
{
	struct ksymbols *k = NULL;

	CHECK(!ksymbols_find(k, 0x1000));
	CHECK(add(&k, 0x3000, 0x3100, "c") && add(&k, 0x1000, 0x1100, "a") && add(&k, 0x2000, 0x2100, "b"));
	CHECK(add(&k, 0x5000, 0x5000, "empty") && add(&k, 0x6000, 0x5000, "turned"));
	CHECK_STR(name_at(k, 0xfff), "nothing");
	CHECK_STR(name_at(k, 0x1000), "a");
	CHECK_STR(name_at(k, 0x10ff), "a");
	CHECK_STR(name_at(k, 0x1100), "nothing"); /* what went from there is not what lies before it */
	CHECK_STR(name_at(k, 0x2080), "b");
	CHECK_STR(name_at(k, 0x3000), "c");
	CHECK_STR(name_at(k, 0x5000), "nothing");
	CHECK_STR(name_at(k, UINT64_MAX), "nothing");
	ksymbols_free(k);
}

static void test_conflicts(void)
{
	struct ksymbols *k = NULL;

	CHECK(add(&k, 0x1000, 0x1100, "a") && add(&k, 0x1200, 0x1300, "b") && add(&k, 0x1400, 0x1500, "c"));
	CHECK(add(&k, 0x1000, 0x1100, "a")); /* it came, and went */
	CHECK_STR(name_at(k, 0x1000), "a");
	CHECK(add(&k, 0x1080, 0x1280, "d")); /* took the place of two that went unseen */
	CHECK_STR(name_at(k, 0x1000), "more than one");
	CHECK_STR(name_at(k, 0x1180), "more than one");
	CHECK_STR(name_at(k, 0x12ff), "more than one");
	CHECK_STR(name_at(k, 0x1300), "nothing");
	CHECK_STR(name_at(k, 0x1400), "c");
	CHECK(add(&k, 0x1000, 0x1100, "a"));
	CHECK_STR(name_at(k, 0x1000), "more than one");
	CHECK(add(&k, 0x1400, 0x1480, "c")); /* another of the same name */
	CHECK_STR(name_at(k, 0x14ff), "more than one");
	CHECK(add(&k, 0x1600, 0x1700, "e"));
	CHECK_STR(name_at(k, 0x1600), "e");
	ksymbols_free(k);
}

static void test_many(void)
{
	struct ksymbols *k = NULL;
	bool ok = true;

	for (uint64_t i = 0; i < 70000; i++)
		ok = ok && add(&k, i << 12, (i << 12) + 16, "x");
	CHECK(ok && ksymbols_find(k, 65535ull << 12) && !ksymbols_find(k, 65536ull << 12));
	ksymbols_free(k);
}

int main(void)
{
	test_places();
	test_conflicts();
	test_many();
	return check_done();
}
