/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c - fork early, report late
 *
 * Threads do not survive a fork, so the child does everything from opening the store on, and the
 * parent stays in front until the mount answers: `weightfs mount` fails like any command.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "weightfs/base.h"
#include "weightfs/io.h"

#define UP '+'			/* the report of a good start; anything else is a sentence */

static int wait_for_report(int fd, const char *mnt)
{
	char buf[1024];
	struct stat st;
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(buf) - 1) {
		n = read(fd, buf + len, sizeof(buf) - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	if (buf[0] != UP) {
		fprintf(stderr, "weightfs: %s\n", len ? buf : "the daemon died while it started");
		return 1;
	}
	if (stat(mnt, &st) < 0) {
		fprintf(stderr, "weightfs: %s: mounted, but it does not answer: %s\n", mnt, strerror(errno));
		return 1;
	}
	return 0;
}

int daemon_fork(int *report, const char *mnt, struct wfs_err *err)
{
	int p[2], null;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return wfs_fail_sys(err, "pipe");
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		close(p[0]);
		close(p[1]);
		return wfs_fail_sys(err, "fork");
	}
	if (pid > 0) {
		int code;

		close(p[1]);
		code = wait_for_report(p[0], mnt);
		close(p[0]);
		return 1 + code;
	}
	close(p[0]);
	setsid();
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		close(null);
	}
	*report = p[1];
	return 0;
}

void daemon_report(int *report, const char *problem)
{
	int null;

	if (*report < 0)
		return;
	if (problem) {
		wfs_write(*report, problem, strlen(problem), NULL);
	} else {
		wfs_write(*report, &(char){ UP }, 1, NULL);
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0) {
			dup2(null, STDOUT_FILENO);
			dup2(null, STDERR_FILENO);
			close(null);
		}
	}
	close(*report);
	*report = -1;
}
