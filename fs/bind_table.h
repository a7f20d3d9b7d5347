/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind_table.h - what bind.c remembers: processes, and the slots of their jobs
 *
 * Its owner's lock is held in every call.  Bounded: BIND_MAX processes, and a slot without a user
 * goes with the next sweep.
 */
#ifndef FS_BIND_TABLE_H
#define FS_BIND_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "job.h"
#include "weightfs/replica.h"

#define BIND_MAX	16384u		/* processes remembered at once */
#define BIND_BUCKETS	4096u
#define BIND_USERS	1024u		/* that are told apart; others share a count */
#define BIND_OPEN	UINT64_MAX	/* "closed": not yet */

/* A process that has asked, until it dies. */
struct known {
	struct known *next;
	struct bind_key key;
	int pidfd;			/* -1: none to be had, its start time tells */
	struct wfs_model *model;	/* its version; NULL: ended */
	uint64_t used_ns;
	uint64_t closed;		/* processes started at or after these ticks do not inherit */
	struct slot *slot;		/* it is a user of; may be NULL */
	struct known *next_user, **prev_user;
};

/* The version that new processes of a job take. */
struct slot {
	struct slot *next;		/* oldest first */
	uint64_t job, opened_ns;
	uint64_t closed;		/* as above */
	struct wfs_model *model;
	struct known *users;
};

struct bind_table {
	size_t n, n_bound, n_slots, pidfds, pidfds_max;
	unsigned per_user[BIND_USERS];	/* processes of a user among n */
	struct known *known[BIND_BUCKETS];
	struct slot *slots[BIND_BUCKETS];
};

void table_init(struct bind_table *t);
void table_free(struct bind_table *t);

/* By number alone: it may be a dead process's. */
struct known *known_of_pid(struct bind_table *t, pid_t pid);
/* NULL: not known.  An entry of the same number and an earlier start is dropped: its process is dead.  One
 * with a later start stays, since it is the key that is old: of who opened a file that others close. */
struct known *known_find(struct bind_table *t, struct bind_key key);
/* A new entry for what known_find does not know; NULL: out of memory, or the process has ended and its
 * number is another's.  *dropped: a bound process that had to go for it, key.pid 0: none. */
struct known *known_add(struct bind_table *t, struct bind_key key, struct bind_key *dropped);
bool known_alive(const struct known *k);
void known_bind(struct bind_table *t, struct known *k, struct wfs_model *m);	/* takes m over */
void known_unbind(struct bind_table *t, struct known *k);	/* its version ends, it leaves its slot */

/* The oldest slot of the job that was opened after opened_ns, has a user that lives and still has its
 * version (used after used_ns), and is not closed for a process that started at `start` ticks. */
struct slot *slot_find(struct bind_table *t, uint64_t job, uint64_t start, uint64_t used_ns,
		       uint64_t opened_ns);
/* References m.  NULL: out of memory. */
struct slot *slot_open(struct bind_table *t, uint64_t job, struct wfs_model *m, uint64_t now_ns);
void slot_use(struct slot *s, struct known *k);	/* k leaves its old one */
void slot_close(struct bind_table *t, uint64_t job, uint64_t ticks);

/* Drop the dead; unbind whose last use is not after used_ns; drop slots opened before opened_ns. */
void table_sweep(struct bind_table *t, uint64_t used_ns, uint64_t opened_ns);

#endif
