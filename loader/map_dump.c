// SPDX-License-Identifier: MIT
#include "map_dump.h"

#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include <common/cleanup.h>

#include "btf_json.h"

u64 ub_map_count_of(const struct ub_programs *programs, const char *name, pid_t pid)
{
	struct bpf_map *map = bpf_object__find_map_by_name(programs->object, name);
	u32 key = (u32)pid;
	u64 value;

	if (!map || bpf_map__lookup_elem(map, &key, sizeof(key), &value, sizeof(value), 0))
		return 0;
	return value;
}

void ub_map_forget(const struct ub_programs *programs, const char *name, pid_t pid)
{
	struct bpf_map *map = bpf_object__find_map_by_name(programs->object, name);
	u32 key = (u32)pid;

	if (map)
		bpf_map__delete_elem(map, &key, sizeof(key), 0);
}

static int compare_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

int ub_map_each_count(const struct ub_programs *programs, const char *name,
		      void (*fn)(void *opaque, pid_t pid, u64 count), void *opaque)
{
	struct bpf_map *map = bpf_object__find_map_by_name(programs->object, name);
	_cleanup_free_ u32 *keys = NULL;
	u32 nr = 0, max;

	if (!map)
		return -ENOENT;
	max = bpf_map__max_entries(map);
	keys = calloc(max, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	while (nr < max &&
	       !bpf_map__get_next_key(map, nr ? &keys[nr - 1] : NULL, &keys[nr], sizeof(*keys)))
		nr++;
	qsort(keys, nr, sizeof(*keys), compare_u32);
	for (u32 i = 0; i < nr; i++) {
		if (!i || keys[i] != keys[i - 1])
			fn(opaque, (pid_t)keys[i], ub_map_count_of(programs, name, (pid_t)keys[i]));
	}
	return 0;
}

static bool is_per_cpu(enum bpf_map_type type)
{
	return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

static bool can_be_dumped(const struct bpf_map *map)
{
	switch (bpf_map__type(map)) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_LPM_TRIE:
		return true;
	default:
		return false;
	}
}

static struct json_object *value_to_json(const struct bpf_map *map, const struct btf *btf,
					 const char *value, u32 nr_cpus)
{
	u32 type = bpf_map__btf_value_type_id(map);
	u32 size = bpf_map__value_size(map);
	struct json_object *array;

	if (!is_per_cpu(bpf_map__type(map)))
		return ub_btf_to_json(btf, type, value, size);
	array = json_object_new_array();
	for (u32 i = 0; i < nr_cpus; i++)
		json_object_array_add(
			array,
			ub_btf_to_json(btf, type, value + (size_t)i * ub_round_up(size, 8u), size));
	return array;
}

static int compare_entries(const void *a, const void *b)
{
	struct json_object *x, *y;

	json_object_object_get_ex(*(struct json_object *const *)a, "key", &x);
	json_object_object_get_ex(*(struct json_object *const *)b, "key", &y);
	if (json_object_is_type(x, json_type_int) && json_object_is_type(y, json_type_int)) {
		s64 i = json_object_get_int64(x), j = json_object_get_int64(y);

		return i < j ? -1 : i > j;
	}
	return strcmp(json_object_to_json_string(x), json_object_to_json_string(y));
}

static struct json_object *map_to_json(const struct bpf_map *map, const struct btf *btf,
				       u32 max_entries)
{
	u32 key_size = bpf_map__key_size(map);
	u32 nr_cpus = (u32)libbpf_num_possible_cpus();
	size_t value_size = bpf_map__value_size(map);
	_cleanup_free_ char *key = NULL;
	_cleanup_free_ char *next = NULL;
	_cleanup_free_ char *value = NULL;
	struct json_object *array = json_object_new_array();
	bool first = true;

	if (is_per_cpu(bpf_map__type(map)))
		value_size = ub_round_up(value_size, (size_t)8) * nr_cpus;
	key = malloc(key_size);
	next = malloc(key_size);
	value = calloc(1, value_size);
	for (u32 i = 0; key && next && value && i < max_entries; i++, first = false) {
		struct json_object *entry;

		if (bpf_map__get_next_key(map, first ? NULL : key, next, key_size))
			break;
		memcpy(key, next, key_size);
		if (bpf_map__lookup_elem(map, key, key_size, value, value_size, 0))
			continue;
		entry = json_object_new_object();
		json_object_object_add(
			entry, "key",
			ub_btf_to_json(btf, bpf_map__btf_key_type_id(map), key, key_size));
		json_object_object_add(entry, is_per_cpu(bpf_map__type(map)) ? "values" : "value",
				       value_to_json(map, btf, value, nr_cpus));
		json_object_array_add(array, entry);
	}
	json_object_array_sort(array, compare_entries);
	return array;
}

static struct json_object *maps_to_json(const struct ub_programs *programs, u32 max_entries)
{
	const struct btf *btf = bpf_object__btf(programs->object);
	struct json_object *maps = json_object_new_object();
	struct bpf_map *map;

	bpf_object__for_each_map(map, programs->object)
	{
		const char *name = bpf_map__name(map);

		if (can_be_dumped(map) && !strstr(name, ".rodata") && !strstr(name, ".kconfig") &&
		    strncmp(name, "__bpf_usdt", 10))
			json_object_object_add(maps, name, map_to_json(map, btf, max_entries));
	}
	return maps;
}

struct json_object *ub_maps_to_json(const struct ub_programs *programs)
{
	return maps_to_json(programs, UB_DUMP_ENTRIES);
}

struct json_object *ub_results_to_json(const struct ub_programs *programs, u32 max_entries)
{
	struct json_object *maps = maps_to_json(programs, max_entries);

	if (programs->bundled && programs->bundled->working_map)
		json_object_object_del(maps, programs->bundled->working_map);
	return maps;
}
