/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.c - a table of the inodes that are open
 *
 * 1. An entry lives while it has opens.  Its id is written once, by the first of them, and
 *    the file is registered until the last has gone: one backing id an inode, as the kernel wants it.
 * 2. An open is counted before it is answered and until its RELEASE (or until the answer could not be
 *    delivered).  The kernel ends its own count before it sends RELEASE, so an inode without an
 *    entry here is free of any mode there.
 *
 * Lock: modes->lock, never held while a file is looked at or registered; others that open the
 * same inode meanwhile wait for `decided`.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "modes.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define BUCKETS 1024u			/* inode numbers are hashes */

struct mode {
	struct mode *next;
	uint64_t ino;
	unsigned n_open;
	bool decided;
	int id;				/* 0: by the daemon */
};

struct modes {
	pthread_mutex_t lock;
	pthread_cond_t decided;
	struct passthrough *p;
	struct mode *bucket[BUCKETS];
};

struct modes *modes_new(struct passthrough *p)
{
	struct modes *ms = calloc(1, sizeof(*ms));

	if (!ms)
		return NULL;
	pthread_mutex_init(&ms->lock, NULL);
	pthread_cond_init(&ms->decided, NULL);
	ms->p = p;
	return ms;
}

void modes_free(struct modes *ms)
{
	if (!ms)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (ms->bucket[i]) {
			struct mode *e = ms->bucket[i];

			ms->bucket[i] = e->next;
			free(e);	/* the kernel forgets the ids with the connection */
		}
	pthread_cond_destroy(&ms->decided);
	pthread_mutex_destroy(&ms->lock);
	free(ms);
}

static struct mode **find(struct modes *ms, uint64_t ino)
{
	struct mode **e = &ms->bucket[ino % BUCKETS];

	while (*e && (*e)->ino != ino)
		e = &(*e)->next;
	return e;
}

/* A file that is not complete, or cannot be registered, is served by the daemon. */
static int choose(struct modes *ms, struct wfs_model *m, size_t i)
{
	int fd, id;

	if (!passthrough_is_on(ms->p))
		return 0;
	fd = wfs_model_data_open(m, i, NULL);
	if (fd < 0)
		return 0;
	id = passthrough_register(ms->p, fd);
	close(fd);
	if (id < 0)
		log_debug("versions/%llu file %zu is served by the daemon: %d",
			  (unsigned long long)wfs_model_version(m)->sequence, i, id);
	return WFS_MAX(id, 0);
}

int modes_enter(struct modes *ms, uint64_t ino, struct wfs_model *m, size_t i)
{
	struct mode *e;
	int id;

	pthread_mutex_lock(&ms->lock);
	e = *find(ms, ino);
	if (e) {
		e->n_open++;
		while (!e->decided)
			pthread_cond_wait(&ms->decided, &ms->lock);
		id = e->id;
		pthread_mutex_unlock(&ms->lock);
		return id;
	}
	e = calloc(1, sizeof(*e));
	if (e) {
		e->ino = ino;
		e->n_open = 1;
		*find(ms, ino) = e;
	}
	pthread_mutex_unlock(&ms->lock);
	if (!e)
		return -ENOMEM;

	id = choose(ms, m, i);
	pthread_mutex_lock(&ms->lock);
	e->id = id;
	e->decided = true;
	pthread_cond_broadcast(&ms->decided);
	pthread_mutex_unlock(&ms->lock);
	return id;
}

void modes_leave(struct modes *ms, uint64_t ino)
{
	struct mode **p, *last = NULL;

	pthread_mutex_lock(&ms->lock);
	p = find(ms, ino);
	if (--(*p)->n_open == 0) {
		last = *p;
		*p = last->next;
	}
	pthread_mutex_unlock(&ms->lock);
	if (last && last->id)
		passthrough_unregister(ms->p, last->id);
	free(last);
}

unsigned modes_get(struct modes *ms, uint64_t ino, bool *passthrough)
{
	struct mode *e;
	unsigned n;

	pthread_mutex_lock(&ms->lock);
	e = *find(ms, ino);
	n = e ? e->n_open : 0;
	*passthrough = e && e->id;
	pthread_mutex_unlock(&ms->lock);
	return n;
}
