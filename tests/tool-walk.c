/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-walk.c - what a walk through MNT/latest costs while PROCESSES have a version
 *
 *	tool-walk MNT PROCESSES WALKS
 *
 * Prints ns, medians: of the first look of each process, of WALKS walks of the first thread of one that
 * has a version, of WALKS in another thread of it, and of WALKS calls of stat on a file by number, which
 * asks the daemon too, but not about bindings.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weightfs/base.h"

#define PROCESSES_MAX	4000u

static char latest[4096], plain[4096];
static unsigned n_walks;

static uint64_t walk(void)
{
	uint64_t start = wfs_now_ns();
	char target[256];

	if (readlink(latest, target, sizeof(target)) <= 0) {
		perror(latest);
		_exit(1);
	}
	return wfs_now_ns() - start;
}

static uint64_t stat_plain(void)
{
	uint64_t start = wfs_now_ns();
	struct stat st;

	if (stat(plain, &st) < 0) {
		perror(plain);
		_exit(1);
	}
	return wfs_now_ns() - start;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t median(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static uint64_t many(uint64_t (*once)(void))
{
	uint64_t *v = calloc(n_walks, sizeof(*v)), m;

	if (!v)
		exit(1);
	for (unsigned i = 0; i < n_walks; i++)
		v[i] = once();
	m = median(v, n_walks);
	free(v);
	return m;
}

static void *in_a_thread(void *out)
{
	*(uint64_t *)out = many(walk);
	return NULL;
}

/* A process that looks, tells how long that took, and stays. */
static pid_t bind_one(int to)
{
	pid_t pid = fork();
	uint64_t ns;

	if (pid != 0)
		return pid;
	ns = walk();
	if (write(to, &ns, sizeof(ns)) != sizeof(ns))
		_exit(1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	uint64_t first[PROCESSES_MAX], main_ns, thread_ns = 0;
	static pid_t pids[PROCESSES_MAX];
	pthread_t t;
	int p[2];

	if (!n || n > PROCESSES_MAX || pipe(p) < 0)
		return 2;
	n_walks = (unsigned)atoi(argv[3]);
	snprintf(latest, sizeof(latest), "%s/latest", argv[1]);
	snprintf(plain, sizeof(plain), "%s/versions/1/config.json", argv[1]);
	for (unsigned i = 0; i < n; i++) {
		pids[i] = bind_one(p[1]);
		if (pids[i] < 0 || read(p[0], &first[i], sizeof(first[i])) != sizeof(first[i]))
			return 1;
	}
	walk();
	stat_plain();
	main_ns = many(walk);
	if (pthread_create(&t, NULL, in_a_thread, &thread_ns) != 0)
		return 1;
	pthread_join(t, NULL);
	printf("%llu %llu %llu %llu\n", (unsigned long long)median(first, n), (unsigned long long)main_ns,
	       (unsigned long long)thread_ns, (unsigned long long)many(stat_plain));
	for (unsigned i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	return 0;
}
