// Two threads deep in optimised C++: templates, a virtual call, a std::function, a sort with a comparison.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define KEEP __attribute__((noinline))
#define STAY() __asm__ volatile("" ::: "memory")

namespace deep {

struct Shape {
	virtual ~Shape() = default;
	virtual std::uint64_t area(std::uint64_t n) const = 0;
};

KEEP std::uint64_t leaf_work(std::uint64_t n)
{
	std::uint64_t x = n | 1;
	for (int i = 0; i < 3000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

struct Square final : Shape {
	KEEP std::uint64_t area(std::uint64_t n) const override
	{
		std::uint64_t got = leaf_work(n);
		STAY();
		return got + 1;
	}
};

template <int N> struct Tower {
	KEEP static std::uint64_t climb(const Shape &shape, std::uint64_t n)
	{
		std::uint64_t got = Tower<N - 1>::climb(shape, n * 3 + N);
		STAY();
		return got ^ N;
	}
};

template <> struct Tower<0> {
	KEEP static std::uint64_t climb(const Shape &shape, std::uint64_t n)
	{
		std::uint64_t got = shape.area(n);
		STAY();
		return got;
	}
};

KEEP bool compare(std::uint64_t a, std::uint64_t b)
{
	Square square;
	bool less = (Tower<8>::climb(square, a) & 1) < (Tower<8>::climb(square, b) & 1);
	STAY();
	return less;
}

KEEP void sort_round(std::vector<std::uint64_t> &values)
{
	std::sort(values.begin(), values.end(), [](std::uint64_t a, std::uint64_t b) {
		(void)compare(a, b);
		return a < b;
	});
	STAY();
}

KEEP void work(unsigned int seed)
{
	std::vector<std::uint64_t> values(64);
	for (;;) {
		for (auto &value : values)
			value = seed = seed * 1103515245u + 12345u;
		sort_round(values);
	}
}

KEEP void run(const std::function<void(unsigned int)> &job, unsigned int seed)
{
	job(seed);
	STAY();
}

} // namespace deep

int main(int argc, char **argv)
{
	if (argc > 1) {
		std::signal(SIGALRM, [](int) { _exit(0); });
		/* Parts of a second as well: alarm(0) would mean never. */
		double seconds = std::strtod(argv[1], nullptr);
		itimerval timer = {};
		timer.it_value.tv_sec = static_cast<time_t>(seconds);
		timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - static_cast<double>(timer.it_value.tv_sec)) * 1e6);
		setitimer(ITIMER_REAL, &timer, nullptr);
	}
	std::function<void(unsigned int)> job = deep::work;
	std::thread second(deep::run, std::cref(job), 7u);
	deep::run(job, 3u);
	second.join();
	return 0;
}
