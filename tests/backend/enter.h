/* SPDX-License-Identifier: MIT */
#ifndef UB_TESTS_BACKEND_ENTER_H
#define UB_TESTS_BACKEND_ENTER_H

struct ub_backend;

/* What every test here begins with: the backend that @argv names is found and entered. Negative: go
 * on; else the exit status to end with (77: it cannot be had here, and why was said). */
int enter_backend(int argc, char **argv, const struct ub_backend **out);

#endif
