/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - the table of mount options and where their values come from
 *
 * mount(8) hands its helper options that mean something to it alone (_netdev, nofail, x-systemd.*)
 * or nothing here (rw: the mount is read-only whatever is asked).  They are accepted and ignored.
 */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>

#include "options.h"
#include "path.h"
#include "weightfs/base.h"
#include "weightfs/digest.h"
#include "weightfs/log.h"

#define SYSTEM_CONF "/etc/weightfs/weightfs.conf"

static const char *const ready_choices[] = { "complete", "delta", "manifest", "auto", NULL };
static const char *const bind_choices[] = { "job", "process", "cgroup", "none", NULL };
static const char *const pass_choices[] = { "auto", "on", "off", NULL };
static const char *const serve_choices[] = { "mount", "link", NULL };
static const char *const level_choices[] = { "error", "warn", "info", "debug", NULL };

#define OPT(name, type, field, choices, help) \
	{ name, type, offsetof(struct options, field), choices, help }
#define IGNORED(name) { name, WFS_OPT_IGNORE, 0, NULL, NULL }

static const struct wfs_opt table[] = {
	OPT("cache", WFS_OPT_STRING, cache, NULL, "DIR: local copy of the versions"),
	OPT("base", WFS_OPT_LIST, base, NULL, "DIR: a model directory at hand, used as base where it fits (repeatable)"),
	OPT("ready", WFS_OPT_CHOICE, ready, ready_choices,
	    "complete|delta|manifest|auto: when a version is shown (auto: complete, but the first at once)"),
	OPT("serve", WFS_OPT_CHOICE, serve, serve_choices,
	    "mount|link: complete versions are files of the mount, or links to plain files in the cache (mount)"),
	OPT("lazy", WFS_OPT_FLAG, lazy, NULL, "fetch only what is read"),
	OPT("rate", WFS_OPT_SIZE, rate, NULL, "SIZE a second at most in the background (0: no limit)"),
	OPT("poll", WFS_OPT_TIME, poll_ms, NULL, "TIME between looks at the store (10s)"),
	OPT("read_timeout", WFS_OPT_TIME, read_timeout_ms, NULL, "TIME a read waits while nothing moves (5m)"),
	OPT("passthrough", WFS_OPT_CHOICE, passthrough, pass_choices,
	    "auto|on|off: the kernel reads complete files by itself, for root (auto)"),
	OPT("allow_other", WFS_OPT_FLAG, allow_other, NULL, "other users may read the mount"),
	OPT("uid", WFS_OPT_UINT, uid, NULL, "owner shown (number)"),
	OPT("gid", WFS_OPT_UINT, gid, NULL, "group shown (number)"),
	OPT("umask", WFS_OPT_OCTAL, umask, NULL, "permission bits taken away (octal)"),
	OPT("foreground", WFS_OPT_FLAG, foreground, NULL, "stay in the foreground, log to stderr"),
	OPT("cache_size", WFS_OPT_SIZE, cache_size, NULL, "SIZE of the cache at most (0: as the disk allows)"),
	OPT("min_free", WFS_OPT_SIZE, min_free, NULL, "SIZE left free on the cache's disk (1G)"),
	OPT("keep_versions", WFS_OPT_UINT, keep_versions, NULL, "complete versions kept beside the newest (1)"),
	OPT("scrub", WFS_OPT_TIME, scrub_ms, NULL, "TIME between checks of the whole cache (24h; 0: never)"),
	OPT("cacert", WFS_OPT_STRING, cacert, NULL, "FILE of certificates for https"),
	OPT("accept_run", WFS_OPT_FLAG, accept_run, NULL, "the store was made anew: drop the cache of the old run"),
	OPT("fsname", WFS_OPT_STRING, fsname, NULL, "source shown in the mount table"),
	OPT("hub", WFS_OPT_STRING, hub, NULL, "ORG/NAME of the model in hub/ (the last part of the store's URL)"),
	OPT("run_as", WFS_OPT_STRING, run_as, NULL, "USER that the daemon of root's mount is (the cache's owner, weightfs, or nobody; root)"),
	OPT("show_code", WFS_OPT_FLAG, show_code, NULL, "show *.py, pickles and other code"),
	OPT("log_level", WFS_OPT_CHOICE, log_level, level_choices, "error|warn|info|debug (info)"),
	OPT("workers", WFS_OPT_UINT, workers, NULL, "build threads (0: one a core)"),
	OPT("linger", WFS_OPT_TIME, linger_ms, NULL, "TIME after its last use that a process keeps its version (60s)"),
	OPT("bind", WFS_OPT_CHOICE, bind, bind_choices,
	    "job|process|cgroup|none: who sees one version behind latest (job)"),
	OPT("join", WFS_OPT_TIME, join_ms, NULL, "TIME in which new processes of a job take its version (30s)"),
	OPT("config", WFS_OPT_STRING, config, NULL, "FILE read instead of the usual weightfs.conf"),
	OPT("noexec", WFS_OPT_FLAG, noexec, NULL, "nothing in the mount may be executed"),
	IGNORED("_netdev"), IGNORED("nofail"), IGNORED("ro"), IGNORED("rw"), IGNORED("auto"),
	IGNORED("noauto"), IGNORED("user"), IGNORED("users"), IGNORED("nouser"), IGNORED("owner"),
	IGNORED("group"), IGNORED("defaults"), IGNORED("nosuid"), IGNORED("nodev"), IGNORED("suid"),
	IGNORED("dev"), IGNORED("exec"), IGNORED("atime"), IGNORED("noatime"), IGNORED("relatime"),
	IGNORED("async"), IGNORED("comment"),
};

static void set_defaults(struct options *o)
{
	*o = (struct options){
		.ready = OPTIONS_READY_AUTO,
		.log_level = WFS_LOG_INFO,
		.poll_ms = 10 * 1000,
		.read_timeout_ms = 5 * 60 * 1000,
		.scrub_ms = 24 * 3600 * 1000,
		.linger_ms = 60 * 1000,
		.join_ms = 30 * 1000,
		.uid = getuid(),
		.gid = getgid(),
		.keep_versions = 1,
		.min_free = 1ull << 30,
	};
}

void options_free(struct options *o)
{
	wfs_opt_free(o, table, ARRAY_SIZE(table));
}

void options_help(FILE *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].help)
			fprintf(f, "  %-14s %s\n", table[i].name, table[i].help);
}

/* Length of the first item of a comma-separated list; "\," does not end it. */
static size_t item_len(const char *list)
{
	size_t n = 0;

	while (list[n] && list[n] != ',')
		n += list[n] == '\\' && list[n + 1] ? 2 : 1;
	return n;
}

/* x-* options are comments for user space, by mount(8)'s rule. */
static int apply_list(struct options *o, const char *list, struct wfs_err *err)
{
	while (list && *list) {
		size_t n = item_len(list);
		WFS_AUTO(wfs_free_ptr) char *item = strndup(list, n);
		int r;

		if (!item)
			return wfs_fail(err, -ENOMEM, "out of memory");
		if (n && strncmp(item, "x-", 2) != 0) {
			r = wfs_opt_parse_list(o, table, ARRAY_SIZE(table), item, err);
			if (r < 0)
				return r;
		}
		list += n + (list[n] == ',');
	}
	return 0;
}

int options_each_file(const char *config, int (*fn)(void *arg, const char *path, struct wfs_err *err), void *arg,
		      struct wfs_err *err)
{
	char path[4096];
	const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
	int r;

	if (config) {
		r = fn(arg, config, err);
		return r == -ENOENT ? wfs_fail(err, r, "config=%s: no such file", config) : r;
	}
	r = fn(arg, SYSTEM_CONF, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (xdg && *xdg == '/')
		snprintf(path, sizeof(path), "%s/weightfs/weightfs.conf", xdg);
	else if (home && *home == '/')
		snprintf(path, sizeof(path), "%s/.config/weightfs/weightfs.conf", home);
	else
		return 0;
	r = fn(arg, path, err);
	return r == -ENOENT ? 0 : r;
}

struct apply {
	struct options *o;
	struct options other;		/* of the other mounts: checked, and not used */
	const char *mnt;
};

/* Between the quotation marks of [mount "PATH"], without slashes at its end. */
static int section_path(char path[PATH_MAX], const char *section, struct wfs_err *err)
{
	static const char lead[] = "mount \"";
	size_t begin = sizeof(lead) - 1, end = strlen(section) - 1;

	if (strncmp(section, lead, begin) != 0 || end <= begin || section[end] != '"')
		return wfs_fail(err, -EINVAL, "the section of one mount is written [mount \"/mnt/policy\"]");
	if (section[begin] != '/')
		return wfs_fail(err, -EINVAL, "[%s]: the mount's whole path is needed, as in [mount \"/home/me/policy\"]",
				section);
	while (end > begin + 1 && section[end - 1] == '/')
		end--;
	snprintf(path, PATH_MAX, "%.*s", (int)(end - begin), section + begin);
	return 0;
}

static int apply_option(void *arg, const char *section, const char *name, const char *value, struct wfs_err *err)
{
	struct apply *a = arg;
	char path[PATH_MAX];
	int r;

	if (strcmp(section, "mount") == 0)
		return wfs_opt_set(a->o, table, ARRAY_SIZE(table), name, value, err);
	if (strncmp(section, "mount", 5) != 0 || (section[5] != ' ' && section[5] != '"'))
		return 0;			/* of others */
	r = section_path(path, section, err);
	if (r < 0)
		return r;
	return wfs_opt_set(strcmp(path, a->mnt) == 0 ? a->o : &a->other, table, ARRAY_SIZE(table), name, value, err);
}

static int apply_file(void *arg, const char *path, struct wfs_err *err)
{
	return wfs_conf_read(path, apply_option, arg, err);
}

int options_load(struct options *out, const char *list, const char *mnt, struct wfs_err *err)
{
	struct options first, o;
	struct apply apply = { .o = &o, .mnt = mnt };
	int r;

	/* once for config= alone (and for complaints about -o before those about files) */
	set_defaults(&first);
	set_defaults(&o);
	set_defaults(&apply.other);
	r = apply_list(&first, list, err);
	if (r == 0)
		r = options_each_file(first.config, apply_file, &apply, err);
	if (r == 0)
		r = apply_list(&o, list, err);
	options_free(&first);
	options_free(&apply.other);
	if (r < 0) {
		options_free(&o);
		return r;
	}
	*out = o;
	return 0;
}

void options_store(struct wfs_store_opts *out, const struct options *o)
{
	*out = (struct wfs_store_opts){
		.cacert = o->cacert,
		.rate = o->rate,
		.read_timeout_ms = o->read_timeout_ms,
	};
}

void options_replica(struct wfs_replica_opts *out, const struct options *o)
{
	*out = (struct wfs_replica_opts){
		.cache = o->cache,
		.base = o->base,
		.ready = o->ready == OPTIONS_READY_AUTO ? WFS_READY_COMPLETE : (enum wfs_ready)o->ready,
		.strict_ready = o->ready == WFS_READY_COMPLETE,
		.lazy = o->lazy,
		.accept_run = o->accept_run,
		.cache_size = o->cache_size,
		.min_free = o->min_free,
		.link = o->serve == OPTIONS_SERVE_LINK,
		.link_others = o->allow_other,
		.link_code = o->show_code,
		.link_umask = o->umask,
		.link_idle_ms = o->linger_ms,
		.keep_versions = o->keep_versions,
		.poll_ms = o->poll_ms,
		.read_timeout_ms = o->read_timeout_ms,
		.scrub_ms = o->scrub_ms,
		.workers = o->workers,
	};
}

void options_bind(struct bind_opts *out, const struct options *o)
{
	*out = (struct bind_opts){
		.mode = (enum bind_mode)o->bind,
		.linger_ms = o->linger_ms,
		.join_ms = o->join_ms,
	};
}

/* One directory a store, so that two mounts without cache= do not meet. */
static int default_cache(char **out, const char *url, struct wfs_err *err)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	unsigned long long id = wfs_xxh3(url, strlen(url));
	struct passwd *pw;
	int r;

	if (geteuid() == 0) {
		r = asprintf(out, "/var/cache/weightfs/%016llx", id);
	} else if (xdg && *xdg == '/') {
		r = asprintf(out, "%s/weightfs/%016llx", xdg, id);
	} else {
		if (!home || *home != '/') {
			pw = getpwuid(geteuid());
			home = pw ? pw->pw_dir : NULL;
		}
		if (!home)
			return wfs_fail(err, -EINVAL, "no home directory: give cache=DIR");
		r = asprintf(out, "%s/.cache/weightfs/%016llx", home, id);
	}
	return r < 0 ? wfs_fail(err, -ENOMEM, "out of memory") : 0;
}

int options_resolve(struct options *o, const char *url, struct wfs_err *err)
{
	int r = 0;

	if (!o->cache)
		r = default_cache(&o->cache, url, err);
	if (r == 0)
		r = path_absolute(&o->cache, err);
	if (r == 0 && o->cacert)
		r = path_absolute(&o->cacert, err);
	for (size_t i = 0; r == 0 && i < o->base.n; i++)
		r = path_absolute(&o->base.v[i], err);
	return r;
}
