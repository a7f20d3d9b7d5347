/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c - a table and the stored bytes it lists, fetched by group
 *
 * Fetched groups lie in stash/<table>, pack after pack, and are checked with their SHA-256
 * whenever they are taken from there: so a stash needs no bookkeeping on disk, and an
 * interrupted download goes on behind its last whole group.
 *
 * A group that one thread is fetching is waited for, not fetched twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

enum { G_ABSENT, G_UNKNOWN, G_FETCHING, G_LOCAL };

#define REQUEST_MAX	(8u << 20)	/* stored bytes in one request */
#define AHEAD		(4u << 20)	/* what the background takes along */
#define BAD_TRIES	3

static void stash_name(const struct wfs_source *s, char out[WFS_OBJECT_NAME])
{
	wfs_object_name(out, "stash", &s->id);
}

/* Opens the stash; an existing one is taken up again. Needs s->lock. */
static int open_stash(struct wfs_source *s, bool create, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct stat st;

	if (s->fd >= 0)
		return 0;
	stash_name(s, name);
	if (fstatat(s->r->cache.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		wfs_remove_tree(s->r->cache.dir, name, NULL);
	s->fd = openat(s->r->cache.dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
	if (s->fd < 0)
		return errno == ENOENT ? -ENOENT : wfs_fail_sys(err, "open %s/%s", s->r->cache.path, name);
	return 0;
}

static uint64_t stash_off(const struct wfs_source *s, const struct wfs_group *g)
{
	return s->stash_off[g->pack] + (g->off - wfs_table_pack(s->table, g->pack)->start);
}

static bool group_matches(struct wfs_source *s, const struct wfs_group *g, const void *data)
{
	struct wfs_digest got;

	wfs_sha256(&got, data, g->len);
	if (!wfs_digest_equal(&got, g->digest))
		return false;
	s->r->n_groups_checked++;
	s->r->n_bytes_checked += g->len;
	return true;
}

/* Take group g from the stash into buf; false: it is not there or not what it should be. */
static bool from_stash(struct wfs_source *s, uint32_t g, void *buf)
{
	struct wfs_group group = wfs_table_group(s->table, g);
	bool good;

	good = wfs_pread(s->fd, buf, group.len, stash_off(s, &group), NULL) == 0 && group_matches(s, &group, buf);
	pthread_mutex_lock(&s->lock);
	if (s->state[g] != G_FETCHING)
		s->state[g] = good ? G_LOCAL : G_ABSENT;
	pthread_mutex_unlock(&s->lock);
	return good;
}

/* An unknown group becomes local or absent.  Called and returns with s->lock held. */
static int settle(struct wfs_source *s, uint32_t g, struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) void *buf = malloc(WFS_GROUP_MIN + WFS_BLOCK_SIZE);

	if (!buf)
		return wfs_fail(err, -ENOMEM, "out of memory");
	pthread_mutex_unlock(&s->lock);
	from_stash(s, g, buf);
	pthread_mutex_lock(&s->lock);
	return 0;
}

/* ---- fetching ---- */

struct intake {
	struct wfs_source *s;
	uint32_t g, end;		/* next group to complete; end of the pack's groups */
	size_t filled;
	uint8_t *buf;			/* one group */
	struct wfs_err err;
	int failed;
	bool bad;			/* SHA-256 mismatch */
};

static uint32_t pack_end(const struct wfs_source *s, uint32_t p)
{
	return p + 1 < wfs_table_n_packs(s->table) ? wfs_table_pack(s->table, p + 1)->first_group
						   : wfs_table_n_groups(s->table);
}

static int take_group(struct intake *in)
{
	struct wfs_source *s = in->s;
	struct wfs_group g = wfs_table_group(s->table, in->g);
	int r;

	if (!group_matches(s, &g, in->buf)) {
		s->r->n_bad_groups++;
		in->bad = true;
		return wfs_fail(&in->err, -EBADMSG, "group %u [%llu,+%u) does not have its SHA-256", in->g,
				(unsigned long long)g.off, g.len);
	}
	r = wfs_pwrite(s->fd, in->buf, g.len, stash_off(s, &g), &in->err);
	if (r < 0)
		return wfs_wrap(&in->err, r, "write to %s/stash", s->r->cache.path);
	pthread_mutex_lock(&s->lock);
	s->state[in->g] = G_LOCAL;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	in->g++;
	in->filled = 0;
	return 0;
}

/* Bytes of the pack in order, from the range's start or, where a server knows no ranges, from 0. */
static int intake_sink(void *arg, uint64_t off, const void *data, size_t len)
{
	struct intake *in = arg;
	const uint8_t *p = data;

	while (len && in->g < in->end) {
		struct wfs_group g = wfs_table_group(in->s->table, in->g);
		uint64_t want = g.off + in->filled;
		size_t n;

		if (off < want) {
			n = (size_t)WFS_MIN(want - off, (uint64_t)len);
		} else if (off > want) {
			in->g++;		/* began inside this group: not ours to check */
			in->filled = 0;
			continue;
		} else {
			n = WFS_MIN(len, g.len - in->filled);
			memcpy(in->buf + in->filled, p, n);
			in->filled += n;
			if (in->filled == g.len) {
				in->failed = take_group(in);
				if (in->failed < 0)
					return in->failed;
			}
		}
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int get_range(struct wfs_source *s, uint32_t g, uint32_t last, bool demand, bool fresh,
		     struct intake *in, struct wfs_err *err)
{
	struct wfs_group a = wfs_table_group(s->table, g), z = wfs_table_group(s->table, last);
	const struct wfs_pack *pack = wfs_table_pack(s->table, a.pack);
	char name[WFS_OBJECT_NAME];
	struct wfs_get get = {
		.name = name, .off = a.off, .len = z.off + z.len - a.off, .max = pack->size,
		.sink = intake_sink, .arg = in, .cancel = &s->r->stop, .demand = demand, .fresh = fresh,
	};
	int r;

	in->s = s;
	in->g = pack->first_group;	/* a whole object begins before our range */
	in->end = pack_end(s, a.pack);
	in->filled = 0;
	in->bad = false;
	in->failed = 0;
	wfs_object_name(name, "packs", &pack->id);
	if (get.len == pack->size)
		get.off = get.len = 0;	/* whole: needs no Range */
	else
		in->g = g;
	r = wfs_store_get(s->r->store, &get, err);
	if (in->failed < 0) {
		if (err)
			*err = in->err;
		r = in->failed;
	}
	if (r == -ENOENT)
		return wfs_fail(err, r, "%s is not in the store", name);
	return r < 0 ? wfs_wrap(err, r, "%s", name) : 0;
}

/* Fetch [g, last] of one pack, which the caller has marked FETCHING. */
static int fetch_run(struct wfs_source *s, uint32_t g, uint32_t last, bool demand, struct wfs_err *err)
{
	struct intake in = { .s = s };
	int r = 0;

	in.buf = malloc(WFS_GROUP_MIN + WFS_BLOCK_SIZE);
	if (!in.buf)
		return wfs_fail(err, -ENOMEM, "out of memory");
	for (int i = 0; i < BAD_TRIES; i++) {
		r = get_range(s, g, last, demand, i > 0, &in, err);
		if (!in.bad)
			break;
	}
	free(in.buf);
	return r;
}

/* The longest run from g of absent groups in one pack, to `last` or, ahead, a little further. */
static uint32_t claim_run(struct wfs_source *s, uint32_t g, uint32_t last, bool ahead)
{
	struct wfs_group first = wfs_table_group(s->table, g);
	uint32_t end = pack_end(s, first.pack), i;
	uint64_t len = 0;

	for (i = g; i < end && s->state[i] == G_ABSENT; i++) {
		if (i > last && !(ahead && len < AHEAD))
			break;
		if (len >= REQUEST_MAX)
			break;
		len += wfs_table_group(s->table, i).len;
		s->state[i] = G_FETCHING;
	}
	return i - 1;
}

static uint64_t run_len(const struct wfs_source *s, uint32_t g, uint32_t last)
{
	struct wfs_group a = wfs_table_group(s->table, g), z = wfs_table_group(s->table, last);

	return z.off + z.len - a.off;
}

static void wait_a_little(struct wfs_source *s)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 200 * 1000 * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&s->cond, &s->lock, &until);
}

/* Fetch the run that begins at absent group g.  Called and returns with s->lock held. */
static int fetch_locked(struct wfs_source *s, uint32_t g, uint32_t last, bool demand, struct wfs_err *err)
{
	uint32_t end;
	int r;

	r = open_stash(s, true, err);
	if (r < 0)
		return r;
	end = claim_run(s, g, last, !demand && !s->r->tight);
	pthread_mutex_unlock(&s->lock);
	r = wfs_cache_charge(&s->r->cache, run_len(s, g, end), &s->r->stash_reserved, demand, err);
	if (r == 0)
		r = fetch_run(s, g, end, demand, err);
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = g; i <= end; i++)
		if (s->state[i] == G_FETCHING)
			s->state[i] = G_ABSENT;
	pthread_cond_broadcast(&s->cond);
	if (r == 0 && s->state[g] != G_LOCAL)
		r = wfs_fail(err, -EBADMSG, "packs/%s ended before group %u of table %s",
			     wfs_hex(&wfs_table_pack(s->table, wfs_table_group(s->table, g).pack)->id).s, g,
			     wfs_hex(&s->id).s);
	return r;
}

int wfs_source_fetch(struct wfs_source *s, uint32_t g, uint32_t last, bool demand, struct wfs_err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (r == 0 && g <= last) {
		if (s->r->stop) {
			r = wfs_fail(err, -ECANCELED, "stopping");
		} else if (s->state[g] == G_LOCAL) {
			g++;
		} else if (s->state[g] == G_UNKNOWN) {
			r = settle(s, g, err);
		} else if (s->state[g] == G_FETCHING) {
			wait_a_little(s);
		} else {
			r = fetch_locked(s, g, last, demand, err);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int wfs_source_read(struct wfs_source *s, uint32_t g, void *buf, bool net, bool demand, struct wfs_err *err)
{
	uint8_t state;
	int r;

	for (int i = 0; i < BAD_TRIES; i++) {
		pthread_mutex_lock(&s->lock);
		state = s->state[g];
		pthread_mutex_unlock(&s->lock);
		if ((state == G_LOCAL || state == G_UNKNOWN) && from_stash(s, g, buf))
			return 0;
		if (!net)
			return -EAGAIN;
		r = wfs_source_fetch(s, g, g, demand, err);
		if (r < 0)
			return r;
	}
	return wfs_fail(err, -EIO, "%s/stash does not keep what is written to it: check the disk", s->r->cache.path);
}

void wfs_source_discard(struct wfs_source *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->fd >= 0 && ftruncate(s->fd, 0) == 0)
		for (uint32_t g = 0; g < wfs_table_n_groups(s->table); g++)
			if (s->state[g] != G_FETCHING)
				s->state[g] = G_ABSENT;
	pthread_mutex_unlock(&s->lock);
}

/* ---- life ---- */

static void source_free(struct wfs_source *s)
{
	char name[WFS_OBJECT_NAME];

	if (s->done) {
		stash_name(s, name);
		unlinkat(s->r->cache.dir, name, 0);
	}
	wfs_close_fd(&s->fd);
	wfs_table_close(s->table);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->cond);
	free(s->stash_off);
	free(s->state);
	free(s);
}

static int source_new(struct wfs_source **out, struct wfs_replica *r, const struct wfs_digest *id,
		      struct wfs_buf *raw, struct wfs_err *err)
{
	struct wfs_source *s = calloc(1, sizeof(*s));
	uint64_t at = 0;
	int ret;

	if (!s)
		return wfs_fail(err, -ENOMEM, "out of memory");
	s->r = r;
	s->id = *id;
	s->fd = -1;
	s->refs = 1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	ret = wfs_table_open(&s->table, raw, err);
	if (ret < 0)
		goto fail;
	s->stash_off = calloc(wfs_table_n_packs(s->table) + 1u, sizeof(*s->stash_off));
	s->state = calloc(wfs_table_n_groups(s->table) + 1u, 1);
	if (!s->stash_off || !s->state) {
		ret = wfs_fail(err, -ENOMEM, "out of memory");
		goto fail;
	}
	for (uint32_t p = 0; p < wfs_table_n_packs(s->table); p++) {
		s->stash_off[p] = at;
		at += wfs_table_pack(s->table, p)->stored;
	}
	if (open_stash(s, false, NULL) == 0)
		memset(s->state, G_UNKNOWN, wfs_table_n_groups(s->table));
	*out = s;
	return 0;
fail:
	source_free(s);
	return ret;
}

static struct wfs_source *find(struct wfs_replica *r, const struct wfs_digest *id)
{
	struct wfs_source *s = r->sources;

	while (s && !wfs_digest_equal(&s->id, id))
		s = s->next;
	if (s)
		s->refs++;
	return s;
}

int wfs_source_get(struct wfs_source **out, struct wfs_replica *r, const struct wfs_digest *id,
		   bool net, bool demand, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	struct wfs_source *s = NULL, *other;
	int ret;

	(void)demand;
	pthread_mutex_lock(&r->lock);
	*out = find(r, id);
	pthread_mutex_unlock(&r->lock);
	if (*out)
		return 0;
	ret = wfs_object_get(r, &raw, "tables", id, WFS_TABLE_MAX, net, err);
	if (ret == 0)
		ret = source_new(&s, r, id, &raw, err);
	if (ret < 0)
		return ret == -EAGAIN ? ret : wfs_wrap(err, ret, "table %s", wfs_hex(id).s);
	pthread_mutex_lock(&r->lock);
	other = find(r, id);
	if (!other) {
		s->next = r->sources;
		r->sources = s;
	}
	pthread_mutex_unlock(&r->lock);
	if (other)
		source_free(s);
	*out = other ? other : s;
	return 0;
}

void wfs_source_put(struct wfs_source *s)
{
	struct wfs_source **p;
	bool last;

	if (!s)
		return;
	pthread_mutex_lock(&s->r->lock);
	last = --s->refs == 0;
	if (last) {
		for (p = &s->r->sources; *p != s; p = &(*p)->next)
			;
		*p = s->next;
	}
	pthread_mutex_unlock(&s->r->lock);
	if (last)
		source_free(s);
}
