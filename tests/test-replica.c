/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-replica.c - images, plans, following, against bytes in memory
 */
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

#include "replica/internal.h"
#include "replica/ways.h"
#include "test.h"
#include "toystore.h"

#define RUN_A "0123456789abcdef0123456789abcdef"
#define RUN_B "fedcba9876543210fedcba9876543210"
#define LEN (5 * WFS_BLOCK_SIZE + 12346)

struct fixture {
	struct toy t;
	char cache[80];
	struct wfs_replica_opts o;
	struct wfs_replica *r;
	uint64_t seed;
};

static void setup(struct fixture *f, unsigned n)
{
	memset(f, 0, sizeof(*f));
	f->seed = 7;
	toy_open(&f->t, RUN_A);
	snprintf(f->cache, sizeof(f->cache), "%s-cache", f->t.dir);
	f->o.cache = f->cache;
	f->o.poll_ms = 50;
	f->o.keep_versions = 1;
	for (unsigned i = 0; i < n; i++) {
		toy_step(&f->t, LEN, 0, &f->seed);
		toy_commit(&f->t, i == 0, false);
	}
}

static void stop(struct fixture *f)
{
	wfs_replica_close(f->r);
	f->r = NULL;
}

static bool start(struct fixture *f, bool follow)
{
	struct wfs_err err = { "" };
	int r = wfs_replica_open(&f->r, f->t.store, &f->o, &err);

	if (r == 0)
		r = wfs_replica_start(f->r, follow, &err);
	if (r < 0)
		fprintf(stderr, "start: %s\n", err.msg);
	return r == 0;
}

static void teardown(struct fixture *f)
{
	stop(f);
	wfs_remove_tree(AT_FDCWD, f->cache, NULL);
	toy_close(&f->t);
}

/* Waits for a condition, ten seconds at most. */
#define WAIT(cond) do { \
	for (int w_ = 0; w_ < 2000 && !(cond); w_++) \
		poll(NULL, 0, 5); \
	CHECK(cond); \
} while (0)

static bool shown(struct fixture *f, uint64_t seq, bool complete)
{
	struct wfs_model *m = wfs_replica_find(f->r, seq);
	bool yes = m && (!complete || m->complete);

	wfs_model_put(m);
	return yes;
}

static int same(struct fixture *f, struct wfs_model *m, uint64_t seq, size_t len, uint64_t off)
{
	uint8_t *buf = malloc(len + 1);
	struct wfs_err err = { "" };
	int r = wfs_model_read_wait(m, 0, buf, len, off, &err);

	if (r == 0)
		r = memcmp(buf, f->t.v[seq - 1].data + off, len) == 0;
	else
		fprintf(stderr, "read: %s\n", err.msg);
	free(buf);
	return r;
}

static void test_a_version_is_built_and_read(void)
{
	struct fixture f;
	struct wfs_model *m;

	setup(&f, 4);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 4, true));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	CHECK_INT(wfs_model_version(m)->sequence, 4, "newest");
	CHECK_INT(same(&f, m, 4, f.t.v[3].len, 0), 1, "all bytes");
	wfs_model_put(m);
	toy_step(&f.t, LEN, 0, &f.seed);
	toy_commit(&f.t, false, false);
	WAIT(shown(&f, 5, true));
	teardown(&f);
}

static void test_lazy_reads_random_ranges(void)
{
	struct fixture f;
	struct wfs_model *m;
	uint64_t seed = 99;

	setup(&f, 9);
	f.o.lazy = true;
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 9, false));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	for (int i = 0; i < 100; i++) {
		uint64_t off = test_random(&seed) % LEN, len = test_random(&seed) % 200000;

		len = WFS_MIN(len, LEN - off);
		CHECK_INT(same(&f, m, 9, len, off), 1, "range");
	}
	wfs_model_put(m);
	teardown(&f);
}

/* Every version's bytes move, so that every base range cuts blocks. */
static void test_moved_bytes_through_many_versions(void)
{
	struct fixture f;
	struct wfs_model *m;

	setup(&f, 1);
	for (int i = 0; i < 12; i++) {
		toy_step(&f.t, LEN, i % 3 ? 8 : 100000, &f.seed);
		toy_commit(&f.t, false, false);
	}
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 13, true));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	CHECK_INT(same(&f, m, 13, f.t.v[12].len, 0), 1, "all bytes");
	wfs_model_put(m);
	teardown(&f);
}

static uint64_t received(struct fixture *f)
{
	return wfs_store_received(f->t.store);
}

static void test_an_anchor_shortens_the_way(void)
{
	struct fixture f;
	uint64_t before;

	setup(&f, 1);
	for (int i = 0; i < 30; i++) {
		toy_step(&f.t, LEN, 0, &f.seed);
		for (size_t k = 0; k < LEN / 3; k += 2)	/* big deltas: 30 of them cost more than the file */
			f.t.v[f.t.n].data[k] ^= (uint8_t)(f.seed >> (k % 50));
		toy_commit(&f.t, false, i == 27);
	}
	before = received(&f);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 31, true));
	CHECK(received(&f) - before < 3 * (uint64_t)LEN);
	teardown(&f);
}

static void test_only_what_is_new_travels(void)
{
	struct fixture f;
	uint64_t before;

	setup(&f, 1);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, true));
	before = received(&f);
	toy_step(&f.t, LEN, 0, &f.seed);
	toy_commit(&f.t, false, false);
	WAIT(shown(&f, 2, true));
	CHECK(received(&f) - before < LEN / 20);
	teardown(&f);
}

static void test_restart_serves_without_fetching(void)
{
	struct fixture f;
	struct wfs_model *m;
	uint64_t before;

	setup(&f, 3);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 3, true));
	stop(&f);
	before = received(&f);
	REQUIRE(start(&f, false));		/* no follower: nothing may ask the store */
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	CHECK(m->complete);
	CHECK_INT(same(&f, m, 3, LEN, 0), 1, "all bytes");
	CHECK_INT(received(&f) - before, 0, "bytes fetched after restart");
	CHECK_INT(f.r->n_blocks_built, 0, "blocks built after restart");
	wfs_model_put(m);
	teardown(&f);
}

/* A process that built some blocks and was killed: they are checked and kept. */
static void test_a_killed_build_goes_on(void)
{
	struct fixture f;
	struct wfs_model *m;
	int status;
	pid_t pid;

	setup(&f, 2);
	f.o.lazy = true;
	pid = fork();
	if (pid == 0) {
		if (!start(&f, false) || wfs_replica_load(f.r, 2, &m, NULL) < 0 ||
		    same(&f, m, 2, 2 * WFS_BLOCK_SIZE, 0) != 1)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status));
	REQUIRE(start(&f, false));
	CHECK_INT(wfs_replica_load(f.r, 2, &m, NULL), 0, "load");
	CHECK_INT(same(&f, m, 2, LEN, 0), 1, "all bytes");
	CHECK_INT(f.r->n_blocks_built, 4, "blocks built after the kill");
	wfs_model_put(m);
	teardown(&f);
}

static void flip(const char *dir, const char *sub, const char *name, const char *file, off_t off)
{
	char path[512];
	uint8_t b;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s%s%s", dir, sub, name, file ? "/" : "", file ? file : "");
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	if (fd < 0)
		return;
	CHECK(pread(fd, &b, 1, off) == 1);
	b ^= 4;
	CHECK(pwrite(fd, &b, 1, off) == 1);
	close(fd);
}

static void test_rot_in_an_image_is_found_and_mended(void)
{
	struct fixture f;
	struct wfs_model *m;
	uint64_t bad, checked;

	setup(&f, 2);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 2, true));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	flip(f.cache, "images", wfs_hex(&f.t.v[1].table).s, "data", 3 * WFS_BLOCK_SIZE + 70000);
	CHECK_INT(same(&f, m, 2, 100, 3 * WFS_BLOCK_SIZE + 69950), 1, "read over the flipped bit");
	CHECK_INT(f.r->n_rot, 1, "rot found");
	flip(f.cache, "images", wfs_hex(&f.t.v[1].table).s, "data", 12);
	CHECK_INT(wfs_replica_scrub(f.r, &checked, &bad, NULL, NULL), 0, "scrub");
	CHECK_INT(bad, 1, "bad blocks");
	CHECK_INT(same(&f, m, 2, LEN, 0), 1, "all bytes");
	WAIT(wfs_image_probe(m->images[0]));
	wfs_model_put(m);
	teardown(&f);
}

/* Lends every range of a file in turn, and asks for what must be built. */
static int lent(struct fixture *f, struct wfs_model *m, uint64_t seq, size_t len, uint64_t off)
{
	uint8_t *buf = malloc(len);
	struct wfs_err err = { "" };
	struct wfs_loan l;
	int r = wfs_model_lend(m, 0, &l, len, off, &err);

	if (r == -EAGAIN && wfs_model_read_wait(m, 0, buf, len, off, &err) == 0)
		r = wfs_model_lend(m, 0, &l, len, off, &err);
	free(buf);
	if (r < 0)
		return r;
	r = memcmp(l.data, f->t.v[seq - 1].data + off, len) == 0;
	wfs_loan_end(&l);
	return r;
}

static void test_what_is_lent_was_checked(void)
{
	struct fixture f;
	struct wfs_model *m;
	struct wfs_loan l;
	uint64_t seed = 3;
	char path[200];

	setup(&f, 2);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 2, true));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	for (int i = 0; i < 200; i++) {
		uint64_t off = test_random(&seed) % LEN, len = 1 + test_random(&seed) % WFS_BLOCK_SIZE;

		CHECK_INT(lent(&f, m, 2, WFS_MIN(len, LEN - off), off), 1, "range");
	}
	flip(f.cache, "images", wfs_hex(&f.t.v[1].table).s, "data", 2 * WFS_BLOCK_SIZE + 70000);
	CHECK_INT(wfs_model_lend(m, 0, &l, 4096, 2 * WFS_BLOCK_SIZE + 131072, NULL), 0, "beside the flipped bit");
	wfs_loan_end(&l);
	CHECK_INT(wfs_model_lend(m, 0, &l, WFS_BLOCK_SIZE, 2 * WFS_BLOCK_SIZE + 65536, NULL), -EAGAIN, "over it");
	CHECK_INT(f.r->n_rot, 1, "rot found");
	CHECK_INT(lent(&f, m, 2, WFS_BLOCK_SIZE, 2 * WFS_BLOCK_SIZE + 65536), 1, "mended");
	/* Cut off below us. */
	snprintf(path, sizeof(path), "%s/images/%s/data", f.cache, wfs_hex(&f.t.v[1].table).s);
	CHECK_INT(truncate(path, 3 * WFS_BLOCK_SIZE + 5000), 0, "truncate");
	CHECK_INT(wfs_model_lend(m, 0, &l, 100000, 3 * WFS_BLOCK_SIZE, NULL), -EAGAIN, "cut in it");
	CHECK_INT(wfs_model_lend(m, 0, &l, WFS_BLOCK_SIZE, 4 * WFS_BLOCK_SIZE, NULL), -EAGAIN, "behind the end");
	for (uint64_t off = 0; off < LEN; off += WFS_BLOCK_SIZE)
		CHECK_INT(lent(&f, m, 2, (size_t)WFS_MIN(LEN - off, (uint64_t)WFS_BLOCK_SIZE), off), 1, "all blocks");
	wfs_model_put(m);
	teardown(&f);
}

static bool has(struct wfs_model *m, uint32_t from, uint32_t to)
{
	while (from < to && wfs_image_has(m->images[0], from))
		from++;
	return from == to;
}

static unsigned n_queued(struct fixture *f)
{
	unsigned n;

	pthread_mutex_lock(&f->r->ahead.lock);
	n = f->r->ahead.n_queued;
	pthread_mutex_unlock(&f->r->ahead.lock);
	return n;
}

/* Two streams in one file, as two threads of a loader make them, and reads here and there. */
static void test_blocks_are_built_ahead_of_streams_only(void)
{
	static const uint32_t here_and_there[] = { 90, 20, 70, 30, 80, 25, 75 };
	struct fixture f;
	struct wfs_model *m;

	setup(&f, 0);
	toy_step(&f.t, 100ull << WFS_BLOCK_SHIFT, 0, &f.seed);
	toy_commit(&f.t, true, false);
	f.o.lazy = true;
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, false));
	m = wfs_replica_latest(f.r);
	REQUIRE(m);
	for (size_t i = 0; i < ARRAY_SIZE(here_and_there); i++)
		CHECK_INT(lent(&f, m, 1, 4096, (uint64_t)here_and_there[i] << WFS_BLOCK_SHIFT), 1, "read");
	CHECK_INT(n_queued(&f), 0, "windows after reads here and there");
	for (uint64_t b = 0; b < 4; b++) {
		CHECK_INT(lent(&f, m, 1, WFS_BLOCK_SIZE, b << WFS_BLOCK_SHIFT), 1, "first stream");
		CHECK_INT(lent(&f, m, 1, WFS_BLOCK_SIZE, (50 + b) << WFS_BLOCK_SHIFT), 1, "second stream");
	}
	WAIT(has(m, 4, 6) && has(m, 54, 56));
	CHECK(!has(m, 12, 13) && !has(m, 62, 63));		/* not more than was read */
	CHECK(!has(m, 31, 32) && !has(m, 71, 72));
	wfs_model_put(m);
	teardown(&f);
}

static void test_a_flipped_bit_in_a_pack_is_never_decoded(void)
{
	struct fixture f;
	char msg[512] = "";

	setup(&f, 1);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, true));
	toy_step(&f.t, LEN, 0, &f.seed);
	/* Hold the new version back until it is damaged. */
	wfs_replica_stop(f.r);
	toy_commit(&f.t, false, false);
	flip(f.t.dir, "packs", wfs_hex(&f.t.v[1].pack).s, NULL, 1000);
	stop(&f);
	REQUIRE(start(&f, true));
	WAIT(!wfs_replica_health(f.r, msg, sizeof(msg)));
	CHECK(strstr(msg, "SHA-256") && strstr(msg, wfs_hex(&f.t.v[1].pack).s));
	CHECK(shown(&f, 1, true));
	CHECK(!shown(&f, 2, false));
	/* Mended in the store, it is taken by itself. */
	flip(f.t.dir, "packs", wfs_hex(&f.t.v[1].pack).s, NULL, 1000);
	wfs_replica_poke(f.r);
	WAIT(shown(&f, 2, true));
	teardown(&f);
}

static void test_base_directory_saves_the_download(void)
{
	struct fixture f;
	struct wfs_model *m;
	char dir[80], path[100];
	uint64_t before;

	setup(&f, 3);
	snprintf(dir, sizeof(dir), "%s-base", f.t.dir);
	snprintf(path, sizeof(path), "%s/any-name.bin", dir);
	CHECK_INT(wfs_mkdirs(AT_FDCWD, dir, 0755, NULL), 0, "mkdir");
	CHECK_INT(wfs_write_file(AT_FDCWD, path, f.t.v[0].data, LEN, 0644, NULL), 0, "write");
	wfs_strings_add(&f.o.base, dir);
	before = received(&f);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 3, true));
	CHECK(received(&f) - before < LEN / 10);
	m = wfs_replica_latest(f.r);
	CHECK_INT(same(&f, m, 3, LEN, 0), 1, "all bytes");
	wfs_model_put(m);
	stop(&f);

	/* A base that is damaged in one block: found when that block is used, and fetched instead. */
	wfs_remove_tree(AT_FDCWD, f.cache, NULL);
	flip(dir, "", "any-name.bin", NULL, WFS_BLOCK_SIZE + 5);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 3, true));
	m = wfs_replica_latest(f.r);
	CHECK_INT(same(&f, m, 3, LEN, 0), 1, "all bytes with a damaged base");
	wfs_model_put(m);
	wfs_remove_tree(AT_FDCWD, dir, NULL);
	wfs_strings_free(&f.o.base);
	teardown(&f);
}

static void test_the_store_may_not_go_back(void)
{
	struct fixture f;
	char path[128], msg[512] = "";

	setup(&f, 3);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 3, true));
	stop(&f);
	snprintf(path, sizeof(path), "%s/commits/3", f.t.dir);
	CHECK(unlink(path) == 0);
	snprintf(path, sizeof(path), "%s/latest", f.t.dir);
	CHECK(unlink(path) == 0);
	REQUIRE(start(&f, true));
	WAIT(!wfs_replica_health(f.r, msg, sizeof(msg)));
	CHECK(strstr(msg, "went back"));
	CHECK(shown(&f, 3, true));
	teardown(&f);
}

static void test_another_run_is_refused_until_accepted(void)
{
	struct fixture f;
	struct toy other;
	struct wfs_store *first;
	char msg[512] = "";

	setup(&f, 2);
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 2, true));
	stop(&f);
	toy_open(&other, RUN_B);
	toy_step(&other, LEN, 0, &f.seed);
	toy_commit(&other, true, false);
	first = f.t.store;
	f.t.store = other.store;
	REQUIRE(start(&f, true));
	WAIT(!wfs_replica_health(f.r, msg, sizeof(msg)));
	CHECK(strstr(msg, "accept_run"));
	CHECK(shown(&f, 2, true));
	stop(&f);
	f.o.accept_run = true;
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, true));
	CHECK(!shown(&f, 2, false));
	stop(&f);
	f.t.store = first;
	toy_close(&other);
	teardown(&f);
}

static void test_one_process_a_cache(void)
{
	struct fixture f;
	struct wfs_replica *second = NULL;
	struct wfs_err err = { "" };
	char pid[16];

	setup(&f, 1);
	REQUIRE(start(&f, false));
	CHECK_INT(wfs_replica_open(&second, f.t.store, &f.o, &err), -EBUSY, "second");
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	CHECK(strstr(err.msg, pid));
	teardown(&f);
}

static void test_old_versions_leave_unless_used(void)
{
	struct fixture f;
	struct wfs_model *held;

	setup(&f, 1);
	f.o.keep_versions = 0;
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, true));
	held = wfs_replica_find(f.r, 1);
	REQUIRE(held);
	for (int i = 0; i < 3; i++) {
		toy_step(&f.t, LEN, 0, &f.seed);
		toy_commit(&f.t, false, false);
		WAIT(shown(&f, f.t.n, true));
	}
	WAIT(!shown(&f, 2, false) && !shown(&f, 3, false));
	CHECK(shown(&f, 1, true));
	CHECK_INT(same(&f, held, 1, LEN, 0), 1, "bytes of the held version");
	wfs_model_put(held);
	toy_step(&f.t, LEN, 0, &f.seed);
	toy_commit(&f.t, false, false);
	WAIT(shown(&f, 5, true) && !shown(&f, 1, false));
	teardown(&f);
}

static void test_a_version_that_does_not_fit_leaves_the_old_one(void)
{
	struct fixture f;
	struct wfs_model *held;
	char msg[512] = "";

	setup(&f, 1);
	f.o.keep_versions = 0;
	f.o.cache_size = 2 * LEN - LEN / 8;	/* the file, and what it is fetched as, but not two */
	REQUIRE(start(&f, true));
	WAIT(shown(&f, 1, true));
	held = wfs_replica_find(f.r, 1);
	toy_step(&f.t, LEN, 0, &f.seed);
	toy_commit(&f.t, false, false);
	WAIT(!wfs_replica_health(f.r, msg, sizeof(msg)));
	CHECK(strstr(msg, "does not fit") && strstr(msg, "cache_size"));
	CHECK(shown(&f, 1, true));
	CHECK_INT(same(&f, held, 1, LEN, 0), 1, "old bytes");
	wfs_model_put(held);
	teardown(&f);
}

struct count {
	struct wfs_want want;
	atomic_int done, r;
};

static void count_done(struct wfs_want *w, int r, const char *msg)
{
	struct count *c = (struct count *)w;

	(void)msg;
	c->r = r;
	c->done++;
}

static void test_many_wants_build_a_block_once(void)
{
	struct fixture f;
	struct wfs_model *m = NULL;
	static struct count c[256];

	memset(c, 0, sizeof(c));
	setup(&f, 5);
	f.o.lazy = true;
	REQUIRE(start(&f, false));
	CHECK_INT(wfs_replica_load(f.r, 5, &m, NULL), 0, "load");
	REQUIRE(m);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		c[i].want.done = count_done;
		wfs_model_want(m, 0, WFS_BLOCK_SIZE + i, 1000, &c[i].want);
	}
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		if (i % 4 == 1 && wfs_want_cancel(f.r, &c[i].want)) {
			CHECK_INT(c[i].done, 0, "done after cancel");
			continue;
		}
		WAIT(c[i].done == 1);
		CHECK_INT(c[i].r, 0, "result");
	}
	CHECK_INT(f.r->n_blocks_built, 1, "blocks built");
	wfs_model_put(m);
	teardown(&f);
}

/* Two versions, each with a way from the other, by its delta and by an undo list; of `there` blocks are there, so what
 * it costs is a share of its bases'.  What is chosen leads to what is fetched in full, whatever the shares. */
static void test_choices_have_no_cycle(void)
{
	for (uint32_t missing = 1; missing <= 1024; missing *= 2) {
		uint32_t to[2] = { 0, 1 };
		struct wfs_way first[] = {
			{ .cost = 100, .hinted = true, .back = 1, .bases = &to[1], .n_bases = 1 },
			{ .cost = 3000000000, .hinted = true, .full = true },
		};
		struct wfs_way second[] = {
			{ .cost = 0, .hinted = true, .undo = true, .bases = &to[0], .n_bases = 1 },
			{ .cost = 1000000000, .hinted = true, .full = true },
		};
		struct wfs_place places[] = {
			{ .missing = missing, .ways = first, .n_ways = ARRAY_SIZE(first) },
			{ .missing = 1024, .ways = second, .n_ways = ARRAY_SIZE(second) },
		};
		struct wfs_ways g = { .v = places, .n = ARRAY_SIZE(places) };

		for (unsigned order = 0; order < 2; order++) {
			uint32_t at = 0;
			unsigned steps = 0;

			wfs_ways_choose(&g);
			while (places[at].best >= 0 && places[at].ways[places[at].best].n_bases > 0 && steps < 10) {
				at = places[at].ways[places[at].best].bases[0];
				steps++;
			}
			CHECK(steps < 10);
			CHECK_INT(places[at].ways[places[at].best].full, true, "it ends with a full copy");
			CHECK(places[0].cost <= 3000000001);
			places[1].missing = missing;	/* both partly there */
		}
	}
}

TEST_MAIN(T(test_choices_have_no_cycle), T(test_a_version_is_built_and_read), T(test_lazy_reads_random_ranges),
	  T(test_moved_bytes_through_many_versions), T(test_an_anchor_shortens_the_way),
	  T(test_only_what_is_new_travels), T(test_restart_serves_without_fetching), T(test_a_killed_build_goes_on),
	  T(test_rot_in_an_image_is_found_and_mended), T(test_what_is_lent_was_checked),
	  T(test_blocks_are_built_ahead_of_streams_only), T(test_a_flipped_bit_in_a_pack_is_never_decoded),
	  T(test_base_directory_saves_the_download), T(test_the_store_may_not_go_back),
	  T(test_another_run_is_refused_until_accepted), T(test_one_process_a_cache),
	  T(test_old_versions_leave_unless_used), T(test_a_version_that_does_not_fit_leaves_the_old_one),
	  T(test_many_wants_build_a_block_once))
