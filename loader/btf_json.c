// SPDX-License-Identifier: MIT
#include "btf_json.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 16 };

static struct json_object *convert(const struct btf *btf, u32 type_id, const void *data,
				   size_t size, int depth);

static struct json_object *hex(const void *data, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	struct json_object *object;
	const u8 *bytes = data;
	char *text = malloc(2 * size + 1);

	if (!text)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	object = json_object_new_string_len(text, (int)(2 * size));
	free(text);
	return object;
}

/* @bits bits from bit @shift of the little-endian number at @data. */
static u64 load_bits(const void *data, size_t size, u32 shift, u32 bits)
{
	u64 value = 0;

	memcpy(&value, data, size > 8 ? 8 : size);
	value >>= shift;
	return bits >= 64 ? value : value & ((1ull << bits) - 1);
}

static struct json_object *number(u64 value, u32 bits, bool is_signed)
{
	if (!is_signed)
		return json_object_new_uint64(value);
	if (bits < 64 && (value >> (bits - 1)))
		value |= ~0ull << bits;
	return json_object_new_int64((s64)value);
}

static struct json_object *convert_array(const struct btf *btf, const struct btf_type *type,
					 const void *data, size_t size, int depth)
{
	const struct btf_array *array = btf_array(type);
	const struct btf_type *element = btf__type_by_id(btf, btf__resolve_type(btf, array->type));
	s64 element_size = btf__resolve_size(btf, array->type);
	struct json_object *object;

	if (!element || element_size <= 0 || (u64)element_size * array->nelems > size)
		return hex(data, size);
	if (btf_is_int(element) && element_size == 1 &&
	    strstr(btf__name_by_offset(btf, element->name_off), "char"))
		return json_object_new_string_len(data, (int)strnlen(data, array->nelems));
	object = json_object_new_array();
	for (u32 i = 0; i < array->nelems; i++)
		json_object_array_add(object, convert(btf, array->type,
						      (const char *)data + i * element_size,
						      element_size, depth + 1));
	return object;
}

static struct json_object *convert_bitfield(const struct btf *btf, u32 type_id, const void *data,
					    size_t size, u32 bit_offset, u32 bits)
{
	const struct btf_type *type = btf__type_by_id(btf, btf__resolve_type(btf, type_id));
	u32 byte = bit_offset / 8;
	bool is_signed = type && btf_is_int(type) && (btf_int_encoding(type) & BTF_INT_SIGNED);

	if (byte >= size)
		return NULL;
	return number(load_bits((const char *)data + byte, size - byte, bit_offset % 8, bits), bits,
		      is_signed);
}

static struct json_object *convert_struct(const struct btf *btf, const struct btf_type *type,
					  const void *data, size_t size, int depth)
{
	struct json_object *object = json_object_new_object();
	const struct btf_member *member = btf_members(type);

	for (u32 i = 0; i < btf_vlen(type); i++, member++) {
		const char *name = btf__name_by_offset(btf, member->name_off);
		u32 bit_offset = btf_member_bit_offset(type, i);
		u32 bits = btf_member_bitfield_size(type, i);
		s64 member_size = btf__resolve_size(btf, member->type);
		struct json_object *value = NULL;
		char number_text[16];

		if (bits)
			value = convert_bitfield(btf, member->type, data, size, bit_offset, bits);
		else if (member_size >= 0 && bit_offset / 8 + (u64)member_size <= size)
			value = convert(btf, member->type, (const char *)data + bit_offset / 8,
					member_size, depth + 1);
		if (!name || !*name) {
			snprintf(number_text, sizeof(number_text), "%u", i);
			name = number_text;
		}
		json_object_object_add(object, name, value);
	}
	return object;
}

static struct json_object *convert(const struct btf *btf, u32 type_id, const void *data,
				   size_t size, int depth)
{
	s64 resolved = btf && type_id ? btf__resolve_type(btf, type_id) : -1;
	const struct btf_type *type = resolved > 0 ? btf__type_by_id(btf, resolved) : NULL;
	double real;

	if (!type || depth > MAX_DEPTH || btf__resolve_size(btf, resolved) > (s64)size)
		return hex(data, size);
	switch (btf_kind(type)) {
	case BTF_KIND_INT:
		if (type->size > 8)
			return hex(data, size);
		if (btf_int_encoding(type) & BTF_INT_BOOL)
			return json_object_new_boolean(load_bits(data, type->size, 0, 64) != 0);
		return number(load_bits(data, type->size, 0, 64), type->size * 8,
			      btf_int_encoding(type) & BTF_INT_SIGNED);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return number(load_bits(data, type->size, 0, 64), type->size * 8, false);
	case BTF_KIND_PTR:
		return json_object_new_uint64(load_bits(data, 8, 0, 64));
	case BTF_KIND_FLOAT:
		if (type->size != sizeof(real))
			return hex(data, size);
		memcpy(&real, data, sizeof(real));
		return json_object_new_double(real);
	case BTF_KIND_ARRAY:
		return convert_array(btf, type, data, size, depth);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return convert_struct(btf, type, data, size, depth);
	default:
		return hex(data, size);
	}
}

struct json_object *ub_btf_to_json(const struct btf *btf, u32 type_id, const void *data,
				   size_t size)
{
	return convert(btf, type_id, data, size, 0);
}
