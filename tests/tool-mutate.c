/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-mutate.c - mutate DIR FILE: every call that would change something gives EROFS
 *
 * DIR and FILE (a name in it) are on the mount.  Prints each call that gave something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failed;

static void want_erofs(const char *what, long r)
{
	if (r < 0 && errno == EROFS)
		return;
	printf("%s: %s\n", what, r < 0 ? strerror(errno) : "succeeded");
	failed = 1;
}

#define TRY(call) (errno = 0, want_erofs(#call, (long)(call)))

int main(int argc, char **argv)
{
	struct timespec times[2] = { { 1, 0 }, { 1, 0 } };
	const char *f;

	if (argc != 3 || chdir(argv[1]) < 0)
		return 2;
	f = argv[2];
	TRY(open(f, O_WRONLY));
	TRY(open(f, O_RDWR));
	TRY(open(f, O_RDONLY | O_TRUNC));
	TRY(open("new", O_CREAT | O_WRONLY, 0600));
	TRY(truncate(f, 0));
	TRY(unlink(f));
	TRY(rename(f, "new"));
	TRY(link(f, "new"));
	TRY(symlink("x", "new"));
	TRY(mkdir("new", 0700));
	TRY(mknod("new", S_IFIFO | 0600, 0));
	TRY(chmod(f, 0600));
	TRY(chown(f, 1, 1));
	TRY(utimensat(AT_FDCWD, f, times, 0));
	TRY(setxattr(f, "user.x", "y", 1, 0));
	TRY(removexattr(f, "user.x"));
	TRY(access(f, W_OK));
	return failed;
}
