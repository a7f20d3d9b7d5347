/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_status.c - weightfs status MNT [--json]
 *
 * The exit code is the health check: 0 healthy, 1 not, 3 not mounted.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

#define ANSWER_MS 5000u

struct health {
	bool seen, healthy;
	char reason[512];
};

static int look_health(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct health *h = arg;

	(void)err;
	if (wfs_json_at_top(ev, "healthy") && ev->kind == WFS_JSON_BOOL) {
		h->seen = true;
		h->healthy = ev->uint;
	} else if (wfs_json_at_top(ev, "reason") && ev->kind == WFS_JSON_STRING) {
		snprintf(h->reason, sizeof(h->reason), "%s", ev->text);
	}
	return 0;
}

/* "cache.bytes    123" for every value; a list shows its places. */
static int print_value(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	char name[256] = "";
	size_t n = 0;

	(void)arg, (void)err;
	if (ev->kind <= WFS_JSON_ARRAY_END || wfs_json_at_top(ev, "healthy") || wfs_json_at_top(ev, "reason"))
		return 0;
	for (unsigned i = 0; i < ev->depth && n < sizeof(name); i++) {
		const char *dot = i ? "." : "";
		int w;

		if (ev->key[i])
			w = snprintf(name + n, sizeof(name) - n, "%s%s", dot, ev->key[i]);
		else
			w = snprintf(name + n, sizeof(name) - n, "[%ju]", (uintmax_t)ev->index[i]);
		n += w > 0 ? (size_t)w : 0;
	}
	if (ev->kind == WFS_JSON_BOOL)
		printf("%-28s %s\n", name, ev->uint ? "yes" : "no");
	else if (ev->kind == WFS_JSON_NULL)
		printf("%-28s -\n", name);
	else
		printf("%-28s %s\n", name, ev->text);
	return 0;
}

int cmd_status(int argc, char **argv)
{
	static const struct option longopts[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct health h = { 0 };
	struct client c;
	bool json = false;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt != 'j')
			return CMD_USAGE;
		json = true;
	}
	if (argc - optind != 1)
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	r = client_call(&out, &c, "status", ANSWER_MS, &err);
	if (r == 0)
		r = wfs_json_parse(out.data, out.len, WFS_JSON_EVENTS_MAX, look_health, &h, &err);
	if (r < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_BAD;
	}
	if (json) {
		printf("%s\n", (const char *)out.data);
	} else {
		printf("%s%s%s\n", h.healthy ? "healthy" : "unhealthy", h.reason[0] ? ": " : "", h.reason);
		wfs_json_parse(out.data, out.len, WFS_JSON_EVENTS_MAX, print_value, NULL, NULL);
	}
	return h.seen && h.healthy ? EXIT_OK : EXIT_BAD;
}
