// SPDX-License-Identifier: MIT
#include <common/reason.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ub_reason_set(struct ub_reason *reason, int err, const char *fmt, ...)
{
	va_list args;

	if (!reason)
		return err;
	va_start(args, fmt);
	vsnprintf(reason->text, sizeof(reason->text), fmt, args);
	va_end(args);
	return err;
}

int ub_reason_prefix(struct ub_reason *reason, int err, const char *fmt, ...)
{
	struct ub_reason old;
	va_list args;
	size_t used;

	if (!reason)
		return err;
	old = *reason;
	va_start(args, fmt);
	vsnprintf(reason->text, sizeof(reason->text), fmt, args);
	va_end(args);
	used = strlen(reason->text);
	snprintf(reason->text + used, sizeof(reason->text) - used, "%s%s", old.text[0] ? ": " : "",
		 old.text);
	return err;
}
