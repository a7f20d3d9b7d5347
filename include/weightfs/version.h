/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.h - the small JSON objects of a store: weightfs-store, commits, versions
 *
 * Format: weightfs-format(5).  Parsers check every rule of the page (names, limits, duplicates,
 * digests); formatters write the canonical bytes that a digest names.
 */
#ifndef WEIGHTFS_VERSION_H
#define WEIGHTFS_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weightfs/buf.h"
#include "weightfs/digest.h"
#include "weightfs/err.h"

#define WFS_FORMAT 1
#define WFS_PARENTS_MAX 8
#define WFS_STRIDES_MAX 4

struct wfs_run {
	char s[33];			/* 32 lower-case hex digits */
};

/* weightfs-store */
int wfs_store_info_parse(struct wfs_run *out, const void *data, size_t len, struct wfs_err *err);
int wfs_store_info_format(struct wfs_buf *out, const struct wfs_run *run);

/* commits/<sequence> and latest: the same bytes */
struct wfs_commit {
	struct wfs_run run;
	uint64_t sequence;		/* 1 .. 2^53-1 */
	struct wfs_digest version;	/* object versions/<digest> */
};
int wfs_commit_parse(struct wfs_commit *out, const void *data, size_t len, struct wfs_err *err);
int wfs_commit_format(struct wfs_buf *out, const struct wfs_commit *c);

/* A way to a version from one that is further back than its parent. */
struct wfs_stride {
	uint64_t back;			/* versions: that many before this one; at least 2 */
	struct wfs_digest id;		/* of a version: object versions/<id> there; of a file: its table
					 * against that version */
	uint64_t travel;		/* of a file: bytes a reader that holds that version fetches for it */
};

struct wfs_file {
	char *path;			/* plain relative name */
	uint64_t size;
	bool whole;			/* stored as object packs/<sha256>; else table */
	bool has_layout, has_anchor, has_plain;
	struct wfs_digest sha256;	/* whole: of the content */
	struct wfs_digest table;	/* names the image */
	struct wfs_digest anchor;	/* a table with every block in full; may be `table` itself */
	struct wfs_digest layout;	/* the shard's header bytes */
	uint64_t travel;		/* bytes a reader one version behind fetches for it */
	uint64_t full;			/* bytes of its newest full copy with the table; 0: not known */
	uint64_t full_back;		/* that many versions back; 0: the anchor here, or not known */
	struct wfs_digest plain;	/* of the content: object packs/<plain>, to which the anchor leads */
	uint64_t cold;			/* bytes a reader that holds nothing fetches for it; 0: not known */
	uint64_t chain;			/* tables it decodes one after another behind a full copy */
	struct wfs_stride strides[WFS_STRIDES_MAX];	/* rising; each is one of the version's */
	unsigned n_strides;
};

struct wfs_version {
	struct wfs_run run;
	uint64_t sequence;
	uint64_t time_ns;		/* since 1970; rises with every version: mtime of its files */
	char *label;			/* may be "" */
	struct wfs_digest parents[WFS_PARENTS_MAX];
	size_t n_parents;
	struct wfs_stride strides[WFS_STRIDES_MAX];	/* rising */
	unsigned n_strides;
	struct wfs_file *files;		/* sorted by path, unique */
	size_t n_files;
};

/* The result owns its memory: wfs_version_free.  On error *out is empty. */
int wfs_version_parse(struct wfs_version *out, const void *data, size_t len, struct wfs_err *err);
int wfs_version_format(struct wfs_buf *out, const struct wfs_version *v);
void wfs_version_free(struct wfs_version *v);
const struct wfs_file *wfs_version_find(const struct wfs_version *v, const char *path);	/* NULL */
const struct wfs_stride *wfs_stride_find(const struct wfs_stride *list, unsigned n, uint64_t back); /* NULL */

/* A plain relative name that may be shown in a directory (rules: weightfs-format(5), "Names").
 * 0 or -EBADMSG with the rule it breaks. */
int wfs_name_check(const char *path, struct wfs_err *err);
/* Code or a pickle by its name (*.py, *.pkl, ...): published, but shown only when asked for. */
bool wfs_name_is_code(const char *path);
bool wfs_name_is_index(const char *path);	/* *.safetensors.index.json */
bool wfs_name_is_shard(const char *path);	/* *.safetensors */

/* Check an index file at `path` against the version: every weight_map entry names a shard of the
 * same directory in v.  -EBADMSG names the entry. */
int wfs_index_check(const struct wfs_version *v, const char *path, const void *data, size_t len,
		    struct wfs_err *err);

/* Names of objects in a store, into a buffer of WFS_OBJECT_NAME bytes. */
#define WFS_OBJECT_NAME 96
void wfs_object_name(char out[WFS_OBJECT_NAME], const char *kind, const struct wfs_digest *id);
void wfs_commit_name(char out[WFS_OBJECT_NAME], uint64_t sequence);

#endif
