/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_cmds.c - the commands of the control socket, one row each
 *
 * They run in the control thread, which also takes the signals: none may wait for anything.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control_internal.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

enum who { ANYONE, OWNER, ROOT };	/* OWNER: of the mount, and root */

static void command_status(struct control *c, struct peer *p, const char *args)
{
	(void)args;
	if (fs_status_json(c->fs, &p->out) < 0)
		peer_drop(c, p);
	else
		peer_answer(p);
}

/* "files SEQUENCE"; 0: the newest */
static void command_files(struct control *c, struct peer *p, const char *args)
{
	uint64_t sequence = 0;
	char why[64];
	int r;

	if (!number_parse(&sequence, args)) {
		peer_refuse(p, "files: takes a number of a version");
		return;
	}
	r = fs_files_json(c->fs, &p->out, sequence);
	snprintf(why, sizeof(why), "version %" PRIu64 " is not here", sequence);
	if (r == -ENOENT)
		peer_refuse(p, sequence ? why : "no version is shown yet");
	else if (r < 0)
		peer_drop(c, p);
	else
		peer_answer(p);
}

static uint64_t newest(struct control *c)
{
	struct wfs_model *m = wfs_replica_latest(c->fs->replica);
	uint64_t sequence = m ? wfs_model_version(m)->sequence : 0;

	wfs_model_put(m);
	return sequence;
}

static void look_wait(struct control *c, struct peer *p, bool late)
{
	uint64_t sequence = newest(c);
	char problem[512];

	if (sequence <= p->above && !late)
		return;
	if (sequence > p->above)	/* before it is told: what it starts then sees that version */
		bind_close(c->fs->bind, p->user);
	wfs_buf_printf(&p->out, "{\"newest\":%" PRIu64, sequence);
	if (sequence <= p->above) {
		wfs_replica_failing(c->fs->replica, problem, sizeof(problem));
		wfs_buf_printf(&p->out, ",\"timeout\":true,\"problem\":");
		wfs_json_quote(&p->out, problem);
	}
	wfs_buf_append(&p->out, "}", 1);
	peer_answer(p);
}

static void command_wait(struct control *c, struct peer *p, const char *args)
{
	peer_wait_above(c, p, args, look_wait);
}

static void command_poke(struct control *c, struct peer *p, const char *args)
{
	(void)args;
	wfs_replica_poke(c->fs->replica);
	wfs_buf_printf(&p->out, "{\"ok\":true}");
	peer_answer(p);
}

static void command_stop(struct control *c, struct peer *p, const char *args)
{
	(void)args;
	wfs_buf_printf(&p->out, "{\"ok\":true,\"pid\":%d}", (int)getpid());
	peer_answer(p);
	peer_flush(c, p);
	control_stop_once(c, "stop was asked for");
}

static const struct command {
	const char *name;
	enum who who;
	void (*run)(struct control *c, struct peer *p, const char *args);	/* args: "" when there are none */
} commands[] = {
	{ "status", ANYONE, command_status },
	{ "files", ANYONE, command_files },
	{ "wait", ANYONE, command_wait },
	{ "events", ANYONE, command_events },
	{ "hooks", OWNER, command_hooks },
	{ "hook", OWNER, command_hook },
	{ "poke", ANYONE, command_poke },
	{ "pin", OWNER, command_pin },
	{ "unpin", OWNER, command_unpin },
	{ "stop", OWNER, command_stop },
};

bool control_is_owner(uid_t user)
{
	return user == 0 || user == geteuid();
}

static bool allowed(const struct command *cmd, const struct peer *p)
{
	return cmd->who == ANYONE || p->cred.uid == 0 || (cmd->who == OWNER && control_is_owner(p->cred.uid));
}

static void refuse_unknown(struct peer *p)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf why = WFS_BUF_INIT;
	int r = wfs_buf_printf(&why, "unknown command; there are:");

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(commands); i++)
		r = wfs_buf_printf(&why, "%s %s", i ? "," : "", commands[i].name);
	peer_refuse(p, r < 0 ? "unknown command" : (const char *)why.data);
}

static void refuse_stranger(const struct command *cmd, struct peer *p)
{
	char why[128];

	snprintf(why, sizeof(why), "%s: only %s may do that", cmd->name,
		 cmd->who == ROOT ? "root" : "the owner of the mount and root");
	peer_refuse(p, why);
}

void control_command(struct control *c, struct peer *p)
{
	size_t len = strcspn(p->line, " ");
	const char *args = p->line[len] ? p->line + len + 1 : "";

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *cmd = &commands[i];

		if (strlen(cmd->name) != len || memcmp(cmd->name, p->line, len) != 0)
			continue;
		if (allowed(cmd, p))
			cmd->run(c, p, args);
		else
			refuse_stranger(cmd, p);
		return;
	}
	refuse_unknown(p);
}
