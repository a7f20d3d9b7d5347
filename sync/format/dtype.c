/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dtype.c - element types: names in safetensors headers, sizes, and the unit a delta compares
 *
 * The unit may be smaller than the element: a complex number is two floats, and of packed types
 * only whole bytes have an address.
 */
#include "format/format.h"

#include <string.h>

static const struct {
	char name[12];
	uint8_t bits, width;
} types[WFS_DT_COUNT] = {
	[WFS_DT_BYTES] = { "bytes", 8, 1 },
	[WFS_DT_BOOL] = { "BOOL", 8, 1 },
	[WFS_DT_U8] = { "U8", 8, 1 },
	[WFS_DT_I8] = { "I8", 8, 1 },
	[WFS_DT_F8_E4M3] = { "F8_E4M3", 8, 1 },
	[WFS_DT_F8_E5M2] = { "F8_E5M2", 8, 1 },
	[WFS_DT_F8_E8M0] = { "F8_E8M0", 8, 1 },
	[WFS_DT_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8, 1 },
	[WFS_DT_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8, 1 },
	[WFS_DT_F4] = { "F4", 4, 1 },
	[WFS_DT_F6_E2M3] = { "F6_E2M3", 6, 1 },
	[WFS_DT_F6_E3M2] = { "F6_E3M2", 6, 1 },
	[WFS_DT_I16] = { "I16", 16, 2 },
	[WFS_DT_U16] = { "U16", 16, 2 },
	[WFS_DT_F16] = { "F16", 16, 2 },
	[WFS_DT_BF16] = { "BF16", 16, 2 },
	[WFS_DT_I32] = { "I32", 32, 4 },
	[WFS_DT_U32] = { "U32", 32, 4 },
	[WFS_DT_F32] = { "F32", 32, 4 },
	[WFS_DT_I64] = { "I64", 64, 8 },
	[WFS_DT_U64] = { "U64", 64, 8 },
	[WFS_DT_F64] = { "F64", 64, 8 },
	[WFS_DT_C64] = { "C64", 64, 4 },
};

const char *wfs_dtype_name(unsigned dtype)
{
	return dtype < WFS_DT_COUNT ? types[dtype].name : "?";
}

unsigned wfs_dtype_bits(unsigned dtype)
{
	return dtype < WFS_DT_COUNT ? types[dtype].bits : 8;
}

unsigned wfs_dtype_width(unsigned dtype)
{
	return dtype < WFS_DT_COUNT ? types[dtype].width : 1;
}

/* By its name in a header; WFS_DT_COUNT when there is no such type.  "bytes" is not one. */
unsigned wfs_dtype_find(const char *name)
{
	unsigned t = WFS_DT_BYTES + 1;

	while (t < WFS_DT_COUNT && strcmp(types[t].name, name) != 0)
		t++;
	return t;
}
