/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.c - the life of a mount: store, replica, session, threads, and the way back
 *
 * Threads: main sits in libfuse's loop, whose workers answer requests; control answers the socket
 * and takes signals; keeper does the housekeeping; the rest are the replica's.
 *
 * The end, by signal, "stop" or an unmount from outside: the loop ends; the replica is stopped, which
 * answers every read that waits; the mount is detached if it is still ours; everything is freed.
 * No step waits for the network, so it takes seconds at most.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "control.h"
#include "daemon.h"
#include "fs.h"
#include "helper.h"
#include "keeper.h"
#include "modes.h"
#include "mount.h"
#include "ops.h"
#include "ops_read.h"
#include "passthrough.h"
#include "path.h"
#include "place.h"
#include "privilege.h"
#include "session.h"
#include "signals.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/log.h"

#define WORKERS		16u		/* threads that answer requests; none of them ever waits */
#define KICK_NS		20000000l
#define KICKS		200
#define LOCK_NS		100000000l	/* between two tries to open a cache in use */
#define LOCK_TRIES	30

struct mnt {
	struct fs fs;
	struct options opt;
	struct privilege priv;
	char point[PATH_MAX];
	char *url;			/* as given, absolute */
	struct wfs_store *store;
	struct fuse_session *se;
	struct fuse_lowlevel_ops ops;
	struct mount_entry entry;
	struct helper *helper;		/* when root mounts */
	struct control *control;
	struct keeper *keeper;
	pthread_t main;
	atomic_bool looping, looped;
	int report;
	atomic_bool failed;		/* after it was mounted: passthrough=on, and it cannot be */
	struct wfs_err refusal;		/* why, when failed */
};

/* ---- before anything is started ---- */

static int make_url(char **out, const char *store, struct wfs_err *err)
{
	char *url = strdup(store);
	int r;

	if (!url)
		return wfs_fail(err, -ENOMEM, "out of memory");
	r = strstr(url, "://") ? 0 : path_absolute(&url, err);
	if (r < 0) {
		free(url);
		return r;
	}
	*out = url;
	return 0;
}

static int prepare(struct mnt *m, const char *store, const char *mnt, struct wfs_err *err)
{
	int r;

	r = path_mount_point(m->point, mnt, err);
	if (r == 0)
		r = place_clean(m->point, err);
	if (r == 0)
		r = make_url(&m->url, store, err);
	if (r == 0)
		r = options_resolve(&m->opt, m->url, err);
	if (r == 0)
		r = privilege_choose(&m->priv, &m->opt, err);
	if (r == 0)
		r = hub_dir(m->fs.hub_dir, m->opt.hub, m->url, err);
	if (r == 0)
		r = place_not_below("the cache", m->opt.cache, m->point, err);
	if (r == 0 && m->url[0] == '/')
		r = place_not_below("the store", m->url, m->point, err);
	if (r == 0 && m->opt.allow_other)
		r = place_allow_other(err);
	return r;
}

/* ---- libfuse ---- */

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct mnt *m = arg;		/* fs is its first member */

	ops_table()->init(arg, conn);
	keeper_init_seen(m->keeper);
}

static int make_session(struct mnt *m, struct wfs_err *err)
{
	m->ops = *ops_table();
	m->ops.init = op_init;
	return session_new(&m->se, &m->opt, m->fs.store_url, &m->ops, m, err);
}

/* Root's helper mounts, and libfuse takes the descriptor; for others libfuse and fusermount3 do. */
static int mount_session(struct mnt *m, struct wfs_err *err)
{
	char fd_name[32];
	int r = m->helper ? helper_mount(m->helper, err) : 0;

	if (r < 0)
		return r;
	snprintf(fd_name, sizeof(fd_name), "/dev/fd/%d", r);
	errno = 0;
	if (fuse_session_mount(m->se, m->helper ? fd_name : m->point) < 0)
		return wfs_fail(err, -EIO, "mount on %s failed%s%s%s", m->point, errno ? ": " : "",
				errno ? strerror(errno) : "",
				m->helper ? "" : " (fusermount3 of the package fuse3 is needed, and "
				"the directory must be yours)");
	r = mount_find(&m->entry, m->point, NULL);
	return r < 0 ? wfs_fail(err, r, "%s: the new mount is not in mountinfo", m->point) : 0;
}

static void loop(struct mnt *m)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();

	if (!cfg)
		return;
	/* each worker opens it; where only root may, they share one */
	fuse_loop_cfg_set_clone_fd(cfg, access("/dev/fuse", R_OK | W_OK) == 0);
	fuse_loop_cfg_set_max_threads(cfg, WORKERS);
	fuse_loop_cfg_set_idle_threads(cfg, WORKERS);
	atomic_store(&m->looping, true);
	if (fuse_session_loop_mt(m->se, cfg) < 0 && !fuse_session_exited(m->se))
		log_err("the FUSE loop ended with an error");
	atomic_store(&m->looped, true);
	fuse_loop_cfg_destroy(cfg);
}

/* ---- called by the other threads ---- */

/* libfuse's loop looks at its exit flag only when its wait is interrupted. */
static void on_stop(void *arg, const char *why)
{
	struct timespec pause = { .tv_nsec = KICK_NS };
	struct mnt *m = arg;

	log_info("ending: %s", why);
	fuse_session_exit(m->se);
	for (int i = 0; i < KICKS && !atomic_load(&m->looped); i++) {
		if (atomic_load(&m->looping))
			pthread_kill(m->main, SIGUSR1);
		nanosleep(&pause, NULL);
	}
}

static void on_left(void *arg, uint64_t sequence)
{
	struct mnt *m = arg;
	char name[24];
	int n = snprintf(name, sizeof(name), "%" PRIu64, sequence);

	fuse_lowlevel_notify_inval_entry(m->se, INO_VERSIONS, name, (size_t)n);
}

static void on_sweep(void *arg)
{
	struct mnt *m = arg;

	ops_read_reap(&m->fs);
	hooktab_save(m->fs.hooktab);
}

static void on_up(void *arg)
{
	struct wfs_err err = { 0 };
	struct mnt *m = arg;

	if (passthrough_settle(m->fs.pass, &err) == 0) {
		daemon_report(&m->report, NULL);
		return;
	}
	log_err("%s", err.msg);
	m->refusal = err;		/* told when nothing is mounted any more */
	atomic_store(&m->failed, true);
	on_stop(m, "what was asked for cannot be had");
}

struct passthrough *passthrough_of(void *userdata)
{
	return ((struct mnt *)userdata)->fs.pass;
}

static void on_shown(void *arg, uint64_t sequence, bool shown)
{
	struct mnt *m = arg;

	/* Attributes alone, no page: their times and numbers of links are other ones now. */
	fuse_lowlevel_notify_inval_inode(m->se, INO_ROOT, -1, 0);
	fuse_lowlevel_notify_inval_inode(m->se, INO_VERSIONS, -1, 0);
	if (!shown)		/* the replica says what is shown, and how */
		log_info("version %" PRIu64 " has left", sequence);
	if (shown)
		control_shown(m->control);
	else
		keeper_left(m->keeper, sequence, true);
}

/* A directory has become a link, or a link a directory: the kernel asks again. */
static void on_shape(void *arg, uint64_t sequence)
{
	struct mnt *m = arg;

	keeper_left(m->keeper, sequence, false);
}

static void on_kick(int sig)
{
	(void)sig;
}

/* ---- start and end ---- */

static void prepare_process(struct mnt *m)
{
	struct sigaction sa = { .sa_handler = on_kick };
	struct rlimit nofile;
	sigset_t set = signals_that_end();

	sigaddset(&set, SIGUSR1);	/* for main alone, below */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	m->main = pthread_self();
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
}

static void log_start(struct mnt *m)
{
	WFS_AUTO(wfs_free_ptr) uint64_t *list = NULL;
	char state[128] = "empty";
	size_t n = 0;

	if (wfs_replica_list(m->fs.replica, &list, &n) == 0 && n)
		snprintf(state, sizeof(state), "%zu version%s, newest %" PRIu64, n, n > 1 ? "s" : "",
			 list[n - 1]);
	log_info("%s on %s, cache %s: %s; running as %s%s", m->fs.store_url, m->point, m->opt.cache, state, m->priv.name,
		 m->priv.landlock ? ", confined by Landlock" : "");
}

/* The daemon of a mount just taken away by umount(8) may still be closing the cache. */
static int open_replica(struct mnt *m, const struct wfs_replica_opts *ro, struct wfs_err *err)
{
	struct timespec pause = { .tv_nsec = LOCK_NS };
	int r = -EBUSY;

	for (int i = 0; i < LOCK_TRIES && r == -EBUSY; i++) {
		if (i)
			nanosleep(&pause, NULL);
		r = wfs_replica_open(&m->fs.replica, m->store, ro, err);
	}
	return r;
}

static int open_store(struct mnt *m, struct wfs_err *err)
{
	struct wfs_store_opts so;
	int r;

	options_store(&so, &m->opt);
	r = wfs_store_open(&m->store, m->url, &so, false, err);
	if (r == 0)
		m->fs.store_url = wfs_store_url(m->store);
	return r;
}

/* Before there are threads, and before anything foreign is read. */
static int start_helper(struct mnt *m, struct wfs_err *err)
{
	struct helper_conf conf = {
		.point = m->point, .cache = m->opt.cache, .owner = m->priv.uid,
		.source = m->opt.fsname ? m->opt.fsname : m->fs.store_url,
		.allow_other = m->opt.allow_other, .noexec = m->opt.noexec,
	};

	if (!helper_possible())
		return 0;
	conf.remove = control_socket(m->control, &conf.remove_ino);
	return helper_start(&m->helper, &conf, err);
}

static int open_parts(struct mnt *m, struct wfs_err *err)
{
	struct wfs_replica_opts ro;
	struct bind_opts bo;
	int r;

	options_bind(&bo, &m->opt);
	options_replica(&ro, &m->opt);
	r = open_replica(m, &ro, err);
	if (r < 0)
		return r;
	r = hooktab_open(&m->fs.hooktab, m->fs.replica, m->opt.cache, err);
	if (r < 0)
		return r;
	m->fs.start_ns = wfs_now_ns();
	m->fs.start_wall_ns = wfs_wall_ns();
	m->fs.tree = tree_new(m->opt.show_code, wfs_xxh3);
	m->fs.bind = bind_new(m->fs.replica, &bo);
	m->fs.views = views_new();
	m->fs.waiting = waiting_new();
	m->fs.gate = log_gate_new();
	m->fs.pass = passthrough_new(m->opt.passthrough, m->helper, m->opt.cache);
	m->fs.modes = modes_new(m->fs.pass);
	if (!m->fs.tree || !m->fs.bind || !m->fs.views || !m->fs.waiting || !m->fs.gate || !m->fs.pass || !m->fs.modes)
		return wfs_fail(err, -ENOMEM, "out of memory");
	return 0;
}

static int start(struct mnt *m, struct wfs_err *err)
{
	struct keeper_hooks hooks = { .left = on_left, .sweep = on_sweep, .up = on_up, .arg = m };
	int r;

	m->fs.opt = &m->opt;
	m->fs.mnt = m->point;
	m->fs.priv = &m->priv;
	r = open_store(m, err);
	if (r == 0)
		r = privilege_prepare(&m->priv, &m->opt, m->store, err);
	if (r == 0)
		r = control_listen(&m->control, &m->fs, err);
	if (r == 0)
		r = start_helper(m, err);
	if (r == 0)
		r = privilege_drop(&m->priv, &m->opt, err);
	if (r == 0)
		r = open_parts(m, err);
	if (r == 0)
		r = make_session(m, err);
	if (r == 0)
		r = mount_session(m, err);
	if (r == 0)
		r = passthrough_attach(m->fs.pass, m->se, err);
	if (r == 0)
		r = keeper_start(&m->keeper, &m->fs, &hooks, err);
	if (r == 0)
		r = control_start(m->control, on_stop, m, err);
	if (r < 0)
		return r;
	wfs_replica_on_shown(m->fs.replica, on_shown, m);
	wfs_replica_on_shape(m->fs.replica, on_shape);
	log_start(m);
	return wfs_replica_start(m->fs.replica, true, err);
}

/* libfuse unmounts by path unless the connection has ended.  After a lazy unmount another mount may
 * have our place: then ours ends with its descriptors. */
static void detach(struct mnt *m)
{
	struct pollfd p = { .fd = fuse_session_fd(m->se) };
	bool ended = poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
	struct mount_entry now;

	if (m->helper)
		helper_unmount(m->helper);
	else if (ended || (mount_find(&now, m->point, NULL) == 0 && now.major == m->entry.major &&
		      now.minor == m->entry.minor))
		fuse_session_unmount(m->se);
}

static void finish(struct mnt *m)
{
	if (m->fs.replica)
		wfs_replica_stop(m->fs.replica);
	if (m->keeper)
		keeper_quiet(m->keeper);
	if (m->entry.id)
		detach(m);
	control_stop(m->control);
	keeper_stop(m->keeper);
	if (m->se)
		fuse_session_destroy(m->se);
	helper_stop(m->helper);		/* it held the connection, too */
	modes_free(m->fs.modes);
	passthrough_free(m->fs.pass);
	views_free(m->fs.views);
	bind_free(m->fs.bind);
	hooktab_close(m->fs.hooktab);
	tree_free(m->fs.tree);
	waiting_free(m->fs.waiting);
	log_gate_free(m->fs.gate);
	if (m->fs.replica)
		wfs_replica_close(m->fs.replica);
	if (m->store)
		wfs_store_close(m->store);
}

static int serve(struct mnt *m, struct wfs_err *err)
{
	sigset_t kick;
	int r;

	prepare_process(m);
	fuse_set_log_func(session_log);
	r = start(m, err);
	if (r == 0) {
		sigemptyset(&kick);
		sigaddset(&kick, SIGUSR1);
		pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
		loop(m);
		log_info("unmounted from %s", m->point);
	} else {
		daemon_report(&m->report, err->msg);
	}
	finish(m);
	if (m->failed)
		daemon_report(&m->report, m->refusal.msg);
	return m->failed ? -EOPNOTSUPP : r;
}

int mount_run(const char *store, const char *mnt, struct options *opt)
{
	struct wfs_err err = { 0 };
	struct mnt *m = calloc(1, sizeof(*m));
	int r, code;

	if (!m) {
		options_free(opt);
		fprintf(stderr, "weightfs: out of memory\n");
		return 1;
	}
	m->opt = *opt;
	m->report = -1;
	wfs_log_set_level((enum wfs_log_level)m->opt.log_level);
	r = prepare(m, store, mnt, &err);
	if (r == 0 && !m->opt.foreground) {
		r = daemon_fork(&m->report, m->point, &err);
		if (r == 0) {
			wfs_log_open("weightfs", 1);
			(void)!chdir("/");
		}
	}
	code = r > 0 ? r - 1 : 1;	/* the parent of a daemon */
	if (r == 0) {
		bool reported = m->report >= 0;

		r = serve(m, &err);
		code = r < 0;
		if (reported)
			err.msg[0] = '\0';
	}
	if (r < 0 && err.msg[0])
		fprintf(stderr, "weightfs: %s\n", err.msg);
	free(m->url);
	options_free(&m->opt);
	free(m);
	return code;
}
