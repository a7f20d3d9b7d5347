/* SPDX-License-Identifier: Apache-2.0 */
/* Shard headers and index files: what is read from sound ones, and every rule that refuses one. */
#include "test.h"

#include <errno.h>

#include "weightfs/safetensors.h"

/* data: bytes behind the header. */
static int open_header(struct wfs_safetensors **st, const char *json, uint64_t data, struct wfs_err *err)
{
	size_t len = strlen(json);
	uint8_t *head = malloc(8 + len);
	int r;

	if (!head)
		abort();
	wfs_put64(head, len);
	memcpy(head + 8, json, len);
	r = wfs_safetensors_open(st, head, 8 + len, 8 + len + data, err);
	free(head);
	return r;
}

static void test_reads(void)
{
	static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"},"
		"\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
		"\"empty\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[28,28]},"
		"\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4],\"later\":{\"x\":[1]}},"
		"\"s\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[28,31]}}   ";
	struct wfs_safetensors *st = NULL;
	struct wfs_err err = { "" };
	const struct wfs_tensor *t;

	CHECK_INT(open_header(&st, json, 31, &err), 0, err.msg);
	REQUIRE(st);
	CHECK_INT(wfs_safetensors_count(st), 4, "count");
	CHECK_STR(wfs_safetensors_at(st, 0)->name, "a");
	CHECK_STR(wfs_safetensors_at(st, 2)->name, "empty");
	t = wfs_safetensors_find(st, "b");
	REQUIRE(t);
	CHECK(t->dtype == WFS_DT_F32 && t->n_dims == 2 && t->shape[0] == 2 && t->shape[1] == 3);
	CHECK_INT(t->begin, wfs_safetensors_data(st) + 4, "begin");
	CHECK(!wfs_safetensors_find(st, "c"));
	wfs_safetensors_close(st);
}

#define T1(name, dtype, shape, offsets) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
	const char *name, *json;
	uint64_t data;
} refused[] = {
	{ "empty", "", 0 },
	{ "a space first", " {}", 0 },
	{ "not JSON", "{", 0 },
	{ "an array", "[]", 0 },
	{ "bytes behind", "{}", 1 },
	{ "tensor that is a number", "{\"a\":1}", 0 },
	{ "no dtype", "{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1 },
	{ "no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1 },
	{ "no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1 },
	{ "dtype twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1 },
	{ "shape twice", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"shape\":[1],\"data_offsets\":[0,1]}}", 1 },
	{ "unknown dtype", "{" T1("a", "X9", "[1]", "[0,1]") "}", 1 },
	{ "our own type", "{" T1("a", "bytes", "[1]", "[0,1]") "}", 1 },
	{ "shape of text", "{" T1("a", "U8", "[\"1\"]", "[0,1]") "}", 1 },
	{ "shape within shape", "{" T1("a", "U8", "[[1]]", "[0,1]") "}", 1 },
	{ "negative dimension", "{" T1("a", "U8", "[-1]", "[0,1]") "}", 1 },
	{ "fraction", "{" T1("a", "U8", "[1.0]", "[0,1]") "}", 1 },
	{ "one offset", "{" T1("a", "U8", "[1]", "[1]") "}", 1 },
	{ "three offsets", "{" T1("a", "U8", "[1]", "[0,1,1]") "}", 1 },
	{ "offsets that fall", "{" T1("a", "U8", "[1]", "[1,0]") "}", 1 },
	{ "past the file", "{" T1("a", "U8", "[2]", "[0,2]") "}", 1 },
	{ "offsets of 2^64-1", "{" T1("a", "U8", "[1]", "[18446744073709551614,18446744073709551615]") "}", 1 },
	{ "another size", "{" T1("a", "U16", "[2]", "[0,2]") "}", 2 },
	{ "product over 2^64", "{" T1("a", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0 },
	{ "bits over 2^64", "{" T1("a", "F64", "[288230376151711744]", "[0,0]") "}", 0 },
	{ "half a byte", "{" T1("a", "F4", "[3]", "[0,2]") "}", 2 },
	{ "hole", "{" T1("a", "U8", "[1]", "[0,1]") "," T1("b", "U8", "[1]", "[2,3]") "}", 3 },
	{ "overlap", "{" T1("a", "U8", "[2]", "[0,2]") "," T1("b", "U8", "[2]", "[1,3]") "}", 3 },
	{ "name twice", "{" T1("a", "U8", "[1]", "[0,1]") "," T1("a", "U8", "[1]", "[1,2]") "}", 2 },
	{ "metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0 },
	{ "metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0 },
};

static void test_refused(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct wfs_safetensors *st = NULL;
		struct wfs_err err = { "" };

		CHECK_INT(open_header(&st, refused[i].json, refused[i].data, &err), -EBADMSG, refused[i].name);
		CHECK(!st && err.msg[0]);
		wfs_safetensors_close(st);
	}
}

static void test_header_len(void)
{
	static const struct { uint64_t n, size; int want; } rows[] = {
		{ 2, 10, 0 }, { 2, 9, -EBADMSG }, { 2, 7, -EBADMSG }, { 100000000, 200000000, 0 },
		{ 100000001, 200000000, -EBADMSG }, { UINT64_MAX, UINT64_MAX, -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct wfs_err err = { "" };
		uint8_t prefix[8];
		uint64_t len = 0;

		wfs_put64(prefix, rows[i].n);
		CHECK_INT(wfs_safetensors_header_len(&len, prefix, rows[i].size, &err), rows[i].want, "header length");
		CHECK_INT(len, rows[i].want ? 0 : (long long)rows[i].n + 8, "length");
	}
}

static int count(void *arg, const char *tensor, const char *file, struct wfs_err *err)
{
	(void)err;
	CHECK(tensor[0] && strcmp(file, "m.safetensors") == 0);
	++*(int *)arg;
	return 0;
}

static void test_index(void)
{
	static const struct { const char *json; int want, n; } rows[] = {
		{ "{\"metadata\":{\"total_size\":7},\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m.safetensors\"}}", 0, 2 },
		{ "{\"weight_map\":{}}", 0, 0 },
		{ "{}", -EBADMSG, 0 },
		{ "[]", -EBADMSG, 0 },
		{ "{\"weight_map\":[]}", -EBADMSG, 0 },
		{ "{\"weight_map\":\"m\"}", -EBADMSG, 0 },
		{ "{\"weight_map\":{\"a\":1}}", -EBADMSG, 0 },
		{ "{\"weight_map\":{\"a\":{\"b\":\"c\"}}}", -EBADMSG, 0 },
		{ "{\"weight_map\":{},\"weight_map\":{}}", -EBADMSG, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct wfs_err err = { "" };
		int n = 0;

		CHECK_INT(wfs_index_parse(rows[i].json, strlen(rows[i].json), count, &n, &err), rows[i].want, rows[i].json);
		CHECK_INT(n, rows[i].n, rows[i].json);
	}
}

TEST_MAIN(T(test_reads), T(test_refused), T(test_header_len), T(test_index))
