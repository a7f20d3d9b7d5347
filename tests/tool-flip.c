/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-flip.c - a model of eight shards whose bytes tell its version, and loaders of it
 *
 *	tool-flip make DIR VERSION		write the shards and config.json
 *	tool-flip list DIR VERSION		print "VERSION sha256 sha256-of-the-tensor" for each shard
 *	tool-flip load WAY MNT GATE LIST	load through MNT/latest and print the versions that were seen, by
 *						LIST; before the fifth shard, tell GATE.at and wait for GATE
 *	tool-flip job SHAPE MNT PAUSE N LOG ID	a job of its own, orphaned to pid 1: N loaders append lines to LOG;
 *						of SHAPE "again" one that loads twice, N seconds apart
 *
 * A line of LOG: "load KIND ID RANK start first had last hash...", times in ns of CLOCK_MONOTONIC: when the
 * process started, before its first look, when it had a shard, and after the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flip.h"

static const char *self;

static struct {
	const char *shape, *log, *id;
	int n;
} job;

static void log_load(const char *kind, const char *id, int rank, uint64_t start, uint64_t first, uint64_t last)
{
	char line[1024];
	int fd = open(job.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666), n;

	n = snprintf(line, sizeof(line), "load %s %s %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, kind,
		     id, rank, start, first, had_ns, last);
	for (int i = 0; i < SHARDS; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %s", hashes[i]);
	line[n++] = '\n';
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		die(job.log);
	close(fd);
}

static void load_and_log(const char *kind, const char *way, int rank)
{
	uint64_t start = wfs_now_ns(), first;

	first = wfs_now_ns();
	load(way);
	log_load(kind, job.id, rank, start, first, wfs_now_ns());
}

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		had_ns = 0;
	return pid;
}

static int wait_all(void)
{
	int status, bad = 0;

	while (wait(&status) > 0)
		bad |= status != 0;
	return bad;
}

static int job_one(void)
{
	load_and_log(job.shape, job.shape, 0);
	return 0;
}

/* A launcher that never looks; its ranks come one after another. */
static int job_fork(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			load_and_log("fork", nth_way(i), i);
			_exit(0);
		}
		nap(pause_ms);
	}
	return wait_all();
}

static void exec_rank(const char *kind, int rank)
{
	char number[16], ms[16];

	snprintf(number, sizeof(number), "%d", rank);
	snprintf(ms, sizeof(ms), "%u", pause_ms);
	execl(self, self, "rank", kind, mnt, ms, number, job.log, job.id, NULL);
	die(self);
}

/* torchrun's way */
static int job_sessions(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			setsid();
			exec_rank("sessions", i);
		}
		nap(pause_ms);
	}
	return wait_all();
}

static int job_script(const char *kind, const char *end)
{
	char text[8192];
	int n = 0;

	for (int i = 0; i < job.n; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "'%s' rank %s '%s' %u %d '%s' %s & sleep 0.%03u; ",
			      self, kind, mnt, pause_ms, i, job.log, job.id, pause_ms % 1000);
	snprintf(text + n, sizeof(text) - (size_t)n, "%s", end);
	execl("/bin/sh", "sh", "-c", text, NULL);
	die("/bin/sh");
	return 1;
}

static int job_waiting_script(void)
{
	return job_script("script", "wait");
}

static int job_leaving_script(void)	/* its ranks become children of pid 1 */
{
	return job_script("left", "exit 0");
}

/* Children from before and after the parent's first look. */
static int job_parent(void)
{
	uint64_t start = wfs_now_ns(), first;
	int go[2];
	char c;

	if (pipe(go) < 0)
		die("pipe");
	if (child() == 0) {
		close(go[1]);
		(void)!read(go[0], &c, 1);
		load_and_log("child-before", "joined", 1);
		_exit(0);
	}
	close(go[0]);
	first = wfs_now_ns();
	load("joined");
	close(go[1]);
	if (child() == 0) {
		load_and_log("child-after", "mntfd", 2);
		_exit(0);
	}
	nap(pause_ms);
	load("above");
	log_load("parent", job.id, 0, start, first, wfs_now_ns());
	return wait_all();
}

/* A session that never pauses: always two loads at a time. */
static int job_busy(void)
{
	for (int i = 0; i < job.n; i++) {
		if (child() == 0) {
			load_and_log("busy", "joined", i);
			_exit(0);
		}
		if (i)
			wait(NULL);
	}
	return wait_all();
}

/* A process that lives on: its second load is, for who judges, another job's. */
static int job_again(void)
{
	char second[128];
	uint64_t start;

	load_and_log("again", "joined", 0);
	nap((unsigned)job.n * 1000);
	snprintf(second, sizeof(second), "%s+", job.id);
	had_ns = 0;
	start = wfs_now_ns();
	load("mntfd");
	log_load("again-second", second, 0, start, start, wfs_now_ns());
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} shapes[] = {
	{ "fork", job_fork }, { "sessions", job_sessions }, { "script", job_waiting_script },
	{ "left", job_leaving_script }, { "parent", job_parent }, { "busy", job_busy },
	{ "again", job_again },
};

/* Our parent ends first, so that the job begins here and not with who started us. */
static int run_job(void)
{
	pid_t parent = getpid();

	if (child() != 0)
		_exit(0);
	setsid();
	while (getppid() == parent)
		nap(1);
	if (getppid() != 1) {
		errno = ECHILD;
		die("this test needs orphans to become children of pid 1");
	}
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		if (strcmp(shapes[i].name, job.shape) == 0)
			return shapes[i].run();
	return job_one();
}

int main(int argc, char **argv)
{
	static char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	self = exe;
	if (argc == 4 && strcmp(argv[1], "make") == 0) {
		make_model(argv[2], strtoull(argv[3], NULL, 10));
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "list") == 0) {
		list_model(argv[2], argv[3]);
		return 0;
	}
	if (argc < 6)
		return 2;
	mnt = argv[3];
	if (argc == 6 && strcmp(argv[1], "load") == 0) {
		gate = argv[4];
		load(argv[2]);
		print_versions(argv[5]);
		return 0;
	}
	if (argc != 8)
		return 2;
	pause_ms = (unsigned)atoi(argv[4]);
	job.shape = argv[2];
	job.n = atoi(argv[5]);
	job.log = argv[6];
	job.id = argv[7];
	if (strcmp(argv[1], "job") == 0)
		return run_job();
	if (strcmp(argv[1], "rank") != 0)
		return 2;
	load_and_log(job.shape, nth_way(job.n), job.n);
	return 0;
}
