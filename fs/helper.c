/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper.c - the daemon's end of the helper's socket
 *
 * Nobody waits until a file is closed: there is no answer to that.  A loader that opens a shard after the
 * other would wait for the shard before, each time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper_proto.h"
#include "weightfs/base.h"

struct helper {
	pthread_mutex_t lock;		/* one ask at a time */
	int sock;
	pid_t pid;
};

/* Room for one descriptor; aligned as the macros want it. */
union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int helper_send(int sock, const void *msg, size_t len, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg, .iov_len = len };
	union control c = { .buf = { 0 } };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *cm;

		h.msg_control = c.buf;
		h.msg_controllen = sizeof(c.buf);
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	}
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int helper_recv(int sock, void *msg, size_t len, int *fd)
{
	struct iovec iov = { .iov_base = msg, .iov_len = len };
	union control c = { .buf = { 0 } };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	struct cmsghdr *cm;
	ssize_t n;

	*fd = -1;
	/* of more descriptors than there is room for, the kernel closes the rest */
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	cm = CMSG_FIRSTHDR(&h);
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(cm), sizeof(*fd));
	return (int)n;
}

static int call(struct helper *h, const struct helper_ask *ask, int fd, int *fd_out, struct wfs_err *err)
{
	struct helper_answer a = { 0 };
	int r, got = -1;

	pthread_mutex_lock(&h->lock);
	r = helper_send(h->sock, ask, sizeof(*ask), fd);
	if (r == 0)
		r = helper_recv(h->sock, &a, sizeof(a), &got);
	pthread_mutex_unlock(&h->lock);
	if (r == 0 || (r > 0 && r != sizeof(a)))
		r = -EPIPE;
	if (r < 0) {
		wfs_close_fd(&got);
		return wfs_fail(err, r, "the privileged helper is gone: %s", strerror(-r));
	}
	if (fd_out && a.r >= 0)
		*fd_out = got;
	else
		wfs_close_fd(&got);
	a.msg[sizeof(a.msg) - 1] = '\0';
	if (a.r < 0)
		return wfs_fail(err, a.r, "%s", a.msg[0] ? a.msg : strerror(-a.r));
	return fd_out && *fd_out < 0 ? wfs_fail(err, -EPROTO, "the privileged helper sent nothing") : a.r;
}

int helper_start(struct helper **out, const struct helper_conf *conf, struct wfs_err *err)
{
	struct helper *h = calloc(1, sizeof(*h));
	int s[2];

	if (!h)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0) {
		free(h);
		return wfs_fail_sys(err, "helper socket");
	}
	h->pid = fork();
	if (h->pid == 0) {
		close(s[0]);
		helper_main(s[1], conf);
	}
	close(s[1]);
	if (h->pid < 0) {
		close(s[0]);
		free(h);
		return wfs_fail_sys(err, "start the privileged helper");
	}
	h->sock = s[0];
	pthread_mutex_init(&h->lock, NULL);
	*out = h;
	return 0;
}

void helper_stop(struct helper *h)
{
	if (!h)
		return;
	close(h->sock);
	while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
		;
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int helper_mount(struct helper *h, struct wfs_err *err)
{
	const struct helper_ask ask = { .what = HELPER_MOUNT };
	int fd = -1, r = call(h, &ask, -1, &fd, err);

	return r < 0 ? r : fd;
}

int helper_unmount(struct helper *h)
{
	const struct helper_ask ask = { .what = HELPER_UNMOUNT };

	return call(h, &ask, -1, NULL, NULL);
}

int helper_backing_open(struct helper *h, int fd)
{
	const struct helper_ask ask = { .what = HELPER_OPEN };
	int r = call(h, &ask, fd, NULL, NULL);

	return r == 0 ? -EPROTO : r;
}

void helper_backing_close(struct helper *h, int id)
{
	const struct helper_ask ask = { .what = HELPER_CLOSE, .id = id };

	helper_send(h->sock, &ask, sizeof(ask), -1);	/* one message, whole: needs no lock */
}

int helper_settle(struct helper *h, uint64_t seed)
{
	const struct helper_ask ask = { .what = HELPER_SETTLE, .seed = seed };
	int fd = -1, r = call(h, &ask, -1, &fd, NULL);

	return r < 0 ? r : fd;
}
