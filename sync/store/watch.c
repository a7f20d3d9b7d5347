/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - waiting for a commit: inotify where the store is a directory, an eventfd to be woken
 *
 * The watch begins with the first wait, and again whenever commits/ appears; that wait returns at
 * once, because what was committed between the caller's last look and the watch makes no event.
 * Where inotify cannot be had, and for changes it does not see (made on another machine of a
 * network file system), the caller's own interval is what is left.
 *
 * Paths go through /proc/self/fd: the store may have been renamed since it was opened.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "weightfs/base.h"
#include "store/backend.h"

#define COMMIT_EVENTS (IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR)
#define SLICE_MS 250		/* a cancel flag makes no event */

int wfs_watch_init(struct wfs_watch *w, struct wfs_err *err)
{
	pthread_mutex_init(&w->lock, NULL);
	w->dir = w->fd = w->root_wd = w->commits_wd = -1;
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->wake_fd < 0 ? wfs_fail_sys(err, "eventfd") : 0;
}

void wfs_watch_done(struct wfs_watch *w)
{
	wfs_close_fd(&w->wake_fd);
	wfs_close_fd(&w->fd);
	pthread_mutex_destroy(&w->lock);
}

void wfs_watch_wake(struct wfs_watch *w)
{
	uint64_t one = 1;

	atomic_fetch_add(&w->wakes, 1);
	/* Full means that a wake is pending already. */
	if (write(w->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static int add_watch(struct wfs_watch *w, const char *sub, uint32_t events)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", w->dir, sub);
	return inotify_add_watch(w->fd, path, events);
}

/* True when a watch began: look now, there may have been a commit before. */
static bool arm(struct wfs_watch *w)
{
	bool began = false;

	if (w->dir < 0)
		return false;
	if (w->fd < 0)
		w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		return false;
	if (w->root_wd < 0) {
		w->root_wd = add_watch(w, ".", IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
		began = w->root_wd >= 0;
	}
	if (w->commits_wd < 0) {
		w->commits_wd = add_watch(w, "commits", COMMIT_EVENTS);
		began |= w->commits_wd >= 0;
	}
	return began;
}

/* Is this a commit, or news about the directory of commits? */
static bool look_at(struct wfs_watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	if (e->mask & IN_IGNORED) {
		if (e->wd == w->commits_wd)
			w->commits_wd = -1;
		return false;
	}
	if (e->wd == w->commits_wd)
		return e->len && strspn(e->name, "0123456789") == strlen(e->name);
	return e->wd == w->root_wd && e->len && !strcmp(e->name, "commits");
}

static bool read_events(struct wfs_watch *w)
{
	_Alignas(struct inotify_event) char buf[4096];
	bool commit = false;
	ssize_t n;

	while (w->fd >= 0 && (n = read(w->fd, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const void *)p;

			commit |= look_at(w, e);
			p += sizeof(*e) + e->len;
		}
	}
	return commit;
}

static bool news(struct wfs_watch *w)
{
	bool commit;

	pthread_mutex_lock(&w->lock);
	commit = read_events(w);
	commit |= arm(w);
	pthread_mutex_unlock(&w->lock);
	return commit;
}

void wfs_watch_wait(struct wfs_watch *w, unsigned ms, const atomic_bool *cancel)
{
	uint64_t end = wfs_now_ns() + ms * 1000000ull, now, drained;
	unsigned wakes = atomic_load(&w->wakes);

	while (!news(w) && !wfs_is_set(cancel) && (now = wfs_now_ns()) < end) {
		struct pollfd fds[] = {
			{ .fd = w->wake_fd, .events = POLLIN },
			{ .fd = w->fd, .events = POLLIN },	/* -1 is ignored */
		};
		uint64_t left = (end - now + 999999) / 1000000;

		poll(fds, ARRAY_SIZE(fds), (int)WFS_MIN(left, (uint64_t)SLICE_MS));
		if (read(w->wake_fd, &drained, sizeof(drained)) > 0 || atomic_load(&w->wakes) != wakes)
			return;
	}
}
