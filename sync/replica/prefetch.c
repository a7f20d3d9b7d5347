/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - several small objects at once
 *
 * A chain of tables is known before the first of them is here, and of older versions at least the numbers: fetched
 * one after another they would take a round trip each.  Failures are left to whoever needs the object.
 */
#include <stdlib.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define THREADS 8u

struct prefetch {
	struct wfs_replica *r;
	const struct wfs_digest *tables;
	const uint64_t *versions;	/* instead of tables */
	size_t n;
	_Atomic size_t next;
};

static void fetch_table(struct wfs_replica *r, const struct wfs_digest *id)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;

	wfs_object_get(r, &raw, "tables", id, WFS_TABLE_MAX, true, NULL);
}

/* Its commit names it, and is believed only so far that the object is put where it is looked for by digest. */
static void fetch_version(struct wfs_replica *r, uint64_t sequence)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf object = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	struct wfs_commit commit;

	wfs_commit_name(name, sequence);
	if (wfs_store_get_buf(&raw, r->store, name, WFS_STORE_INFO_MAX, false, &r->stop, NULL) == 0 &&
	    wfs_commit_parse(&commit, raw.data, raw.len, NULL) == 0)
		wfs_object_get(r, &object, "versions", &commit.version, WFS_VERSION_MAX, true, NULL);
}

static void *fetch_main(void *arg)
{
	struct prefetch *p = arg;
	size_t i;

	while ((i = p->next++) < p->n) {
		if (p->tables)
			fetch_table(p->r, &p->tables[i]);
		else
			fetch_version(p->r, p->versions[i]);
	}
	return NULL;
}

static void fetch_all(struct prefetch *p)
{
	pthread_t threads[THREADS];
	unsigned k;

	if (p->n < 2)
		return;
	for (k = 0; k < WFS_MIN((size_t)THREADS, p->n); k++)
		if (pthread_create(&threads[k], NULL, fetch_main, p) != 0)
			break;
	while (k)
		pthread_join(threads[--k], NULL);
}

void wfs_prefetch_tables(struct wfs_replica *r, const struct wfs_digest *tables, size_t n)
{
	fetch_all(&(struct prefetch){ .r = r, .tables = tables, .n = n });
}

void wfs_prefetch_versions(struct wfs_replica *r, uint64_t from, uint64_t to, bool surely)
{
	static const uint64_t strides[] = { 64, 8, 1 };
	struct prefetch p = { .r = r };
	uint64_t versions[THREADS];

	p.versions = versions;
	while (p.n < THREADS && from > to) {
		unsigned i = 0;

		while (from % strides[i] || from - to < strides[i])
			i++;
		if (!surely && p.n && strides[i] == 1 && from % 8 == 0)
			break;		/* it may end before */
		versions[p.n++] = from -= strides[i];
	}
	fetch_all(&p);
}
