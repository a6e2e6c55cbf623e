/* One spelling for a .NET method, from whoever names it. */
#include "runtimes/dotnet_name.h"

#include "base/strbuf.h"
#include "test/check.h"

#include <string.h>

static void expect_name(const char *type, const char *method, const char *want)
{
	struct strbuf b = { 0 };

	dotnet_name(&b, type, strlen(type), method, strlen(method));
	CHECK_STR(b.data, want);
	strbuf_deinit(&b);
}

static void expect_map(const char *line, const char *want, const char *want_module, enum dotnet_tier want_tier)
{
	struct strbuf b = { 0 };
	const char *module = NULL;
	size_t len = 0;
	enum dotnet_tier tier = DOTNET_TIER_UNKNOWN;
	bool ok = dotnet_name_from_map(&b, line, strlen(line), &module, &len, &tier);

	CHECK_MSG(ok == (want != NULL), "%s", line);
	if (want) {
		CHECK_STR(b.data, want);
		CHECK_MSG(len == strlen(want_module) && !memcmp(module, want_module, len), "%.*s in %s", (int)len,
			  module, line);
		CHECK_MSG(tier == want_tier, "%d in %s", tier, line);
	}
	strbuf_deinit(&b);
}

static void test_names(void)
{
	expect_name("System.String", "Concat", "System.String::Concat");
	expect_name("System.Collections.Generic.List`1[System.__Canon]", "Add",
		    "System.Collections.Generic.List`1[System.__Canon]::Add");
	expect_name("", "main", "main");
	expect_name("dynamicClass", "IL_STUB_PInvoke", "dynamicClass::IL_STUB_PInvoke");
	expect_name("Shop.Program+<>c", "<Main>b__0_0", "Shop.Program+<>c::<Main>b__0_0");
}

static void test_state_machines(void)
{
	expect_name("Shop.Cart+<TotalAsync>d__7", "MoveNext", "Shop.Cart::TotalAsync");
	expect_name("Shop.Cart+<TotalAsync>d__7", "SetStateMachine", "Shop.Cart+<TotalAsync>d__7::SetStateMachine");
	expect_name("Program+<<Main>$>d__0", "MoveNext", "Program::<Main>$");
	expect_name("Shop.Cart+<>c+<<Main>b__0_0>d", "MoveNext", "Shop.Cart+<>c::<Main>b__0_0");
	expect_name("Shop.Cart`1+<Find>d__2`1[System.__Canon,System.Int32]", "MoveNext",
		    "Shop.Cart`1[System.__Canon]::Find");
	expect_name("Shop.Cart`2+<Find>d__2[A`1[X,Y],B]", "MoveNext", "Shop.Cart`2[A`1[X,Y],B]::Find");
	expect_name("Shop.Cart+<Find>d__2`1[System.Int32]", "MoveNext", "Shop.Cart::Find");
	/* No state machines. */
	expect_name("System.Collections.Generic.List`1+Enumerator[System.Int32]", "MoveNext",
		    "System.Collections.Generic.List`1+Enumerator[System.Int32]::MoveNext");
	expect_name("Shop.Walker", "MoveNext", "Shop.Walker::MoveNext");
	expect_name("Shop.Cart+<>c__DisplayClass0", "MoveNext", "Shop.Cart+<>c__DisplayClass0::MoveNext");
	/* What a lying runtime may say. */
	expect_name("+<", "MoveNext", "+<::MoveNext");
	expect_name("A+<B>d`1[", "MoveNext", "A::B");
	expect_name("A`99999+<B>d[]]", "MoveNext", "A`99999::B");
	expect_name("]]]", "MoveNext", "]]]::MoveNext");
	expect_name("A`7+<B>d[x]", "MoveNext", "A`7[x]::B");
}

static void test_maps(void)
{
	expect_map("instance void [Shop] Shop.Cart::Add(class System.String)[Tier1]", "Shop.Cart::Add", "Shop",
		   DOTNET_TIER_1);
	expect_map("int32 [Shop] Shop.Cart::Total(int32[])[OptimizedTier1]", "Shop.Cart::Total", "Shop",
		   DOTNET_TIER_1);
	expect_map("class [System.Runtime]X [Shop] Shop.Cart+<TotalAsync>d__7::MoveNext()[QuickJitted]",
		   "Shop.Cart::TotalAsync", "Shop", DOTNET_TIER_QUICK);
	expect_map("int32[] [Shop] A`1[System.__Canon]::B(int32[])", "A`1[System.__Canon]::B", "Shop",
		   DOTNET_TIER_UNKNOWN);
	expect_map("stub<12> GenerateLookupStub<GenerateLookupStub>", "[.NET stub]", "", DOTNET_TIER_UNKNOWN);
	expect_map("LazyCompile:~foo::bar", NULL, NULL, 0);
	expect_map("std::vector::push_back", NULL, NULL, 0);
	expect_map("", NULL, NULL, 0);
	expect_map("] ::", NULL, NULL, 0);
}

static void expect_assembly(const char *path, const char *want)
{
	size_t len;
	const char *at = dotnet_assembly(path, strlen(path), &len);

	CHECK_MSG(len == strlen(want) && !memcmp(at, want, len), "%.*s of %s", (int)len, at, path);
}

static void test_assemblies(void)
{
	expect_assembly("/usr/share/dotnet/shared/System.Linq.dll", "System.Linq");
	expect_assembly("C:\\a\\Shop.ni.dll", "Shop");
	expect_assembly("Shop", "Shop");
	expect_assembly(".dll", ".dll");
	expect_assembly("", "");
}

int main(void)
{
	test_names();
	test_state_machines();
	test_maps();
	test_assemblies();
	CHECK_STR(dotnet_tier_name(DOTNET_TIER_OSR), "OptimizedTier1OSR");
	CHECK_STR(dotnet_tier_name((enum dotnet_tier)99), "");
	return check_done();
}
