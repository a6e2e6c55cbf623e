// Something for a C++ compiler to chew on: templates, maps, strings, regular expressions.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct fold {
	static auto run(const std::map<std::string, std::vector<int>> &in)
	{
		std::set<std::tuple<int, std::string>> out;
		for (auto &[key, values] : in)
			for (int v : values)
				out.emplace(v * N, key);
		auto rest = fold<N - 1>::run(in);
		for (auto &t : rest)
			out.insert(t);
		return out;
	}
};
template <> struct fold<0> {
	static auto run(const std::map<std::string, std::vector<int>> &)
	{
		return std::set<std::tuple<int, std::string>>();
	}
};

using value = std::variant<int, double, std::string, std::vector<int>>;

int use(const std::string &text)
{
	std::regex re("([a-z]+)=([0-9]+);?");
	std::map<std::string, std::vector<int>> in;
	std::vector<value> values;
	for (auto it = std::sregex_iterator(text.begin(), text.end(), re); it != std::sregex_iterator(); ++it)
		in[(*it)[1]].push_back(std::stoi((*it)[2]));
	auto out = fold<60>::run(in);
	for (auto &[v, s] : out)
		values.emplace_back(s + std::to_string(v));
	std::sort(values.begin(), values.end());
	std::unordered_map<std::string, std::function<int(int)>> table;
	for (auto &v : values)
		table[std::visit([](auto &x) { return std::to_string(sizeof(x)); }, v)] = [=](int i) {
			return i + (int)values.size();
		};
	return std::accumulate(table.begin(), table.end(), 0,
			       [](int a, auto &p) { return a + p.second(a); });
}
