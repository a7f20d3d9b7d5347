/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader - timed reads of several files, side by side
 *
 *	reader [-m pread|mmap|random|touch] [-n RUNS] [-p PROCESSES] [-k K] [-c COUNT] TARGET=FILE...
 *	       [-d TARGET=PATH]... [-w TARGET=PATH]...
 *
 * Each run takes every target once, in turn, the other way round every second time: what disturbs the
 * machine disturbs all.  Before a target is timed the pages of its -d paths are dropped from the cache and
 * its -w paths are read.  Then all its files are read K times; the last time counts.  With PROCESSES each
 * of them reads everything, on a processor of its own, and the last to end counts.  A mapping is made anew
 * each time and every byte of it is added up.  random: COUNT reads of 4 KiB at random places, the same for
 * every target.  touch: the first byte.
 *
 * Output: a line a target: its name, the bytes read, the seconds of each run.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE		(1u << 20)
#define TARGETS_MAX	8
#define PATHS_MAX	1024
#define RUNS_MAX	101
#define PROCS_MAX	16

struct paths {
	const char *v[PATHS_MAX];
	size_t n;
};

struct target {
	char name[64];
	struct paths files, drop, warm;
	uint64_t bytes;
	double seconds[RUNS_MAX];
};

static struct target targets[TARGETS_MAX];
static size_t n_targets;
static size_t n_random = 20000;
static volatile uint64_t sink;

static void die(const char *what)
{
	fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t size_of(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		die(path);
	return (uint64_t)st.st_size;
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

/* ---- one way of reading each ---- */

static void by_pread(int fd, uint64_t size, const char *path)
{
	static _Alignas(4096) uint8_t buf[PIECE];

	for (uint64_t off = 0; off < size;) {
		ssize_t n = pread(fd, buf, sizeof(buf), (off_t)off);

		if (n <= 0)
			die(path);
		off += (uint64_t)n;
	}
}

static void by_mmap(int fd, uint64_t size, const char *path)
{
	const uint64_t *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	uint64_t sum[4] = { 0 };

	if (p == MAP_FAILED)
		die(path);
	for (uint64_t i = 0; i + 4 <= size / 8; i += 4)
		for (int j = 0; j < 4; j++)
			sum[j] += p[i + j];
	sink += sum[0] + sum[1] + sum[2] + sum[3];
	munmap((void *)p, size);
}

static void by_random(int fd, uint64_t size, const char *path)
{
	static _Alignas(4096) uint8_t buf[4096];
	uint64_t x = 88172645463325252ull;

	for (size_t i = 0; i < n_random; i++) {
		x ^= x << 13;		/* xorshift: the same places for everyone */
		x ^= x >> 7;
		x ^= x << 17;
		if (pread(fd, buf, sizeof(buf), (off_t)(x % (size / 4096) * 4096)) != sizeof(buf))
			die(path);
	}
}

static void by_touch(int fd, uint64_t size, const char *path)
{
	char c;

	(void)size;
	if (pread(fd, &c, 1, 0) != 1)
		die(path);
}

static void (*read_file)(int fd, uint64_t size, const char *path) = by_pread;

static void read_all(const struct target *t)
{
	for (size_t i = 0; i < t->files.n; i++) {
		int fd = open_file(t->files.v[i]);

		read_file(fd, size_of(fd, t->files.v[i]), t->files.v[i]);
		close(fd);
	}
}

static uint64_t size_all(const struct target *t)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < t->files.n; i++) {
		int fd = open_file(t->files.v[i]);

		bytes += size_of(fd, t->files.v[i]);
		close(fd);
	}
	return read_file == by_random ? n_random * 4096 : bytes;
}

/* ---- runs ---- */

static void prepare(const struct target *t)
{
	for (size_t i = 0; i < t->drop.n; i++) {
		int fd = open_file(t->drop.v[i]);

		fdatasync(fd);		/* dirty pages do not go */
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	for (size_t i = 0; i < t->warm.n; i++) {
		int fd = open_file(t->warm.v[i]);

		by_pread(fd, size_of(fd, t->warm.v[i]), t->warm.v[i]);
		close(fd);
	}
}

/* A read through FUSE begins with a wakeup of the daemon, and for some 10 ms after it the scheduler may have two
 * readers on one processor: as long as the whole of what is timed here. */
static void stay_on_processor(unsigned i)
{
	cpu_set_t all, one;
	unsigned n = sched_getaffinity(0, sizeof(all), &all) == 0 ? (unsigned)CPU_COUNT(&all) : 0;

	CPU_ZERO(&one);
	for (int cpu = 0; n && cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && i++ % n == 0)
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static double time_processes(struct target *t, unsigned procs)
{
	pid_t pids[PROCS_MAX];
	double start;
	int go[2], status;
	char c;

	if (pipe(go) < 0)
		die("pipe");
	for (unsigned i = 0; i < procs; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork");
		if (pids[i] == 0) {
			close(go[1]);
			stay_on_processor(i);
			if (read(go[0], &c, 1) != 0)	/* all begin when the parent closes it */
				_exit(1);
			read_all(t);
			_exit(0);
		}
	}
	start = now();
	close(go[1]);
	for (unsigned i = 0; i < procs; i++)
		if (waitpid(pids[i], &status, 0) < 0 || status != 0)
			die("a reading process failed");
	close(go[0]);
	return now() - start;
}

static double time_target(struct target *t, unsigned procs, unsigned k)
{
	double start;

	prepare(t);
	t->bytes = read_file == by_touch ? 0 : size_all(t);	/* which opens them: touch times that, too */
	while (--k)
		read_all(t);
	if (procs > 1)
		return time_processes(t, procs);
	start = now();
	read_all(t);
	return now() - start;
}

/* ---- command line ---- */

static struct target *target_named(const char *arg, const char **path)
{
	const char *eq = strchr(arg, '=');
	size_t len = eq ? (size_t)(eq - arg) : 0;

	if (!len || len >= sizeof(targets->name)) {
		fprintf(stderr, "reader: %s is not TARGET=PATH\n", arg);
		exit(2);
	}
	*path = eq + 1;
	for (size_t i = 0; i < n_targets; i++)
		if (strlen(targets[i].name) == len && memcmp(targets[i].name, arg, len) == 0)
			return &targets[i];
	if (n_targets == TARGETS_MAX) {
		fprintf(stderr, "reader: too many targets\n");
		exit(2);
	}
	memcpy(targets[n_targets].name, arg, len);
	return &targets[n_targets++];
}

static void add_path(const char *arg, size_t list)
{
	const char *path;
	struct paths *to = (struct paths *)((char *)target_named(arg, &path) + list);

	if (to->n == PATHS_MAX) {
		fprintf(stderr, "reader: too many paths\n");
		exit(2);
	}
	to->v[to->n++] = path;
}

static void set_mode(const char *mode)
{
	if (strcmp(mode, "mmap") == 0)
		read_file = by_mmap;
	else if (strcmp(mode, "random") == 0)
		read_file = by_random;
	else if (strcmp(mode, "touch") == 0)
		read_file = by_touch;
}

int main(int argc, char **argv)
{
	unsigned runs = 7, procs = 1, k = 1;
	int c;

	while ((c = getopt(argc, argv, "m:n:p:k:c:d:w:")) != -1) {
		switch (c) {
		case 'm': set_mode(optarg); break;
		case 'n': runs = (unsigned)atoi(optarg) % (RUNS_MAX + 1); break;
		case 'p': procs = (unsigned)atoi(optarg) % (PROCS_MAX + 1); break;
		case 'k': k = (unsigned)atoi(optarg); break;
		case 'c': n_random = (size_t)atol(optarg); break;
		case 'd': add_path(optarg, offsetof(struct target, drop)); break;
		case 'w': add_path(optarg, offsetof(struct target, warm)); break;
		default: return 2;
		}
	}
	while (optind < argc)
		add_path(argv[optind++], offsetof(struct target, files));
	for (unsigned r = 0; r < runs; r++)
		for (size_t i = 0; i < n_targets; i++) {
			struct target *t = &targets[r % 2 ? n_targets - 1 - i : i];

			t->seconds[r] = time_target(t, procs, k);
		}
	for (size_t i = 0; i < n_targets; i++) {
		printf("%s %llu", targets[i].name, (unsigned long long)targets[i].bytes);
		for (unsigned r = 0; r < runs; r++)
			printf(" %.6f", targets[i].seconds[r]);
		printf("\n");
	}
	return 0;
}
