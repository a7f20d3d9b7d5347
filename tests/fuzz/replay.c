/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - main for a fuzz target without libFuzzer: feeds it a corpus
 *
 * Each argument is a file, or a directory whose files are fed.  Prints how many inputs ran;
 * none at all is a failure, so that a mistyped path is not taken for a pass.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

static void die(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	exit(1);
}

/* The input gets memory of exactly its size, so that a sanitizer sees a read past its end. */
static void feed_file(const char *path, size_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	FILE *f = fopen(path, "re");

	if (!data || !f || fread(data, 1, size, f) != size)
		die(path);
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	inputs++;
}

static void feed(const char *path);

static void feed_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		die(path);
	while ((e = readdir(d))) {
		char *name;

		if (e->d_name[0] == '.')
			continue;
		if (asprintf(&name, "%s/%s", path, e->d_name) < 0)
			die(path);
		feed(name);
		free(name);
	}
	closedir(d);
}

static void feed(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die(path);
	if (S_ISDIR(st.st_mode))
		feed_dir(path);
	else
		feed_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		feed(argv[i]);
	printf("%lu inputs\n", inputs);
	return inputs == 0;
}
