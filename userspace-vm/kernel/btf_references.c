// SPDX-License-Identifier: MIT
/*
 * References between types of a client's BTF: every id exists, nothing contains itself, chains end
 * after MAX_DEPTH steps, and tags are on what may have them.
 */
#include <kernel/btf_check.h>

#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 32

/* How one type depends on another. */
enum walk {
	WALK_SIZE,    /* its size does: it contains it */
	WALK_POINTER, /* it is named in a chain of pointers and qualifiers */
};

enum { UNSEEN, OPEN, DONE };

static int walk(struct ub_btf_check *c, u32 id, enum walk how, u32 depth);

static int bad_reference(const struct ub_btf_check *c, u32 id, int err, const char *what)
{
	ub_log_printf(c->log, "[%u] %s\n", id, what);
	return err;
}

static int walk_to(struct ub_btf_check *c, u32 from, u32 to, enum walk how, u32 depth)
{
	if (!to)
		return 0;
	if (to > c->nr)
		return bad_reference(c, from, -EINVAL, "Invalid type_id");
	if (c->state[to] == DONE)
		return 0;
	if (c->state[to] == OPEN)
		return bad_reference(c, from, -EINVAL, "Loop detected");
	if (depth >= MAX_DEPTH)
		return bad_reference(c, from, -E2BIG, "Exceeded max resolve depth:32");
	return walk(c, to, how, depth + 1);
}

static bool is_function(const struct ub_btf_check *c, u32 id)
{
	u32 kind = id && id <= c->nr ? BTF_INFO_KIND(ub_btf_type_at(c, id)->info) : 0;

	return kind == BTF_KIND_FUNC || kind == BTF_KIND_DATASEC || kind == BTF_KIND_VAR ||
	       kind == UB_BTF_KIND_DECL_TAG;
}

static int in_range(const struct ub_btf_check *c, u32 from, u32 to)
{
	return to <= c->nr ? 0 : bad_reference(c, from, -EINVAL, "Invalid type_id");
}

/* What a declaration tag may be put on, and on which member or argument of it:
 * btf_decl_tag_resolve(). */
static int check_tag(const struct ub_btf_check *c, u32 id, s32 component)
{
	u32 to = ub_btf_type_at(c, id)->type, kind;
	const struct btf_type *t;

	if (!to || to > c->nr)
		return bad_reference(c, id, -EINVAL, "Invalid type_id");
	t = ub_btf_type_at(c, to);
	kind = BTF_INFO_KIND(t->info);
	if (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION && kind != BTF_KIND_FUNC &&
	    kind != BTF_KIND_VAR && kind != BTF_KIND_TYPEDEF)
		return bad_reference(c, id, -EINVAL, "Invalid type_id");
	if (component < 0)
		return 0;
	if (kind == BTF_KIND_FUNC) {
		if (!t->type || t->type > c->nr)
			return bad_reference(c, id, -EINVAL, "Invalid type_id");
		t = ub_btf_type_at(c, t->type); /* arguments are the prototype's */
	}
	if (kind == BTF_KIND_VAR || kind == BTF_KIND_TYPEDEF ||
	    (u32)component >= BTF_INFO_VLEN(t->info))
		return bad_reference(c, id, -EINVAL, "Invalid component_idx");
	return 0;
}

static int walk_parts(struct ub_btf_check *c, u32 id, enum walk how, u32 depth)
{
	const struct btf_type *t = ub_btf_type_at(c, id);
	const void *more = t + 1;
	const struct btf_array *array = more;
	const struct btf_member *members = more;
	const struct btf_param *params = more;
	const struct btf_var_secinfo *vars = more;
	u32 vlen = BTF_INFO_VLEN(t->info);
	int err = 0;

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_PTR:
		err = is_function(c, t->type) ? bad_reference(c, id, -EINVAL, "Invalid type_id")
					      : in_range(c, id, t->type);
		return err || how == WALK_SIZE ? err : walk_to(c, id, t->type, how, depth);
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case UB_BTF_KIND_TYPE_TAG:
		if (is_function(c, t->type))
			return bad_reference(c, id, -EINVAL, "Invalid type_id");
		return walk_to(c, id, t->type, how, depth);
	case BTF_KIND_VAR:
		if (is_function(c, t->type))
			return bad_reference(c, id, -EINVAL, "Invalid type_id");
		return how == WALK_SIZE ? walk_to(c, id, t->type, how, depth) : 0;
	case BTF_KIND_ARRAY:
		err = in_range(c, id, array->index_type);
		if (!err && (is_function(c, array->type) || is_function(c, array->index_type)))
			err = bad_reference(c, id, -EINVAL, "Invalid elem");
		return err ? err : walk_to(c, id, array->type, how, depth);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		for (u32 i = 0; i < vlen && !err; i++) {
			if (is_function(c, members[i].type))
				return bad_reference(c, id, -EINVAL, "Invalid member");
			err = how == WALK_SIZE ? walk_to(c, id, members[i].type, how, depth)
					       : in_range(c, id, members[i].type);
		}
		return err;
	case BTF_KIND_FUNC:
		if (!t->type || t->type > c->nr ||
		    BTF_INFO_KIND(ub_btf_type_at(c, t->type)->info) != BTF_KIND_FUNC_PROTO)
			return bad_reference(c, id, -EINVAL, "Invalid type_id");
		return 0;
	case BTF_KIND_FUNC_PROTO:
		err = in_range(c, id, t->type);
		for (u32 i = 0; i < vlen && !err; i++)
			err = in_range(c, id, params[i].type);
		return err;
	case BTF_KIND_DATASEC:
		for (u32 i = 0; i < vlen && !err; i++) {
			u32 kind;

			err = in_range(c, id, vars[i].type);
			kind = err ? 0 : BTF_INFO_KIND(ub_btf_type_at(c, vars[i].type)->info);
			if (!err && kind != BTF_KIND_VAR)
				err = bad_reference(c, id, -EINVAL, "Not a VAR kind member");
		}
		return err;
	case UB_BTF_KIND_DECL_TAG:
		return check_tag(c, id, (s32)((const u32 *)more)[0]);
	default:
		return 0;
	}
}

static int walk(struct ub_btf_check *c, u32 id, enum walk how, u32 depth)
{
	int err;

	c->state[id] = OPEN;
	err = walk_parts(c, id, how, depth);
	c->state[id] = DONE;
	return err;
}

static bool is_modifier(u32 kind)
{
	return kind == BTF_KIND_TYPEDEF || kind == BTF_KIND_VOLATILE || kind == BTF_KIND_CONST ||
	       kind == BTF_KIND_RESTRICT || kind == UB_BTF_KIND_TYPE_TAG;
}

/* btf_check_type_tags(): chains are known to end by now. */
static int check_type_tags(const struct ub_btf_check *c)
{
	for (u32 start = 1; start <= c->nr; start++) {
		bool in_tags =
			BTF_INFO_KIND(ub_btf_type_at(c, start)->info) == UB_BTF_KIND_TYPE_TAG;
		u32 steps = 0;

		for (u32 id = start; id; id = ub_btf_type_at(c, id)->type) {
			u32 kind = BTF_INFO_KIND(ub_btf_type_at(c, id)->info);

			if (!is_modifier(kind))
				break;
			if (++steps > MAX_DEPTH)
				return ub_btf_bad(c->log, -E2BIG, "Exceeded max resolve depth:32");
			if (kind != UB_BTF_KIND_TYPE_TAG)
				in_tags = false;
			else if (!in_tags)
				return ub_btf_bad(c->log, -EINVAL,
						  "Type tags don't precede modifiers");
		}
	}
	return 0;
}

int ub_btf_check_references(struct ub_btf_check *c)
{
	int err = 0;

	c->state = calloc(c->nr + 1, 1);
	if (!c->state)
		return -ENOMEM;
	for (enum walk how = WALK_SIZE; how <= WALK_POINTER && !err; how++) {
		memset(c->state, UNSEEN, c->nr + 1);
		for (u32 id = 1; id <= c->nr && !err; id++)
			if (c->state[id] == UNSEEN)
				err = walk(c, id, how, 1);
	}
	return err ? err : check_type_tags(c);
}
