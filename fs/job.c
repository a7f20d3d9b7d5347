/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.c - the climb from a process to the edge of its job
 *
 * Between a process and its parent lies the edge, when
 *
 *   1. the parent is pid 1, or there is none in our pid namespace;
 *   2. they are in different cgroups: a scheduler, a container or a service manager drew that line;
 *   3. the process leads a session on a terminal, as an ssh or tmux window does;
 *   4. the parent does, and has put the process into a process group of its own in that session: an
 *      interactive shell, each of whose commands is a job.  A launcher that is itself what runs on the
 *      terminal (ssh -t, docker run -t) leaves its children in its group, or gives them sessions.
 *
 * A session alone is no edge, since some launchers start every rank in one of its own.
 *
 * The job's name is made of the cgroup and the process group of the topmost process.  The group
 * outlives the process that leads it: what a script left behind when it ended is still one job.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "job.h"
#include "weightfs/digest.h"

#define CLIMB_MAX	65536u		/* no process has so many ancestors */

struct step {
	struct proc_stat st;
	uint64_t cgroup;
};

void proc_read(char *buf, size_t cap, pid_t pid, const char *name)
{
	char path[64];
	ssize_t n;
	int fd;

	buf[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, buf, cap - 1);
	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* The name in parentheses may hold spaces, parentheses and digits, so what follows its end counts. */
bool proc_parse_stat(struct proc_stat *out, const char *line)
{
	const char *p = strrchr(line, ')');
	int pid, parent, group, session, tty;
	uint64_t start;
	unsigned threads;
	char state;

	if (!p || sscanf(line, "%d", &pid) != 1 ||
	    sscanf(p + 1, " %c %d %d %d %d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %u %*d %" SCNu64,
		   &state, &parent, &group, &session, &tty, &threads, &start) != 7)
		return false;
	*out = (struct proc_stat){ .pid = pid, .parent = parent, .group = group, .session = session,
				   .tty = tty, .threads = threads, .state = state, .start = start };
	return true;
}

/* A process whose first thread has ended looks like a zombie, but has other threads. */
bool proc_stat(struct proc_stat *out, pid_t pid)
{
	char buf[1024];

	proc_read(buf, sizeof(buf), pid, "stat");
	if (!proc_parse_stat(out, buf))
		return false;
	return (out->state != 'Z' && out->state != 'X') || out->threads > 1;
}

struct bind_key proc_of_thread(pid_t tid)
{
	struct bind_key key = { 0 };
	struct proc_stat st;
	char buf[4096];
	const char *p;

	if (tid <= 0)
		return key;
	proc_read(buf, sizeof(buf), tid, "status");
	p = strstr(buf, "\nTgid:");
	if (p && proc_stat(&st, (pid_t)strtol(p + 6, NULL, 10)))
		key = (struct bind_key){ .pid = st.pid, .start = st.start };
	return key;
}

bool proc_is_ours(void)
{
	char buf[32] = "";

	return readlink("/proc/self", buf, sizeof(buf) - 1) > 0 && atoi(buf) == getpid();
}

uint64_t proc_ticks(void)
{
	uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * hz + (uint64_t)ts.tv_nsec * hz / 1000000000u;
}

static bool look(struct step *out, pid_t pid)
{
	char buf[4096];

	if (!proc_stat(&out->st, pid))
		return false;
	proc_read(buf, sizeof(buf), pid, "cgroup");
	out->cgroup = wfs_xxh3(buf, strlen(buf));
	return true;
}

static bool leads_terminal(const struct proc_stat *st)
{
	return st->tty != 0 && st->pid == st->session;
}

static bool is_shell_of(const struct proc_stat *parent, const struct proc_stat *child)
{
	return leads_terminal(parent) && child->session == parent->session &&
	       child->group != parent->group;
}

static uint64_t name(const struct step *top, enum job_kind kind)
{
	uint64_t key[2] = { top->cgroup, kind == JOB_CGROUP ? 0 : (uint64_t)top->st.group };

	return wfs_xxh3(key, sizeof(key));
}

static struct bind_key key_of(const struct proc_stat *st)
{
	return (struct bind_key){ .pid = st->pid, .start = st->start };
}

/* True: up, the parent of at, is inside the job. */
static bool climb(struct job *out, struct step *up, const struct step *at, enum job_kind kind)
{
	if (at->st.parent <= 1 || !look(up, at->st.parent))
		return false;
	/* a parent is not younger: else the number was given away while we looked */
	if (up->st.start > at->st.start || up->cgroup != at->cgroup)
		return false;
	if (kind == JOB_CGROUP)
		return true;
	if (leads_terminal(&at->st))
		return false;
	if (!is_shell_of(&up->st, &at->st))
		return true;
	out->shell = key_of(&up->st);
	out->shell_id = name(up, kind);
	return false;
}

void job_of(struct job *out, struct bind_key key, enum job_kind kind)
{
	struct step at, up;

	*out = (struct job){ .n = 1, .chain = { key } };
	if (!look(&at, key.pid) || at.st.start != key.start) {
		uint64_t alone[2] = { (uint64_t)key.pid, key.start };

		out->id = wfs_xxh3(alone, sizeof(alone));
		return;
	}
	for (unsigned i = 0; i < CLIMB_MAX && climb(out, &up, &at, kind); i++) {
		if (out->n < JOB_CHAIN)
			out->chain[out->n++] = key_of(&up.st);
		at = up;
	}
	out->id = name(&at, kind);
}
