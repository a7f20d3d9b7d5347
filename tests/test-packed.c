/* SPDX-License-Identifier: Apache-2.0 */
/* Codec delta2: 4-bit values that quantizers pack into integers. */
#include "delta-trip.h"

#include <errno.h>

static uint64_t state = 20261124;

#define FORM_SPARSE	3
#define FORM_DENSE	4
#define FORM_PACKED	16

static void test_packed(void)
{
	struct delta_case c;

	for (unsigned k = 0; k < 300; k++) {
		case_packed(&c, &state, 4000 + case_below(&state, 20000));
		round_trip(&c);
		case_free(&c);
	}
}

static void encode_as(struct wfs_buf *out, struct delta_case *c, unsigned dtype)
{
	struct wfs_err err = { "" };
	bool fits;

	c->n_spans = 1;
	c->spans[0] = (struct wfs_span){ 0, c->len, (uint8_t)dtype, 0 };
	CHECK_INT(wfs_delta2_encode(out, &fits, c->base, c->next, c->len, c->spans, 1, SIZE_MAX, &err), 0, err.msg);
	round_trip(c);
}

/* An integer type costs what F4 does: it is the same section. */
static void test_packed_sizes(void)
{
	static const uint8_t types[] = { WFS_DT_U8, WFS_DT_I8, WFS_DT_I16, WFS_DT_U16, WFS_DT_I32, WFS_DT_U32, WFS_DT_I64, WFS_DT_U64 };
	static const uint32_t rates[] = { 10, 100, 1000 };
	struct delta_case c;

	case_packed(&c, &state, WFS_BLOCK_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf f4 = WFS_BUF_INIT;

		case_nibbles(&c, &state, rates[i]);
		encode_as(&f4, &c, WFS_DT_F4);
		CHECK_INT(f4.data[0], i == 0 ? FORM_SPARSE : FORM_DENSE, "F4");
		for (unsigned t = 0; t < ARRAY_SIZE(types); t++) {
			WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;

			encode_as(&out, &c, types[t]);
			printf("%u in 1000, type %u: %zu, F4 %zu\n", rates[i], types[t], out.len, f4.len);
			CHECK_INT(out.data[0], f4.data[0] | FORM_PACKED, "form");
			CHECK(out.len == f4.len && memcmp(out.data + 1, f4.data + 1, f4.len - 1) == 0);
		}
	}
	case_free(&c);
}

/* What goes up or down by one as a whole is no such section. */
static void test_integers(void)
{
	static const uint8_t types[] = { WFS_DT_U8, WFS_DT_I16, WFS_DT_I32, WFS_DT_I64 };
	struct delta_case c;

	for (unsigned t = 0; t < ARRAY_SIZE(types); t++)
		for (unsigned one_in = 2; one_in < 1000; one_in *= 4) {
			WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
			unsigned width = wfs_dtype_width(types[t]);

			case_packed(&c, &state, 1 << 16);
			memcpy(c.next, c.base, c.len);
			for (uint32_t i = 0; i < c.len / width; i++)
				if (case_below(&state, one_in) == 0)
					wfs_d2_store(c.next, i, width, wfs_d2_load(c.base, i, width) + (i % 3 ? 1u : -1ull));
			encode_as(&out, &c, types[t]);
			CHECK(out.data[0] == FORM_SPARSE || out.data[0] == FORM_DENSE);
			case_free(&c);
		}
}

/* Only integers may hold 4-bit units; F4 does anyhow, and has no flag for it. */
static void test_packed_types(void)
{
	struct delta_case c;

	case_packed(&c, &state, 8000);
	case_nibbles(&c, &state, 10);
	for (unsigned dtype = 0; dtype < WFS_DT_COUNT; dtype++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
		WFS_AUTO(wfs_buf_free) struct wfs_buf block = WFS_BUF_INIT;
		bool may = dtype < WFS_DT_F8_E4M3 || dtype == WFS_DT_F8_E8M0 || dtype == WFS_DT_F6_E2M3 || dtype == WFS_DT_F6_E3M2 ||
			   dtype == WFS_DT_I16 || dtype == WFS_DT_U16 || dtype == WFS_DT_I32 || dtype == WFS_DT_U32 ||
			   dtype == WFS_DT_I64 || dtype == WFS_DT_U64;
		struct wfs_err err = { "" };

		encode_as(&out, &c, WFS_DT_F4);
		out.data[0] |= FORM_PACKED;
		c.spans[0].dtype = (uint8_t)dtype;
		CHECK(wfs_buf_append(&block, c.base, c.len) == 0);
		CHECK_INT(wfs_delta2_decode(block.data, out.data, out.len, c.spans, 1, &err), may ? 0 : -EBADMSG, err.msg);
		CHECK(may || strstr(err.msg, "no integers"));
		CHECK(memcmp(block.data, may ? c.next : c.base, c.len) == 0);
	}
	case_free(&c);
}

TEST_MAIN(T(test_packed), T(test_packed_sizes), T(test_integers), T(test_packed_types))
