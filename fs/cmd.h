/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h - the sub-commands
 *
 * Each gets its own name as argv[0] and returns the exit code, or CMD_USAGE when the arguments are
 * wrong: main says what would be right.
 */
#ifndef FS_CMD_H
#define FS_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

enum { CMD_USAGE = -1 };

/* Copy what the daemon says, cut to len: foreign text steers no terminal. */
void cmd_take_text(char *to, size_t len, const char *text);
/* Share of the blocks that is here; 100 only of what is complete. */
unsigned cmd_percent(bool complete, uint64_t blocks_built, uint64_t blocks);

int cmd_status(int argc, char **argv);
int cmd_status_files(const struct client *c, uint64_t sequence, bool json);	/* 0: the newest */
int cmd_wait(int argc, char **argv);
int cmd_hooks(int argc, char **argv);
void cmd_hooks_check(const char *config, const char *point);	/* at the mount: a warning is enough */
int cmd_events(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_pin(int argc, char **argv);		/* and unpin */
int cmd_unmount(int argc, char **argv);

#endif
