/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-json.c - what the JSON door takes, what it refuses, what its events say
 */
#include <errno.h>
#include <sys/resource.h>

#include "test.h"
#include "weightfs/json.h"

static int count(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)ev;
	(void)err;
	++*(uint64_t *)arg;
	return 0;
}

#define DOC(s) s, sizeof(s) - 1

static const struct {
	const char *name, *doc;
	size_t len;
	int want;
} documents[] = {
	{ "object", DOC("{}"), 0 },
	{ "blanks around", DOC(" \t\r\n[ 1 , 2 ] \n"), 0 },
	{ "number alone", DOC("12"), 0 },
	{ "all kinds", DOC("[{\"a\":null},true,false,-1.5e-3,\"x\"]"), 0 },
	{ "pair", DOC("\"\\ud83d\\uDE00\""), 0 },
	{ "backslash, then u", DOC("\"\\\\ud800\""), 0 },
	{ "depth 16", DOC("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"), 0 },
	{ "depth 17", DOC("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]"), -EBADMSG },
	{ "nothing", DOC(""), -EBADMSG },
	{ "blanks", DOC("  \n"), -EBADMSG },
	{ "unfinished", DOC("{\"a\":1"), -EBADMSG },
	{ "unfinished string", DOC("\"abc"), -EBADMSG },
	{ "two documents", DOC("{} {}"), -EBADMSG },
	{ "two numbers", DOC("1 2"), -EBADMSG },
	{ "trailing letter", DOC("{}x"), -EBADMSG },
	{ "trailing NUL", DOC("{}\0"), -EBADMSG },
	{ "NUL inside", DOC("[1,\0 2]"), -EBADMSG },
	{ "trailing comma", DOC("[1,]"), -EBADMSG },
	{ "key without quotes", DOC("{a:1}"), -EBADMSG },
	{ "leading zero", DOC("[01]"), -EBADMSG },
	{ "plus", DOC("[+1]"), -EBADMSG },
	{ "NaN", DOC("[NaN]"), -EBADMSG },
	{ "comment", DOC("/* x */ {}"), -EBADMSG },
	{ "byte order mark", DOC("\xef\xbb\xbf{}"), -EBADMSG },
	{ "vertical tab as a blank", DOC("[1,\v2]"), -EBADMSG },
	{ "raw newline in a string", DOC("\"a\nb\""), -EBADMSG },
	{ "escaped NUL", DOC("\"a\\u0000b\""), -EBADMSG },
	{ "escaped NUL in a key", DOC("{\"a\\u0000\":1}"), -EBADMSG },
	{ "high half", DOC("\"\\ud800\""), -EBADMSG },
	{ "high half twice", DOC("\"\\ud800\\ud800\""), -EBADMSG },
	{ "high half, then a letter", DOC("\"\\ud800x\""), -EBADMSG },
	{ "low half", DOC("\"\\udc00\""), -EBADMSG },
	{ "unknown escape", DOC("\"\\x41\""), -EBADMSG },
	{ "backslash at the end", DOC("\"\\"), -EBADMSG },
	{ "overlong", DOC("\"\xc0\x80\""), -EBADMSG },
	{ "surrogate in UTF-8", DOC("\"\xed\xa0\x80\""), -EBADMSG },
	{ "past U+10FFFF", DOC("\"\xf4\x90\x80\x80\""), -EBADMSG },
	{ "latin1", DOC("\"\xe9\""), -EBADMSG },
	{ "UTF-8 cut at the end", DOC("\"\xe2\x82"), -EBADMSG },
};

static void test_documents(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		char *doc = malloc(documents[i].len + !documents[i].len);	/* no byte behind */
		struct wfs_err err = { 0 };
		uint64_t n = 0;

		REQUIRE(doc);
		memcpy(doc, documents[i].doc, documents[i].len);
		CHECK_INT(wfs_json_parse(doc, documents[i].len, 100, count, &n, &err),
			  documents[i].want, documents[i].name);
		CHECK((documents[i].want < 0) == (err.msg[0] != '\0'));
		free(doc);
	}
}

static int describe(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	static const char *const kinds[] = { "{", "}", "[", "]", "s", "u", "n", "b", "0" };
	struct wfs_buf *b = arg;

	(void)err;
	for (unsigned i = 0; i < ev->depth; i++)
		if (ev->key[i])
			CHECK(wfs_buf_printf(b, "/%s", ev->key[i]) == 0);
		else
			CHECK(wfs_buf_printf(b, "/%u", (unsigned)ev->index[i]) == 0);
	CHECK(wfs_buf_printf(b, " %s", kinds[ev->kind]) == 0);
	if (ev->kind == WFS_JSON_STRING || ev->kind == WFS_JSON_NUMBER)
		CHECK(strlen(ev->text) == ev->len && wfs_buf_printf(b, " %s", ev->text) == 0);
	if (ev->kind == WFS_JSON_UINT || ev->kind == WFS_JSON_BOOL)
		CHECK(wfs_buf_printf(b, " %" PRIu64, ev->uint) == 0);
	return wfs_buf_append(b, "\n", 1);
}

static const struct {
	const char *doc, *events;
} described[] = {
	{ "{\"files\":[{\"path\":\"x\"},{\"path\":\"y\"}],\"n\":null}",
	  " {\n/files [\n/files/0 {\n/files/0/path s x\n/files/0 }\n/files/1 {\n/files/1/path s y\n"
	  "/files/1 }\n/files ]\n/n 0\n }\n" },
	{ "[[],[1,[2],3],{}]",
	  " [\n/0 [\n/0 ]\n/1 [\n/1/0 u 1\n/1/1 [\n/1/1/0 u 2\n/1/1 ]\n/1/2 u 3\n/1 ]\n/2 {\n/2 }\n ]\n" },
	{ "{\"a\":1,\"a\":2,\"\":true}", " {\n/a u 1\n/a u 2\n/ b 1\n }\n" },
	{ "[0,18446744073709551615,18446744073709551616,-0,-1,1.0,1e2,false]",
	  " [\n/0 u 0\n/1 u 18446744073709551615\n/2 n 18446744073709551616\n/3 n -0\n/4 n -1\n"
	  "/5 n 1.0\n/6 n 1e2\n/7 b 0\n ]\n" },
	{ "{\"\\u0061\\n\":\"\\ud83d\\ude00\"}", " {\n/a\n s \xf0\x9f\x98\x80\n }\n" },
	{ "\"\"", " s \n" },
};

static void test_events(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(described); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
		struct wfs_err err = { 0 };

		CHECK_INT(wfs_json_parse(described[i].doc, strlen(described[i].doc), 100, describe, &b, &err),
			  0, err.msg);
		CHECK(wfs_buf_append(&b, "", 1) == 0);
		CHECK_STR((char *)b.data, described[i].events);
	}
}

/* Long keys make the key buffer move while outer keys are in use. */
static int check_long_keys(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)err;
	for (unsigned i = 0; i < ev->depth; i++)
		CHECK(strlen(ev->key[i]) == 1000u << i && ev->key[i][0] == (char)('a' + i));
	*(unsigned *)arg |= 1u << ev->depth;
	return 0;
}

static void test_keys_stay_valid(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	unsigned seen = 0;

	for (unsigned i = 0; i < 8; i++) {
		CHECK(wfs_buf_append(&b, "{\"", 2) == 0);
		for (unsigned j = 0; j < 1000u << i; j++)
			CHECK(wfs_buf_append(&b, &"abcdefgh"[i], 1) == 0);
		CHECK(wfs_buf_append(&b, "\":", 2) == 0);
	}
	CHECK(wfs_buf_append(&b, "1}}}}}}}}", 9) == 0);
	CHECK_INT(wfs_json_parse(b.data, b.len, 100, check_long_keys, &seen, &err), 0, err.msg);
	CHECK_INT(seen, 0x1ff, "depths");
}

static void test_event_limit(void)
{
	static const char doc[] = "{\"a\":[1,2],\"b\":\"x\"}";	/* 5 values, 2 keys */
	struct wfs_err err = { 0 };
	uint64_t n = 0;

	CHECK_INT(wfs_json_parse(doc, strlen(doc), 7, count, &n, &err), 0, "at the limit");
	CHECK_INT((long long)n, 7, "events: 5 values, 2 ends");
	CHECK_INT(wfs_json_parse(doc, strlen(doc), 6, count, &n, &err), -EBADMSG, "one over");
	CHECK_STR(err.msg, "JSON: more than 6 values and keys");
}

static int stop_at_two(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	++*(uint64_t *)arg;
	if (ev->kind == WFS_JSON_UINT && ev->uint == 2)
		return wfs_fail(err, -ECANCELED, "two is enough");
	return 0;
}

static void test_callback_stops(void)
{
	struct wfs_err err = { 0 };
	uint64_t n = 0;

	CHECK_INT(wfs_json_parse("[1,2,3,x", 8, 100, stop_at_two, &n, &err), -ECANCELED, "stop");
	CHECK_INT((long long)n, 3, "events until then");
	CHECK_STR(err.msg, "two is enough");
}

static int top_a(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)err;
	if (wfs_json_at_top(ev, "a"))
		++*(uint64_t *)arg;
	return 0;
}

static void test_at_top(void)
{
	uint64_t n = 0;

	CHECK_INT(wfs_json_parse(DOC("{\"a\":1,\"b\":{\"a\":2},\"aa\":3}"), 100, top_a, &n, NULL), 0, "parse");
	CHECK_INT((long long)n, 1, "only the outer a");
	CHECK_INT(wfs_json_parse(DOC("[\"a\"]"), 100, top_a, &n, NULL), 0, "array");
	CHECK_INT((long long)n, 1, "no member");
}

static const struct {
	const char *in, *out;
} quoted[] = {
	{ "", "\"\"" },
	{ "plain / text", "\"plain / text\"" },
	{ "a\"b\\c", "\"a\\\"b\\\\c\"" },
	{ "\n\t\r\x01\x1f\x7f", "\"\\n\\t\\u000d\\u0001\\u001f\\u007f\"" },
	{ "\xc3\xb6 \xf0\x9f\x98\x80", "\"\xc3\xb6 \xf0\x9f\x98\x80\"" },
	{ "\xc2\x9b", "\"\\u009b\"" },
	{ "x\xffy\xe2\x82", "\"x\xef\xbf\xbdy\xef\xbf\xbd\xef\xbf\xbd\"" },
};

static void test_quote(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(quoted); i++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;

		CHECK_INT(wfs_json_quote(&b, quoted[i].in), 0, quoted[i].out);
		CHECK(wfs_buf_append(&b, "", 1) == 0);
		CHECK_STR((char *)b.data, quoted[i].out);
	}
}

static void test_quote_of_random_bytes_is_json(void)
{
	uint64_t seed = 20240, n = 0;

	for (int round = 0; round < 2000; round++) {
		WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
		struct wfs_err err = { 0 };
		char text[24];

		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (char)test_random(&seed);
		text[sizeof(text) - 1] = '\0';
		CHECK_INT(wfs_json_quote(&b, text), 0, "quote");
		CHECK_INT(wfs_json_parse(b.data, b.len, 1, count, &n, &err), 0, err.msg);
	}
}

static long peak_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

#define HOSTILE_BYTES 10000000u

static void test_memory_does_not_grow(void)
{
	char *doc = malloc(HOSTILE_BYTES);
	struct wfs_err err = { 0 };
	uint64_t n = 0;
	long before;

	REQUIRE(doc);
	for (size_t i = 0; i < HOSTILE_BYTES; i++)
		doc[i] = ",{}"[i % 3];
	doc[0] = '[';
	doc[HOSTILE_BYTES - 1] = ']';
	before = peak_kib();
	CHECK_INT(wfs_json_parse(doc, HOSTILE_BYTES, 10000000, count, &n, &err), 0, err.msg);
	CHECK_INT((long long)n, 2 + 2 * (HOSTILE_BYTES / 3), "events");
	CHECK(peak_kib() - before < 4096);

	for (size_t i = 0; i < HOSTILE_BYTES; i++)
		doc[i] = "{}"[i % 2];
	CHECK_INT(wfs_json_parse(doc, HOSTILE_BYTES, 10000000, count, &n, &err), -EBADMSG, "{}{}{}...");
	CHECK(peak_kib() - before < 4096);
	free(doc);
}

TEST_MAIN(T(test_documents), T(test_events), T(test_keys_stay_valid), T(test_event_limit),
	  T(test_callback_stops), T(test_at_top), T(test_quote), T(test_quote_of_random_bytes_is_json),
	  T(test_memory_does_not_grow))
