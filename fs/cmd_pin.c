/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_pin.c - weightfs pin MNT VERSION, weightfs unpin MNT VERSION
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "number.h"
#include "weightfs/base.h"

#define ANSWER_MS (11u * 60 * 1000)	/* longer than the daemon waits for its disk */

int cmd_pin(int argc, char **argv)
{
	static const struct option none[] = { { 0 } };
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	const char *number;
	uint64_t sequence;
	struct client c;
	char line[64];
	int r;

	if (getopt_long(argc, argv, "", none, NULL) != -1 || argc - optind != 2)
		return CMD_USAGE;
	number = argv[optind + 1];
	if (!number_parse(&sequence, number) || *number == '0')
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	snprintf(line, sizeof(line), "%s %s", argv[0], number);
	if (client_call(&out, &c, line, ANSWER_MS, &err) < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_BAD;
	}
	return EXIT_OK;
}
