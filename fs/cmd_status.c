/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_status.c - weightfs status MNT [--json] [--files [--version N]]
 *
 * The exit code is the health check: 0 healthy, 1 not, 3 not mounted.  The text is a summary of the
 * JSON for people; it may change, the JSON only grows.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "cmd.h"
#include "number.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/json.h"

#define ANSWER_MS 5000u
#define TEXT 512u
#define NEVER UINT64_MAX

struct report {
	bool seen;
	uint64_t landlock, reads_all, healthy, pid, uptime, waiting, open, bound, building, done, total, looked, received, groups, bad;
	uint64_t built, rot, used, free, size_max, held, needed, problem_ms;
	char reason[TEXT], problem[TEXT], point[TEXT], store[TEXT], program[TEXT], cache[TEXT], run_as[TEXT];
	/* the version at hand, and a line for each one so far */
	uint64_t sequence, time, files, size, blocks, blocks_built, complete, pinned, in_use;
	char label[TEXT];
	struct wfs_buf lines;
	/* the hook at hand, and a line for each one */
	uint64_t told, runs;
	char hook[TEXT], state[TEXT], error[TEXT];
	struct wfs_buf hooks;
};

#define NUMBER(a, b, field) { a, b, offsetof(struct report, field), false }
#define STRING(a, b, field) { a, b, offsetof(struct report, field), true }

/* Where the members go: the outermost name and, in an object below, the innermost one. */
static const struct member {
	const char *outer, *inner;
	size_t offset;
	bool text;
} members[] = {
	NUMBER("healthy", NULL, healthy), STRING("reason", NULL, reason),
	STRING("problem", NULL, problem), NUMBER("problem_ms", NULL, problem_ms),
	STRING("mount", "point", point), STRING("mount", "store", store), STRING("mount", "program", program),
	STRING("mount", "run_as", run_as), NUMBER("mount", "landlock", landlock), NUMBER("mount", "reads_all", reads_all),
	NUMBER("mount", "pid", pid), NUMBER("mount", "uptime", uptime), NUMBER("mount", "waiting_reads", waiting),
	NUMBER("mount", "open_files", open), NUMBER("mount", "bound_processes", bound),
	NUMBER("building", NULL, building), NUMBER("building_done", NULL, done), NUMBER("building_total", NULL, total),
	NUMBER("looked_ms_ago", NULL, looked), NUMBER("bytes_received", NULL, received),
	NUMBER("groups_checked", NULL, groups), NUMBER("bad_fetched", NULL, bad),
	NUMBER("blocks_built", NULL, built), NUMBER("rot_found", NULL, rot),
	STRING("cache", "path", cache), NUMBER("cache", "used", used), NUMBER("cache", "free", free),
	NUMBER("cache", "cache_size", size_max), NUMBER("cache", "held", held), NUMBER("cache", "needed", needed),
	NUMBER("versions", "sequence", sequence), STRING("versions", "label", label), NUMBER("versions", "time", time),
	NUMBER("versions", "files", files), NUMBER("versions", "size", size), NUMBER("versions", "blocks", blocks),
	NUMBER("versions", "blocks_built", blocks_built), NUMBER("versions", "complete", complete),
	NUMBER("versions", "pinned", pinned), NUMBER("versions", "in_use", in_use),
	STRING("hooks", "name", hook), STRING("hooks", "state", state), NUMBER("hooks", "told", told),
	STRING("hooks", "error", error), NUMBER("hooks", "runs", runs),
};

static bool is_member(const struct member *m, const struct wfs_json_event *ev)
{
	const char *inner = ev->depth > 1 ? ev->key[ev->depth - 1] : NULL;

	if (!ev->depth || !ev->key[0] || strcmp(m->outer, ev->key[0]) != 0)
		return false;
	return m->inner ? inner && strcmp(m->inner, inner) == 0 : ev->depth == 1;
}

void cmd_take_text(char *to, size_t len, const char *text)
{
	snprintf(to, len, "%s", text);
	for (; *to; to++)
		if ((unsigned char)*to < ' ' || *to == 127)
			*to = '?';
}

unsigned cmd_percent(bool complete, uint64_t blocks_built, uint64_t blocks)
{
	return complete || !blocks ? 100 : (unsigned)WFS_MIN(100 * blocks_built / blocks, 99u);
}

/* Why it stays, whatever comes. */
static const char *kept(const struct report *p)
{
	return p->pinned && p->in_use ? "pinned, in use" : p->pinned ? "pinned" : p->in_use ? "in use" : "";
}

static int end_version(struct report *p)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf label = WFS_BUF_INIT;
	time_t t = (time_t)(p->time / 1000000000u);
	char when[32] = "", size[32];
	struct tm tm;
	int r;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	r = wfs_json_quote(&label, p->label);
	if (r == 0)
		r = wfs_buf_printf(&p->lines, "%9" PRIu64 "  %-19s  %5" PRIu64 "  %10s  %3u%%  %-14s  %.*s\n", p->sequence,
				   when, p->files, wfs_human_size(size, p->size),
				   cmd_percent(p->complete, p->blocks_built, p->blocks), kept(p),
				   p->label[0] ? (int)label.len : 0, (const char *)label.data);
	return r;
}

static int end_hook(struct report *p)
{
	char told[40] = "no version";

	if (p->told)
		snprintf(told, sizeof(told), "version %" PRIu64, p->told);
	return wfs_buf_printf(&p->hooks, "  hook      %s: %s, was told %s%s%s%s\n", p->hook, p->state, told,
			      p->error[0] ? "; " : "", p->error,
			      p->runs ? "" : "; it is told no more: weightfs hooks does not run");
}

static bool ends(const struct wfs_json_event *ev, const char *list)
{
	return ev->kind == WFS_JSON_OBJECT_END && ev->depth == 2 && ev->key[0] && strcmp(ev->key[0], list) == 0;
}

static int take(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	struct report *p = arg;

	if (ends(ev, "versions") || ends(ev, "hooks"))
		return (ends(ev, "hooks") ? end_hook(p) : end_version(p)) < 0 ? wfs_fail(err, -ENOMEM, "out of memory") : 0;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		char *to = (char *)p + members[i].offset;

		if (!is_member(&members[i], ev))
			continue;
		if (members[i].text && ev->kind == WFS_JSON_STRING)
			cmd_take_text(to, TEXT, ev->text);
		else if (!members[i].text && (ev->kind == WFS_JSON_UINT || ev->kind == WFS_JSON_BOOL))
			memcpy(to, &ev->uint, sizeof(ev->uint));
	}
	p->seen |= wfs_json_at_top(ev, "healthy") && ev->kind == WFS_JSON_BOOL;
	return 0;
}

static const char *human_time(char out[32], uint64_t ms)
{
	static const struct { uint64_t ms; const char *name; } units[] = {
		{ 86400000, "days" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" } };
	size_t i = 0;

	/* "90 s" says more than "1 min" */
	while (i + 1 < ARRAY_SIZE(units) && ms < 2 * units[i].ms)
		i++;
	snprintf(out, 32, "%" PRIu64 " %s", ms / units[i].ms, units[i].name);
	return out;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static void print_state(const struct report *p)
{
	char age[32];

	printf("%s%s%s\n", p->healthy ? "healthy" : "unhealthy", p->reason[0] ? ": " : "", p->reason);
	if (p->problem[0])
		printf("  problem   %s (for %s)\n", p->problem, human_time(age, p->problem_ms));
	if (p->looked == NEVER)
		printf("  store     %s, no good look at it yet\n", p->store);
	else
		printf("  store     %s, looked at %s ago\n", p->store, human_time(age, p->looked));
	printf("  mount     %s, weightfs %s, process %" PRIu64 ", up for %s\n", p->point, p->program, p->pid,
	       human_time(age, p->uptime * 1000));
	printf("  runs as   %s%s%s\n", p->run_as, p->landlock ? ", confined by Landlock" : "",
	       p->reads_all ? ", may read the store whatever its permissions" : "");
}

static void print_work(const struct report *p)
{
	char a[32], b[32];

	printf("  readers   %" PRIu64 " open file%s, %" PRIu64 " read%s waiting, %" PRIu64 " process%s bound to a version\n",
	       p->open, plural(p->open), p->waiting, plural(p->waiting), p->bound, p->bound == 1 ? "" : "es");
	if (p->building)
		printf("  building  version %" PRIu64 ", %s of %s\n", p->building, wfs_human_size(a, p->done),
		       wfs_human_size(b, p->total));
	printf("  received  %s; %" PRIu64 " group%s good, %" PRIu64 " bad\n", wfs_human_size(a, p->received), p->groups,
	       plural(p->groups), p->bad);
	printf("  built     %" PRIu64 " block%s; %" PRIu64 " found rotten later\n", p->built, plural(p->built), p->rot);
	printf("  cache     %s: %s used%s%s, %s free on its disk\n", p->cache, wfs_human_size(a, p->used),
	       p->size_max ? " of " : "", p->size_max ? wfs_human_size(b, p->size_max) : "",
	       wfs_human_size((char[32]){ "" }, p->free));
	if (p->held)
		printf("  held      %s by readers, of images that no version has any more\n", wfs_human_size(a, p->held));
	if (p->needed)
		printf("  needed    %s by a version that does not fit beside what is in use\n", wfs_human_size(a, p->needed));
}

static void print_report(const struct report *p)
{
	print_state(p);
	print_work(p);
	if (p->hooks.len)
		fputs((const char *)p->hooks.data, stdout);
	if (p->lines.len)
		printf("\n  version  published            files        size  here  kept            label\n%.*s", (int)p->lines.len,
		       (const char *)p->lines.data);
}

static int answer(const struct client *c, struct report *p, bool json, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf out = WFS_BUF_INIT;
	int r;

	r = client_call(&out, c, "status", ANSWER_MS, err);
	if (r == 0)
		r = wfs_json_parse(out.data, out.len, WFS_JSON_EVENTS_MAX, take, p, err);
	if (r == 0 && json)
		printf("%s\n", (const char *)out.data);
	else if (r == 0)
		print_report(p);
	return r;
}

int cmd_status(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'j' }, { "files", no_argument, NULL, 'f' },
		{ "version", required_argument, NULL, 'v' }, { 0 } };
	struct report report = { .looked = NEVER, .lines = WFS_BUF_INIT, .hooks = WFS_BUF_INIT };
	struct wfs_err err = { 0 };
	struct client c;
	bool json = false, files = false;
	uint64_t sequence = 0;
	int opt, r;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt == '?' || (opt == 'v' && (!number_parse(&sequence, optarg) || !sequence)))
			return CMD_USAGE;
		json |= opt == 'j';
		files |= opt == 'f';
	}
	if (argc - optind != 1 || (sequence && !files))
		return CMD_USAGE;
	r = client_find(&c, argv[optind]);
	if (r)
		return r;
	if (files)
		return cmd_status_files(&c, sequence, json);
	r = answer(&c, &report, json, &err);
	wfs_buf_free(&report.lines);
	wfs_buf_free(&report.hooks);
	if (r < 0) {
		fprintf(stderr, "weightfs: %s\n", err.msg);
		return EXIT_BAD;
	}
	return report.seen && report.healthy ? EXIT_OK : EXIT_BAD;
}
