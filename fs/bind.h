/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.h - which version a process sees behind `latest`
 *
 * The rules are weightfs-design(7), "Who sees which version":
 *
 *   a  a process keeps its version until `linger` after its last use of it known to us;
 *   b  one without takes its nearest bound ancestor's within the job; else that of the job's slot, if
 *      that was opened less than `join` ago and a user of it lives; else the newest, opening a slot;
 *   c  after bind_close nobody who starts later takes what the caller's job had before;
 *   d  a bound version holds a model reference: it is not evicted;
 *   e  callers that we cannot see share one slot of the length `linger`.
 *
 * Any thread.  Nothing here waits, but for reads of /proc.
 */
#ifndef FS_BIND_H
#define FS_BIND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "job.h"
#include "weightfs/replica.h"

struct bind;

enum bind_mode { BIND_JOB, BIND_PROCESS, BIND_CGROUP, BIND_NONE };

struct bind_opts {
	enum bind_mode mode;
	unsigned linger_ms, join_ms;
};

struct bind_counts {
	size_t processes;		/* that have a version */
	size_t jobs;			/* that have a slot, which others may join */
	uint64_t dropped;		/* bindings that ended early because the table was full */
};

struct bind *bind_new(struct wfs_replica *replica, const struct bind_opts *o);	/* NULL: out of memory */
void bind_free(struct bind *b);

/* The process of thread tid, as FUSE names callers. */
struct bind_key bind_caller(struct bind *b, pid_t tid);

/* The version this process sees now, or NULL while there is none.  The caller puts it. */
struct wfs_model *bind_latest(struct bind *b, struct bind_key key);

/* It used a file of that version: a use of its binding, if that is the same version. */
void bind_touch(struct bind *b, struct bind_key key, uint64_t sequence);

/* This process (pid 0: one we cannot see) was told what is newest: what its job starts from now on, and
 * what it looks for itself, is at least that.  Processes that run keep what they have.  One that has
 * ended changes nothing, whoever has its number now. */
void bind_close(struct bind *b, struct bind_key key);

void bind_sweep(struct bind *b);	/* once a second: drop what has expired or died */
void bind_count(struct bind *b, struct bind_counts *out);

#endif
