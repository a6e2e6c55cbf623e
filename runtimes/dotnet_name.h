/*
 * How a .NET method is written: one spelling, whoever told the name (the runtime's events, the tables of a
 * ReadyToRun image, a perf map, a jitdump).
 *
 *	Namespace.Type::Method                        System.Text.Json.JsonSerializer::Serialize
 *	nested types behind '+', arity, arguments     System.Collections.Generic.List`1[System.__Canon]::Add
 *	a state machine's MoveNext is shown as the method it was made from:
 *		Shop.Cart+<TotalAsync>d__7::MoveNext                     Shop.Cart::TotalAsync
 *		Shop.Cart`1+<Find>d__2`1[System.__Canon,System.Int32]    Shop.Cart`1[System.__Canon]::Find
 *		Shop.Cart+<>c+<<Main>b__0_0>d::MoveNext                  Shop.Cart+<>c::<Main>b__0_0
 *
 * Neither signature nor return type, nor the method's own type arguments, as not all of them tell these. The
 * assembly ("System.Private.CoreLib") is the frame's module. Bytes are passed on as they are: whoever shows them escapes
 * them (base/escape.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

/*
 * Bits 7-9 of a method's flags in the runtime's events (dotnet/runtime src/coreclr/inc/clretwall.man MethodFlagsMap and
 * vm/eventtrace.cpp, MethodFlagsJitOptimizationTierShift).
 */
enum dotnet_tier {
	DOTNET_TIER_UNKNOWN,
	DOTNET_TIER_MIN_OPT,
	DOTNET_TIER_OPTIMIZED, /* of precompiled code: ReadyToRun */
	DOTNET_TIER_QUICK,
	DOTNET_TIER_1,
	DOTNET_TIER_OSR,
	DOTNET_TIER_INSTRUMENTED,
	DOTNET_TIER_1_INSTRUMENTED,
	DOTNET_TIER_READY_TO_RUN, /* not in the events: of names from files */
	DOTNET_NUM_TIERS,
};
/* As the runtime and PerfView spell it: "OptimizedTier1"; "" for a number that is none. */
const char *dotnet_tier_name(enum dotnet_tier tier);

extern const char dotnet_stub_name[]; /* "[.NET stub]": machine code that the runtime made and that is no method */

/* Appends the name. Neither text need be NUL-terminated; either may be empty. */
void dotnet_name(struct strbuf *out, const char *type, size_t type_len, const char *method, size_t method_len);
/* Appends "[Tier]", for --dotnet-tiers. */
void dotnet_name_tier(struct strbuf *out, enum dotnet_tier tier);

/*
 * The assembly that a path names: "System.Linq" of "/usr/share/dotnet/…/System.Linq.dll", ".ni.dll", ".exe"; borrowed
 * from `path`.
 */
const char *dotnet_assembly(const char *path, size_t len, size_t *ret_len);

/*
 * A name out of a perf map or jitdump of the runtime (vm/perfmap.cpp):
 *	instance void [Shop] Shop.Cart::Add(class System.String)[Tier1]  -> "Shop.Cart::Add", module "Shop"
 *	stub<12> GenerateLookupStub<..>, stub GenerateResolveStub<..>    -> "[.NET stub]", no module
 * False, with nothing appended, where it is neither. *module is borrowed from `text`, *module_len 0 = none.
 */
bool dotnet_name_from_map(struct strbuf *out, const char *text, size_t len, const char **module,
			  size_t *module_len, enum dotnet_tier *tier);
