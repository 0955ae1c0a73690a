/* SPDX-License-Identifier: MIT */
/*
 * Data described by BTF, as JSON.
 */
#ifndef UB_LOADER_BTF_JSON_H
#define UB_LOADER_BTF_JSON_H

#include <bpf/btf.h>
#include <json-c/json.h>

#include <common/types.h>

/* The @size bytes at @data as type @type_id of @btf: numbers, objects for structs, arrays, strings
 * for arrays of char; a hex string where there is no type (@btf NULL or @type_id 0) or the size
 * does not fit. */
struct json_object *ub_btf_to_json(const struct btf *btf, u32 type_id, const void *data,
				   size_t size);

#endif
