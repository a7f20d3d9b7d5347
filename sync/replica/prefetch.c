/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - several small objects at once
 *
 * A chain of tables is known before the first of them is here: fetched one after another they would
 * take a round trip each.  Failures are left to whoever needs the object.
 */
#include <stdlib.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define THREADS 8u

struct prefetch {
	struct wfs_replica *r;
	const struct wfs_digest *tables;
	size_t n;
	_Atomic size_t next;
};

static void *fetch_main(void *arg)
{
	struct prefetch *p = arg;
	size_t i;

	while ((i = p->next++) < p->n) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;

		wfs_object_get(p->r, &raw, "tables", &p->tables[i], WFS_TABLE_MAX, true, NULL);
	}
	return NULL;
}

void wfs_prefetch_tables(struct wfs_replica *r, const struct wfs_digest *tables, size_t n)
{
	struct prefetch p = { .r = r, .tables = tables, .n = n };
	pthread_t threads[THREADS];
	unsigned k;

	if (n < 2)
		return;
	for (k = 0; k < WFS_MIN((size_t)THREADS, n); k++)
		if (pthread_create(&threads[k], NULL, fetch_main, &p) != 0)
			break;
	while (k)
		pthread_join(threads[--k], NULL);
}
