/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_hooks.c - what weightfs hooks says and asks
 *
 * Its main connection lives as long as it does; each question comes on one of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control_internal.h"
#include "hook.h"
#include "hooktab.h"
#include "number.h"
#include "weightfs/base.h"

static void answer_ok(struct peer *p)
{
	wfs_buf_printf(&p->out, "{\"ok\":true}");
	peer_answer(p);
}

static void look_nothing(struct control *c, struct peer *p, bool late)
{
	(void)c;
	(void)p;
	(void)late;
}

void command_hooks(struct control *c, struct peer *p, const char *args)
{
	struct wfs_err err = { 0 };

	if (hooktab_attach(c->fs->hooktab, args, p->cred.pid, &err) < 0) {
		peer_refuse(p, err.msg);
		return;
	}
	p->hooks = p->listens = true;
	peer_wait(c, p, CONTROL_FOR_EVER_MS, look_nothing);
	if (p->state == PEER_WAITS)		/* not refused */
		answer_ok(p);
}

static void put_event(struct control *c, struct peer *p, struct wfs_model *m)
{
	int r = m ? control_event(&p->out, c->fs, m, 0) : wfs_buf_printf(&p->out, "{\"event\":\"none\"}");

	if (r < 0)
		peer_drop(c, p);
	else
		peer_answer(p);
}

/* The newest version, if it is not the one that the hook knows, is held before it is told.  It has a smaller
 * number when the store is of another run than it was. */
static void look_hook(struct control *c, struct peer *p, bool late)
{
	struct wfs_model *m = wfs_replica_latest(c->fs->replica);

	if (m && wfs_model_version(m)->sequence != p->above) {
		bind_close(c->fs->bind, p->user);	/* a program that it runs sees that version behind latest too */
		if (hooktab_begin(c->fs->hooktab, p->hook, m) < 0)
			peer_refuse(p, "the hook has gone");
		else
			put_event(c, p, m);
	} else if (late) {
		put_event(c, p, NULL);
	}
	wfs_model_put(m);
}

static void next(struct control *c, struct peer *p, const char *args)
{
	peer_wait_above(c, p, args, look_hook);
}

static void last(struct control *c, struct peer *p, const char *args)
{
	struct wfs_model *m = hooktab_last(c->fs->hooktab, p->hook);

	(void)args;
	put_event(c, p, m);
	wfs_model_put(m);
}

static void told(struct control *c, struct peer *p, const char *args)
{
	uint64_t sequence;

	if (!number_parse(&sequence, args) || hooktab_told(c->fs->hooktab, p->hook, sequence) < 0)
		peer_refuse(p, "told needs the sequence that is being told");
	else
		answer_ok(p);
}

static void failed(struct control *c, struct peer *p, const char *args)
{
	hooktab_failed(c->fs->hooktab, p->hook, args);
	answer_ok(p);
}

/* hook NAME WORD ... */
void command_hook(struct control *c, struct peer *p, const char *args)
{
	static const struct {
		const char *name;
		void (*run)(struct control *c, struct peer *p, const char *args);
	} words[] = { { "next", next }, { "last", last }, { "told", told }, { "failed", failed } };
	size_t len = strcspn(args, " "), n;

	if (len > HOOK_NAME_MAX)
		len = 0;
	snprintf(p->hook, sizeof(p->hook), "%.*s", (int)len, args);
	if (hooktab_known(c->fs->hooktab, p->hook) < 0) {
		peer_refuse(p, "no such hook; weightfs hooks announces them");
		return;
	}
	args += len + (args[len] == ' ');
	n = strcspn(args, " ");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].name) == n && memcmp(words[i].name, args, n) == 0) {
			words[i].run(c, p, args + n + (args[n] == ' '));
			return;
		}
	peer_refuse(p, "hook NAME is followed by next, last, told or failed");
}
