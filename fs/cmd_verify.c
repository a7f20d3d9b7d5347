/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_verify.c - weightfs verify CACHE
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "privilege.h"
#include "weightfs/base.h"
#include "weightfs/replica.h"

enum { EXIT_ROT = 4 };

static void show(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)arg;
	fprintf(stderr, "\r%s: %" PRIu64 "/%" PRIu64 "\033[K", what, done, total);
}

int cmd_verify(int argc, char **argv)
{
	struct wfs_progress p = { .fn = isatty(STDERR_FILENO) ? show : NULL };
	uint64_t checked = 0, bad = 0;
	struct wfs_err err = { 0 };
	int r;

	if (argc != 2 || argv[1][0] == '-')
		return CMD_USAGE;
	r = wfs_cache_must_be(argv[1], &err);
	if (r == 0)
		r = privilege_as_owner(argv[1], &err);	/* what it makes there belongs to the next mount */
	if (r >= 0)
		r = wfs_cache_verify(r ? "." : argv[1], &checked, &bad, &p, &err);
	if (p.fn)
		fputs("\r\033[K", stderr);
	if (r < 0) {
		fprintf(stderr, "weightfs: verify %s: %s\n", argv[1], err.msg);
		if (r == -EBUSY)
			fprintf(stderr, "weightfs: a mounted cache is checked by its mount (option scrub=); "
				"unmount it to check it now\n");
		return EXIT_BAD;
	}
	printf("%" PRIu64 " blocks checked, %" PRIu64 " bad%s\n", checked, bad,
	       bad ? " (dropped: the next mount builds them again)" : "");
	return bad ? EXIT_ROT : EXIT_OK;
}
