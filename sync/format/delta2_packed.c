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

static void count_bytes(uint64_t counts[256], uint64_t d)
{
	for (unsigned k = 0; k < 64; k += 8)
		counts[d >> k & 0xff]++;
}

/* Pairs of changes of 4 bits, and changes of whole bytes, by value. */
static void count_changes(uint64_t pairs[256], uint64_t bytes[256], const uint8_t *old, const uint8_t *new, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		size_t n = WFS_MIN(len - i, (size_t)8);
		uint64_t x = 0, y = 0;

		memcpy(&x, old + i, n);
		memcpy(&y, new + i, n);
		if (x != y) {
			count_bytes(pairs, subtract(y, x, 0x8888888888888888));
			count_bytes(bytes, subtract(y, x, 0x8080808080808080));
		} else {
			pairs[0] += 8;
			bytes[0] += 8;
		}
	}
}

static unsigned length_of(uint64_t z)
{
	return z ? 64 - (unsigned)__builtin_clzll(z) : 0;
}

static inline __attribute__((always_inline))
void count_lengths(uint64_t lengths[LENGTHS], const uint8_t *old, const uint8_t *new, size_t n, unsigned width)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t x = wfs_d2_load(old, i, width), y = wfs_d2_load(new, i, width);

		lengths[x == y ? 0 : length_of(wfs_d2_fold(x, y, 8 * width))]++;
	}
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
static uint64_t cost_of_units(const uint8_t *old, const uint8_t *new, size_t len, unsigned width, const uint64_t bytes[256])
{
	uint64_t lengths[LENGTHS] = { 0 }, bits = 0;

	switch (width) {
	case 1:
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
	uint64_t pairs[256] = { 0 }, bytes[256] = { 0 }, values[16] = { 0 };

	count_changes(pairs, bytes, old, new, len);
	for (unsigned v = 0; v < 256; v++) {
		values[v & 0xf] += pairs[v];
		values[v >> 4] += pairs[v];
	}
	*packed = entropy(values, 16);
	*whole = cost_of_units(old, new, len, width, bytes);
}
