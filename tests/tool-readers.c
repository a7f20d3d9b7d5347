/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-readers.c - readers MOUNTED PLAIN [SEED]: every way to read gives the plain file's bytes
 *
 * Threads read at random places with pread, readv, MAP_SHARED, MAP_PRIVATE, O_DIRECT, sendfile,
 * splice and copy_file_range, and at and past the end; then SEEK_DATA and SEEK_HOLE, fadvise.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREADS	12
#define ROUNDS	40
#define MAX_LEN	(300u << 10)

static const char *mounted;
static uint8_t *plain;		/* the whole plain file */
static uint64_t size;
static atomic_int failed;

static void bad(const char *what, uint64_t off, size_t len)
{
	printf("%s [%" PRIu64 ",+%zu): %s\n", what, off, len, errno ? strerror(errno) : "other bytes");
	failed = 1;
}

static void check(const char *what, const void *got, ssize_t n, uint64_t off, size_t len)
{
	size_t want = off >= size ? 0 : len < size - off ? len : (size_t)(size - off);

	if (n != (ssize_t)want || (want && memcmp(got, plain + off, want) != 0))
		bad(what, off, len);
}

static void read_pread(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	check("pread", buf, pread(fd, buf, len, (off_t)off), off, len);
}

static void read_readv(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	struct iovec v[3] = { { buf, len / 3 }, { buf + len / 3, 1 }, { buf + len / 3 + 1, len - len / 3 - 1 } };

	check("preadv", buf, preadv(fd, v, 3, (off_t)off), off, len);
}

static void read_map(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	uint64_t start = off & ~4095ull;
	uint8_t *p;

	if (off >= size)
		return;
	len = len < size - off ? len : (size_t)(size - off);
	p = mmap(NULL, len + (off - start), PROT_READ, off & 4096 ? MAP_SHARED : MAP_PRIVATE, fd, (off_t)start);
	if (p == MAP_FAILED) {
		bad("mmap", off, len);
		return;
	}
	memcpy(buf, p + (off - start), len);
	check("mmap", buf, (ssize_t)len, off, len);
	munmap(p, len + (off - start));
}

static void read_direct(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	int d = open(mounted, O_RDONLY | O_DIRECT);

	(void)fd;
	off &= ~4095ull;
	len = (len + 4095) & ~4095ul;
	if (d < 0) {
		bad("open O_DIRECT", off, len);
		return;
	}
	check("O_DIRECT", buf, pread(d, buf, len, (off_t)off), off, len);
	close(d);
}

static int temp(void)
{
	return open(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", O_TMPFILE | O_RDWR, 0600);
}

static void check_copy(const char *what, int out, uint8_t *buf, uint64_t off, size_t len)
{
	check(what, buf, pread(out, buf, len, 0), off, len);
	close(out);
}

static void read_sendfile(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	off_t at = (off_t)off;
	int out = temp();

	for (size_t left = len; left > 0;) {
		ssize_t n = sendfile(out, fd, &at, left);

		if (n <= 0)
			break;
		left -= (size_t)n;
	}
	check_copy("sendfile", out, buf, off, len);
}

static void read_splice(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	loff_t at = (loff_t)off;
	size_t got = 0;
	int p[2];

	if (pipe(p) < 0)
		return;
	while (got < len) {
		ssize_t n = splice(fd, &at, p[1], NULL, len - got < 65536 ? len - got : 65536, 0);

		if (n <= 0)
			break;
		for (ssize_t r; n > 0; n -= r, got += (size_t)r) {
			r = read(p[0], buf + got, (size_t)n);
			if (r <= 0)
				break;
		}
	}
	close(p[0]);
	close(p[1]);
	check("splice", buf, (ssize_t)got, off, len);
}

static void read_copy_range(int fd, uint8_t *buf, uint64_t off, size_t len)
{
	loff_t at = (loff_t)off;
	int out = temp();

	for (size_t left = len; left > 0;) {
		ssize_t n = copy_file_range(fd, &at, out, NULL, left, 0);

		if (n < 0 && errno == EXDEV) {	/* older and newer kernels refuse between file systems */
			close(out);
			return;
		}
		if (n <= 0)
			break;
		left -= (size_t)n;
	}
	check_copy("copy_file_range", out, buf, off, len);
}

static void (*const ways[])(int, uint8_t *, uint64_t, size_t) = {
	read_pread, read_readv, read_map, read_direct, read_sendfile, read_splice, read_copy_range,
};

static uint64_t next(uint64_t *x)
{
	*x ^= *x >> 12;
	*x ^= *x << 25;
	*x ^= *x >> 27;
	return *x * 2685821657736338717ull >> 11;
}

static void *reader(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg;
	int fd = open(mounted, O_RDONLY);
	uint8_t *buf;

	if (fd < 0 || posix_memalign((void **)&buf, 4096, MAX_LEN + 4096)) {
		bad("open", 0, 0);
		return NULL;
	}
	posix_fadvise(fd, 0, 0, x & 1 ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
	for (int i = 0; i < ROUNDS && !failed; i++) {
		uint64_t off = next(&x) % (size + 8192);
		size_t len = 4 + next(&x) % (MAX_LEN - 4);

		errno = 0;
		ways[next(&x) % (sizeof(ways) / sizeof(*ways))](fd, buf, off, len);
	}
	free(buf);
	close(fd);
	return NULL;
}

static void check_seek(void)
{
	int fd = open(mounted, O_RDONLY);
	struct stat st;

	errno = 0;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size || (uint64_t)st.st_blocks != (size + 511) / 512)
		bad("stat", 0, 0);
	if (lseek(fd, 0, SEEK_DATA) != 0)
		bad("SEEK_DATA", 0, 0);
	if ((uint64_t)lseek(fd, 0, SEEK_HOLE) != size)
		bad("SEEK_HOLE", 0, 0);
	if (lseek(fd, (off_t)size, SEEK_DATA) >= 0 || errno != ENXIO)
		bad("SEEK_DATA at the end", size, 0);
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : (uint64_t)getpid();
	pthread_t t[THREADS];
	struct stat st;
	int fd;

	if (argc < 3)
		return 2;
	mounted = argv[1];
	fd = open(argv[2], O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return 2;
	size = (uint64_t)st.st_size;
	plain = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	printf("seed %" PRIu64 "\n", seed);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, reader, (void *)(uintptr_t)(seed * 31 + i + 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	check_seek();
	return failed;
}
