/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - options by table: command line (-o), weightfs.conf and mount(8) share one parser
 *
 * sync/base/config.c is the only user of inih.
 */
#ifndef WEIGHTFS_CONFIG_H
#define WEIGHTFS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weightfs/err.h"

enum wfs_opt_type {
	WFS_OPT_FLAG,		/* bool: "name" or "name=on|off" */
	WFS_OPT_STRING,		/* char *, malloc'ed; a later value replaces it */
	WFS_OPT_LIST,		/* struct wfs_strings: every value is appended */
	WFS_OPT_SIZE,		/* uint64_t bytes: 10, 64K, 3.5G, 1T (powers of 1024) */
	WFS_OPT_TIME,		/* unsigned milliseconds: 500ms, 30s, 5m, 2h; bare numbers are seconds */
	WFS_OPT_UINT,		/* unsigned */
	WFS_OPT_OCTAL,		/* unsigned */
	WFS_OPT_CHOICE,		/* unsigned: index into choices */
	WFS_OPT_IGNORE,		/* accepted and ignored, with or without a value */
};

struct wfs_strings {
	char **v;
	size_t n;
};

struct wfs_opt {
	const char *name;
	enum wfs_opt_type type;
	size_t offset;			/* of the field in the target struct */
	const char *const *choices;	/* NULL-terminated, for WFS_OPT_CHOICE */
	const char *help;		/* one line for --help */
};

/* Set one option.  value may be NULL.  -EINVAL with the sentence that says what would be right,
 * with the nearest known name when it is unknown. */
int wfs_opt_set(void *target, const struct wfs_opt *table, size_t n, const char *name,
		const char *value, struct wfs_err *err);

/* A comma-separated list as after -o; "\," is a comma inside a value. */
int wfs_opt_parse_list(void *target, const struct wfs_opt *table, size_t n, const char *list,
		       struct wfs_err *err);

/* Read the sections named in `sections` (NULL-terminated, in file order) of an ini file.
 * -ENOENT: no file (no message).  Errors name the file and line. */
int wfs_opt_parse_file(void *target, const struct wfs_opt *table, size_t n, const char *path,
		       const char *const *sections, struct wfs_err *err);

/* The same file for who makes sense of the sections himself: fn is called for each "name = value" in
 * order; a negative return ends it, and is returned with the file and line in front of its message.
 * -ENOENT: no file (no message). */
typedef int wfs_conf_fn(void *arg, const char *section, const char *name, const char *value, struct wfs_err *err);
int wfs_conf_read(const char *path, wfs_conf_fn *fn, void *arg, struct wfs_err *err);

/* Free strings and lists of the table. */
void wfs_opt_free(void *target, const struct wfs_opt *table, size_t n);
int wfs_strings_add(struct wfs_strings *s, const char *text);
void wfs_strings_free(struct wfs_strings *s);

/* "1.5 GiB", "312 ms" for people; the buffer is the caller's. */
const char *wfs_human_size(char out[32], uint64_t bytes);

#endif
