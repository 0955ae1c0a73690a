// SPDX-License-Identifier: MIT
#include "commands.h"

#include "output.h"

int cmd_compare(struct ub_options *options, int argc, char **argv)
{
	ub_error("compare: needs both backends");
	return UB_EXIT_FAILED;
}
