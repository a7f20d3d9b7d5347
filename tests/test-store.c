/* SPDX-License-Identifier: Apache-2.0 */
/* test-store.c - store URLs, and the directory store on a real file system */
#include "weightfs/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "test.h"
#include "weightfs/io.h"

#define HEX "9f2c41aa00000000000000000000000000000000000000000000000000000000"

struct fixture {
	char dir[PATH_MAX];
	struct wfs_store *st;
};

static void fixture_open(struct fixture *f)
{
	snprintf(f->dir, sizeof(f->dir), "/tmp/wfs-store-XXXXXX");
	CHECK(mkdtemp(f->dir) != NULL);
	CHECK_INT(wfs_store_open(&f->st, f->dir, NULL, false, NULL), 0, "open");
}

static void fixture_close(struct fixture *f)
{
	wfs_store_close(f->st);
	wfs_remove_tree(AT_FDCWD, f->dir, NULL);
}

static const char *in(const struct fixture *f, const char *name)
{
	static char path[PATH_MAX + 256];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

/* Entries below name; -1 when it is not there. */
static int count_in(const struct fixture *f, const char *name)
{
	DIR *d = opendir(in(f, name));
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void write_raw(const struct fixture *f, const char *name, const char *text)
{
	CHECK_INT(wfs_write_file(AT_FDCWD, in(f, name), text, strlen(text), 0644, NULL), 0, name);
}

struct got {
	struct wfs_buf b;
	uint64_t start;
	bool begun, broken;
	size_t stop_at;		/* 0: never */
};

static int collect(void *arg, uint64_t off, const void *data, size_t len)
{
	struct got *g = arg;

	if (!g->begun)
		g->start = off;
	if (off != g->start + g->b.len)
		g->broken = true;
	g->begun = true;
	if (wfs_buf_append(&g->b, data, len) < 0)
		return -ENOMEM;
	return g->stop_at && g->b.len >= g->stop_at ? -ECANCELED : 0;
}

static const struct {
	const char *url;
	int want;
	const char *says;
} refused_urls[] = {
	{ "",                              -EINVAL, "a store is" },
	{ "s3://bucket/x",                 -EINVAL, "s3:// is not supported" },
	{ "ftp://host/x",                  -EINVAL, "a store is" },
	{ "file://host/x",                 -EINVAL, "this machine" },
	{ "file://relative",               -EINVAL, "absolute" },
	{ "file:///tmp?x",                 -EINVAL, "no query" },
	{ "file:///tmp#x",                 -EINVAL, "no query" },
	{ "file:///tmp/%zz",               -EINVAL, "two hexadecimal" },
	{ "file:///tmp/%00x",              -EINVAL, "two hexadecimal" },
	{ "file:///tmp/%4",                -EINVAL, "two hexadecimal" },
	{ "/nonexistent/store",            -ENOENT, "/nonexistent/store" },
	{ "/etc/passwd",                   -ENOTDIR, "/etc/passwd" },
	{ "file:///etc/passwd",            -ENOTDIR, "/etc/passwd" },
};

static void test_open_refuses(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused_urls); i++) {
		struct wfs_store *st = NULL;
		struct wfs_err err = { 0 };

		CHECK_INT(wfs_store_open(&st, refused_urls[i].url, NULL, false, &err),
			  refused_urls[i].want, refused_urls[i].url);
		CHECK(!st && strstr(err.msg, refused_urls[i].says));
	}
}

static void test_open_forms(void)
{
	char dir[] = "/tmp/wfs store%-XXXXXX", url[256];

	REQUIRE(mkdtemp(dir));
	for (int i = 0; i < 3; i++) {
		struct wfs_store *st = NULL;
		const char *id = dir + strlen(dir) - 6;

		if (i == 0)
			snprintf(url, sizeof(url), "file:///tmp/wfs%%20store%%25-%s", id);
		else if (i == 1)
			snprintf(url, sizeof(url), "FILE://localhost/tmp/wfs%%20store%%25-%s", id);
		else
			snprintf(url, sizeof(url), "%s", dir);
		CHECK_INT(wfs_store_open(&st, url, NULL, false, NULL), 0, url);
		REQUIRE(st);
		CHECK_STR(wfs_store_url(st), dir);
		CHECK(wfs_store_is_local(st));
		wfs_store_close(st);
	}
	CHECK(rmdir(dir) == 0);		/* readers and openers left nothing */
}

static void test_open_creates(void)
{
	struct fixture f;
	struct wfs_store *st = NULL;

	fixture_open(&f);
	CHECK_INT(wfs_store_open(&st, in(&f, "a/b"), NULL, false, NULL), -ENOENT, "missing");
	CHECK_INT(wfs_store_open(&st, in(&f, "a/b"), NULL, true, NULL), 0, "create");
	wfs_store_close(st);
	CHECK_INT(count_in(&f, "a/b"), 0, "a fresh store is empty");
	fixture_close(&f);
}

static void test_names_are_ours(void)
{
	static const char *const bad[] = {
		"", "/etc/passwd", "../x", "packs/../../x", "packs//x", "packs/", "packs/.x", ".hidden",
		"packs/A", "packs/x y", "packs/%2e", "packs/\n", "packs/./x",
	};
	struct fixture f;

	fixture_open(&f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct wfs_buf b = WFS_BUF_INIT;
		struct got g = { .b = WFS_BUF_INIT };
		struct wfs_get get = { .name = bad[i], .max = 10, .sink = collect, .arg = &g };

		CHECK_INT(wfs_store_get_buf(&b, f.st, bad[i], 10, false, NULL, NULL), -EINVAL, bad[i]);
		CHECK_INT(wfs_store_get(f.st, &get, NULL), -EINVAL, bad[i]);
		CHECK_INT(wfs_store_put(f.st, bad[i], "x", 1, NULL), -EINVAL, bad[i]);
		CHECK_INT(wfs_store_create(f.st, bad[i], "x", 1, NULL), -EINVAL, bad[i]);
		CHECK_INT(wfs_store_replace(f.st, bad[i], "x", 1, NULL), -EINVAL, bad[i]);
	}
	CHECK_INT(count_in(&f, "."), 0, "nothing was written");
	fixture_close(&f);
}

static void test_put_get_range(void)
{
	static const struct { uint64_t off, len; int want; } ranges[] = {
		{ 0, 1, 0 }, { 0, 300000, 0 }, { 299999, 1, 0 }, { 1, 299998, 0 }, { 262143, 2, 0 }, { 100, 0x10000, 0 },
		{ 300000, 1, -EINVAL }, { 299999, 2, -EINVAL }, { UINT64_MAX, 2, -EINVAL }, { 2, UINT64_MAX, -EINVAL },
	};
	WFS_AUTO(wfs_free_ptr) uint8_t *data = malloc(300000);
	struct wfs_buf b = WFS_BUF_INIT;
	struct fixture f;
	uint64_t seed = 7;

	REQUIRE(data);
	for (size_t i = 0; i < 300000; i++)
		data[i] = (uint8_t)test_random(&seed);
	fixture_open(&f);
	CHECK_INT(wfs_store_put(f.st, "packs/" HEX, data, 300000, NULL), 0, "put");
	CHECK_INT(wfs_store_put(f.st, "packs/" HEX, data, 300000, NULL), 0, "put again");
	CHECK_INT(count_in(&f, "tmp"), 0, "tmp is empty");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/" HEX, 300000, false, NULL, NULL), 0, "get");
	CHECK(b.len == 300000 && memcmp(b.data, data, b.len) == 0);
	CHECK(wfs_store_received(f.st) == 300000 && wfs_store_last_progress(f.st) > 0);
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct got g = { .b = WFS_BUF_INIT };
		struct wfs_get get = { .name = "packs/" HEX, .off = ranges[i].off, .len = ranges[i].len,
				       .max = 300000, .sink = collect, .arg = &g };

		CHECK_INT(wfs_store_get(f.st, &get, NULL), ranges[i].want, "range");
		if (ranges[i].want == 0)
			CHECK(g.b.len == get.len && g.start == get.off && !g.broken &&
			      memcmp(g.b.data, data + get.off, get.len) == 0);
		wfs_buf_free(&g.b);
	}
	wfs_buf_free(&b);
	fixture_close(&f);
}

static void test_get_refuses(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct got g = { .b = WFS_BUF_INIT };
	struct wfs_get get = { .name = "packs/a", .off = 1, .len = 2, .max = 6, .sink = collect, .arg = &g };
	struct wfs_err err = { 0 };
	atomic_bool stop = true;
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_get_buf(&b, f.st, "latest", 10, true, NULL, &err), -ENOENT, "missing");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/a", 10, true, NULL, &err), -ENOENT, "missing directory");
	CHECK(!err.msg[0]);
	CHECK(mkdir(in(&f, "packs"), 0755) == 0);
	write_raw(&f, "packs/a", "hello");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/a", 4, false, NULL, &err), -EBADMSG, "over the limit");
	CHECK(strstr(err.msg, "packs/a") && strstr(err.msg, "limit"));
	CHECK_INT(wfs_store_get(f.st, &get, &err), -EBADMSG, "another size than the table says");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/a", 5, false, &stop, &err), -ECANCELED, "cancelled before");
	CHECK(symlink("a", in(&f, "packs/link")) == 0 && symlink("packs", in(&f, "tables")) == 0);
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/link", 9, false, NULL, &err), -ELOOP, "link");
	CHECK(wfs_store_get_buf(&b, f.st, "tables/a", 9, false, NULL, &err) < 0);
	CHECK(mkfifo(in(&f, "packs/fifo"), 0644) == 0);
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/fifo", 9, false, NULL, &err), -EBADMSG, "fifo");
	CHECK(!b.data && g.b.len == 0);
	fixture_close(&f);
}

static void test_sink_ends_the_get(void)
{
	struct got g = { .b = WFS_BUF_INIT, .stop_at = 1 };
	struct wfs_get get = { .name = "a", .max = 1 << 20, .sink = collect, .arg = &g };
	WFS_AUTO(wfs_free_ptr) void *data = calloc(1, 1 << 20);
	struct wfs_err err = { 0 };
	struct fixture f;

	REQUIRE(data);
	fixture_open(&f);
	CHECK_INT(wfs_store_put(f.st, "a", data, 1 << 20, NULL), 0, "put");
	CHECK_INT(wfs_store_get(f.st, &get, &err), -ECANCELED, "sink");
	CHECK(g.b.len < 1 << 20 && !err.msg[0]);
	wfs_buf_free(&g.b);
	fixture_close(&f);
}

static void test_put_heals_another_size(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_put(f.st, "packs/a", "right", 5, NULL), 0, "put");
	write_raw(&f, "packs/a", "cut");
	CHECK_INT(wfs_store_put(f.st, "packs/a", "right", 5, NULL), 0, "put over a torn object");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/a", 5, false, NULL, NULL), 0, "get");
	CHECK(b.len == 5 && memcmp(b.data, "right", 5) == 0);
	wfs_buf_free(&b);
	fixture_close(&f);
}

static void test_create_is_exclusive(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_create(f.st, "commits/42", "one", 3, &err), 0, "first");
	CHECK_INT(wfs_store_create(f.st, "commits/42", "two", 3, &err), -EEXIST, "second");
	CHECK(!err.msg[0]);
	CHECK_INT(wfs_store_get_buf(&b, f.st, "commits/42", 10, true, NULL, NULL), 0, "get");
	CHECK(b.len == 3 && memcmp(b.data, "one", 3) == 0);
	CHECK_INT(count_in(&f, "tmp"), 0, "no garbage");
	wfs_buf_free(&b);
	fixture_close(&f);
}

/* A child waits at the gate, then creates commits/0..49; its exit code is how many it won. */
static pid_t start_racer(const char *dir, int gate, char mark)
{
	pid_t pid = fork();
	struct wfs_store *st;
	char c, name[32];
	int won = 0;

	if (pid)
		return pid;
	if (wfs_store_open(&st, dir, NULL, false, NULL) < 0 || read(gate, &c, 1) < 0)
		_exit(255);
	for (int i = 0; i < 50; i++) {
		int r;

		snprintf(name, sizeof(name), "commits/%d", i);
		r = wfs_store_create(st, name, &mark, 1, NULL);
		if (r < 0 && r != -EEXIST)
			_exit(254);
		won += r == 0;
	}
	wfs_store_close(st);
	_exit(won);
}

static void test_two_processes_race(void)
{
	int gate[2], status, won = 0;
	struct fixture f;
	pid_t pid[2];

	fixture_open(&f);
	REQUIRE(pipe(gate) == 0);
	for (int i = 0; i < 2; i++)
		pid[i] = start_racer(f.dir, gate[0], (char)('a' + i));
	CHECK(write(gate[1], "go", 2) == 2);
	for (int i = 0; i < 2; i++) {
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && WIFEXITED(status) && WEXITSTATUS(status) <= 50);
		won += WEXITSTATUS(status);
	}
	CHECK_INT(won, 50, "every commit has exactly one winner");
	CHECK_INT(count_in(&f, "commits"), 50, "commits");
	close(gate[0]);
	close(gate[1]);
	fixture_close(&f);
}

static void test_replace(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct fixture f;

	fixture_open(&f);
	for (int i = 0; i < 3; i++) {
		char c = (char)('0' + i);

		CHECK_INT(wfs_store_replace(f.st, "latest", &c, 1, NULL), 0, "replace");
		CHECK_INT(wfs_store_get_buf(&b, f.st, "latest", 10, true, NULL, NULL), 0, "get");
		CHECK(b.len == 1 && b.data[0] == c);
	}
	wfs_buf_free(&b);
	fixture_close(&f);
}

static void test_stream_put(void)
{
	struct wfs_put *p = NULL;
	struct wfs_buf b = WFS_BUF_INIT;
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_put_begin(&p, f.st, NULL), 0, "begin");
	CHECK_INT(wfs_put_write(p, "ab", 2, NULL), 0, "write");
	CHECK_INT(wfs_put_write(p, "cd", 2, NULL), 0, "write");
	CHECK_INT(count_in(&f, "packs"), -1, "nothing is visible before the commit");
	CHECK_INT(wfs_put_commit(p, "packs/x", NULL), 0, "commit");
	CHECK_INT(wfs_store_get_buf(&b, f.st, "packs/x", 10, false, NULL, NULL), 0, "get");
	CHECK(b.len == 4 && memcmp(b.data, "abcd", 4) == 0);

	CHECK_INT(wfs_put_begin(&p, f.st, NULL), 0, "begin");
	wfs_put_abort(p);
	wfs_put_abort(NULL);
	CHECK_INT(wfs_put_begin(&p, f.st, NULL), 0, "begin");
	CHECK_INT(wfs_put_commit(p, "../x", NULL), -EINVAL, "a foreign name");
	CHECK_INT(count_in(&f, "tmp"), 0, "no garbage");
	wfs_buf_free(&b);
	fixture_close(&f);
}

/* Killed between write and commit: the store has garbage in tmp/ and nowhere else, and the next
 * publisher's lock sweeps it once it is old. */
static void test_interrupted_put(void)
{
	struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	char path[PATH_MAX + 512];
	struct fixture f;
	struct dirent *e;
	int status;
	pid_t pid;
	DIR *d;

	fixture_open(&f);
	pid = fork();
	if (pid == 0) {
		struct wfs_put *p;

		if (wfs_put_begin(&p, f.st, NULL) == 0 && wfs_put_write(p, "half", 4, NULL) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK_INT(count_in(&f, "."), 1, "only tmp/");
	CHECK_INT(count_in(&f, "tmp"), 1, "one temporary");
	CHECK_INT(wfs_store_lock(f.st, NULL, NULL), 0, "lock");
	CHECK_INT(count_in(&f, "tmp"), 1, "a young temporary may be someone's");
	d = opendir(in(&f, "tmp"));
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/tmp/%s", f.dir, e->d_name);
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
	}
	closedir(d);
	wfs_store_close(f.st);
	CHECK_INT(wfs_store_open(&f.st, f.dir, NULL, false, NULL), 0, "open");
	CHECK_INT(wfs_store_lock(f.st, NULL, NULL), 0, "lock");
	CHECK_INT(count_in(&f, "tmp"), 0, "swept");
	fixture_close(&f);
}

/* A full file system: the error is told, nothing visible is left, and it goes on when there is room. */
static void test_full_disk(void)
{
	WFS_AUTO(wfs_free_ptr) void *data = calloc(1, 2 << 20);
	struct wfs_err err = { 0 };
	struct wfs_put *p = NULL;
	struct fixture f;

	fixture_open(&f);
	REQUIRE(data);
	if (mount("tmpfs", f.dir, "tmpfs", 0, "size=1m") < 0) {
		printf("skipped: no right to mount\n");
		fixture_close(&f);
		return;
	}
	wfs_store_close(f.st);
	CHECK_INT(wfs_store_open(&f.st, f.dir, NULL, false, NULL), 0, "open");
	CHECK_INT(wfs_store_put(f.st, "packs/a", data, 2 << 20, &err), -ENOSPC, "put");
	CHECK(strstr(err.msg, "packs/a"));
	CHECK_INT(wfs_put_begin(&p, f.st, NULL), 0, "begin");
	CHECK_INT(wfs_put_write(p, data, 2 << 20, NULL), -ENOSPC, "write");
	CHECK_INT(wfs_put_write(p, data, 1, NULL), -ENOSPC, "no write succeeds after a failed one");
	CHECK_INT(wfs_put_commit(p, "packs/b", NULL), -ENOSPC, "commit");
	CHECK_INT(count_in(&f, "packs"), 0, "nothing visible");
	CHECK_INT(count_in(&f, "tmp"), 0, "no garbage");
	CHECK_INT(wfs_store_put(f.st, "packs/a", data, 1000, &err), 0, "put");
	wfs_store_close(f.st);
	f.st = NULL;
	CHECK(umount(f.dir) == 0);
	fixture_close(&f);
}

static void test_lock(void)
{
	struct wfs_store *other = NULL;
	struct wfs_err err = { 0 };
	char pid[32];
	struct fixture f;
	int status;
	pid_t child;

	fixture_open(&f);
	CHECK_INT(wfs_store_open(&other, f.dir, NULL, false, NULL), 0, "open");
	CHECK_INT(wfs_store_lock(f.st, NULL, &err), 0, "lock");
	CHECK_INT(wfs_store_lock(f.st, NULL, &err), 0, "held already");
	CHECK_INT(wfs_store_lock(other, NULL, &err), -EBUSY, "in one process");
	snprintf(pid, sizeof(pid), "process %ld ", (long)getpid());
	CHECK(strstr(err.msg, pid));
	child = fork();
	if (child == 0) {
		struct wfs_err e = { 0 };
		struct wfs_store *st = NULL;

		_exit(wfs_store_open(&st, f.dir, NULL, false, NULL) == 0 &&
		      wfs_store_lock(st, NULL, &e) == -EBUSY && strstr(e.msg, pid) ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	wfs_store_close(f.st);
	CHECK_INT(wfs_store_lock(other, NULL, &err), 0, "free after close");
	f.st = other;
	fixture_close(&f);
}

/* Who is refused learns whether a gc or a publisher has it, and waits for the one it may wait for. */
static void test_lock_waits(void)
{
	static const struct {
		const char *name, *word;
		bool holder_gc;
		struct wfs_lock how;
		uint64_t waits_ns;
	} cases[] = {
		{ "gc, by a publisher", "gc is at work", true, { .wait_ns = 200000000 }, 200000000 },
		{ "gc, by one in haste", "gc is at work", true, { .wait_ns = 0 }, 0 },
		{ "gc, by a gc", "gc is at work", true, { .gc = true, .wait_ns = 200000000 }, 200000000 },
		{ "publisher, by a gc", "another publisher", false, { .gc = true, .wait_ns = 200000000 }, 200000000 },
		{ "publisher, by one told to", "another publisher", false,
		  { .wait_ns = 200000000, .wait_publisher = true }, 200000000 },
		{ "publisher, by another", "another publisher", false, { .wait_ns = 3600000000000 }, 0 },
	};
	struct wfs_store *other = NULL;
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_open(&other, f.dir, NULL, false, NULL), 0, "open");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct wfs_err err = { "" };
		uint64_t start, waited;

		CHECK_INT(wfs_store_lock(f.st, &(struct wfs_lock){ .gc = cases[i].holder_gc }, &err), 0, cases[i].name);
		start = wfs_now_ns();
		CHECK_INT(wfs_store_lock(other, &cases[i].how, &err), -EBUSY, cases[i].name);
		waited = wfs_now_ns() - start;
		CHECK(strstr(err.msg, cases[i].word));
		CHECK(waited >= cases[i].waits_ns);
		wfs_store_unlock(f.st);
		CHECK_INT(wfs_store_lock(other, &cases[i].how, &err), 0, cases[i].name);
		wfs_store_unlock(other);
	}
	wfs_store_close(other);
	fixture_close(&f);
}

static void test_lock_goes_with_its_process(void)
{
	int ready[2], status;
	struct fixture f;
	pid_t child;
	char c;

	fixture_open(&f);
	REQUIRE(pipe(ready) == 0);
	child = fork();
	if (child == 0) {
		struct wfs_store *st = NULL;

		if (wfs_store_open(&st, f.dir, NULL, false, NULL) == 0 && wfs_store_lock(st, NULL, NULL) == 0 &&
		    write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	CHECK(read(ready[0], &c, 1) == 1);
	CHECK_INT(wfs_store_lock(f.st, NULL, NULL), -EBUSY, "held by the child");
	kill(child, SIGKILL);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_INT(wfs_store_lock(f.st, NULL, NULL), 0, "a killed publisher's lock");
	close(ready[0]);
	close(ready[1]);
	fixture_close(&f);
}

static void test_read_only_mount(void)
{
	struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_store *st = NULL;
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_put(f.st, "packs/a", "x", 1, NULL), 0, "put");
	if (mount(f.dir, f.dir, NULL, MS_BIND, NULL) < 0) {
		printf("skipped: no right to mount\n");
		fixture_close(&f);
		return;
	}
	CHECK(mount(NULL, f.dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
	CHECK_INT(wfs_store_open(&st, f.dir, NULL, false, NULL), 0, "open");
	CHECK_INT(wfs_store_get_buf(&b, st, "packs/a", 1, false, NULL, NULL), 0, "get");
	CHECK_INT(wfs_store_put(st, "packs/b", "x", 1, NULL), -EROFS, "put");
	CHECK_INT(wfs_store_lock(st, NULL, NULL), -EROFS, "lock");
	wfs_store_close(st);
	wfs_buf_free(&b);
	CHECK(umount(f.dir) == 0);
	fixture_close(&f);
}

/* --- waiting --- */

struct waiter {
	struct wfs_store *st;
	atomic_bool cancel;
	atomic_int tid;
	uint64_t woke_ns;
};

static void *wait_long(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->tid, gettid());
	wfs_store_wait(w->st, 20000, &w->cancel);
	w->woke_ns = wfs_now_ns();
	return NULL;
}

/* Until the thread sleeps in the kernel, which is in poll. */
static void wait_until_waiting(struct waiter *w)
{
	char path[64], state = 0;

	while (state != 'S') {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&w->tid));
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(f);
	}
}

static uint64_t ms_to_wake(struct wfs_store *st, void (*event)(struct waiter *w))
{
	struct waiter w = { .st = st };
	uint64_t start;
	pthread_t t;

	if (pthread_create(&t, NULL, wait_long, &w) != 0)
		return UINT64_MAX;
	wait_until_waiting(&w);
	start = wfs_now_ns();
	event(&w);
	pthread_join(t, NULL);
	return w.woke_ns > start ? (w.woke_ns - start) / 1000000 : 0;
}

static void event_commit(struct waiter *w)
{
	static int n = 100;
	char name[32];

	snprintf(name, sizeof(name), "commits/%d", n++);
	CHECK_INT(wfs_store_create(w->st, name, "x", 1, NULL), 0, name);
}

static void event_wake(struct waiter *w)
{
	wfs_store_wake(w->st);
}

static void event_cancel(struct waiter *w)
{
	atomic_store(&w->cancel, true);
}

static uint64_t ms_of_wait(struct wfs_store *st, unsigned ms)
{
	uint64_t start = wfs_now_ns();

	wfs_store_wait(st, ms, NULL);
	return (wfs_now_ns() - start) / 1000000;
}

static void test_wait_wakes(void)
{
	struct fixture f;

	fixture_open(&f);
	CHECK_INT(wfs_store_create(f.st, "commits/1", "x", 1, NULL), 0, "commit");
	CHECK(ms_of_wait(f.st, 5000) < 1000);		/* the watch begins: look again */
	CHECK(ms_of_wait(f.st, 200) >= 200);
	for (int i = 0; i < 3; i++)
		CHECK(ms_to_wake(f.st, event_commit) < 100);
	CHECK(ms_to_wake(f.st, event_wake) < 100);
	CHECK(ms_to_wake(f.st, event_cancel) < 1000);
	wfs_store_wake(f.st);
	CHECK(ms_of_wait(f.st, 5000) < 1000);		/* a wake before the wait is not lost */
	CHECK(ms_of_wait(f.st, 200) >= 200);
	CHECK_INT(wfs_store_put(f.st, "packs/a", "x", 1, NULL), 0, "put");
	CHECK_INT(wfs_store_replace(f.st, "latest", "x", 1, NULL), 0, "replace");
	CHECK(ms_of_wait(f.st, 200) >= 200);		/* neither is a commit */
	fixture_close(&f);
}

static void test_wait_notices_new_commits_dir(void)
{
	struct fixture f;

	fixture_open(&f);
	CHECK(ms_of_wait(f.st, 5000) < 1000);
	CHECK(ms_of_wait(f.st, 200) >= 200);
	CHECK(ms_to_wake(f.st, event_commit) < 100);	/* makes commits/ */
	ms_of_wait(f.st, 100);				/* the commit itself may be news of its own */
	CHECK(ms_to_wake(f.st, event_commit) < 100);
	CHECK_INT(wfs_remove_tree(AT_FDCWD, in(&f, "commits"), NULL), 0, "remove");
	ms_of_wait(f.st, 100);
	CHECK(ms_of_wait(f.st, 200) >= 200);
	CHECK(ms_to_wake(f.st, event_commit) < 100);
	fixture_close(&f);
}

/* --- rate --- */

static void test_rate(void)
{
	struct wfs_store_opts opts = { .rate = 1 << 20 };
	WFS_AUTO(wfs_free_ptr) void *data = calloc(1, 2 << 20);
	struct got g = { .b = WFS_BUF_INIT };
	struct wfs_get get = { .name = "a", .max = 2 << 20, .sink = collect, .arg = &g, .demand = true };
	struct wfs_store *st = NULL;
	atomic_bool stop = false;
	struct fixture f;
	uint64_t start;

	REQUIRE(data);
	fixture_open(&f);
	CHECK_INT(wfs_store_put(f.st, "a", data, 2 << 20, NULL), 0, "put");
	CHECK_INT(wfs_store_open(&st, f.dir, &opts, false, NULL), 0, "open");
	start = wfs_now_ns();
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "demand");
	CHECK((wfs_now_ns() - start) / 1000000 < 700);
	get.demand = false;
	get.len = 1;
	get.cancel = &stop;
	start = wfs_now_ns();
	CHECK_INT(wfs_store_get(st, &get, NULL), 0, "background pays for it");
	CHECK((wfs_now_ns() - start) / 1000000 >= 1000);
	wfs_buf_free(&g.b);
	wfs_store_close(st);
	fixture_close(&f);
}

TEST_MAIN(T(test_open_refuses), T(test_open_forms), T(test_open_creates), T(test_names_are_ours),
	  T(test_put_get_range), T(test_get_refuses), T(test_sink_ends_the_get),
	  T(test_put_heals_another_size), T(test_create_is_exclusive), T(test_two_processes_race),
	  T(test_replace), T(test_stream_put), T(test_interrupted_put), T(test_full_disk), T(test_lock), T(test_lock_waits),
	  T(test_lock_goes_with_its_process), T(test_read_only_mount), T(test_wait_wakes),
	  T(test_wait_notices_new_commits_dir), T(test_rate))
