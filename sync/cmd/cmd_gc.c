/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/gc.h"

const char gc_help[] =
	"usage: weightsync gc --keep N [OPTION...] STORE\n\n"
	"Drop what the newest N versions of STORE, a directory, do not need.  Readers and publishers may\n"
	"be at work.\n\n"
	"  --keep N         how many versions are kept\n"
	"  --grace TIME     how long what is not needed stays: 30m, 12h, 7d (default: 7d)\n"
	"  --wait TIME      how long to wait for a publisher, or another gc, that holds the store (default: 1h)\n"
	"  --dry-run        say what would be removed\n"
	"  --json           the result as one JSON object\n"
	"  --help           this text\n";

enum { O_KEEP = 256, O_GRACE, O_WAIT, O_DRY, O_JSON };

static const struct option options[] = {
	{ "keep", 1, NULL, O_KEEP }, { "grace", 1, NULL, O_GRACE }, { "wait", 1, NULL, O_WAIT }, { "dry-run", 0, NULL, O_DRY },
	{ "json", 0, NULL, O_JSON }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

#define SECOND 1000000000ull
#define GRACE (7 * 86400 * SECOND)
#define WAIT (3600 * SECOND)

static int parse(struct wfs_gc_opts *o, bool *json, int argc, char **argv)
{
	int c;

	while ((c = cmd_getopt(argc, argv, options, gc_help)) != -1) {
		switch (c) {
		case O_KEEP:
			if (!cmd_number(optarg, &o->keep))
				return EXIT_USAGE;
			break;
		case O_GRACE:
			if (!cmd_time("--grace", optarg, &o->grace_ns))
				return EXIT_USAGE;
			break;
		case O_WAIT:
			if (!cmd_time("--wait", optarg, &o->lock.wait_ns))
				return EXIT_USAGE;
			break;
		case O_DRY: o->dry_run = true; break;
		case O_JSON: *json = true; break;
		default: return EXIT_USAGE;
		}
	}
	if (argc - optind != 1 || !o->keep)
		return cmd_usage("gc takes --keep and a store; `weightsync gc --help' says more");
	return 0;
}

static void print(const struct wfs_gc_opts *o, const struct wfs_gc_result *r, bool json)
{
	char a[32], b[32];

	if (json)
		printf("{\"oldest\":%" PRIu64 ",\"newest\":%" PRIu64 ",\"dry_run\":%s,\"removed\":{\"versions\":%" PRIu64
		       ",\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 "},\"kept\":{\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64
		       "}}\n", r->oldest, r->newest, o->dry_run ? "true" : "false", r->versions, r->objects, r->bytes,
		       r->kept_objects, r->kept_bytes);
	else
		printf("versions %" PRIu64 " to %" PRIu64 " are kept; %s %" PRIu64 " versions, %" PRIu64 " objects, %s; %s stay\n",
		       r->oldest, r->newest, o->dry_run ? "to be removed:" : "removed", r->versions, r->objects,
		       wfs_human_size(a, r->bytes), wfs_human_size(b, r->kept_bytes));
}

/* Why more is kept than was asked for. */
static void print_grace(const struct wfs_gc_opts *o, const struct wfs_gc_result *r)
{
	if (r->newest - r->oldest >= o->keep && o->grace_ns)
		fprintf(stderr, "weightsync: that is more than --keep %" PRIu64 ": what is younger than --grace (%s) stays\n", o->keep,
			o->grace_ns == GRACE ? "7 days unless it is given" : "as given");
}

/* What is removed is not there any more, and readers of those versions may see that. */
static int interrupted(const struct wfs_gc_opts *o, const struct wfs_gc_result *r)
{
	char size[32];

	if (o->dry_run || !r->objects)
		fputs("weightsync: interrupted; nothing was removed\n", stderr);
	else
		fprintf(stderr, "weightsync: interrupted; %" PRIu64 " versions, %" PRIu64 " objects, %s are removed, and versions %" PRIu64
			" to %" PRIu64 " are whole; run it again for the rest\n", r->versions, r->objects,
			wfs_human_size(size, r->bytes), r->oldest, r->newest);
	return EXIT_INTERRUPTED;
}

int cmd_gc(int argc, char **argv)
{
	struct wfs_gc_opts o = { .grace_ns = GRACE, .cancel = &cmd_interrupted };
	struct cmd_store s = { NULL, NULL, NULL };
	struct wfs_gc_result res;
	struct wfs_err err = { "" };
	bool json = false;
	int r;

	cmd_lock(&o.lock, WAIT);
	r = parse(&o, &json, argc, argv);
	if (r)
		return r;
	s.url = argv[optind];
	r = cmd_open(&s, false, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	r = wfs_gc(s.st, &o, &res, &err);
	wfs_store_close(s.st);
	if (r == -ECANCELED)
		return interrupted(&o, &res);
	if (r == 0)
		print(&o, &res, json);
	if (r == 0 && !json)
		print_grace(&o, &res);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
