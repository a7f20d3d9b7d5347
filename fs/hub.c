/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub.c - the Hugging Face cache layout over the versions
 *
 * Nothing is kept: a version has two inode numbers here, made of its sequence, and everything else is
 * asked of the replica each time.
 */
#include "hub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs.h"
#include "ops_internal.h"
#include "weightfs/base.h"

#define COMMIT_LEN	40u
#define PART_MAX	96u		/* of a repository's name, by the hub's rule */

enum kind { REF, SNAPSHOT, N_KINDS };

/* ---- the repository's name ---- */

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The hub's rule: letters, digits, "-_.", no "--" or "..", neither '-' nor '.' at the ends. */
static bool part_ok(const char *s, size_t len)
{
	if (!len || len > PART_MAX || !is_plain(s[0]) || !is_plain(s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_plain(s[i]) && ((s[i] != '-' && s[i] != '.') || s[i] == s[i + 1]))
			return false;
	return true;
}

int hub_dir(char out[HUB_DIR_MAX], const char *name, const char *store_url, struct wfs_err *err)
{
	const char *slash, *part = name;
	size_t len;

	out[0] = '\0';
	if (!name) {
		for (len = strlen(store_url); len && store_url[len - 1] == '/'; len--)
			;
		for (part = store_url + len; part > store_url && part[-1] != '/'; part--)
			;
		len -= (size_t)(part - store_url);
		if (part_ok(part, len))
			snprintf(out, HUB_DIR_MAX, "models--%.*s", (int)len, part);
		return 0;
	}
	slash = strchr(name, '/');
	if (slash && part_ok(name, (size_t)(slash - name)) && part_ok(slash + 1, strlen(slash + 1)))
		snprintf(out, HUB_DIR_MAX, "models--%.*s--%s", (int)(slash - name), name, slash + 1);
	else if (!slash && part_ok(name, strlen(name)))
		snprintf(out, HUB_DIR_MAX, "models--%s", name);
	else
		return wfs_fail(err, -EINVAL, "hub=%.200s: a repository is named ORG/NAME or NAME, of letters, digits, "
				"'-', '_' and '.'", name);
	return 0;
}

/* ---- inode numbers ---- */

bool hub_is(uint64_t ino)
{
	return ino >= INO_HUB && ino < INO_HASHED;
}

static uint64_t version_ino(uint64_t sequence, enum kind kind)
{
	return INO_HUB_VERSION + N_KINDS * sequence + kind;
}

static struct wfs_model *model_of(struct fs *fs, uint64_t ino)
{
	return wfs_replica_find(fs->replica, (ino - INO_HUB_VERSION) / N_KINDS);
}

static enum kind kind_of(uint64_t ino)
{
	return (ino - INO_HUB_VERSION) % N_KINDS;
}

static void commit_of(char out[COMMIT_LEN + 1], const struct wfs_model *m)
{
	snprintf(out, COMMIT_LEN + 1, "%.40s", wfs_hex(wfs_model_id(m)).s);
}

/* ---- attributes and links ---- */

static int target(char *out, size_t cap, const struct wfs_model *m, const char *before)
{
	return snprintf(out, cap, "%s%" PRIu64, before, wfs_model_version(m)->sequence);
}

static int stat_main(struct stat *st, fuse_req_t req)
{
	struct fs *fs = fs_of(req);
	struct wfs_model *m = bind_latest(fs->bind, caller(req));
	char text[32];

	if (!m)
		return -ENOENT;
	ops_fill(st, fs, INO_HUB_MAIN, S_IFLNK | 0777, 1, (uint64_t)target(text, sizeof(text), m, ""),
		 wfs_model_version(m)->time_ns);
	wfs_model_put(m);
	return 0;
}

static int stat_version(struct stat *st, struct fs *fs, uint64_t ino)
{
	struct wfs_model *m = model_of(fs, ino);
	char text[64];

	if (!m)
		return -ESTALE;
	if (kind_of(ino) == REF)
		ops_fill(st, fs, ino, S_IFREG | 0444, 1, COMMIT_LEN, wfs_model_version(m)->time_ns);
	else
		ops_fill(st, fs, ino, S_IFLNK | 0777, 1, (uint64_t)target(text, sizeof(text), m, "../../../versions/"),
			 wfs_model_version(m)->time_ns);
	wfs_model_put(m);
	return 0;
}

int hub_stat(struct stat *st, fuse_req_t req, uint64_t ino)
{
	struct fs *fs = fs_of(req);

	if (ino == INO_HUB_MAIN)
		return stat_main(st, req);
	if (ino >= INO_HUB_VERSION)
		return stat_version(st, fs, ino);
	ops_fill(st, fs, ino, S_IFDIR | 0555, ino == INO_HUB_MODEL ? 4 : ino == INO_HUB && fs->hub_dir[0] ? 3 : 2,
		 BLKSIZE, ops_newest_time(fs));
	return 0;
}

int hub_readlink(char *out, size_t cap, fuse_req_t req, uint64_t ino)
{
	struct fs *fs = fs_of(req);
	bool is_main = ino == INO_HUB_MAIN;
	struct wfs_model *m;

	if (!is_main && (ino < INO_HUB_VERSION || kind_of(ino) != SNAPSHOT))
		return -EINVAL;
	m = is_main ? bind_latest(fs->bind, caller(req)) : model_of(fs, ino);
	if (!m)
		return is_main ? -ENOENT : -ESTALE;
	target(out, cap, m, is_main ? "" : "../../../versions/");
	wfs_model_put(m);
	return 0;
}

/* No newline behind it: the hub's client takes every byte. */
int hub_text(struct wfs_buf *out, struct fs *fs, uint64_t ino)
{
	struct wfs_model *m;
	char commit[COMMIT_LEN + 1];
	int r;

	if (ino < INO_HUB_VERSION || kind_of(ino) != REF)
		return ino < INO_HUB_MAIN ? -EISDIR : -ELOOP;
	m = model_of(fs, ino);
	if (!m)
		return -ESTALE;
	commit_of(commit, m);
	r = wfs_buf_append(out, commit, COMMIT_LEN);
	wfs_model_put(m);
	return r;
}

/* ---- names ---- */

static int lookup_ref(uint64_t *ino, struct fs *fs, const char *name)
{
	struct wfs_model *m;
	uint64_t sequence;

	if (strcmp(name, "main") == 0) {
		*ino = INO_HUB_MAIN;
		return 0;
	}
	if (ops_parse_sequence(&sequence, name) < 0)
		return -ENOENT;
	m = wfs_replica_find(fs->replica, sequence);
	if (!m)
		return -ENOENT;
	*ino = version_ino(sequence, REF);
	wfs_model_put(m);
	return 0;
}

static int lookup_snapshot(uint64_t *ino, struct fs *fs, const char *name)
{
	char commit[COMMIT_LEN + 1];
	uint64_t sequence = 0;
	struct wfs_model *m;

	while ((m = wfs_replica_above(fs->replica, sequence))) {
		sequence = wfs_model_version(m)->sequence;
		commit_of(commit, m);
		wfs_model_put(m);
		if (strcmp(commit, name) != 0)
			continue;
		*ino = version_ino(sequence, SNAPSHOT);
		return 0;
	}
	return -ENOENT;
}

static const struct {
	uint64_t ino;
	const char *name;
} in_model[] = { { INO_HUB_REFS, "refs" }, { INO_HUB_SNAPSHOTS, "snapshots" } };

int hub_lookup(uint64_t *ino, struct fs *fs, uint64_t parent, const char *name)
{
	switch (parent) {
	case INO_HUB:
		*ino = INO_HUB_MODEL;
		return fs->hub_dir[0] && strcmp(name, fs->hub_dir) == 0 ? 0 : -ENOENT;
	case INO_HUB_MODEL:
		for (size_t i = 0; i < ARRAY_SIZE(in_model); i++)
			if (strcmp(name, in_model[i].name) == 0) {
				*ino = in_model[i].ino;
				return 0;
			}
		return -ENOENT;
	case INO_HUB_REFS:
		return lookup_ref(ino, fs, name);
	case INO_HUB_SNAPSHOTS:
		return lookup_snapshot(ino, fs, name);
	default:
		return -ENOTDIR;
	}
}

uint64_t hub_parent(uint64_t dir)
{
	return dir == INO_HUB ? INO_ROOT : dir == INO_HUB_MODEL ? INO_HUB : INO_HUB_MODEL;
}

/* A version's place is its number, as in versions/; main has the first. */
#define MAIN_NEXT 3u

static int list_versions(struct dirbuf *d, uint64_t off, enum kind kind)
{
	struct fs *fs = fs_of(d->req);
	uint64_t sequence = off > MAIN_NEXT ? off - MAIN_NEXT : 0;
	char name[COMMIT_LEN + 1];
	struct wfs_model *m;
	bool room = true;

	if (kind == REF && off < MAIN_NEXT && ops_n_versions(fs))
		room = dir_add_plain(d, "main", INO_HUB_MAIN, S_IFLNK, MAIN_NEXT);
	while (room && (m = wfs_replica_above(fs->replica, sequence))) {
		sequence = wfs_model_version(m)->sequence;
		if (kind == REF)
			target(name, sizeof(name), m, "");
		else
			commit_of(name, m);
		wfs_model_put(m);
		room = dir_add_plain(d, name, version_ino(sequence, kind), kind == REF ? S_IFREG : S_IFLNK,
				     sequence + MAIN_NEXT);
	}
	return 0;
}

int hub_list(struct dirbuf *d, uint64_t dir, uint64_t off)
{
	struct fs *fs = fs_of(d->req);

	switch (dir) {
	case INO_HUB:
		if (off == 2 && fs->hub_dir[0])
			dir_add_plain(d, fs->hub_dir, INO_HUB_MODEL, S_IFDIR, 3);
		return 0;
	case INO_HUB_MODEL:
		for (size_t i = (size_t)off - 2; i < ARRAY_SIZE(in_model); i++)
			if (!dir_add_plain(d, in_model[i].name, in_model[i].ino, S_IFDIR, i + 3))
				break;
		return 0;
	case INO_HUB_REFS:
		return list_versions(d, off, REF);
	default:
		return list_versions(d, off, SNAPSHOT);
	}
}
