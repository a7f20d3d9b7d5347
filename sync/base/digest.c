/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.c - digests as text, and XXH3 (the only user of xxhash)
 */
#include "weightfs/digest.h"

#include <errno.h>
#include <string.h>
#ifdef WFS_HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>	/* XXH3 with the widest vectors that this processor has */
#else
#include <xxhash.h>
#endif

struct wfs_hex wfs_hex(const struct wfs_digest *d)
{
	static const char digits[] = "0123456789abcdef";
	struct wfs_hex hex;

	for (size_t i = 0; i < sizeof(d->b); i++) {
		hex.s[2 * i] = digits[d->b[i] >> 4];
		hex.s[2 * i + 1] = digits[d->b[i] & 15];
	}
	hex.s[2 * sizeof(d->b)] = '\0';
	return hex;
}

/* Upper case is refused: a digest names a file, so it has one spelling. */
static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int wfs_digest_parse(struct wfs_digest *out, const char *hex, size_t len)
{
	struct wfs_digest d;

	if (len != 2 * sizeof(d.b))
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(d.b); i++) {
		int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EBADMSG;
		d.b[i] = (uint8_t)(high << 4 | low);
	}
	*out = d;
	return 0;
}

bool wfs_digest_equal(const struct wfs_digest *a, const struct wfs_digest *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool wfs_digest_is_zero(const struct wfs_digest *d)
{
	static const struct wfs_digest zero;

	return wfs_digest_equal(d, &zero);
}

uint64_t wfs_xxh3(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}
