/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_tell.c - one version told, or the one before told again
 *
 * A list of requests that fails in its middle leaves an engine paused, perhaps with half of the new
 * weights.  So the whole list is sent again for the version that it had, and if that fails too, or there
 * was none, what is marked `always' (resume) is sent: an engine that stands still helps nobody, and the
 * status says that its weights are in doubt.
 */
#include <errno.h>
#include <inttypes.h>

#include "hook.h"
#include "weightfs/log.h"

static int roll_back(const struct hook_run *run, const struct event *previous, size_t *at)
{
	struct wfs_err err = { 0 };
	bool unreached;
	int r = hook_requests(run, previous, 0, false, at, &unreached, &err);

	if (r == 0)
		log_warn("hook %s: version %" PRIu64 " was sent again", run->h->name, previous->sequence);
	else
		log_err("hook %s: version %" PRIu64 " could not be sent again: %s", run->h->name, previous->sequence, err.msg);
	return r;
}

/* Resume, even when we are told to stop. */
static int send_always(const struct hook_run *run, const struct event *e, size_t from)
{
	static const atomic_bool never;
	struct hook_run last = *run;
	struct wfs_err err = { 0 };
	bool unreached;
	size_t at;
	int r;

	last.cancel = &never;
	r = hook_requests(&last, e, from, true, &at, &unreached, &err);
	if (r < 0)
		log_err("hook %s: %s", run->h->name, err.msg);
	return r;
}

static const char *what_is_in_doubt(bool had_one, bool goes_on)
{
	if (had_one)
		return goes_on ? "it may hold a mixture of versions, restart it" :
				 "it may hold a mixture of versions and stand still, restart it";
	return goes_on ? "it was told to go on" : "it could not be told to go on";
}

int hook_tell(const struct hook_run *run, const struct event *e, const struct event *previous,
	      bool *unreached, struct wfs_err *err)
{
	const struct event *last = e;
	size_t at = 0;
	int r;

	*unreached = false;
	if (run->h->command)
		return hook_command(run, e, previous, err);
	r = hook_requests(run, e, 0, false, &at, unreached, err);
	*unreached &= at == 0;
	if (r == 0 || *unreached)
		return r;
	if (previous && r != -ECANCELED) {
		last = previous;
		if (roll_back(run, previous, &at) == 0) {
			wfs_wrap(err, r, "version %" PRIu64 " was told again after", previous->sequence);
			return r;
		}
	}
	return wfs_wrap(err, r, "%s", what_is_in_doubt(previous, send_always(run, last, at + 1) == 0));
}
