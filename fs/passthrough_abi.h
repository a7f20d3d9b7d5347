/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passthrough_abi.h - the kernel's interface for FUSE passthrough (7.40, Linux 6.9)
 *
 * The headers of Debian 12 are older than the kernels it runs on.
 */
#ifndef FS_PASSTHROUGH_ABI_H
#define FS_PASSTHROUGH_ABI_H

#include <stdint.h>
#include <sys/ioctl.h>

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define IOC_BACKING_OPEN	_IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE	_IOW(229, 2, uint32_t)

#define INIT_EXT		(1u << 30)	/* in flags: flags2 counts */
#define INIT2_PASSTHROUGH	(1u << 5)	/* in flags2 */

#define OPEN_NOFLUSH		(1u << 5)
#define OPEN_PASSTHROUGH	(1u << 7)

struct open_out {
	uint64_t fh;
	uint32_t flags;
	int32_t backing_id;
};

#endif
