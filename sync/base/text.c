/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.c - foreign text made fit for one line, and UTF-8
 *
 * A backslash is copied as it is, so that a message may pass here once for every wrap.
 */
#include "base/text.h"

#include <stdint.h>
#include <string.h>

static const char ellipsis[] = "...";

static size_t sequence_len(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead < 0xe0)
		return 2;
	if (lead >= 0xe0 && lead < 0xf0)
		return 3;
	return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

size_t wfs_utf8_len(const char *s, size_t n)
{
	const uint8_t *b = (const uint8_t *)s;
	size_t len = n ? sequence_len(b[0]) : 0;

	if (len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, past U+10FFFF */
	if ((b[0] == 0xe0 && len && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
	    (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
		return 0;
	return len;
}

/* C1 controls count too: some terminals obey them. */
static int is_control(const char *s, size_t len)
{
	uint8_t a = (uint8_t)s[0];

	if (len == 1)
		return a < 0x20 || a == 0x7f;
	return a == 0xc2 && (uint8_t)s[1] < 0xa0;
}

static size_t escape_one(char piece[4], const char *s, size_t *used)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = wfs_utf8_len(s, strnlen(s, 4));

	if (len && !is_control(s, len)) {
		memcpy(piece, s, len);
		*used = len;
		return len;
	}
	piece[0] = '\\';
	piece[1] = 'x';
	piece[2] = hex[(uint8_t)*s >> 4];
	piece[3] = hex[(uint8_t)*s & 15];
	*used = 1;
	return 4;
}

void wfs_escape(char *out, size_t size, const char *text)
{
	size_t pos = 0, keep = 0;	/* keep: where the ellipsis would still fit */

	while (*text) {
		char piece[4];
		size_t used, len = escape_one(piece, text, &used);

		if (pos + len >= size) {
			memcpy(out + keep, ellipsis, sizeof(ellipsis));
			return;
		}
		memcpy(out + pos, piece, len);
		pos += len;
		text += used;
		if (pos + sizeof(ellipsis) <= size)
			keep = pos;
	}
	out[pos] = '\0';
}
