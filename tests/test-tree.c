/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "../fs/tree.h"
#include "test.h"
#include "weightfs/base.h"

static struct wfs_file files[] = {
	{ .path = (char *)"a-b", .size = 1 },
	{ .path = (char *)"a/deep/x", .size = 2 },
	{ .path = (char *)"a/deep/y", .size = 3 },
	{ .path = (char *)"a/z", .size = 4 },
	{ .path = (char *)"aa/x", .size = 5 },
	{ .path = (char *)"code.py", .size = 6 },
	{ .path = (char *)"model.safetensors", .size = 7 },
};
static const struct wfs_version version = { .sequence = 42, .time_ns = 9, .files = files,
					    .n_files = ARRAY_SIZE(files) };
static const struct wfs_digest id = { { 1 } }, other_id = { { 2 } };

/* Looks a path up from the version's directory; 0 or what the first failing step gave. */
static int walk(struct tree *t, const struct node *root, const char *path, struct node *out)
{
	char copy[256], *save = NULL;
	uint64_t at = root->ino;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		int r = tree_lookup(t, at, p, out);

		if (r < 0)
			return r;
		at = out->ino;
	}
	return 0;
}

static void check_paths(struct tree *t, bool code)
{
	struct node root, n;

	CHECK_INT(tree_lookup_version(t, &version, &id, false, &root), 0, "version");
	CHECK(root.dir && root.nlink == 4 && root.time_ns == 9);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		bool hidden = !code && wfs_name_is_code(files[i].path);

		CHECK_INT(walk(t, &root, files[i].path, &n), hidden ? -ENOENT : 0, files[i].path);
		if (!hidden)
			CHECK(!n.dir && n.file == i && n.size == files[i].size && n.ino >= INO_HASHED);
	}
	CHECK_INT(walk(t, &root, "a/deep", &n), 0, "directory");
	CHECK(n.dir && n.nlink == 2 && tree_parent(t, n.ino) != INO_VERSIONS);
	CHECK_INT(walk(t, &root, "a/nothing", &n), -ENOENT, "missing");
	CHECK_INT(walk(t, &root, "a-b/x", &n), -ENOTDIR, "below a file");
}

static void test_names(void)
{
	struct tree *t = tree_new(false, wfs_xxh3);

	check_paths(t, false);
	tree_free(t);
	t = tree_new(true, wfs_xxh3);
	check_paths(t, true);
	tree_free(t);
}

/* Few numbers: they collide with each other and with the fixed ones. */
static uint64_t poor_hash(const void *data, size_t len)
{
	return INO_HASHED - 16 + wfs_xxh3(data, len) % 40;
}

static void test_collisions_are_settled_the_same_way(void)
{
	struct tree *t = tree_new(true, poor_hash), *u = tree_new(true, poor_hash);
	struct node root, again, n, m;

	check_paths(t, true);
	check_paths(u, true);
	tree_lookup_version(t, &version, &id, false, &root);
	tree_lookup_version(u, &version, &id, false, &again);
	CHECK(root.ino == again.ino);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		walk(t, &root, files[i].path, &n);
		walk(u, &again, files[i].path, &m);
		CHECK(n.ino == m.ino);
		CHECK(tree_get(t, n.ino, &m) == 0 && m.file == i && !m.dir);
	}
	tree_free(t);
	tree_free(u);
}

static void test_numbers_differ_between_versions(void)
{
	struct tree *t = tree_new(false, wfs_xxh3);
	struct wfs_version next = version;
	struct node a, b, x, y;

	next.sequence = 43;
	CHECK_INT(tree_lookup_version(t, &version, &id, false, &a), 0, "one");
	CHECK_INT(tree_lookup_version(t, &next, &other_id, false, &b), 0, "other");
	walk(t, &a, "a/z", &x);
	walk(t, &b, "a/z", &y);
	CHECK(a.ino != b.ino && x.ino != y.ino);
	tree_free(t);
}

static void test_listing(void)
{
	static const char *const want[] = { "a", "a-b", "aa", "model.safetensors" };
	struct tree *t = tree_new(false, wfs_xxh3);
	char name[WFS_NAME_LEN_MAX + 1];
	struct node root, n;
	size_t i = 0;

	tree_lookup_version(t, &version, &id, false, &root);
	for (; tree_child(t, root.ino, i, false, name, &n) == 0 && i < ARRAY_SIZE(want); i++)
		CHECK_STR(name, want[i]);
	CHECK_INT(i, ARRAY_SIZE(want), "entries");
	tree_free(t);
}

static void test_version_that_left(void)
{
	struct tree *t = tree_new(false, wfs_xxh3);
	struct node root, file, n;

	tree_lookup_version(t, &version, &id, false, &root);
	tree_lookup(t, root.ino, "a-b", &file);
	tree_left(t, 42);
	CHECK_INT(tree_get(t, file.ino, &n), -ESTALE, "held file");
	CHECK_INT(tree_lookup(t, root.ino, "a-b", &n), -ESTALE, "name");
	CHECK_INT(tree_lookup_version(t, &version, &id, false, &n), 0, "comes back");
	CHECK_INT(tree_get(t, file.ino, &n), 0, "with the same number");
	tree_forget(t, file.ino, 1);
	tree_forget(t, root.ino, 2);
	tree_left(t, 42);		/* nobody holds it now: freed, as the sanitizer sees */
	CHECK_INT(tree_get(t, root.ino, &n), -ESTALE, "gone");
	tree_forget(t, root.ino, 5);
	tree_free(t);
}

TEST_MAIN(T(test_names), T(test_collisions_are_settled_the_same_way), T(test_numbers_differ_between_versions),
	  T(test_listing), T(test_version_that_left))
