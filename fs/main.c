/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the program `weightfs`
 *
 * Called as mount.weightfs (by mount(8)), or with a store where a command would stand (by
 * mount.fuse), it mounts.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "hub.h"
#include "mount.h"
#include "weightfs/base.h"
#include "weightfs/log.h"
#include "weightfs/store.h"

/* Join the values of several -o. */
static int add_options(char **list, const char *more)
{
	char *all;

	if (asprintf(&all, "%s%s%s", *list ? *list : "", *list && **list ? "," : "", more) < 0)
		return -1;
	free(*list);
	*list = all;
	return 0;
}

/* A store that is no store URL at all is wrong usage; one that cannot be opened now is not. */
static bool is_store(const char *url, struct wfs_err *err)
{
	struct wfs_store *st = NULL;
	int r = wfs_store_open(&st, url, NULL, false, err);

	if (r == 0)
		wfs_store_close(st);
	return r != -EINVAL;
}

static int mount_parsed(const char *store, const char *mnt, const char *list, bool foreground, bool fake)
{
	struct wfs_err err = { 0 };
	char point[PATH_MAX], hub[HUB_DIR_MAX];
	struct options opt;

	/* the section [mount "MNT"] is found by the real path where there is one */
	if (path_mount_point(point, mnt, NULL) < 0)
		snprintf(point, sizeof(point), "%s", mnt);
	if (!is_store(store, &err) || options_load(&opt, list, point, &err) < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_USAGE;
	}
	if (hub_dir(hub, opt.hub, "", &err) < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		options_free(&opt);
		return EXIT_USAGE;
	}
	if (fake) {
		options_free(&opt);
		return EXIT_OK;
	}
	cmd_hooks_check(opt.config, point);
	opt.foreground |= foreground;
	return mount_run(store, mnt, &opt);
}

/* weightfs mount STORE MNT [-f] [-o list]; mount(8)'s helpers also get -s -n -v, -t TYPE, and their
 * -f means: only pretend. */
static int cmd_mount(int argc, char **argv, bool helper)
{
	static const struct option longopts[] = { { "foreground", no_argument, NULL, 'f' },
						  { "options", required_argument, NULL, 'o' }, { 0 } };
	WFS_AUTO(wfs_free_ptr) char *list = NULL;
	bool flag = false;
	int opt;

	while ((opt = getopt_long(argc, argv, helper ? "fsnvwro:t:N:" : "fo:", longopts, NULL)) != -1) {
		if (opt == '?')
			return CMD_USAGE;
		if (opt == 'f')
			flag = true;
		if (opt == 'o' && add_options(&list, optarg) < 0)
			return EXIT_BAD;
	}
	if (argc - optind != 2)
		return CMD_USAGE;
	return mount_parsed(argv[optind], argv[optind + 1], list, flag && !helper, flag && helper);
}

static int plain_mount(int argc, char **argv)
{
	return cmd_mount(argc, argv, false);
}

static const struct command {
	const char *name, *args;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "mount", "STORE MNT [-f] [-o OPTION,...]", plain_mount },
	{ "unmount", "[--lazy] MNT", cmd_unmount },
	{ "status", "MNT [--json] [--files [--version N]]", cmd_status },
	{ "wait", "MNT [--newer-than N] [--timeout SECONDS]", cmd_wait },
	{ "events", "MNT [--json] [--newer-than N]", cmd_events },
	{ "pin", "MNT VERSION", cmd_pin },
	{ "unpin", "MNT VERSION", cmd_pin },
	{ "hooks", "MNT [--once] [--dry-run] [--config FILE]", cmd_hooks },
	{ "verify", "CACHE", cmd_verify },
};

static int help(FILE *f, const char *command)
{
	const char *lead = "usage:";

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (command && strcmp(command, commands[i].name) != 0)
			continue;
		fprintf(f, "%s weightfs %s %s\n", lead, commands[i].name, commands[i].args);
		lead = "      ";
	}
	if (!command)
		fprintf(f, "       weightfs --help | --version\n");
	if (f == stderr)
		return EXIT_USAGE;
	if (!command || strcmp(command, "mount") == 0) {
		fprintf(f, "\nSTORE is a directory, or a file://, http:// or https:// URL.\n"
			"Options of mount, also for weightfs.conf(5):\n\n");
		options_help(f);
	}
	return EXIT_OK;
}

static int run_command(const struct command *c, int argc, char **argv)
{
	int code;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return help(stdout, c->name);
	code = c->run(argc, argv);
	return code == CMD_USAGE ? help(stderr, c->name) : code;
}

int main(int argc, char **argv)
{
	WFS_AUTO(wfs_free_ptr) char *self = strdup(argc ? argv[0] : "weightfs");
	int code;

	opterr = 0;			/* our own line says what would be right */
	wfs_log_open("weightfs", 0);
	if (self && strncmp(basename(self), "mount.", 6) == 0) {
		code = cmd_mount(argc, argv, true);
		return code == CMD_USAGE ? help(stderr, "mount") : code;
	}
	if (argc < 2)
		return help(stderr, NULL);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help(stdout, NULL);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("weightfs %s\n", WFS_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return run_command(&commands[i], argc - 1, argv + 1);
	if (argc >= 3 && strpbrk(argv[1], "/:")) {	/* mount.fuse: STORE MNT -o ... */
		code = cmd_mount(argc, argv, false);
		return code == CMD_USAGE ? help(stderr, "mount") : code;
	}
	fprintf(stderr, "weightfs: unknown command %s\n", argv[1]);
	return help(stderr, NULL);
}
