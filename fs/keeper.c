/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - housekeeping: bindings, versions that left
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keeper.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define SWEEP_S		1
#define QUIET_S		1

struct keeper {
	struct fs *fs;
	struct keeper_hooks hooks;
	pthread_mutex_t lock;
	pthread_cond_t wake;		/* work, quit */
	pthread_cond_t idle;		/* no hook is running */
	bool init_seen, up, quiet, quit, in_hook;
	struct left {
		uint64_t sequence;
		bool gone;		/* not only shown in another way */
	} *left;
	size_t n_left;
	pthread_t thread;
};

/* Called with the lock; drops it around what may wait. */
static void forget_left(struct keeper *k)
{
	while (k->n_left && !k->quiet) {
		struct left left = k->left[--k->n_left];

		k->in_hook = true;
		pthread_mutex_unlock(&k->lock);
		if (left.gone)
			tree_left(k->fs->tree, left.sequence);
		k->hooks.left(k->hooks.arg, left.sequence);
		pthread_mutex_lock(&k->lock);
		k->in_hook = false;
		pthread_cond_broadcast(&k->idle);
	}
}

static void come_up(struct keeper *k)
{
	pthread_mutex_unlock(&k->lock);
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

int keeper_start(struct keeper **out, struct fs *fs, const struct keeper_hooks *hooks,
		 struct wfs_err *err)
{
	struct keeper *k = calloc(1, sizeof(*k));
	pthread_condattr_t attr;
	int r;

	if (!k)
		return wfs_fail(err, -ENOMEM, "out of memory");
	k->fs = fs;
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

void keeper_left(struct keeper *k, uint64_t sequence, bool gone)
{
	struct left *left;

	pthread_mutex_lock(&k->lock);
	left = realloc(k->left, (k->n_left + 1) * sizeof(*left));
	if (left) {		/* otherwise it stays in the kernel's cache; opening it fails rightly */
		k->left = left;
		k->left[k->n_left++] = (struct left){ sequence, gone };
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
