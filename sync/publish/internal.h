/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the nouns of a publish
 *
 *   scan      which files of a directory are content, and that they stay as they were   scan.c
 *   check     is it a sound model?                                                       check.c
 *   pieces    which bytes have their counterpart where in the parent                      pieces.c
 *   encode    one file: blocks, packs, table                                             encode.c
 *   anchor    when a version is stored in full too                                       anchor.c
 *   strides   deltas from further back                                                   strides.c undo.c
 *   publish   the steps                                                                  publish.c
 */
#ifndef WFS_PUBLISH_INTERNAL_H
#define WFS_PUBLISH_INTERNAL_H

#include <sys/stat.h>

#include "weightfs/draft.h"
#include "weightfs/publish.h"
#include "weightfs/safetensors.h"
#include "weightfs/table.h"
#include "weightfs/version.h"

struct wfs_input {
	char *path;				/* relative, checked */
	int fd;
	struct stat st;				/* at the first look */
	struct wfs_safetensors *header;		/* shards only */
	uint8_t *head;				/* their first head_len bytes */
	uint64_t head_len;
};

struct wfs_inputs {
	int dir;
	struct wfs_input *v;			/* sorted by path */
	size_t n;
};

int wfs_scan(struct wfs_inputs *out, const char *dir, const struct wfs_publish_opts *o, struct wfs_err *err);
/* Is the directory still what it was at the first look?  -EBUSY names what changed. */
int wfs_scan_again(const struct wfs_inputs *in, const char *dir, const struct wfs_publish_opts *o,
		   struct wfs_err *err);
void wfs_inputs_free(struct wfs_inputs *in);

/* Open headers, compare sizes and index files.  -EBUSY: looks unfinished; -EBADMSG: not sound. */
int wfs_check_inputs(struct wfs_inputs *in, struct wfs_err *err);
bool wfs_input_is_whole(const struct wfs_input *in);

/* The parent version while its successor is made. */
struct wfs_parent {
	struct wfs_model *model;		/* NULL: first version */
	const struct wfs_version *v;
	struct wfs_safetensors **headers;	/* per file, opened at need */
};

int wfs_parent_header(struct wfs_parent *p, size_t i, struct wfs_safetensors **out, struct wfs_err *err);
void wfs_parent_free(struct wfs_parent *p);

struct wfs_pieces {
	struct wfs_piece *v;
	size_t n, cap;
	struct wfs_base *bases;			/* with the parent's file index in base_file */
	size_t *base_file;
	uint32_t n_bases;
};

int wfs_pieces_make(struct wfs_pieces *out, const struct wfs_input *in, struct wfs_parent *parent,
		    struct wfs_err *err);
void wfs_pieces_free(struct wfs_pieces *p);

/* One file on its way into the store. */
struct wfs_encode {
	struct wfs_store *store;
	struct wfs_replica *replica;		/* takes the draft; NULL: no image is kept */
	struct wfs_parent *parent;
	const struct wfs_input *in;
	const struct wfs_pieces *pieces;	/* without bases: in full */
	bool plain;				/* without bases: the pack is the file */
	uint64_t limit;				/* -EDQUOT when that many bytes would be stored; 0: none */
	struct wfs_model *from;			/* read this version's file instead of the input's */
	size_t from_file;
	struct wfs_undo *undo;			/* takes the stored bytes instead of the store */
	unsigned workers;
	const struct wfs_progress *progress;
	uint64_t done_before, total;		/* for progress */
	/* results */
	struct wfs_buf table;
	uint64_t stored, changed;
	bool all_same;
	bool based;				/* some block needs a base */
	struct wfs_digest pack;			/* the last one */
	struct wfs_draft *draft;
};

int wfs_encode_file(struct wfs_encode *e, struct wfs_err *err);

/* models/<sequence>, when every file of v is a plain object. */
int wfs_publish_list(struct wfs_store *store, const struct wfs_version *v, uint64_t sequence, struct wfs_err *err);

/* Deltas from further back, and what the next ones will need. */
struct wfs_strider {
	struct wfs_store *store;
	struct wfs_replica *replica;
	const struct wfs_inputs *in;
	struct wfs_version *v;			/* the version being made */
	const uint64_t *backs;			/* rising, each divides the next */
	unsigned n_backs;
	unsigned workers;
	const struct wfs_progress *progress;
	uint64_t bytes;				/* added to the store */
	struct wfs_version *past;		/* [i]: i versions back; [0]: v's shallow copy */
	size_t n_past;
};

/* Before the version is written: its strides, where they pay.  Only a lack of what they need is no failure. */
int wfs_strides_add(struct wfs_strider *s, struct wfs_err *err);
/* After the commit: m is the new version, parent the one before, still in the cache. */
int wfs_strides_prepare(struct wfs_strider *s, struct wfs_model *m, struct wfs_model *parent, struct wfs_err *err);
void wfs_strides_free(struct wfs_strider *s);
/* s->past[0 .. back] are there. */
int wfs_strides_past(struct wfs_strider *s, size_t back, struct wfs_err *err);

/* What the file costs a reader that holds nothing, and how many tables it decodes one after another, as long
 * as there is no anchor; `based`: the file's table needs its bases, files of the parent. */
void wfs_anchor_account(struct wfs_file *f, bool based, const struct wfs_version *parent, const size_t *base_file,
			uint32_t n_bases);
/* The newest full copy of a file that has none here is the parent's, or the one that this names; `old`: the
 * parent's file, or NULL. */
void wfs_anchor_inherit(struct wfs_file *f, const struct wfs_file *old);
/* What the strides from `past` save a reader that holds nothing. */
void wfs_anchor_stride(struct wfs_version *v, uint64_t back, const struct wfs_version *past);
/* limit: in thousandths of a full copy. */
bool wfs_anchor_is_due(const struct wfs_version *v, unsigned limit);

#endif
