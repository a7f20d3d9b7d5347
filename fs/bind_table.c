/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind_table.c - processes by number, slots by job
 *
 * A pidfd tells whether a process lives for a thirtieth of the price of reading its start time, and
 * also where /proc hides others' processes.  They are descriptors, so at most a quarter of ours.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bind_table.h"
#include "weightfs/base.h"

void table_init(struct bind_table *t)
{
	struct rlimit nofile;

	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0)
		t->pidfds_max = nofile.rlim_cur / 4;
}

static struct known **known_head(struct bind_table *t, pid_t pid)
{
	return &t->known[(unsigned)pid % BIND_BUCKETS];
}

static struct slot **slot_head(struct bind_table *t, uint64_t job)
{
	return &t->slots[job % BIND_BUCKETS];
}

/* ---- slots ---- */

static void slot_leave(struct known *k)
{
	if (!k->slot)
		return;
	*k->prev_user = k->next_user;
	if (k->next_user)
		k->next_user->prev_user = k->prev_user;
	k->slot = NULL;
}

void slot_use(struct slot *s, struct known *k)
{
	slot_leave(k);
	k->slot = s;
	k->next_user = s->users;
	k->prev_user = &s->users;
	if (k->next_user)
		k->next_user->prev_user = &k->next_user;
	s->users = k;
}

static void slot_drop(struct bind_table *t, struct slot **p)
{
	struct slot *s = *p;

	while (s->users)
		slot_leave(s->users);
	*p = s->next;
	t->n_slots--;
	wfs_model_put(s->model);
	free(s);
}

static bool is_used(const struct slot *s, uint64_t used_ns)
{
	for (const struct known *k = s->users; k; k = k->next_user)
		if (k->used_ns > used_ns && known_alive(k))
			return true;
	return false;
}

struct slot *slot_find(struct bind_table *t, uint64_t job, uint64_t start, uint64_t used_ns,
		       uint64_t opened_ns)
{
	for (struct slot *s = *slot_head(t, job); s; s = s->next)
		if (s->job == job && s->opened_ns > opened_ns && start < s->closed && is_used(s, used_ns))
			return s;
	return NULL;
}

struct slot *slot_open(struct bind_table *t, uint64_t job, struct wfs_model *m, uint64_t now_ns)
{
	struct slot **p = slot_head(t, job), *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct slot){ .job = job, .opened_ns = now_ns, .closed = BIND_OPEN,
			    .model = wfs_model_get(m) };
	while (*p)
		p = &(*p)->next;
	*p = s;
	t->n_slots++;
	return s;
}

void slot_close(struct bind_table *t, uint64_t job, uint64_t ticks)
{
	for (struct slot *s = *slot_head(t, job); s; s = s->next)
		if (s->job == job)
			s->closed = WFS_MIN(s->closed, ticks);
}

/* ---- processes ---- */

bool known_alive(const struct known *k)
{
	struct pollfd p = { .fd = k->pidfd, .events = POLLIN };
	struct proc_stat st;

	if (k->pidfd >= 0)
		return poll(&p, 1, 0) == 0;
	return proc_stat(&st, k->key.pid) && st.start == k->key.start;
}

void known_unbind(struct bind_table *t, struct known *k)
{
	slot_leave(k);
	t->n_bound -= k->model != NULL;
	wfs_model_put(k->model);
	k->model = NULL;
}

void known_bind(struct bind_table *t, struct known *k, struct wfs_model *m)
{
	known_unbind(t, k);
	k->model = m;
	k->closed = BIND_OPEN;
	t->n_bound++;
}

static unsigned *count_of(struct bind_table *t, const struct known *k)
{
	return &t->per_user[k->key.user % BIND_USERS];
}

static void known_drop(struct bind_table *t, struct known **p)
{
	struct known *k = *p;

	known_unbind(t, k);
	*p = k->next;
	t->n--;
	--*count_of(t, k);
	t->pidfds -= k->pidfd >= 0;
	wfs_close_fd(&k->pidfd);
	free(k);
}

struct known *known_find(struct bind_table *t, struct bind_key key)
{
	struct known **p = known_head(t, key.pid);

	while (*p && ((*p)->key.pid != key.pid || (*p)->key.start != key.start)) {
		if ((*p)->key.pid == key.pid && (*p)->key.start < key.start)
			known_drop(t, p);
		else
			p = &(*p)->next;
	}
	return *p;
}

struct known *known_of_pid(struct bind_table *t, pid_t pid)
{
	struct known *k = *known_head(t, pid);

	while (k && k->key.pid != pid)
		k = k->next;
	return k;
}

/* Who has no version goes first; then one of the user with the most processes, so that nobody can take the
 * versions of others by asking often; then who used it longest ago. */
static bool goes_before(struct bind_table *t, const struct known *a, const struct known *b)
{
	if (!a->model != !b->model)
		return !a->model;
	if (*count_of(t, a) != *count_of(t, b))
		return *count_of(t, a) > *count_of(t, b);
	return a->used_ns < b->used_ns;
}

static void make_room(struct bind_table *t, struct bind_key *dropped)
{
	struct known **first = NULL;

	for (size_t i = 0; i < BIND_BUCKETS; i++)
		for (struct known **p = &t->known[i]; *p; p = &(*p)->next)
			if (!first || goes_before(t, *p, *first))
				first = p;
	if ((*first)->model && known_alive(*first))
		*dropped = (*first)->key;
	known_drop(t, first);
}

/* The process waits for our answer, so its number is still its own. */
static int open_pidfd(const struct bind_table *t, pid_t pid)
{
	return t->pidfds < t->pidfds_max ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

struct known *known_add(struct bind_table *t, struct bind_key key, struct bind_key *dropped)
{
	struct known **p = known_head(t, key.pid), *k;

	*dropped = (struct bind_key){ 0 };
	if (known_of_pid(t, key.pid))
		return NULL;
	k = malloc(sizeof(*k));
	if (!k)
		return NULL;
	if (t->n >= BIND_MAX)
		make_room(t, dropped);
	*k = (struct known){ .next = *p, .key = key, .pidfd = open_pidfd(t, key.pid), .closed = BIND_OPEN };
	*p = k;
	t->n++;
	++*count_of(t, k);
	t->pidfds += k->pidfd >= 0;
	return k;
}

/* ---- all of it ---- */

void table_sweep(struct bind_table *t, uint64_t used_ns, uint64_t opened_ns)
{
	for (size_t i = 0; i < BIND_BUCKETS; i++) {
		for (struct known **p = &t->known[i]; *p;) {
			if (!known_alive(*p)) {
				known_drop(t, p);
				continue;
			}
			if ((*p)->used_ns <= used_ns)
				known_unbind(t, *p);
			p = &(*p)->next;
		}
	}
	for (size_t i = 0; i < BIND_BUCKETS; i++)
		for (struct slot **p = &t->slots[i]; *p;) {
			if (!(*p)->users || (*p)->opened_ns <= opened_ns)
				slot_drop(t, p);
			else
				p = &(*p)->next;
		}
}

void table_free(struct bind_table *t)
{
	for (size_t i = 0; i < BIND_BUCKETS; i++) {
		while (t->known[i])
			known_drop(t, &t->known[i]);
		while (t->slots[i])
			slot_drop(t, &t->slots[i]);
	}
}
