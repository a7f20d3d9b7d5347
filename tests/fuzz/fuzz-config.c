/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-config.c - option tables: the same bytes as an ini file and as a list after -o
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "weightfs/base.h"
#include "weightfs/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

struct options {
	bool flag;
	char *cache;
	struct wfs_strings base;
	uint64_t rate;
	unsigned poll, retries, umask, ready;
};

static const char *const choices[] = { "full", "lazy", NULL };

#define AT(field) offsetof(struct options, field), NULL, ""
static const struct wfs_opt table[] = {
	{ "flag", WFS_OPT_FLAG, AT(flag) },
	{ "cache", WFS_OPT_STRING, AT(cache) },
	{ "base", WFS_OPT_LIST, AT(base) },
	{ "rate", WFS_OPT_SIZE, AT(rate) },
	{ "poll", WFS_OPT_TIME, AT(poll) },
	{ "retries", WFS_OPT_UINT, AT(retries) },
	{ "umask", WFS_OPT_OCTAL, AT(umask) },
	{ "ready", WFS_OPT_CHOICE, offsetof(struct options, ready), choices, "" },
	{ "_netdev", WFS_OPT_IGNORE, 0, NULL, "" },
};

static void check(struct options *o, int r, const struct wfs_err *err)
{
	MUST(r == 0 || err->msg[0]);
	MUST(o->ready < 2 && o->umask <= 07777);
	wfs_opt_free(o, table, ARRAY_SIZE(table));
}

static void parse_list(const uint8_t *data, size_t size)
{
	struct options o = { 0 };
	struct wfs_err err = { { 0 } };
	char *list = strndup((const char *)data, size);

	MUST(list);
	check(&o, wfs_opt_parse_list(&o, table, ARRAY_SIZE(table), list, &err), &err);
	free(list);
}

static void parse_file(const uint8_t *data, size_t size)
{
	static const char *const sections[] = { "weightfs", "", NULL };
	struct options o = { 0 };
	struct wfs_err err = { { 0 } };
	int fd = memfd_create("ini", MFD_CLOEXEC);
	char path[64];

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	check(&o, wfs_opt_parse_file(&o, table, ARRAY_SIZE(table), path, sections, &err), &err);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	parse_list(data, size);
	parse_file(data, size);
	return 0;
}
