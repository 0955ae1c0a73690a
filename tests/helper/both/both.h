/* SPDX-License-Identifier: MIT */
/* What the programs here, the process that they run in and their loader (runner.c) share. */
#ifndef UB_TESTS_HELPER_BOTH_H
#define UB_TESTS_HELPER_BOTH_H

#define BOTH_NAME    48
#define BOTH_BYTES   64
#define BOTH_RESULTS 192
#define BOTH_DEPTH   8

enum both_kind {
	BOTH_UNUSED,
	BOTH_VALUE,	/* must be the same on both backends */
	BOTH_BYTES_TOO, /* so must be `size` bytes */
	BOTH_CLOCK,	/* of clock number `size`: within what the loader saw around the run */
	BOTH_STACK,	/* `value` is a result or -errno, bytes instruction pointers */
	BOTH_STACK_ID,	/* `value` is where the map "stacks" has them */
	BOTH_RECORDS,	/* so many come out of the ring buffer (`size` 0) or the perf buffer (1) */
};

struct both_result {
	char name[BOTH_NAME];
	long long value;
	unsigned int kind;
	unsigned int size;
	unsigned char bytes[BOTH_BYTES];
};

/* Addresses in the process and what it knows of itself: argument of the probed function. */
struct both_input {
	unsigned long long round;     /* which of several calls */
	unsigned long long unmapped;  /* nothing is there, nor in the page before */
	unsigned long long forbidden; /* PROT_NONE */
	unsigned long long read_only; /* a page that starts with "read only" */
	unsigned long long text;      /* "hello, world" on the heap */
	unsigned long long at_end;    /* "fits": its NUL is the last byte before an unmapped page */
	unsigned long long cut;	      /* "cut" without NUL, before an unmapped page */
	unsigned long long across;    /* 16 bytes, eight on each of two pages */
	unsigned long long big;	      /* 8192 letters 'b', on the heap */
	unsigned long long heap;      /* 64 bytes that may be written */
	unsigned long long base;      /* of the executable */
	unsigned long long pid_tgid;
	unsigned long long uid_gid;
	unsigned long long pidns_dev;
	unsigned long long pidns_ino;
	char comm[16];
	unsigned long long probe; /* address of the probed function */
};

#endif
