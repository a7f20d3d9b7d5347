/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-holder.c - holder FILE PLAIN: a mapping of FILE that outlives its descriptor
 *
 * Maps FILE, closes it, prints "mapped".  Then one word a line on standard input: check compares the
 * whole mapping with PLAIN ("same", or where it differs), unmap ends it.  The end of input ends it too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t *map_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		fprintf(stderr, "map %s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
	*len = (size_t)st.st_size;
	return p;
}

static void check(const uint8_t *got, size_t len, const uint8_t *plain, size_t plain_len)
{
	if (len != plain_len) {
		printf("has %zu bytes, not %zu\n", len, plain_len);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (got[i] != plain[i]) {
			printf("differs at %zu\n", i);
			return;
		}
	}
	printf("same\n");
}

int main(int argc, char **argv)
{
	size_t len = 0, plain_len = 0;
	const uint8_t *got, *plain;
	char line[64];

	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	got = map_file(argv[1], &len);
	plain = map_file(argv[2], &plain_len);
	printf("mapped\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "check\n") == 0) {
			check(got, len, plain, plain_len);
		} else if (strcmp(line, "unmap\n") == 0) {
			munmap((void *)(uintptr_t)got, len);
			printf("unmapped\n");
		}
	}
	return 0;
}
