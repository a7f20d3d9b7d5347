/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.c - a growing byte buffer that owns its memory
 *
 * reserve allocates what it is told, because callers know sizes of many megabytes exactly;
 * append and printf grow by half.
 */
#include "weightfs/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weightfs/base.h"

void wfs_buf_free(struct wfs_buf *b)
{
	free(b->data);
	*b = (struct wfs_buf)WFS_BUF_INIT;
}

struct wfs_buf wfs_buf_take(struct wfs_buf *b)
{
	struct wfs_buf moved = *b;

	*b = (struct wfs_buf)WFS_BUF_INIT;
	return moved;
}

int wfs_buf_reserve(struct wfs_buf *b, size_t cap)
{
	uint8_t *data;

	if (cap <= b->cap)
		return 0;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

/* Room for len bytes more. */
static int grow(struct wfs_buf *b, size_t len)
{
	size_t need;

	if (__builtin_add_overflow(b->len, len, &need))
		return -ENOMEM;
	if (need <= b->cap)
		return 0;
	return wfs_buf_reserve(b, WFS_MAX(need, WFS_MAX(b->cap + b->cap / 2, (size_t)64)));
}

int wfs_buf_append(struct wfs_buf *b, const void *data, size_t len)
{
	int r = grow(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

int wfs_buf_printf(struct wfs_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n, r;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	r = n < 0 ? -EINVAL : grow(b, (size_t)n + 1);
	if (r == 0) {
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
	return r;
}
