// SPDX-License-Identifier: MIT
/* Work for libstdc++: see everything.c. */
#include <algorithm>
#include <chrono>
#include <codecvt>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <list>
#include <locale>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <numeric>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

namespace
{

void streams()
{
	std::ostringstream out;
	std::istringstream in("17 0x1f 3.25 word true 9999999999999999999999");
	int a, b;
	double real;
	std::string word;
	bool truth;
	long huge = 0;

	in >> a >> std::hex >> b >> std::dec >> real >> word >> std::boolalpha >> truth >> huge;
	out << a << ' ' << b << ' ' << real << ' ' << word << ' ' << truth << ' ' << in.fail() << ' ' << huge << '\n';
	for (int i = 0; i < 200; i++)
		out << std::setw(i % 20) << std::setfill(i % 2 ? '*' : ' ') << (i % 3 ? std::left : std::right) << i * i << ' '
		    << std::scientific << std::setprecision(i % 15) << i / 7.0 << ' ' << std::hexfloat << i / 3.0 << std::defaultfloat
		    << std::showbase << std::hex << i << std::dec << '\n';
	std::wostringstream wide;
	wide << L"wide " << 42 << L' ' << std::boolalpha << false;
	out << wide.str().size() << ' ' << std::put_money("12345") << '\n';
	std::tm date = {};
	date.tm_year = 99;
	date.tm_mon = 11;
	date.tm_mday = 31;
	out << std::put_time(&date, "%Y-%m-%d %j") << '\n';
	std::cout << out.str();
}

void text()
{
	std::string log;
	for (int i = 0; i < 300; i++)
		log += "2026-11-" + std::to_string(i % 28 + 1) + " host" + std::to_string(i % 7) + " took " + std::to_string(i * 3) + "ms\n";
	const std::regex line("([0-9-]+) (host\\d) took (\\d+)ms"), swap("(\\w+)-(\\w+)");
	std::map<std::string, long> sums;
	for (std::sregex_iterator it(log.begin(), log.end(), line), end; it != end; ++it)
		sums[(*it)[2]] += std::stol((*it)[3]);
	for (const auto &[host, sum] : sums)
		std::cout << host << '=' << sum << ' ';
	std::cout << std::regex_replace(std::string("left-right up-down"), swap, "$2-$1") << '\n';
	try {
		std::regex bad("([a-z");
	} catch (const std::regex_error &error) {
		std::cout << error.code() << '\n';
	}
	std::wstring_convert<std::codecvt_utf8<wchar_t>> convert;
	std::cout << convert.from_bytes("gr\xc3\xbc\xc3\x9f").size() << ' ' << convert.to_bytes(L"\x20ac").size() << '\n';
}

void containers()
{
	std::mt19937_64 random(7);
	std::unordered_map<std::string, std::vector<int>> hashed;
	std::multiset<long> sorted;
	std::list<double> list;
	std::pmr::monotonic_buffer_resource memory;
	std::pmr::map<int, std::pmr::string> small(&memory);

	for (int i = 0; i < 5000; i++) {
		long n = (long)(random() % 1000);
		hashed["key " + std::to_string(n)].push_back(i);
		sorted.insert(n);
		if (sorted.size() > 500)
			sorted.erase(sorted.begin());
		small[i % 50] += "x";
	}
	std::uniform_real_distribution<double> uniform(0, 1);
	for (int i = 0; i < 1000; i++)
		list.push_front(uniform(random));
	list.sort();
	std::vector<int> all(10000);
	std::iota(all.begin(), all.end(), 0);
	std::shuffle(all.begin(), all.end(), random);
	std::stable_sort(all.begin(), all.end(), [](int a, int b) { return a % 10 < b % 10; });
	std::cout << hashed.size() << ' ' << *sorted.begin() << ' ' << list.front() << ' ' << all[123] << ' ' << small[7].size() << '\n';
}

long thrown(int depth)
{
	struct Guard {
		long &count;
		~Guard() { count++; }
	};
	static long guards;
	Guard guard{ guards };

	if (depth == 0)
		throw std::out_of_range("bottom");
	try {
		return thrown(depth - 1);
	} catch (const std::out_of_range &) {
		if (depth % 5)
			throw;
		std::throw_with_nested(std::runtime_error("layer"));
	} catch (const std::runtime_error &) {
		if (depth == 20)
			return guards;
		throw;
	}
}

void exceptions()
{
	long last = 0;
	for (int i = 0; i < 100; i++)
		last = thrown(20);
	std::cout << last << '\n';
	for (const auto &fails : std::vector<std::function<void()>>{ [] { std::string("x").at(5); }, [] { std::stoi("none"); },
			[] { std::vector<int>().at(1); }, [] { (void)std::filesystem::file_size("/none"); }, [] { std::locale("none_NONE"); },
			[] { std::bad_function_call error; throw error; }, [] { dynamic_cast<std::ostringstream &>(static_cast<std::ostream &>(std::cout)); } }) {
		try {
			fails();
		} catch (const std::exception &error) {
			std::cout << error.what() << '\n';
		}
	}
}

void threads()
{
	std::mutex mutex;
	std::condition_variable changed;
	std::vector<std::future<long>> futures;
	int turn = 0;

	for (int i = 0; i < 4; i++)
		futures.push_back(std::async(std::launch::async, [&, i] {
			long sum = 0;
			for (int k = 0; k < 50; k++) {
				std::unique_lock<std::mutex> lock(mutex);
				changed.wait(lock, [&] { return turn % 4 == i; });
				sum += turn++;
				changed.notify_all();
			}
			return sum;
		}));
	for (auto &future : futures)
		std::cout << future.get() << ' ';
	auto shared = std::make_shared<std::string>("shared");
	std::promise<std::string> promise;
	std::thread thread([&, weak = std::weak_ptr<std::string>(shared)] { promise.set_value(*weak.lock()); });
	std::cout << promise.get_future().get() << '\n';
	thread.join();
}

} // namespace

int main()
{
	std::string line;

	std::cout << "ready" << std::endl;
	std::getline(std::cin, line);
	for (int i = 0; i < 3; i++) {
		streams();
		text();
		containers();
		exceptions();
		threads();
	}
	std::cout << "done" << std::endl;
	std::getline(std::cin, line);
	return 0;
}
