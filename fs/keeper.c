/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - housekeeping: bindings, versions that left, readahead
 *
 * The default readahead of 128 KiB cuts a 4 MiB pread into 32 requests.  INIT can only lower it, so
 * root raises it in sysfs, after INIT.  Nothing tells us when the kernel has taken our INIT reply;
 * we write until the value stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keeper.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define READ_AHEAD_KB	4096
#define SETTLE_NS	5000000l	/* between two looks at the readahead */
#define SETTLE_TRIES	20
#define SWEEP_S		1
#define QUIET_S		1

struct keeper {
	struct fs *fs;
	struct mount_entry entry;
	struct keeper_hooks hooks;
	pthread_mutex_t lock;
	pthread_cond_t wake;		/* work, quit */
	pthread_cond_t idle;		/* no hook is running */
	bool init_seen, up, quiet, quit, in_hook;
	uint64_t *left;			/* sequences to forget */
	size_t n_left;
	pthread_t thread;
};

static void read_ahead_path(char *path, size_t cap, const struct mount_entry *e)
{
	snprintf(path, cap, "/sys/class/bdi/%u:%u/read_ahead_kb", e->major, e->minor);
}

static int get_read_ahead(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	(void)!read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return atoi(buf);
}

static bool set_read_ahead(const char *path)
{
	char buf[32];
	int n = snprintf(buf, sizeof(buf), "%d\n", READ_AHEAD_KB);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, buf, (size_t)n) == n;
	close(fd);
	return ok;
}

static void tune(const struct mount_entry *e)
{
	struct timespec pause = { .tv_nsec = SETTLE_NS };
	char path[128];
	int stays = 0;

	if (geteuid() != 0)
		return;
	read_ahead_path(path, sizeof(path), e);
	for (int i = 0; i < SETTLE_TRIES && stays < 2; i++) {
		if (get_read_ahead(path) == READ_AHEAD_KB)
			stays++;
		else if (!set_read_ahead(path))
			break;
		nanosleep(&pause, NULL);
	}
	if (stays < 2)
		log_info("readahead stays at %d KiB (%s)", get_read_ahead(path), path);
}

/* Called with the lock; drops it around what may wait. */
static void forget_left(struct keeper *k)
{
	while (k->n_left && !k->quiet) {
		uint64_t sequence = k->left[--k->n_left];

		k->in_hook = true;
		pthread_mutex_unlock(&k->lock);
		tree_left(k->fs->tree, sequence);
		k->hooks.left(k->hooks.arg, sequence);
		pthread_mutex_lock(&k->lock);
		k->in_hook = false;
		pthread_cond_broadcast(&k->idle);
	}
}

static void come_up(struct keeper *k)
{
	pthread_mutex_unlock(&k->lock);
	tune(&k->entry);
	k->hooks.up(k->hooks.arg);
	pthread_mutex_lock(&k->lock);
	k->up = true;
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	struct timespec until;

	pthread_mutex_lock(&k->lock);
	while (!k->quit) {
		if (k->init_seen && !k->up)
			come_up(k);
		forget_left(k);
		pthread_mutex_unlock(&k->lock);
		bind_sweep(k->fs->bind);
		k->hooks.sweep(k->hooks.arg);
		pthread_mutex_lock(&k->lock);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += SWEEP_S;
		if (!k->quit && !(k->n_left && !k->quiet) && !(k->init_seen && !k->up))
			pthread_cond_timedwait(&k->wake, &k->lock, &until);
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

static void keeper_free(struct keeper *k)
{
	pthread_mutex_destroy(&k->lock);
	pthread_cond_destroy(&k->wake);
	pthread_cond_destroy(&k->idle);
	free(k->left);
	free(k);
}

int keeper_start(struct keeper **out, struct fs *fs, const struct mount_entry *entry,
		 const struct keeper_hooks *hooks, struct wfs_err *err)
{
	struct keeper *k = calloc(1, sizeof(*k));
	pthread_condattr_t attr;
	int r;

	if (!k)
		return wfs_fail(err, -ENOMEM, "out of memory");
	k->fs = fs;
	k->entry = *entry;
	k->hooks = *hooks;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->wake, &attr);
	pthread_cond_init(&k->idle, &attr);
	pthread_condattr_destroy(&attr);
	r = pthread_create(&k->thread, NULL, keeper_main, k);
	if (r != 0) {
		keeper_free(k);
		return wfs_fail(err, -r, "housekeeping thread: %s", strerror(r));
	}
	*out = k;
	return 0;
}

void keeper_init_seen(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	k->init_seen = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}

void keeper_left(struct keeper *k, uint64_t sequence)
{
	uint64_t *left;

	pthread_mutex_lock(&k->lock);
	left = realloc(k->left, (k->n_left + 1) * sizeof(*left));
	if (left) {		/* otherwise it stays in the kernel's cache; opening it fails rightly */
		k->left = left;
		k->left[k->n_left++] = sequence;
	}
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}

void keeper_quiet(struct keeper *k)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += QUIET_S;
	pthread_mutex_lock(&k->lock);
	k->quiet = true;
	while (k->in_hook)
		if (pthread_cond_timedwait(&k->idle, &k->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&k->lock);
}

void keeper_stop(struct keeper *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->quit = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	keeper_free(k);
}
