/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_dense_enc.c - codec delta2: encode many changes
 */
#include <errno.h>
#include <string.h>

#include "format/delta2_dense.h"

/* How a token is coded: x / freq by a multiplication, exact for every state. */
struct symbol {
	uint64_t inverse;
	uint16_t bias, freq, rest;	/* rest: FREQ_SUM - freq */
};

struct dense {
	const struct wfs_d2_units *u;
	struct wfs_d2_window window;
	uint8_t *classes, *tokens;
	uint32_t counts[WFS_D2_CLASSES][TOKENS];
	struct symbol symbols[WFS_D2_CLASSES][TOKENS];
	uint32_t codes[WFS_D2_CLASSES * TOKENS];	/* the same for the fast path */
};

static inline __attribute__((always_inline))
void tokens_of(struct dense *d, uint32_t i, unsigned width, unsigned bits)
{
	const struct wfs_d2_units *u = d->u;

	for (; i < u->n; i++)
		d->tokens[i] = (uint8_t)wfs_d2_token(wfs_d2_fold(wfs_d2_load(u->old, i, width),
								 wfs_d2_load(u->new, i, width), bits));
}

/* The same for changes that a float holds to the bit: the token is its exponent and the two bits below.  This and
 * the next loop become vectors. */
static inline __attribute__((always_inline))
void tokens_of_few_bits(uint8_t *restrict tokens, const struct wfs_d2_units *u, uint32_t i, unsigned width)
{
	const uint8_t *restrict old = u->old, *restrict new = u->new;
	const uint32_t n = u->n;

	for (; i < n; i++) {
		uint16_t d = (uint16_t)(wfs_d2_load(new, i, width) - wfs_d2_load(old, i, width));
		int32_t change = width == 1 ? (int8_t)d : (int16_t)d, z = change * 2 ^ change >> 31;
		float f = (float)z;
		uint32_t bits, plain = 0 - (uint32_t)(z < TOKEN_PLAIN);

		memcpy(&bits, &f, sizeof(bits));
		bits = (bits >> 21) - ((127 + 4) * 4 - TOKEN_PLAIN);
		tokens[i] = (uint8_t)(((uint32_t)z & plain) | (bits & ~plain));
	}
}

/* Folded changes of 4 bits are tokens; in bytes. */
static void tokens_of_4bit(uint8_t *restrict tokens, const uint8_t *restrict old, const uint8_t *restrict new, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint8_t d = (uint8_t)(new[i] - old[i]) & 0xf;

		tokens[i] = (uint8_t)(d < 8 ? 2 * d : 31 - 2 * d);
	}
}

/* Several counters a token, since the same one comes again before an increment is done.  Rows of a power of two
 * would meet in a few places of the cache. */
#define PARTS	4
#define ROW	(TOKENS + 16)

static int count_tokens(struct dense *d)
{
	WFS_AUTO(wfs_free_ptr) uint32_t *cells = calloc(PARTS * WFS_D2_CLASSES * ROW, sizeof(*cells));
	uint32_t *part[PARTS], i = 0;

	if (!cells)
		return -ENOMEM;
	for (unsigned k = 0; k < PARTS; k++)
		part[k] = cells + k * WFS_D2_CLASSES * ROW;
	for (; i + PARTS <= d->u->n; i += PARTS)
		for (unsigned k = 0; k < PARTS; k++)
			part[k][(unsigned)d->classes[i + k] * ROW + d->tokens[i + k]]++;
	for (; i < d->u->n; i++)
		part[0][(unsigned)d->classes[i] * ROW + d->tokens[i]]++;
	for (unsigned c = 0; c < d->window.n; c++)
		for (unsigned t = 0; t < TOKENS; t++)
			for (unsigned k = 0; k < PARTS; k++)
				d->counts[c][t] += part[k][c * ROW + t];
	return 0;
}

/* To a sum of FREQ_SUM, at least 1 where there was any; what is over or missing falls to the largest. */
static void normalise(uint32_t counts[TOKENS])
{
	uint32_t total = 0, sum = 0;

	for (unsigned t = 0; t < TOKENS; t++)
		total += counts[t];
	if (total == 0)
		return;
	for (unsigned t = 0; t < TOKENS; t++) {
		if (counts[t] > 0)
			counts[t] = WFS_MAX((uint32_t)(((uint64_t)counts[t] * FREQ_SUM + total / 2) / total), 1u);
		sum += counts[t];
	}
	while (sum != FREQ_SUM) {
		unsigned most = 0;
		uint32_t cut;

		for (unsigned t = 1; t < TOKENS; t++)
			if (counts[t] > counts[most])
				most = t;
		cut = sum > FREQ_SUM ? WFS_MIN(sum - FREQ_SUM, counts[most] / 8 + 1) : sum - FREQ_SUM;
		counts[most] -= cut;		/* modulo 2^32: adds what is missing */
		sum -= cut;
	}
}

static size_t put_freqs(uint8_t *out, const struct dense *d)
{
	uint8_t *at = out;

	for (unsigned c = 0; c < d->window.n; c++) {
		unsigned n = TOKENS;

		while (n > 0 && d->counts[c][n - 1] == 0)
			n--;
		wfs_put16(at, (uint16_t)n);
		at += 2;
		for (unsigned t = 0; t < n; t++) {
			uint32_t f = d->counts[c][t];

			if (f >= FREQ_LONG)
				*at++ = (uint8_t)(FREQ_LONG + (f >> 8));
			*at++ = (uint8_t)f;
		}
	}
	return (size_t)(at - out);
}

static void make_symbols(struct dense *d)
{
	for (unsigned c = 0; c < d->window.n; c++)
		for (uint32_t t = 0, start = 0; t < TOKENS; t++) {
			uint16_t f = (uint16_t)d->counts[c][t], rest = (uint16_t)(FREQ_SUM - f), bias = (uint16_t)start;

			if (f == 1)
				d->symbols[c][t] = (struct symbol){ ~0ull, (uint16_t)(bias + rest), f, rest };
			else if (f > 1)
				d->symbols[c][t] = (struct symbol){ ~0ull / f + 1, bias, f, rest };
			if (f > 0)
				d->codes[c * TOKENS + t] = CODE(f, start);
			start += f;
		}
}

/* A word is written always, and kept if the state is too large. */
static inline uint8_t *put_token(const struct symbol *s, uint32_t *state, uint8_t *at)
{
	uint32_t x = *state, q;
	unsigned more = x >> (32 - FREQ_BITS) >= s->freq;

	wfs_put16(at - 2, (uint16_t)x);
	at -= 2 * more;
	x = more ? x >> 16 : x;
	q = (uint32_t)((unsigned __int128)x * s->inverse >> 64);
	*state = x + s->bias + q * s->rest;
	return at;
}

static uint8_t *put_tokens(const struct dense *d, uint32_t state[LANES], uint8_t *at)
{
	const uint8_t *classes = d->classes, *tokens = d->tokens;
	uint32_t i = d->u->n;

	for (; i % LANES; i--)
		at = put_token(&d->symbols[classes[i - 1]][tokens[i - 1]], &state[(i - 1) % LANES], at);
	if (!wfs_d2_portable && wfs_d2_put_tokens_fast(&at, classes, tokens, i, d->codes, state))
		return at;
	for (; i > 0; i -= LANES)
#pragma GCC unroll 8
		for (unsigned k = 0; k < LANES; k++)
			at = put_token(&d->symbols[classes[i - 1 - k]][tokens[i - 1 - k]], &state[LANES - 1 - k], at);
	return at;
}

/* Bits gather in acc until there are bytes of them. */
struct bit_writer {
	uint8_t *at;			/* 8 bytes are written from here */
	uint64_t acc;
	unsigned have;			/* below 8 */
};

#define WRITE_BITS 56			/* at once, at most */

static inline void add_bits(struct bit_writer *w, uint64_t v, unsigned n)
{
	w->acc |= (v & ((1ull << n) - 1)) << w->have;
	w->have += n;
}

static inline void write_bits(struct bit_writer *w)
{
	wfs_put64(w->at, w->acc);
	w->at += w->have / 8;
	w->acc >>= w->have & ~7u;
	w->have %= 8;
}

/* A folded change with more above its bits, which is as good where only low ones are looked at. */
static inline uint64_t fold_low(uint64_t old, uint64_t new, unsigned bits)
{
	unsigned unused = 64 - bits;
	int64_t d = (int64_t)((new - old) << unused) >> unused;

	return (uint64_t)d << 1 ^ (uint64_t)(d >> 63);
}

#define AT_ONCE	4		/* changes of 16 bits, of which 13 at most are left open */

/* What tokens leave open of n units' changes.  Of those that are changes it is nothing, which is not asked for. */
static inline __attribute__((always_inline))
void put_low(struct bit_writer *w, const struct wfs_d2_units *u, const uint8_t *tokens, const uint8_t n_bits[TOKENS],
	     uint32_t i, uint32_t n, unsigned width, unsigned bits)
{
	const uint8_t *old = u->old, *new = u->new;

#pragma GCC unroll 8
	for (uint32_t k = 0; k < n; k++) {
		uint64_t z = fold_low(wfs_d2_load(old, i + k, width), wfs_d2_load(new, i + k, width), bits);
		unsigned open = n_bits[tokens[i + k]], first = bits == 64 ? WFS_MIN(open, (unsigned)WRITE_BITS) : open;

		add_bits(w, z, first);
		if (bits > 16 || k % AT_ONCE == AT_ONCE - 1)
			write_bits(w);
		if (bits == 64 && open > first) {
			add_bits(w, z >> first, open - first);
			write_bits(w);
		}
	}
	write_bits(w);
}

static inline __attribute__((always_inline))
uint8_t *put_bits(const struct dense *d, uint8_t *at, unsigned width, unsigned bits)
{
	struct bit_writer w = { .at = at };
	uint8_t n_bits[TOKENS];
	uint32_t i = 0;

	for (unsigned t = 0; t < TOKENS; t++)
		n_bits[t] = (uint8_t)wfs_d2_token_bits(t);
	for (; i + 8 <= d->u->n; i += 8)
		if (wfs_get64(d->tokens + i) & PLAIN_MASK)
			put_low(&w, d->u, d->tokens, n_bits, i, 8, width, bits);
	put_low(&w, d->u, d->tokens, n_bits, i, d->u->n - i, width, bits);
	return w.have > 0 ? w.at + 1 : w.at;
}

#define MANY	64		/* units: an exponent that has so many has a class */
#define FIRST	(1u << 14)

static struct wfs_d2_window choose_window(const struct wfs_d2_units *u)
{
	uint32_t cells[WFS_D2_RAW_MAX];
	struct wfs_d2_units first = *u;
	unsigned hi = u->kind->mask, lo = 0;

	/* Where there are no more exponents than classes, the first units mostly show that all are in use. */
	first.n = hi < WFS_D2_CLASSES ? WFS_MIN(u->n, (uint32_t)FIRST) : 0;
	wfs_d2_count(cells, &first);
	if (cells[lo] < MANY || cells[hi] < MANY)
		wfs_d2_count(cells, u);
	while (hi > 0 && cells[hi] < MANY)
		hi--;
	while (lo < hi && cells[lo] < MANY)
		lo++;
	if (hi - lo >= WFS_D2_CLASSES)
		lo = hi - (WFS_D2_CLASSES - 1);
	return (struct wfs_d2_window){ .first = (uint16_t)lo, .n = (uint8_t)(hi - lo + 1) };
}

/* Tokens, and how often each comes in each class; *n_bits: how many bits they leave open. */
static int make_tokens(struct dense *d, uint64_t *n_bits)
{
	uint32_t done = wfs_d2_portable ? 0 : wfs_d2_make_tokens_fast(d->tokens, d->u);

	*n_bits = 0;
	switch (d->u->kind->bits) {
	case 4:	tokens_of_4bit(d->tokens, d->u->old, d->u->new, d->u->n); break;
	case 8:	tokens_of_few_bits(d->tokens, d->u, done, 1); break;
	case 16: tokens_of_few_bits(d->tokens, d->u, done, 2); break;
	case 32: tokens_of(d, done, 4, 32); break;
	default: tokens_of(d, done, 8, 64); break;
	}
	if (count_tokens(d) < 0)
		return -ENOMEM;
	for (unsigned c = 0; c < d->window.n; c++) {
		for (unsigned t = TOKEN_PLAIN; t < TOKENS; t++)
			*n_bits += (uint64_t)d->counts[c][t] * wfs_d2_token_bits(t);
		normalise(d->counts[c]);
	}
	return 0;
}

/* Into out, which has room for everything. */
static void put_all(struct wfs_buf *out, const struct dense *d, uint8_t *words_end)
{
	uint8_t *at = out->data + out->len, *freqs = at + DENSE_HEADER_LEN, *words;
	uint32_t state[LANES];
	size_t freqs_len, words_len;

	for (unsigned i = 0; i < LANES; i++)
		state[i] = STATE_MIN;
	words = put_tokens(d, state, words_end);
	words_len = (size_t)(words_end - words);
	freqs_len = put_freqs(freqs, d);
	wfs_d2_put_window(at, &d->window);
	wfs_put16(at + WFS_D2_WINDOW_LEN, (uint16_t)freqs_len);
	wfs_put32(at + WFS_D2_WINDOW_LEN + 2, (uint32_t)(words_len / 2));
	at = freqs + freqs_len;
	for (unsigned i = 0; i < LANES; i++, at += 4)
		wfs_put32(at, state[i]);
	memcpy(at, words, words_len);
	at += words_len;
	switch (d->u->kind->width) {
	case 1:	at = put_bits(d, at, 1, d->u->kind->bits); break;
	case 2:	at = put_bits(d, at, 2, 16); break;
	case 4:	at = put_bits(d, at, 4, 32); break;
	default: at = put_bits(d, at, 8, 64); break;
	}
	out->len = (size_t)(at - out->data);
}

int wfs_d2_dense_encode(struct wfs_buf *out, const struct wfs_d2_units *u, struct wfs_err *err)
{
	size_t n = u->n, words_max = 2 * n + WORDS_SPARE;
	WFS_AUTO(wfs_free_ptr) struct dense *d = calloc(1, sizeof(*d));
	WFS_AUTO(wfs_free_ptr) uint8_t *bytes = malloc(2 * n + words_max);
	uint64_t n_bits;

	if (!d || !bytes)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %zu tokens", n);
	d->u = u;
	d->window = choose_window(u);
	d->classes = bytes;
	d->tokens = bytes + n;
	wfs_d2_classify(bytes, u, &d->window);
	if (make_tokens(d, &n_bits) < 0)
		return wfs_fail(err, -ENOMEM, "delta2: no memory to count %zu tokens", n);
	make_symbols(d);
	if (wfs_buf_reserve(out, out->len + DENSE_HEADER_LEN + FREQS_LEN_MAX + 4 * LANES + words_max +
			    (size_t)(n_bits / 8) + 8) < 0)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for a block");
	put_all(out, d, bytes + 2 * n + words_max);
	return 0;
}
