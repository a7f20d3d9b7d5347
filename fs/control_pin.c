/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_pin.c - the commands pin and unpin
 *
 * They answer when the disk has it, which the control thread must not wait for: each gets a
 * thread, which goes on when the peer that asked has left.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_internal.h"
#include "number.h"

#define PIN_MS (10u * 60 * 1000)	/* a disk that syncs no small file in this time is broken */

struct pin {
	struct pin *next;		/* control->pins */
	struct control *c;
	pthread_t thread;
	uint64_t sequence;
	bool on;
	int result;
	struct wfs_err err;
	atomic_bool done;		/* result and err are there; nothing else runs in the thread */
};

static void *pin_main(void *arg)
{
	struct pin *pin = arg;
	struct control *c = pin->c;

	pin->result = wfs_replica_pin(c->fs->replica, pin->sequence, pin->on, &pin->err);
	atomic_store(&pin->done, true);
	control_shown(c);
	return NULL;
}

static bool is_asked_for(const struct control *c, const struct pin *pin)
{
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++)
		if (c->peer[i].fd >= 0 && c->peer[i].pin == pin)
			return true;
	return false;
}

void control_pin_reap(struct control *c, bool all)
{
	struct pin **p = &c->pins, *pin;

	while ((pin = *p)) {
		if (!all && (!atomic_load(&pin->done) || is_asked_for(c, pin))) {
			p = &pin->next;
			continue;
		}
		*p = pin->next;
		pthread_join(pin->thread, NULL);
		free(pin);
	}
}

static void look_pin(struct control *c, struct peer *p, bool late)
{
	struct pin *pin = p->pin;

	(void)c;
	if (!atomic_load(&pin->done)) {
		if (late)
			peer_refuse(p, "the cache's disk does not answer");
		return;
	}
	if (pin->result < 0) {
		peer_refuse(p, pin->err.msg);
	} else {
		wfs_buf_printf(&p->out, "{\"sequence\":%" PRIu64 ",\"pinned\":%s}", pin->sequence, pin->on ? "true" : "false");
		peer_answer(p);
	}
}

static void begin(struct control *c, struct peer *p, const char *args, bool on)
{
	struct pin *pin;

	control_pin_reap(c, false);
	pin = calloc(1, sizeof(*pin));
	if (!pin || !number_parse(&pin->sequence, args)) {
		peer_refuse(p, pin ? "pin and unpin need the number of a version" : "out of memory");
		free(pin);
		return;
	}
	pin->c = c;
	pin->on = on;
	if (pthread_create(&pin->thread, NULL, pin_main, pin) != 0) {
		peer_refuse(p, "cannot start a thread");
		free(pin);
		return;
	}
	pin->next = c->pins;
	c->pins = pin;
	p->pin = pin;
	peer_wait(c, p, PIN_MS, look_pin);
}

void command_pin(struct control *c, struct peer *p, const char *args)
{
	begin(c, p, args, true);
}

void command_unpin(struct control *c, struct peer *p, const char *args)
{
	begin(c, p, args, false);
}
