/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h - which processes belong together, read from /proc
 *
 * A job is what a process has in common with its ancestors up to an edge: pid 1, another cgroup, or
 * a terminal's session.  weightfs-design(7), "Who sees which version", has the reasons.
 * Nothing here keeps state; a process may be gone at any moment, and then it is at its edge.
 */
#ifndef FS_JOB_H
#define FS_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JOB_CHAIN	64u		/* nearest ancestors that are remembered; the climb goes on above */

enum job_kind { JOB_CLIMB, JOB_CGROUP };

/* A process, safe against reuse of its number; pid 0: one we cannot see. */
struct bind_key {
	pid_t pid;
	uid_t user;			/* whose process it is, where that is known: no part of who it is */
	uint64_t start;			/* clock ticks since boot */
};

struct job {
	uint64_t id;			/* the same for all processes of the job */
	unsigned n;
	struct bind_key chain[JOB_CHAIN];	/* the process, its parent, and so on, inside the job */
	struct bind_key shell;		/* an interactive shell that started it; pid 0: none */
	uint64_t shell_id;		/* the shell's own job */
};

struct proc_stat {
	pid_t pid, parent, group, session;
	int tty;
	unsigned threads;
	char state;
	uint64_t start;
};

/* One line of /proc/<pid>/stat, whose command name may hold anything.  False: it is none. */
bool proc_parse_stat(struct proc_stat *out, const char *line);

/* False: there is no such process, or none that lives. */
bool proc_stat(struct proc_stat *out, pid_t pid);

/* The process of thread tid; pid 0 when /proc does not show it. */
struct bind_key proc_of_thread(pid_t tid);

/* A small file of /proc/<pid>, NUL-terminated; "" when it is not there. */
void proc_read(char *buf, size_t cap, pid_t pid, const char *name);

bool proc_is_ours(void);		/* it numbers processes as we do */
uint64_t proc_ticks(void);		/* now, comparable with a process's start */

/* The job of a process.  A process that is gone is alone in it. */
void job_of(struct job *out, struct bind_key key, enum job_kind kind);

#endif
