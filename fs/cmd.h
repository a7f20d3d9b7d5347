/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h - the sub-commands
 *
 * Each gets its own name as argv[0] and returns the exit code, or CMD_USAGE when the arguments are
 * wrong: main says what would be right.
 */
#ifndef FS_CMD_H
#define FS_CMD_H

enum { CMD_USAGE = -1 };

int cmd_status(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_hooks(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_pin(int argc, char **argv);		/* and unpin */
int cmd_unmount(int argc, char **argv);

#endif
