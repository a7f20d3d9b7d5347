/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-toystore.c - toystore STORE ORACLE FIRST LAST BYTES: versions FIRST..LAST for shell suites
 *
 * Their bytes are written as ORACLE/<sequence>.  All are made anew each time, from one seed; those
 * below FIRST must be there already.
 */
#include <stdio.h>

#include "toystore.h"

int main(int argc, char **argv)
{
	static struct toy t;
	struct wfs_buf b = WFS_BUF_INIT;
	uint64_t seed = 1;
	char path[4096];

	if (argc != 6)
		return 2;
	strcpy(t.run.s, "00112233445566778899aabbccddeeff");
	if (wfs_store_open(&t.store, argv[1], NULL, true, NULL) < 0)
		return 1;
	if (wfs_store_info_format(&b, &t.run) < 0)
		return 1;
	wfs_store_create(t.store, "weightfs-store", b.data, b.len, NULL);
	wfs_buf_free(&b);
	for (int n = 1; n <= atoi(argv[4]); n++) {
		toy_step(&t, (size_t)atoll(argv[5]), 0, &seed);
		toy_commit(&t, false, false);	/* again the same objects for what is there */
		if (n < atoi(argv[3]))
			continue;
		snprintf(path, sizeof(path), "%s/%d", argv[2], n);
		if (wfs_write_file(AT_FDCWD, path, t.v[n - 1].data, t.v[n - 1].len, 0644, NULL) < 0)
			return 1;
	}
	for (unsigned i = 0; i < t.n; i++)
		free(t.v[i].data);
	wfs_store_close(t.store);
	return 0;
}
