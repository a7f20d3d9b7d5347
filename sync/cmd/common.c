/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common.c - messages, options, progress and small objects for the commands
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/limits.h"
#include "weightfs/version.h"

#define LOOKAHEAD_MAX 100000u

int cmd_fail(int r, const struct wfs_err *err)
{
	if (r == -ECANCELED) {
		fprintf(stderr, "weightsync: interrupted; nothing that readers see was changed\n");
		return EXIT_INTERRUPTED;
	}
	fprintf(stderr, "weightsync: %s\n", err->msg[0] ? err->msg : strerror(-r));
	return r == -ENOENT ? EXIT_NO_VERSION : r == -EBADMSG ? EXIT_DAMAGED : EXIT_FAILED;
}

int cmd_usage(const char *fmt, ...)
{
	va_list ap;

	fputs("weightsync: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

/* What getopt_long has just refused.  It moves operands behind the options, so where it was asked to begin
 * says nothing; of letters behind one '-' it may not have left the argument yet. */
static const char *refused_option(char **argv, char letter[3])
{
	snprintf(letter, 3, "-%c", optopt);
	return optopt && optopt < 256 && strncmp(argv[optind - 1], "--", 2) != 0 ? letter : argv[optind - 1];
}

int cmd_getopt(int argc, char **argv, const struct option *options, const char *help)
{
	char letter[3];
	int c;

	opterr = 0;
	c = getopt_long(argc, argv, ":h", options, NULL);
	if (c == 'h') {
		fputs(help, stdout);
		exit(0);
	}
	if (c == '?' && optopt && strncmp(argv[optind - 1], "--", 2) == 0)
		cmd_usage("`%s': this option takes no value; `weightsync %s --help' says more", argv[optind - 1], argv[0]);
	else if (c == '?')
		cmd_usage("there is no option `%s'; `weightsync %s --help' lists them", refused_option(argv, letter), argv[0]);
	if (c == ':') {
		cmd_usage("option `%s' needs a value; `weightsync %s --help' says more", refused_option(argv, letter), argv[0]);
		c = '?';
	}
	return c;
}

bool cmd_number(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !*out) {
		cmd_usage("`%s' is not a whole number from 1", text);
		return false;
	}
	return true;
}

bool cmd_time(const char *option, const char *text, uint64_t *ns)
{
	static const struct { char unit; unsigned seconds; } units[] = {
		{ '\0', 1 }, { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 },
	};
	uint64_t n = 0;
	const char *c = text;

	for (; *c >= '0' && *c <= '9' && n < 100000; c++)
		n = n * 10 + (uint64_t)(*c - '0');
	for (size_t i = 0; c != text && i < ARRAY_SIZE(units); i++) {
		if (*c != units[i].unit || (*c && c[1]))
			continue;
		*ns = n * units[i].seconds * 1000000000ull;
		return true;
	}
	cmd_usage("%s takes a time such as 30s, 30m, 12h or 7d, not `%s'", option, text);
	return false;
}

static void say_waiting(void *arg, const char *who)
{
	(void)arg;
	fprintf(stderr, "weightsync: waiting: %s\n", who);
}

void cmd_lock(struct wfs_lock *lock, uint64_t wait_ns)
{
	*lock = (struct wfs_lock){ .wait_ns = wait_ns, .cancel = &cmd_interrupted, .tell = say_waiting };
}

/* Once for each time the store goes away: what follows the first failure is more of the same. */
static void say_trouble(void *arg, const struct wfs_trouble *t)
{
	static bool said;		/* the store calls us one at a time */
	struct wfs_store *st = arg;

	if (t->why && !said)
		fprintf(stderr, "weightsync: cannot get %s from %s: %s: trying again, until nothing has come for %" PRIu64
			" s more\n", t->name, wfs_store_url(st), t->why, (t->left_ms + 999) / 1000);
	else if (!t->why && said)
		fprintf(stderr, "weightsync: %s came: going on\n", t->name);
	said = t->why;
}

void cmd_tell_trouble(struct wfs_store *st)
{
	wfs_store_on_trouble(st, say_trouble, st);
}

int cmd_open(struct cmd_store *s, bool create, struct wfs_err *err)
{
	struct wfs_store_opts o = { .cacert = s->cacert, .read_timeout_ms = 60000 };

	int r = wfs_store_open(&s->st, s->url, &o, create, err);

	if (r == 0)
		cmd_tell_trouble(s->st);
	return r;
}

/* ---- progress ---- */

static void draw(struct cmd_progress *p, const char *what, uint64_t done, uint64_t total)
{
	unsigned percent = total ? (unsigned)(100 * (done / 1024) / WFS_MAX(total / 1024, 1ull)) : 100;
	char a[32], b[32];

	percent = WFS_MIN(percent, 100u);
	wfs_human_size(a, done);
	wfs_human_size(b, total);
	if (p->tty)
		fprintf(stderr, "\r\033[K%3u%% [%-25.*s] %s of %s  %.40s", percent, (int)percent / 4,
			"=========================", a, b, what);
	else
		fprintf(stderr, "%3u%%  %s of %s  %s\n", percent, a, b, what);
}

static void on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct cmd_progress *p = arg;
	uint64_t now = wfs_now_ns(), every = p->tty ? 100000000ull : 10000000000ull;

	if (p->quiet || now - p->last_ns < every)
		return;
	p->last_ns = now;
	draw(p, what, done, total);
}

void cmd_progress_start(struct cmd_progress *p, bool quiet)
{
	memset(p, 0, sizeof(*p));
	p->p.fn = on_progress;
	p->p.arg = p;
	p->p.cancel = &cmd_interrupted;
	p->quiet = quiet;
	p->tty = isatty(STDERR_FILENO);
	p->last_ns = wfs_now_ns();	/* short work shows nothing */
}

void cmd_progress_end(struct cmd_progress *p)
{
	if (!p->quiet && p->tty)
		fputs("\r\033[K", stderr);
}

/* ---- small objects ---- */

static int get_commit(struct wfs_store *st, const char *name, struct wfs_commit *out, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	int r;

	r = wfs_store_get_buf(&raw, st, name, WFS_STORE_INFO_MAX, true, &cmd_interrupted, err);
	if (r < 0)
		return r;			/* the store's message names the object */
	r = wfs_commit_parse(out, raw.data, raw.len, err);
	return r < 0 ? wfs_wrap(err, r, "%s", name) : 0;
}

int cmd_newest(struct wfs_store *st, uint64_t *out, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_commit c;
	uint64_t n = 0;
	int r;

	r = get_commit(st, "latest", &c, err);
	if (r == 0) {
		n = c.sequence;
		wfs_commit_name(name, n);
		if (get_commit(st, name, &c, NULL) == -ENOENT)
			n = 0;			/* it was but a hint */
	} else if (r != -ENOENT && r != -EBADMSG) {
		return r;
	}
	for (unsigned i = 0; i < LOOKAHEAD_MAX; i++) {
		wfs_commit_name(name, n + 1);
		r = get_commit(st, name, &c, err);
		if (r == -ENOENT)
			break;
		if (r < 0)
			return r;
		n++;
	}
	*out = n;
	return n ? 0 : wfs_fail(err, -ENOENT, "nothing is published in %s yet", wfs_store_url(st));
}

/* Commits are collected from the old end, so the first one left is found by halving; whatever a hostile
 * store has between, that ends soon. */
int cmd_oldest(struct wfs_store *st, uint64_t newest, uint64_t *out, struct wfs_err *err)
{
	uint64_t low = 1, high = newest;
	char name[WFS_OBJECT_NAME];
	struct wfs_commit c;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		int r;

		wfs_commit_name(name, mid);
		r = get_commit(st, name, &c, err);
		if (r < 0 && r != -ENOENT && r != -EBADMSG && r != -EPROTONOSUPPORT)
			return r;
		if (r == -ENOENT)
			low = mid + 1;
		else
			high = mid;
	}
	if (err)
		err->msg[0] = '\0';
	*out = low;
	return 0;
}

int cmd_get_object(struct wfs_buf *out, struct wfs_store *st, const char *kind, const struct wfs_digest *id,
		   size_t max, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct wfs_digest got;
	int r;

	wfs_object_name(name, kind, id);
	r = wfs_store_get_buf(out, st, name, max, false, &cmd_interrupted, err);
	if (r == -ENOENT)
		return wfs_fail(err, -EBADMSG, "%s is missing", name);
	if (r < 0)
		return r;
	wfs_sha256(&got, out->data, out->len);
	if (!wfs_digest_equal(&got, id))
		return wfs_fail(err, -EBADMSG, "%s: its %zu bytes have SHA-256 %s", name, out->len, wfs_hex(&got).s);
	return 0;
}

int cmd_load_version(struct wfs_store *st, uint64_t sequence, struct wfs_commit *c, struct wfs_version *v,
		     size_t *raw_len, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf raw = WFS_BUF_INIT;
	char name[WFS_OBJECT_NAME];
	int r = 0;

	if (!sequence)
		r = cmd_newest(st, &sequence, err);
	if (r < 0)
		return r;
	wfs_commit_name(name, sequence);
	r = get_commit(st, name, c, err);
	if (r == -ENOENT)
		return wfs_fail(err, r, "%s has no version %" PRIu64, wfs_store_url(st), sequence);
	if (r == 0 && c->sequence != sequence)
		r = wfs_fail(err, -EBADMSG, "%s says it is %" PRIu64, name, c->sequence);
	if (r == 0)
		r = cmd_get_object(&raw, st, "versions", &c->version, WFS_VERSION_MAX, err);
	if (r == 0)
		r = wfs_version_parse(v, raw.data, raw.len, err);
	if (r < 0)
		return wfs_wrap(err, r, "version %" PRIu64, sequence);
	*raw_len = raw.len;
	if (v->sequence == sequence && strcmp(v->run.s, c->run.s) == 0)
		return 0;
	r = wfs_fail(err, -EBADMSG, "versions/%s is of sequence %" PRIu64 " and run %s, its commit says otherwise",
		     wfs_hex(&c->version).s, v->sequence, v->run.s);
	wfs_version_free(v);
	return r;
}
