/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h - a growing byte buffer that owns its memory
 */
#ifndef WEIGHTFS_BUF_H
#define WEIGHTFS_BUF_H

#include <stddef.h>
#include <stdint.h>

struct wfs_buf {
	uint8_t *data;
	size_t len, cap;
};

#define WFS_BUF_INIT { NULL, 0, 0 }

void wfs_buf_free(struct wfs_buf *b);			/* leaves it empty and usable */
struct wfs_buf wfs_buf_take(struct wfs_buf *b);		/* moves the memory out */

/* Room for cap bytes in all; -ENOMEM. */
int wfs_buf_reserve(struct wfs_buf *b, size_t cap);
int wfs_buf_append(struct wfs_buf *b, const void *data, size_t len);

/* Formatted text without its NUL counted; the data stays NUL-terminated behind len. */
__attribute__((format(printf, 2, 3)))
int wfs_buf_printf(struct wfs_buf *b, const char *fmt, ...);

#endif
