// What inline.cpp has not: cold parts, lambdas, virtual functions, C names, unnamed namespaces. Nobody calls it.
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {
struct Local {
	int v;
	int twice() const { return v * 2; }
};
template <typename T> inline T clamped(T a, T lo, T hi) { return a < lo ? lo : a > hi ? hi : a; }
}

extern "C" inline int c_name(int x) { return x * 31 + 7; }

struct Base {
	virtual int f(int) = 0;
	virtual ~Base() {}
};

struct Derived final : Base {
	int k;
	Derived(int k) : k(k) {}
	int f(int x) override { return c_name(x) + Local{k}.twice(); }
};

static __attribute__((always_inline)) inline int with_cold_part(int x)
{
	if (__builtin_expect(x < -100000, 0))
		throw std::string("cold");
	return clamped(x, 3, 900) + c_name(x);
}

static inline int sum(const std::vector<int> &v)
{
	int s = 0;

	for (int x : v)
		s += with_cold_part(x);
	return s;
}

__attribute__((used)) int more(int n)
{
	std::vector<int> v;
	std::unordered_map<std::string, int> m;
	std::unique_ptr<Base> b = std::make_unique<Derived>(n);
	std::function<int(int)> g = [&](int q) { return b->f(q) + with_cold_part(q); };
	int total;

	for (int i = 0; i < n; i++)
		v.push_back(i * 7 % 101);
	std::sort(v.begin(), v.end(), [](int x, int y) { return c_name(x) > c_name(y); });
	for (int x : v)
		m[std::to_string(x)] += g(x);
	total = sum(v);
	for (auto &p : m)
		total += p.second;
	return total;
}
