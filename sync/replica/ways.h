/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ways.h - places and the ways between them, for plan.c
 */
#ifndef WFS_REPLICA_WAYS_H
#define WFS_REPLICA_WAYS_H

#include "replica/internal.h"

#define WFS_WAYS_MAX	16u
#define WFS_PLACES_MAX	65536u

struct wfs_way {
	struct wfs_digest table;
	uint64_t cost;			/* bytes to fetch, table included; of its bases: theirs */
	uint64_t hint, have;		/* what a version object says; what is in the stash */
	uint64_t stored, table_len;	/* once it is open */
	uint64_t back;			/* versions that it goes back; 0: in full, or an undo */
	bool full, undo;
	bool hinted;			/* its bases are known, if only from version objects */
	struct wfs_source *source;	/* open: bases and cost are exact */
	uint32_t *bases, n_bases;	/* places */
	int result;			/* below 0: it cannot be used */
};

struct wfs_place {
	struct wfs_digest id;		/* of the primary table */
	uint64_t size;
	uint64_t sequence;		/* of the newest version known to have it; 0: none */
	struct wfs_image *held;		/* complete */
	struct wfs_image *partly;	/* some blocks are there */
	uint32_t missing;		/* 1/1024 of the blocks */
	struct wfs_basefile *base;	/* the user's file, to be checked with base_way's table */
	unsigned base_way;
	struct wfs_way *ways;
	unsigned n_ways;
	uint64_t cost;			/* by the best way, with its bases; UINT64_MAX: none */
	unsigned steps;
	int best;
	uint32_t seen;			/* the last search that came by */
};

struct wfs_ways {
	struct wfs_replica *r;
	struct wfs_image *target;
	bool net, demand;
	uint64_t tables;		/* bytes of tables in memory */
	uint32_t searches;
	struct wfs_err *err;
	int failed;			/* the first thing that did not work, and why; 0: none */
	struct wfs_err why;
	struct wfs_place *v;
	size_t n, cap;
};

/* The place of a file content, made with all its ways when it is new. */
int wfs_ways_place(struct wfs_ways *g, const struct wfs_base *what, uint32_t *index);
/* The history knows more now. */
int wfs_ways_refresh(struct wfs_ways *g);
/* Fetch the way's table: from now on it is exact, or no way at all and g->failed says why.  Below 0: the
 * plan cannot go on. */
int wfs_ways_open(struct wfs_ways *g, uint32_t place, unsigned way);
/* A table's bytes must be those of the primary one; else the way is none. */
int wfs_ways_compare(struct wfs_ways *g, uint32_t place, unsigned way, unsigned primary);
unsigned wfs_ways_primary(const struct wfs_ways *g, uint32_t place);
/* The cheapest way to every place, as far as is known. */
void wfs_ways_choose(struct wfs_ways *g);
void wfs_ways_free(struct wfs_ways *g);
uint64_t wfs_add_bytes(uint64_t a, uint64_t b);		/* UINT64_MAX: too many */

#endif
