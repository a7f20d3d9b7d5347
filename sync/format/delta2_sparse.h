/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_sparse.h - codec delta2: the model of few changes, as encoder and decoder both run it
 *
 * Every unit has a weight by its class, in proportion to how often that class changes.  Walking
 * over the units adds weights up; the distance to the next change, in weight times a rate that
 * follows what happens, is exponentially distributed.  So one symbol says where the next change is,
 * however many units lie between, and it costs what the classes of all of them imply.
 */
#ifndef FORMAT_DELTA2_SPARSE_H
#define FORMAT_DELTA2_SPARSE_H

#include "format/delta2.h"

/* Distances are in 2^-16 of the one at which half of all changes have come. */
#define DIST_MAX	(7u << 16)	/* a walk that finds nothing within it is coded as that */
#define SURVIVAL_BITS	24
#define MEAN_DIST	94548u		/* log2(e) */

#define RATE_ONE	16		/* log2 of the rate that is 1 */
#define RATE_MIN	(1u << 16)	/* so that every weight but 0 is a distance */
#define RATE_BITS_MAX	26
#define RATE_MAX	(1u << RATE_BITS_MAX)
#define RATE_SHIFT	23

/* An adaptive probability, in 2^-16, that a bit is 1. */
struct wfs_d2_bit {
	uint16_t p, n;
};

#define BIT_MIN		32u
#define BIT_SEEN_MAX	255
#define MAG_CONTEXTS	32

struct wfs_d2_model {
	struct wfs_d2_window window;
	uint16_t weights[WFS_D2_CLASSES];
	uint32_t rate;
	struct wfs_d2_bit one[WFS_D2_CLASSES], longer[MAG_CONTEXTS], second[MAG_CONTEXTS];
};

/* round(2^24 * 2^(-i/32)) */
extern const uint32_t wfs_d2_powers[33];

/* In 2^-24: how likely no change comes within a distance of at most DIST_MAX.  Strictly falling. */
static inline uint32_t wfs_d2_survival(uint32_t dist)
{
	unsigned seg = dist >> 11 & 31, low = dist & 2047;
	uint32_t a = wfs_d2_powers[seg], b = wfs_d2_powers[seg + 1];

	return (a - ((a - b) * low >> 11)) >> (dist >> 16);
}

/* The least distance whose survival is at most v, for survival(DIST_MAX) <= v < 2^24. */
static inline uint32_t wfs_d2_survival_at(uint32_t v)
{
	unsigned octave = (unsigned)__builtin_clz(v) - (32 - SURVIVAL_BITS);
	uint32_t most = (uint32_t)((((uint64_t)v + 1) << octave) - 1);
	unsigned seg;
	uint32_t a, b;

	/* most is in [2^23, 2^24).  A straight line guesses up to 3 segments too far. */
	seg = (wfs_d2_powers[0] - 1 - most) >> 18;
	while (seg > 0 && wfs_d2_powers[seg] <= most)
		seg--;
	a = wfs_d2_powers[seg];
	b = wfs_d2_powers[seg + 1];
	return (octave << 16) + ((seg << 11) + ((a - most) * 2048 + (a - b) - 1) / (a - b));
}

static inline uint64_t wfs_d2_dist(uint32_t rate, uint64_t weight)
{
	return rate * weight >> RATE_ONE;	/* below 2^26 and 2^35 */
}

/* The least weight whose distance is at least dist. */
static inline uint64_t wfs_d2_weight_at(uint32_t rate, uint64_t dist)
{
	return ((dist << RATE_ONE) + rate - 1) / rate;
}

/* After a walk of so much distance; changed: it ended with a change. */
static inline void wfs_d2_adapt_rate(uint32_t *rate, uint64_t dist, bool changed)
{
	uint64_t r = *rate;
	uint32_t expected = changed ? MEAN_DIST : 0;

	if (dist < expected)
		r += r * (expected - dist) >> RATE_SHIFT;
	else
		r -= r * (dist - expected) >> RATE_SHIFT;
	*rate = (uint32_t)WFS_MIN(WFS_MAX(r, RATE_MIN), RATE_MAX);
}

static inline void wfs_d2_adapt_bit(struct wfs_d2_bit *b, bool one)
{
	uint32_t p = b->p, rate = 2 * b->n + 3u;

	p = one ? p + (65536 - p) * 2 / rate : p - p * 2 / rate;
	b->p = (uint16_t)WFS_MIN(WFS_MAX(p, BIT_MIN), 65536 - BIT_MIN);
	if (b->n < BIT_SEEN_MAX)
		b->n++;
}

/* Weights are coded with 3 bits behind the leading one, and below 2^15. */
#define WFS_D2_WEIGHT_CODES 120

/* In 4 bits: by how much the code falls from one class to the next, or that the code itself follows. */
#define WEIGHT_RISE	3u		/* 0 means that it rises by so much */
#define WEIGHT_WHOLE	15u

static inline uint32_t wfs_d2_weight_of(unsigned code)
{
	return code ? (8u + (code & 7)) << (code >> 3) >> 3 : 0;
}

static inline struct wfs_d2_bit *wfs_d2_longer(struct wfs_d2_model *m, unsigned class, unsigned len)
{
	return len == 0 ? &m->one[class] : &m->longer[WFS_MIN(class + len, MAG_CONTEXTS - 1)];
}

#define RARE_DIST	65536u		/* of a class of which half changes */
/* Needs window, weights and rate. */
void wfs_d2_model_init(struct wfs_d2_model *m);

/* Units and the sums of their weights.  `lut` is by exponent. */
struct wfs_d2_walk {
	const uint8_t *units;
	uint32_t n, n_groups;
	const uint64_t *sums;
	uint16_t lut[WFS_D2_RAW_MAX];
	unsigned shift, mask;
};

/* Of units in u->old, from the model's window and weights.  -ENOMEM. */
int wfs_d2_walk_init(struct wfs_d2_walk *w, const struct wfs_d2_units *u, const struct wfs_d2_model *m,
		     struct wfs_err *err);
void wfs_d2_walk_free(struct wfs_d2_walk *w);

/* Where the sum of weights, from `from` on, first reaches `target` > 0. */
struct wfs_d2_place {
	uint32_t unit;			/* n: nowhere */
	uint64_t before, with;		/* weight passed without and with that unit */
};

static inline __attribute__((always_inline))
struct wfs_d2_place wfs_d2_find(const struct wfs_d2_walk *w, uint32_t from, uint64_t from_sum, uint64_t target,
				unsigned width)
{
	uint32_t g = from / WFS_D2_GROUP, i, end;
	uint64_t h;

	while (g < w->n_groups && w->sums[g + 1] - from_sum < target)
		g++;
	if (g == w->n_groups)
		return (struct wfs_d2_place){ w->n, w->sums[g] - from_sum, w->sums[g] - from_sum };
	/* Units before `from` may have been changed already: they are not looked at again. */
	h = g == from / WFS_D2_GROUP ? 0 : w->sums[g] - from_sum;
	end = WFS_MIN((g + 1) * WFS_D2_GROUP, w->n);
	for (i = WFS_MAX(g * WFS_D2_GROUP, from); i < end; i++) {
		uint64_t next = h + w->lut[wfs_d2_load(w->units, i, width) >> w->shift & w->mask];

		if (next >= target)
			return (struct wfs_d2_place){ i, h, next };
		h = next;
	}
	return (struct wfs_d2_place){ w->n, h, h };	/* not reached: the sums say it is here */
}

#endif
