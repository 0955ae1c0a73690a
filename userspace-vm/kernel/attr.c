// SPDX-License-Identifier: MIT
#include <kernel/attr.h>

#include <ctype.h>
#include <string.h>

#define PAGE_SIZE 4096u

static bool all_zero(const u8 *bytes, size_t size)
{
	while (size)
		if (bytes[--size])
			return false;
	return true;
}

int ub_attr_copy_in(struct ub_attr *attr, struct ub_caller *caller, u64 address, u32 size)
{
	u8 page[PAGE_SIZE];
	int err;

	if (size > PAGE_SIZE)
		return -E2BIG;
	memset(attr, 0, sizeof(*attr));
	if (size) {
		err = caller->read(caller, address, page, size);
		if (err)
			return err;
	}
	attr->address = address;
	attr->size = size < UB_ATTR_SIZE ? size : UB_ATTR_SIZE;
	memcpy(attr->bytes, page, attr->size);
	if (size > UB_ATTR_SIZE && !all_zero(page + UB_ATTR_SIZE, size - UB_ATTR_SIZE))
		return -E2BIG;
	return 0;
}

bool ub_attr_tail_zero(const struct ub_attr *attr, size_t end)
{
	return all_zero(attr->bytes + end, UB_ATTR_SIZE - end);
}

int ub_attr_write(const struct ub_attr *attr, struct ub_caller *caller, size_t offset,
		  const void *from, size_t size)
{
	return caller->write(caller, attr->address + offset, from, size);
}

int ub_attr_name(char *into, const char *from)
{
	char name[BPF_OBJ_NAME_LEN] = { 0 };

	for (u32 i = 0; i < BPF_OBJ_NAME_LEN; i++) {
		if (!from[i]) {
			memcpy(into, name, sizeof(name));
			return (int)i;
		}
		if (!isalnum((unsigned char)from[i]) && from[i] != '_' && from[i] != '.')
			return -EINVAL;
		name[i] = from[i];
	}
	return -EINVAL;
}

int ub_caller_string(struct ub_caller *caller, u64 address, char *into, size_t size)
{
	size_t done = 0;

	/* Page by page: the string may end just before memory that can't be read. */
	while (done < size) {
		size_t chunk = PAGE_SIZE - ((address + done) & (PAGE_SIZE - 1));
		char *end;
		int err;

		if (chunk > size - done)
			chunk = size - done;
		err = caller->read(caller, address + done, into + done, chunk);
		if (err)
			return err;
		end = memchr(into + done, 0, chunk);
		if (end)
			return (int)(end - into);
		done += chunk;
	}
	return -E2BIG;
}
