/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_dense.h - codec delta2: changes as tokens, which encoder and decoder share
 *
 * A folded change below 16 is its own token; a longer one gives its length and the two bits below
 * the leading one to the token, and the others are stored as they are.
 */
#ifndef FORMAT_DELTA2_DENSE_H
#define FORMAT_DELTA2_DENSE_H

#include "format/delta2.h"

#define TOKENS		256
#define TOKEN_PLAIN	16		/* tokens below are changes */
#define FREQ_BITS	12
#define FREQ_SUM	(1u << FREQ_BITS)
#define LANES		32
#define STATE_MIN	(1u << 16)

#define DENSE_HEADER_LEN (WFS_D2_WINDOW_LEN + 2 + 4)
/* Of all classes' frequencies: a count, then 2 bytes at most each. */
#define FREQS_LEN_MAX	(WFS_D2_CLASSES * (2 + 2 * TOKENS))
#define FREQ_LONG	224		/* 224 + high byte, low byte */

static inline unsigned wfs_d2_token(uint64_t z)
{
	unsigned len = 63 - (unsigned)__builtin_clzll(z | TOKEN_PLAIN);
	unsigned token = TOKEN_PLAIN + (len - 4) * 4 + (z >> (len - 2) & 3);

	return z < TOKEN_PLAIN ? (unsigned)z : token;
}

#define PLAIN_MASK	0xf0f0f0f0f0f0f0f0ull	/* & 8 tokens, one a byte: those that are changes have 0 there */

/* Bits of a change that its token leaves open. */
static inline unsigned wfs_d2_token_bits(unsigned token)
{
	return token < TOKEN_PLAIN ? 0 : 2 + (token - TOKEN_PLAIN) / 4;
}

static inline uint64_t wfs_d2_token_base(unsigned token)
{
	return (uint64_t)(4 + (token - TOKEN_PLAIN) % 4) << wfs_d2_token_bits(token);
}

/* Bits of changes, lowest first. */
struct wfs_d2_bits {
	const uint8_t *data;
	uint64_t at, len;		/* in bits; at > len: they came to an end */
};

static inline uint64_t wfs_d2_bits_left(const struct wfs_d2_bits *b)
{
	return b->at < b->len ? b->len - b->at : 0;
}

#define PEEK_BITS	57		/* what one look is good for, where so many and PEEK_SPARE more are left */
#define PEEK_SPARE	64

/* One slot of a class's table: frequency - 1, offset in the token's slots, token. */
#define SLOT(freq, off, token) (((freq) - 1) | (uint32_t)(off) << FREQ_BITS | (uint32_t)(token) << 2 * FREQ_BITS)

/* Replaces the first classes by tokens, as far as this processor can do better than the portable
 * loop; returns how many.  Never looks at words behind `end`. */
uint32_t wfs_d2_tokens_fast(uint8_t *classes, uint32_t n, const uint32_t *slots, uint32_t state[LANES],
			    const uint8_t **words, const uint8_t *end);

/* Applies the changes of the first units, as far as this processor can do better; returns how many. */
uint32_t wfs_d2_apply_fast(uint8_t *units, unsigned width, const uint8_t *tokens, uint32_t n, struct wfs_d2_bits *b);

/* How a token of a class is coded: frequency - 1, start of its slots. */
#define CODE(freq, start) (((freq) - 1) | (uint32_t)(start) << FREQ_BITS)
#define WORDS_SPARE 16			/* bytes before the words that may be written to */

/* The tokens of the first units, as far as this processor can do better; returns how many. */
uint32_t wfs_d2_make_tokens_fast(uint8_t *tokens, const struct wfs_d2_units *u);
/* Codes n tokens, a multiple of LANES, from the last to the first; words go before *at.  codes: of
 * TOKENS tokens a class.  False: this processor cannot do better. */
bool wfs_d2_put_tokens_fast(uint8_t **at, const uint8_t *classes, const uint8_t *tokens, uint32_t n,
			    const uint32_t *codes, uint32_t state[LANES]);

#endif
