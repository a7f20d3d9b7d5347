/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evict.c - which versions are kept, which go
 *
 * Kept: the newest complete version, keep_versions before it, whatever is newer than that, and
 * whatever is pinned or in use.  If space demands it, keep_versions yields, nothing else.
 *
 * In use is what has references beyond our own (open, bound), or images that would go with it and that
 * somebody has open or mapped: under passthrough, and through served/, a reader goes on when we have
 * long been told that it closed the file.  Only a lease tells (lease.c).
 *
 * A reader may come between our look and the version's end.  Then the image has lost its version,
 * but it stays, and is counted, until a sweep finds that nobody has it: sweep.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define STASH_MIN (2u << 20)	/* one block's stored bytes and those of what it is built from */
#define NAMED_MAX 3u		/* versions named in a message */

/* Would this image go with m?  Not when another version has it, too. */
static bool goes_with(const struct wfs_model *m, const struct wfs_image *img)
{
	unsigned versions, own = 0;

	pthread_mutex_lock(&m->r->lock);
	versions = img->models;
	pthread_mutex_unlock(&m->r->lock);
	for (size_t i = 0; versions > 1 && i < m->v.n_files; i++)
		own += m->images[i] == img;
	return versions == 1 || versions == own;
}

static bool lent_out(struct wfs_model *m)
{
	for (size_t i = 0; i < m->v.n_files; i++) {
		struct wfs_image *img = m->images[i];

		if (img && goes_with(m, img) && wfs_model_file_in_use(m, i))
			return true;
	}
	return false;
}

bool wfs_model_file_in_use(struct wfs_model *m, size_t i)
{
	struct wfs_image *img = m->images[i];

	return img && wfs_image_probe(img) && wfs_image_in_use(img);
}

bool wfs_model_in_use(struct wfs_model *m, unsigned own)
{
	bool open;

	pthread_mutex_lock(&m->r->lock);
	open = m->refs > 1 + own;
	pthread_mutex_unlock(&m->r->lock);
	return open || lent_out(m);
}

/* Who reads past us leaves no trace between two files: so such a version must have been seen unused for a
 * while, not only now. */
bool wfs_model_idle(struct wfs_model *m)
{
	uint64_t now = wfs_now_ns();

	if (wfs_model_in_use(m, 1)) {
		m->idle_since_ns = 0;
		return false;
	}
	if (!m->idle_since_ns)
		m->idle_since_ns = now;
	return !m->linked || now - m->idle_since_ns >= m->r->o.link_idle_ms * 1000000ull;
}

/* ---- choosing ---- */

/* The versions that may go by age, the oldest first, each with a reference for the caller. */
static size_t old_versions(struct wfs_replica *r, const struct wfs_model *spare, unsigned keep,
			   struct wfs_model ***out)
{
	unsigned complete = 0;
	struct wfs_model *m;
	size_t n = 0, i;

	pthread_mutex_lock(&r->lock);
	for (m = r->models; m; m = m->next)
		n++;
	*out = calloc(n + 1, sizeof(**out));
	i = n = *out ? n : 0;
	for (m = r->models; i && m; m = m->next) {	/* newest first */
		if (!m->shown)
			continue;
		if (complete > keep && m != spare) {
			m->refs++;
			(*out)[--i] = m;
		}
		complete += m->complete || r->o.lazy;
	}
	pthread_mutex_unlock(&r->lock);
	memmove(*out, *out + i, (n - i) * sizeof(**out));
	return n - i;
}

static void put_versions(struct wfs_model **list, size_t n)
{
	while (n)
		wfs_model_put(list[--n]);
	free(list);
}

/* Out of sight, unless somebody came meanwhile.  The reference of the list is the caller's then. */
static bool hide(struct wfs_replica *r, struct wfs_model *m)
{
	bool alone;

	pthread_mutex_lock(&r->lock);
	alone = m->refs == 2 && !m->pinned;
	if (alone)
		m->shown = false;
	pthread_mutex_unlock(&r->lock);
	return alone;
}

/* Take the oldest version that may go out of sight; the caller puts it.  NULL: none. */
static struct wfs_model *pick(struct wfs_replica *r, const struct wfs_model *spare, unsigned keep)
{
	struct wfs_model **list, *victim = NULL;
	size_t n = old_versions(r, spare, keep, &list);

	for (size_t i = 0; !victim && i < n; i++)
		if (!list[i]->pinned && wfs_model_idle(list[i]) && hide(r, list[i]))
			victim = list[i];
	put_versions(list, n);
	return victim;
}

static int drop(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	uint64_t sequence = m->v.sequence;
	int ret;

	ret = wfs_cache_unrecord(&r->cache, sequence, err);
	if (r->shown_fn)
		r->shown_fn(r->shown_arg, sequence, false);
	wfs_served_drop(m);
	wfs_model_put(m);
	return ret;
}

/* ---- what would help ---- */

/* On disk, and gone with m. */
static uint64_t bytes_of(struct wfs_model *m)
{
	struct wfs_file_status st;
	uint64_t sum = 0;

	for (size_t i = 0; i < m->v.n_files; i++) {
		if (!m->images[i] || !goes_with(m, m->images[i]))
			continue;
		wfs_model_file_status(m, i, &st);
		sum += WFS_MIN((uint64_t)st.n_built << WFS_BLOCK_SHIFT, st.size);
	}
	return sum;
}

/* ", unpin version 40 (1.0 GiB)": the versions of one kind that stand in the way. */
static void name_versions(struct wfs_buf *out, struct wfs_model **list, size_t n, bool pinned, const char *what)
{
	char size[32];
	unsigned named = 0;

	for (size_t i = 0; i < n; i++) {
		if (list[i]->pinned != pinned || named++ >= NAMED_MAX)
			continue;
		wfs_buf_printf(out, "%s %" PRIu64 " (%s)", named == 1 ? what : ",", list[i]->v.sequence,
			       wfs_human_size(size, bytes_of(list[i])));
	}
	if (named > NAMED_MAX)
		wfs_buf_printf(out, " and %u more", named - NAMED_MAX);
}

static uint64_t mib(uint64_t bytes)
{
	return (bytes >> 20) + ((bytes & ((1u << 20) - 1)) != 0);
}

static bool shows_another(struct wfs_replica *r, const struct wfs_model *m)
{
	bool some = false;

	pthread_mutex_lock(&r->lock);
	for (const struct wfs_model *o = r->models; o; o = o->next)
		some |= o != m && o->shown;
	pthread_mutex_unlock(&r->lock);
	return some;
}

static int explain(struct wfs_replica *r, struct wfs_model *m, const struct wfs_shortage *lack, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf help = WFS_BUF_INIT;
	struct wfs_model **list;
	size_t n = old_versions(r, m, 0, &list);
	char held[32];

	name_versions(&help, list, n, true, "; weightfs unpin");
	name_versions(&help, list, n, false, "; end what uses version");
	put_versions(list, n);
	if (r->held)
		wfs_buf_printf(&help, "; end who still has older files open (%s)", wfs_human_size(held, r->held));
	if (lack->size)
		wfs_buf_printf(&help, "; or cache_size=%" PRIu64 "M or more", mib(lack->size));
	if (lack->disk)
		wfs_buf_printf(&help, "; or free %" PRIu64 "M on the disk", mib(lack->disk));
	if (lack->disk && r->cache.min_free)
		wfs_buf_printf(&help, " (of which min_free=%" PRIu64 "M stays free)", mib(r->cache.min_free));
	wfs_shortage_say(&r->cache, lack, err);
	if (err && help.data && strlen(err->msg) + help.len < sizeof(err->msg))
		strcat(err->msg, (const char *)help.data);
	return wfs_wrap(err, -ENOSPC, "version %" PRIu64 " does not fit%s", m->v.sequence,
			shows_another(r, m) ? ", the old one stays" : "");
}

/* ---- making room ---- */

/* What m is built from must not go before it is, neither for age nor for room: objects are wanted, images
 * held. */
static int want(struct wfs_replica *r, const struct wfs_digest *id, struct wfs_err *err)
{
	struct wfs_digest *bigger;

	if ((r->n_wanted & (r->n_wanted - 1)) == 0) {		/* grows at powers of two */
		bigger = realloc(r->wanted, (r->n_wanted ? r->n_wanted * 2 : 1) * sizeof(*bigger));
		if (!bigger)
			return wfs_fail(err, -ENOMEM, "out of memory");
		r->wanted = bigger;
	}
	r->wanted[r->n_wanted++] = *id;
	return 0;
}

static int hold(struct wfs_model *m, struct wfs_image *base)
{
	struct wfs_image **bigger, *img;

	for (size_t i = 0; i < m->n_bases; i++)
		if (m->bases[i] == base)
			return 0;
	bigger = realloc(m->bases, (m->n_bases + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	m->bases = bigger;
	img = wfs_image_find(m->r, &base->id);
	if (img)
		m->bases[m->n_bases++] = img;
	return 0;
}

void wfs_release_bases(struct wfs_model *m)
{
	while (m->n_bases)
		wfs_image_put(m->bases[--m->n_bases]);
	free(m->bases);
	m->bases = NULL;
}

static int need_image(struct wfs_model *m, struct wfs_image *img, uint64_t *stash, struct wfs_err *err)
{
	const struct wfs_table *t;
	struct wfs_plan *plan;
	uint64_t bytes = 0;
	int ret;

	ret = wfs_plan_get(&plan, img, true, false, err);
	if (ret < 0)
		return ret;
	for (size_t i = 0; ret == 0 && i < plan->n_nodes; i++) {
		if (plan->nodes[i].source)
			ret = want(m->r, &plan->nodes[i].source->id, err);
		else if (plan->nodes[i].held && hold(m, plan->nodes[i].held) < 0)
			ret = wfs_fail(err, -ENOMEM, "out of memory");
	}
	t = plan->nodes[0].source->table;	/* what is built is not held */
	for (uint32_t b = 0; b < wfs_table_n_blocks(t) && b < img->n_blocks; b++)
		if (wfs_table_block(t, b).codec != WFS_CODEC_ZERO && !wfs_image_has(img, b))
			bytes += wfs_table_block_len(t, b);
	*stash += plan->bytes;
	img->reserved = bytes;
	m->need += bytes;
	wfs_plan_put(img, plan);
	wfs_plan_drop(img, false);		/* made again from what is local now, when its turn comes */
	return ret;
}

/* Bytes that completing m will write: what its tables say is not zero, less what is there.  What is
 * fetched is thrown away as the blocks are built, so a little is enough for it, unless all of it is to
 * be there first. */
static int need(struct wfs_replica *r, struct wfs_model *m, uint64_t *stash, struct wfs_err *err)
{
	int ret = 0;

	m->need = *stash = r->n_wanted = 0;
	for (size_t i = 0; ret == 0 && i < m->v.n_files; i++)
		if (m->images[i] && !m->images[i]->reserved && !wfs_image_probe(m->images[i]))
			ret = need_image(m, m->images[i], stash, err);
	if (r->o.ready != WFS_READY_DELTA)
		*stash = WFS_MIN(*stash, (uint64_t)STASH_MIN);
	m->need += *stash;
	return ret;
}

/* Shares that were never set aside. */
static void forget_shares(struct wfs_model *m)
{
	for (size_t i = 0; i < m->v.n_files; i++)
		if (m->images[i])
			m->images[i]->reserved = 0;
}

void wfs_unreserve(struct wfs_replica *r, struct wfs_model *m)
{
	for (size_t i = 0; i < m->v.n_files; i++)
		if (m->images[i])
			wfs_cache_release(&r->cache, &m->images[i]->reserved);
	wfs_cache_release(&r->cache, &r->stash_reserved);
}

static void set_needed(struct wfs_replica *r, uint64_t bytes)
{
	pthread_mutex_lock(&r->lock);
	r->needed = bytes;
	pthread_mutex_unlock(&r->lock);
}

/* Set m->need bytes aside; versions go for it, the oldest first. */
static int make_room(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	struct wfs_shortage lack;
	struct wfs_model *victim;
	int ret = 0;

	while (ret == 0 && !wfs_cache_reserve(&r->cache, m->need, &lack)) {
		victim = pick(r, m, 0);
		if (!victim) {
			set_needed(r, m->need);
			return explain(r, m, &lack, err);
		}
		ret = drop(r, victim, err);
		if (ret == 0)
			ret = wfs_sweep(r, err);
	}
	if (ret == 0)
		set_needed(r, 0);
	return ret;
}

static int drop_old(struct wfs_replica *r, struct wfs_model *spare, struct wfs_err *err)
{
	struct wfs_model *victim;
	int ret = 0;

	while (ret == 0 && (victim = pick(r, spare, r->o.keep_versions)))
		ret = drop(r, victim, err);
	return ret == 0 ? wfs_sweep(r, err) : ret;
}

int wfs_evict(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	uint64_t stash = 0;
	int ret = 0;

	/* First what m is built from: of an update that was interrupted much may be here. */
	if (m) {
		ret = need(r, m, &stash, err);
	} else {
		r->n_wanted = 0;
		wfs_history_forget(r);
	}
	if (ret == 0)
		ret = drop_old(r, m, err);
	if (ret == 0 && m)
		ret = make_room(r, m, err);
	if (m && ret < 0)
		forget_shares(m);
	else if (m)
		r->stash_reserved = stash;
	return ret;
}

bool wfs_evict_again(struct wfs_replica *r, struct wfs_model *m, struct wfs_err *err)
{
	_Atomic uint64_t all;

	if (drop_old(r, m, err) < 0 || make_room(r, m, err) < 0)
		return false;
	all = m->need;			/* the real shares are set aside when it begins */
	wfs_cache_release(&r->cache, &all);
	return true;
}
