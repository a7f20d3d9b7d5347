/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privilege.c - from root to a user who may nearly nothing
 *
 * What the user is not allowed to read but must (a store of root's, directories that lead to the cache)
 * is read with CAP_DAC_READ_SEARCH.  That alone would open every file of the machine, so it is kept only
 * where Landlock leaves nothing but the store, the bases, the certificates and the system's libraries to read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handover.h"
#include "landlock.h"
#include "privilege.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

#define OVERFLOW_UID	65534u
#define NAMES_TRIED	256u	/* of the store's directory, when it is tried */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- capabilities ---- */

static int set_caps(uint64_t mask)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	data[0].effective = data[0].permitted = (uint32_t)mask;
	data[1].effective = data[1].permitted = (uint32_t)(mask >> 32);
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* EPERM: without CAP_SETPCAP the set stays, but no_new_privs makes it moot. */
static int bound_caps(uint64_t mask)
{
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (!(mask >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EPERM)
			return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return 0;
}

bool privilege_has_cap(int cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	return syscall(SYS_capget, &head, data) == 0 && (data[cap / 32].effective >> (cap % 32) & 1);
}

int privilege_keep_caps(uint64_t mask)
{
	int r = bound_caps(mask);

	if (r == 0)
		r = set_caps(mask);
	return r < 0 ? r : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* glibc changes all threads; here there is one. */
static int become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

/* ---- who ---- */

static void set_user(struct privilege *p, uid_t uid, gid_t gid, const char *name)
{
	p->uid = uid;
	p->gid = gid;
	if (name)
		snprintf(p->name, sizeof(p->name), "%s", name);
	else
		snprintf(p->name, sizeof(p->name), "%u", (unsigned)uid);
}

static void set_uid(struct privilege *p, uid_t uid)
{
	struct passwd *pw = getpwuid(uid);

	set_user(p, uid, pw ? pw->pw_gid : (gid_t)uid, pw ? pw->pw_name : NULL);
}

static bool set_name(struct privilege *p, const char *name)
{
	struct passwd *pw = getpwnam(name);

	if (pw)
		set_user(p, pw->pw_uid, pw->pw_gid, pw->pw_name);
	return pw != NULL;
}

static int named(struct privilege *p, const char *run_as, struct wfs_err *err)
{
	size_t n = strlen(run_as);

	if (n && n <= 9 && strspn(run_as, "0123456789") == n)
		set_uid(p, (uid_t)strtoul(run_as, NULL, 10));
	else if (!set_name(p, run_as))
		return wfs_fail(err, -ENOENT, "run_as=%s: there is no such user (a name, a number, or root)", run_as);
	return 0;
}

static void usual(struct privilege *p, const char *cache)
{
	struct stat st;

	if (stat(cache, &st) == 0 && st.st_uid != 0)
		set_uid(p, st.st_uid);
	else if (!set_name(p, "weightfs") && !set_name(p, "nobody"))
		set_uid(p, OVERFLOW_UID);
}

/* In a child, as the user: 0, or 1 + what fn returns when it is not 0. */
static int as_user(const struct privilege *p, int (*fn)(const struct privilege *p, const void *arg), const void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(become(p->uid, p->gid) < 0 ? 1 : fn ? fn(p, arg) : 0);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int privilege_choose(struct privilege *p, const struct options *o, struct wfs_err *err)
{
	int r = 0;

	*p = (struct privilege){ 0 };
	set_uid(p, geteuid());
	if (geteuid() != 0)
		return o->run_as ? wfs_fail(err, -EPERM, "run_as=%s: only root's mounts can run as another user", o->run_as) : 0;
	if (o->run_as)
		r = named(p, o->run_as, err);
	else
		usual(p, o->cache);
	if (r < 0 || p->uid == 0)
		return r;
	p->drop = privilege_has_cap(CAP_SYS_ADMIN) && privilege_has_cap(CAP_CHOWN) && as_user(p, NULL, NULL) == 0;
	if (p->drop)
		return 0;
	if (o->run_as)
		return wfs_fail(err, -EPERM, "run_as=%s: this process cannot become that user (CAP_SETUID, CAP_SETGID, "
				"CAP_CHOWN and CAP_SYS_ADMIN are needed, and the user in its user namespace)", o->run_as);
	log_warn("the daemon runs as root: this process cannot become %s", p->name);
	set_uid(p, 0);
	return 0;
}

int privilege_as_owner(const char *cache, struct wfs_err *err)
{
	struct privilege p = { 0 };
	struct stat st;
	int r;

	if (geteuid() != 0 || stat(cache, &st) < 0 || st.st_uid == 0)
		return 0;
	set_uid(&p, st.st_uid);
	r = chdir(cache) < 0 ? -errno : become(p.uid, p.gid);
	return r < 0 ? wfs_fail(err, r, "become %s, whose cache it is: %s", p.name, strerror(-r)) : 1;
}

/* ---- what the user may not read ---- */

enum { CAN_ALL, CANNOT_BECOME, CANNOT_STORE, CANNOT_CACHE, CANNOT_BASE, CANNOT_CERT };

static bool closed(const char *path, int how)
{
	return access(path, how) < 0 && errno == EACCES;
}

/* Objects further down are as readable as their directories: what the publisher's umask made. */
static bool store_closed(const char *path)
{
	char name[PATH_MAX];
	struct dirent *e;
	bool bad = false;
	struct stat st;
	DIR *d;

	if (closed(path, R_OK | X_OK))
		return true;
	d = opendir(path);
	for (unsigned i = 0; d && !bad && i < NAMES_TRIED && (e = readdir(d)); i++) {
		if (e->d_name[0] == '.' || (size_t)snprintf(name, sizeof(name), "%s/%s", path, e->d_name) >= sizeof(name))
			continue;
		bad = stat(name, &st) == 0 && closed(name, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK);
	}
	if (d)
		closedir(d);
	return bad;
}

static int try_all(const struct privilege *p, const void *arg)
{
	const struct options *o = arg;

	if (p->store && store_closed(p->store))
		return CANNOT_STORE;
	if (closed(o->cache, R_OK | W_OK | X_OK))
		return CANNOT_CACHE;
	for (size_t i = 0; i < o->base.n; i++)
		if (closed(o->base.v[i], R_OK | X_OK))
			return CANNOT_BASE;
	return o->cacert && closed(o->cacert, R_OK) ? CANNOT_CERT : CAN_ALL;
}

int privilege_prepare(struct privilege *p, const struct options *o, const struct wfs_store *store, struct wfs_err *err)
{
	static const char *const what[] = {
		[CANNOT_BECOME] = "what it needs", [CANNOT_STORE] = "the store", [CANNOT_CACHE] = "the directories that lead to the cache",
		[CANNOT_BASE] = "a base=", [CANNOT_CERT] = "the file of cacert=",
	};
	int r, cannot;

	if (wfs_store_is_local(store))
		p->store = wfs_store_url(store);
	if (geteuid() != 0)
		return 0;
	r = handover_cache(o->cache, p->uid, p->gid, err);
	if (r < 0 || !p->drop)
		return r;
	cannot = as_user(p, try_all, o);
	if (cannot == CAN_ALL)
		return 0;
	r = landlock_begin();
	if (r >= 0) {
		close(r);
		p->reads_all = true;
		return 0;
	}
	return wfs_fail(err, -EACCES, "%s: user %s may not read it, and this kernel has no Landlock to let only that be read: "
			"change its permissions, or mount with run_as= a user who may (run_as=root: as root)",
			cannot == CANNOT_STORE ? p->store : what[WFS_MIN((size_t)cannot, ARRAY_SIZE(what) - 1)], p->name);
}

/* ---- the drop ---- */

/* With the capability nothing in /etc is allowed as a whole: there are keys and passwords. */
static const char *const system_paths[] = {
	"/proc", "/usr", "/lib", "/lib32", "/lib64", "/sys/devices/system", "/sys/fs/cgroup", "/run/systemd/resolve", "/run/resolvconf",
	"/run/NetworkManager", "/var/lib/ca-certificates", "/dev/urandom", "/dev/random", "/etc/resolv.conf",
	"/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
	"/etc/localtime", "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs",
	"/etc/pki/ca-trust/extracted", "/etc/ca-certificates",
};

static int allow(int rules, const char *path, enum landlock_how how, struct wfs_err *err)
{
	int r = landlock_allow(rules, path, how);

	return r < 0 ? wfs_fail(err, r, "Landlock: allow %s: %s", path, strerror(-r)) : 0;
}

/* A hub's snapshot is links to files beside it.  With the capability only to those of the base's owner. */
static int allow_base(const struct privilege *p, int rules, const char *base, struct wfs_err *err)
{
	DIR *d = opendir(base);
	char name[PATH_MAX], real[PATH_MAX], last[PATH_MAX] = "";
	struct stat st, to;
	struct dirent *e;
	int r = allow(rules, base, LANDLOCK_READ, err);

	while (d && r == 0 && (e = readdir(d))) {
		if (e->d_type != DT_LNK || (size_t)snprintf(name, sizeof(name), "%s/%s", base, e->d_name) >= sizeof(name) ||
		    !realpath(name, real) || !strrchr(real + 1, '/'))
			continue;
		*strrchr(real, '/') = '\0';
		if (strcmp(real, last) == 0 || stat(base, &st) < 0 || stat(real, &to) < 0 ||
		    (p->reads_all && st.st_uid != to.st_uid))
			continue;
		strcpy(last, real);
		r = allow(rules, real, LANDLOCK_READ, err);
	}
	if (d)
		closedir(d);
	return r;
}

static int make_rules(const struct privilege *p, const struct options *o, int rules, struct wfs_err *err)
{
	int r = allow(rules, o->cache, LANDLOCK_WRITE, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(system_paths); i++)
		r = allow(rules, system_paths[i], LANDLOCK_READ, err);
	if (r == 0 && !p->reads_all)
		r = allow(rules, "/etc", LANDLOCK_READ, err);
	if (r == 0 && p->store)
		r = allow(rules, p->store, LANDLOCK_READ, err);
	if (r == 0 && o->cacert)
		r = allow(rules, o->cacert, LANDLOCK_READ, err);
	for (size_t i = 0; r == 0 && i < o->base.n; i++)
		r = allow_base(p, rules, o->base.v[i], err);
	if (r == 0)
		r = allow(rules, "/dev/null", LANDLOCK_DEVICE, err);
	return r < 0 ? r : allow(rules, "/dev/fuse", LANDLOCK_DEVICE, err);
}

/* Others of the same user must not look into this process; a sanitizer must. */
static void hide(void)
{
#ifdef SANITIZED
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
#else
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

static int switch_user(const struct privilege *p)
{
	uint64_t keep = p->reads_all ? 1ull << CAP_DAC_READ_SEARCH : 0;
	int r = bound_caps(0);

	if (r == 0 && prctl(PR_SET_KEEPCAPS, p->reads_all ? 1 : 0, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = become(p->uid, p->gid);
	if (r == 0)
		r = set_caps(keep);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	return r;
}

int privilege_drop(struct privilege *p, const struct options *o, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int rules = -1;
	int r = 0;

	if (!p->drop)
		return 0;
	rules = landlock_begin();
	if (rules >= 0)
		r = make_rules(p, o, rules, err);
	if (r < 0)
		return r;
	r = switch_user(p);
	if (r == 0 && rules >= 0)
		r = landlock_enforce(rules);
	if (r == 0 && rules < 0 && p->reads_all)
		r = -ENOSYS;
	if (r < 0)
		return wfs_fail(err, r, "become user %s: %s", p->name, strerror(-r));
	p->landlock = rules >= 0;
	hide();
	return 0;
}
