/* SPDX-License-Identifier: Apache-2.0 */
/*
 * users.c - a walk over /proc
 *
 * Nothing here touches the mount itself, which may be stuck: open files are known by the mount id in
 * fdinfo, mappings by the device in maps, directories by their path, other mounts by the device in
 * mountinfo.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "users.h"
#include "weightfs/base.h"

static bool link_inside(const char *pid, const char *what, const char *point)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, what);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	return path_below(target, point);
}

static bool maps_device(const char *pid, const struct mount_entry *e)
{
	char path[64], *line = NULL;
	unsigned major, minor;
	bool found = false;
	size_t cap = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && getline(&line, &cap, f) > 0)
		found = sscanf(line, "%*s %*s %*s %x:%x", &major, &minor) == 2 && major == e->major &&
			minor == e->minor;
	free(line);
	fclose(f);
	return found;
}

static bool fd_on_mount(const char *pid, const char *fd, int mount_id)
{
	char path[128], line[256];
	bool found = false;
	int id;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "mnt_id: %d", &id) == 1 && id == mount_id;
	fclose(f);
	return found;
}

static unsigned count_fds(const char *pid, int mount_id)
{
	char path[64];
	struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		if (isdigit((unsigned char)d->d_name[0]) && fd_on_mount(pid, d->d_name, mount_id))
			n++;
	closedir(dir);
	return n;
}

static void print_name(FILE *f, const char *pid)
{
	char path[64], name[64] = "?";
	FILE *comm;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	comm = fopen(path, "re");
	if (comm) {
		if (fgets(name, sizeof(name), comm))
			name[strcspn(name, "\n")] = '\0';
		fclose(comm);
	}
	for (char *p = name; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	fprintf(f, "  process %s (%s):", pid, name);
}

static bool print_user(FILE *f, const char *pid, const char *point, const struct mount_entry *e)
{
	unsigned fds = count_fds(pid, e->id);
	bool cwd = link_inside(pid, "cwd", point), root = link_inside(pid, "root", point) && strcmp(point, "/");
	bool maps = maps_device(pid, e);

	if (!fds && !cwd && !root && !maps)
		return false;
	print_name(f, pid);
	if (fds)
		fprintf(f, " %u open file%s", fds, fds > 1 ? "s" : "");
	if (maps)
		fprintf(f, " mapped memory");
	if (cwd || root)
		fprintf(f, " %s directory", cwd ? "current" : "root");
	fputc('\n', f);
	return true;
}

unsigned users_print(FILE *f, const char *point, const struct mount_entry *e)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	unsigned n = 0;

	if (!proc)
		return 0;
	while ((d = readdir(proc)))
		if (isdigit((unsigned char)d->d_name[0]) && atoi(d->d_name) != (int)getpid())
			n += print_user(f, d->d_name, point, e);
	closedir(proc);
	return n;
}

/* ---- mounts ---- */

#define MOUNTS_MAX 32u		/* listed */

struct seen {
	int id[MOUNTS_MAX];	/* processes of one namespace see the same mounts */
	unsigned n;
};

static bool add_seen(struct seen *s, int id)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->id[i] == id)
			return false;
	if (s->n == MOUNTS_MAX)
		return false;
	s->id[s->n++] = id;
	return true;
}

static void print_mounts_of(FILE *f, const char *pid, const struct mount_entry *e, struct seen *seen)
{
	char path[64], point[PATH_MAX], *line = NULL;
	unsigned major, minor;
	size_t cap = 0;
	FILE *info;
	int id;

	snprintf(path, sizeof(path), "/proc/%.20s/mountinfo", pid);
	info = fopen(path, "re");
	if (!info)
		return;
	while (getline(&line, &cap, info) > 0)
		if (sscanf(line, "%d %*d %u:%u %*s %4095s", &id, &major, &minor, point) == 4 &&
		    major == e->major && minor == e->minor && add_seen(seen, id)) {
			print_name(f, pid);
			fprintf(f, " has it on %s\n", point);
		}
	free(line);
	fclose(info);
}

unsigned users_print_mounts(FILE *f, const struct mount_entry *e)
{
	DIR *proc = opendir("/proc");
	struct seen seen = { .n = 0 };
	struct dirent *d;

	if (!proc)
		return 0;
	while ((d = readdir(proc)))
		if (isdigit((unsigned char)d->d_name[0]))
			print_mounts_of(f, d->d_name, e, &seen);
	closedir(proc);
	return seen.n;
}
