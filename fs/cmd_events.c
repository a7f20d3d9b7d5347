/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_events.c - weightfs events MNT [--json] [--newer-than N]
 *
 * A line a version, flushed at once.  SIGINT and SIGPIPE end it as they end cat; a closed pipe ends it
 * before there is something to print, too.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "cmd.h"
#include "event.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

/* Foreign text steers no terminal: the label is a JSON string, the path has only what mkdir took. */
static int print_event(const struct event *e)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	time_t t = (time_t)(e->time_ns / 1000000000u);
	char when[32] = "";
	struct tm tm;
	int r;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	r = wfs_json_quote(&text, e->label);
	if (r == 0)
		printf("%" PRIu64 "  %s  %s  %.12s  %.*s%s\n", e->sequence, e->path, when, e->id, (int)text.len,
		       (const char *)text.data, e->skipped ? "  (others before it were skipped)" : "");
	return r;
}

/* One line of the daemon.  1: go on, 0: the mount has ended. */
static int take_line(const struct wfs_buf *line, bool json, struct wfs_err *err)
{
	struct event e;
	int r = event_parse(&e, line->data, line->len, err);

	if (r < 0)
		return r;
	if (e.end)
		return 0;
	if (json)
		printf("%.*s\n", (int)line->len, (const char *)line->data);
	else
		r = print_event(&e);
	event_free(&e);
	fflush(stdout);
	return r < 0 ? wfs_fail(err, r, "out of memory") : 1;
}

/* Until the daemon says something; false: whoever reads what we print has gone, as head does. */
static bool somebody_reads(int daemon)
{
	struct pollfd p[] = { { .fd = daemon, .events = POLLIN }, { .fd = STDOUT_FILENO } };

	while (poll(p, ARRAY_SIZE(p), -1) < 0 && errno == EINTR)
		;
	return !(p[1].revents & POLLERR);
}

static int follow(const struct client *c, uint64_t above, bool json, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf line = WFS_BUF_INIT;
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char ask[64];
	int r = 1;

	snprintf(ask, sizeof(ask), "events %" PRIu64, above);
	fd = client_open(c, ask, err);
	if (fd < 0)
		return fd;
	while (r > 0 && somebody_reads(fd)) {
		r = client_line(&line, fd, -1, err);
		if (r == 0)
			return wfs_fail(err, -EPIPE, "%s: the daemon has gone without a word", c->point);
		if (r > 0)
			r = take_line(&line, json, err);
	}
	return WFS_MIN(r, 0);
}

int cmd_events(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'j' }, { "newer-than", required_argument, NULL, 'n' }, { 0 } };
	struct wfs_err err = { 0 };
	uint64_t above = 0;
	struct client c;
	bool json = false;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt == 'j')
			json = true;
		else if (opt != 'n' || !number_parse(&above, optarg))
			return CMD_USAGE;
	}
	if (argc - optind != 1)
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	if (follow(&c, above, json, &err) == 0)
		return EXIT_OK;
	fprintf(stderr, "weightfs: %s\n", err.msg);
	return EXIT_BAD;
}
