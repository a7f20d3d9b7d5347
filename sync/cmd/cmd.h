/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h - what the commands of weightsync share
 */
#ifndef WFS_CMD_H
#define WFS_CMD_H

#include <getopt.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "weightfs/err.h"
#include "weightfs/replica.h"
#include "weightfs/store.h"
#include "weightfs/version.h"

/* Exit codes: weightsync(1), "Exit status". */
enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_VERSION = 3,	/* nothing published, or no such version */
	EXIT_DAMAGED = 4,	/* bytes that are not what they should be */
	EXIT_INTERRUPTED = 130,
};

int cmd_publish(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_gc(int argc, char **argv);

extern const char publish_help[], log_help[], show_help[], pull_help[], verify_help[], plan_help[], gc_help[];

/* Becomes true at SIGINT and SIGTERM. */
extern atomic_bool cmd_interrupted;

/* One line to stderr, and the exit code that fits r. */
int cmd_fail(int r, const struct wfs_err *err);
__attribute__((format(printf, 1, 2)))
int cmd_usage(const char *fmt, ...);			/* EXIT_USAGE */

/* getopt_long with our own messages: a long option, '?' after a message, -1 at the end. --help prints help and exits. */
int cmd_getopt(int argc, char **argv, const struct option *options, const char *help);
/* A decimal version number; false after a message. */
bool cmd_number(const char *text, uint64_t *out);

/* A time such as 30, 30s, 30m, 12h or 7d; else a message that names the option. */
bool cmd_time(const char *option, const char *text, uint64_t *ns);
/* Wait for the store's lock, and say so on standard error. */
void cmd_lock(struct wfs_lock *lock, uint64_t wait_ns);

/* Options every reading command has; store is opened for reading unless create. */
struct cmd_store {
	const char *url, *cacert;
	struct wfs_store *st;
};
int cmd_open(struct cmd_store *s, bool create, struct wfs_err *err);
/* A store that is tried again and again: say so on standard error. */
void cmd_tell_trouble(struct wfs_store *st);

/* A bar on a terminal, a line now and then elsewhere, nothing when quiet.  cancel is set up. */
struct cmd_progress {
	struct wfs_progress p;
	bool quiet, tty;
	uint64_t last_ns;
	char last[64];
};
void cmd_progress_start(struct cmd_progress *p, bool quiet);
void cmd_progress_end(struct cmd_progress *p);

/* Version object of `sequence` (0: the newest), checked.  Its length goes to raw_len. */
int cmd_load_version(struct wfs_store *st, uint64_t sequence, struct wfs_commit *c, struct wfs_version *v,
		     size_t *raw_len, struct wfs_err *err);
/* The newest committed sequence; -ENOENT with a message when there is none. */
int cmd_newest(struct wfs_store *st, uint64_t *out, struct wfs_err *err);
/* The oldest one that is still there. */
int cmd_oldest(struct wfs_store *st, uint64_t newest, uint64_t *out, struct wfs_err *err);
/* An object by digest, its SHA-256 compared. */
int cmd_get_object(struct wfs_buf *out, struct wfs_store *st, const char *kind, const struct wfs_digest *id,
		   size_t max, struct wfs_err *err);

#endif
