/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - the other end of the control socket
 *
 * In /tmp anyone could listen in our daemon's place, so the peer must be who mounted.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client.h"
#include "control.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

#define ANSWER_MAX (16u << 20)

int client_find(struct client *c, const char *mnt)
{
	struct wfs_err err = { 0 };

	if (path_mount_point(c->point, mnt, &err) < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_NOT_MOUNTED;
	}
	if (mount_find(&c->entry, c->point, NULL) < 0 || !mount_is_ours(&c->entry)) {
		fprintf(stderr, "weightfs: %s: no weightfs is mounted there\n", c->point);
		return EXIT_NOT_MOUNTED;
	}
	return 0;
}

static int try_connect(const struct client *c, unsigned i)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	char path[PATH_MAX];
	int fd, r;

	r = control_path(path, c->point, c->entry.user, i);
	if (r < 0)
		return r;
	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = -errno;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid != c->entry.user)
		r = -EPERM;
	if (r == 0)
		return fd;
	close(fd);
	return r == -ENOENT ? -ECONNREFUSED : r;
}

static int connect_any(const struct client *c, struct wfs_err *err)
{
	int last = -ECONNREFUSED;

	for (unsigned i = 0;; i++) {
		int fd = try_connect(c, i);

		if (fd >= 0)
			return fd;
		if (fd == -ENOENT)
			break;
		last = fd == -ECONNREFUSED ? last : fd;
	}
	return wfs_fail(err, last, "%s: the daemon does not answer: %s%s", c->point, strerror(-last),
			last == -ECONNREFUSED ? "; if it was killed, mount there again" : "");
}

static int receive(struct wfs_buf *out, int fd, unsigned timeout_ms, struct wfs_err *err)
{
	uint64_t end = wfs_now_ns() + (uint64_t)timeout_ms * 1000000u, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[4096];
	ssize_t n;

	for (;;) {
		now = wfs_now_ns();
		if (now >= end || out->len > ANSWER_MAX)
			return wfs_fail(err, -ETIMEDOUT, "no answer from the daemon within %u s",
					timeout_ms / 1000);
		if (poll(&p, 1, (int)((end - now) / 1000000u) + 1) <= 0)
			continue;
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ECONNRESET)
			return wfs_fail_sys(err, "control socket");
		if (n <= 0)
			break;
		if (wfs_buf_append(out, buf, (size_t)n) < 0)
			return wfs_fail(err, -ENOMEM, "out of memory");
	}
	if (out->len == 0 || out->data[out->len - 1] != '\n')
		return wfs_fail(err, -EPIPE, "the daemon ended before it answered");
	out->data[--out->len] = '\0';
	return 0;
}

static int find_refusal(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)arg;
	if (wfs_json_at_top(ev, "error") && ev->kind == WFS_JSON_STRING)
		return wfs_fail(err, -EPERM, "%s", ev->text);
	return 0;
}

int client_open(const struct client *c, const char *line, struct wfs_err *err)
{
	int fd = connect_any(c, err), r;
	size_t len = strlen(line);

	if (fd < 0)
		return fd;
	if (send(fd, line, len, MSG_NOSIGNAL) == (ssize_t)len && send(fd, "\n", 1, MSG_NOSIGNAL) == 1)
		return fd;
	if (errno == EPIPE)		/* it has answered already: it has too many connections */
		return fd;
	r = wfs_fail_sys(err, "control socket");
	close(fd);
	return r;
}

/* Events are a few hundred bytes each and rare: a byte at a time keeps no state between calls. */
int client_line(struct wfs_buf *out, int fd, int timeout_ms, struct wfs_err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	for (out->len = 0;;) {
		int r = poll(&p, 1, timeout_ms);
		ssize_t n;

		if (r == 0)
			return -ETIMEDOUT;
		n = r > 0 ? read(fd, &c, 1) : -1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return wfs_fail_sys(err, "control socket");
		if (n == 0)
			return 0;
		if (out->len >= ANSWER_MAX || wfs_buf_append(out, c == '\n' ? "" : &c, 1) < 0)
			return wfs_fail(err, -ENOMEM, "out of memory");
		if (c == '\n')
			return wfs_json_parse(out->data, --out->len, WFS_JSON_EVENTS_MAX, find_refusal, NULL, err) < 0 ? -EPERM : 1;
	}
}

int client_call(struct wfs_buf *out, const struct client *c, const char *line, unsigned timeout_ms,
		struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = client_open(c, line, err);
	int r;

	if (fd < 0)
		return fd;
	r = receive(out, fd, timeout_ms, err);
	if (r < 0)
		return wfs_wrap(err, r, "%s", c->point);
	return wfs_json_parse(out->data, out->len, WFS_JSON_EVENTS_MAX, find_refusal, NULL, err);
}

pid_t client_pid(const struct client *c)
{
	WFS_AUTO(wfs_close_fd) int fd = connect_any(c, NULL);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return 0;
	return cred.pid;
}
