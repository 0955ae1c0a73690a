// SPDX-License-Identifier: MIT
/*
 * Exceptions that libstdc++'s own USDT probes see. Says what they should see: see usdt.sh.
 */
#include <cstdio>
#include <thread>
#include <typeinfo>
#include <vector>

struct ProbedError {
	int number;
};

struct ProbedOther {
	int number;
	char more[100];
};

namespace
{

void both(int n)
{
	try {
		throw ProbedOther{ -n, "" };
	} catch (ProbedOther &) {
		try {
			try {
				throw ProbedError{ n };
			} catch (ProbedError &) {
				throw;
			}
		} catch (ProbedError &) {
		}
	}
}

const int threads = 4, rounds = 500;

void work()
{
	for (int i = 1; i <= rounds; i++)
		both(i);
}

} // namespace

int main()
{
	const int nr = threads * rounds, sum = nr * (rounds + 1) / 2;
	std::vector<std::thread> all;

	puts("ready");
	fflush(stdout);
	getchar();
	for (int i = 0; i < threads; i++)
		all.emplace_back(work);
	for (std::thread &thread : all)
		thread.join();
	printf("expect throw %s %d %d\n", typeid(ProbedError).name(), nr, sum);
	printf("expect throw %s %d %d\n", typeid(ProbedOther).name(), nr, -sum);
	printf("expect rethrow %s %d %d\n", typeid(ProbedError).name(), nr, sum);
	printf("expect catch %s %d %d\n", typeid(ProbedError).name(), 2 * nr, 2 * sum);
	printf("expect catch %s %d %d\n", typeid(ProbedOther).name(), nr, -sum);
	puts("done");
	fflush(stdout);
	getchar();
	return 0;
}
