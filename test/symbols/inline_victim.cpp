/* Code for test_inline: calls folded into each other, several deep, in templates, members and C linkage. */
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

extern "C" unsigned int victim_mix(unsigned int a, unsigned int b);

namespace victim
{
struct point {
	int x, y;

	int dot(const point &other) const
	{
		return x * other.x + y * other.y;
	}
	point operator+(const point &other) const
	{
		return { x + other.x, y + other.y };
	}
};

template <typename T, int N> struct stack {
	T items[N];
	int len = 0;

	void push(T item)
	{
		if (len == N)
			std::abort();
		items[len++] = item;
	}
	T pop()
	{
		if (!len)
			std::abort();
		return items[--len];
	}
};

inline int thrice(int n)
{
	return n * 3;
}

inline int nested(int n)
{
	return n & 1 ? thrice(n) + 1 : n / 2;
}

__attribute__((noinline)) int collatz(int n)
{
	int steps = 0;

	for (; n > 1; steps++)
		n = nested(n);
	return steps;
}

__attribute__((noinline)) int points(const std::vector<point> &list)
{
	stack<point, 16> s;
	point sum = { 0, 0 };

	for (const point &p : list)
		s.push(p);
	while (s.len)
		sum = sum + s.pop();
	return sum.dot(list[0]);
}

__attribute__((noinline)) int words(const std::string &text)
{
	std::map<std::string, int> count;
	std::string word;

	for (char c : text) {
		if (c != ' ') {
			word += c;
			continue;
		}
		count[word]++;
		word.clear();
	}
	return (int)count.size() + nested((int)word.size());
}
}

int main(int argc, char **argv)
{
	std::vector<victim::point> list;

	for (int i = 0; i < argc; i++)
		list.push_back({ i, (int)victim_mix((unsigned int)i, 7) });
	return victim::collatz(argc) + victim::points(list) + victim::words(argv[0]);
}
