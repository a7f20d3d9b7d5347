/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test.h - CHECK, and a main that runs a table of tests
 *
 * CHECK does not stop the test and does not depend on NDEBUG.  TEST_MAIN(list...) prints one line a
 * test ("ok NAME" or "FAILED NAME") and last "N passed, N failed"; argv[1] selects one test.
 */
#ifndef WEIGHTFS_TEST_H
#define WEIGHTFS_TEST_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"

static unsigned test_failed_checks;

#define CHECK(cond) \
	((cond) ? (void)0 : (void)(test_failed_checks++, \
	 fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #cond)))

#define CHECK_INT(got, want, what) test_check_int((got), (want), (what), __FILE__, __LINE__)
#define CHECK_STR(got, want) test_check_str((got), (want), __FILE__, __LINE__)
/* For steps without which the rest of the test makes no sense. */
#define REQUIRE(cond) \
	do { \
		bool holds_ = (cond);	/* once: cond may have effects */ \
		CHECK(holds_ && #cond); \
		if (!holds_) \
			return; \
	} while (0)

static inline void test_check_int(long long got, long long want, const char *what, const char *file, int line)
{
	if (got == want)
		return;
	test_failed_checks++;
	fprintf(stderr, "%s:%d: %s: got %lld, want %lld\n", file, line, what, got, want);
}

static inline void test_check_str(const char *got, const char *want, const char *file, int line)
{
	if (got && strcmp(got, want) == 0)
		return;
	test_failed_checks++;
	fprintf(stderr, "%s:%d: got \"%s\", want \"%s\"\n", file, line, got ? got : "(null)", want);
}

/* xorshift64*: the same numbers everywhere for a printed seed. */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t x = *state ? *state : 88172645463325252ull;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 2685821657736338717ull;
}

struct test_case {
	const char *name;
	void (*fn)(void);
};

static inline int test_run(const struct test_case *tests, size_t n, int argc, char **argv)
{
	unsigned passed = 0, failed = 0;

	for (size_t i = 0; i < n; i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
			continue;
		test_failed_checks = 0;
		tests[i].fn();
		printf("%s %s\n", test_failed_checks ? "FAILED" : "ok", tests[i].name);
		fflush(stdout);
		if (test_failed_checks)
			failed++;
		else
			passed++;
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed || passed == 0;
}

#define T(fn) { #fn, fn }
#define TEST_MAIN(...) \
	int main(int argc, char **argv) \
	{ \
		static const struct test_case tests[] = { __VA_ARGS__ }; \
		return test_run(tests, ARRAY_SIZE(tests), argc, argv); \
	}

#endif
