/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.c - which names a version may bring into a directory, and what they say about a file
 *
 * A path from the network becomes a directory entry on somebody's machine.  So it has to be plain:
 * nothing that climbs, nothing a terminal would obey, nothing that is another name elsewhere.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "format/format.h"
#include "weightfs/version.h"

static int check_bytes(const char *path, size_t len, struct wfs_err *err)
{
	for (size_t i = 0, n; i < len; i += n) {
		unsigned char c = (unsigned char)path[i];

		n = wfs_utf8_len(path + i, len - i);
		if (n == 0)
			return wfs_fail(err, -EBADMSG, "name \"%.120s\" is not UTF-8", path);
		if (c < 0x20 || c == 0x7f || c == '\\')
			return wfs_fail(err, -EBADMSG, "name \"%.120s\" has the byte 0x%02x", path, c);
	}
	return 0;
}

static int check_component(const char *path, const char *s, size_t len, struct wfs_err *err)
{
	if (len == 0)
		return wfs_fail(err, -EBADMSG, "name \"%.120s\" has an empty component", path);
	if (len > WFS_NAME_LEN_MAX)
		return wfs_fail(err, -EBADMSG, "name \"%.120s\" has a component of more than %u bytes", path, WFS_NAME_LEN_MAX);
	if (s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')))
		return wfs_fail(err, -EBADMSG, "name \"%.120s\" has a component \"%.*s\"", path, (int)len, s);
	return 0;
}

int wfs_name_check(const char *path, struct wfs_err *err)
{
	size_t len = strnlen(path, WFS_PATH_LEN_MAX + 1);
	unsigned depth = 0;
	int r;

	if (len > WFS_PATH_LEN_MAX)
		return wfs_fail(err, -EBADMSG, "name \"%.40s...\" has more than %u bytes", path, WFS_PATH_LEN_MAX);
	r = check_bytes(path, len, err);
	for (const char *s = path; r == 0; s++) {
		size_t n = strcspn(s, "/");

		if (++depth > WFS_PATH_DEPTH_MAX)
			return wfs_fail(err, -EBADMSG, "name \"%.120s\" has more than %u components", path, WFS_PATH_DEPTH_MAX);
		r = check_component(path, s, n, err);
		s += n;
		if (*s == '\0')
			break;
	}
	return r;
}

/* What Python runs or unpickles when it meets the name. */
static const char *const code[] = {
	"*.py", "*.pyc", "*.so", "*.so.*", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.ckpt", "*.joblib",
	"pytorch_model*.bin", "training_args.bin", "optimizer*.bin", "scheduler*.bin",
};

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool wfs_name_is_code(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(code); i++)
		if (fnmatch(code[i], last_component(path), FNM_CASEFOLD) == 0)
			return true;
	return false;
}

static bool ends_in(const char *path, const char *tail)
{
	size_t len = strlen(path), n = strlen(tail);

	return len >= n && strcmp(path + len - n, tail) == 0;
}

bool wfs_name_is_index(const char *path)
{
	return ends_in(path, ".safetensors.index.json");
}

bool wfs_name_is_shard(const char *path)
{
	return ends_in(path, ".safetensors");
}

void wfs_object_name(char out[WFS_OBJECT_NAME], const char *kind, const struct wfs_digest *id)
{
	snprintf(out, WFS_OBJECT_NAME, "%s/%s", kind, wfs_hex(id).s);
}

void wfs_commit_name(char out[WFS_OBJECT_NAME], uint64_t sequence)
{
	snprintf(out, WFS_OBJECT_NAME, "commits/%llu", (unsigned long long)sequence);
}
