/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_files.c - how much of each file of a version is here, how it is served, and whether it is in use
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "fs.h"
#include "modes.h"
#include "passthrough.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

const char *fs_file_mode(struct fs *fs, struct wfs_model *m, size_t i, uint64_t ino, const struct wfs_file_status *st,
			 unsigned *n_open)
{
	bool pass;

	*n_open = ino ? modes_get(fs->modes, ino, &pass) : 0;
	if (*n_open)
		return pass ? "passthrough" : "cached";
	if (wfs_model_linked(m))
		return "link";
	pass = passthrough_is_on(fs->pass) && st->complete && !wfs_model_version(m)->files[i].whole;
	return pass ? "passthrough" : "cached";
}

static int put_file(struct fs *fs, struct wfs_buf *out, struct wfs_model *m, size_t i, uint64_t ino)
{
	const struct wfs_file *f = &wfs_model_version(m)->files[i];
	struct wfs_file_status st;
	const char *mode;
	unsigned n_open;
	int r;

	wfs_model_file_status(m, i, &st);
	mode = fs_file_mode(fs, m, i, ino, &st, &n_open);
	r = wfs_buf_printf(out, "%s{\"path\":", i ? "," : "");
	if (r == 0)
		r = wfs_json_quote(out, f->path);
	if (r < 0)
		return r;
	return wfs_buf_printf(out, ",\"size\":%" PRIu64 ",\"blocks\":%u,\"blocks_built\":%u,\"complete\":%s,\"mode\":\"%s\""
			      ",\"opens\":%u,\"in_use\":%s}", st.size, st.n_blocks, st.n_built, st.complete ? "true" : "false",
			      mode, n_open, n_open || wfs_model_file_in_use(m, i) ? "true" : "false");
}

int fs_files_json(struct fs *fs, struct wfs_buf *out, uint64_t sequence)
{
	struct wfs_model *m = sequence ? wfs_replica_find(fs->replica, sequence) : wfs_replica_latest(fs->replica);
	size_t n = m ? wfs_model_version(m)->n_files : 0;
	uint64_t *inos = calloc(n + 1, sizeof(*inos));
	int r = m ? 0 : -ENOENT;

	if (r == 0 && !inos)
		r = -ENOMEM;
	if (r == 0) {
		tree_files(fs->tree, wfs_model_id(m), inos, n);
		r = wfs_buf_printf(out, "{\"sequence\":%" PRIu64 ",\"files\":[", wfs_model_version(m)->sequence);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_file(fs, out, m, i, inos[i]);
	free(inos);
	wfs_model_put(m);
	return r < 0 ? r : wfs_buf_append(out, "]}", 2);
}
