/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_events.c - who listens is told of every version
 *
 * Nothing is queued here: a listener whose last line is out gets the next shown version above the
 * one it knows.  A slow one therefore costs one line of memory.  The versions that left meanwhile, and
 * those that this mount never showed, are counted in its next line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "control_internal.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

#define SOCKET_BUFFER 4096	/* bytes; the kernel doubles it */

int control_event(struct wfs_buf *out, const struct fs *fs, const struct wfs_model *m, uint64_t skipped)
{
	const struct wfs_version *v = wfs_model_version(m);
	WFS_AUTO(wfs_buf_free) struct wfs_buf path = WFS_BUF_INIT;
	int r;

	r = wfs_buf_printf(&path, "%s/versions/%" PRIu64, fs->mnt, v->sequence);
	if (r == 0)
		r = wfs_buf_printf(out, "{\"event\":\"version\",\"sequence\":%" PRIu64 ",\"path\":", v->sequence);
	if (r == 0)
		r = wfs_json_quote(out, (const char *)path.data);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"label\":");
	if (r == 0)
		r = wfs_json_quote(out, v->label);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"time\":%" PRIu64 ",\"id\":\"%s\",\"skipped\":%" PRIu64 "}", v->time_ns,
				   wfs_hex(wfs_model_id(m)).s, skipped);
	return r;
}

static void tell(struct control *c, struct peer *p, struct wfs_model *m, uint64_t skipped)
{
	p->above = wfs_model_version(m)->sequence;
	bind_close(c->fs->bind, p->user);	/* before it is told: what it starts then sees that version */
	if (control_event(&p->out, c->fs, m, skipped) < 0)
		peer_drop(c, p);
	else
		peer_answer(p);
}

static void look_next(struct control *c, struct peer *p, bool late)
{
	struct wfs_model *m = wfs_replica_above(c->fs->replica, p->above);

	(void)late;
	if (m)
		tell(c, p, m, wfs_model_version(m)->sequence - p->above - 1);
	wfs_model_put(m);
}

/* Who begins to listen wants to know where things are, not how they came there. */
static void look_first(struct control *c, struct peer *p, bool late)
{
	struct wfs_model *m = wfs_replica_latest(c->fs->replica);

	(void)late;
	if (m && wfs_model_version(m)->sequence > p->above) {
		p->look = look_next;
		tell(c, p, m, 0);
	}
	wfs_model_put(m);
}

void command_events(struct control *c, struct peer *p, const char *args)
{
	int buffer = SOCKET_BUFFER;

	if (!number_parse(&p->above, args)) {
		peer_refuse(p, "events needs the sequence that is known already, or 0");
		return;
	}
	p->listens = true;
	/* old news in the kernel's buffer are of no use either */
	setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	peer_wait(c, p, CONTROL_FOR_EVER_MS, look_first);
}

void control_end_events(struct control *c)
{
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		struct peer *p = &c->peer[i];

		/* one that does not read sees only that the connection ends */
		if (p->fd >= 0 && p->listens && wfs_buf_printf(&p->out, "{\"event\":\"end\"}\n") == 0)
			(void)!send(p->fd, p->out.data + p->sent, p->out.len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}
