/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_x86.c - codec delta2: the loops over all units, for processors with AVX2
 *
 * Each does what the portable loop of its name does, to the byte, for the first units; it returns for how many.
 * What is left, and everything elsewhere, the portable loop does.
 */
#include "format/delta2_dense.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,bmi2")))	/* both came with the same processors */

static bool have_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

/* Classes of 16 units from number i on, of 1 or 2 bytes, in 16 bits each. */
AVX2 static inline __m256i classes_of(const struct wfs_d2_units *u, uint32_t i, __m256i first, __m256i most)
{
	const __m128i *at = (const __m128i *)(u->old + (size_t)i * u->kind->width);
	__m256i v = u->kind->width == 1 ? _mm256_cvtepu8_epi16(_mm_loadu_si128(at)) : _mm256_loadu_si256((const __m256i *)at);

	v = _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(u->kind->shift)), _mm256_set1_epi16((short)u->kind->mask));
	return _mm256_min_epu16(_mm256_subs_epu16(v, first), most);
}

AVX2 static void classify(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w, uint32_t n)
{
	__m256i first = _mm256_set1_epi16((short)w->first), most = _mm256_set1_epi16((short)(w->n - 1));

	for (uint32_t i = 0; i < n; i += 32) {
		__m256i a = classes_of(u, i, first, most), b = classes_of(u, i + 16, first, most);

		/* packing works within halves */
		_mm256_storeu_si256((__m256i *)(classes + i), _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
	}
}

uint32_t wfs_d2_classify_fast(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w)
{
	uint32_t n = u->n & ~31u;

	if (u->kind->width > 2 || n == 0 || !have_avx2())
		return 0;
	classify(classes, u, w, n);
	return n;
}

/* The low and the high bytes of weights come from a table of 16 each. */
AVX2 static uint64_t sums_of(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
			     const uint16_t *weights, uint32_t n)
{
	__m256i first = _mm256_set1_epi16((short)w->first), most = _mm256_set1_epi16((short)(w->n - 1));
	__m256i ones = _mm256_set1_epi16(1), low, high;
	uint8_t lows[16] = { 0 }, highs[16] = { 0 };
	uint64_t sum = 0;

	for (unsigned c = 0; c < w->n; c++) {
		lows[c] = (uint8_t)weights[c];
		highs[c] = (uint8_t)(weights[c] >> 8);
	}
	low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)lows));
	high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)highs));
	for (uint32_t i = 0; i < n; i += WFS_D2_GROUP) {
		__m256i c = classes_of(u, i, first, most), v;
		__m128i s;

		/* a byte of 0x80 and more yields 0 */
		v = _mm256_or_si256(
			_mm256_shuffle_epi8(low, _mm256_or_si256(c, _mm256_set1_epi16((short)0x8000))),
			_mm256_shuffle_epi8(high, _mm256_or_si256(_mm256_slli_epi16(c, 8), _mm256_set1_epi16(0x0080))));
		v = _mm256_madd_epi16(v, ones);
		s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
		s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
		s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
		*sums++ = sum;
		sum += (uint32_t)_mm_cvtsi128_si32(s);
	}
	return sum;
}

uint32_t wfs_d2_sums_fast(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
			  const uint16_t *weights, uint64_t *sum)
{
	uint32_t n = u->n - u->n % WFS_D2_GROUP;

	if (u->kind->width > 2 || n == 0 || !have_avx2())
		return 0;
	*sum = sums_of(sums, u, w, weights, n);
	return n;
}

/* Eight coders: one token each. */
AVX2 static inline __m256i step(__m256i x, const uint8_t *classes, const uint32_t *slots, const uint8_t **words,
				const uint64_t *spread, __m128i *tokens)
{
	const __m256i low = _mm256_set1_epi32(FREQ_SUM - 1);
	__m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)classes));
	__m256i slot, more, next;
	unsigned lanes;

	at = _mm256_or_si256(_mm256_slli_epi32(at, FREQ_BITS), _mm256_and_si256(x, low));
	slot = _mm256_i32gather_epi32((const int *)slots, at, 4);
	x = _mm256_mullo_epi32(_mm256_add_epi32(_mm256_and_si256(slot, low), _mm256_set1_epi32(1)),
			       _mm256_srli_epi32(x, FREQ_BITS));
	x = _mm256_add_epi32(x, _mm256_and_si256(_mm256_srli_epi32(slot, FREQ_BITS), low));
	more = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
	lanes = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(more));
	/* The next words go to those lanes, in order. */
	next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*words));
	next = _mm256_permutevar8x32_epi32(next, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)spread[lanes])));
	x = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), next), more);
	*words += 2 * (unsigned)__builtin_popcount(lanes);
	slot = _mm256_srli_epi32(slot, 2 * FREQ_BITS);
	*tokens = _mm_packus_epi32(_mm256_castsi256_si128(slot), _mm256_extracti128_si256(slot, 1));
	return x;
}

#define WORDS_READ (16 + 3 * 16)	/* bytes that one turn may look at */

AVX2 static uint32_t tokens_of(uint8_t *classes, uint32_t n, const uint32_t *slots, uint32_t state[LANES],
			       const uint8_t **at, const uint8_t *end)
{
	const uint8_t *words = *at;
	uint64_t spread[256];
	__m256i x[4];
	uint32_t i = 0;

	for (unsigned m = 0; m < 256; m++) {
		spread[m] = 0;
		for (unsigned lane = 0, k = 0; lane < 8; lane++)
			if (m >> lane & 1)
				spread[m] |= (uint64_t)k++ << 8 * lane;
	}
	for (unsigned k = 0; k < 4; k++)
		x[k] = _mm256_loadu_si256((const __m256i *)(state + 8 * k));
	for (; i + LANES <= n && end - words >= WORDS_READ; i += LANES) {
		__m128i t[4];

		for (unsigned k = 0; k < 4; k++)
			x[k] = step(x[k], classes + i + 8 * k, slots, &words, spread, &t[k]);
		_mm_storeu_si128((__m128i *)(classes + i), _mm_packus_epi16(t[0], t[1]));
		_mm_storeu_si128((__m128i *)(classes + i + 16), _mm_packus_epi16(t[2], t[3]));
	}
	for (unsigned k = 0; k < 4; k++)
		_mm256_storeu_si256((__m256i *)(state + 8 * k), x[k]);
	*at = words;
	return i;
}

uint32_t wfs_d2_tokens_fast(uint8_t *classes, uint32_t n, const uint32_t *slots, uint32_t state[LANES],
			    const uint8_t **words, const uint8_t *end)
{
	return have_avx2() ? tokens_of(classes, n, slots, state, words, end) : 0;
}

#define TOKENS16	64		/* of 16 bits there are so many, and they leave at most 13 open */
#define APPLY_BITS	(16 * 13 + PEEK_SPARE)

/* What the tokens of 16 bits stand for. */
struct meaning {
	uint16_t base[TOKENS16];
	uint8_t n_bits[TOKENS16];
};

static void make_meaning(struct meaning *m)
{
	for (unsigned t = 0; t < TOKENS16; t++) {
		m->base[t] = (uint16_t)(t < TOKEN_PLAIN ? t : wfs_d2_token_base(t));
		m->n_bits[t] = (uint8_t)wfs_d2_token_bits(t);
	}
}

/* The folded change that a token and the next bits say. */
AVX2 static inline uint16_t change_of(struct wfs_d2_bits *b, const struct meaning *m, unsigned token)
{
	unsigned len = m->n_bits[token];
	uint64_t low = wfs_get64(b->data + b->at / 8) >> b->at % 8 & ((1u << len) - 1);

	b->at += len;
	return (uint16_t)(m->base[token] + low);
}

/* Sixteen folded changes are added to sixteen units. */
AVX2 static inline void add_changes(__m256i *to, __m256i z)
{
	__m256i d = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_and_si256(z, _mm256_set1_epi16(1)));

	d = _mm256_xor_si256(d, _mm256_srli_epi16(z, 1));
	_mm256_storeu_si256(to, _mm256_add_epi16(_mm256_loadu_si256(to), d));
}

#define MANY	6		/* of 16: then all are done alike, rather than guessing which are not plain */

/* Sixteen units of 16 bits: those whose token is the change itself at once, then the others. */
AVX2 static uint32_t apply(uint8_t *units, const uint8_t *tokens, uint32_t n, struct wfs_d2_bits *b)
{
	const __m128i plain = _mm_set1_epi8(TOKEN_PLAIN), too_many = _mm_set1_epi8(TOKENS16);
	struct wfs_d2_bits at = *b;		/* not in memory that stores might change */
	struct meaning m;
	uint32_t i = 0;

	make_meaning(&m);
	for (; i + 16 <= n && wfs_d2_bits_left(&at) >= APPLY_BITS; i += 16) {
		__m128i t = _mm_loadu_si128((const __m128i *)(tokens + i)), longer;
		__m256i *to = (__m256i *)(units + 2 * (size_t)i);
		unsigned left;

		if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(t, too_many), t)))
			break;
		longer = _mm_cmpeq_epi8(_mm_max_epu8(t, plain), t);
		left = (unsigned)_mm_movemask_epi8(longer);
		if (__builtin_popcount(left) > MANY) {
			uint16_t changes[16];

			for (unsigned k = 0; k < 16; k++)
				changes[k] = change_of(&at, &m, tokens[i + k]);
			add_changes(to, _mm256_loadu_si256((const __m256i *)changes));
			continue;
		}
		add_changes(to, _mm256_cvtepu8_epi16(_mm_andnot_si128(longer, t)));
		for (; left; left &= left - 1) {
			uint32_t k = i + (unsigned)__builtin_ctz(left);

			wfs_d2_store(units, k, 2, wfs_d2_load(units, k, 2) + wfs_d2_unfold(change_of(&at, &m, tokens[k])));
		}
	}
	b->at = at.at;
	return i;
}

uint32_t wfs_d2_apply_fast(uint8_t *units, unsigned width, const uint8_t *tokens, uint32_t n, struct wfs_d2_bits *b)
{
	return width == 2 && have_avx2() ? apply(units, tokens, n, b) : 0;
}

/* The tokens of 8 changes as numbers: a float's exponent and the two bits below it. */
AVX2 static inline __m256i long_tokens(__m128i z)
{
	__m256i f = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(z)));

	return _mm256_sub_epi32(_mm256_srli_epi32(f, 21), _mm256_set1_epi32(((127 + 4) << 2) - TOKEN_PLAIN));
}

AVX2 static void make_tokens(uint8_t *tokens, const uint8_t *old, const uint8_t *new, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += 16) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(old + 2 * (size_t)i)), z, t, plain;
		__m256i d = _mm256_sub_epi16(_mm256_loadu_si256((const __m256i *)(new + 2 * (size_t)i)), a);

		z = _mm256_xor_si256(_mm256_slli_epi16(d, 1), _mm256_srai_epi16(d, 15));
		t = _mm256_packus_epi32(long_tokens(_mm256_castsi256_si128(z)), long_tokens(_mm256_extracti128_si256(z, 1)));
		t = _mm256_permute4x64_epi64(t, 0xd8);
		plain = _mm256_cmpeq_epi16(_mm256_min_epu16(z, _mm256_set1_epi16(TOKEN_PLAIN - 1)), z);
		t = _mm256_blendv_epi8(t, z, plain);
		_mm_storeu_si128((__m128i *)(tokens + i),
				 _mm_packus_epi16(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1)));
	}
}

uint32_t wfs_d2_make_tokens_fast(uint8_t *tokens, const struct wfs_d2_units *u)
{
	uint32_t n = u->n & ~15u;

	if (u->kind->width != 2 || n == 0 || !have_avx2())
		return 0;
	make_tokens(tokens, u->old, u->new, n);
	return n;
}

/* x / f for x < f << (32 - FREQ_BITS), f up to FREQ_SUM: a float is off by one at most; *rest: x % f. */
AVX2 static inline __m256i divide(__m256i x, __m256i f, __m256i *rest)
{
	__m256 half = _mm256_mul_ps(_mm256_cvtepi32_ps(f), _mm256_set1_ps(0.5f));
	__m256i q = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(x, 1)), half));
	__m256i r = _mm256_sub_epi32(x, _mm256_mullo_epi32(q, f)), off;

	off = _mm256_srai_epi32(r, 31);
	q = _mm256_add_epi32(q, off);
	r = _mm256_add_epi32(r, _mm256_and_si256(off, f));
	off = _mm256_cmpgt_epi32(f, r);
	q = _mm256_add_epi32(q, _mm256_andnot_si256(off, _mm256_set1_epi32(1)));
	*rest = _mm256_sub_epi32(r, _mm256_andnot_si256(off, f));
	return q;
}

/* Eight coders: one token each.  spread: where the lanes with a word go, right-aligned. */
AVX2 static inline __m256i step_back(__m256i x, const uint8_t *classes, const uint8_t *tokens, const uint32_t *codes,
				     uint8_t **words, const uint64_t *spread)
{
	const __m256i low = _mm256_set1_epi32(FREQ_SUM - 1);
	__m256i class = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)classes));
	__m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)tokens));
	__m256i code, less, more, out, q, r;
	unsigned lanes;

	code = _mm256_i32gather_epi32((const int *)codes, _mm256_or_si256(_mm256_slli_epi32(class, 8), at), 4);
	less = _mm256_and_si256(code, low);
	more = _mm256_cmpgt_epi32(_mm256_srli_epi32(x, 32 - FREQ_BITS), less);
	lanes = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(more));
	out = _mm256_permutevar8x32_epi32(x, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)spread[lanes])));
	out = _mm256_and_si256(out, _mm256_set1_epi32(0xffff));
	_mm_storeu_si128((__m128i *)(*words - 16),
			 _mm_packus_epi32(_mm256_castsi256_si128(out), _mm256_extracti128_si256(out, 1)));
	*words -= 2 * (unsigned)__builtin_popcount(lanes);
	x = _mm256_blendv_epi8(x, _mm256_srli_epi32(x, 16), more);
	q = divide(x, _mm256_add_epi32(less, _mm256_set1_epi32(1)), &r);
	return _mm256_add_epi32(_mm256_slli_epi32(q, FREQ_BITS), _mm256_add_epi32(_mm256_srli_epi32(code, FREQ_BITS), r));
}

AVX2 static void put_tokens(uint8_t **at, const uint8_t *classes, const uint8_t *tokens, uint32_t n,
			    const uint32_t *codes, uint32_t state[LANES])
{
	uint8_t *words = *at;		/* not in memory that stores might change */
	uint64_t spread[256];
	__m256i x[4];

	for (unsigned m = 0; m < 256; m++) {
		spread[m] = 0;
		for (unsigned lane = 8, k = 8; lane-- > 0;)
			if (m >> lane & 1)
				spread[m] |= (uint64_t)lane << 8 * --k;
	}
	for (unsigned k = 0; k < 4; k++)
		x[k] = _mm256_loadu_si256((const __m256i *)(state + 8 * k));
	for (uint32_t i = n; i > 0; i -= LANES)
		for (unsigned k = 4; k-- > 0;) {
			uint32_t first = i - LANES + 8 * k;

			x[k] = step_back(x[k], classes + first, tokens + first, codes, &words, spread);
		}
	for (unsigned k = 0; k < 4; k++)
		_mm256_storeu_si256((__m256i *)(state + 8 * k), x[k]);
	*at = words;
}

bool wfs_d2_put_tokens_fast(uint8_t **at, const uint8_t *classes, const uint8_t *tokens, uint32_t n,
			    const uint32_t *codes, uint32_t state[LANES])
{
	if (!have_avx2())
		return false;
	put_tokens(at, classes, tokens, n, codes, state);
	return true;
}

#else

uint32_t wfs_d2_classify_fast(uint8_t *classes, const struct wfs_d2_units *u, const struct wfs_d2_window *w)
{
	(void)classes, (void)u, (void)w;
	return 0;
}

uint32_t wfs_d2_sums_fast(uint64_t *sums, const struct wfs_d2_units *u, const struct wfs_d2_window *w,
			  const uint16_t *weights, uint64_t *sum)
{
	(void)sums, (void)u, (void)w, (void)weights, (void)sum;
	return 0;
}

uint32_t wfs_d2_tokens_fast(uint8_t *classes, uint32_t n, const uint32_t *slots, uint32_t state[LANES],
			    const uint8_t **words, const uint8_t *end)
{
	(void)classes, (void)n, (void)slots, (void)state, (void)words, (void)end;
	return 0;
}

uint32_t wfs_d2_apply_fast(uint8_t *units, unsigned width, const uint8_t *tokens, uint32_t n, struct wfs_d2_bits *b)
{
	(void)units, (void)width, (void)tokens, (void)n, (void)b;
	return 0;
}

uint32_t wfs_d2_make_tokens_fast(uint8_t *tokens, const struct wfs_d2_units *u)
{
	(void)tokens, (void)u;
	return 0;
}

bool wfs_d2_put_tokens_fast(uint8_t **at, const uint8_t *classes, const uint8_t *tokens, uint32_t n,
			    const uint32_t *codes, uint32_t state[LANES])
{
	(void)at, (void)classes, (void)tokens, (void)n, (void)codes, (void)state;
	return false;
}

#endif
