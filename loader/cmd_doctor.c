// SPDX-License-Identifier: MIT
#include "commands.h"

#include <stdio.h>

#include "backend.h"
#include "output.h"

int cmd_doctor(struct ub_options *options, int argc, char **argv)
{
	struct ub_reason why = { 0 };
	int err = ub_backend_kernel_try(&why);

	printf("kernel backend: %s%s\n", err ? "no: " : "works", why.text);
	return UB_EXIT_OK;
}
