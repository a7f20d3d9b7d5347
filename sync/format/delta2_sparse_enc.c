/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_sparse_enc.c - codec delta2: encode few changes
 *
 * The model runs forward, as the decoder will, and notes down symbols; then they are coded from
 * the last to the first, so that the decoder gets them in order.
 */
#include <errno.h>
#include <string.h>

#include "format/delta2_sparse.h"

/* start, freq and bits of one symbol */
#define SYMBOL(start, freq, bits) ((uint64_t)(start) | (uint64_t)(freq) << 25 | (uint64_t)(bits) << 50)

struct symbols {
	uint64_t *at;
	size_t n, cap;
};

/* Most of one change: a position, lengths, the bits below them. */
#define SYMBOLS_MAX (1 + 64 + 1 + 4 + 1)

static int make_room(struct symbols *s, struct wfs_err *err)
{
	size_t cap = s->cap ? s->cap * 2 : 4096;
	uint64_t *at;

	if (s->cap - s->n >= SYMBOLS_MAX)
		return 0;
	at = realloc(s->at, cap * sizeof(*at));
	if (!at)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %zu symbols", cap);
	s->at = at;
	s->cap = cap;
	return 0;
}

static inline void note(struct symbols *s, uint32_t start, uint32_t freq, unsigned bits)
{
	s->at[s->n++] = SYMBOL(start, freq, bits);
}

static inline void note_bit(struct symbols *s, struct wfs_d2_bit *b, bool one)
{
	if (one)
		note(s, 0, b->p, 16);
	else
		note(s, b->p, 65536u - b->p, 16);
	wfs_d2_adapt_bit(b, one);
}

static void note_change(struct symbols *s, struct wfs_d2_model *m, unsigned class, uint64_t z, unsigned bits)
{
	bool negative = z & 1;
	uint64_t mag = z / 2 + negative;
	unsigned len = 63 - (unsigned)__builtin_clzll(mag), left;

	for (unsigned i = 0; i < len; i++)
		note_bit(s, wfs_d2_longer(m, class, i), true);
	if (len < bits - 1)
		note_bit(s, wfs_d2_longer(m, class, len), false);
	if (len > 0)
		note_bit(s, &m->second[WFS_MIN(class + len, MAG_CONTEXTS - 1u)], mag >> (len - 1) & 1);
	for (left = len > 0 ? len - 1 : 0; left > 16; left -= 16)
		note(s, mag >> (left - 16) & 0xffff, 1, 16);
	if (left > 0)
		note(s, (uint32_t)(mag & ((1u << left) - 1)), 1, left);
	note(s, negative, 1, 1);
}

/* Where the walk is: the next unit, and the weight of those before it. */
struct at {
	uint32_t from;
	uint64_t from_sum;
};

/* The walk goes on for longer than one symbol can say. */
static inline __attribute__((always_inline))
void note_none(struct symbols *s, struct wfs_d2_model *m, const struct wfs_d2_walk *w, struct at *at, unsigned width)
{
	struct wfs_d2_place p = wfs_d2_find(w, at->from, at->from_sum, wfs_d2_weight_at(m->rate, DIST_MAX + 1), width);
	uint64_t dist = DIST_MAX;

	if (p.before > 0) {
		dist = wfs_d2_dist(m->rate, p.before);
		at->from = p.unit;
		at->from_sum += p.before;
	} else {			/* too heavy a unit is passed alone */
		at->from = p.unit + 1;
		at->from_sum += p.with;
	}
	note(s, 0, wfs_d2_survival((uint32_t)dist), SURVIVAL_BITS);
	wfs_d2_adapt_rate(&m->rate, dist, false);
}

/* To `unit`, which changes; `sum` is the weight of all before it.  Wrong sums do not keep it from ending: what was
 * stored then decodes to something else, which is found. */
static inline __attribute__((always_inline))
int walk_to(struct symbols *s, struct wfs_d2_model *m, const struct wfs_d2_walk *w, struct at *at, uint32_t unit,
	    uint64_t sum, uint32_t weight, unsigned width, struct wfs_err *err)
{
	uint64_t before, with;
	uint32_t above, below;

	for (;;) {
		if (make_room(s, err) < 0)
			return -ENOMEM;
		before = wfs_d2_dist(m->rate, sum - at->from_sum);
		with = wfs_d2_dist(m->rate, sum - at->from_sum + weight);
		if (sum == at->from_sum)
			with = WFS_MIN(with, DIST_MAX);
		if (with <= DIST_MAX || at->from >= unit)
			break;
		note_none(s, m, w, at, width);
	}
	above = wfs_d2_survival((uint32_t)before);
	below = wfs_d2_survival((uint32_t)with);
	note(s, below, above - below, SURVIVAL_BITS);
	wfs_d2_adapt_rate(&m->rate, (before + with) / 2, true);
	at->from = unit + 1;
	at->from_sum = sum + weight;
	return 0;
}

static inline __attribute__((always_inline))
int walk_to_end(struct symbols *s, struct wfs_d2_model *m, const struct wfs_d2_walk *w, struct at *at, unsigned width,
		struct wfs_err *err)
{
	uint64_t sum = w->sums[w->n_groups], dist;

	while (at->from_sum != sum && at->from < w->n) {
		if (make_room(s, err) < 0)
			return -ENOMEM;
		dist = wfs_d2_dist(m->rate, sum - at->from_sum);
		if (dist <= DIST_MAX) {
			note(s, 0, wfs_d2_survival((uint32_t)dist), SURVIVAL_BITS);
			return 0;
		}
		note_none(s, m, w, at, width);
	}
	return 0;
}

static inline __attribute__((always_inline))
int note_all(struct symbols *s, struct wfs_d2_model *m, const struct wfs_d2_walk *w, const uint8_t *new,
	     const uint32_t *changed, uint32_t n, unsigned width, unsigned bits, struct wfs_err *err)
{
	struct at at = { 0, 0 };

	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = changed[k], j = i - i % WFS_D2_GROUP;
		uint64_t sum = w->sums[i / WFS_D2_GROUP];
		uint64_t old = wfs_d2_load(w->units, i, width);
		unsigned raw = old >> w->shift & w->mask;

		for (; j < i; j++)
			sum += w->lut[wfs_d2_load(w->units, j, width) >> w->shift & w->mask];
		if (walk_to(s, m, w, &at, i, sum, w->lut[raw], width, err) < 0)
			return -ENOMEM;
		note_change(s, m, wfs_d2_class(&m->window, raw), wfs_d2_fold(old, wfs_d2_load(new, i, width), bits), bits);
	}
	return walk_to_end(s, m, w, &at, width, err);
}

static int code_symbols(struct wfs_buf *out, const struct symbols *s, struct wfs_err *err)
{
	size_t n = s->n + 2;		/* at most a word a symbol, and the state */
	uint8_t *words, *at, state[8];
	uint64_t x = 1;
	unsigned len = 8;
	int r;

	words = malloc(n * 4);
	if (!words)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for %zu words", n);
	at = words + n * 4;
	for (size_t i = s->n; i-- > 0;) {
		uint32_t start = s->at[i] & 0x1ffffff, freq = s->at[i] >> 25 & 0x1ffffff;
		unsigned bits = s->at[i] >> 50;

		if (x >> (64 - bits) >= freq) {
			wfs_put32(at -= 4, (uint32_t)x);
			x >>= 32;
		}
		if (freq == 1)
			x = x << bits | start;
		else
			x = (x / freq << bits) + x % freq + start;
	}
	wfs_put64(state, x);
	while (state[len - 1] == 0)
		len--;
	r = wfs_buf_append(out, state, len);
	if (r == 0)
		r = wfs_buf_append(out, at, n * 4 - (size_t)(at - words));
	free(words);
	return r < 0 ? wfs_fail(err, r, "delta2: no memory for a block") : 0;
}

/* What it costs, in 2^-24 bits, to say which k of n units changed. */
static uint64_t cost(uint32_t k, uint32_t n)
{
	if (k == 0 || k == n)
		return 0;
	return (uint64_t)n * wfs_d2_log2(n) - (uint64_t)k * wfs_d2_log2(k) - (uint64_t)(n - k) * wfs_d2_log2(n - k);
}

#define CLASS_COST	(20ull << 24)	/* of one more: its weight, and what its first changes cost */
#define FEW		16		/* changes: a class with more has its own lengths, too */
#define RATE_FINE	18		/* log2 of the rate with which weights are fine enough */

/* Up to 16 exponents from the largest down, without those at both ends that are not worth it. */
static struct wfs_d2_window choose_window(uint32_t *cells, uint32_t *hits, unsigned n_raw)
{
	unsigned hi = n_raw - 1, lo = 0, first;

	while (cells[hi] == 0)
		hi--;
	while (cells[lo] == 0)
		lo++;
	while (lo < hi && cost(hits[hi] + hits[hi - 1], cells[hi] + cells[hi - 1]) <=
	       cost(hits[hi], cells[hi]) + cost(hits[hi - 1], cells[hi - 1]) + CLASS_COST) {
		cells[hi - 1] += cells[hi];
		hits[hi - 1] += hits[hi];
		hi--;
	}
	first = hi - lo < WFS_D2_CLASSES ? lo : hi - (WFS_D2_CLASSES - 1);
	for (; lo < first; lo++) {
		cells[first] += cells[lo];
		hits[first] += hits[lo];
	}
	while (first < hi && hits[first] < FEW && cost(hits[first] + hits[first + 1], cells[first] + cells[first + 1]) <=
	       cost(hits[first], cells[first]) + cost(hits[first + 1], cells[first + 1]) + CLASS_COST) {
		cells[first + 1] += cells[first];
		hits[first + 1] += hits[first];
		first++;
	}
	return (struct wfs_d2_window){ .first = (uint16_t)first, .n = (uint8_t)(hi - first + 1) };
}

/* Nearest code; a class that has changes has a weight. */
static unsigned weight_code(uint32_t weight)
{
	unsigned best = 8;

	for (unsigned c = 9; c < WFS_D2_WEIGHT_CODES; c++)
		if (abs((int)wfs_d2_weight_of(c) - (int)weight) < abs((int)wfs_d2_weight_of(best) - (int)weight))
			best = c;
	return best;
}

/* Weights from how many of a class changed: -log2 of how likely one does not. */
static void fit(struct wfs_d2_model *m, unsigned codes[WFS_D2_CLASSES], const uint32_t *cells, const uint32_t *hits)
{
	uint32_t dist[WFS_D2_CLASSES], most = 0;
	unsigned rate = RATE_FINE;

	for (unsigned c = 0; c < m->window.n; c++) {
		uint32_t n = cells[m->window.first + c], k = hits[m->window.first + c];

		dist[c] = k ? wfs_d2_log2(2 * n + 1) - wfs_d2_log2(2 * (n - k) + 1) : 0;
		dist[c] = WFS_MIN(dist[c], 6u << 24);
		most = WFS_MAX(most, dist[c]);
	}
	while (most >> (rate - 8) > wfs_d2_weight_of(WFS_D2_WEIGHT_CODES - 1))
		rate++;
	m->rate = 1u << rate;
	for (unsigned c = 0; c < m->window.n; c++) {
		codes[c] = dist[c] ? weight_code(dist[c] >> (rate - 8)) : 0;
		m->weights[c] = (uint16_t)wfs_d2_weight_of(codes[c]);
	}
}

#define HEADER_MAX (WFS_D2_WINDOW_LEN + 1 + (3 * WFS_D2_CLASSES + 1) / 2)

static size_t put_header(uint8_t out[HEADER_MAX], const struct wfs_d2_model *m, const unsigned codes[WFS_D2_CLASSES])
{
	unsigned nibbles[3 * WFS_D2_CLASSES + 1], n = 0, last = 0;
	uint8_t *at = out + WFS_D2_WINDOW_LEN;

	wfs_d2_put_window(out, &m->window);
	*at++ = (uint8_t)__builtin_ctz(m->rate);
	for (unsigned c = 0; c < m->window.n; c++) {
		unsigned fall = last + WEIGHT_RISE - codes[c];

		if (fall < WEIGHT_WHOLE) {
			nibbles[n++] = fall;
		} else {
			nibbles[n++] = WEIGHT_WHOLE;
			nibbles[n++] = codes[c] & 0xf;
			nibbles[n++] = codes[c] >> 4;
		}
		last = codes[c];
	}
	nibbles[n] = 0;
	for (unsigned i = 0; i < n; i += 2)
		*at++ = (uint8_t)(nibbles[i] | nibbles[i + 1] << 4);
	return (size_t)(at - out);
}

/* Counts units and changes by exponent, and chooses the model from them. */
static void choose_model(struct wfs_d2_model *m, unsigned codes[WFS_D2_CLASSES], const struct wfs_d2_units *u,
			 const uint32_t *changed, uint32_t n_changed)
{
	uint32_t cells[WFS_D2_RAW_MAX], hits[WFS_D2_RAW_MAX] = { 0 };

	wfs_d2_count(cells, u);
	for (uint32_t i = 0; i < n_changed; i++)
		hits[wfs_d2_load(u->old, changed[i], u->kind->width) >> u->kind->shift & u->kind->mask]++;
	m->window = choose_window(cells, hits, u->kind->mask + 1u);
	fit(m, codes, cells, hits);
	wfs_d2_model_init(m);
}

int wfs_d2_sparse_encode(struct wfs_buf *out, const struct wfs_d2_units *u, const uint32_t *changed,
			 uint32_t n_changed, struct wfs_err *err)
{
	unsigned codes[WFS_D2_CLASSES];
	uint8_t header[HEADER_MAX];
	struct wfs_d2_model m;
	struct wfs_d2_walk w;
	struct symbols s = { 0 };
	int r;

	choose_model(&m, codes, u, changed, n_changed);
	if (wfs_buf_append(out, header, put_header(header, &m, codes)) < 0)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for a block");
	r = wfs_d2_walk_init(&w, u, &m, err);
	if (r < 0)
		return r;
	switch (u->kind->width) {
	case 1:	r = note_all(&s, &m, &w, u->new, changed, n_changed, 1, u->kind->bits, err); break;
	case 2:	r = note_all(&s, &m, &w, u->new, changed, n_changed, 2, 16, err); break;
	case 4:	r = note_all(&s, &m, &w, u->new, changed, n_changed, 4, 32, err); break;
	default: r = note_all(&s, &m, &w, u->new, changed, n_changed, 8, 64, err); break;
	}
	if (r == 0)
		r = code_symbols(out, &s, err);
	wfs_d2_walk_free(&w);
	free(s.at);
	return r;
}
