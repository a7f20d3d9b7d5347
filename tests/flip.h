/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flip.h - what tool-flip's jobs (tool-flip.c) know of a load (flip-load.c)
 */
#ifndef FLIP_H
#define FLIP_H

#include <stdint.h>

#include "weightfs/base.h"
#include "weightfs/digest.h"

#define HEX		(2 * sizeof(struct wfs_digest) + 1)
#define SHARDS		8

/* How this process loads: through mnt/latest, with pauses between the shards, and a gate in the middle. */
extern const char *mnt, *gate;		/* gate: NULL, none */
extern unsigned pause_ms;

/* What it loaded. */
extern char hashes[SHARDS][HEX];
extern _Atomic uint64_t had_ns;		/* when the first shard was had; 0: not yet */

_Noreturn void die(const char *what);	/* with errno */
void nap(unsigned ms);

void make_model(const char *dir, uint64_t version);
void list_model(const char *dir, const char *version);

void load(const char *way);
const char *nth_way(int i);		/* there are a few, which come again */
void print_versions(const char *list);	/* of the last load */

#endif
