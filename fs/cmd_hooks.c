/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_hooks.c - weightfs hooks MNT [--once] [--dry-run] [--config FILE]
 *
 * The connection to the daemon lives as long as this process does: by it the daemon knows that hooks
 * run, and this process that the mount has ended.  The first SIGTERM or SIGINT lets what is under way be
 * finished; the second gives it up, but for what an engine needs to go on.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "hook.h"
#include "hook_run.h"
#include "options.h"
#include "signals.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define ANSWER_MS 10000
#define ROUND_MS 100

struct args {
	const char *mnt, *config;
	bool once, dry_run;
};

static int add_file(void *arg, const char *path, struct wfs_err *err)
{
	return hook_conf_read(arg, path, err);
}

static int read_conf(struct hook_list *l, const char *config, const char *point, struct wfs_err *err)
{
	int r = options_each_file(config, add_file, l, err);

	return r < 0 ? r : hook_conf_finish(l, point, err);
}

void cmd_hooks_check(const char *config, const char *point)
{
	struct hook_list l = { 0 };
	struct wfs_err err = { 0 };

	if (read_conf(&l, config, point, &err) < 0)
		log_warn("weightfs hooks will refuse this: %s", err.msg);
	hook_list_free(&l);
}

static int load(struct hook_list *l, const struct args *a, const struct client *c, struct wfs_err *err)
{
	int r = read_conf(l, a->config, c->point, err);

	if (r == 0 && !l->n)
		r = wfs_fail(err, -EINVAL, "no [hook \"NAME\"] with mount=%s in %s", c->point,
			     a->config ? a->config : "weightfs.conf");
	return r;
}

/* The newest version, or what one would look like. */
static int sample(struct event *e, const struct client *c, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf line = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int fd = client_open(c, "events 0", err);
	char *path = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = client_line(&line, fd, 1000, err);
	if (r > 0)
		return event_parse(e, line.data, line.len, err);
	if (r < 0 && r != -ETIMEDOUT)
		return r;
	if (asprintf(&path, "%s/versions/1", c->point) < 0)
		return wfs_fail(err, -ENOMEM, "out of memory");
	*e = (struct event){ .sequence = 1, .path = path, .label = strdup("LABEL"), .id = strdup("ID") };
	return e->label && e->id ? 0 : wfs_fail(err, -ENOMEM, "out of memory");
}

static int print_all(const struct hook_list *l, const struct client *c, struct wfs_err *err)
{
	struct event e = { 0 };
	int r = sample(&e, c, err);

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		struct hook_run run = { .h = &l->v[i], .mount = c->point };

		r = hook_print(stdout, &run, &e, err);
	}
	event_free(&e);
	return r;
}

/* The connection that says that we are here. */
static int attach(const struct hook_list *l, const struct client *c, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf line = WFS_BUF_INIT;
	int r = wfs_buf_printf(&line, "hooks"), fd;

	for (size_t i = 0; r == 0 && i < l->n; i++)
		r = wfs_buf_printf(&line, " %s", l->v[i].name);
	if (r < 0)
		return wfs_fail(err, r, "out of memory");
	fd = client_open(c, (const char *)line.data, err);
	if (fd < 0)
		return fd;
	r = client_line(&line, fd, ANSWER_MS, err);
	if (r > 0)
		return fd;
	close(fd);
	return r < 0 && r != -ETIMEDOUT ? r : wfs_fail(err, -EIO, "%s: the daemon does not answer", c->point);
}

static int block_signals(struct wfs_err *err)
{
	sigset_t set = signals_that_end();
	int fd;

	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signals_open();
	return fd < 0 ? wfs_fail_sys(err, "signals") : fd;
}

/* Until all threads have ended.  0: as it should; negative: the daemon has gone without a word. */
static int watch(struct crew *crew, int signals, int daemon, const struct client *c, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf line = WFS_BUF_INIT;
	struct pollfd p[2] = { { .fd = signals, .events = POLLIN }, { .fd = daemon, .events = POLLIN } };
	unsigned n_signals = 0;
	int r = 0;

	while (!crew_done(crew)) {
		if (poll(p, ARRAY_SIZE(p), ROUND_MS) <= 0)
			continue;
		if (p[0].revents && signals_take(signals)) {
			crew_stop(crew);
			if (n_signals++)
				crew_cancel(crew);
		}
		if (!p[1].revents)
			continue;
		p[1].fd = -1;		/* the daemon says one thing, at the end */
		if (client_line(&line, daemon, ANSWER_MS, NULL) <= 0)
			r = wfs_fail(err, -EPIPE, "%s: the daemon has gone without a word", c->point);
		crew_stop(crew);
	}
	return r;
}

static int run_all(const struct hook_list *l, const struct client *c, bool once, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int signals = block_signals(err);
	WFS_AUTO(wfs_close_fd) int daemon = -1;
	struct crew *crew;
	bool good;
	int r;

	if (signals < 0)
		return signals;
	daemon = attach(l, c, err);
	if (daemon < 0)
		return daemon;
	r = crew_start(&crew, c, l, once, err);
	if (r < 0)
		return r;
	r = watch(crew, signals, daemon, c, err);
	good = crew_free(crew);
	if (r == 0 && once && !good)
		r = wfs_fail(err, -EIO, "not every hook could be told");
	return r;
}

static int parse(struct args *a, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "once", no_argument, NULL, '1' }, { "dry-run", no_argument, NULL, 'n' },
		{ "config", required_argument, NULL, 'c' }, { 0 } };
	int opt;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt == '1')
			a->once = true;
		else if (opt == 'n')
			a->dry_run = true;
		else if (opt == 'c')
			a->config = optarg;
		else
			return CMD_USAGE;
	}
	if (argc - optind != 1)
		return CMD_USAGE;
	a->mnt = argv[optind];
	return 0;
}

int cmd_hooks(int argc, char **argv)
{
	struct hook_list l = { 0 };
	struct wfs_err err = { 0 };
	struct args a = { 0 };
	struct client c;
	int r = parse(&a, argc, argv), code;

	if (r)
		return r;
	code = client_find(&c, a.mnt);
	if (code)
		return code;
	r = load(&l, &a, &c, &err);
	code = r < 0 ? EXIT_USAGE : EXIT_BAD;
	if (r == 0)
		r = a.dry_run ? print_all(&l, &c, &err) : run_all(&l, &c, a.once, &err);
	if (r < 0)
		fprintf(stderr, "weightfs: %s\n", err.msg);
	hook_list_free(&l);
	return r < 0 ? code : EXIT_OK;
}
