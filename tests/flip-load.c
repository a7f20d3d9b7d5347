/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flip-load.c - tool-flip's model, and one load of it
 *
 * Half of the shards are read and half are mapped.  A shard has few bytes of its version's own and the rest
 * in common, so that a version is a small delta and no two versions have a shard in common.
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
#include <time.h>
#include <unistd.h>

#include "flip.h"

#define ELEMENTS	16384u
#define CHANGED		32u		/* one element of so many is the version's own */

const char *mnt, *gate;
unsigned pause_ms;
char hashes[SHARDS][HEX];
_Atomic uint64_t had_ns;

void die(const char *what)
{
	fprintf(stderr, "tool-flip: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void shard_name(char *out, size_t cap, int i)
{
	snprintf(out, cap, "model-%05d-of-%05d.safetensors", i + 1, SHARDS);
}

void nap(unsigned ms)
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

void make_model(const char *dir, uint64_t version)
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

void list_model(const char *dir, const char *version)
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

void load(const char *way)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (strcmp(ways[i].name, way) == 0) {
			ways[i].load();
			return;
		}
	errno = EINVAL;
	die(way);
}

const char *nth_way(int i)
{
	return ways[(size_t)i % ARRAY_SIZE(ways)].name;
}

/* "7", or "7 8" for a mixture, or "?" for bytes that no version has. */
void print_versions(const char *path)
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
