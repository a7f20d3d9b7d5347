/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h - SHA-256 for what crosses a network, XXH3-64 for what we built or cached
 *
 * sync/base/crypto.c is the only user of libcrypto, sync/base/digest.c of xxhash.
 */
#ifndef WEIGHTFS_DIGEST_H
#define WEIGHTFS_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wfs_digest {
	uint8_t b[32];
};

struct wfs_hex {
	char s[65];
};

struct wfs_hex wfs_hex(const struct wfs_digest *d);	/* 64 lower-case digits and NUL */
/* Exactly 64 lower-case hex digits; -EBADMSG otherwise, no message. */
int wfs_digest_parse(struct wfs_digest *out, const char *hex, size_t len);
bool wfs_digest_equal(const struct wfs_digest *a, const struct wfs_digest *b);
bool wfs_digest_is_zero(const struct wfs_digest *d);

void wfs_sha256(struct wfs_digest *out, const void *data, size_t len);

struct wfs_sha256;					/* one thread at a time */
struct wfs_sha256 *wfs_sha256_new(void);		/* NULL: out of memory */
void wfs_sha256_update(struct wfs_sha256 *s, const void *data, size_t len);
void wfs_sha256_final(struct wfs_sha256 *s, struct wfs_digest *out);	/* and starts afresh */
void wfs_sha256_free(struct wfs_sha256 *s);

uint64_t wfs_xxh3(const void *data, size_t len);

/* len random bytes from the system; run ids. */
int wfs_random(void *out, size_t len);

#endif
