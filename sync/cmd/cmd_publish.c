/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "weightfs/base.h"
#include "weightfs/json.h"
#include "weightfs/limits.h"
#include "weightfs/publish.h"

const char publish_help[] =
	"usage: weightsync publish [OPTION...] MODEL_DIR STORE\n\n"
	"Make MODEL_DIR the next version of STORE, a directory that is created when missing.\n\n"
	"  --label TEXT     a word for people, such as the training step\n"
	"  --previous DIR   a directory that equals the last version: saves building that\n"
	"  --cache DIR      where the last version is kept to compare with\n"
	"                   (default: weightfs/publish/RUN in the user's cache directory)\n"
	"  --include GLOB   publish matching files although they are left out by default\n"
	"  --exclude GLOB   leave out matching files\n"
	"  --allow-empty    make a new version although nothing changed\n"
	"  --full           store the version in full too, so that new readers need no older one\n"
	"  --anchor HOW     what is stored in full is packed (default) or plain: ordinary files, which\n"
	"                   take half as much again, under models/VERSION in the store\n"
	"  --anchor-limit X store in full what a new reader would fetch more than X times the bytes of\n"
	"                   a full copy for (default: 1.5)\n"
	"  --strides LIST   at multiples of these numbers of versions, store deltas from so far back too\n"
	"                   (default: 8,64; none: no such deltas)\n"
	"  --workers N      threads that compare and compress (default: one a core)\n"
	"  --wait TIME      wait so long for another publisher too, 30 or 10m; without it another publisher is an\n"
	"                   error at once, and a gc is waited for 10 minutes\n"
	"  --json           the result as one JSON object\n"
	"  --quiet          no progress\n"
	"  --help           this text\n";

#define STRIDE_MAX 4096u
#define WAIT_GC (600 * 1000000000ull)

struct args {
	struct wfs_publish_opts o;
	const char *dir, *store;
	bool json, quiet;
};

enum { O_LABEL = 256, O_PREVIOUS, O_CACHE, O_INCLUDE, O_EXCLUDE, O_EMPTY, O_FULL, O_ANCHOR, O_LIMIT,
       O_STRIDES, O_WORKERS, O_WAIT, O_JSON, O_QUIET };

static const struct option options[] = {
	{ "label", 1, NULL, O_LABEL }, { "previous", 1, NULL, O_PREVIOUS }, { "cache", 1, NULL, O_CACHE },
	{ "include", 1, NULL, O_INCLUDE }, { "exclude", 1, NULL, O_EXCLUDE }, { "allow-empty", 0, NULL, O_EMPTY },
	{ "full", 0, NULL, O_FULL }, { "anchor", 1, NULL, O_ANCHOR }, { "anchor-limit", 1, NULL, O_LIMIT },
	{ "strides", 1, NULL, O_STRIDES }, { "workers", 1, NULL, O_WORKERS }, { "wait", 1, NULL, O_WAIT },
	{ "json", 0, NULL, O_JSON }, { "quiet", 0, NULL, O_QUIET }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static int parse_anchor(struct args *a, const char *how)
{
	a->o.plain = strcmp(how, "plain") == 0;
	return a->o.plain || strcmp(how, "packed") == 0 ? 0 : cmd_usage("--anchor takes packed or plain, not `%s'", how);
}

/* A factor with a point, whatever the locale: 1.5 */
static int parse_limit(struct args *a, const char *text)
{
	unsigned whole, part = 0, scale = 100;
	const char *c = text;

	for (whole = 0; *c >= '0' && *c <= '9' && whole <= 100; c++)
		whole = whole * 10 + (unsigned)(*c - '0');
	if (c != text && *c == '.')
		for (c++; *c >= '0' && *c <= '9' && scale; c++, scale /= 10)
			part += scale * (unsigned)(*c - '0');
	a->o.anchor_limit = whole * 1000 + part;
	if (*c || a->o.anchor_limit < 1010 || a->o.anchor_limit > 100000)
		return cmd_usage("--anchor-limit takes a factor from 1.01 to 100, not `%s'", text);
	return 0;
}

/* 8,64: each at least twice the one before, and a multiple of it. */
static int parse_strides(struct args *a, const char *text)
{
	unsigned n = 0;
	char *end;

	a->o.n_strides = 0;
	if (strcmp(text, "none") == 0)
		return 0;
	for (const char *c = text; ; c = end + 1) {
		uint64_t last = n ? a->o.strides[n - 1] : 1, one;

		errno = 0;
		one = *c >= '1' && *c <= '9' ? strtoull(c, &end, 10) : 0;
		if (!one || errno || n == WFS_STRIDES_MAX || one <= last || one % last || one > STRIDE_MAX ||
		    (*end && *end != ','))
			return cmd_usage("--strides takes none or up to %d numbers, each a multiple of the one before, "
					 "like 8,64, not `%s'", WFS_STRIDES_MAX, text);
		a->o.strides[n++] = one;
		if (!*end)
			break;
	}
	a->o.n_strides = n;
	return 0;
}

static int parse(struct args *a, int argc, char **argv)
{
	uint64_t n;
	int c, r;

	while ((c = cmd_getopt(argc, argv, options, publish_help)) != -1) {
		switch (c) {
		case O_LABEL: a->o.label = optarg; break;
		case O_PREVIOUS: a->o.previous = optarg; break;
		case O_CACHE: a->o.cache = optarg; break;
		case O_INCLUDE: wfs_strings_add(&a->o.include, optarg); break;
		case O_EXCLUDE: wfs_strings_add(&a->o.exclude, optarg); break;
		case O_EMPTY: a->o.allow_empty = true; break;
		case O_FULL: a->o.full = true; break;
		case O_ANCHOR:
		case O_LIMIT:
			r = c == O_ANCHOR ? parse_anchor(a, optarg) : parse_limit(a, optarg);
			if (r)
				return r;
			break;
		case O_JSON: a->json = true; break;
		case O_QUIET: a->quiet = true; break;
		case O_STRIDES:
			if (parse_strides(a, optarg))
				return EXIT_USAGE;
			break;
		case O_WAIT:
			a->o.lock.wait_publisher = true;
			if (!cmd_time("--wait", optarg, &a->o.lock.wait_ns))
				return EXIT_USAGE;
			break;
		case O_WORKERS:
			n = strtoull(optarg, NULL, 10);
			if (n < 1 || n > 1024)
				return cmd_usage("--workers takes a number from 1 to 1024, not `%s'", optarg);
			a->o.workers = (unsigned)n;
			break;
		default: return EXIT_USAGE;
		}
	}
	if (argc - optind != 2)
		return cmd_usage("publish takes a model directory and a store; `weightsync publish --help' says more");
	if (a->o.label && strlen(a->o.label) > WFS_LABEL_LEN_MAX)
		return cmd_usage("--label takes at most %u bytes", WFS_LABEL_LEN_MAX);
	a->dir = argv[optind];
	a->store = argv[optind + 1];
	return 0;
}

/* The store in the model's own directory would become part of the next version. */
static bool is_inside(const char *store, const char *dir)
{
	WFS_AUTO(wfs_free_ptr) char *d = realpath(dir, NULL);
	WFS_AUTO(wfs_free_ptr) char *copy = strdup(store);
	WFS_AUTO(wfs_free_ptr) char *parent = NULL;
	size_t n;

	if (!d || !copy || strstr(store, "://"))
		return false;
	parent = realpath(store, NULL);
	if (!parent)			/* not made yet: where it would be */
		parent = realpath(dirname(copy), NULL);
	n = strlen(d);
	return parent && strncmp(parent, d, n) == 0 && (parent[n] == '/' || parent[n] == '\0');
}

/* Arguments swapped: the files of a store, or of a cache, are no model's. */
static int check_kind(const char *dir)
{
	WFS_AUTO(wfs_close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum wfs_dir_kind kind;
	char odd[NAME_MAX + 1];

	if (fd < 0 || wfs_cache_look(&kind, odd, fd, NULL) < 0)
		return 0;		/* the scan says why */
	if (kind == WFS_DIR_STORE)
		return cmd_usage("%s is a store; the model directory comes first, then the store", dir);
	if (kind == WFS_DIR_CACHE)
		return cmd_usage("%s is a cache of weightfs, no model directory", dir);
	return 0;
}

/* A usage mistake is told before anything is created. */
static int check_dirs(const struct args *a)
{
	const char *dirs[] = { a->dir, a->o.previous };
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (dirs[i] && (stat(dirs[i], &st) < 0 || !S_ISDIR(st.st_mode)))
			return cmd_usage("%s is not a directory", dirs[i]);
	if (check_kind(a->dir))
		return EXIT_USAGE;
	if (is_inside(a->store, a->dir))
		return cmd_usage("the store %s lies in the model directory %s: put it beside", a->store, a->dir);
	return 0;
}

static void print(const struct args *a, const struct wfs_publish_result *r)
{
	char travel[32], size[32], growth[32];

	if (a->json) {
		printf("{\"sequence\":%" PRIu64 ",\"unchanged\":%s,\"files\":%" PRIu64 ",\"size\":%" PRIu64
		       ",\"travel\":%" PRIu64 ",\"store_growth\":%" PRIu64 ",\"strides\":%" PRIu64 ",\"changed_bytes\":%" PRIu64
		       ",\"anchor\":%s}\n", r->sequence, r->unchanged ? "true" : "false", r->n_files, r->size, r->travel,
		       r->store_growth, r->strides, r->changed_bytes, r->anchor ? "true" : "false");
		return;
	}
	if (r->unchanged) {
		printf("nothing changed since version %" PRIu64 "\n", r->sequence);
		return;
	}
	printf("version %" PRIu64 ": %" PRIu64 " files, %s; %s travel (%" PRIu64 " bytes), the store grew by %s%s\n",
	       r->sequence, r->n_files, wfs_human_size(size, r->size), wfs_human_size(travel, r->travel), r->travel,
	       wfs_human_size(growth, r->store_growth), r->anchor ? ", stored in full too" : "");
}

int cmd_publish(int argc, char **argv)
{
	struct args a = { .o = { .strides = { 8, 64 }, .n_strides = 2 } };
	struct wfs_publish_result res;
	struct wfs_err err = { "" };
	struct cmd_store s = { NULL, NULL, NULL };
	struct cmd_progress p;
	int r;

	cmd_lock(&a.o.lock, WAIT_GC);
	r = parse(&a, argc, argv);
	if (r == 0)
		r = check_dirs(&a);
	if (r)
		return r;
	s.url = a.store;
	r = cmd_open(&s, true, &err);
	if (r < 0)
		return r == -EINVAL ? cmd_usage("%s", err.msg) : cmd_fail(r, &err);
	if (a.quiet)
		a.o.lock.tell = NULL;
	cmd_progress_start(&p, a.quiet);
	r = wfs_publish(s.st, a.dir, &a.o, &res, &p.p, &err);
	cmd_progress_end(&p);
	if (r == 0)
		print(&a, &res);
	wfs_store_close(s.st);
	wfs_strings_free(&a.o.include);
	wfs_strings_free(&a.o.exclude);
	return r < 0 ? cmd_fail(r, &err) : 0;
}
