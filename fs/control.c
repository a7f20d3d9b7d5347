/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the thread behind the control socket; it also takes the signals
 *
 * One thread polls all clients, so nothing here may wait: answers go into a buffer that is written
 * as the client reads it, and a client that does neither is dropped after a deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control.h"
#include "weightfs/base.h"
#include "weightfs/json.h"
#include "weightfs/log.h"

#define CLIENTS_MAX	64u
#define LINE_MAX_LEN	256u
#define TALK_MS		10000u		/* to send a line, to take an answer */
#define WAIT_MS_MAX	(7u * 24 * 3600 * 1000)

enum { FD_SIGNAL, FD_WAKE, FD_LISTEN, N_FIXED };

enum client_state { C_READ, C_WAIT, C_WRITE };

struct client {
	int fd;				/* -1: free */
	enum client_state state;
	uid_t uid;
	uint64_t deadline_ns, above;
	char line[LINE_MAX_LEN];
	size_t len, sent;
	struct wfs_buf out;
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
	pthread_t thread;
	struct client client[CLIENTS_MAX];
};

static int runtime_dir(char out[PATH_MAX], uid_t uid, unsigned i)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	switch (i) {
	case 0:
		if (uid == 0)
			snprintf(out, PATH_MAX, "/run/weightfs");
		else if (uid == geteuid() && xdg && *xdg == '/')
			snprintf(out, PATH_MAX, "%s/weightfs", xdg);
		else
			snprintf(out, PATH_MAX, "/run/user/%u/weightfs", (unsigned)uid);
		return 0;
	case 1:
		snprintf(out, PATH_MAX, "/tmp/weightfs-%u", (unsigned)uid);
		return 0;
	default:
		return -ENOENT;
	}
}

int control_path(char out[PATH_MAX], const char *mnt, uid_t uid, unsigned i)
{
	char dir[PATH_MAX];
	int r = runtime_dir(dir, uid, i);

	if (r < 0)
		return r;
	if (snprintf(out, PATH_MAX, "%s/%016" PRIx64 ".sock", dir, wfs_xxh3(mnt, strlen(mnt))) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

/* A directory that nobody else may write to, or somebody could stand in for us. */
static bool prepare_dir(const char *dir, uid_t uid)
{
	struct stat st;

	if (mkdir(dir, uid == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return false;
	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid &&
	       (st.st_mode & 022) == 0;
}

static int try_listen(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The mount is ours by now, so a socket of that name was left by a daemon that was killed, or
	 * belongs to one whose mount was detached: it must not answer for us. */
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0666) < 0 ||
	    listen(fd, 16) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int open_socket(struct control *c, struct wfs_err *err)
{
	uid_t uid = geteuid();
	char dir[PATH_MAX];
	struct stat st;
	int fd = -ENOENT;

	for (unsigned i = 0; runtime_dir(dir, uid, i) == 0; i++) {
		if (!prepare_dir(dir, uid) || control_path(c->path, c->fs->mnt, uid, i) < 0)
			continue;
		fd = try_listen(c->path);
		if (fd >= 0) {
			c->socket_ino = lstat(c->path, &st) == 0 ? st.st_ino : 0;
			return fd;
		}
	}
	return wfs_fail(err, fd, "control socket %s: %s", c->path[0] ? c->path : dir, strerror(-fd));
}

/* ---- clients ---- */

static void drop(struct client *cl)
{
	close(cl->fd);
	wfs_buf_free(&cl->out);
	*cl = (struct client){ .fd = -1 };
}

static void begin_write(struct client *cl)
{
	wfs_buf_append(&cl->out, "\n", 1);
	cl->state = C_WRITE;
	cl->sent = 0;
	cl->deadline_ns = wfs_now_ns() + TALK_MS * 1000000ull;
}

static void refuse(struct client *cl, const char *why)
{
	wfs_buf_printf(&cl->out, "{\"error\":");
	wfs_json_quote(&cl->out, why);
	wfs_buf_append(&cl->out, "}", 1);
	begin_write(cl);
}

static uint64_t newest(struct control *c)
{
	struct wfs_model *m = wfs_replica_latest(c->fs->replica);
	uint64_t sequence = m ? wfs_model_version(m)->sequence : 0;

	wfs_model_put(m);
	return sequence;
}

static void check_wait(struct control *c, struct client *cl, bool timeout)
{
	uint64_t sequence = newest(c);

	if (sequence <= cl->above && !timeout)
		return;
	wfs_buf_printf(&cl->out, "{\"newest\":%" PRIu64 "%s}", sequence,
		       sequence > cl->above ? "" : ",\"timeout\":true");
	begin_write(cl);
}

static void begin_wait(struct control *c, struct client *cl)
{
	uint64_t ms;

	if (sscanf(cl->line, "wait %" SCNu64 " %" SCNu64, &cl->above, &ms) != 2) {
		refuse(cl, "wait needs a sequence and a time in milliseconds");
		return;
	}
	cl->state = C_WAIT;
	cl->deadline_ns = wfs_now_ns() + WFS_MIN(ms, (uint64_t)WAIT_MS_MAX) * 1000000u;
	check_wait(c, cl, ms == 0);
}

static void stop_once(struct control *c, const char *why)
{
	if (!c->stopped)
		c->stop(c->arg, why);
	c->stopped = true;
}

static void client_write(struct client *cl)
{
	ssize_t n = send(cl->fd, cl->out.data + cl->sent, cl->out.len - cl->sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		cl->sent += (size_t)n;
	if (n < 0 || cl->sent == cl->out.len)
		drop(cl);
}

static void command(struct control *c, struct client *cl)
{
	if (strcmp(cl->line, "status") == 0) {
		if (fs_status_json(c->fs, &cl->out) < 0) {
			drop(cl);
			return;
		}
		begin_write(cl);
	} else if (strncmp(cl->line, "wait ", 5) == 0) {
		begin_wait(c, cl);
	} else if (strcmp(cl->line, "poke") == 0) {
		wfs_replica_poke(c->fs->replica);
		wfs_buf_printf(&cl->out, "{\"ok\":true}");
		begin_write(cl);
	} else if (strcmp(cl->line, "stop") == 0) {
		if (cl->uid != 0 && cl->uid != geteuid()) {
			refuse(cl, "only the owner of the mount and root may stop it");
			return;
		}
		wfs_buf_printf(&cl->out, "{\"ok\":true,\"pid\":%d}", (int)getpid());
		begin_write(cl);
		client_write(cl);
		stop_once(c, "stop was asked for");
	} else {
		refuse(cl, "unknown command: status, wait, poke and stop are known");
	}
}

static void client_read(struct control *c, struct client *cl)
{
	ssize_t n = recv(cl->fd, cl->line + cl->len, sizeof(cl->line) - 1 - cl->len, MSG_DONTWAIT);
	char *end;

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			drop(cl);
		return;
	}
	if (cl->state != C_READ)
		return;			/* nothing more is expected of it */
	cl->len += (size_t)n;
	end = memchr(cl->line, '\n', cl->len);
	if (end) {
		*end = '\0';
		cl->len = 0;
		command(c, cl);
	} else if (cl->len == sizeof(cl->line) - 1) {
		drop(cl);
	}
}

static void accept_client(struct control *c)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(c->fixed[FD_LISTEN], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *cl = &c->client[i];

		if (cl->fd >= 0)
			continue;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
			break;
		cl->fd = fd;
		cl->uid = cred.uid;
		cl->state = C_READ;
		cl->deadline_ns = wfs_now_ns() + TALK_MS * 1000000ull;
		return;
	}
	close(fd);			/* too many */
}

static void take_signal(struct control *c)
{
	struct signalfd_siginfo si;
	char why[64];

	if (read(c->fixed[FD_SIGNAL], &si, sizeof(si)) != sizeof(si))
		return;
	snprintf(why, sizeof(why), "signal %s", sigabbrev_np((int)si.ssi_signo));
	stop_once(c, why);
}

static void deadlines(struct control *c, uint64_t now)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *cl = &c->client[i];

		if (cl->fd < 0)
			continue;
		if (cl->state == C_WAIT)
			check_wait(c, cl, now >= cl->deadline_ns);
		else if (now >= cl->deadline_ns)
			drop(cl);
	}
}

static int poll_timeout(const struct control *c, uint64_t now)
{
	uint64_t next = now + 60000000000ull;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->client[i].fd >= 0)
			next = WFS_MIN(next, WFS_MAX(c->client[i].deadline_ns, now));
	return (int)((next - now) / 1000000u) + 1;
}

static void serve(struct control *c, const struct pollfd *p)
{
	uint64_t drain;

	if (p[FD_SIGNAL].revents)
		take_signal(c);
	if (p[FD_WAKE].revents)
		(void)!read(c->fixed[FD_WAKE], &drain, sizeof(drain));
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *cl = &c->client[i];
		short got = p[N_FIXED + i].revents;

		if (cl->fd < 0 || cl->fd != p[N_FIXED + i].fd || !got)
			continue;
		if (cl->state == C_WRITE && (got & POLLOUT))
			client_write(cl);
		else if (got & (POLLIN | POLLHUP | POLLERR))
			client_read(c, cl);
	}
	if (p[FD_LISTEN].revents)
		accept_client(c);
	deadlines(c, wfs_now_ns());
}

static void *control_main(void *arg)
{
	struct control *c = arg;
	struct pollfd p[N_FIXED + CLIENTS_MAX];

	while (!atomic_load(&c->quit)) {
		for (size_t i = 0; i < N_FIXED; i++)
			p[i] = (struct pollfd){ .fd = c->fixed[i], .events = POLLIN };
		for (size_t i = 0; i < CLIENTS_MAX; i++) {
			struct client *cl = &c->client[i];

			p[N_FIXED + i] = (struct pollfd){
				.fd = cl->fd, .events = cl->state == C_WRITE ? POLLOUT : POLLIN };
		}
		if (poll(p, ARRAY_SIZE(p), poll_timeout(c, wfs_now_ns())) > 0)
			serve(c, p);
		else
			deadlines(c, wfs_now_ns());
	}
	return NULL;
}

static int open_fixed(struct control *c, struct wfs_err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	c->fixed[FD_SIGNAL] = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->fixed[FD_WAKE] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->fixed[FD_SIGNAL] < 0 || c->fixed[FD_WAKE] < 0)
		return wfs_fail_sys(err, "control thread");
	fd = open_socket(c, err);
	if (fd < 0)
		return fd;
	c->fixed[FD_LISTEN] = fd;
	return 0;
}

static void close_all(struct control *c)
{
	struct stat st;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->client[i].fd >= 0)
			drop(&c->client[i]);
	/* after a detached mount the name may be another daemon's */
	if (c->fixed[FD_LISTEN] >= 0 && lstat(c->path, &st) == 0 && st.st_ino == c->socket_ino)
		unlink(c->path);
	for (size_t i = 0; i < N_FIXED; i++)
		wfs_close_fd(&c->fixed[i]);
	free(c);
}

int control_start(struct control **out, struct fs *fs, void (*stop)(void *arg, const char *why),
		  void *arg, struct wfs_err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return wfs_fail(err, -ENOMEM, "out of memory");
	c->fs = fs;
	c->stop = stop;
	c->arg = arg;
	for (size_t i = 0; i < N_FIXED; i++)
		c->fixed[i] = -1;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		c->client[i].fd = -1;
	r = open_fixed(c, err);
	if (r == 0) {
		r = -pthread_create(&c->thread, NULL, control_main, c);
		if (r < 0)
			wfs_fail(err, r, "control thread: %s", strerror(-r));
	}
	if (r < 0) {
		close_all(c);
		return r;
	}
	*out = c;
	return 0;
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
	pthread_join(c->thread, NULL);
	close_all(c);
}
