/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-config.c - option tables: values, the sentence after a mistake, lists and ini files
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"
#include "weightfs/config.h"

struct options {
	bool flag;
	char *cache;
	struct wfs_strings base;
	uint64_t rate;
	unsigned poll, retries, umask, ready;
};

static const char *const choices[] = { "full", "lazy", NULL };

#define AT(field) offsetof(struct options, field), NULL, ""
static const struct wfs_opt table[] = {
	{ "flag", WFS_OPT_FLAG, AT(flag) },
	{ "cache", WFS_OPT_STRING, AT(cache) },
	{ "base", WFS_OPT_LIST, AT(base) },
	{ "rate", WFS_OPT_SIZE, AT(rate) },
	{ "poll", WFS_OPT_TIME, AT(poll) },
	{ "retries", WFS_OPT_UINT, AT(retries) },
	{ "umask", WFS_OPT_OCTAL, AT(umask) },
	{ "ready", WFS_OPT_CHOICE, offsetof(struct options, ready), choices, "" },
	{ "_netdev", WFS_OPT_IGNORE, 0, NULL, "" },
};
#define TABLE table, ARRAY_SIZE(table)

static void set_ok(struct options *o, const char *name, const char *value)
{
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_opt_set(o, TABLE, name, value, &err), 0, err.msg);
}

static void test_flag_string_list(void)
{
	struct options o = { 0 };

	set_ok(&o, "flag", NULL);
	CHECK(o.flag);
	set_ok(&o, "flag", "off");
	CHECK(!o.flag);
	set_ok(&o, "flag", "on");
	CHECK(o.flag);
	set_ok(&o, "cache", "/a");
	set_ok(&o, "cache", "/b");
	CHECK_STR(o.cache, "/b");
	set_ok(&o, "base", "/x");
	set_ok(&o, "base", "/y");
	CHECK(o.base.n == 2);
	CHECK_STR(o.base.v[0], "/x");
	CHECK_STR(o.base.v[1], "/y");
	set_ok(&o, "_netdev", NULL);
	set_ok(&o, "_netdev", "anything");
	set_ok(&o, "ready", "lazy");
	CHECK_INT(o.ready, 1, "ready");
	wfs_opt_free(&o, TABLE);
	CHECK(!o.cache && o.base.n == 0 && !o.base.v);
	wfs_opt_free(&o, TABLE);	/* harmless twice */
}

static const struct {
	const char *name, *value;
	long long want;
} numbers[] = {
	{ "rate", "0", 0 }, { "rate", "10", 10 }, { "rate", "64K", 65536 }, { "rate", "3.5G", 3758096384ll },
	{ "rate", "1T", 1099511627776ll }, { "rate", "2MiB", 2097152 }, { "rate", "0.000001T", 1099511 },
	{ "poll", "500ms", 500 }, { "poll", "30s", 30000 }, { "poll", "30", 30000 }, { "poll", "5m", 300000 },
	{ "poll", "2h", 7200000 }, { "poll", "1.5s", 1500 }, { "poll", "4294967295ms", 4294967295ll },
	{ "retries", "0", 0 }, { "retries", "4294967295", 4294967295ll },
	{ "umask", "022", 18 }, { "umask", "7777", 4095 },
};

static void test_numbers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct options o = { 0 };
		uint64_t got;

		set_ok(&o, numbers[i].name, numbers[i].value);
		got = o.rate + o.poll + o.retries + o.umask;	/* one of them was set */
		CHECK_INT((long long)got, numbers[i].want, numbers[i].value);
	}
}

#define SIZE_HELP "\" is not a size such as 4096, 64K, 3.5G or 1T"
#define TIME_HELP "\" is not a time such as 500ms, 30s, 5m or 2h"

static const struct {
	const char *name, *value, *msg;
} refused[] = {
	{ "flag", "yes", "option flag: \"yes\" is not \"on\" or \"off\"" },
	{ "cache", NULL, "option cache needs a value: cache=..." },
	{ "cache", "", "option cache needs a value: cache=..." },
	{ "base", NULL, "option base needs a value: base=..." },
	{ "rate", "fast", "option rate: \"fast" SIZE_HELP },
	{ "rate", "-1", "option rate: \"-1" SIZE_HELP },
	{ "rate", " 1", "option rate: \" 1" SIZE_HELP },
	{ "rate", "1.5", "option rate: \"1.5" SIZE_HELP },
	{ "rate", "1.G", "option rate: \"1.G" SIZE_HELP },
	{ "rate", ".5G", "option rate: \".5G" SIZE_HELP },
	{ "rate", "1e3", "option rate: \"1e3" SIZE_HELP },
	{ "rate", "1X", "option rate: \"1X" SIZE_HELP },
	{ "rate", "18446744073709551616", "option rate: \"18446744073709551616" SIZE_HELP },
	{ "rate", "16777216T", "option rate: \"16777216T" SIZE_HELP },
	{ "rate", "16777215.9999999T", "option rate: \"16777215.9999999T" SIZE_HELP },
	{ "poll", "5d", "option poll: \"5d" TIME_HELP },
	{ "poll", "0.5ms", "option poll: \"0.5ms" TIME_HELP },
	{ "poll", "4294967296ms", "option poll: \"4294967296ms" TIME_HELP },
	{ "retries", "4294967296", "option retries: \"4294967296\" is not a whole number from 0 to 4294967295" },
	{ "retries", "3x", "option retries: \"3x\" is not a whole number from 0 to 4294967295" },
	{ "umask", "8", "option umask: \"8\" is not an octal number from 0 to 7777" },
	{ "umask", "10000", "option umask: \"10000\" is not an octal number from 0 to 7777" },
	{ "ready", "full ", "option ready: \"full \" is not one of full, lazy" },
	{ "cahce", "/x", "unknown option \"cahce\": did you mean \"cache\"?" },
	{ "retrys", "1", "unknown option \"retrys\": did you mean \"retries\"?" },
	{ "Rate", "1", "unknown option \"Rate\": did you mean \"rate\"?" },
	{ "_netde", NULL, "unknown option \"_netde\"; there are: flag, cache, base, rate, poll, retries, umask, ready" },
	{ "", NULL, "unknown option \"\"; there are: flag, cache, base, rate, poll, retries, umask, ready" },
	{ "a-name-that-is-longer-than-any-of-ours", "1", "unknown option \"a-name-that-is-longer-than-any-of-ours\"; "
	  "there are: flag, cache, base, rate, poll, retries, umask, ready" },
};

static void test_refused(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct options o = { .rate = 77, .poll = 77 };
		struct wfs_err err = { 0 };

		CHECK_INT(wfs_opt_set(&o, TABLE, refused[i].name, refused[i].value, &err), -EINVAL, refused[i].msg);
		CHECK_STR(err.msg, refused[i].msg);
		CHECK(o.rate == 77 && o.poll == 77 && !o.cache);
	}
}

static void test_list(void)
{
	struct options o = { 0 };
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_opt_parse_list(&o, TABLE, "flag,cache=/a\\,b\\c=d,,base=x,base=y\\,,_netdev,rate=1K", &err),
		  0, err.msg);
	CHECK(o.flag && o.rate == 1024 && o.base.n == 2);
	CHECK_STR(o.cache, "/a,b\\c=d");
	CHECK_STR(o.base.v[1], "y,");
	CHECK_INT(wfs_opt_parse_list(&o, TABLE, "", &err), 0, "nothing");
	CHECK_INT(wfs_opt_parse_list(&o, TABLE, "rate=2K,pol=1,rate=4K", &err), -EINVAL, "pol");
	CHECK_STR(err.msg, "unknown option \"pol\": did you mean \"poll\"?");
	CHECK(o.rate == 2048);
	wfs_opt_free(&o, TABLE);
}

static int parse_ini(struct options *o, const char *text, size_t len, struct wfs_err *err)
{
	static const char *const sections[] = { "weightfs", "mount", NULL };
	char path[32];
	int fd = memfd_create("ini", MFD_CLOEXEC), r;

	CHECK(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	CHECK(dup2(fd, 99) == 99);	/* a name the messages below can know */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", 99);
	r = wfs_opt_parse_file(o, TABLE, path, sections, err);
	close(99);
	close(fd);
	return r;
}

#define INI(s) s, sizeof(s) - 1
#define P "/proc/self/fd/99:"
#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X200 X50 X50 X50 X50

static void test_file(void)
{
	struct options o = { 0 };
	struct wfs_err err = { 0 };

	CHECK_INT(parse_ini(&o, INI("# weightfs.conf\r\n\n[weightfs]\n  cache = /c d ; why\n\tbase = /x\n"
				    "\tbase: /y\n[other]\nunknown = 1\n[mount]\nrate=1K\nflag = off"), &err), 0, err.msg);
	CHECK_STR(o.cache, "/c d");
	CHECK(o.base.n == 2 && o.rate == 1024 && !o.flag);	/* indented lines are lines of their own */
	wfs_opt_free(&o, TABLE);
}

static const struct {
	const char *text;
	size_t len;
	const char *msg;
} bad_files[] = {
	{ INI("[weightfs]\n\nrate = fast\n"), P "3: option rate: \"fast" SIZE_HELP },
	{ INI("[weightfs]\ncahce = x\nrate = fast\n"), P "2: unknown option \"cahce\": did you mean \"cache\"?" },
	{ INI("rate = 1\n"), P "1: \"rate\" stands before the first [section]" },
	{ INI("[weightfs]\nflag\n"), P "2: neither [section] nor name = value" },
	{ INI("[weightfs\nrate = 1\n"), P "1: a section is written [name], with at most 49 bytes" },
	{ INI("[weightfs]\ncache =\n"), P "2: option cache needs a value: cache=..." },
	{ INI("[other]\n[weightfs]\ncache = " X200 "\n"), P "3: longer than 198 bytes, or holds a NUL byte" },
	{ INI("[weightfs]\ncache = /a\0b\n"), P "2: longer than 198 bytes, or holds a NUL byte" },
	{ INI("[" X50 "]\n"), P "1: a section is written [name], with at most 49 bytes" },
};

static void test_bad_files(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_files); i++) {
		struct options o = { 0 };
		struct wfs_err err = { 0 };

		CHECK_INT(parse_ini(&o, bad_files[i].text, bad_files[i].len, &err), -EINVAL, bad_files[i].msg);
		CHECK_STR(err.msg, bad_files[i].msg);
		wfs_opt_free(&o, TABLE);
	}
}

static void test_no_file(void)
{
	static const char *const sections[] = { "weightfs", NULL };
	struct options o = { 0 };
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_opt_parse_file(&o, TABLE, "/nonexistent/weightfs.conf", sections, &err), -ENOENT, "missing");
	CHECK_STR(err.msg, "");
	CHECK_INT(wfs_opt_parse_file(&o, TABLE, "/", sections, &err), -EIO, "directory");
	CHECK_STR(err.msg, "/: cannot be read");
}

static void test_human_size(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1610612736, "1.5 GiB" },
		{ 1048575, "1.0 MiB" }, { UINT64_MAX, "16.0 EiB" },
	};
	char out[32];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		CHECK_STR(wfs_human_size(out, sizes[i].bytes), sizes[i].text);
}

TEST_MAIN(T(test_flag_string_list), T(test_numbers), T(test_refused), T(test_list), T(test_file),
	  T(test_bad_files), T(test_no_file), T(test_human_size))
