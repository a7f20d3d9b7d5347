/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - scope-bound cleanup and small helpers used by every module
 */
#ifndef WEIGHTFS_BASE_H
#define WEIGHTFS_BASE_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t wfs_get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t wfs_get64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void wfs_put16(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void wfs_put32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void wfs_put64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

#endif
