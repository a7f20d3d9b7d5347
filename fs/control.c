/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the thread behind the control socket; it also takes the signals
 *
 * One thread polls all peers, so nothing here may wait: answers go into a buffer that is written
 * as the peer reads it, and a peer that does neither is dropped after a deadline.  A listener may
 * take as long as it likes: it has one line in its buffer, and when that is out, the newest is next.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "control_internal.h"
#include "hooktab.h"
#include "number.h"
#include "signals.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

#define TALK_MS		10000u		/* to send a line, to take an answer */

static uint64_t in_ms(uint64_t ms)
{
	return wfs_now_ns() + ms * 1000000u;
}

/* ---- peers ---- */

void peer_drop(struct control *c, struct peer *p)
{
	c->n_waiters -= p->counted;
	if (p->hooks)
		hooktab_detach(c->fs->hooktab);
	close(p->fd);
	wfs_buf_free(&p->out);
	*p = (struct peer){ .fd = -1 };
}

void peer_answer(struct peer *p)
{
	wfs_buf_append(&p->out, "\n", 1);
	p->state = PEER_WRITES;
	p->sent = 0;
	p->deadline_ns = in_ms(p->listens ? CONTROL_FOR_EVER_MS : TALK_MS);
}

void peer_refuse(struct peer *p, const char *why)
{
	wfs_buf_printf(&p->out, "{\"error\":");
	wfs_json_quote(&p->out, why);
	wfs_buf_append(&p->out, "}", 1);
	peer_answer(p);
}

void peer_wait(struct control *c, struct peer *p, uint64_t ms,
	       void (*look)(struct control *c, struct peer *p, bool late))
{
	if (!p->counted && c->n_waiters >= CONTROL_WAITERS_MAX) {
		p->listens = false;
		peer_refuse(p, "too many processes wait for versions or listen for events");
		return;
	}
	c->n_waiters += !p->counted;
	p->counted = true;
	p->state = PEER_WAITS;
	p->look = look;
	p->deadline_ns = in_ms(ms);
	look(c, p, ms == 0);
}

void peer_wait_above(struct control *c, struct peer *p, const char *args,
		     void (*look)(struct control *c, struct peer *p, bool late))
{
	size_t n = strcspn(args, " ");
	char above[24];
	uint64_t ms;

	snprintf(above, sizeof(above), "%.*s", (int)n, args);
	if (n < sizeof(above) && args[n] && number_parse(&p->above, above) && number_parse(&ms, args + n + 1))
		peer_wait(c, p, WFS_MIN(ms, (uint64_t)CONTROL_WAIT_MS_MAX), look);
	else
		peer_refuse(p, "needs a sequence and a time in milliseconds");
}

/* A listener's line is out: it gets the next one, or waits for it. */
static void listen_again(struct control *c, struct peer *p)
{
	p->out.len = p->sent = 0;
	peer_wait(c, p, CONTROL_FOR_EVER_MS, p->look);
}

void peer_flush(struct control *c, struct peer *p)
{
	ssize_t n = send(p->fd, p->out.data + p->sent, p->out.len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		p->sent += (size_t)n;
	if (n >= 0 && p->sent == p->out.len && p->listens)
		listen_again(c, p);
	else if (n < 0 || p->sent == p->out.len)
		peer_drop(c, p);
}

static void peer_read(struct control *c, struct peer *p)
{
	ssize_t n = recv(p->fd, p->line + p->len, sizeof(p->line) - 1 - p->len, MSG_DONTWAIT);
	char *end;

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			peer_drop(c, p);
		return;
	}
	if (p->state != PEER_READS)
		return;			/* nothing more is expected of it */
	p->len += (size_t)n;
	end = memchr(p->line, '\n', p->len);
	if (end) {
		*end = '\0';
		p->len = 0;
		control_command(c, p);
	} else if (p->len == sizeof(p->line) - 1) {
		peer_drop(c, p);
	}
}

/* A place for another connection of this user; NULL: there are too many. */
static struct peer *find_place(struct control *c, uid_t user)
{
	unsigned strangers = 0, same = 0;
	struct peer *place = NULL;

	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		struct peer *p = &c->peer[i];

		if (p->fd < 0) {
			place = place ? place : p;
			continue;
		}
		strangers += !control_is_owner(p->cred.uid);
		same += p->cred.uid == user;
	}
	if (!control_is_owner(user) && (strangers >= CONTROL_STRANGERS_MAX || same >= CONTROL_STRANGER_MAX))
		return NULL;
	return place;
}

static void accept_peer(struct control *c)
{
	static const char full[] = "{\"error\":\"too many connections\"}\n";
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(c->fixed[FD_LISTEN], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct peer *p = NULL;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		p = find_place(c, cred.uid);
	if (!p) {
		(void)!send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	p->fd = fd;
	p->cred = cred;
	p->user = bind_caller(c->fs->bind, cred.pid);
	p->state = PEER_READS;
	p->deadline_ns = in_ms(TALK_MS);
}

/* ---- the thread ---- */

void control_stop_once(struct control *c, const char *why)
{
	if (!c->stopped)
		c->stop(c->arg, why);
	c->stopped = true;
}

static void take_signal(struct control *c)
{
	int signo = signals_take(c->fixed[FD_SIGNAL]);
	char why[64];

	if (!signo)
		return;
	snprintf(why, sizeof(why), "signal %s", sigabbrev_np(signo));
	control_stop_once(c, why);
}

static void look_after(struct control *c, uint64_t now)
{
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		struct peer *p = &c->peer[i];

		if (p->fd < 0)
			continue;
		if (p->state == PEER_WAITS)
			p->look(c, p, now >= p->deadline_ns);
		else if (now >= p->deadline_ns)
			peer_drop(c, p);
	}
}

static int poll_timeout(const struct control *c, uint64_t now)
{
	uint64_t next = now + 60000000000ull;

	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++)
		if (c->peer[i].fd >= 0)
			next = WFS_MIN(next, WFS_MAX(c->peer[i].deadline_ns, now));
	return (int)((next - now) / 1000000u) + 1;
}

static void serve(struct control *c, const struct pollfd *p)
{
	uint64_t drain;

	if (p[FD_SIGNAL].revents)
		take_signal(c);
	if (p[FD_WAKE].revents)
		(void)!read(c->fixed[FD_WAKE], &drain, sizeof(drain));
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
		struct peer *peer = &c->peer[i];
		short got = p[N_FIXED + i].revents;

		if (peer->fd < 0 || peer->fd != p[N_FIXED + i].fd || !got)
			continue;
		if (peer->state == PEER_WRITES && (got & POLLOUT))
			peer_flush(c, peer);
		else if (got & (POLLIN | POLLRDHUP | POLLHUP | POLLERR))
			peer_read(c, peer);
	}
	if (p[FD_LISTEN].revents)
		accept_peer(c);
}

/* Who waits has nothing more to say: what it sends all the same stays with it. */
static short events_of(const struct peer *p)
{
	return p->state == PEER_WRITES ? POLLOUT : p->state == PEER_WAITS ? POLLRDHUP : POLLIN;
}

static void *control_main(void *arg)
{
	struct control *c = arg;
	struct pollfd p[N_FIXED + CONTROL_PEERS_MAX];

	while (!atomic_load(&c->quit)) {
		for (size_t i = 0; i < N_FIXED; i++)
			p[i] = (struct pollfd){ .fd = c->fixed[i], .events = POLLIN };
		for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
			struct peer *peer = &c->peer[i];

			p[N_FIXED + i] = (struct pollfd){ .fd = peer->fd, .events = events_of(peer) };
		}
		if (poll(p, ARRAY_SIZE(p), poll_timeout(c, wfs_now_ns())) > 0)
			serve(c, p);
		look_after(c, wfs_now_ns());
	}
	return NULL;
}

static int open_fixed(struct control *c, struct wfs_err *err)
{
	int fd;

	c->fixed[FD_SIGNAL] = signals_open();
	c->fixed[FD_WAKE] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->fixed[FD_SIGNAL] < 0 || c->fixed[FD_WAKE] < 0)
		return wfs_fail_sys(err, "control thread");
	fd = control_open_socket(c, err);
	if (fd < 0)
		return fd;
	c->fixed[FD_LISTEN] = fd;
	return 0;
}

static void close_all(struct control *c)
{
	struct stat st;

	if (c->started)
		control_end_events(c);
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++)
		if (c->peer[i].fd >= 0)
			peer_drop(c, &c->peer[i]);
	control_pin_reap(c, true);
	/* after a detached mount the name may be another daemon's */
	if (c->fixed[FD_LISTEN] >= 0 && lstat(c->path, &st) == 0 && st.st_ino == c->socket_ino)
		unlink(c->path);
	for (size_t i = 0; i < N_FIXED; i++)
		wfs_close_fd(&c->fixed[i]);
	free(c);
}

int control_listen(struct control **out, struct fs *fs, struct wfs_err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return wfs_fail(err, -ENOMEM, "out of memory");
	c->fs = fs;
	for (size_t i = 0; i < N_FIXED; i++)
		c->fixed[i] = -1;
	for (size_t i = 0; i < CONTROL_PEERS_MAX; i++)
		c->peer[i].fd = -1;
	r = open_fixed(c, err);
	if (r < 0)
		close_all(c);
	else
		*out = c;
	return r;
}

const char *control_socket(const struct control *c, ino_t *ino)
{
	*ino = c->socket_ino;
	return c->path;
}

int control_start(struct control *c, void (*stop)(void *arg, const char *why), void *arg, struct wfs_err *err)
{
	int r;

	c->stop = stop;
	c->arg = arg;
	r = -pthread_create(&c->thread, NULL, control_main, c);
	c->started = r == 0;
	return r < 0 ? wfs_fail(err, r, "control thread: %s", strerror(-r)) : 0;
}

void control_shown(struct control *c)
{
	uint64_t one = 1;

	(void)!write(c->fixed[FD_WAKE], &one, sizeof(one));
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	atomic_store(&c->quit, true);
	control_shown(c);
	if (c->started)
		pthread_join(c->thread, NULL);
	close_all(c);
}
