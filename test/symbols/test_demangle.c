#include "symbols/symbols.h"

#include "base/intern.h"
#include "base/strbuf.h"
#include "test/check.h"

static struct intern *strings;

static void same(const char *mangled, const char *expected)
{
	CHECK_STR(symbols_demangle(strings, mangled), expected);
}

static void test_spelling(void)
{
	same("_ZN1n4spinERSt6vectorIiSaIiEEPv",
	     "n::spin(std::vector<int, std::allocator<int> >&, void*)");
	same("_Z24gt_ggc_mx_lang_tree_nodePv", "gt_ggc_mx_lang_tree_node(void*)");
	same("_ZNK3foo3barEv", "foo::bar() const");
	/* Rust, legacy: the hash goes. */
	same("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write");
	same("_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar"
	     "17h930b740aa94f1d3aE",
	     "<Test + 'static as foo::Bar<Test>>::bar");
	/* Rust, v0. */
	same("_RNvC6_123foo3bar", "123foo::bar");
	same("_RNvNtNtCs1234_7mycrate3foo3bar3baz", "mycrate::foo::bar::baz");
	/* D. */
	same("_D8demangle4testFZv", "demangle.test()");
	same("_D6object9Throwable8toStringMFZAya", "object.Throwable.toString()");
}

static void test_suffixes(void)
{
	same("_Z3fooi@plt", "foo(int)@plt");
	same("_Z3fooi.cold", "foo(int) [clone .cold]");
	same("_Z3fooi.isra.0", "foo(int) [clone .isra.0]");
	same("_Z3fooi@GLIBCXX_3.4", "foo(int)@GLIBCXX_3.4");
	same("foo.isra.0", "foo.isra.0");
	same("memcpy@plt", "memcpy@plt");
}

static void test_not_mangled(void)
{
	same("", "");
	same("main", "main");
	same("_", "_");
	same("_Z", "_Z");
	same("_R", "_R");
	same("_D", "_D");
	same("_Zo", "_Zo");
	same("_Z3fo", "_Z3fo");
	same("_Dynamic", "_Dynamic");
	same("i", "i"); /* a type code, were it asked as a type */
	same("_ZN3fooE@", "foo@");
}

/* pair<S, S> of the one before, 40 times: 2^40 names if printed. */
static void test_bomb(void)
{
	struct strbuf text = { 0 };

	strbuf_str(&text, "_Z1fSt4pairIiiE");
	for (unsigned int level = 0; level < 35; level++) {
		char digit = (char)(level < 10 ? '0' + level : 'A' + level - 10);

		strbuf_printf(&text, "S_IS%c_S%c_E", digit, digit);
	}
	same(text.data, text.data);
	strbuf_deinit(&text);
}

/* What libiberty reserves on the stack grows with references to parameters times templates. */
static void test_stack_bomb(int templates, int references)
{
	struct strbuf text = { 0 };

	strbuf_str(&text, "_Z1fI");
	for (int i = 0; i < templates; i++)
		strbuf_str(&text, "1aIiE");
	strbuf_str(&text, "Ev");
	for (int i = 0; i < references; i++)
		strbuf_str(&text, "RT_");
	CHECK(symbols_demangle(strings, text.data));
	strbuf_deinit(&text);
}

/* Deep nesting ends in libiberty's own limit, long names in ours. */
static void test_limits(void)
{
	struct strbuf text = { 0 };

	strbuf_str(&text, "_Z1f");
	for (int i = 0; i < 4000; i++)
		strbuf_char(&text, 'P');
	strbuf_char(&text, 'i');
	same(text.data, text.data);

	strbuf_clear(&text);
	strbuf_str(&text, "_Z900");
	for (int i = 0; i < 900; i++)
		strbuf_char(&text, 'x');
	strbuf_char(&text, 'v');
	CHECK(strlen(symbols_demangle(strings, text.data)) == 900 + 2);

	strbuf_clear(&text);
	strbuf_str(&text, "_Z5000");
	for (int i = 0; i < 5000; i++)
		strbuf_char(&text, 'x');
	strbuf_char(&text, 'v');
	same(text.data, text.data);
	strbuf_deinit(&text);
}

int main(void)
{
	strings = intern_new();
	CHECK(strings);
	test_spelling();
	test_suffixes();
	test_not_mangled();
	test_bomb();
	test_stack_bomb(100, 165);
	test_stack_bomb(400, 600);
	test_limits();
	intern_free(strings);
	return check_done();
}
