/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-io.c - file calls that finish what they begin, on the real file system
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "test.h"
#include "weightfs/io.h"

/* Each test works below a directory of its own, which it leaves empty for rmdir to prove. */
static char root_path[256];

static int enter(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root_path, sizeof(root_path), "%s/wfs-io-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(root_path) ? open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static void leave(int dir)
{
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_remove_tree(AT_FDCWD, root_path, &err), 0, err.msg);
	CHECK(access(root_path, F_OK) < 0 && errno == ENOENT);
	close(dir);
}

static void put(int dir, const char *path, const char *text)
{
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_write_file(dir, path, text, strlen(text), 0644, &err), 0, err.msg);
}

static void check_content(int dir, const char *path, const char *want)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };

	CHECK_INT(wfs_read_file(&b, dir, path, 1000, &err), 0, err.msg);
	CHECK(b.len == strlen(want) && memcmp(b.data, want, b.len) == 0);
}

static unsigned count_entries(int dir, const char *path)
{
	DIR *d = fdopendir(openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n - 2;	/* . and .. */
}

static void test_pread(void)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	struct wfs_err err = { 0 };
	int dir = enter();
	char b[8] = { 0 };

	put(dir, "f", "0123456789");
	fd = openat(dir, "f", O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_INT(wfs_pread(fd, b, 5, 5, &err), 0, "to the very end");
	CHECK(memcmp(b, "56789", 5) == 0);
	CHECK_INT(wfs_pread(fd, b, 5, 6, &err), -ENODATA, "one past the end");
	CHECK_STR(err.msg, "read [6,+5): the file ends at 10");
	CHECK_INT(wfs_pread(fd, b, 1, 100, &err), -ENODATA, "far past the end");
	CHECK_INT(wfs_pread(fd, b, 0, 100, &err), 0, "nothing");
	CHECK_INT(wfs_pread(fd, b, 1, UINT64_MAX, &err), -EINVAL, "no such offset");
	CHECK_INT(wfs_pread(-1, b, 1, 0, &err), -EBADF, "no file");
	CHECK_INT(wfs_pwrite(fd, "ab", 2, 4, &err), 0, "pwrite");
	check_content(dir, "f", "0123ab6789");
	leave(dir);
}

static void on_alarm(int sig)
{
	(void)sig;
}

#define PIPE_BYTES (8u << 20)

/* Reads in odd steps and checks a pattern; the count of good bytes is the result. */
static void *drain(void *arg)
{
	int fd = *(int *)arg;
	size_t at = 0;
	uint8_t b[777];
	ssize_t n;

	while ((n = read(fd, b, sizeof(b))) != 0) {
		for (ssize_t i = 0; i < n; i++, at++)
			if (b[i] != (uint8_t)(at * 31 >> 3))
				return (void *)at;
	}
	return (void *)at;
}

/* A pipe takes little at a time, and a timer interrupts: short counts and EINTR for real. */
static void test_write_survives_signals(void)
{
	struct sigaction sa = { .sa_handler = on_alarm }, old;	/* no SA_RESTART */
	struct itimerval tick = { { 0, 500 }, { 0, 500 } }, off = { { 0, 0 }, { 0, 0 } };
	uint8_t *data = malloc(PIPE_BYTES);
	struct wfs_err err = { 0 };
	pthread_t t;
	sigset_t set;
	void *got;
	int p[2];

	REQUIRE(data && pipe2(p, O_CLOEXEC) == 0);
	for (size_t i = 0; i < PIPE_BYTES; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	sigaction(SIGALRM, &sa, &old);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);	/* the reader gets none */
	REQUIRE(pthread_create(&t, NULL, drain, &p[0]) == 0);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
	CHECK_INT(wfs_write(p[1], data, PIPE_BYTES, &err), 0, err.msg);
	setitimer(ITIMER_REAL, &off, NULL);
	close(p[1]);
	pthread_join(t, &got);
	CHECK_INT((long long)(size_t)got, PIPE_BYTES, "bytes through the pipe");
	close(p[0]);
	sigaction(SIGALRM, &old, NULL);
	free(data);
}

static void test_read_file(void)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf b = WFS_BUF_INIT;
	struct wfs_err err = { 0 };
	int dir = enter();

	put(dir, "f", "12345");
	put(dir, "empty", "");
	CHECK(symlinkat("f", dir, "link") == 0 && mkfifoat(dir, "fifo", 0600) == 0 && mkdirat(dir, "d", 0700) == 0);

	check_content(dir, "empty", "");
	CHECK_INT(wfs_read_file(&b, dir, "f", 5, &err), 0, "of exactly max");
	CHECK(b.len == 5 && memcmp(b.data, "12345", 5) == 0);
	CHECK_INT(wfs_read_file(&b, dir, "f", 4, &err), -EFBIG, "larger than max");
	CHECK_STR(err.msg, "f: larger than the limit of 4 bytes");
	CHECK_INT(wfs_read_file(&b, dir, "f", 0, &err), -EFBIG, "max 0");
	err.msg[0] = '\0';
	CHECK_INT(wfs_read_file(&b, dir, "none", 4, &err), -ENOENT, "missing");
	CHECK_STR(err.msg, "");
	CHECK_INT(wfs_read_file(&b, dir, "link", 9, &err), -ELOOP, "symbolic link");
	CHECK_INT(wfs_read_file(&b, dir, "fifo", 9, &err), -EINVAL, "fifo, without waiting");
	CHECK_INT(wfs_read_file(&b, dir, "d", 9, &err), -EISDIR, "directory");
	CHECK_INT(wfs_read_file(&b, AT_FDCWD, "/dev/zero", 9, &err), -EINVAL, "device");
	CHECK(b.len == 5);	/* untouched by failures */

	/* files whose size says 0 */
	CHECK_INT(wfs_read_file(&b, AT_FDCWD, "/proc/self/stat", 1 << 20, &err), 0, err.msg);
	CHECK(b.len > 10);
	CHECK_INT(wfs_read_file(&b, AT_FDCWD, "/proc/self/stat", 10, &err), -EFBIG, "grows past max");
	leave(dir);
}

static void test_write_file_replaces(void)
{
	struct wfs_err err = { 0 };
	struct stat st;
	mode_t mask = umask(027);
	int dir = enter();

	CHECK_INT(wfs_mkdirs(dir, "a/b", 0755, &err), 0, err.msg);
	put(dir, "a/b/f", "old");
	put(dir, "a/b/f", "newer");
	check_content(dir, "a/b/f", "newer");
	CHECK_INT(count_entries(dir, "a/b"), 1, "entries: no temporary left");
	CHECK(fstatat(dir, "a/b/f", &st, 0) == 0 && (st.st_mode & 0777) == 0640);
	put(dir, "f", "below dir itself");
	CHECK_INT(wfs_write_file(dir, "none/f", "x", 1, 0644, &err), -ENOENT, "no such directory");
	CHECK(strstr(err.msg, "write none/f: "));
	umask(mask);
	leave(dir);
}

/* A link at the name is replaced, its target untouched. */
static void test_write_file_replaces_links(void)
{
	struct stat st;
	int dir = enter();

	put(dir, "target", "mine");
	CHECK(symlinkat("target", dir, "link") == 0);
	put(dir, "link", "new");
	check_content(dir, "target", "mine");
	CHECK(fstatat(dir, "link", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));
	leave(dir);
}

static void test_failed_write_leaves_the_old_file(void)
{
	static char big[100000];
	struct rlimit old, small;
	struct wfs_err err = { 0 };
	int dir = enter(), fd = -1;

	put(dir, "f", "old");
	CHECK(mkdirat(dir, "d", 0755) == 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 50000;	/* a short count, then EFBIG */
	setrlimit(RLIMIT_FSIZE, &small);
	CHECK_INT(wfs_write_file(dir, "f", big, sizeof(big), 0644, &err), -EFBIG, "file too large");
	CHECK(strstr(err.msg, "write f: "));
	fd = openat(dir, "d/x", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK_INT(wfs_pwrite(fd, big, sizeof(big), 0, &err), -EFBIG, "pwrite past the limit");
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	close(fd);

	CHECK_INT(wfs_write_file(dir, "d", "x", 1, 0644, &err), -EISDIR, "a directory has the name");
	check_content(dir, "f", "old");
	CHECK_INT(count_entries(dir, "."), 2, "entries: f, d and no temporary");
	leave(dir);
}

static void test_mkdirs(void)
{
	static const char *const good[] = { "a", "a/b/c", "a/b/c", "a//d/", "./e/f", "link/g", "." };
	struct wfs_err err = { 0 };
	char absolute[300];
	struct stat st;
	int dir = enter();

	CHECK(symlinkat("a", dir, "link") == 0);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CHECK_INT(wfs_mkdirs(dir, good[i], 0755, &err), 0, good[i]);
		CHECK(fstatat(dir, good[i], &st, 0) == 0 && S_ISDIR(st.st_mode));
	}
	snprintf(absolute, sizeof(absolute), "%s/x/y", root_path);
	CHECK_INT(wfs_mkdirs(AT_FDCWD, absolute, 0755, &err), 0, "absolute");
	CHECK(fstatat(dir, "x/y", &st, 0) == 0);
	put(dir, "file", "");
	CHECK_INT(wfs_mkdirs(dir, "file", 0755, &err), -ENOTDIR, "a file has the name");
	CHECK_INT(wfs_mkdirs(dir, "file/x", 0755, &err), -ENOTDIR, "a file on the way");
	leave(dir);
}

static void test_remove_tree_never_follows(void)
{
	struct wfs_err err = { 0 };
	int dir = enter();

	CHECK_INT(wfs_mkdirs(dir, "keep/sub", 0755, &err), 0, err.msg);
	CHECK_INT(wfs_mkdirs(dir, "tree/1/2/3", 0755, &err), 0, err.msg);
	put(dir, "keep/f", "kept");
	for (int i = 0; i < 500; i++) {
		char name[64];

		snprintf(name, sizeof(name), "tree/1/%d", i + 10);
		CHECK(symlinkat("../../keep", dir, name) == 0);
	}
	CHECK(symlinkat("../keep", dir, "tree/link") == 0 && symlinkat("keep", dir, "link") == 0 &&
	      symlinkat("nowhere", dir, "tree/1/dangling") == 0 && mkfifoat(dir, "tree/1/2/fifo", 0600) == 0);

	CHECK_INT(wfs_remove_tree(dir, "tree", &err), 0, err.msg);
	CHECK(faccessat(dir, "tree", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
	CHECK_INT(wfs_remove_tree(dir, "link/", &err), -ENOTDIR, "link with a slash");
	CHECK_INT(wfs_remove_tree(dir, "link", &err), 0, "link");
	CHECK(faccessat(dir, "link", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
	check_content(dir, "keep/f", "kept");
	CHECK_INT(count_entries(dir, "keep"), 2, "entries of keep");
	CHECK_INT(wfs_remove_tree(dir, "keep/f", &err), 0, "a plain file");
	CHECK_INT(wfs_remove_tree(dir, "none", &err), 0, "missing is success");
	leave(dir);
}

static void test_temp_file(void)
{
	struct wfs_err err = { 0 };
	char a[64], b[64], sub[64];
	int dir = enter(), fd = -1, other = -1;

	CHECK(mkdirat(dir, "tmp", 0700) == 0);
	CHECK_INT(wfs_temp_file(&fd, a, dir, "tmp", &err), 0, err.msg);
	CHECK_INT(wfs_temp_file(&other, b, dir, "tmp", &err), 0, err.msg);
	CHECK(strncmp(a, "tmp/.", 5) == 0 && strcmp(a, b) != 0);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
	CHECK_INT(wfs_write(fd, "x", 1, &err), 0, err.msg);
	check_content(dir, a, "x");
	close(fd);
	close(other);

	fd = -7;
	CHECK_INT(wfs_temp_file(&fd, a, dir, "none", &err), -ENOENT, "no such directory");
	memset(sub, 'x', sizeof(sub) - 1);
	sub[sizeof(sub) - 1] = '\0';
	CHECK_INT(wfs_temp_file(&fd, a, dir, sub, &err), -ENAMETOOLONG, "name does not fit");
	CHECK_INT(fd, -7, "untouched by failures");
	leave(dir);
}

static void test_fsync_dir(void)
{
	struct wfs_err err = { 0 };
	int dir = enter();

	CHECK_INT(wfs_fsync_dir(dir, &err), 0, err.msg);
	CHECK_INT(wfs_fsync_dir(AT_FDCWD, &err), 0, err.msg);
	CHECK_INT(wfs_fsync_dir(-1, &err), -EBADF, "no descriptor");
	leave(dir);
}

TEST_MAIN(T(test_pread), T(test_write_survives_signals), T(test_read_file), T(test_write_file_replaces),
	  T(test_write_file_replaces_links), T(test_failed_write_leaves_the_old_file), T(test_mkdirs),
	  T(test_remove_tree_never_follows), T(test_temp_file), T(test_fsync_dir))
