/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - every bound that weightfs puts on what it reads, in one place
 *
 * A reader of untrusted bytes names one of these in its error message.  Sizes are in bytes
 * unless the name says otherwise.
 */
#ifndef WEIGHTFS_LIMITS_H
#define WEIGHTFS_LIMITS_H

#define WFS_BLOCK_SHIFT		20
#define WFS_BLOCK_SIZE		(1u << WFS_BLOCK_SHIFT)	/* a block of a file; the last may be short */
#define WFS_CHUNK_SIZE		(64u << 10)		/* a cached image has one local hash for each */
#define WFS_CHUNKS_PER_BLOCK	(WFS_BLOCK_SIZE / WFS_CHUNK_SIZE)
#define WFS_GROUP_MIN		(64u << 10)		/* stored bytes under one SHA-256, at least */

#define WFS_SMALL_FILE_MAX	(1u << 20)		/* up to here a plain file is stored whole */
#define WFS_FILE_MAX		(1ull << 41)		/* one file of a version: 2 TiB */
#define WFS_FILES_MAX		10000u			/* files in a version */
#define WFS_PATH_LEN_MAX	1024u			/* a path inside a version */
#define WFS_NAME_LEN_MAX	255u			/* one component of it */
#define WFS_PATH_DEPTH_MAX	8u			/* components */
#define WFS_LABEL_LEN_MAX	256u

#define WFS_STORE_INFO_MAX	4096u			/* weightfs-store, latest, commits/<n> */
#define WFS_VERSION_MAX		(16u << 20)		/* a version object */
#define WFS_TABLE_MAX		(128u << 20)		/* a table object */
#define WFS_PLAN_TABLES_MAX	(256u << 20)		/* tables held in memory to build one file */
#define WFS_PACK_MAX		(1ull << 40)		/* a pack object */
#define WFS_TABLE_BASES_MAX	65535u
#define WFS_TABLE_PIECES_MAX	(1u << 20)
#define WFS_TABLE_PACKS_MAX	65535u
#define WFS_CHAIN_MAX		256u			/* deltas between a full block and a result */

#define WFS_HEADER_MAX		100000000u		/* safetensors header, as the reference reader */
#define WFS_TENSORS_MAX		1000000u		/* tensors in one shard */
#define WFS_TENSOR_NAME_MAX	4096u
#define WFS_TENSOR_DIMS_MAX	64u

#define WFS_JSON_DEPTH_MAX	16u
#define WFS_JSON_EVENTS_MAX	(64u << 20)		/* values and keys in one document */

#endif
