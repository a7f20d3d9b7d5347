/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.c - processes and the versions they keep
 *
 * 1. A binding never changes its version; it ends, and the next walk makes a new one.
 * 2. Callers in another pid namespace all come as pid 0.  They share one binding that use does not
 *    extend: otherwise a busy container would never see a new version.
 * 3. The table is bounded: when it is full, the binding unused for longest ends early.
 *
 * Lock: bind->lock; wfs_model_put and reads of /proc happen outside it.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "weightfs/base.h"

#define BIND_MAX	4096u		/* processes at once */
#define BIND_BUCKETS	1024u

struct binding {
	struct binding *next;
	struct bind_key key;
	struct wfs_model *model;
	uint64_t made_ns, used_ns;
};

struct bind {
	pthread_mutex_t lock;
	struct wfs_replica *replica;
	uint64_t linger_ns;
	size_t n;
	struct binding *bucket[BIND_BUCKETS];
};

struct bind *bind_new(struct wfs_replica *replica, unsigned linger_ms)
{
	struct bind *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	pthread_mutex_init(&b->lock, NULL);
	b->replica = replica;
	b->linger_ns = (uint64_t)linger_ms * 1000000u;
	return b;
}

static void free_list(struct binding *e)
{
	while (e) {
		struct binding *next = e->next;

		wfs_model_put(e->model);
		free(e);
		e = next;
	}
}

void bind_free(struct bind *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < BIND_BUCKETS; i++)
		free_list(b->bucket[i]);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void proc_read(char *buf, size_t cap, pid_t pid, const char *name)
{
	char path[64];
	ssize_t n;
	int fd;

	buf[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, buf, cap - 1);
	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* Field 22 of stat; the name before it may hold spaces and parentheses, so count from its end. */
static uint64_t start_time(pid_t pid)
{
	char buf[1024];
	const char *p;

	proc_read(buf, sizeof(buf), pid, "stat");
	p = strrchr(buf, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

struct bind_key bind_caller(pid_t tid)
{
	struct bind_key key = { 0 };
	char buf[4096];
	const char *p;

	if (tid <= 0)
		return key;
	proc_read(buf, sizeof(buf), tid, "status");
	p = strstr(buf, "\nTgid:");
	if (!p)
		return key;
	key.pid = (pid_t)strtol(p + 6, NULL, 10);
	key.start = start_time(key.pid);
	return key;
}

static struct binding **slot_of(struct bind *b, struct bind_key key)
{
	struct binding **p = &b->bucket[(unsigned)key.pid % BIND_BUCKETS];

	while (*p && (*p)->key.pid != key.pid)
		p = &(*p)->next;
	return p;
}

static struct binding *unlink_at(struct bind *b, struct binding **p)
{
	struct binding *e = *p;

	*p = e->next;
	e->next = NULL;
	b->n--;
	return e;
}

static bool expired(const struct bind *b, const struct binding *e, uint64_t now)
{
	return now - (e->key.pid ? e->used_ns : e->made_ns) > b->linger_ns;
}

static struct binding *evict_oldest(struct bind *b)
{
	struct binding **oldest = NULL;

	for (size_t i = 0; i < BIND_BUCKETS; i++)
		for (struct binding **p = &b->bucket[i]; *p; p = &(*p)->next)
			if (!oldest || (*p)->used_ns < (*oldest)->used_ns)
				oldest = p;
	return oldest ? unlink_at(b, oldest) : NULL;
}

/* The live binding of key with its model referenced, or NULL; *old receives one that ended. */
static struct wfs_model *find_live(struct bind *b, struct bind_key key, uint64_t now,
				   struct binding **old)
{
	struct binding **p = slot_of(b, key), *e = *p;

	if (!e)
		return NULL;
	if (e->key.start != key.start || expired(b, e, now)) {
		*old = unlink_at(b, p);
		return NULL;
	}
	e->used_ns = now;
	return wfs_model_get(e->model);
}

struct wfs_model *bind_latest(struct bind *b, struct bind_key key)
{
	uint64_t now = wfs_now_ns();
	struct binding *old = NULL, *fresh;
	struct wfs_model *m;

	pthread_mutex_lock(&b->lock);
	m = find_live(b, key, now, &old);
	pthread_mutex_unlock(&b->lock);
	free_list(old);
	if (m)
		return m;

	m = wfs_replica_latest(b->replica);
	fresh = m ? malloc(sizeof(*fresh)) : NULL;
	if (!fresh)
		return m;		/* unbound is better than nothing */
	*fresh = (struct binding){ .key = key, .model = m, .made_ns = now, .used_ns = now };

	old = NULL;
	pthread_mutex_lock(&b->lock);
	m = find_live(b, key, now, &old);	/* another thread of it was faster? */
	if (!m) {
		struct binding *full = b->n >= BIND_MAX ? evict_oldest(b) : NULL;
		struct binding **head = &b->bucket[(unsigned)key.pid % BIND_BUCKETS];

		if (full) {
			full->next = old;
			old = full;
		}
		m = wfs_model_get(fresh->model);
		fresh->next = *head;
		*head = fresh;
		fresh = NULL;
		b->n++;
	}
	pthread_mutex_unlock(&b->lock);
	free_list(old);
	free_list(fresh);
	return m;
}

void bind_touch(struct bind *b, struct bind_key key)
{
	struct binding *e;

	if (!key.pid)
		return;
	pthread_mutex_lock(&b->lock);
	e = *slot_of(b, key);
	if (e && e->key.start == key.start)
		e->used_ns = wfs_now_ns();
	pthread_mutex_unlock(&b->lock);
}

void bind_sweep(struct bind *b)
{
	uint64_t now = wfs_now_ns();
	struct binding *old = NULL;

	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < BIND_BUCKETS; i++) {
		struct binding **p = &b->bucket[i];

		while (*p) {
			struct binding *e = *p;

			if (!expired(b, e, now) && (!e->key.pid || start_time(e->key.pid) == e->key.start)) {
				p = &e->next;
				continue;
			}
			unlink_at(b, p);
			e->next = old;
			old = e;
		}
	}
	pthread_mutex_unlock(&b->lock);
	free_list(old);
}

size_t bind_count(struct bind *b)
{
	size_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n;
	pthread_mutex_unlock(&b->lock);
	return n;
}
