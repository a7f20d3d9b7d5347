/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_wait.c - weightfs wait MNT [--newer-than N] [--timeout S]
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

#define ROUND_MS 5000u		/* then ask again, for what is wrong meanwhile */
#define FIRST_MS 1000u		/* the first round: a store that is not there shows at once */
#define SPARE_MS 5000u		/* for the answer itself */

struct answer {
	uint64_t newest;
	bool timeout;
	char problem[512];
};

static int take_answer(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct answer *a = arg;

	(void)err;
	if (wfs_json_at_top(ev, "newest") && ev->kind == WFS_JSON_UINT)
		a->newest = ev->uint;
	else if (wfs_json_at_top(ev, "timeout"))
		a->timeout = true;
	else if (wfs_json_at_top(ev, "problem") && ev->kind == WFS_JSON_STRING)
		cmd_take_text(a->problem, sizeof(a->problem), ev->text);
	return 0;
}

static bool seconds(double *out, const char *text)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && !*end && *out >= 0 && *out < 1e15;
}

static int ask(struct answer *a, const struct client *c, uint64_t above, unsigned ms)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	char line[96];
	int r;

	snprintf(line, sizeof(line), "wait %" PRIu64 " %u", above, ms);
	r = client_call(&out, c, line, ms + SPARE_MS, &err);
	if (r == 0)
		r = wfs_json_parse(out.data, out.len, WFS_JSON_EVENTS_MAX, take_answer, a, &err);
	if (r < 0)
		fprintf(stderr, "weightfs: %s\n", err.msg);
	return r;
}

/* Once, as long as there is one. */
static bool say_problem(const struct client *c, const struct answer *a, bool said)
{
	if (a->problem[0] && !said)
		fprintf(stderr, "weightfs: %s: waiting: %s\n", c->point, a->problem);
	return a->problem[0];
}

static int say_timeout(const struct client *c, const struct answer *a, uint64_t above, double timeout)
{
	fprintf(stderr, "weightfs: %s: nothing newer than %" PRIu64 " within %g s (newest: %" PRIu64 ")%s%s\n", c->point,
		above, timeout, a->newest, a->problem[0] ? ": " : "", a->problem);
	return EXIT_TIMEOUT;
}

/* Rounds, for only what ends one tells what is wrong. */
static int wait_above(const struct client *c, uint64_t above, double timeout)
{
	unsigned round = FIRST_MS;
	bool said = false;

	for (uint64_t start = wfs_now_ns();; round = ROUND_MS) {
		double left = (timeout - (double)(wfs_now_ns() - start) / 1e9) * 1e3;
		bool last = timeout >= 0 && left <= round;
		struct answer a = { 0 };

		if (ask(&a, c, above, !last ? round : left > 0 ? (unsigned)left : 0) < 0)
			return EXIT_BAD;
		if (!a.timeout) {
			printf("%" PRIu64 "\n", a.newest);
			return EXIT_OK;
		}
		if (last)
			return say_timeout(c, &a, above, timeout);
		said = say_problem(c, &a, said);
	}
}

int cmd_wait(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "newer-than", required_argument, NULL, 'n' },
		{ "timeout", required_argument, NULL, 't' }, { 0 } };
	double timeout = -1;
	uint64_t above = 0;
	struct client c;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1)
		if (opt == 'n' ? !number_parse(&above, optarg) : opt != 't' || !seconds(&timeout, optarg))
			return CMD_USAGE;
	if (argc - optind != 1)
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	return wait_above(&c, above, timeout);
}
