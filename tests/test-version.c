/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON objects of a store, and the names in them. */
#include "test.h"

#include <errno.h>

#include "weightfs/limits.h"
#include "weightfs/version.h"

#define RUN "0123456789abcdef0123456789abcdef"
#define D "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD "\"run\":\"" RUN "\",\"sequence\":42,\"time\":5,\"label\":\"l\",\"parents\":[\"" D "\"]"
#define F(path) "{\"path\":\"" path "\",\"size\":7,\"sha256\":\"" D "\",\"travel\":0}"
#define FT(more) "{\"path\":\"m\",\"size\":7,\"table\":\"" D "\",\"travel\":1" more "}"
#define S(members) ",\"strides\":[" members "]"
#define SV(back) "{\"back\":" #back ",\"version\":\"" D "\"}"
#define SF(back) "{\"back\":" #back ",\"table\":\"" D "\",\"travel\":3}"
#define VS(strides, files) "{\"format\":1," HEAD strides ",\"files\":[" files "]}"
#define V(files) "{\"format\":1," HEAD ",\"files\":[" files "]}"

static const struct {
	const char *name, *json;
	int want;
} versions[] = {
	{ "whole file", V(F("a")), 0 },
	{ "unknown members", "{\"format\":1,\"new\":{\"a\":[1]}," HEAD ",\"files\":[" FT(",\"x\":{\"path\":1}") "]}", 0 },
	{ "anchor and layout", V(FT(",\"anchor\":\"" D "\",\"layout\":\"" D "\"")), 0 },
	{ "full copy further back", V(FT(",\"full\":9,\"full_back\":41")), 0 },
	{ "strides", VS(S(SV(8) "," SV(40)), FT(S(SF(8) "," SF(40))) "," F("n")), 0 },
	{ "a stride that not every file has", VS(S(SV(8) "," SV(40)), FT(S(SF(40)))), 0 },
	{ "strides behind the files", "{\"format\":1," HEAD ",\"files\":[" FT(S(SF(8))) "]" S(SV(8)) "}", 0 },
	{ "unknown members of a stride", VS(S("{\"x\":[{\"back\":1}],\"back\":8,\"version\":\"" D "\"}"), FT("")), 0 },
	{ "full copy before version 1", V(FT(",\"full_back\":42")), -EBADMSG },
	{ "full copy here and further back", V(FT(",\"anchor\":\"" D "\",\"full_back\":1")), -EBADMSG },
	{ "a stride of the file alone", VS(S(SV(8)), FT(S(SF(9)))), -EBADMSG },
	{ "a stride to before version 1", VS(S(SV(42)), FT("")), -EBADMSG },
	{ "a stride to the parent", VS(S(SV(1)), FT("")), -EBADMSG },
	{ "strides that fall", VS(S(SV(9) "," SV(8)), FT("")), -EBADMSG },
	{ "a stride twice", VS(S(SV(8)), FT(S(SF(8) "," SF(8)))), -EBADMSG },
	{ "five strides", VS(S(SV(2) "," SV(3) "," SV(4) "," SV(5) "," SV(6)), FT("")), -EBADMSG },
	{ "a stride without its table", VS(S(SV(8)), FT(S("{\"back\":8,\"travel\":3}"))), -EBADMSG },
	{ "a stride that is a number", VS(S("8"), FT("")), -EBADMSG },
	{ "strides of a whole file", VS(S(SV(8)), "{\"path\":\"a\",\"size\":7,\"sha256\":\"" D "\",\"travel\":0" S(SF(8)) "}"), -EBADMSG },
	{ "a file beside a directory", V(F("a") "," F("a-b/c") "," F("b/c")), 0 },
	{ "format 2, all else unknown", "{\"run\":7,\"format\":2}", -EPROTONOSUPPORT },
	{ "no format", "{" HEAD ",\"files\":[" F("a") "]}", -EBADMSG },
	{ "format twice", "{\"format\":1,\"format\":1," HEAD ",\"files\":[" F("a") "]}", -EBADMSG },
	{ "array", "[1]", -EBADMSG },
	{ "no files", "{\"format\":1," HEAD "}", -EBADMSG },
	{ "empty files", V(""), -EBADMSG },
	{ "files twice", "{\"format\":1," HEAD ",\"files\":[],\"files\":[" F("a") "]}", -EBADMSG },
	{ "files is an object", "{\"format\":1," HEAD ",\"files\":{\"a\":" F("a") "}}", -EBADMSG },
	{ "file is a number", V("1"), -EBADMSG },
	{ "no label", "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":1,\"time\":5,\"parents\":[],\"files\":[" F("a") "]}", -EBADMSG },
	{ "sequence 0", "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":0,\"time\":5,\"label\":\"\",\"parents\":[],\"files\":[" F("a") "]}", -EBADMSG },
	{ "sequence 2^53", "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":9007199254740992,\"time\":5,\"label\":\"\",\"parents\":[],\"files\":[" F("a") "]}", -EBADMSG },
	{ "run in capitals", "{\"format\":1,\"run\":\"0123456789ABCDEF0123456789abcdef\",\"sequence\":1,\"time\":5,\"label\":\"\",\"parents\":[],\"files\":[" F("a") "]}", -EBADMSG },
	{ "parent that is no digest", "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":1,\"time\":5,\"label\":\"\",\"parents\":[\"x\"],\"files\":[" F("a") "]}", -EBADMSG },
	{ "path twice", V(F("a") "," F("a")), -EBADMSG },
	{ "not sorted", V(F("b") "," F("a")), -EBADMSG },
	{ "a directory that is a file", V(F("a") "," F("a-b") "," F("a/c")), -EBADMSG },
	{ "path that climbs", V(F("../a")), -EBADMSG },
	{ "no travel", V("{\"path\":\"a\",\"size\":7,\"sha256\":\"" D "\"}"), -EBADMSG },
	{ "size twice", V(FT(",\"size\":7")), -EBADMSG },
	{ "neither digest", V("{\"path\":\"a\",\"size\":7,\"travel\":0}"), -EBADMSG },
	{ "both digests", V(FT(",\"sha256\":\"" D "\"")), -EBADMSG },
	{ "whole with layout", V("{\"path\":\"a\",\"size\":7,\"sha256\":\"" D "\",\"travel\":0,\"layout\":\"" D "\"}"), -EBADMSG },
	{ "plain, cold and chain", V(FT(",\"full\":9,\"full_back\":3,\"cold\":12,\"chain\":3")), 0 },
	{ "a plain copy", V(FT(",\"anchor\":\"" D "\",\"full\":9,\"plain\":\"" D "\"")), 0 },
	{ "plain without an anchor", V(FT(",\"plain\":\"" D "\"")), -EBADMSG },
	{ "a chain beside an anchor", V(FT(",\"anchor\":\"" D "\",\"full\":9,\"chain\":1")), -EBADMSG },
	{ "a chain too long", V(FT(",\"cold\":12,\"chain\":257")), -EBADMSG },
	{ "whole with a chain", V("{\"path\":\"a\",\"size\":7,\"sha256\":\"" D "\",\"travel\":0,\"chain\":1}"), -EBADMSG },
	{ "whole over 1 MiB", V("{\"path\":\"a\",\"size\":1048577,\"sha256\":\"" D "\",\"travel\":0}"), -EBADMSG },
	{ "empty with a wrong digest", V("{\"path\":\"a\",\"size\":0,\"sha256\":\"" D "\",\"travel\":0}"), -EBADMSG },
	{ "size over 16 TiB", V("{\"path\":\"a\",\"size\":17592186044417,\"table\":\"" D "\",\"travel\":0}"), -EBADMSG },
	{ "negative size", V("{\"path\":\"a\",\"size\":-1,\"table\":\"" D "\",\"travel\":0}"), -EBADMSG },
};

static void test_versions(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf one = WFS_BUF_INIT;
		WFS_AUTO(wfs_buf_free) struct wfs_buf two = WFS_BUF_INIT;
		struct wfs_version v, again;
		struct wfs_err err = { "" };

		CHECK_INT(wfs_version_parse(&v, versions[i].json, strlen(versions[i].json), &err), versions[i].want,
			  versions[i].name);
		if (versions[i].want) {
			CHECK(err.msg[0] && !v.files && !v.label);
			continue;
		}
		CHECK_INT(wfs_version_format(&one, &v), 0, "format");
		CHECK_INT(wfs_version_parse(&again, one.data, one.len, &err), 0, err.msg);
		CHECK_INT(wfs_version_format(&two, &again), 0, "format");
		CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
		CHECK(again.n_files == v.n_files && again.sequence == 42 && again.n_parents == 1);
		wfs_version_free(&v);
		wfs_version_free(&again);
	}
}

static void test_later_format_is_named(void)
{
	static const char json[] = "{\"format\":2}";
	struct wfs_err err = { "" };
	struct wfs_commit c;

	CHECK_INT(wfs_commit_parse(&c, json, strlen(json), &err), -EPROTONOSUPPORT, "commit");
	CHECK(strstr(err.msg, "format 2, this program reads 1"));
}

static void test_commits(void)
{
	static const struct { const char *json; int want; } rows[] = {
		{ "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":42,\"version\":\"" D "\"}", 0 },
		{ "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":42}", -EBADMSG },
		{ "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":\"42\",\"version\":\"" D "\"}", -EBADMSG },
		{ "{\"format\":1,\"run\":\"" RUN "\",\"sequence\":42,\"sequence\":42,\"version\":\"" D "\"}", -EBADMSG },
		{ "", -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
		struct wfs_err err = { "" };
		struct wfs_commit c = { .sequence = 0 };

		CHECK_INT(wfs_commit_parse(&c, rows[i].json, strlen(rows[i].json), &err), rows[i].want, rows[i].json);
		CHECK_INT(c.sequence, rows[i].want ? 0 : 42, "sequence");
		if (rows[i].want == 0) {
			CHECK_INT(wfs_commit_format(&b, &c), 0, "format");
			CHECK(b.len == strlen(rows[i].json) + 1 && memcmp(b.data, rows[i].json, b.len - 1) == 0);
		}
	}
}

static void test_store_info(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_run run = { RUN }, got = { "" };
	struct wfs_err err = { "" };
	static char big[5000];

	CHECK_INT(wfs_store_info_format(&b, &run), 0, "format");
	CHECK_INT(wfs_store_info_parse(&got, b.data, b.len, &err), 0, err.msg);
	CHECK_STR(got.s, RUN);
	memset(big, ' ', sizeof(big));
	memcpy(big, b.data, b.len);
	CHECK_INT(wfs_store_info_parse(&got, big, sizeof(big), &err), -EBADMSG, "too long");
}

static void test_names(void)
{
	static const struct { const char *name; int want; } rows[] = {
		{ "config.json", 0 }, { "a/b/c/d/e/f/g/h", 0 }, { "a/b/c/d/e/f/g/h/i", -EBADMSG }, { "\xc3\xa9", 0 },
		{ "...", 0 }, { ".x", 0 }, { "", -EBADMSG }, { ".", -EBADMSG }, { "..", -EBADMSG }, { "a/../b", -EBADMSG },
		{ "a/./b", -EBADMSG }, { "/a", -EBADMSG }, { "a/", -EBADMSG }, { "a//b", -EBADMSG }, { "a\\b", -EBADMSG },
		{ "a\nb", -EBADMSG }, { "a\x7f", -EBADMSG }, { "\xff", -EBADMSG }, { "\xc0\xae", -EBADMSG },
		{ "\xed\xa0\x80", -EBADMSG },
	};
	char longest[300];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct wfs_err err = { "" };

		CHECK_INT(wfs_name_check(rows[i].name, &err), rows[i].want, rows[i].name);
		CHECK(!rows[i].want == !err.msg[0]);
	}
	memset(longest, 'a', sizeof(longest));
	longest[255] = '\0';
	CHECK_INT(wfs_name_check(longest, NULL), 0, "255 bytes");
	longest[255] = 'a';
	longest[256] = '\0';
	CHECK_INT(wfs_name_check(longest, NULL), -EBADMSG, "256 bytes");
}

static void test_kinds(void)
{
	static const char *const code[] = { "modeling.py", "d/x.PKL", "pytorch_model-00001.bin", "optimizer.bin", "a.pt", "l.so" };
	static const char *const data[] = { "a.npy", "model.safetensors", "x.bin", "py", "d.py/x" };

	for (size_t i = 0; i < ARRAY_SIZE(code); i++)
		CHECK_INT(wfs_name_is_code(code[i]), 1, code[i]);
	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		CHECK_INT(wfs_name_is_code(data[i]), 0, data[i]);
	CHECK(wfs_name_is_shard("d/m.safetensors") && !wfs_name_is_shard("m.safetensors.index.json"));
	CHECK(wfs_name_is_index("m.safetensors.index.json") && !wfs_name_is_index("index.json"));
}

static void test_index_check(void)
{
	static const char json[] = V(F("d/m.safetensors") "," F("m.safetensors"));
	static const struct { const char *path, *file; int want; } rows[] = {
		{ "x.safetensors.index.json", "m.safetensors", 0 }, { "d/x.safetensors.index.json", "m.safetensors", 0 },
		{ "e/x.safetensors.index.json", "m.safetensors", -EBADMSG },
		{ "x.safetensors.index.json", "d/m.safetensors", -EBADMSG },
		{ "d/x.safetensors.index.json", "../m.safetensors", -EBADMSG },
		{ "x.safetensors.index.json", "/m.safetensors", -EBADMSG },
		{ "x.safetensors.index.json", "n.safetensors", -EBADMSG }, { "x.safetensors.index.json", "m", -EBADMSG },
	};
	struct wfs_err err = { "" };
	struct wfs_version v;

	CHECK_INT(wfs_version_parse(&v, json, strlen(json), &err), 0, err.msg);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char index[200];

		snprintf(index, sizeof(index), "{\"weight_map\":{\"t\":\"%s\"}}", rows[i].file);
		CHECK_INT(wfs_index_check(&v, rows[i].path, index, strlen(index), &err), rows[i].want, rows[i].file);
	}
	wfs_version_free(&v);
}

TEST_MAIN(T(test_versions), T(test_later_format_is_named), T(test_commits), T(test_store_info), T(test_names),
	  T(test_kinds), T(test_index_check))
