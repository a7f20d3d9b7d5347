/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.h - which version a process sees behind `latest`
 *
 * A process that walked through `latest` keeps that version until `linger` after its last use
 * known to us, so that a load that opens shard after shard never mixes versions.  A bound version
 * holds a model reference: it is not evicted.
 */
#ifndef FS_BIND_H
#define FS_BIND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "weightfs/replica.h"

struct bind;

/* A process, safe against reuse of its number; pid 0: one we cannot see. */
struct bind_key {
	pid_t pid;
	uint64_t start;
};

struct bind *bind_new(struct wfs_replica *replica, unsigned linger_ms);	/* NULL: out of memory */
void bind_free(struct bind *b);

/* The process of thread tid, as FUSE names callers. */
struct bind_key bind_caller(pid_t tid);

/* The version this process sees now, or NULL while there is none.  The caller puts it. */
struct wfs_model *bind_latest(struct bind *b, struct bind_key key);

/* A small file of /proc/<pid>, NUL-terminated; "" when it is not there. */
void proc_read(char *buf, size_t cap, pid_t pid, const char *name);

void bind_touch(struct bind *b, struct bind_key key);	/* it used a file */
void bind_sweep(struct bind *b);			/* drop what has expired or died */
size_t bind_count(struct bind *b);

#endif
