/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_internal.h - what the files of the control socket share
 *
 *   control.c		the thread: accept, read a line, write answers, deadlines, signals
 *   control_socket.c	where the socket is
 *   control_cmds.c	the table of commands
 *   control_events.c	the listeners
 *   control_pin.c	pin and unpin, which take a thread
 *   control_hooks.c	weightfs hooks
 *
 * Everything here runs in the control thread, so nothing may wait.
 */
#ifndef FS_CONTROL_INTERNAL_H
#define FS_CONTROL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "bind.h"
#include "control.h"
#include "weightfs/buf.h"

#define CONTROL_PEERS_MAX	512u		/* connections */
#define CONTROL_WAITERS_MAX	448u		/* of them waiting or listening: some are left for status and stop */
#define CONTROL_STRANGERS_MAX	384u		/* of users that are neither root nor the mount's owner, and */
#define CONTROL_STRANGER_MAX	256u		/* of one of them: nobody can keep the owner, or all others, out */
#define CONTROL_LINE_MAX	1024u
#define CONTROL_WAIT_MS_MAX	(7u * 24 * 3600 * 1000)
#define CONTROL_FOR_EVER_MS	(3650ull * 24 * 3600 * 1000)

enum { FD_SIGNAL, FD_WAKE, FD_LISTEN, N_FIXED };

enum peer_state { PEER_READS, PEER_WAITS, PEER_WRITES };	/* seen from here: its line, its turn, our answer */

struct peer {
	int fd;				/* -1: free */
	enum peer_state state;
	struct ucred cred;		/* who connected */
	struct bind_key user;		/* the same, safe against reuse of its number */
	uint64_t deadline_ns;
	char line[CONTROL_LINE_MAX];
	size_t len, sent;
	bool counted;			/* in n_waiters */
	struct wfs_buf out;
	/* PEER_WAITS: called after something was shown and, once, late, at the deadline; it answers
	 * or leaves the peer waiting */
	void (*look)(struct control *c, struct peer *p, bool late);
	bool hooks;			/* it is weightfs hooks */
	char hook[33];			/* the hook that look_hook asks for */
	bool listens;			/* after an answer it waits again, for ever */
	uint64_t above;			/* the newest that it knows */
	struct pin *pin;		/* look_pin's */
};

struct control {
	struct fs *fs;
	void (*stop)(void *arg, const char *why);
	void *arg;
	bool stopped;
	int fixed[N_FIXED];
	char path[PATH_MAX];
	ino_t socket_ino;
	atomic_bool quit;
	bool started;
	unsigned n_waiters;		/* peers that called peer_wait */
	pthread_t thread;
	struct pin *pins;		/* running, or not yet joined */
	struct peer peer[CONTROL_PEERS_MAX];
};

/* control.c, for commands.  A command puts its answer into p->out and calls peer_answer (which adds
 * the newline), or refuses, or calls peer_wait. */
void peer_answer(struct peer *p);
void peer_refuse(struct peer *p, const char *why);
void peer_wait(struct control *c, struct peer *p, uint64_t ms,
	       void (*look)(struct control *c, struct peer *p, bool late));
/* args "SEQUENCE MS": peer_wait for what is above that sequence. */
void peer_wait_above(struct control *c, struct peer *p, const char *args,
		     void (*look)(struct control *c, struct peer *p, bool late));
void peer_flush(struct control *c, struct peer *p);	/* send what the socket takes now */
void peer_drop(struct control *c, struct peer *p);
void control_stop_once(struct control *c, const char *why);

/* control_socket.c: listen; the path is in c.  A descriptor or a negative errno. */
int control_open_socket(struct control *c, struct wfs_err *err);

/* control_pin.c */
void command_pin(struct control *c, struct peer *p, const char *args);
void command_unpin(struct control *c, struct peer *p, const char *args);
void control_pin_reap(struct control *c, bool all);	/* free what has ended, or wait for all */

/* control_cmds.c: is it root, or the user that the daemon is? */
bool control_is_owner(uid_t user);
/* Run the command in p->line. */
void control_command(struct control *c, struct peer *p);

/* control_hooks.c */
void command_hooks(struct control *c, struct peer *p, const char *args);
void command_hook(struct control *c, struct peer *p, const char *args);

/* control_events.c */
void command_events(struct control *c, struct peer *p, const char *args);
/* Append the event of model m (weightfs(1), "Events"). */
int control_event(struct wfs_buf *out, const struct fs *fs, const struct wfs_model *m, uint64_t skipped);
void control_end_events(struct control *c);	/* tell the listeners that the mount ends */

#endif
