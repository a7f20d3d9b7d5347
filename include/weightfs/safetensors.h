/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.h - the header of a shard: which bytes are which tensor
 *
 * Format: huggingface/safetensors, README "Format".  Our rules are those of its reference
 * reader: header <= 100 MB, no holes, no overlaps, sizes that fit dtype and shape, no bytes
 * behind the last tensor.  Duplicate names are refused.  An open header never changes, so
 * threads may share it.
 */
#ifndef WEIGHTFS_SAFETENSORS_H
#define WEIGHTFS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "weightfs/err.h"

/* Values are written in tables: never renumber (weightfs-format(5), "Element types"). */
enum wfs_dtype {
	WFS_DT_BYTES = 0,		/* not a tensor: plain bytes */
	WFS_DT_BOOL = 1, WFS_DT_U8 = 2, WFS_DT_I8 = 3,
	WFS_DT_F8_E4M3 = 4, WFS_DT_F8_E5M2 = 5, WFS_DT_F8_E8M0 = 6,
	WFS_DT_F8_E4M3FNUZ = 7, WFS_DT_F8_E5M2FNUZ = 8,
	WFS_DT_F4 = 9, WFS_DT_F6_E2M3 = 10, WFS_DT_F6_E3M2 = 11,	/* packed bits */
	WFS_DT_I16 = 12, WFS_DT_U16 = 13, WFS_DT_F16 = 14, WFS_DT_BF16 = 15,
	WFS_DT_I32 = 16, WFS_DT_U32 = 17, WFS_DT_F32 = 18,
	WFS_DT_I64 = 19, WFS_DT_U64 = 20, WFS_DT_F64 = 21, WFS_DT_C64 = 22,
	WFS_DT_COUNT
};

const char *wfs_dtype_name(unsigned dtype);		/* "BF16"; "?" when unknown */
unsigned wfs_dtype_bits(unsigned dtype);		/* of one element */
/* Width in bytes of the unit that a delta compares: 1, 2, 4 or 8 (packed types: 1, C64: 4). */
unsigned wfs_dtype_width(unsigned dtype);

struct wfs_tensor {
	const char *name;
	uint64_t begin, end;		/* byte offsets in the *file* */
	const uint64_t *shape;
	uint32_t n_dims;
	uint8_t dtype;
};

struct wfs_safetensors;

/* Length of the header in the file, prefix included, from its first 8 bytes;
 * -EBADMSG when it is over WFS_HEADER_MAX or does not fit file_size. */
int wfs_safetensors_header_len(uint64_t *out, const uint8_t prefix[8], uint64_t file_size,
			       struct wfs_err *err);

/* head: the first bytes of the file, prefix and JSON, exactly the length above.  Copies what
 * it keeps.  -EBADMSG, -ENOMEM. */
int wfs_safetensors_open(struct wfs_safetensors **out, const void *head, size_t head_len,
			 uint64_t file_size, struct wfs_err *err);
void wfs_safetensors_close(struct wfs_safetensors *st);

size_t wfs_safetensors_count(const struct wfs_safetensors *st);
/* i-th tensor in file order; lives in st. */
const struct wfs_tensor *wfs_safetensors_at(const struct wfs_safetensors *st, size_t i);
const struct wfs_tensor *wfs_safetensors_find(const struct wfs_safetensors *st, const char *name); /* NULL */
uint64_t wfs_safetensors_data(const struct wfs_safetensors *st);	/* where tensor data begins */

/* Index file (model.safetensors.index.json): calls fn for each weight_map entry.
 * -EBADMSG when it is not an object with a weight_map of strings. */
typedef int wfs_index_fn(void *arg, const char *tensor, const char *file, struct wfs_err *err);
int wfs_index_parse(const void *data, size_t len, wfs_index_fn *fn, void *arg, struct wfs_err *err);

#endif
