// SPDX-License-Identifier: MIT
/*
 * Whether a client's BTF is well formed: what kernel/bpf/btf.c checks before it believes anything,
 * in the same words. libbpf, which parses it afterwards, trusts its input more than one should.
 *
 * Three passes: header and sections; each type by itself (check_meta); references between types
 * (btf_references.c).
 */
#include <kernel/btf_check.h>

#include <ctype.h>
#include <string.h>

#define ENOTSUPP	524
#define MAX_SIZE	(16u << 20)
#define MAX_NAME_OFFSET 0x00ffffffu
#define MAX_TYPE	0x000fffffu
#define INFO_MASK	0x9f00ffffu

static int bad_type(const struct ub_btf_check *c, const struct btf_type *t, int err,
		    const char *what)
{
	ub_log_printf(c->log, "[%u] kind=%u name=%s size/type=%u vlen=%u %s\n", c->nr + 1,
		      BTF_INFO_KIND(t->info),
		      t->name_off < c->str_len ? c->strings + t->name_off : "?", t->size,
		      BTF_INFO_VLEN(t->info), what);
	return err;
}

static bool name_offset_valid(const struct ub_btf_check *c, u32 offset)
{
	return offset <= MAX_NAME_OFFSET && offset < c->str_len;
}

/* A C identifier, in which compilers may have put dots. */
static bool is_identifier(const struct ub_btf_check *c, u32 offset)
{
	const char *s = c->strings + offset;
	size_t i;

	if (!isalpha((unsigned char)s[0]) && s[0] != '_' && s[0] != '.')
		return false;
	for (i = 1; s[i]; i++)
		if (i >= 512 || (!isalnum((unsigned char)s[i]) && s[i] != '_' && s[i] != '.'))
			return false;
	return true;
}

static bool is_section(const struct ub_btf_check *c, u32 offset)
{
	const char *s = c->strings + offset;

	if (!*s)
		return false;
	for (; *s; s++)
		if (!isprint((unsigned char)*s))
			return false;
	return true;
}

static bool id_valid(u32 id)
{
	return id <= MAX_TYPE;
}

static int check_int(const struct ub_btf_check *c, const struct btf_type *t, const u32 *data)
{
	u32 bits = BTF_INT_BITS(*data), encoding = BTF_INT_ENCODING(*data);

	if (*data & 0xf0000000u)
		return bad_type(c, t, -EINVAL, "Invalid int_data");
	bits += BTF_INT_OFFSET(*data);
	if (bits > 128)
		return bad_type(c, t, -EINVAL, "nr_bits exceeds 128");
	if ((bits + 7) / 8 > t->size)
		return bad_type(c, t, -EINVAL, "nr_bits exceeds type_size");
	if (encoding && encoding != BTF_INT_SIGNED && encoding != BTF_INT_CHAR &&
	    encoding != BTF_INT_BOOL)
		return bad_type(c, t, -ENOTSUPP, "Unsupported encoding");
	return 0;
}

static int check_reference(const struct ub_btf_check *c, const struct btf_type *t, u32 kind)
{
	if (!id_valid(t->type))
		return bad_type(c, t, -EINVAL, "Invalid type_id");
	if (kind == BTF_KIND_TYPEDEF)
		return t->name_off && is_identifier(c, t->name_off)
			       ? 0
			       : bad_type(c, t, -EINVAL, "Invalid name");
	if (kind == UB_BTF_KIND_TYPE_TAG)
		return c->strings[t->name_off] ? 0 : bad_type(c, t, -EINVAL, "Invalid name");
	return t->name_off ? bad_type(c, t, -EINVAL, "Invalid name") : 0;
}

static int check_struct(const struct ub_btf_check *c, const struct btf_type *t,
			const struct btf_member *members, bool is_union)
{
	u32 last = 0;

	if (t->name_off && !is_identifier(c, t->name_off))
		return bad_type(c, t, -EINVAL, "Invalid name");
	for (u32 i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		const struct btf_member *m = &members[i];
		u32 offset = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m->offset) : m->offset;

		if (!name_offset_valid(c, m->name_off))
			return bad_type(c, t, -EINVAL, "Invalid member name_offset");
		if (m->name_off && !is_identifier(c, m->name_off))
			return bad_type(c, t, -EINVAL, "Invalid name");
		if (!m->type || !id_valid(m->type))
			return bad_type(c, t, -EINVAL, "Invalid type_id");
		if (is_union && offset)
			return bad_type(c, t, -EINVAL, "Invalid member bits_offset");
		if (last > offset)
			return bad_type(c, t, -EINVAL, "Invalid member bits_offset");
		if (offset / 8 + !!(offset % 8) > t->size)
			return bad_type(c, t, -EINVAL, "bits_offset exceeds its struct size");
		last = offset;
	}
	return 0;
}

/* struct btf_enum and btf_enum64 both start with the name. */
static int check_enum(const struct ub_btf_check *c, const struct btf_type *t, const u8 *values,
		      u32 stride)
{
	if (t->size > 8 || !t->size || t->size & (t->size - 1))
		return bad_type(c, t, -EINVAL, "Unexpected size");
	if (t->name_off && !is_identifier(c, t->name_off))
		return bad_type(c, t, -EINVAL, "Invalid name");
	for (u32 i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		u32 name;

		memcpy(&name, values + (size_t)i * stride, sizeof(name));
		if (!name_offset_valid(c, name))
			return bad_type(c, t, -EINVAL, "Invalid name_offset");
		if (!name || !is_identifier(c, name))
			return bad_type(c, t, -EINVAL, "Invalid name");
	}
	return 0;
}

static int check_params(const struct ub_btf_check *c, const struct btf_type *t,
			const struct btf_param *params)
{
	if (t->name_off)
		return bad_type(c, t, -EINVAL, "Invalid name");
	if (!id_valid(t->type))
		return bad_type(c, t, -EINVAL, "Invalid return type");
	for (u32 i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		if (!id_valid(params[i].type) || !name_offset_valid(c, params[i].name_off))
			return bad_type(c, t, -EINVAL, "Invalid arg");
		if (params[i].name_off && !is_identifier(c, params[i].name_off))
			return bad_type(c, t, -EINVAL, "Invalid arg");
	}
	return 0;
}

static int check_datasec(const struct ub_btf_check *c, const struct btf_type *t,
			 const struct btf_var_secinfo *vars)
{
	u64 last_end = 0, sum = 0;

	if (!t->size)
		return bad_type(c, t, -EINVAL, "size == 0");
	if (!t->name_off || !is_section(c, t->name_off))
		return bad_type(c, t, -EINVAL, "Invalid name");
	for (u32 i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		if (!vars[i].type || !id_valid(vars[i].type))
			return bad_type(c, t, -EINVAL, "Invalid type_id");
		if (vars[i].offset < last_end || vars[i].offset >= t->size)
			return bad_type(c, t, -EINVAL, "Invalid offset");
		if (!vars[i].size || vars[i].size > t->size)
			return bad_type(c, t, -EINVAL, "Invalid size");
		last_end = (u64)vars[i].offset + vars[i].size;
		if (last_end > t->size)
			return bad_type(c, t, -EINVAL, "Invalid offset+size");
		sum += vars[i].size;
	}
	return t->size < sum ? bad_type(c, t, -EINVAL, "Invalid btf_info size") : 0;
}

/* Bytes that follow struct btf_type. */
static u32 trailer_size(u32 kind, u32 vlen)
{
	switch (kind) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case UB_BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return vlen * (u32)sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return vlen * (u32)sizeof(struct btf_enum);
	case UB_BTF_KIND_ENUM64:
		return vlen * 12;
	case BTF_KIND_FUNC_PROTO:
		return vlen * (u32)sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return vlen * (u32)sizeof(struct btf_var_secinfo);
	default:
		return 0;
	}
}

static bool has_vlen(u32 kind)
{
	return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION || kind == BTF_KIND_ENUM ||
	       kind == UB_BTF_KIND_ENUM64 || kind == BTF_KIND_FUNC_PROTO ||
	       kind == BTF_KIND_DATASEC || kind == BTF_KIND_FUNC /* linkage */;
}

static bool has_kflag(u32 kind)
{
	return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION || kind == BTF_KIND_ENUM ||
	       kind == UB_BTF_KIND_ENUM64 || kind == BTF_KIND_FWD || kind == UB_BTF_KIND_TYPE_TAG ||
	       kind == UB_BTF_KIND_DECL_TAG;
}

static int check_named(const struct ub_btf_check *c, const struct btf_type *t)
{
	return t->name_off && is_identifier(c, t->name_off)
		       ? 0
		       : bad_type(c, t, -EINVAL, "Invalid name");
}

static int check_kind(const struct ub_btf_check *c, const struct btf_type *t, const void *more)
{
	const struct btf_array *array = more;
	const u32 *word = more;
	int err;

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
		return check_int(c, t, word);
	case BTF_KIND_PTR:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case UB_BTF_KIND_TYPE_TAG:
		return check_reference(c, t, BTF_INFO_KIND(t->info));
	case BTF_KIND_ARRAY:
		if (t->name_off)
			return bad_type(c, t, -EINVAL, "Invalid name");
		if (t->size)
			return bad_type(c, t, -EINVAL, "size != 0");
		if (!array->type || !id_valid(array->type))
			return bad_type(c, t, -EINVAL, "Invalid elem");
		return array->index_type && id_valid(array->index_type)
			       ? 0
			       : bad_type(c, t, -EINVAL, "Invalid index");
	case BTF_KIND_STRUCT:
		return check_struct(c, t, more, false);
	case BTF_KIND_UNION:
		return check_struct(c, t, more, true);
	case BTF_KIND_ENUM:
		return check_enum(c, t, more, sizeof(struct btf_enum));
	case UB_BTF_KIND_ENUM64:
		return check_enum(c, t, more, 12);
	case BTF_KIND_FWD:
		if (t->type)
			return bad_type(c, t, -EINVAL, "type != 0");
		return check_named(c, t);
	case BTF_KIND_FUNC:
		err = check_named(c, t);
		if (!err && BTF_INFO_VLEN(t->info) > BTF_FUNC_GLOBAL)
			err = bad_type(c, t, -EINVAL, "Invalid func linkage");
		return err;
	case BTF_KIND_FUNC_PROTO:
		return check_params(c, t, more);
	case BTF_KIND_VAR:
		err = check_named(c, t);
		if (!err && (!t->type || !id_valid(t->type)))
			err = bad_type(c, t, -EINVAL, "Invalid type_id");
		if (!err && *word > BTF_VAR_GLOBAL_ALLOCATED)
			err = bad_type(c, t, -EINVAL, "Linkage not supported");
		return err;
	case BTF_KIND_DATASEC:
		return check_datasec(c, t, more);
	case BTF_KIND_FLOAT:
		return t->size == 2 || t->size == 4 || t->size == 8 || t->size == 12 ||
				       t->size == 16
			       ? 0
			       : bad_type(c, t, -EINVAL, "Invalid type_size");
	case UB_BTF_KIND_DECL_TAG:
		if (!c->strings[t->name_off])
			return bad_type(c, t, -EINVAL, "Invalid value");
		return (s32)*word < -1 ? bad_type(c, t, -EINVAL, "Invalid component_idx") : 0;
	default:
		return bad_type(c, t, -EINVAL, "Invalid kind");
	}
}

static int add_type(struct ub_btf_check *c, u32 offset)
{
	if (c->nr + 2 > c->capacity) {
		u32 capacity = c->capacity ? c->capacity * 2 : 256;
		u32 *grown = reallocarray(c->offsets, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		c->offsets = grown;
		c->capacity = capacity;
	}
	c->offsets[++c->nr] = offset;
	return 0;
}

static int check_metas(struct ub_btf_check *c)
{
	u32 at = 0;

	while (at < c->type_len) {
		const struct btf_type *t = (const void *)(c->types + at);
		u32 left = c->type_len - at, kind, more;
		int err;

		if (left < sizeof(*t)) {
			ub_log_printf(c->log, "[%u] meta_left:%u meta_needed:%zu\n", c->nr + 1,
				      left, sizeof(*t));
			return -EINVAL;
		}
		if (t->info & ~INFO_MASK)
			return bad_type(c, t, -EINVAL, "Invalid btf_info");
		kind = BTF_INFO_KIND(t->info);
		if (!kind || kind > UB_BTF_KIND_ENUM64)
			return bad_type(c, t, -EINVAL, "Invalid kind");
		if (!name_offset_valid(c, t->name_off))
			return bad_type(c, t, -EINVAL, "Invalid name_offset");
		more = trailer_size(kind, BTF_INFO_VLEN(t->info));
		if (left - sizeof(*t) < more)
			return bad_type(c, t, -EINVAL, "meta_left < meta_needed");
		if (!has_vlen(kind) && BTF_INFO_VLEN(t->info))
			return bad_type(c, t, -EINVAL, "vlen != 0");
		if (!has_kflag(kind) && BTF_INFO_KFLAG(t->info))
			return bad_type(c, t, -EINVAL, "Invalid btf_info kind_flag");
		err = check_kind(c, t, t + 1);
		if (!err && c->nr >= MAX_TYPE)
			err = -E2BIG;
		if (!err)
			err = add_type(c, at);
		if (err)
			return err;
		at += (u32)sizeof(*t) + more;
	}
	return 0;
}

static int check_header(const u8 *data, u32 size, struct btf_header *hdr, struct ub_log *log)
{
	u32 end;

	if (size < offsetof(struct btf_header, hdr_len) + sizeof(hdr->hdr_len))
		return ub_btf_bad(log, -EINVAL, "hdr_len not found");
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, data, size < sizeof(*hdr) ? size : sizeof(*hdr));
	if (size < hdr->hdr_len)
		return ub_btf_bad(log, -EINVAL, "btf_header not found");
	for (u32 i = sizeof(*hdr); i < hdr->hdr_len; i++)
		if (data[i])
			return ub_btf_bad(log, -E2BIG, "Unsupported btf_header");
	if (hdr->hdr_len < sizeof(*hdr))
		memset((u8 *)hdr + hdr->hdr_len, 0, sizeof(*hdr) - hdr->hdr_len);
	if (hdr->magic != BTF_MAGIC)
		return ub_btf_bad(log, -EINVAL, "Invalid magic");
	if (hdr->version != BTF_VERSION)
		return ub_btf_bad(log, -ENOTSUPP, "Unsupported version");
	if (hdr->flags)
		return ub_btf_bad(log, -ENOTSUPP, "Unsupported flags");
	if (size == hdr->hdr_len)
		return ub_btf_bad(log, -EINVAL, "No data");
	/* Types, then strings, without gap or overlap, up to the end. */
	end = size - hdr->hdr_len;
	if (hdr->type_off > end || hdr->type_len > end - hdr->type_off || hdr->str_off > end ||
	    hdr->str_len > end - hdr->str_off)
		return ub_btf_bad(log, -EINVAL, "Total section length too long");
	if (hdr->type_off > hdr->str_off)
		return ub_btf_bad(log, -EINVAL, "String section is not at the end");
	if (hdr->type_off)
		return ub_btf_bad(log, -EINVAL,
				  hdr->type_off % 4 ? "Unaligned type_off" : "Section gap found");
	if (hdr->str_off != hdr->type_len)
		return ub_btf_bad(log, -EINVAL,
				  hdr->str_off < hdr->type_len ? "Section overlap found"
							       : "Section gap found");
	if (hdr->str_off + hdr->str_len != end)
		return ub_btf_bad(log, -EINVAL, "Unsupported section found");
	return 0;
}

int ub_btf_check(const u8 *data, u32 size, struct ub_log *log)
{
	struct ub_btf_check c = { .log = log };
	struct btf_header hdr;
	int err;

	if (size > MAX_SIZE)
		return -E2BIG;
	err = check_header(data, size, &hdr, log);
	if (err)
		return err;
	c.strings = (const char *)data + hdr.hdr_len + hdr.str_off;
	c.str_len = hdr.str_len;
	if (!c.str_len || c.str_len - 1 > MAX_NAME_OFFSET || c.strings[c.str_len - 1] ||
	    c.strings[0])
		return ub_btf_bad(log, -EINVAL, "Invalid string section");
	c.types = data + hdr.hdr_len;
	c.type_len = hdr.type_len;
	if (!c.type_len)
		return ub_btf_bad(log, -EINVAL, "No type found");
	if (hdr.hdr_len % 4) /* libbpf reads types in place */
		return ub_btf_bad(log, -EINVAL, "Unaligned type_off");
	err = check_metas(&c);
	if (!err)
		err = ub_btf_check_references(&c);
	free(c.offsets);
	free(c.state);
	return err;
}
