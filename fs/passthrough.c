/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passthrough.c - FUSE passthrough, with libfuse's calls where it has them and without where not
 *
 * libfuse 3.17 and newer negotiate it and answer an open with a backing id.  For older ones we do both: its
 * I/O goes through two functions of ours (fuse_session_custom_io), which let everything pass but
 * the first exchange, INIT: there the kernel's offer is noted and our acceptance added.  An open is
 * answered with a fuse_open_out made by hand.  Cloned descriptors (clone_fd) go through the same functions.
 *
 * Registering a file is the privileged helper's work in any case.
 *
 * The stacking depth given to the kernel is 1, files that are on no stacked file system, so that an
 * overlayfs may still be put on top of the mount.  Only with the cache on overlayfs it is 2.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "passthrough.h"
#include "passthrough_abi.h"
#include "selftest.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define OVERLAYFS_MAGIC	0x794c7630
#define IDS_KEPT_FREE	64u		/* of RLIMIT_NOFILE */

struct passthrough {
	unsigned choice, depth;
	struct helper *helper;
	const char *cache;
	uint64_t init_unique;		/* of the INIT request; 0: not seen */
	atomic_bool init_done, offered, on;
	atomic_int test_id;
	atomic_uint n_ids;
	unsigned max_ids;
	pthread_mutex_t lock;
	char reason[256];
};

struct passthrough *passthrough_new(unsigned choice, struct helper *helper, const char *cache)
{
	struct passthrough *p = calloc(1, sizeof(*p));
	struct rlimit nofile = { .rlim_cur = 1024 };
	struct statfs fs;

	if (!p)
		return NULL;
	p->choice = choice;
	p->helper = helper;
	p->cache = cache;
	p->depth = statfs(cache, &fs) == 0 && (uint32_t)fs.f_type == OVERLAYFS_MAGIC ? 2 : 1;
	/* a registered file is none of our descriptors, but the limit says how many we may hold open */
	getrlimit(RLIMIT_NOFILE, &nofile);
	p->max_ids = nofile.rlim_cur > IDS_KEPT_FREE ? (unsigned)WFS_MIN(nofile.rlim_cur, 1u << 20) - IDS_KEPT_FREE : 0;
	pthread_mutex_init(&p->lock, NULL);
	snprintf(p->reason, sizeof(p->reason), "not yet tested");
	return p;
}

void passthrough_free(struct passthrough *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static bool wanted(const struct passthrough *p)
{
	return p->helper && p->choice != PASSTHROUGH_OFF;
}

/* ---- the handshake ---- */

#ifdef FUSE_CAP_PASSTHROUGH

int passthrough_attach(struct passthrough *p, struct fuse_session *se, struct wfs_err *err)
{
	(void)p, (void)se, (void)err;
	return 0;
}

void passthrough_init(struct passthrough *p, struct fuse_conn_info *c)
{
	atomic_store(&p->offered, (c->capable & FUSE_CAP_PASSTHROUGH) != 0);
	if (!wanted(p) || !p->offered)
		return;
	c->want |= FUSE_CAP_PASSTHROUGH;
	c->max_backing_stack_depth = p->depth - 1;
}

int passthrough_reply(fuse_req_t req, struct fuse_file_info *fi, int id)
{
	fi->backing_id = id;
	return fuse_reply_open(req, fi);
}

#else

static void see_request(struct passthrough *p, const void *buf, size_t len)
{
	const struct fuse_in_header *h = buf;
	struct fuse_init_in in;

	if (len < sizeof(*h) + sizeof(in) || h->opcode != FUSE_INIT)
		return;
	memcpy(&in, h + 1, sizeof(in));
	p->init_unique = h->unique;
	atomic_store(&p->offered, (in.flags & INIT_EXT) && (in.flags2 & INIT2_PASSTHROUGH));
}

/* The two fields that libfuse leaves out; max_stack_depth is the first of those unused in 7.38. */
static void see_reply(struct passthrough *p, const struct iovec *iov, int n)
{
	const struct fuse_out_header *h = iov[0].iov_base;
	struct fuse_init_out *out;

	if (n < 2 || !p->init_unique || h->unique != p->init_unique)
		return;
	out = iov[1].iov_base;
	if (h->error == 0 && iov[1].iov_len >= sizeof(*out) && wanted(p) && p->offered) {
		_Static_assert(offsetof(struct fuse_init_out, flags2) == 32, "7.36");
		out->flags |= INIT_EXT;
		out->flags2 |= INIT2_PASSTHROUGH;
		memcpy((uint8_t *)out + 36, &(uint32_t){ p->depth }, 4);
	}
	atomic_store(&p->init_done, true);
}

static ssize_t hook_read(int fd, void *buf, size_t len, void *userdata)
{
	struct passthrough *p = passthrough_of(userdata);
	ssize_t n = read(fd, buf, len);

	if (n > 0 && !atomic_load_explicit(&p->init_done, memory_order_relaxed))
		see_request(p, buf, (size_t)n);
	return n;
}

static ssize_t hook_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	struct passthrough *p = passthrough_of(userdata);

	if (!atomic_load_explicit(&p->init_done, memory_order_relaxed))
		see_reply(p, iov, n);
	return writev(fd, iov, n);
}

int passthrough_attach(struct passthrough *p, struct fuse_session *se, struct wfs_err *err)
{
	static const struct fuse_custom_io io = { .read = hook_read, .writev = hook_writev };
	int r = wanted(p) ? fuse_session_custom_io(se, &io, fuse_session_fd(se)) : 0;

	return r < 0 ? wfs_fail(err, r, "fuse_session_custom_io: %s", strerror(-r)) : 0;
}

void passthrough_init(struct passthrough *p, struct fuse_conn_info *c)
{
	(void)p, (void)c;		/* see_reply does it */
}

int passthrough_reply(fuse_req_t req, struct fuse_file_info *fi, int id)
{
	const struct open_out out = { .fh = fi->fh, .backing_id = id,
				      .flags = OPEN_PASSTHROUGH | (fi->noflush ? OPEN_NOFLUSH : 0) };

	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

#endif

/* ---- registered files ---- */

static const char *why(int r)
{
	switch (r) {
	case -EPERM:
		return "CAP_SYS_ADMIN of the first user namespace is missing";
	case -ELOOP:
		return "the cache's file system is stacked too deep";
	case -EACCES:
		return "the privileged helper refuses files of this cache";
	case -EOPNOTSUPP:
	case -EINVAL:
	case -ENODEV:
	case -EIO:
		return "the cache's file system cannot";
	default:
		return strerror(-r);
	}
}

/* True for the one who turned it off. */
static bool turn_off(struct passthrough *p, const char *reason)
{
	bool was;

	pthread_mutex_lock(&p->lock);
	was = atomic_exchange(&p->on, false);
	snprintf(p->reason, sizeof(p->reason), "%.200s", reason);
	pthread_mutex_unlock(&p->lock);
	return was;
}

int passthrough_register(struct passthrough *p, int fd)
{
	int id;

	if (atomic_fetch_add(&p->n_ids, 1) >= p->max_ids) {
		atomic_fetch_sub(&p->n_ids, 1);
		return -EMFILE;
	}
	id = helper_backing_open(p->helper, fd);
	if (id > 0)
		return id;
	atomic_fetch_sub(&p->n_ids, 1);
	if ((id == -EPERM || id == -EPIPE) && turn_off(p, why(id)))
		log_warn("from now on files are served by the daemon: passthrough: %s", why(id));
	return id;
}

void passthrough_unregister(struct passthrough *p, int id)
{
	helper_backing_close(p->helper, id);
	atomic_fetch_sub(&p->n_ids, 1);
}

/* ---- the test ---- */

bool passthrough_is_on(struct passthrough *p)
{
	return atomic_load(&p->on);
}

void passthrough_reason(struct passthrough *p, char *out, size_t cap)
{
	pthread_mutex_lock(&p->lock);
	snprintf(out, cap, "%s", p->on ? "" : p->reason);
	pthread_mutex_unlock(&p->lock);
}

int passthrough_test_id(struct passthrough *p)
{
	return atomic_load(&p->test_id);
}

/* The helper's child may never answer: it is read from with a deadline. */
static int settle(struct passthrough *p, uint64_t seed, struct helper_settled *out)
{
	WFS_AUTO(wfs_close_fd) int fd = helper_settle(p->helper, seed);
	struct pollfd pf = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return fd;
	if (poll(&pf, 1, PASSTHROUGH_SETTLE_MS) <= 0)
		return -ETIMEDOUT;
	return read(fd, out, sizeof(*out)) == sizeof(*out) ? 0 : -EPIPE;
}

static int test(struct passthrough *p, struct wfs_err *err)
{
	struct helper_settled s = { 0 };
	uint64_t seed = 0;
	int r, id;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = wfs_now_ns();
	seed |= 1;			/* 0 means: no test */
	r = selftest_make(p->cache, seed, err);
	if (r < 0)
		return r;
	id = passthrough_register(p, r);
	close(r);
	if (id < 0)
		return wfs_fail(err, id, "%s", why(id));
	atomic_store(&p->test_id, id);
	r = settle(p, seed, &s);
	atomic_store(&p->test_id, 0);
	passthrough_unregister(p, id);
	if (r < 0)
		return wfs_fail(err, r, "the self-test did not end well (%s)", strerror(-r));
	if (s.test < 0)
		return wfs_fail(err, s.test, "the self-test failed (%s: %s)", s.step, strerror(-s.test));
	return 0;
}

static int decide(struct passthrough *p, struct wfs_err *err)
{
	struct helper_settled s = { 0 };
	struct utsname u = { .release = "?" };
	int r;

	if (!p->helper)
		return wfs_fail(err, -EPERM, "only root's mounts have it");
	r = settle(p, 0, &s);
	if (r == 0)
		r = s.test;
	log_debug("readahead of the mount: %d KiB", s.read_ahead);
	if (p->choice == PASSTHROUGH_OFF)
		return wfs_fail(err, -ECANCELED, "turned off by passthrough=off");
	if (r < 0)
		return wfs_fail(err, r, "the mount does not answer the helper (%s)", strerror(-r));
	if (p->offered) {
		r = test(p, err);
		selftest_remove(p->cache);
		return r;
	}
	uname(&u);
	return wfs_fail(err, -EOPNOTSUPP, "the kernel, %s, does not offer it (6.9 and newer do, with CONFIG_FUSE_PASSTHROUGH)",
			u.release);
}

int passthrough_settle(struct passthrough *p, struct wfs_err *err)
{
	struct wfs_err e = { 0 };
	int r = decide(p, &e);

	if (r == 0) {
		atomic_store(&p->on, true);
		log_info("complete files are read by the kernel (passthrough)");
		return 0;
	}
	turn_off(p, e.msg);
	if (p->choice == PASSTHROUGH_ON)
		return wfs_fail(err, r, "passthrough=on: %s", e.msg);
	log_info("files are served by the daemon; no passthrough: %s", e.msg);
	return 0;
}
