// SPDX-License-Identifier: MIT
/*
 * Exceptions that pass through probed functions: thrown and caught in the same one, through several,
 * through ones that clean up on the way, rethrown, and out of functions that left by a tail call.
 */
#include <stdexcept>
#include <string>

#include "victim.h"

static long cleaned;

struct cleaner {
	~cleaner()
	{
		cleaned++;
	}
};

struct animal {
	virtual long speak(long how) = 0;
	virtual ~animal()
	{
	}
};

struct dog : animal {
	long speak(long how) override
	{
		if (how % 3 == 0)
			throw std::runtime_error(std::to_string(how));
		return how * 2;
	}
};

extern "C" {

/* A virtual call in tail position: a jump through a register. */
__attribute__((noinline)) long probed_tail(animal *whose, long how)
{
	return whose->speak(how);
}

__attribute__((noinline)) long probed_cleaning(animal *whose, long how)
{
	cleaner c;

	return probed_tail(whose, how) + 1;
}

__attribute__((noinline)) long probed_catching(animal *whose, long how)
{
	try {
		return probed_cleaning(whose, how);
	} catch (const std::exception &e) {
		return -std::stol(e.what());
	}
}

__attribute__((noinline)) long probed_rethrowing(animal *whose, long how)
{
	try {
		return probed_catching(whose, how) + probed_cleaning(whose, how);
	} catch (...) {
		cleaned += 100;
		throw;
	}
}
}

static animal *volatile rex = new dog;

static void work(void)
{
	for (long i = 1; i <= 30; i++) {
		long before = cleaned, result = 0;
		bool thrown = i % 3 == 0;

		/* rethrowing, catching, and twice cleaning and tail. */
		for (int k = 0; k < 6; k++)
			LEAVES();
		/* Of those return: catching always, the others unless thrown through. */
		victim_returned += thrown ? 1 : 6;
		try {
			result = probed_rethrowing(rex, i);
			CHECK(!thrown && result == 4 * i + 2);
		} catch (const std::runtime_error &e) {
			CHECK(thrown && std::stol(e.what()) == i);
		}
		CHECK(cleaned == before + (thrown ? 102 : 2));
	}
}

int main()
{
	return victim_main(work);
}
