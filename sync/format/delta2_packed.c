/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta2_packed.c - codec delta2: 4-bit units, and do integers hold them?
 *
 * Quantizers pack them into integers, and nothing in a file's header says so.  Changes tell: that
 * of one value in an integer looks like a large number, of one in several of them like noise.
 * What either view costs is reckoned from how long changes are, without coding them.
 */
#include <string.h>

#include "format/delta2.h"

#define LENGTHS	65		/* of folded changes: 0 .. 64 bits */
#define LOG_ONE	(1u << 24)

void wfs_d2_unpack(uint8_t *restrict to, const uint8_t *restrict from, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		to[2 * i] = from[i] & 0xf;
		to[2 * i + 1] = from[i] >> 4;
	}
}

void wfs_d2_pack(uint8_t *restrict to, const uint8_t *restrict from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(from[2 * i] | from[2 * i + 1] << 4);
}

/* Eight subtractions of so many low bits each, without borrowing from the neighbour. */
static uint64_t subtract(uint64_t x, uint64_t y, uint64_t tops)
{
	return ((x | tops) - (y & ~tops)) ^ ((x ^ ~y) & tops);
}

#define TOPS_OF_4	0x8888888888888888
#define TOPS_OF_8	0x8080808080808080

/* Changes by value: of bytes, or of pairs of 4 bits, as `tops` says.  Several counters a value, since the same one comes
 * again before an increment is done. */
static void count_changes(uint64_t counts[256], const uint8_t *old, const uint8_t *new, size_t len, uint64_t tops)
{
	uint32_t part[4][256] = { { 0 } };

	for (size_t i = 0; i < len; i += 8) {
		size_t n = WFS_MIN(len - i, (size_t)8);
		uint64_t x = 0, y = 0, d;

		memcpy(&x, old + i, n);
		memcpy(&y, new + i, n);
		d = subtract(y, x, tops);
		if (d == 0)
			part[0][0] += 8;
		else
			for (unsigned k = 0; k < 8; k++)
				part[k % 4][d >> 8 * k & 0xff]++;
	}
	for (unsigned v = 0; v < 256; v++)
		counts[v] = (uint64_t)part[0][v] + part[1][v] + part[2][v] + part[3][v];
}

static unsigned length_of(uint64_t z)
{
	return 64 - (unsigned)__builtin_clzll(z | 1) - (z == 0);	/* without a guess whether it is 0 */
}

static inline __attribute__((always_inline))
void count_lengths(uint64_t lengths[LENGTHS], const uint8_t *old, const uint8_t *new, size_t n, unsigned width)
{
	uint32_t part[2][LENGTHS] = { { 0 } };

	for (size_t i = 0; i < n; i++) {
		uint64_t x = wfs_d2_load(old, i, width), y = wfs_d2_load(new, i, width);

		part[i % 2][length_of(wfs_d2_fold(x, y, 8 * width))]++;
	}
	for (unsigned k = 0; k < LENGTHS; k++)
		lengths[k] = (uint64_t)part[0][k] + part[1][k];
}

/* What saying which of so many kinds of change each one is takes, in 2^-24 bits. */
static uint64_t entropy(const uint64_t *counts, unsigned n)
{
	uint64_t sum = 0, bits = 0;

	for (unsigned k = 0; k < n; k++)
		sum += counts[k];
	for (unsigned k = 0; k < n; k++)
		if (counts[k])
			bits += counts[k] * (wfs_d2_log2((uint32_t)sum) - wfs_d2_log2((uint32_t)counts[k]));
	return bits;
}

/* The length of each change, and the bits below its highest. */
static uint64_t cost_of_units(const uint8_t *old, const uint8_t *new, size_t len, unsigned width)
{
	uint64_t lengths[LENGTHS] = { 0 }, bytes[256], bits = 0;

	switch (width) {
	case 1:
		count_changes(bytes, old, new, len, TOPS_OF_8);
		for (unsigned d = 0; d < 256; d++)
			lengths[length_of(wfs_d2_fold(0, d, 8))] += bytes[d];
		break;
	case 2:	count_lengths(lengths, old, new, len / 2, 2); break;
	case 4:	count_lengths(lengths, old, new, len / 4, 4); break;
	default: count_lengths(lengths, old, new, len / 8, 8); break;
	}
	for (unsigned k = 2; k < LENGTHS; k++)
		bits += lengths[k] * (k - 1);
	return entropy(lengths, LENGTHS) + bits * LOG_ONE;
}

void wfs_d2_packed_costs(uint64_t *whole, uint64_t *packed, const uint8_t *old, const uint8_t *new, size_t len,
			 unsigned width)
{
	uint64_t pairs[256], values[16] = { 0 };

	count_changes(pairs, old, new, len, TOPS_OF_4);
	for (unsigned v = 0; v < 256; v++) {
		values[v & 0xf] += pairs[v];
		values[v >> 4] += pairs[v];
	}
	*packed = entropy(values, 16);
	*whole = cost_of_units(old, new, len, width);
}
