// SPDX-License-Identifier: MIT
/*
 * Overlapping jumps: places are taken where the bytes of the file lead to, given back, and used up;
 * where there are none, what is behind makes way; and jumps that would not lead where they shall
 * are found before anything is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <hook/flow.h>
#include <hook/image_private.h>
#include <hook/plan.h>
#include <hook/pun.h>

#define BASE 0x500000000000ull

static const u8 *bytes_of(void *opaque, const struct ub_site *site, u64 *available)
{
	const u8 *bytes = opaque;

	*available = 32 - (site->address - BASE);
	return bytes + (site->address - BASE);
}

static struct ub_site site_at(u64 at, u64 to, const u8 *new, u32 len)
{
	struct ub_site site = { .address = BASE + at, .len = len, .to = BASE + to };

	memcpy(site.new, new, len);
	return site;
}

static void test_check(void **state)
{
	/* At 2 a window of two bytes, whose distance ends with the two behind, at 16 a whole one. */
	static const u8 two[] = { 0xe9, 0x11 };
	static const u8 whole[] = { 0xe9, 0x10, 0x20, 0x30, 0 };
	static const u8 other[] = { 0xe9, 0x10, 0x20, 0x30, 0 };
	u8 file[32] = {};
	struct ub_reason why = {};
	struct ub_site sites[3] = {
		site_at(2, 2 + 5 + 0x332211, two, 2),
		site_at(16, 16 + 5 + 0x302010, whole, 5),
	};

	memcpy(file + 4, "\x22\x33\x00", 3);
	assert_int_equal(ub_jumps_check(sites, 2, bytes_of, file, &why), 0);
	sites[0].to++;
	assert_int_equal(ub_jumps_check(sites, 2, bytes_of, file, &why), -EINVAL);
	assert_non_null(strstr(why.text, "would lead to"));
	sites[0].to--;
	/* Somebody's jump in what the first one is made of, */
	sites[2] = sites[1];
	sites[1] = site_at(5, 5 + 5 + 0x302010, other, 5);
	assert_int_equal(ub_jumps_check(sites, 3, bytes_of, file, &why), -EINVAL);
	/* right behind it, */
	sites[1] = site_at(7, 7 + 5 + 0x302010, other, 5);
	assert_int_equal(ub_jumps_check(sites, 3, bytes_of, file, &why), 0);
	/* and in what is overwritten. */
	sites[1] = site_at(3, 3 + 5 + 0x302010, other, 5);
	assert_int_equal(ub_jumps_check(sites, 3, bytes_of, file, &why), -EINVAL);
	assert_non_null(strstr(why.text, "overlaps"));
	/* No jump at all; and one that the code ends within. */
	sites[0] = site_at(2, 2, (const u8 *)"\x90\x90", 2);
	assert_int_equal(ub_jumps_check(sites, 1, bytes_of, file, &why), -EINVAL);
	sites[0] = site_at(28, 28 + 5, two, 2);
	assert_int_equal(ub_jumps_check(sites, 1, bytes_of, file, &why), -EINVAL);
}

/* Two bytes of distance to choose, the other two given: as many landings as fit into 64 KiB, none of
 * them across another, and room again when they are given back. */
static void test_places(void **state)
{
	const struct ub_pun_chain chain = { .nr = 1, .len = { 3 }, .keep = 0x78 };
	static const u8 file[] = { 0, 0, 0, 0x40, 0x05, 0, 0 };
	struct ub_address_space space = {};
	struct ub_pun_pages pages = { .space = &space };
	struct ub_pun_placed *placed = calloc(8192, sizeof(*placed));
	u32 nr = 0;
	int err;

	assert_non_null(placed);
	while (nr < 8192) {
		err = ub_pun_place(&pages, &chain, BASE, file, &placed[nr]);
		if (err)
			break;
		nr++;
	}
	assert_int_equal(err, -ENOSPC);
	/* Of prefixes one (a distance of 0x0540.... becomes 0x000540..) and two, too. */
	assert_true(nr >= 16 * (UB_PUN_PAGE / UB_PUN_STUB) && nr < 8192);
	for (u32 i = 0; i < nr; i++) {
		s32 distance;

		memcpy(&distance, placed[i].value + placed[i].distance[0], sizeof(distance));
		assert_int_equal(BASE + placed[i].distance[0] + 4 + (u64)(s64)distance,
				 placed[i].landing[0]);
		assert_true(placed[i].end <= 3 + 4);
		assert_memory_equal(placed[i].value + 3, file + 3, placed[i].end - 3u);
		for (u32 k = 0; k < i; k++)
			assert_true(placed[k].landing[0] + UB_PUN_STUB <= placed[i].landing[0] ||
				    placed[i].landing[0] + UB_PUN_STUB <= placed[k].landing[0]);
	}
	for (u32 i = 1; i < nr; i += 2)
		ub_pun_give_back(&pages, &placed[i]);
	for (u32 i = 1; i < nr; i += 2)
		assert_int_equal(ub_pun_place(&pages, &chain, BASE, file, &placed[i]), 0);
	assert_int_equal(ub_pun_place(&pages, &chain, BASE, file, &placed[0]), -ENOSPC);
	ub_pun_pages_free(&pages);
	ub_address_space_free(&space);
	free(placed);
}

/* What @land is asked for, and what it allows. */
struct asked {
	u32 refuse; /* chains of so many windows and fewer */
	u32 nr;
};

static int land(void *opaque, u64 address, const struct ub_pun_chain *chain, const u8 *file,
		u32 *landing, u32 *claim)
{
	struct asked *asked = opaque;

	asked->nr++;
	if (chain->nr <= asked->refuse)
		return -ENOSPC;
	*landing = 7;
	return 0;
}

/* libc's entries and instructions for which an overlapping jump is what is left. */
static void test_fallback(void **state)
{
	struct asked asked = {};
	const struct ub_plan_options anywhere = {};
	const struct ub_plan_options options = { .land = land, .opaque = &asked };
	u32 punned = 0, evicted = 0, refused = 0;
	struct ub_flow_insns insns = {};
	struct ub_planner *planners[2];
	struct ub_elf *elf;
	int fd = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		skip();
	assert_int_equal(ub_elf_open(fd, &elf, NULL), 0);
	close(fd);
	planners[0] = ub_planner_new(elf, &anywhere);
	planners[1] = ub_planner_new(elf, &options);
	assert_true(planners[0] && planners[1]);
	for (u32 f = 0; f < elf->nr_functions && punned < 2000; f++) {
		if (elf->functions[f].gap)
			continue;
		assert_int_equal(ub_flow_decode(elf, &elf->functions[f], &insns), 0);
		for (u32 i = 0; i < insns.nr; i++) {
			const u64 address = insns.insns[i].address;
			struct ub_plan_result result;

			assert_int_equal(ub_planner_try(planners[0], address, &result), 0);
			if (result.tactic != UB_TACTIC_PUN)
				continue;
			punned++;
			asked = (struct asked) {};
			assert_int_equal(ub_planner_try(planners[1], address, &result), 0);
			assert_int_equal(result.tactic, UB_TACTIC_PUN);
			assert_int_equal(asked.nr, 1);
			asked = (struct asked) { .refuse = 1 };
			assert_int_equal(ub_planner_try(planners[1], address, &result), 0);
			evicted += result.tactic == UB_TACTIC_EVICT;
			asked = (struct asked) { .refuse = UB_PUN_MAX_CHAIN };
			assert_int_equal(ub_planner_try(planners[1], address, &result), 0);
			assert_int_equal(result.tactic, UB_TACTIC_NONE);
			refused += result.refusal == UB_REFUSED_NO_LANDING;
		}
	}
	print_message("%u overlapping jumps, %u without memory evict what is behind\n", punned,
		      evicted);
	assert_true(punned > 100);
	assert_true(evicted > punned / 2);
	assert_int_equal(refused, punned);
	ub_planner_free(planners[0]);
	ub_planner_free(planners[1]);
	ub_flow_insns_free(&insns);
	ub_elf_put(elf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_fallback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
