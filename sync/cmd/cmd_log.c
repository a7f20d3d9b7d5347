/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/config.h"
#include "weightfs/json.h"

const char log_help[] =
	"usage: weightsync log [OPTION...] STORE\n\n"
	"One line a version, the oldest first: sequence, time, files, size, bytes that travel to a\n"
	"reader one version behind, label.\n\n"
	"  --json           one JSON object a line\n"
	"  --cacert FILE    certificates to trust for https\n"
	"  --help           this text\n";

enum { O_JSON = 256, O_CACERT };

static const struct option options[] = {
	{ "json", 0, NULL, O_JSON }, { "cacert", 1, NULL, O_CACERT }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static int print_json(const struct wfs_version *v, const struct wfs_commit *c, uint64_t size, uint64_t travel)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf label = WFS_BUF_INIT;

	if (wfs_json_quote(&label, v->label) < 0)
		return -ENOMEM;
	printf("{\"sequence\":%" PRIu64 ",\"version\":\"%s\",\"label\":%.*s,\"time\":%" PRIu64 ",\"files\":%zu,\"size\":%"
	       PRIu64 ",\"travel\":%" PRIu64 "}\n", v->sequence, wfs_hex(&c->version).s, (int)label.len,
	       (const char *)label.data, v->time_ns, v->n_files, size, travel);
	return 0;
}

static int print_version(struct wfs_store *st, uint64_t sequence, bool json, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf commit = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf label = WFS_BUF_INIT;
	uint64_t size = 0, travel = 0;
	struct wfs_version v;
	struct wfs_commit c;
	char when[32], a[32], b[32];
	size_t raw_len;
	time_t t;
	int r;

	r = cmd_load_version(st, sequence, &c, &v, &raw_len, err);
	if (r == 0)
		r = wfs_commit_format(&commit, &c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < v.n_files; i++) {
		size += v.files[i].size;
		travel += v.files[i].travel;
	}
	travel += raw_len + commit.len;
	if (json) {
		r = print_json(&v, &c, size, travel);
	} else {
		t = (time_t)(v.time_ns / 1000000000ull);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime(&t));
		r = wfs_json_quote(&label, v.label);	/* foreign text: nothing that steers a terminal */
		printf("%6" PRIu64 "  %s  %5zu files  %10s  %10s travel%s%.*s\n", v.sequence, when, v.n_files,
		       wfs_human_size(a, size), wfs_human_size(b, travel), v.label[0] ? "  " : "",
		       v.label[0] ? (int)label.len : 0, (const char *)label.data);
	}
	wfs_version_free(&v);
	return r;
}

int cmd_log(int argc, char **argv)
{
	struct cmd_store s = { NULL, NULL, NULL };
	struct wfs_err err = { "" };
	uint64_t newest, n = 1;
	bool json = false;
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, log_help)) != -1) {
		if (c == O_JSON)
			json = true;
		else if (c == O_CACERT)
			s.cacert = optarg;
		else
			return EXIT_USAGE;
	}
	if (argc - optind != 1)
		return cmd_usage("log takes a store; `weightsync log --help' says more");
	s.url = argv[optind];
	r = cmd_open(&s, false, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	r = cmd_newest(s.st, &newest, &err);
	if (r == 0)
		r = cmd_oldest(s.st, newest, &n, &err);
	for (; r == 0 && n <= newest; n++)
		r = cmd_interrupted ? -ECANCELED : print_version(s.st, n, json, &err);
	wfs_store_close(s.st);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
