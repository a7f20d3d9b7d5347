/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_run.h - the threads that tell
 */
#ifndef FS_HOOK_RUN_H
#define FS_HOOK_RUN_H

#include <stdbool.h>

#include "client.h"
#include "hook.h"

struct crew;

/* A thread for each hook of l; client and l stay the caller's.  once: each is told the newest version
 * and ends. */
int crew_start(struct crew **out, const struct client *client, const struct hook_list *l, bool once,
	       struct wfs_err *err);
void crew_stop(struct crew *c);		/* begin nothing new */
void crew_cancel(struct crew *c);	/* and give up what is under way, but for what must be sent */
bool crew_done(struct crew *c);		/* all have ended */
bool crew_free(struct crew *c);		/* joins; true: the last thing that each told went well */

#endif
