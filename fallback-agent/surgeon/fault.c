/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <surgeon/target.h>

static const char *const points[] = {
#define X(name) #name,
	UB_FAULT_POINTS
#undef X
};

static enum ub_fault_kind set_kind;
static char set_point[32];
static u32 set_nth = 1;

void ub_fault_set(enum ub_fault_kind kind, const char *point, u32 nth)
{
	set_kind = kind;
	set_nth = nth ? nth : 1;
	strncpy(set_point, point ? point : "", sizeof(set_point) - 1);
}

const char *ub_fault_point(u32 i)
{
	return i < ub_array_size(points) ? points[i] : NULL;
}

static void arm_from_environment(struct ub_report *report)
{
	static const char *const kinds[] = { "none", "surgeon", "target", "both",
					     "fail", "stop",	"hold" };
	const char *fault = secure_getenv("UBPF_FAULT");
	const char *at = fault ? strchr(fault, '@') : NULL;
	size_t n;

	if (!at)
		return;
	for (u32 i = 1; i < ub_array_size(kinds); i++) {
		if (strlen(kinds[i]) == (size_t)(at - fault) &&
		    !strncmp(kinds[i], fault, at - fault))
			report->fault_kind = i;
	}
	at++;
	n = strcspn(at, ":");
	if (n >= sizeof(report->fault_point))
		return;
	memcpy(report->fault_point, at, n);
	report->fault_nth = at[n] ? strtoul(at + n + 1, NULL, 10) : 1;
}

void ub_fault_arm(struct ub_report *report)
{
	report->caller = getpid();
	report->fault_kind = set_kind;
	report->fault_nth = set_nth;
	memcpy(report->fault_point, set_point, sizeof(report->fault_point));
	if (!set_kind)
		arm_from_environment(report);
}

int ub_fault(struct ub_target *t, enum ub_fault_id id)
{
	struct ub_report *report = t->report;

	if (ub_likely(!report->fault_kind) || strcmp(report->fault_point, points[id]) ||
	    --report->fault_nth)
		return 0;
	switch (report->fault_kind) {
	case UB_FAULT_KILL_BOTH:
		kill(report->caller, SIGKILL);
		/* fallthrough */
	case UB_FAULT_KILL_SURGEON:
		report->fault_kind = UB_FAULT_NONE;
		kill(getpid(), SIGKILL);
		break;
	case UB_FAULT_KILL_TARGET:
		kill(t->pid, SIGKILL);
		break;
	case UB_FAULT_STOP_TARGET:
		kill(t->pid, SIGSTOP);
		break;
	case UB_FAULT_HOLD_SURGEON:
		kill(getpid(), SIGSTOP);
		break;
	case UB_FAULT_FAIL:
		return -EIO;
	}
	return 0;
}
