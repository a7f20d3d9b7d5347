/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landlock.c - the kernel's sandbox by its three system calls
 *
 * The numbers are the kernel's, written down here because the headers of older systems lack them.  What a
 * kernel does not know is not asked for: ABI 2 is the first that lets files be linked from one directory
 * into another, which the cache does.  Nothing is said about the network.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "landlock.h"
#include "weightfs/base.h"

#define NR_CREATE	444
#define NR_ADD		445
#define NR_RESTRICT	446
#define CREATE_VERSION	1u
#define RULE_PATH	1

#define FS_EXECUTE	(1ull << 0)
#define FS_WRITE_FILE	(1ull << 1)
#define FS_READ_FILE	(1ull << 2)
#define FS_READ_DIR	(1ull << 3)
#define FS_MAKE		(0x1ffull << 4)		/* remove and make, of all kinds */
#define FS_MAKE_OURS	(1ull << 4 | 1ull << 5 | 1ull << 7 | 1ull << 8)	/* directories and files */
#define FS_REFER	(1ull << 13)
#define FS_TRUNCATE	(1ull << 14)		/* ABI 3 */
#define FS_IOCTL_DEV	(1ull << 15)		/* ABI 5 */
#define SCOPES		3u			/* ABI 6: abstract sockets, signals */

struct ruleset {
	uint64_t fs, net, scoped;
};

struct rule {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

static uint64_t handled(int abi)
{
	return FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR | FS_MAKE | FS_REFER |
	       (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

static int abi_version(void)
{
	return (int)syscall(NR_CREATE, NULL, 0, CREATE_VERSION);
}

int landlock_begin(void)
{
	int abi = abi_version(), fd;
	struct ruleset set = { .fs = handled(abi), .scoped = abi >= 6 ? SCOPES : 0 };

	if (abi < 2)
		return -ENOSYS;
	fd = (int)syscall(NR_CREATE, &set, abi >= 6 ? sizeof(set) : sizeof(set.fs), 0);
	return fd < 0 ? -errno : fd;		/* close-on-exec by itself */
}

int landlock_allow(int ruleset, const char *path, enum landlock_how how)
{
	static const uint64_t rights[] = {
		[LANDLOCK_READ] = FS_READ_FILE | FS_READ_DIR,
		[LANDLOCK_WRITE] = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_MAKE_OURS | FS_REFER | FS_TRUNCATE,
		[LANDLOCK_DEVICE] = FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV,
	};
	WFS_AUTO(wfs_close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
	struct rule rule = { .access = rights[how] & handled(abi_version()), .fd = fd };
	struct stat st;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.access &= FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
	return syscall(NR_ADD, ruleset, RULE_PATH, &rule, 0) < 0 ? -errno : 0;
}

int landlock_enforce(int ruleset)
{
	return syscall(NR_RESTRICT, ruleset, 0) < 0 ? -errno : 0;
}
