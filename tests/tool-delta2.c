/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-delta2.c - write random blocks in codec delta2, for a decoder that is not ours
 *
 *	tool-delta2 DIRECTORY SEED COUNT	files as delta-case.h describes them
 */
#include <fcntl.h>

#include "delta-case.h"
#include "format/format.h"
#include "weightfs/io.h"

static void write_case(const char *dir, unsigned k, uint64_t *state)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf stored = WFS_BUF_INIT, file = WFS_BUF_INIT;
	struct wfs_err err = { "" };
	struct delta_case c;
	char path[4096];
	bool fits;

	if (k % 8 == 1)
		case_packed(&c, state, 5000 + case_below(state, 10000));
	else
		case_random(&c, state, 1 + case_below(state, k % 4 ? 400 : 20000));
	snprintf(path, sizeof(path), "%s/%u", dir, k);
	if (wfs_delta2_encode(&stored, &fits, c.base, c.next, c.len, c.spans, c.n_spans, SIZE_MAX, &err) < 0) {
		fprintf(stderr, "%s: %s\n", path, err.msg);
		exit(1);
	}
	case_write(&file, &c, &stored);
	if (wfs_write_file(AT_FDCWD, path, file.data, file.len, 0644, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	case_free(&c);
}

int main(int argc, char **argv)
{
	uint64_t state;

	if (argc != 4) {
		fprintf(stderr, "usage: tool-delta2 DIRECTORY SEED COUNT\n");
		return 2;
	}
	state = strtoull(argv[2], NULL, 10);
	for (unsigned k = 0; k < strtoul(argv[3], NULL, 10); k++)
		write_case(argv[1], k, &state);
	return 0;
}
