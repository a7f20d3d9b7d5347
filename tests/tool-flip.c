/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-flip.c - a model of eight shards whose bytes tell its version, and loaders of it
 *
 *	tool-flip make DIR VERSION		write the shards and config.json
 *	tool-flip list DIR VERSION		print "VERSION sha256 sha256-of-the-tensor" for each shard
 *	tool-flip load WAY MNT GATE LIST	load through MNT/latest and print the versions that were seen, by
 *						LIST; before the fifth shard, tell GATE.at and wait for GATE
 *	tool-flip job SHAPE MNT PAUSE N LOG ID	a job of its own, orphaned to pid 1: N loaders append lines to LOG
 *
 * A line of LOG: "load KIND ID RANK start first had last hash...", times in ns of CLOCK_MONOTONIC: when the
 * process started, before its first look, when it had a shard, and after the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "weightfs/base.h"
#include "weightfs/digest.h"

#define HEX		(2 * sizeof(struct wfs_digest) + 1)
#define SHARDS		8
#define ELEMENTS	16384u
#define CHANGED		32u		/* one element of so many is the version's own */

static const char *self, *mnt, *gate;
static unsigned pause_ms;
static char hashes[SHARDS][HEX];
static _Atomic uint64_t had_ns;		/* when the first shard was had */

static void die(const char *what)
{
	fprintf(stderr, "tool-flip: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void shard_name(char *out, size_t cap, int i)
{
	snprintf(out, cap, "model-%05d-of-%05d.safetensors", i + 1, SHARDS);
}

static void nap(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* In the middle of a load: one line into GATE.at, then wait until GATE is there. */
static void wait_at_gate(void)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s.at", gate);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (fd < 0 || write(fd, "x\n", 2) != 2)
		die(path);
	close(fd);
	while (access(gate, F_OK) < 0)
		nap(10);
}

static void before_shard(int i)
{
	if (i)
		nap(pause_ms);
	if (gate && i == SHARDS / 2)
		wait_at_gate();
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x >> 12;
	*x ^= *x << 25;
	*x ^= *x >> 27;
	return *x * 2685821657736338717ull >> 11;
}

/* ---- the model ---- */

static void make_shard(const char *dir, uint64_t version, int i)
{
	uint16_t data[ELEMENTS];
	uint64_t common = (uint64_t)i + 1, own = version * SHARDS + (uint64_t)i + 1000;
	char name[64], path[PATH_MAX], header[256];
	uint64_t len;
	FILE *f;

	for (unsigned k = 0; k < ELEMENTS; k++)
		data[k] = (uint16_t)next(&common);
	for (unsigned k = 0; k < ELEMENTS; k += CHANGED)
		data[k] = (uint16_t)next(&own);
	len = (uint64_t)snprintf(header, sizeof(header),
				 "{\"t%d\":{\"dtype\":\"BF16\",\"shape\":[%u],\"data_offsets\":[0,%zu]}}",
				 i, ELEMENTS, sizeof(data));
	while (len % 8)
		header[len++] = ' ';
	shard_name(name, sizeof(name), i);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f || fwrite(&len, 8, 1, f) != 1 || fwrite(header, len, 1, f) != 1 ||
	    fwrite(data, sizeof(data), 1, f) != 1 || fclose(f) != 0)
		die(path);
}

static void make(const char *dir, uint64_t version)
{
	char path[PATH_MAX];
	FILE *f;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		die(dir);
	for (int i = 0; i < SHARDS; i++)
		make_shard(dir, version, i);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	f = fopen(path, "w");
	if (!f || fprintf(f, "{\"version\": %" PRIu64 "}\n", version) < 0 || fclose(f) != 0)
		die(path);
}

/* Hash a whole file, read or mapped; off: where to begin. */
static void hash_fd(char out[HEX], int fd, bool mapped, bool tensor)
{
	struct wfs_digest d;
	struct stat st;
	uint8_t *p;
	size_t off = 0;

	if (fstat(fd, &st) < 0 || st.st_size < 16)
		die("a shard's size");
	p = mapped ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : malloc((size_t)st.st_size);
	if (p == MAP_FAILED || !p || (!mapped && pread(fd, p, (size_t)st.st_size, 0) != st.st_size))
		die("read a shard");
	if (tensor)
		off = 8 + (size_t)wfs_get64(p);
	wfs_sha256(&d, p + off, (size_t)st.st_size - off);
	snprintf(out, HEX, "%s", wfs_hex(&d).s);
	if (mapped)
		munmap(p, (size_t)st.st_size);
	else
		free(p);
}

static void list(const char *dir, const char *version)
{
	char name[64], path[PATH_MAX], whole[HEX], tensor[HEX];

	for (int i = 0; i < SHARDS; i++) {
		int fd;

		shard_name(name, sizeof(name), i);
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			die(path);
		hash_fd(whole, fd, false, false);
		hash_fd(tensor, fd, false, true);
		close(fd);
		printf("%s %s %s\n", version, whole, tensor);
	}
}

/* ---- one load ---- */

static void load_at(int dir, const char *prefix, int i)
{
	char name[64], path[PATH_MAX];
	int fd;

	shard_name(name, sizeof(name), i);
	snprintf(path, sizeof(path), "%s%s", prefix, name);
	fd = openat(dir, path, O_RDONLY);
	if (fd < 0)
		die(path);
	hash_fd(hashes[i], fd, i % 2, false);
	close(fd);
	if (!had_ns)
		had_ns = wfs_now_ns();
}

static void load_all(int dir, const char *prefix)
{
	for (int i = 0; i < SHARDS; i++) {
		before_shard(i);
		load_at(dir, prefix, i);
	}
}

static void load_joined(void)
{
	char prefix[PATH_MAX];

	snprintf(prefix, sizeof(prefix), "%s/latest/", mnt);
	load_all(AT_FDCWD, prefix);
}

static void load_realpath(void)		/* of each shard, as those do that resolve a hub's links */
{
	char name[64], path[PATH_MAX], real[PATH_MAX];

	for (int i = 0; i < SHARDS; i++) {
		char *slash;

		before_shard(i);
		shard_name(name, sizeof(name), i);
		snprintf(path, sizeof(path), "%s/latest/%s", mnt, name);
		if (!realpath(path, real))
			die(path);
		slash = strrchr(real, '/');
		slash[1] = '\0';
		load_at(AT_FDCWD, real, i);
	}
}

static void load_dirfd(void)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/latest", mnt);
	fd = open(path, O_PATH | O_DIRECTORY);
	if (fd < 0)
		die(path);
	load_all(fd, "");
	close(fd);
}

static void load_mntfd(void)		/* the descriptor is above `latest` */
{
	int fd = open(mnt, O_PATH | O_DIRECTORY);

	if (fd < 0)
		die(mnt);
	load_all(fd, "latest/");
	close(fd);
}

static void load_chdir(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/latest", mnt);
	if (chdir(path) < 0)
		die(path);
	load_all(AT_FDCWD, "");
	if (chdir("/") < 0)
		die("/");
}

static void load_above(void)		/* the working directory is above `latest` */
{
	if (chdir(mnt) < 0)
		die(mnt);
	load_all(AT_FDCWD, "latest/");
	if (chdir("/") < 0)
		die("/");
}

static void *load_thread(void *arg)
{
	char prefix[PATH_MAX];
	int i = (int)(intptr_t)arg;

	nap((unsigned)i * pause_ms);
	before_shard(i);
	snprintf(prefix, sizeof(prefix), "%s/latest/", mnt);
	load_at(AT_FDCWD, prefix, i);
	return NULL;
}

static void load_threads(void)
{
	pthread_t t[SHARDS];

	for (intptr_t i = 0; i < SHARDS; i++)
		if (pthread_create(&t[i], NULL, load_thread, (void *)i) != 0)
			die("pthread_create");
	for (int i = 0; i < SHARDS; i++)
		pthread_join(t[i], NULL);
}

static const struct {
	const char *name;
	void (*load)(void);
} ways[] = {
	{ "joined", load_joined }, { "realpath", load_realpath }, { "dirfd", load_dirfd },
	{ "mntfd", load_mntfd }, { "chdir", load_chdir }, { "above", load_above },
	{ "threads", load_threads },
};

static void load(const char *way)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (strcmp(ways[i].name, way) == 0) {
			ways[i].load();
			return;
		}
	errno = EINVAL;
	die(way);
}

/* "7", or "7 8" for a mixture, or "?" for bytes that no version has. */
static void print_versions(const char *path)
{
	char line[256], seen[SHARDS][24];
	FILE *f = fopen(path, "r");

	if (!f)
		die(path);
	for (int i = 0; i < SHARDS; i++)
		strcpy(seen[i], "?");
	while (fgets(line, sizeof(line), f))
		for (int i = 0; i < SHARDS; i++)
			if (strstr(line, hashes[i]))
				sscanf(line, "%23s", seen[i]);
	fclose(f);
	for (int i = 0; i < SHARDS; i++) {
		int k = 0;

		while (k < i && strcmp(seen[k], seen[i]) != 0)
			k++;
		if (k == i)
			printf("%s%s", i ? " " : "", seen[i]);
	}
	printf("\n");
}

/* ---- a job of many ---- */

static struct {
	const char *shape, *log, *id;
	int n;
} job;

static void log_load(const char *kind, int rank, uint64_t start, uint64_t first, uint64_t last)
{
	char line[1024];
	int fd = open(job.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666), n;

	n = snprintf(line, sizeof(line), "load %s %s %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, kind,
		     job.id, rank, start, first, had_ns, last);
	for (int i = 0; i < SHARDS; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %s", hashes[i]);
	line[n++] = '\n';
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		die(job.log);
	close(fd);
}

static void load_and_log(const char *kind, const char *way, int rank)
{
	uint64_t start = wfs_now_ns(), first;

	first = wfs_now_ns();
	load(way);
	log_load(kind, rank, start, first, wfs_now_ns());
}

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		had_ns = 0;
	return pid;
}

static int wait_all(void)
{
	int status, bad = 0;

	while (wait(&status) > 0)
		bad |= status != 0;
	return bad;
}

static int job_one(void)
{
	load_and_log(job.shape, job.shape, 0);
	return 0;
}

/* A launcher that never looks; its ranks come one after another. */
static int job_fork(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			load_and_log("fork", ways[(size_t)i % ARRAY_SIZE(ways)].name, i);
			_exit(0);
		}
		nap(pause_ms);
	}
	return wait_all();
}

static void exec_rank(const char *kind, int rank)
{
	char number[16], ms[16];

	snprintf(number, sizeof(number), "%d", rank);
	snprintf(ms, sizeof(ms), "%u", pause_ms);
	execl(self, self, "rank", kind, mnt, ms, number, job.log, job.id, NULL);
	die(self);
}

/* torchrun's way */
static int job_sessions(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			setsid();
			exec_rank("sessions", i);
		}
		nap(pause_ms);
	}
	return wait_all();
}

static int job_script(const char *kind, const char *end)
{
	char text[8192];
	int n = 0;

	for (int i = 0; i < job.n; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "'%s' rank %s '%s' %u %d '%s' %s & sleep 0.%03u; ",
			      self, kind, mnt, pause_ms, i, job.log, job.id, pause_ms % 1000);
	snprintf(text + n, sizeof(text) - (size_t)n, "%s", end);
	execl("/bin/sh", "sh", "-c", text, NULL);
	die("/bin/sh");
	return 1;
}

static int job_waiting_script(void)
{
	return job_script("script", "wait");
}

static int job_leaving_script(void)	/* its ranks become children of pid 1 */
{
	return job_script("left", "exit 0");
}

/* Children from before and after the parent's first look. */
static int job_parent(void)
{
	uint64_t start = wfs_now_ns(), first;
	int go[2];
	char c;

	if (pipe(go) < 0)
		die("pipe");
	if (child() == 0) {
		close(go[1]);
		(void)!read(go[0], &c, 1);
		load_and_log("child-before", "joined", 1);
		_exit(0);
	}
	close(go[0]);
	first = wfs_now_ns();
	load("joined");
	close(go[1]);
	if (child() == 0) {
		load_and_log("child-after", "mntfd", 2);
		_exit(0);
	}
	nap(pause_ms);
	load("above");
	log_load("parent", 0, start, first, wfs_now_ns());
	return wait_all();
}

/* A session that never pauses: always two loads at a time. */
static int job_busy(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			load_and_log("busy", "joined", i);
			_exit(0);
		}
		if (i)
			wait(NULL);
	}
	return wait_all();
}

static const struct {
	const char *name;
	int (*run)(void);
} shapes[] = {
	{ "fork", job_fork }, { "sessions", job_sessions }, { "script", job_waiting_script },
	{ "left", job_leaving_script }, { "parent", job_parent }, { "busy", job_busy },
};

/* Our parent ends first, so that the job begins here and not with who started us. */
static int run_job(void)
{
	pid_t parent = getpid();

	if (child() != 0)
		_exit(0);
	setsid();
	while (getppid() == parent)
		nap(1);
	if (getppid() != 1) {
		errno = ECHILD;
		die("this test needs orphans to become children of pid 1");
	}
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		if (strcmp(shapes[i].name, job.shape) == 0)
			return shapes[i].run();
	return job_one();
}

int main(int argc, char **argv)
{
	static char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	self = exe;
	if (argc == 4 && strcmp(argv[1], "make") == 0) {
		make(argv[2], strtoull(argv[3], NULL, 10));
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "list") == 0) {
		list(argv[2], argv[3]);
		return 0;
	}
	if (argc < 6)
		return 2;
	mnt = argv[3];
	if (argc == 6 && strcmp(argv[1], "load") == 0) {
		gate = argv[4];
		load(argv[2]);
		print_versions(argv[5]);
		return 0;
	}
	if (argc != 8)
		return 2;
	pause_ms = (unsigned)atoi(argv[4]);
	job.shape = argv[2];
	job.n = atoi(argv[5]);
	job.log = argv[6];
	job.id = argv[7];
	if (strcmp(argv[1], "job") == 0)
		return run_job();
	if (strcmp(argv[1], "rank") != 0)
		return 2;
	load_and_log(job.shape, ways[(size_t)job.n % ARRAY_SIZE(ways)].name, job.n);
	return 0;
}
