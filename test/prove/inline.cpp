#include <map>
#include <vector>
#include <string>
#include <algorithm>
#include <numeric>
#include <cstdio>
struct P { int a; std::string s; bool operator<(const P &o) const { return s < o.s || (s == o.s && a < o.a); } };
static unsigned hash_it(const std::string &s) { unsigned h = 5381; for (char c : s) h = h * 33 ^ (unsigned char)c; return h; }
int main(int, char **) {
	std::map<std::string, int> m; std::vector<P> v; unsigned long sum = 0;
	for (int r = 0; r < 60; r++) {
		v.clear();
		for (int i = 0; i < 20000; i++) { std::string k = "key" + std::to_string((i * 7919) % 10007); m[k] += i; v.push_back({ i, k }); sum += hash_it(k); }
		std::sort(v.begin(), v.end());
		sum += std::accumulate(v.begin(), v.end(), 0ul, [](unsigned long x, const P &p) { return x + p.a; });
	}
	printf("%lu\n", sum);
}
