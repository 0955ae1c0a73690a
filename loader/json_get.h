/* SPDX-License-Identifier: MIT */
/* What an answer says, or nothing: "", 0, NULL. */
#ifndef UB_LOADER_JSON_GET_H
#define UB_LOADER_JSON_GET_H

#include <json-c/json.h>

#include <common/types.h>

static inline const char *ub_json_string(struct json_object *object, const char *key)
{
	struct json_object *value;
	const char *text = json_object_object_get_ex(object, key, &value)
				   ? json_object_get_string(value)
				   : NULL;

	return text ? text : "";
}

static inline s64 ub_json_number(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_int64(value) : 0;
}

static inline struct json_object *ub_json_array(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) &&
			       json_object_is_type(value, json_type_array)
		       ? value
		       : NULL;
}

static inline size_t ub_json_length(struct json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

#endif
