/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate.c - a token bucket that may be in debt
 *
 * The only state is the time at which everything charged so far is paid for; an idle store gathers
 * credit for BURST_NS and no more.  A reader on demand is charged and never waits, so the
 * background pays for it.
 */
#include "weightfs/base.h"
#include "store/backend.h"

#define BURST_NS 250000000ull

void wfs_rate_init(struct wfs_rate *r, uint64_t rate)
{
	pthread_mutex_init(&r->lock, NULL);
	r->rate = rate;
	r->paid_at = 0;
}

void wfs_rate_done(struct wfs_rate *r)
{
	pthread_mutex_destroy(&r->lock);
}

void wfs_rate_charge(struct wfs_rate *r, uint64_t bytes)
{
	uint64_t now = wfs_now_ns(), floor = now > BURST_NS ? now - BURST_NS : 0;

	if (!r->rate)
		return;
	pthread_mutex_lock(&r->lock);
	r->paid_at = WFS_MAX(r->paid_at, floor);
	r->paid_at += (uint64_t)((double)bytes * 1e9 / (double)r->rate);
	pthread_mutex_unlock(&r->lock);
}

uint64_t wfs_rate_debt_ns(struct wfs_rate *r)
{
	uint64_t now, paid_at;

	if (!r->rate)
		return 0;
	pthread_mutex_lock(&r->lock);
	paid_at = r->paid_at;
	pthread_mutex_unlock(&r->lock);
	now = wfs_now_ns();
	return paid_at > now ? paid_at - now : 0;
}
