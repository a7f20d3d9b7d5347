/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_dense.c - codec delta2: decode many changes
 *
 * Tokens come from LANES coders that take turns, so that a processor can work on many at once.
 */
#include <errno.h>

#include "format/delta2_dense.h"

/* One class's frequencies to slots; *at moves behind them. */
static int read_class(uint32_t slots[FREQ_SUM], const uint8_t **at, const uint8_t *end, struct wfs_err *err)
{
	unsigned n, sum = 0;

	if (end - *at < 2)
		return wfs_fail(err, -EBADMSG, "delta2: the frequencies end before the last class");
	n = wfs_get16(*at);
	*at += 2;
	if (n > TOKENS)
		return wfs_fail(err, -EBADMSG, "delta2: frequencies of %u tokens", n);
	for (unsigned t = 0; t < n; t++) {
		unsigned f, len = *at < end && **at >= FREQ_LONG ? 2 : 1;

		if ((size_t)(end - *at) < len)
			return wfs_fail(err, -EBADMSG, "delta2: the frequencies end inside a class");
		f = len == 2 ? (unsigned)((*at)[0] - FREQ_LONG) << 8 | (*at)[1] : **at;
		*at += len;
		if (f > FREQ_SUM - sum)
			return wfs_fail(err, -EBADMSG, "delta2: the frequencies of a class are more than %u", FREQ_SUM);
		for (unsigned k = 0; k < f; k++)
			slots[sum + k] = SLOT(f, k, t);
		sum += f;
	}
	if (sum != (n ? FREQ_SUM : 0))
		return wfs_fail(err, -EBADMSG, "delta2: the frequencies of a class are %u", sum);
	return 0;
}

/* A class that was given none has slots of 0, which are a token 0 and harmless. */
static int read_freqs(uint32_t *slots, const uint8_t *at, const uint8_t *end, unsigned n_classes, struct wfs_err *err)
{
	int r = 0;

	for (unsigned c = 0; c < n_classes && r == 0; c++)
		r = read_class(slots + (c << FREQ_BITS), &at, end, err);
	if (r == 0 && at != end)
		return wfs_fail(err, -EBADMSG, "delta2: %zd bytes of frequencies left over", end - at);
	return r;
}

/* One turn of all coders, where LANES words are left: whether one takes a word is not guessed. */
static inline const uint8_t *read_turn(uint8_t *classes, const uint32_t *slots, uint32_t state[LANES], const uint8_t *words)
{
#pragma GCC unroll 8
	for (unsigned k = 0; k < LANES; k++) {
		uint32_t x = state[k], slot = slots[(uint32_t)classes[k] << FREQ_BITS | (x & (FREQ_SUM - 1))], more;

		x = ((slot & (FREQ_SUM - 1)) + 1) * (x >> FREQ_BITS) + (slot >> FREQ_BITS & (FREQ_SUM - 1));
		more = x < STATE_MIN;
		state[k] = x << 16 * more | (wfs_get16(words) & (0 - more));
		words += 2 * more;
		classes[k] = (uint8_t)(slot >> 2 * FREQ_BITS);
	}
	return words;
}

static const uint8_t *read_tokens(uint8_t *classes, uint32_t n, const uint32_t *slots, uint32_t state[LANES],
				  const uint8_t *words, const uint8_t *end)
{
	uint32_t i = wfs_d2_portable ? 0 : wfs_d2_tokens_fast(classes, n, slots, state, &words, end);

	for (; i % LANES == 0 && i + LANES <= n && end - words >= 2 * LANES; i += LANES)
		words = read_turn(classes + i, slots, state, words);
	for (; i < n; i++) {
		uint32_t x = state[i % LANES], slot = slots[(uint32_t)classes[i] << FREQ_BITS | (x & (FREQ_SUM - 1))];

		x = ((slot & (FREQ_SUM - 1)) + 1) * (x >> FREQ_BITS) + (slot >> FREQ_BITS & (FREQ_SUM - 1));
		if (x < STATE_MIN) {
			if (end - words < 2)
				return NULL;
			x = x << 16 | wfs_get16(words);
			words += 2;
		}
		state[i % LANES] = x;
		classes[i] = (uint8_t)(slot >> 2 * FREQ_BITS);
	}
	return words;
}

/* 32 bits at most. */
static inline uint64_t peek(const struct wfs_d2_bits *b)
{
	size_t byte = b->at / 8, left = b->len / 8 - byte;
	uint64_t v = 0;

	if (left >= 8)
		return wfs_get64(b->data + byte) >> b->at % 8;
	for (size_t i = 0; i < left; i++)
		v |= (uint64_t)b->data[byte + i] << 8 * i;
	return v >> b->at % 8;
}

static inline uint64_t take_bits(struct wfs_d2_bits *b, unsigned n)
{
	uint64_t v = 0;

	for (unsigned done = 0; done < n;) {
		unsigned take = WFS_MIN(n - done, 32u);

		if (b->at + take > b->len) {
			b->at = b->len + 1;
			return 0;
		}
		v |= (peek(b) & ((1ull << take) - 1)) << done;
		b->at += take;
		done += take;
	}
	return v;
}

static inline uint64_t take_change(struct wfs_d2_bits *b, unsigned token)
{
	return token < TOKEN_PLAIN ? token : wfs_d2_token_base(token) + take_bits(b, wfs_d2_token_bits(token));
}

/* What every token stands for, so that which one it is need not be guessed. */
struct meaning {
	uint64_t base[TOKENS];
	uint8_t n_bits[TOKENS];
};

static void make_meaning(struct meaning *m)
{
	for (unsigned t = 0; t < TOKENS; t++) {
		m->base[t] = t < TOKEN_PLAIN ? t : wfs_d2_token_base(t);
		m->n_bits[t] = (uint8_t)wfs_d2_token_bits(t);
	}
}

#define GROUP		8		/* units between looks at what is left, and at whether all tokens are plain */
#define GROUP_BITS	(GROUP * 64 + PEEK_SPARE)

/* The same as take_change, where GROUP_BITS are left. */
static inline uint64_t look_up_change(struct wfs_d2_bits *b, const struct meaning *m, unsigned token)
{
	unsigned n = m->n_bits[token];
	uint64_t low;

	if (n > PEEK_BITS)
		return take_change(b, token);
	low = wfs_get64(b->data + b->at / 8) >> b->at % 8 & ((1ull << n) - 1);
	b->at += n;
	return m->base[token] + low;
}

#define EACH_BYTE	0x0101010101010101ull

/* Eight units of a byte at once, whose tokens are the changes; without a carry to the neighbour. */
static inline void apply_plain_bytes(uint8_t *units, const uint8_t *tokens, uint64_t mask)
{
	uint64_t t = wfs_get64(tokens), x = wfs_get64(units), low = 0x7f * EACH_BYTE;
	uint64_t d = (t >> 1 & low) ^ (t & EACH_BYTE) * 0xff;

	wfs_put64(units, (((x & low) + (d & low)) ^ ((x ^ d) & ~low)) & mask * EACH_BYTE);
}

static inline __attribute__((always_inline))
void apply_plain(uint8_t *units, const uint8_t *tokens, unsigned width, uint64_t mask)
{
	if (width == 1) {
		apply_plain_bytes(units, tokens, mask);
		return;
	}
	for (unsigned k = 0; k < GROUP; k++)
		wfs_d2_store(units, k, width, (wfs_d2_load(units, k, width) + wfs_d2_unfold(tokens[k])) & mask);
}

static inline __attribute__((always_inline))
void apply(uint8_t *units, uint32_t i, const uint8_t *tokens, uint32_t n, struct wfs_d2_bits *b, unsigned width,
	   unsigned n_bits)
{
	const uint64_t mask = ~0ull >> (64 - n_bits);
	struct meaning m;

	make_meaning(&m);
	for (; i + GROUP <= n; i += GROUP) {
		if ((wfs_get64(tokens + i) & PLAIN_MASK) == 0) {
			apply_plain(units + (size_t)i * width, tokens + i, width, mask);
			continue;
		}
		if (wfs_d2_bits_left(b) < GROUP_BITS)
			break;
		for (uint32_t k = i; k < i + GROUP; k++)
			wfs_d2_store(units, k, width, (wfs_d2_load(units, k, width) +
				     wfs_d2_unfold(look_up_change(b, &m, tokens[k]))) & mask);
	}
	for (; i < n; i++)
		wfs_d2_store(units, i, width, (wfs_d2_load(units, i, width) + wfs_d2_unfold(take_change(b, tokens[i]))) & mask);
}

static int apply_all(uint8_t *units, const struct wfs_d2_units *u, const uint8_t *tokens, const uint8_t *in, size_t len,
		     struct wfs_err *err)
{
	struct wfs_d2_bits b = { .data = in, .len = (uint64_t)len * 8 };
	uint32_t done = wfs_d2_portable ? 0 : wfs_d2_apply_fast(units, u->kind->width, tokens, u->n, &b);

	switch (u->kind->width) {
	case 1:	apply(units, done, tokens, u->n, &b, 1, u->kind->bits); break;
	case 2:	apply(units, done, tokens, u->n, &b, 2, 16); break;
	case 4:	apply(units, done, tokens, u->n, &b, 4, 32); break;
	default: apply(units, done, tokens, u->n, &b, 8, 64); break;
	}
	if (b.at > b.len || b.len - b.at >= 8)
		return wfs_fail(err, -EBADMSG, "delta2: %zu bytes are not the low bits of all changes", len);
	return 0;
}

/* Where the pieces of a section lie. */
struct dense {
	struct wfs_d2_window window;
	const uint8_t *freqs, *states, *words, *bits, *end;
};

static int read_header(struct dense *d, const uint8_t *in, size_t len, struct wfs_err *err)
{
	uint64_t freqs_len, words_len;

	if (len < DENSE_HEADER_LEN)
		return wfs_fail(err, -EBADMSG, "delta2: %zu bytes, shorter than a header", len);
	d->window = wfs_d2_get_window(in);
	freqs_len = wfs_get16(in + WFS_D2_WINDOW_LEN);
	words_len = 2 * (uint64_t)wfs_get32(in + WFS_D2_WINDOW_LEN + 2);
	if (DENSE_HEADER_LEN + freqs_len + 4 * LANES + words_len > len)
		return wfs_fail(err, -EBADMSG, "delta2: %zu bytes, where the header says more", len);
	d->freqs = in + DENSE_HEADER_LEN;
	d->states = d->freqs + freqs_len;
	d->words = d->states + 4 * LANES;
	d->bits = d->words + words_len;
	d->end = in + len;
	return 0;
}

/* The coders end where they began, with no word left. */
static int decode_tokens(uint8_t *tokens, const struct dense *d, const struct wfs_d2_units *u, const uint32_t *slots,
			 struct wfs_err *err)
{
	uint32_t state[LANES];

	for (unsigned i = 0; i < LANES; i++) {
		state[i] = wfs_get32(d->states + 4 * i);
		if (state[i] < STATE_MIN)
			return wfs_fail(err, -EBADMSG, "delta2: a coder begins at %u", state[i]);
	}
	wfs_d2_classify(tokens, u, &d->window);
	if (read_tokens(tokens, u->n, slots, state, d->words, d->bits) != d->bits)
		return wfs_fail(err, -EBADMSG, "delta2: the coded words do not end with the units");
	for (unsigned i = 0; i < LANES; i++)
		if (state[i] != STATE_MIN)
			return wfs_fail(err, -EBADMSG, "delta2: a coder does not end where it began");
	return 0;
}

int wfs_d2_dense_decode(uint8_t *units, const struct wfs_d2_units *u, const uint8_t *in, size_t len,
			struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) uint32_t *slots = NULL;
	WFS_AUTO(wfs_free_ptr) uint8_t *tokens = NULL;
	struct dense d;
	int r;

	r = read_header(&d, in, len, err);
	if (r < 0)
		return r;
	slots = calloc(WFS_D2_CLASSES << FREQ_BITS, sizeof(*slots));
	tokens = malloc(u->n);
	if (!slots || !tokens)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %u tokens", u->n);
	r = read_freqs(slots, d.freqs, d.states, d.window.n, err);
	if (r == 0)
		r = decode_tokens(tokens, &d, u, slots, err);
	if (r == 0)
		r = apply_all(units, u, tokens, d.bits, (size_t)(d.end - d.bits), err);
	return r;
}
