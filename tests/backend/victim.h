/* SPDX-License-Identifier: MIT */
/* A child that executes commands: ubpf-victim -i. What goes wrong fails the cmocka test. */
#ifndef UB_TESTS_BACKEND_VICTIM_H
#define UB_TESTS_BACKEND_VICTIM_H

#include <stdio.h>
#include <sys/types.h>

struct victim {
	pid_t pid;
	FILE *to;
	FILE *from;
};

const char *victim_path(void);
void start_victim(struct victim *victim, const char *threads);
/* Another program that says "ready" first. */
void start_program(struct victim *victim, const char *path, char *const *argv);
/* One line, which it has some time to say. */
void read_answer(struct victim *victim, char *line, size_t size);
/* Says @command and waits for the answer. */
void ask_victim(struct victim *victim, const char *command);
void end_victim(struct victim *victim);

#endif
