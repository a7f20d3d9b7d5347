/* SPDX-License-Identifier: Apache-2.0 */
/*
 * servers.h - servers as children of a test, on loopback ports of the system's choice
 *
 * Each is a Python program (serve.py, hostile.py) that prints its port first.  A server dies with
 * the test, however that ends.
 */
#ifndef WEIGHTFS_TEST_SERVERS_H
#define WEIGHTFS_TEST_SERVERS_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
	pid_t pid;		/* 0: none */
	int port;
};

/* argv[0] is a program in tests/; false: it did not start. */
static inline bool server_start(struct server *s, const char *const *argv)
{
	const char *args[8] = { "python3" };
	char program[4096], line[32];
	int out[2], n = 1;
	pid_t parent = getpid();
	FILE *f;

	snprintf(program, sizeof(program), "%s/%s", TESTS_DIR, argv[0]);
	args[n++] = program;
	for (int i = 1; argv[i] && n < 7; i++)
		args[n++] = argv[i];
	s->port = -1;
	if (pipe(out) < 0)
		return false;
	s->pid = fork();
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(127);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execvp(args[0], (char *const *)args);
		_exit(127);
	}
	close(out[1]);
	f = fdopen(out[0], "r");
	if (f && fgets(line, sizeof(line), f))
		s->port = atoi(line);
	if (f)
		fclose(f);
	return s->port >= 0;
}

static inline void server_stop(struct server *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGTERM);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

#define SERVER_START(s, ...) server_start(s, (const char *const[]) { __VA_ARGS__, NULL })

#endif
