/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - weightsync: dispatch
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/log.h"

atomic_bool cmd_interrupted;

static const struct {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "publish", "put a model directory into a store as its next version", cmd_publish },
	{ "log",     "list the versions of a store",                           cmd_log },
	{ "show",    "say what a version, or a file of it, consists of",       cmd_show },
	{ "pull",    "write a version as plain files, without a mount",        cmd_pull },
	{ "plan",    "say which steps a reader takes, and their bytes",         cmd_plan },
	{ "verify",  "check every digest of a store, from the commits down",   cmd_verify },
	{ "gc",      "drop what the newest versions do not need",               cmd_gc },
};

static void help(FILE *to)
{
	fputs("usage: weightsync COMMAND [OPTION...] [ARGUMENT...]\n\ncommands:\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].what);
	fputs("\n`weightsync COMMAND --help' says more.  STORE is a directory, file://, http:// or https://\n"
	      "(publish: a directory).\n\nexit status:\n"
	      "  0    done\n  1    failed\n  2    wrong usage\n  3    nothing published, or no such version\n"
	      "  4    bytes are not what they should be\n  130  interrupted\n", to);
}

static void on_signal(int sig)
{
	(void)sig;
	cmd_interrupted = true;
}

/* publish holds every file of a version open, to know that it stays the same one. */
static void raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

	wfs_log_open("weightsync", 0);
	wfs_log_set_level(WFS_LOG_WARN);
	if (argc < 2)
		return cmd_usage("a command is missing; `weightsync --help' lists them");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("weightsync " WFS_VERSION);
		return 0;
	}
	raise_file_limit();
	sigaction(SIGINT, &sa, NULL);	/* a second one ends the program at once */
	sigaction(SIGTERM, &sa, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return cmd_usage("there is no command `%s'; `weightsync --help' lists them", argv[1]);
}
