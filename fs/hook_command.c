/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_command.c - a program is run, by its path, with the words of the configuration
 *
 * What comes with the version is in its environment only.  It gets a process group of its own; when
 * its time is over the whole group is ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "hook.h"
#include "weightfs/base.h"

#define SLICE_MS	200		/* how long a wait may overlook the cancel flag */
#define MERCY_MS	5000u		/* between SIGTERM and SIGKILL */

extern char **environ;

__attribute__((format(printf, 2, 3)))
static int add(struct wfs_strings *env, const char *fmt, ...)
{
	WFS_AUTO(wfs_free_ptr) char *text = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (r < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return wfs_strings_add(env, text);
}

static int make_env(struct wfs_strings *env, const struct hook_run *run, const struct event *e,
		    const struct event *previous)
{
	int r = 0;

	for (char **p = environ; r == 0 && *p; p++)
		if (strncmp(*p, "WEIGHTFS_", 9) != 0)
			r = wfs_strings_add(env, *p);
	if (r == 0)
		r = add(env, "WEIGHTFS_HOOK=%s", run->h->name);
	if (r == 0)
		r = add(env, "WEIGHTFS_MOUNT=%s", run->mount);
	if (r == 0)
		r = add(env, "WEIGHTFS_VERSION=%" PRIu64, e->sequence);
	if (r == 0)
		r = add(env, "WEIGHTFS_PATH=%s", e->path);
	if (r == 0)
		r = add(env, "WEIGHTFS_LABEL=%s", e->label);
	if (r == 0)
		r = add(env, "WEIGHTFS_ID=%s", e->id);
	if (r == 0)
		r = add(env, "WEIGHTFS_TIME=%" PRIu64, e->time_ns);
	if (r == 0 && previous)
		r = add(env, "WEIGHTFS_PREVIOUS_VERSION=%" PRIu64, previous->sequence);
	if (r == 0 && previous)
		r = add(env, "WEIGHTFS_PREVIOUS_PATH=%s", previous->path);
	return r;
}

/* A copy of the words with the NULL that exec wants. */
static char **vector(const char *first, const struct wfs_strings *s)
{
	char **v = calloc(s->n + 2, sizeof(*v)), **p = v;

	if (!v)
		return NULL;
	if (first)
		*p++ = (char *)(uintptr_t)first;	/* exec does not write there */
	for (size_t i = 0; i < s->n; i++)
		*p++ = s->v[i];
	return v;
}

static int spawn(pid_t *pid, const struct hook *h, char **argv, char **envp)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addchdir_np(&files, "/");
	if (r == 0)
		r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	if (r == 0)
		r = posix_spawn(pid, h->command, &files, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
}

/* 0: it ended.  -ETIMEDOUT, -ECANCELED (only when cancel is given). */
static int await(int fd, unsigned ms, const atomic_bool *cancel)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t end = wfs_now_ns() + ms * 1000000ull;

	while (wfs_now_ns() < end) {
		if (poll(&p, 1, SLICE_MS) > 0)
			return 0;
		if (cancel && atomic_load(cancel))
			return -ECANCELED;
	}
	return -ETIMEDOUT;
}

static void end_group(pid_t pid, int fd)
{
	kill(-pid, SIGTERM);
	await(fd, MERCY_MS, NULL);
	kill(-pid, SIGKILL);		/* also what ignores the end of its leader */
}

static int verdict(const struct hook *h, int r, int status, struct wfs_err *err)
{
	if (r == -ETIMEDOUT)
		return wfs_fail(err, r, "%s: not done after %.4g s, ended", h->command, h->timeout_ms / 1e3);
	if (r < 0)
		return wfs_fail(err, r, "%s: stopped", h->command);
	if (WIFSIGNALED(status))
		return wfs_fail(err, -EIO, "%s: killed by signal %d", h->command, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return wfs_fail(err, -EIO, "%s: exit status %d", h->command, WEXITSTATUS(status));
	return 0;
}

static int run_once(const struct hook_run *run, char **argv, char **envp, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	int status = 0, r;
	pid_t pid;

	r = spawn(&pid, run->h, argv, envp);
	if (r < 0)
		return wfs_fail(err, r, "%s: %s", run->h->command, strerror(-r));
	fd = pidfd_open(pid, 0);	/* it is our child and not waited for: the number is its own */
	r = fd < 0 ? -errno : await(fd, run->h->timeout_ms, run->cancel);
	if (r < 0)
		end_group(pid, fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return verdict(run->h, r, status, err);
}

int hook_command(const struct hook_run *run, const struct event *e, const struct event *previous,
		 struct wfs_err *err)
{
	struct wfs_strings env = { 0 };
	WFS_AUTO(wfs_free_ptr) char **argv = vector(run->h->command, &run->h->arg);
	WFS_AUTO(wfs_free_ptr) char **envp = NULL;
	unsigned pause_ms = 0;
	int r = make_env(&env, run, e, previous);

	if (r == 0)
		envp = vector(NULL, &env);
	if (r < 0 || !argv || !envp)
		r = wfs_fail(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; r == 0; i++) {
		r = run_once(run, argv, envp, err);
		if (r == 0 || r == -ECANCELED || i == run->h->retries)
			break;
		r = hook_back_off(&pause_ms, run->cancel);
	}
	wfs_strings_free(&env);
	return r;
}
