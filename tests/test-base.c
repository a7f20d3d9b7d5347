/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-base.c - errors, log lines, buffers, clocks, digests
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "test.h"
#include "weightfs/buf.h"
#include "weightfs/digest.h"
#include "weightfs/err.h"
#include "weightfs/log.h"

static const struct {
	const char *in, *out;
} escapes[] = {
	{ "plain text, \\x41 too", "plain text, \\x41 too" },
	{ "a\nb\tc\r", "a\\x0ab\\x09c\\x0d" },
	{ "\x1b[31m\x7f", "\\x1b[31m\\x7f" },
	{ "schön \xe2\x82\xac \xf0\x9f\x98\x80", "schön \xe2\x82\xac \xf0\x9f\x98\x80" },
	{ "c1 \xc2\x9b end", "c1 \\xc2\\x9b end" },
	{ "\xc2\xa0 is a letter", "\xc2\xa0 is a letter" },
	{ "latin1 \xe9 end", "latin1 \\xe9 end" },
	{ "overlong \xc0\xaf", "overlong \\xc0\\xaf" },
	{ "surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80" },
	{ "cut \xe2\x82", "cut \\xe2\\x82" },
	{ "past \xf4\x90\x80\x80", "past \\xf4\\x90\\x80\\x80" },
};

static void test_err_escapes(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(escapes); i++) {
		struct wfs_err err = { 0 };

		CHECK_INT(wfs_fail(&err, -EBADMSG, "%s", escapes[i].in), -EBADMSG, escapes[i].in);
		CHECK_STR(err.msg, escapes[i].out);
	}
}

static void test_err_wraps(void)
{
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_fail(&err, -EIO, "HTTP %d", 503), -EIO, "fail");
	CHECK_INT(wfs_wrap(&err, -EIO, "fetch %s", "9f2c"), -EIO, "wrap");
	CHECK_STR(err.msg, "fetch 9f2c: HTTP 503");
	CHECK_INT(wfs_wrap(&err, -EIO, "%s again", err.msg), -EIO, "its own message as an argument");
	CHECK_STR(err.msg, "fetch 9f2c: HTTP 503 again: fetch 9f2c: HTTP 503");

	errno = ENOSPC;
	CHECK_INT(wfs_fail_sys(&err, "write %s", "x"), -ENOSPC, "fail_sys");
	CHECK_STR(err.msg, "write x: No space left on device");

	err.msg[0] = '\0';
	CHECK_INT(wfs_wrap(&err, -ENOENT, "table 9f2c"), -ENOENT, "wrap of a silent code");
	CHECK_STR(err.msg, "table 9f2c: No such file or directory");
}

static void test_err_may_be_null(void)
{
	CHECK_INT(wfs_fail(NULL, -EBADMSG, "x"), -EBADMSG, "fail");
	CHECK_INT(wfs_wrap(NULL, -EBADMSG, "x"), -EBADMSG, "wrap");
	errno = EACCES;
	CHECK_INT(wfs_fail_sys(NULL, "x"), -EACCES, "fail_sys");
}

/* Whatever the length: no character and no escape is cut in two, and the cut is marked. */
static void check_cut(const char *unit, const char *shown, size_t shift)
{
	const size_t room = sizeof(((struct wfs_err *)0)->msg), step = strlen(shown);
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	size_t len, at = shift;

	CHECK(wfs_buf_printf(&text, "%.*s", (int)shift, "xxxxxxxx") == 0);
	while (text.len < 2000)
		CHECK(wfs_buf_printf(&text, "%s", unit) == 0);
	wfs_fail(&err, -EIO, "%s", (char *)text.data);

	len = strnlen(err.msg, room);
	CHECK(len < room && len + step >= room - 1);
	CHECK_STR(err.msg + len - 3, "...");
	while (at < len - 3 && strncmp(err.msg + at, shown, step) == 0)
		at += step;
	CHECK_INT((long long)at, (long long)len - 3, shown);
}

static void test_err_cuts_cleanly(void)
{
	static const char *const units[][2] = {
		{ "a", "a" }, { "\x01", "\\x01" }, { "\xc3\xb6", "\xc3\xb6" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" }, { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
	};
	struct wfs_err err = { 0 };

	for (size_t u = 0; u < ARRAY_SIZE(units); u++)
		for (size_t shift = 0; shift < 5; shift++)
			check_cut(units[u][0], units[u][1], shift);

	wfs_fail(&err, -EIO, "%0*d", (int)sizeof(err.msg) - 1, 7);
	CHECK(strlen(err.msg) == sizeof(err.msg) - 1 && strstr(err.msg, "07") && !strstr(err.msg, "."));
}

static void test_buf(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_buf moved;

	CHECK(wfs_buf_append(&b, NULL, 0) == 0 && b.len == 0);
	for (int i = 0; i < 1000; i++)
		CHECK(wfs_buf_printf(&b, "%d,", i) == 0 && b.data[b.len] == '\0');
	CHECK(b.len == strlen((char *)b.data) && b.len == 3890);
	CHECK(memcmp(b.data, "0,1,2,", 6) == 0 && memcmp(b.data + b.len - 4, "999,", 4) == 0);
	CHECK(wfs_buf_append(&b, "\0x", 2) == 0 && b.len == 3892 && b.data[3891] == 'x');

	moved = wfs_buf_take(&b);
	CHECK(!b.data && b.len == 0 && b.cap == 0 && moved.len == 3892);
	CHECK(wfs_buf_append(&b, "usable", 6) == 0);
	wfs_buf_free(&moved);
	CHECK(!moved.data && moved.len == 0);

	CHECK(wfs_buf_reserve(&moved, 100) == 0 && moved.cap >= 100 && moved.len == 0);
	CHECK(wfs_buf_reserve(&moved, 10) == 0 && moved.cap >= 100);
	wfs_buf_free(&moved);
	moved.len = moved.cap = SIZE_MAX - 1;	/* no allocation: the sum overflows first */
	CHECK_INT(wfs_buf_append(&moved, "abc", 3), -ENOMEM, "length past SIZE_MAX");
}

static const struct {
	const char *text, *sha256;
} vectors[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static void test_sha256_vectors(void)
{
	struct wfs_sha256 *s = wfs_sha256_new();

	REQUIRE(s);
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const char *text = vectors[i].text;
		struct wfs_digest one, parts;

		wfs_sha256(&one, text, strlen(text));
		CHECK_STR(wfs_hex(&one).s, vectors[i].sha256);
		for (size_t j = 0; j < strlen(text); j++)
			wfs_sha256_update(s, text + j, 1);
		wfs_sha256_final(s, &parts);	/* starts afresh for the next round */
		CHECK(wfs_digest_equal(&one, &parts));
	}
	wfs_sha256_free(s);
	wfs_sha256_free(NULL);
}

static void *hash_in_thread(void *out)
{
	for (int i = 0; i < 100; i++)
		wfs_sha256(out, "abc", 3);
	return NULL;
}

/* The leak checker sees to it that each thread frees its context. */
static void test_sha256_threads(void)
{
	struct wfs_digest d[4];
	pthread_t t[4];

	for (size_t i = 0; i < 4; i++)
		REQUIRE(pthread_create(&t[i], NULL, hash_in_thread, &d[i]) == 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		CHECK_STR(wfs_hex(&d[i]).s, vectors[1].sha256);
	}
}

static void test_digest_parse(void)
{
	static const char good[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";
	const struct wfs_digest zero = { { 0 } };
	struct wfs_digest d = zero;
	char bad[sizeof(good)];

	CHECK(wfs_digest_is_zero(&d));
	CHECK_INT(wfs_digest_parse(&d, good, 63), -EBADMSG, "63 digits");
	CHECK_INT(wfs_digest_parse(&d, good, 65), -EBADMSG, "65 digits");
	for (size_t i = 0; i < 64; i++) {
		memcpy(bad, good, sizeof(good));
		bad[i] = "AFg/:`G"[i % 7];
		CHECK_INT(wfs_digest_parse(&d, bad, 64), -EBADMSG, bad);
	}
	CHECK(wfs_digest_is_zero(&d));
	CHECK_INT(wfs_digest_parse(&d, good, 64), 0, "good");
	CHECK(d.b[0] == 0 && d.b[10] == 10 && d.b[31] == 0xff && !wfs_digest_is_zero(&d));
	CHECK_STR(wfs_hex(&d).s, good);
	CHECK(!wfs_digest_equal(&d, &zero));
}

static void test_xxh3_vectors(void)
{
	CHECK(wfs_xxh3("", 0) == 0x2d06800538d394c2ull);
	CHECK(wfs_xxh3("abc", 3) == 0x78af5f94892f3950ull);
}

static void test_random_differs(void)
{
	uint8_t a[32], b[32];

	CHECK(wfs_random(a, sizeof(a)) == 0 && wfs_random(b, sizeof(b)) == 0);
	CHECK(memcmp(a, b, sizeof(a)) != 0);
}

static void test_clocks(void)
{
	uint64_t mono = wfs_now_ns(), wall = wfs_wall_ns();

	CHECK(wfs_now_ns() >= mono);
	CHECK(wall > 1700000000ull * 1000000000u);	/* nanoseconds of this century */
}

static void test_little_endian(void)
{
	uint8_t b[9] = { 0 };

	wfs_put64(b + 1, 0x0807060504030201ull);
	for (uint8_t i = 1; i < 9; i++)
		CHECK(b[i] == i);
	CHECK(wfs_get64(b + 1) == 0x0807060504030201ull);
	wfs_put32(b + 1, 0xfffefdfcu);
	CHECK(wfs_get32(b + 1) == 0xfffefdfcu && b[5] == 5);
	wfs_put16(b + 1, 0xabcd);
	CHECK(wfs_get16(b + 1) == 0xabcd && b[3] == 0xfe);
}

/* Run fn with stderr in a file; its text, NUL-terminated, goes to out. */
static void capture_stderr(struct wfs_buf *out, void (*fn)(void))
{
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO);
	char part[4096];
	size_t n;

	REQUIRE(f && saved >= 0);
	fcntl(fileno(f), F_SETFL, O_APPEND);
	dup2(fileno(f), STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(f);
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		wfs_buf_append(out, part, n);
	wfs_buf_append(out, "", 1);
	fclose(f);
}

static void log_some(void)
{
	wfs_log_open("prog", 0);
	errno = EILSEQ;
	log_err("a\nforged: line %d", 1);
	CHECK_INT(errno, EILSEQ, "errno survives");
	log_warn("careful");
	log_info("hello");
	log_debug("not shown");
	wfs_log_set_level(WFS_LOG_DEBUG);
	log_debug("shown");
	wfs_log_set_level(WFS_LOG_ERROR);
	log_warn("not shown either");
	wfs_log_set_level(WFS_LOG_INFO);
}

static void test_log_lines(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;

	capture_stderr(&text, log_some);
	CHECK_STR((char *)text.data, "prog: error: a\\x0aforged: line 1\nprog: warning: careful\n"
		  "prog: hello\nprog: debug: shown\n");
}

#define LOG_THREADS 4
#define LOG_LINES 300

static void *log_many(void *unused)
{
	(void)unused;
	for (int i = 0; i < LOG_LINES; i++)
		log_info("%0200d end", i);
	return NULL;
}

static void log_in_threads(void)
{
	pthread_t t[LOG_THREADS];

	for (size_t i = 0; i < LOG_THREADS; i++)
		REQUIRE(pthread_create(&t[i], NULL, log_many, NULL) == 0);
	for (size_t i = 0; i < LOG_THREADS; i++)
		pthread_join(t[i], NULL);
}

static void test_log_threads_do_not_mix(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf text = WFS_BUF_INIT;
	const size_t line = strlen("prog: ") + 200 + strlen(" end\n");
	unsigned n = 0;

	capture_stderr(&text, log_in_threads);
	REQUIRE(text.data);
	for (char *p = (char *)text.data, *nl; (nl = strchr(p, '\n')); p = nl + 1, n++)
		CHECK(strncmp(p, "prog: 0", 7) == 0 && (size_t)(nl + 1 - p) == line);
	CHECK_INT(n, LOG_THREADS * LOG_LINES, "lines");
}

TEST_MAIN(T(test_err_escapes), T(test_err_wraps), T(test_err_may_be_null), T(test_err_cuts_cleanly),
	  T(test_buf), T(test_sha256_vectors), T(test_sha256_threads), T(test_digest_parse),
	  T(test_xxh3_vectors), T(test_random_differs), T(test_clocks), T(test_little_endian),
	  T(test_log_lines), T(test_log_threads_do_not_mix))
