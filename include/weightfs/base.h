/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - scope-bound cleanup and small helpers used by every module
 */
#ifndef WEIGHTFS_BASE_H
#define WEIGHTFS_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;  freed when the scope ends */
#define WFS_AUTO(fn) __attribute__((cleanup(fn)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define WFS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define WFS_MAX(a, b) ((a) > (b) ? (a) : (b))

/* For WFS_AUTO on a plain descriptor (initialise with -1) and on malloc'ed memory. */
static inline void wfs_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void wfs_free_ptr(void *p)
{
	free(*(void **)p);
}

/* Monotonic clock (it does not stop for clock steps), and wall clock, in nanoseconds. */
uint64_t wfs_now_ns(void);
uint64_t wfs_wall_ns(void);

/* Little-endian fields of on-disk formats; p need not be aligned. */
static inline uint16_t wfs_get16(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t wfs_get32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t wfs_get64(const void *p)
{
	return (uint64_t)wfs_get32(p) | (uint64_t)wfs_get32((const uint8_t *)p + 4) << 32;
}

static inline void wfs_put16(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void wfs_put32(void *p, uint32_t v)
{
	wfs_put16(p, (uint16_t)v);
	wfs_put16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}

static inline void wfs_put64(void *p, uint64_t v)
{
	wfs_put32(p, (uint32_t)v);
	wfs_put32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

#endif
