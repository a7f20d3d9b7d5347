/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trouble.c - what a mount complains about
 *
 * Trouble is with the store: the last look failed, or gets fail and are tried again.  It ends with a good look.
 * A problem is with what a good look found, a version that is bad or does not fit: it ends when that is shown.
 * Each begins with one line in the log, however often it is met again, and ends with one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

/* old: as large as c->msg.  Since when is when it began, not when it was last met. */
static void set(struct wfs_replica *r, struct wfs_complaint *c, const char *msg, char *old)
{
	pthread_mutex_lock(&r->lock);
	memcpy(old, c->msg, sizeof(c->msg));
	snprintf(c->msg, sizeof(c->msg), "%s", msg);
	if (!msg[0])
		c->since_ns = 0;
	else if (!old[0])
		c->since_ns = wfs_now_ns();
	pthread_mutex_unlock(&r->lock);
}

void wfs_replica_problem(struct wfs_replica *r, const char *msg)
{
	char old[sizeof(r->problem.msg)];

	set(r, &r->problem, msg, old);
}

void wfs_replica_trouble(struct wfs_replica *r, const char *msg)
{
	char old[sizeof(r->trouble.msg)];

	set(r, &r->trouble, msg, old);
	if (msg[0] && strcmp(old, msg) != 0)
		log_err("%s", msg);
	else if (!msg[0] && old[0])
		log_info("over: %s", old);
}

static bool in_trouble(struct wfs_replica *r)
{
	bool some;

	pthread_mutex_lock(&r->lock);
	some = r->trouble.msg[0];
	pthread_mutex_unlock(&r->lock);
	return some;
}

/* Of many gets that fail alike the first is logged, and what the later ones say is only shown. */
static void on_trouble(void *arg, const struct wfs_trouble *t)
{
	struct wfs_replica *r = arg;
	char msg[sizeof(r->trouble.msg)] = "", old[sizeof(r->trouble.msg)];

	if (r->stop)
		return;
	if (t->why)
		snprintf(msg, sizeof(msg), "cannot get %s from %.200s: %.180s; trying again", t->name,
			 wfs_store_url(r->store), t->why);
	if (t->why && in_trouble(r))
		set(r, &r->trouble, msg, old);
	else
		wfs_replica_trouble(r, msg);
}

void wfs_trouble_listen(struct wfs_replica *r)
{
	wfs_store_on_trouble(r->store, on_trouble, r);
}

void wfs_trouble_look(struct wfs_replica *r, int ret, const char *msg)
{
	bool well = ret == 0 || (ret == -ENOENT && !msg[0]);

	if (ret == -ECANCELED || r->stop)
		return;
	if (well) {
		pthread_mutex_lock(&r->lock);
		r->looked_ns = wfs_now_ns();
		pthread_mutex_unlock(&r->lock);
	}
	/* A reader's get may be in trouble all the while; and what was told while the look went on is told. */
	if (well ? !wfs_store_in_trouble(r->store) : (ret != -ETIMEDOUT && ret != -ENETUNREACH) || !in_trouble(r))
		wfs_replica_trouble(r, well ? "" : msg);
}

uint64_t wfs_replica_failing(struct wfs_replica *r, char *msg, size_t msg_len)
{
	const struct wfs_complaint *c;
	uint64_t since;

	pthread_mutex_lock(&r->lock);
	c = r->trouble.msg[0] ? &r->trouble : &r->problem;
	since = c->since_ns;
	snprintf(msg, msg_len, "%s", c->msg);
	pthread_mutex_unlock(&r->lock);
	return since;
}
