/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-edge.c - edge VERSIONS ORACLE LAST PROCESSES OPENS SEED: open and close files while they become complete
 *
 * Each process opens OPENS times VERSIONS/<n>/model.bin, n of 1..LAST, reads or maps a little, compares it
 * with ORACLE/<n>, and closes.  Half of the opens go to the newest version there is: its image
 * is becoming complete.  Now and then a mapping or a second descriptor is kept through the next open.
 * A version may be missing (not yet there, or left) when it is opened; any other error is a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_MAX	64
#define LEN_MAX		20000u
#define GIVE_UP_S	60

static const char *versions, *oracle;
static unsigned last, newest = 1;
static struct plain {
	const uint8_t *data;
	uint64_t size;
} plain[LAST_MAX + 1];

static uint64_t next(uint64_t *x)
{
	*x ^= *x >> 12;
	*x ^= *x << 25;
	*x ^= *x >> 27;
	return *x * 2685821657736338717ull >> 11;
}

static void die(const char *what, unsigned v, uint64_t off)
{
	printf("%s of version %u at %" PRIu64 ": %s\n", what, v, off, errno ? strerror(errno) : "other bytes");
	fflush(stdout);
	_exit(1);
}

/* -1: it is not there. */
static int open_version(unsigned v)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%u/model.bin", versions, v);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ESTALE)
		die("open", v, 0);
	return fd;
}

/* The oracle's file is there before the version is. */
static const struct plain *plain_of(unsigned v)
{
	struct plain *p = &plain[v];
	char path[4096];
	struct stat st;
	int fd;

	if (p->data)
		return p;
	snprintf(path, sizeof(path), "%s/%u", oracle, v);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		die("oracle", v, 0);
	p->size = (uint64_t)st.st_size;
	p->data = mmap(NULL, p->size, PROT_READ, MAP_SHARED, fd, 0);
	if (p->data == MAP_FAILED)
		die("oracle", v, 0);
	close(fd);
	return p;
}

static void check_read(int fd, unsigned v, uint64_t off, size_t len)
{
	uint8_t buf[LEN_MAX];
	ssize_t n;

	errno = 0;
	n = pread(fd, buf, len, (off_t)off);
	if (n != (ssize_t)len || memcmp(buf, plain_of(v)->data + off, len) != 0)
		die("pread", v, off);
}

struct mapping {
	uint8_t *at;
	size_t len;
	uint64_t off;
	unsigned v;
};

static void map(struct mapping *m, int fd, unsigned v, uint64_t off, size_t len, int how)
{
	*m = (struct mapping){ .off = off & ~4095ull, .v = v };
	m->len = len + (size_t)(off - m->off);
	errno = 0;
	m->at = mmap(NULL, m->len, PROT_READ, how, fd, (off_t)m->off);
	if (m->at == MAP_FAILED)
		die("mmap", v, off);
}

static void unmap(struct mapping *m)
{
	if (!m->at)
		return;
	errno = 0;
	if (memcmp(m->at, plain_of(m->v)->data + m->off, m->len) != 0)
		die("mapping", m->v, m->off);
	munmap(m->at, m->len);
	m->at = NULL;
}

static unsigned choose(uint64_t *x)
{
	int fd;

	if (next(x) % 2)
		return 1 + (unsigned)(next(x) % newest);
	for (unsigned v = last; v > newest; v--) {
		fd = open_version(v);
		if (fd < 0)
			continue;
		close(fd);
		newest = v;
	}
	return newest;
}

static void hammer(unsigned opens, uint64_t x)
{
	struct mapping m = { 0 };
	int kept = -1;

	for (unsigned i = 0; i < opens;) {
		unsigned v = choose(&x);
		int fd = open_version(v);
		const struct plain *p = fd >= 0 ? plain_of(v) : NULL;
		size_t len = 1 + next(&x) % LEN_MAX;
		uint64_t off;

		if (!p)
			continue;
		i++;
		off = next(&x) % (p->size - len);
		unmap(&m);
		if (next(&x) % 3 == 0)
			map(&m, fd, v, off, len, off & 1 ? MAP_SHARED : MAP_PRIVATE);
		else
			check_read(fd, v, off, len);
		if (next(&x) % 2)
			unmap(&m);
		if (kept >= 0)
			close(kept);
		kept = next(&x) % 8 ? -1 : fd;
		if (kept < 0)
			close(fd);
	}
	unmap(&m);
}

int main(int argc, char **argv)
{
	unsigned n, bad = 0;
	int status;

	if (argc != 7)
		return 2;
	versions = argv[1];
	oracle = argv[2];
	last = (unsigned)atoi(argv[3]);
	n = (unsigned)atoi(argv[4]);
	if (last < 1 || last > LAST_MAX)
		return 2;
	for (unsigned i = 0; i < n; i++)
		if (fork() == 0) {
			alarm(GIVE_UP_S);
			hammer((unsigned)atoi(argv[5]), strtoull(argv[6], NULL, 0) * 1000 + i + 1);
			_exit(0);
		}
	while (wait(&status) > 0)
		if (status != 0) {
			if (WIFSIGNALED(status))
				printf("a reader ended by signal %d\n", WTERMSIG(status));
			bad++;
		}
	return bad != 0;
}
