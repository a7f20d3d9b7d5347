/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_sparse.c - codec delta2: decode few changes
 *
 * The coder is a range variant of ANS: the decoder has no division by a total and the encoder works backwards.
 */
#include <errno.h>

#include "format/delta2_sparse.h"

const uint32_t wfs_d2_powers[33] = {
	16777216, 16417715, 16065917, 15721658, 15384775, 15055111, 14732511, 14416824,
	14107901, 13805598, 13509772, 13220286, 12937002, 12659789, 12388516, 12123055,
	11863283, 11609078, 11360319, 11116891, 10878679, 10645571, 10417458, 10194234,
	9975792, 9762032, 9552851, 9348154, 9147842, 8951823, 8760003, 8572295,
	8388608,
};

/* Where a change is rare, a larger one is hardly ever seen: the same nudge decides on both. */
void wfs_d2_model_init(struct wfs_d2_model *m)
{
	const struct wfs_d2_bit even = { 1 << 15, 0 }, unlikely = { 1 << 7, 8 };

	for (unsigned c = 0; c < WFS_D2_CLASSES; c++) {
		bool rare = c < m->window.n && wfs_d2_dist(m->rate, m->weights[c]) < RARE_DIST;

		m->one[c] = rare ? unlikely : even;
	}
	for (unsigned i = 0; i < MAG_CONTEXTS; i++)
		m->longer[i] = m->second[i] = even;
}

int wfs_d2_walk_init(struct wfs_d2_walk *w, const struct wfs_d2_units *u, const struct wfs_d2_model *m, struct wfs_err *err)
{
	uint64_t *sums;

	w->units = u->old;
	w->n = u->n;
	w->n_groups = (u->n + WFS_D2_GROUP - 1) / WFS_D2_GROUP;
	w->shift = u->kind->shift;
	w->mask = u->kind->mask;
	w->sums = sums = malloc((w->n_groups + 1) * sizeof(*sums));
	if (!sums)
		return wfs_fail(err, -ENOMEM, "delta2: no memory for the sums of %u groups", w->n_groups);
	for (unsigned v = 0; v <= w->mask; v++)
		w->lut[v] = m->weights[wfs_d2_class(&m->window, v)];
	wfs_d2_sums(sums, u, &m->window, m->weights);
	return 0;
}

void wfs_d2_walk_free(struct wfs_d2_walk *w)
{
	free((void *)w->sums);
}

/* The coder's state, and the words that are left.  The state is never below 2^32 before the last word. */
struct source {
	uint64_t x;
	const uint8_t *at, *end;
};

static inline void refill(struct source *s)
{
	if (s->x < 1ull << 32 && s->at < s->end) {
		s->x = s->x << 32 | wfs_get32(s->at);
		s->at += 4;
	}
}

static inline void take(struct source *s, uint32_t start, uint32_t freq, unsigned bits)
{
	s->x = freq * (s->x >> bits) + (s->x & ((1ull << bits) - 1)) - start;
	refill(s);
}

static inline bool take_bit(struct source *s, struct wfs_d2_bit *b)
{
	bool one = (s->x & 0xffff) < b->p;

	if (one)
		take(s, 0, b->p, 16);
	else
		take(s, b->p, 65536u - b->p, 16);
	wfs_d2_adapt_bit(b, one);
	return one;
}

/* n <= 16 */
static inline uint32_t take_raw(struct source *s, unsigned n)
{
	uint32_t v = (uint32_t)s->x & ((1u << n) - 1);

	s->x >>= n;
	refill(s);
	return v;
}

/* A change: its length in bits, the bit below the leading one, the others, the sign. */
static inline uint64_t take_change(struct source *s, struct wfs_d2_model *m, unsigned class, unsigned bits)
{
	unsigned len = 0, left;
	uint64_t mag = 1;

	while (len < bits - 1 && take_bit(s, wfs_d2_longer(m, class, len)))
		len++;
	if (len > 0)
		mag = 2 | take_bit(s, &m->second[WFS_MIN(class + len, MAG_CONTEXTS - 1u)]);
	for (left = len > 0 ? len - 1 : 0; left > 16; left -= 16)
		mag = mag << 16 | take_raw(s, 16);
	mag = mag << left | take_raw(s, left);
	return take_raw(s, 1) ? 0 - mag : mag;
}

/* Walk until nothing that is left can change.  Every turn passes a unit, so it ends whatever the bytes are. */
static inline __attribute__((always_inline))
void decode(uint8_t *units, const struct wfs_d2_walk *w, struct wfs_d2_model *m, struct source *s, unsigned width,
	    unsigned bits)
{
	const uint64_t mask = ~0ull >> (64 - bits), total = w->sums[w->n_groups];
	uint64_t from_sum = 0;
	uint32_t from = 0;

	while (from_sum != total && from < w->n) {
		uint32_t v = (uint32_t)s->x & ((1u << SURVIVAL_BITS) - 1), below;
		bool none = v < wfs_d2_survival(DIST_MAX);
		uint64_t target = wfs_d2_weight_at(m->rate, none ? DIST_MAX + 1 : wfs_d2_survival_at(v));
		struct wfs_d2_place p = wfs_d2_find(w, from, from_sum, target, width);
		uint64_t before = wfs_d2_dist(m->rate, p.before), with = wfs_d2_dist(m->rate, p.with), old;

		if (p.before == 0)
			with = WFS_MIN(with, DIST_MAX);
		if (none && p.before == 0) {	/* too heavy a unit is passed alone */
			take(s, 0, wfs_d2_survival((uint32_t)with), SURVIVAL_BITS);
			wfs_d2_adapt_rate(&m->rate, with, false);
			from = p.unit + 1;
			from_sum += p.with;
			continue;
		}
		if (p.unit == w->n || with > DIST_MAX) {
			take(s, 0, wfs_d2_survival((uint32_t)before), SURVIVAL_BITS);
			wfs_d2_adapt_rate(&m->rate, before, false);
			from = p.unit;
			from_sum += p.before;
			continue;
		}
		below = wfs_d2_survival((uint32_t)with);
		take(s, below, wfs_d2_survival((uint32_t)before) - below, SURVIVAL_BITS);
		wfs_d2_adapt_rate(&m->rate, (before + with) / 2, true);
		from = p.unit + 1;
		from_sum += p.with;
		old = wfs_d2_load(units, p.unit, width);
		old += take_change(s, m, wfs_d2_class(&m->window, old >> w->shift & w->mask), bits);
		wfs_d2_store(units, p.unit, width, old & mask);
	}
}

/* The weight of each class: how much lower than the one before, in 4 bits, or 15 and the code itself. */
static int read_weights(struct wfs_d2_model *m, struct source *s, struct wfs_err *err)
{
	size_t nibble = 0, n = 2 * (size_t)(s->end - s->at);
	unsigned code = 0;

#define NIBBLE() (nibble < n ? s->at[nibble / 2] >> nibble % 2 * 4 & 0xf : 0u)
	for (unsigned c = 0; c < m->window.n; c++) {
		unsigned v = NIBBLE();

		nibble++;
		if (v < WEIGHT_WHOLE) {
			code = code + WEIGHT_RISE - v;
		} else {
			code = NIBBLE();
			nibble++;
			code |= NIBBLE() << 4;
			nibble++;
		}
		if (code >= WFS_D2_WEIGHT_CODES)	/* below 0 too */
			return wfs_fail(err, -EBADMSG, "delta2: class %u has weight code %d", c, (int)code);
		m->weights[c] = (uint16_t)wfs_d2_weight_of(code);
	}
#undef NIBBLE
	if (nibble > n)
		return wfs_fail(err, -EBADMSG, "delta2: the weights of %u classes end early", m->window.n);
	s->at += (nibble + 1) / 2;
	return 0;
}

static int read_header(struct wfs_d2_model *m, struct source *s, struct wfs_err *err)
{
	unsigned rate;
	size_t left;
	int r;

	if (s->end - s->at < WFS_D2_WINDOW_LEN + 1)
		return wfs_fail(err, -EBADMSG, "delta2: %zd bytes, shorter than a header", s->end - s->at);
	m->window = wfs_d2_get_window(s->at);
	rate = s->at[WFS_D2_WINDOW_LEN];
	s->at += WFS_D2_WINDOW_LEN + 1;
	if (rate < RATE_ONE || rate > RATE_BITS_MAX)
		return wfs_fail(err, -EBADMSG, "delta2: a rate of 2^%u", rate);
	m->rate = 1u << rate;
	r = read_weights(m, s, err);
	if (r < 0)
		return r;
	/* The state's zero bytes at its top are left out; words follow. */
	left = (size_t)(s->end - s->at);
	left = left <= 8 ? left : 5 + (left - 5) % 4;
	s->x = 0;
	for (size_t i = 0; i < left; i++)
		s->x |= (uint64_t)s->at[i] << 8 * i;
	s->at += left;
	return 0;
}

int wfs_d2_sparse_decode(uint8_t *units, const struct wfs_d2_units *u, const uint8_t *in, size_t len,
			 struct wfs_err *err)
{
	struct wfs_d2_model m;
	struct source s = { .at = in, .end = in + len };
	struct wfs_d2_walk w;
	int r;

	r = read_header(&m, &s, err);
	if (r == 0)
		r = wfs_d2_walk_init(&w, u, &m, err);
	if (r < 0)
		return r;
	wfs_d2_model_init(&m);
	switch (u->kind->width) {
	case 1:	decode(units, &w, &m, &s, 1, u->kind->bits); break;
	case 2:	decode(units, &w, &m, &s, 2, 16); break;
	case 4:	decode(units, &w, &m, &s, 4, 32); break;
	default: decode(units, &w, &m, &s, 8, 64); break;
	}
	wfs_d2_walk_free(&w);
	if (s.at != s.end || s.x != 1)
		return wfs_fail(err, -EBADMSG, "delta2: the coder does not end where it began");
	return 0;
}
